# frozen_string_literal: true

module Bench
  # Load for some seconds: the rate on the wall, and the CPU time that the server's process tree took for each unit
  # of work, which is the steadier figure on a noisy machine.
  class Load < Measurement
    # The share of errors from which on a sample is void.
    TOLERATED_ERRORS = 0.01

    def self.columns(outcome)
      [
        median_column("per s", :rate),
        ratio_column(outcome),
        pair_column("CPU us each (user)", :cpu_us, :user_us) { |all, user| "#{all} (#{user})" },
        column("work/CPU-s x #{outcome.baseline}", 2) { |_, result| outcome.work_ratio(result, outcome.baseline) },
        column("p50 ms") { |_, result| result.median(:p50)&.fdiv(1000) },
        column("p99 ms") { |_, result| result.median(:p99)&.fdiv(1000) },
        pair_column("server/client cores", :cores, :client_cores) { |server, client| "#{server}/#{client}" },
        column("errors", 0) { |_, result| result.sum(:errors) },
        column("other, %", 0) { |_, result| result.median(:other) * 100 }
      ]
    end

    def self.pair_column(title, *keys)
      Column.new(title, ->(_, result) { yield(*keys.map { |key| Text.number(result.median(key)) }) })
    end
    private_class_method :pair_column

    def self.headline(sample) = sample.slice(:rate, :cpu_us, :p99, :errors)

    private

    def measure
      warm_up
      members = tree.members
      server = tree.cpu
      machine = Machine.cpu
      answer = load(@settings.duration)
      used = minus(tree.cpu, server)
      passed = minus(Machine.cpu, machine)
      check(answer, members)
      figures(answer, used, passed)
    end

    def warm_up
      load(@settings.warmup) if @settings.warmup.positive?
    end

    def load(seconds) = @settings.http_client.run(@server, @workload, seconds)

    def minus(after, before) = after.zip(before).map { |a, b| a - b }

    def check(answer, members)
      count, errors = answer.values_at(:count, :errors)
      raise "nothing was answered" if count.zero?
      raise "a process of the server ended under load" unless (members - tree.members).empty?
      raise "#{errors} errors in #{count} answers" if errors > count * TOLERATED_ERRORS
    end

    # used: user and system CPU-seconds of the server; passed: busy and all CPU-seconds of the machine.
    def figures(answer, used, passed)
      count, seconds, client_cpu = answer.values_at(:count, :seconds, :client_cpu)
      others = passed.first - used.sum - client_cpu
      answer.merge(
        cpu_us: used.sum / count * 1e6, user_us: used.first / count * 1e6, cores: used.sum / seconds,
        client_cores: client_cpu / seconds, other: [others / passed.last, 0].max, rss: tree.memory.rss
      )
    end
  end

  # WebSocket messages sent back.
  class Echo < Load
    private

    def load(seconds)
      run = loadgen.run("echo", @server, seconds, path: "/echo", conns: @settings.connections)
      reply = run.reply
      {
        rate: reply[:per_second], count: reply[:messages], errors: reply[:bad], seconds: reply[:seconds],
        p50: reply[:p50_us], p99: reply[:p99_us], client_cpu: run.cpu
      }
    end
  end

  # Messages of one publisher to many subscribers: the unit is a delivery.
  class Broadcast < Load
    SUBSCRIBERS = 1000

    private

    # It would only open and close the connections once more.
    def warm_up = nil

    def load(seconds)
      options = { path: "/sub", conns: SUBSCRIBERS, **@workload.request.slice(:path, :rate, :window) }
      run = loadgen.run("broadcast", @server, seconds, **options)
      reply = run.reply
      {
        rate: reply[:per_second], count: reply[:all_deliveries], errors: reply[:lost] + reply[:out_of_order],
        seconds: reply[:seconds], p50: reply[:p50_us], p99: reply[:p99_us], client_cpu: run.cpu
      }
    end
  end
end
