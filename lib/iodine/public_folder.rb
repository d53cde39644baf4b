# frozen_string_literal: true

# Static files: from the keywords of `Iodine.listen` to what the extension wants to know. It serves them.

module Iodine
  module Base
    # @api private
    module PublicFolder
      # Keywords of `Iodine.listen`, all of which fall back to {Iodine::DEFAULT_SETTINGS}.
      SETTINGS = %i[public public_headers public_hidden public_symlinks sendfile_roots].freeze
      # They are the server's to say.
      RESERVED = %w[accept-ranges connection content-encoding content-length content-range date etag last-modified
                    transfer-encoding].freeze

      class << self
        # @param settings [Hash] of a listener
        # @return [Hash] options of the extension
        # @raise [TypeError, ArgumentError] for what can not be understood
        def options(settings)
          folder = folder_of(settings[:public], "public: must be the path of a folder")
          switches = Switches.of(settings, %i[public_hidden public_symlinks])
          roots = roots_of(settings[:sendfile_roots])
          {
            files: folder && {
              folder: folder, hidden: switches[:public_hidden], links_out: switches[:public_symlinks],
              rules: rules_of(settings[:public_headers])
            },
            sendfile_roots: roots || (folder && [])
          }
        end

        private

        def folder_of(path, expected)
          path = path.to_path if path.respond_to?(:to_path)
          case path
          when nil, false, "" then nil
          when String then File.expand_path(path)
          else raise TypeError, "#{expected}, not #{path.inspect}"
          end
        end

        # Folders, or their names in one String as in a PATH.
        def roots_of(roots)
          roots = roots.split(File::PATH_SEPARATOR) if roots.is_a?(String)
          expected = "sendfile_roots: must be paths of folders"
          roots = Array(roots).filter_map { |root| folder_of(root, expected) }
          roots unless roots.empty?
        end

        def rules_of(rules)
          return [] if rules.nil?
          raise TypeError, "public_headers: must be a Hash, not #{rules.inspect}" unless rules.is_a?(Hash)

          rules.map { |pattern, headers| [pattern.to_s, headers_of(pattern, headers)] }
        end

        def headers_of(pattern, headers)
          headers = { "cache-control" => headers } if headers.is_a?(String)
          unless headers.is_a?(Hash)
            raise TypeError, "public_headers: #{pattern.inspect} needs a String or a Hash, not #{headers.inspect}"
          end

          headers.map { |name, value| header(name.to_s.downcase, value.to_s) }
        end

        def header(name, value)
          raise ArgumentError, "public_headers: #{name} is for the server to say" if RESERVED.include?(name)

          [name, value]
        end
      end
    end
  end

  module_function

  # Has static files whose name ends with this extension served as this type, in every letter case. Call it before
  # `Iodine.start`: in a cluster each worker has the types that the master had when it was forked.
  #
  # @example
  #   Iodine.register_mime_type("gpx", "application/gpx+xml")
  #
  # @param extension [String, Symbol] with or without its dot
  # @param type [String] may have parameters, such as "text/plain; charset=utf-8"
  # @return [nil]
  # @raise [ArgumentError] for what is neither
  def register_mime_type(extension, type)
    name = extension.to_s.delete_prefix(".")
    raise ArgumentError, "#{extension.inspect} is no file extension" if name.empty? || name.match?(%r{[./\0]})
    unless type.to_s.match?(%r{\A[\w!\#$&^.+-]+/[\w!\#$&^.+-]+\s*(;|\z)})
      raise ArgumentError, "#{type.inspect} is no media type"
    end

    Base.set_media_type(name, type.to_s)
  end
end
