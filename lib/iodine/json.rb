# frozen_string_literal: true

# JSON: documents become Ruby objects while they are being read. The parser is in the extension; docs/json.md tells
# what it takes and where it differs from Ruby's json.

module Iodine
  # A JSON parser that takes more than JSON: comments, missing and needless commas, `NaN`, `0x1F`.
  #
  #     Iodine::JSON.parse('{"a": [1, 2.5, "é"]}')                      # => {"a"=>[1, 2.5, "é"]}
  #     Iodine::JSON.parse('{"a": 1}', symbolize_names: true)           # => {:a=>1}
  #     Iodine::JSON.parse("[1, 2,] # and so on\n")                     # => [1, 2]
  #     Iodine::JSON.parse("[1, 2,]", strict: true)                     # raises
  module JSON
    # @!method self.parse(source, options = {})
    #   The value of a document.
    #
    #   @param source [String] UTF-8 (or binary, read as such); text in other encodings is converted
    #   @param options [Hash]
    #   @option options [true] :symbolize_names (false) Symbols for keys; only `true` itself counts
    #   @option options [Boolean] :strict (false) RFC 8259 and no more
    #   @option options [Integer, nil, false] :max_nesting (100) how deep arrays and objects may be nested; 0, nil and
    #     false for no limit
    #   @option options [Boolean] :allow_nan (true) takes `NaN` and `Infinity`; with `strict: true` they are refused always
    #   @option options [Object] :create_additions, :object_class, :array_class ignored, with a warning
    #   @return [Hash, Array, String, Integer, Float, true, false, nil] Strings in UTF-8, keys frozen
    #   @raise [ParserError] if it is malformed or empty
    #   @raise [EncodingError] if it can not be converted to UTF-8
    #   @raise [TypeError] if the arguments are not one String and at most one Hash

    # @!method self.parse!(source, options = {})
    #   The same as {parse}.

    # Says that a text is no JSON. The message is always the same; {#reason} and {#offset} tell more.
    class ParserError < EncodingError
      # @return [String, nil] what is wrong
      attr_reader :reason
      # @return [Integer, nil] the byte at which it is, from 0
      attr_reader :offset

      # @api private
      def initialize(message = "Malformed JSON format.", reason = nil, offset = nil)
        super(message)
        @reason = reason
        @offset = offset
      end

      # What Ruby 3.2 and newer print of an exception that nobody rescues.
      #
      # @return [String]
      def detailed_message(highlight: false, **)
        return super unless reason

        "#{super.chomp} (#{reason}, at byte #{offset})"
      end
    end
  end

  module Base
    # In front of `JSON.parse` and `JSON.parse!`, once {Iodine.patch_json} was called. What is not plain strict JSON with
    # plain options goes to the methods behind it, so that results and errors are theirs.
    # @api private
    module JSONPatch
      # `JSON.parse`'s own limit is the parser's default; `JSON.parse!` has none.
      UNLIMITED = { max_nesting: false }.freeze

      def parse(source, options = nil)
        value = Base.parse_strict_json(source, options)
        return value unless JSON_REFUSED.equal?(value)

        # The default of the method behind is its own matter.
        options.nil? ? super(source) : super
      end

      def parse!(source, *options)
        value = options.empty? ? Base.parse_strict_json(source, UNLIMITED) : JSON_REFUSED
        JSON_REFUSED.equal?(value) ? super : value
      end
    end
    private_constant :JSONPatch
  end

  module_function

  # Makes Ruby's `JSON.parse` and `JSON.parse!` fast. They return and raise what they did before: documents that are not
  # strict JSON, and options other than the usual ones, are left to the json gem.
  #
  # @return [Array<Symbol>] the names of the methods
  # @raise [NameError] if the json gem can not be loaded
  def patch_json
    begin
      require "json"
    rescue LoadError => error
      raise NameError, "there is no JSON to patch: #{error.message}"
    end
    ::JSON.singleton_class.prepend(Base.const_get(:JSONPatch))
    %i[parse parse!]
  end
end
