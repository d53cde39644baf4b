# frozen_string_literal: true

# Describes exceptions that the application left to the server.

module Iodine
  module Base
    class << self
      # Logs an exception, whatever its own methods do.
      # @api private
      def report(error)
        log(2, "Iodine caught an unprotected exception - #{describe(error)}\n#{trace(error)}")
      end

      private

      def describe(error)
        "#{error.class}: #{error.message}"
      rescue Exception # rubocop:disable Lint/RescueException -- `message` is anybody's code
        "#{error.class} (its message can not be had)"
      end

      def trace(error)
        lines = error.backtrace
        lines.is_a?(Array) && lines.any? ? lines.join("\n") : "No backtrace available."
      rescue Exception # rubocop:disable Lint/RescueException -- so is `backtrace`
        "No backtrace available."
      end
    end
  end
end
