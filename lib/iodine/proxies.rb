# frozen_string_literal: true

# Proxies before the server: whose word is taken, and in which form it comes. From the keywords of `Iodine.listen` to what
# the extension wants to know. What they do is told in docs/proxies.md.

module Iodine
  module Base
    # @api private
    module Proxies
      # Keywords of `Iodine.listen`, all of which fall back to {Iodine::DEFAULT_SETTINGS}.
      SETTINGS = %i[trusted_proxies proxy_protocol underscore_headers].freeze
      SWITCHES = SETTINGS.drop(1).freeze
      SEPARATOR = /[\s,]+/

      class << self
        # @param settings [Hash] of a listener
        # @return [Hash] options of the extension, which knows addresses and networks
        # @raise [ArgumentError] for what can not be understood
        def options(settings)
          { trusted_proxies: list(settings[:trusted_proxies]), **Switches.of(settings, SWITCHES) }
        end

        private

        # One String may hold several, as it comes from the command line or the environment; an empty one holds none.
        def list(given)
          [*(given unless given == false)].flat_map do |entry|
            case entry
            when String then entry.split(SEPARATOR).reject(&:empty?)
            when :all, :unix then [entry.name]
            else
              raise ArgumentError, "trusted_proxies: #{entry.inspect} is neither :all nor a String with an address or a network"
            end
          end
        end
      end
    end
  end
end
