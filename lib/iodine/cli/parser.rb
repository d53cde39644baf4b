# frozen_string_literal: true

# Turns words of a command line into options and values: only what was typed, nothing of what it means.
#
# Accepted are `-port 80`, `-port=80` and `-port80`, where the longest name the word starts with decides, and
# `--port 80` and `--port=80`, where the name must be complete. `--` ends the options.

module Iodine
  module Base
    module CLI
      # A command line that cannot be understood; the message says what and why.
      class BadOption < StandardError; end

      # What was typed: values by the first name of their option, the files, and which text was asked for.
      Typed = Struct.new(:values, :files, :help, :version, keyword_init: true)

      # @api private
      class Parser
        BY_LENGTH = OPTIONS.flat_map { |option| option.names.map { |name| [name, option] } }
                           .sort_by { |name, _| -name.size }.freeze
        BY_LONG_NAME = OPTIONS.flat_map { |option| option.long_names.map { |name| [name, option] } }.to_h.freeze
        NUMBER = /\A[+-]?(0x\h+|\d+)\z/i
        FRACTION = /\A[+-]?\d+\.\d+\z/

        # @param words [Array<String>] left as they are
        # @return [Typed]
        # @raise [BadOption]
        def self.parse(words)
          new(words).parse
        end

        def initialize(words)
          @words = words.dup
          @typed = Typed.new(values: {}, files: [])
        end

        def parse
          until @words.empty? || @typed.help || @typed.version
            word = @words.shift
            next @typed.files.concat(@words.shift(@words.size)) if word == "--"

            take(word)
          end
          @typed
        end

        private

        def take(word)
          case word
          when HELP then @typed.help = true
          when VERSION then @typed.version = true
          when /\A-./m then take_option(word)
          else @typed.files << word
          end
        end

        def take_option(word)
          option, text = recognise(word)
          raise BadOption, unknown(word) unless option

          value = option.switch? ? switched(option, text, word) : valued(option, text, word)
          @typed.values[option.name] = value unless value.nil?
        end

        # The option, and the value if it is in the same word.
        def recognise(word)
          if word.start_with?("--")
            name, equals, text = word.delete_prefix("--").partition("=")
            return [BY_LONG_NAME[name], equals.empty? ? nil : text]
          end
          rest = word.delete_prefix("-")
          name, option = BY_LENGTH.find { |known, _| rest.start_with?(known) }
          return unless option

          text = rest.delete_prefix(name)
          [option, text.empty? ? nil : text.delete_prefix("=")]
        end

        def switched(option, text, word)
          return true if text.nil?

          raise BadOption, "-#{option.name} takes no value, but #{word} gives it #{text.inspect}"
        end

        # An empty value leaves the option unset, so that a script may pass `-p "$PORT"` blindly.
        def valued(option, text, word)
          joined = " (read from #{word})" if text
          text ||= next_word(option)
          return if text.empty?

          option.number? ? number(option, text, joined) : text
        end

        def next_word(option)
          raise BadOption, "-#{option.name} needs a value" if @words.empty?
          raise BadOption, "-#{option.name} needs a value, but #{@words.first} follows" if option_name?(@words.first)

          @words.shift
        end

        # Only whole option names count as forgotten values: -w -1 and -b -odd are none.
        def option_name?(word)
          name = word.delete_prefix("-")
          return false if name == word

          name.start_with?("-") ? BY_LONG_NAME.key?(name[1..]) : BY_LENGTH.any? { |known, _| known == name }
        end

        def number(option, text, joined)
          fraction = option.fractions && FRACTION.match?(text)
          unless fraction || NUMBER.match?(text)
            wanted = option.fractions ? "number" : "whole number"
            raise BadOption, "-#{option.name} needs a #{wanted}, not #{text.inspect}#{joined}"
          end

          number = fraction ? Float(text) : whole(text)
          return number if option.range.nil? || option.range.cover?(number)

          raise BadOption, "-#{option.name} must be #{span(option.range)}, not #{number}"
        end

        def whole(text)
          text.match?(/x/i) ? Integer(text, 16) : Integer(text, 10)
        end

        def span(range)
          range.end ? "between #{range.begin} and #{range.end}" : "at least #{range.begin}"
        end

        def unknown(word)
          guess = similar_name(word[/\A--?([^=]*)/, 1])
          guess ? "#{word} is not an option; did you mean -#{guess}?" : "#{word} is not an option"
        end

        # Ruby may have been started without the library that guesses.
        def similar_name(name)
          return unless defined?(DidYouMean::SpellChecker)

          DidYouMean::SpellChecker.new(dictionary: BY_LONG_NAME.keys).correct(name).first
        end
      end
    end
  end
end
