# frozen_string_literal: true

require_relative "text"

module Bench
  # The samples of one server under one workload, by round.
  class Result
    attr_reader :samples
    attr_accessor :failure

    def initialize
      @samples = {}
    end

    def values(key) = samples.values.filter_map { |sample| sample[key] }
    def median(key) = Text.median(values(key))
    def sum(key) = values(key).sum
    def last(key) = values(key).last
  end

  # What came of one workload: the results by the servers' names. Ratios are taken within each round, so that they
  # compare what ran at about the same time.
  class Outcome
    # The share of the machine's CPU time that others may use.
    TOLERATED_OTHERS = 0.1

    attr_reader :workload, :baseline, :results

    def initialize(workload, baseline)
      @workload = workload
      @baseline = baseline
      @results = Hash.new { |results, name| results[name] = Result.new }
    end

    def ratios(result, key, to: baseline)
      return [] unless results.key?(to)

      result.samples.filter_map do |round, sample|
        other = results[to].samples.dig(round, key)
        sample[key].fdiv(other) if sample[key] && other&.nonzero?
      end
    end

    # How much more work a CPU-second of the server does.
    def work_ratio(result, to)
      cost = Text.median(ratios(result, :cpu_us, to: to))
      1 / cost if cost&.positive?
    end

    # A figure that goals are about.
    def figure(result, name)
      case name
      when :rate_vs_puma then Text.median(ratios(result, :rate, to: ServerList::BASELINE))
      when :work_vs_puma then work_ratio(result, ServerList::BASELINE)
      when :cpu_vs_puma then Text.median(ratios(result, :cpu_us, to: ServerList::BASELINE))
      when :work_vs_raw then work_ratio(result, ServerList::CEILING)
      else result.median(name)
      end
    end

    # Did something else use the machine meanwhile? Then the verdicts on this workload say little.
    def disturbed? = results.each_value.any? { |result| result.median(:other)&.>(TOLERATED_OTHERS) }

    # Each goal with the figure that our own server reached.
    def goals
      return [] unless results.key?(ServerList::OURS)

      workload.goals.map { |goal| [goal, figure(results[ServerList::OURS], goal.figure)] }
    end
  end
end
