# frozen_string_literal: true

# Calls what applications have left in `rack.response_finished` and `rack.after_reply`, once their answer has been given.

module Iodine
  # @api private
  module Base
    class << self
      # Rack's callables run in the reverse order of their registration, and one that fails keeps no other from its turn.
      def run_finished(finished, after, env, status, headers, error)
        finished&.reverse_each { |callable| guarded { callable.call(env, status, headers, error) } }
        after&.each { |callable| guarded { callable.call } }
      end

      private

      def guarded
        yield
      rescue Exception => e # rubocop:disable Lint/RescueException
        report(e)
      end
    end
  end
end
