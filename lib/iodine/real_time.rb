# frozen_string_literal: true

# How real-time connections (WebSocket, SSE, raw) are kept: from the keywords of `Iodine.listen` to what the extension wants
# to know. What they do is told in docs/connections.md.

module Iodine
  module Base
    # @api private
    module RealTime
      # Keywords of `Iodine.listen`, all of which fall back to {Iodine::DEFAULT_SETTINGS}.
      SETTINGS = %i[ping max_msg max_backlog slow_clients deflate].freeze
      # What may be said of compression, and what each may be.
      DEFLATE = { context_takeover: [true, false], window_bits: 8..15, level: 1..9, threshold: 0.. }.freeze
      # iodine 0.7 could not wait for longer than this for a ping; whoever asks for a century gets it.
      LONGEST = 2**32

      class << self
        # @param settings [Hash] of a listener or a client, checked by {Limits}
        # @return [Hash] options of the extension: bytes and seconds
        # @raise [ArgumentError] for what can not be used
        def options(settings)
          {
            ping: settings[:ping]&.clamp(0, LONGEST)&.to_f,
            max_message: Limits.bytes(settings, :max_msg),
            max_backlog: Limits.bytes(settings, :max_backlog),
            drop_slow: drop?(settings[:slow_clients]),
            **deflate(settings[:deflate])
          }
        end

        private

        def drop?(given)
          case given&.to_s
          when nil, "close" then false
          when "drop" then true
          else raise ArgumentError, "slow_clients must be :close or :drop, not #{given.inspect}"
          end
        end

        def deflate(given)
          case given
          when nil, false then {}
          when true then { deflate: true }
          when Hash then { deflate: true, **given.to_h { |key, value| detail(key, value) } }
          else raise ArgumentError, "deflate must be true, false or a Hash, not #{given.inspect}"
          end
        end

        def detail(key, value)
          allowed = DEFLATE[key] or raise ArgumentError, "deflate knows #{DEFLATE.keys.join(", ")}, but not #{key.inspect}"
          usable = allowed.is_a?(Array) ? allowed.include?(value) : value.is_a?(Integer) && allowed.cover?(value)
          raise ArgumentError, "deflate: #{key} can not be #{value.inspect}" unless usable

          [:"deflate_#{key}", value]
        end
      end
    end
  end
end
