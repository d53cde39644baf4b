# frozen_string_literal: true

# One channel across machines: every server of this application that has the same Redis hears the others. Without one it
# hears itself, all of its workers included, and nothing else changes.
#
#   iodine examples/redis.ru                                  (in a checkout: bin/serve examples/redis.ru)
#   iodine -r redis://localhost:6379 examples/redis.ru
#
# Listen and speak:
#
#   curl -N -H 'accept: text/event-stream' localhost:3000
#   curl -d 'hello' localhost:3000
#   redis-cli PUBLISH news 'from elsewhere'

module News
  CHANNEL = "news"
  TEXT = { "content-type" => "text/plain; charset=utf-8" }.freeze

  # The callbacks of those who listen: what is published is written to them without any.
  module Listener
    def self.on_open(client)
      client.subscribe(CHANNEL)
    end
  end

  class << self
    def call(env)
      if env["rack.upgrade?"]
        env["rack.upgrade"] = Listener
        [200, {}, []]
      elsif env["REQUEST_METHOD"] == "POST"
        publish(env["rack.input"].read)
      else
        [200, TEXT, ["#{hits}\n"]]
      end
    end

    private

    # `Iodine::PubSub.default` is the engine that `-r` names, else all processes of this server.
    def publish(text)
      Iodine.publish(CHANNEL, text) unless text.empty?
      redis&.cmd("INCR", "news:published") { |count| @count = count }
      [202, TEXT, ["published\n"]]
    end

    def hits
      redis ? "#{@count || "no"} messages so far, as far as this process knows" : "Listen by EventSource, speak by POST."
    end

    # Any command may be sent by the connection that publishes.
    def redis
      engine = Iodine::PubSub.default
      engine if engine.is_a?(Iodine::PubSub::Redis)
    end
  end
end

run News
