# frozen_string_literal: true

module Bench
  # What thousands of idle connections cost: memory for each, CPU and wake-ups together.
  class Idle < Measurement
    SETTLE = 2
    WATCH = 2

    def self.columns(_outcome)
      [
        median_column("RSS bytes/connection", :rss), median_column("PSS bytes/connection", :pss),
        median_column("RSS before, KiB", :base), median_column("idle CPU, cores", :cores, 3),
        median_column("wake-ups/s", :wakeups), median_column("closed", :errors, 0)
      ]
    end

    def self.rounds(settings) = [settings.rounds, 3].min

    private

    def measure
      settle_heap
      before = tree.memory
      figures = {}
      count = @settings.idle_connections
      closed = loadgen.hold(@server, @workload.http? ? "http" : "ws", @workload.path, count) do
        sleep SETTLE
        figures = per_connection(before, tree.memory, count).merge(watch)
      end
      figures.merge(base: before.rss / 1024, errors: closed)
    end

    # Some requests first, so that the heap does not grow for other reasons meanwhile.
    def settle_heap
      loadgen.run("http", @server, 5, conns: 4, requests: 200)
      sleep 0.5
    end

    def per_connection(before, after, count)
      { rss: (after.rss - before.rss).fdiv(count), pss: (after.pss - before.pss).fdiv(count) }
    end

    def watch
      cpu = tree.cpu.sum
      sleeps = tree.sleeps
      sleep WATCH
      { cores: (tree.cpu.sum - cpu) / WATCH, wakeups: (tree.sleeps - sleeps).fdiv(WATCH) }
    end
  end
end
