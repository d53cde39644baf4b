# frozen_string_literal: true

# One of the two connections to a Redis server, again and again: greeting, replies, silence, and the way back. What is said
# over it is the engine's business.

module Iodine
  module PubSub
    class Redis < Engine
      # One connection, again and again. The handler of its connections; callbacks of one never overlap.
      # @api private
      class Line
        attr_reader :role

        # For the log.
        def purpose
          @role == :events ? "subscription" : "publication"
        end

        def initialize(engine, role)
          @engine = engine
          @role = role
          @failures = 0
          @closed = false
        end

        def connect
          @client = nil
          @greeted = false
          @silent = false
          @replies = Base::Replies.new
          Iodine.connect(**@engine.connection_settings, handler: self)
        rescue RuntimeError => error
          Base.log(5, "(redis #{Process.pid}) #{error.message}")
          try_again
        end

        def up?
          @greeted
        end

        def write(bytes)
          @client&.write(bytes)
        end

        def close
          @closed = true
          @client&.close
        end

        def on_open(client)
          return client.close if @closed

          @client = client
          client.write(@engine.greeting)
        end

        def on_message(client, data)
          @replies.feed(data)
          @silent = false
          @greeted || greeted(client) || return
          @role == :commands ? take_replies : take_events
        rescue ArgumentError => error
          Base.log(2, "(redis #{Process.pid}) #{error.message}")
          client.close
        end

        # Nothing was heard for a while.
        def ping(client)
          return client.close if @silent || !@greeted || (@role == :commands && @engine.waits?)

          @silent = true
          @role == :commands ? @engine.cmd("PING") : write(Base.redis_command(["PING"]))
        end

        def on_close(_client)
          was_up = @greeted
          @greeted = false
          @client = nil
          @engine.line_down(self) if was_up
          try_again unless @closed
        end

        private

        def ready
          @greeted = true
          @failures = 0
          @client.timeout = @engine.ping
          @engine.line_up(self)
        end

        # The replies to AUTH and PING. Who may not say PING may be let in all the same.
        def greeted(client)
          reply = @replies.next_value&.first or return false
          return greeted(client) if reply == true

          if reply == "PONG" || reply.to_s.start_with?("-NOPERM")
            ready
            return true
          end
          Base.log(2, "(redis #{Process.pid}) Redis does not let us in: #{reply.to_s.delete_prefix("-")}")
          client.close
          false
        end

        def take_replies
          while (raw = @replies.next_raw)
            @engine.command_replied(raw)
          end
        end

        def take_events
          while (reply = @replies.next_value)
            # Outside of pub/sub PING is answered plainly.
            event = reply.first
            @engine.event(event.is_a?(Array) ? event : ["pong", event])
          end
        end

        # Later each time, and not when all others do.
        def try_again
          delay = [FIRST_DELAY * (2**@failures), LAST_DELAY].min * rand(0.5..1.0)
          @failures += 1
          Iodine.run_after((delay * 1000).ceil) { connect unless @closed }
        end
      end
      private_constant :Line
    end
  end
end
