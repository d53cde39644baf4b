# frozen_string_literal: true

# Two clusters, much to say, and a Redis that dies in the middle of it. IODINE_SPEC_REDIS_SECONDS says for how long, 10 unless
# told; IODINE_SPEC_REDIS_RATE how many messages in a second, 10,000.

require_relative "../support/cluster"
require_relative "../support/redis_server"

RSpec.describe "two clusters with much to say", :slow, timeout: 600 do
  include WithRedis
  include ClusterAsking

  seconds = Integer(ENV.fetch("IODINE_SPEC_REDIS_SECONDS", 10))
  rate = Integer(ENV.fetch("IODINE_SPEC_REDIS_RATE", 10_000))

  it "lose nothing but what is said around the moment of its death, and hear nothing twice" do
    redis = start_redis
    # Whoever asks the workers is quiet for as long as the messages go on.
    listen = "Iodine::DEFAULT_SETTINGS[:timeout] = 250; $heard = []; Iodine.subscribe('count') { |_, m| $heard << m.to_i }"
    servers = Array.new(2) { serve(Asking::APP, threads: 4, workers: 2, before: [ClusterAsking::SETUP, WithRedis.engine(redis), listen].join("\n")) }
    servers.each { |server| wait_until_joined(server) }
    one, two = servers
    in_worker(0, <<~RUBY, of: one)
      $sent = 0
      Thread.new do
        started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        while (passed = Process.clock_gettime(Process::CLOCK_MONOTONIC) - started) < #{seconds}
          while $sent < passed * #{rate}
            Iodine.publish("count", $sent.to_s)
            $sent += 1
          end
          sleep 0.005
        end
        $over = true
      end
      nil
    RUBY
    sent = -> { in_worker(0, "$sent", of: one) }
    eventually(seconds + 25) { sent.call > seconds * rate * 0.4 }
    heard_last = -> { servers.flat_map { |server| [0, 1].map { |place| in_worker(place, "$heard.last || 0", of: server) } } }
    # What all have heard by then is not lost.
    outage = [heard_last.call.min]
    redis.kill
    servers.each { |server| server.wait_for_log(/subscription connection lost/) }
    redis.start
    servers.each { |server| wait_until_joined(server, times: 2) }
    # Joined means that Redis tells it of what all say.
    eventually { redis.call("PUBSUB", "NUMSUB", "count").last == 2 }
    # What was on its way when Redis died, or was said until both were back.
    outage << sent.call
    eventually(seconds + 25) { in_worker(0, "$over", of: one) }
    last = sent.call - 1
    eventually(60, "the end was not heard") { heard_last.call.all?(last) }
    lost = servers.flat_map do |server|
      [0, 1].map do |place|
        numbers = in_worker(place, "$heard", of: server)
        expect(numbers.uniq.size).to eq(numbers.size)
        expect(numbers).to eq(numbers.sort) if server == one
        missing = [*0..last] - numbers
        expect(missing).to all(be_between(*outage))
        missing.size
      end
    end
    RSpec.configuration.reporter.message("  #{last + 1} messages; lost around the outage: #{lost.first(2)} in the cluster itself, #{lost.last(2)} in the other")
    expect(two.log).not_to include("FATAL")
  end
end
