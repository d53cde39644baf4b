# frozen_string_literal: true

# Settings that are on or off.

module Iodine
  module Base
    # @api private
    module Switches
      class << self
        # @param settings [Hash] of a listener
        # @return [Hash{Symbol => Boolean}] of these keys; what is nil is off
        # @raise [ArgumentError] for anything else: a "false" that came as text must not switch something on
        def of(settings, keys)
          keys.to_h do |key|
            given = settings[key]
            unless [nil, true, false].include?(given)
              raise ArgumentError, "#{key} must be true or false, not #{given.inspect}"
            end

            [key, given || false]
          end
        end
      end
    end
  end
end
