# frozen_string_literal: true

# The request log and the ids of requests: from the keywords of `Iodine.listen` to what the extension wants to know. What a
# line may hold, and where it may go, is told in docs/logs.md.

module Iodine
  module Base
    # @api private
    module RequestLog
      # Keywords of `Iodine.listen`, all of which fall back to {Iodine::DEFAULT_SETTINGS}.
      SETTINGS = %i[log log_format log_to request_id request_id_response].freeze
      SWITCHES = %i[request_id request_id_response].freeze

      class << self
        # @param settings [Hash] of a listener
        # @return [Hash] options of the extension, which knows formats and opens files
        # @raise [ArgumentError] for what can not be understood
        def options(settings)
          format = format_of(settings[:log_format])
          target = target_of(settings[:log_to])
          # Who names a format or a place wants a log, unless told otherwise.
          wanted = settings[:log].nil? ? format || target : settings[:log]
          { log: wanted ? { format: format, **target.to_h } : nil, **Switches.of(settings, SWITCHES) }
        end

        private

        def format_of(format)
          format = format.name if format.is_a?(Symbol)
          return if [nil, false, ""].include?(format)
          raise ArgumentError, "log_format must be a Symbol or a String, not #{format.inspect}" unless format.is_a?(String)
          raise ArgumentError, "log_format must be UTF-8, not #{format.inspect}" unless utf8(format).valid_encoding?

          utf8(format)
        end

        def utf8(text)
          text.dup.force_encoding(Encoding::UTF_8)
        end

        def target_of(place)
          case place
          when nil, false, "" then nil
          when :stderr, "stderr", $stderr, STDERR then { stdout: false }
          when :stdout, "stdout", "-", $stdout, STDOUT then { stdout: true }
          else { file: File.expand_path(path_of(place)) }
          end
        end

        def path_of(place)
          path = place.respond_to?(:to_path) ? place.to_path : place
          return path if path.is_a?(String) && !path.include?("\0")

          raise ArgumentError, "log_to must be :stderr, :stdout or the path of a file, not #{place.inspect}"
        end
      end
    end
  end
end
