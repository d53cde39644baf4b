# frozen_string_literal: true

# Signals while the server runs: INT and TERM end it, USR1 restarts workers, and HUP opens log files anew, where there are
# any. Traps are set by `start` and taken back when it returns; requiring iodine leaves signals alone (F-56). A server
# started off the main thread, as in tests, sets none.

module Iodine
  module Base
    # @api private
    class Signals
      HANDLED = %w[INT TERM USR1].freeze

      # @yieldparam error [Exception] what a trap of the application has raised, such as the SystemExit of its `exit`: it
      #   must not break into whatever the main thread is doing
      def initialize(&on_raise)
        @previous = {}
        @on_raise = on_raise
      end

      # Calls the block with the name of each signal that comes, then what was trapped before. Further calls add to what is
      # trapped.
      def trap(names = HANDLED, &block)
        return unless Thread.current == Thread.main

        (names - @previous.keys).each do |name|
          @previous[name] = Signal.trap(name) do |number|
            block.call(name)
            call_previous(name, number)
          end
        end
      end

      # Puts back what was there before.
      def restore
        @previous.each { |name, previous| Signal.trap(name, previous || "SYSTEM_DEFAULT") }
        @previous = {}
      end

      private

      def call_previous(name, number)
        previous = @previous[name]
        previous.call(number) if previous.respond_to?(:call)
      rescue Exception => error # rubocop:disable Lint/RescueException -- it is raised when the server has ended
        @on_raise.call(error)
      end
    end
  end
end
