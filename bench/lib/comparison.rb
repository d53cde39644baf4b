# frozen_string_literal: true

require "json"
require_relative "measurement"
require_relative "measurements/load"
require_relative "measurements/idle"
require_relative "measurements/instructions"
require_relative "measurements/memory"
require_relative "measurements/spread"
require_relative "measurements/syscalls"
require_relative "measurements/tracepoints"
require_relative "report"

module Bench
  class Measurement
    KINDS = {
      load: Load, echo: Echo, broadcast: Broadcast, idle: Idle, instructions: Instructions, memory: Memory,
      spread: Spread, syscalls: Syscalls, tracepoints: Tracepoints
    }.freeze
  end

  # Runs the workloads in interleaved rounds: each server once, then each once more (A B C, B C A, ...), so that a
  # change of the machine's mood meets them all.
  class Comparison
    def initialize(settings, servers, workloads)
      @settings = settings
      @servers = servers
      @workloads = workloads
      @report = Report.new
    end

    def run
      @report.opening(@workloads, @workloads.flat_map { |workload| @servers.for(workload) }.uniq, @settings)
      outcomes = @workloads.filter_map { |workload| compare(workload, @servers.for(workload)) }
      @report.summary(outcomes)
    end

    private

    def kind(workload) = Measurement::KINDS.fetch(workload.kind)

    def compare(workload, servers)
      return if servers.empty?

      outcome = Outcome.new(workload, @servers.baseline(workload))
      rounds = kind(workload).rounds(@settings)
      done = rounds.times.take_while { |round| take_round(round, outcome, servers) }.size
      @report.workload(outcome, done) if done.positive?
      outcome
    end

    # False when it is too late for another round. The order turns, so that no server always follows the same one.
    def take_round(round, outcome, servers)
      return false if @settings.over?

      servers.each { |server| outcome.results[server.name] } # the tables keep the order of the list
      servers.rotate(round).each { |server| take(round, outcome, server) }
      true
    end

    def take(round, outcome, server)
      sample = kind(outcome.workload).new(server, outcome.workload, @settings).sample
      outcome.results[server.name].samples[round] = sample
      record(round, outcome.workload, server, sample)
    rescue StandardError, Timeout::Error => e
      outcome.results[server.name].failure = e.message
      note(round, outcome.workload, server, "failed: #{e.message.lines.first&.strip}")
    end

    def record(round, workload, server, sample)
      told = kind(workload).headline(sample).compact
      figures = told.map { |name, value| "#{name} #{value.is_a?(Numeric) ? Text.number(value) : value}" }
      note(round, workload, server, figures.join(", "))
      return unless @settings.json

      line = JSON.generate({ workload: workload.name, server: server.name, round: round, **sample })
      File.write(@settings.json, "#{line}\n", mode: "a")
    end

    def note(round, workload, server, text)
      warn format("%-16<workload>s %-10<server>s round %<round>d: %<text>s",
                  workload: workload.name, server: server.name, round: round + 1, text: text)
    end
  end
end
