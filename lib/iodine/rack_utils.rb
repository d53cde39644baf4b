# frozen_string_literal: true

# URLs and dates: the methods of `Iodine::Rack::Utils`, and those that `Iodine.patch_rack` puts into Rack. They are
# written in the extension.

module Iodine
  module Rack
    # Decodes URLs and writes dates.
    #
    # A time is anything with `to_i`: a Time, or seconds since 1970 as an Integer, a Float or a String; nil is now. All
    # dates are in UTC. All Strings are binary.
    module Utils
      # @!method self.decode_url(source)
      #   Undoes the encoding of queries and forms: `%XX`, and `+` for a space.
      #   @param source [String]
      #   @return [String] a new one
      #   @raise [RuntimeError] if a `%` has no two hexadecimal digits behind it

      # @!method self.decode_url!(source)
      #   The same in place. A String that can not be decoded is left as it was.
      #   @param source [String]
      #   @return [String] source
      #   @raise [RuntimeError] if a `%` has no two hexadecimal digits behind it
      #   @raise [FrozenError]

      # @!method self.decode_path(source)
      #   Undoes the encoding of paths: `%XX`.
      #   @param source [String]
      #   @return [String] a new one
      #   @raise [RuntimeError] if a `%` has no two hexadecimal digits behind it

      # @!method self.decode_path!(source)
      #   The same in place. A String that can not be decoded is left as it was.
      #   @param source [String]
      #   @return [String] source
      #   @raise [RuntimeError] if a `%` has no two hexadecimal digits behind it
      #   @raise [FrozenError]

      # @!method self.time2str(time = nil)
      #   `Fri, 14 Jul 2017 02:40:00 GMT`, the date of HTTP.
      #   @return [String]

      # @!method self.rfc2109(time)
      #   `Fri, 14-Jul-2017 02:40:00 GMT`, the date of cookies.
      #   @return [String]

      # @!method self.rfc2822(time)
      #   `Fri, 14 Jul 2017 02:40:00 -0000`, the date of mail.
      #   @return [String]
    end
  end

  module Base
    module MonkeyPatch
      # The methods of 0.7 that go by the names of Rack's, on the module and for those that include it.
      # {Iodine.patch_rack} uses others, which do as Rack does.
      module RackUtils
        # @!method self.unescape(source, encoding = nil)
        #   As {Iodine::Rack::Utils.decode_url}, in UTF-8, or in this Encoding, or in the encoding of this String.

        # @!method self.unescape_path(source)
        #   As {Iodine::Rack::Utils.decode_path}.

        # @!method self.rfc2109(time)
        #   As {Iodine::Rack::Utils.rfc2109}.

        # @!method self.rfc2822(time)
        #   As {Iodine::Rack::Utils.rfc2822}.

        %i[unescape unescape_path rfc2109 rfc2822].each do |name|
          define_method(name) { |*arguments| RackUtils.public_send(name, *arguments) }
        end
      end
    end
  end

  module_function

  # Replaces `Rack::Utils.unescape`, `unescape_path`, `rfc2109` and `rfc2822` by faster ones, which return and raise what
  # Rack's do; only `rfc2109` always writes the date in UTC, which it says it is in. Loads Rack.
  #
  # @return [Array<Symbol>] the names of the methods
  # @raise [NameError] if Rack can not be loaded
  def patch_rack
    begin
      require "rack"
    rescue LoadError => error
      raise NameError, "there is no Rack to patch: #{error.message}" unless defined?(::Rack::Utils)
    end
    names = %i[unescape unescape_path rfc2109 rfc2822]
    # An alias keeps Ruby from warning of a method that is replaced.
    owner = ::Rack::Utils.singleton_class
    names.each { |name| owner.alias_method(name, name) if owner.method_defined?(name) }
    Base.patch_rack_utils(::Rack::Utils)
    names
  end
end
