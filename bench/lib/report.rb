# frozen_string_literal: true

require_relative "outcome"

module Bench
  # Prints the outcomes as Markdown: a table for each workload, and at the end our own server in one.
  class Report
    def initialize(out = $stdout)
      @out = out
    end

    def opening(workloads, servers, settings)
      @out.puts "# #{workloads.size} workloads, #{settings.rounds} rounds of #{settings.duration} s, " \
                "client #{settings.client}, #{Machine.describe}"
      @out.puts "# servers: #{servers.map { |server| [server.name, server.version].compact.join(' ') }.join(', ')}"
    end

    def workload(outcome, rounds)
      columns = Measurement::KINDS.fetch(outcome.workload.kind).columns(outcome)
      @out.puts "", "### #{outcome.workload.name}: #{outcome.workload.about}", ""
      @out.puts Text.row(["server", *columns.map(&:title), "goal"])
      @out.puts "|---|#{'---:|' * columns.size}---|"
      outcome.results.each { |name, result| @out.puts server_row(outcome, name, result, columns, rounds) }
      @out.flush
    end

    def summary(outcomes)
      ours = outcomes.select { |outcome| outcome.results.key?(ServerList::OURS) }
      return if ours.size < 2

      @out.puts "", "### #{ServerList::OURS}, and its goals", "", Text.row(%w[workload goal]), "|---|---|"
      ours.each { |outcome| @out.puts Text.row([outcome.workload.name, verdicts(outcome)]) }
      @out.puts "", tally(ours.flat_map(&:goals))
      disturbed = ours.select(&:disturbed?).map { |outcome| outcome.workload.name }
      @out.puts "The machine was busy with something else during #{disturbed.join(', ')}: measure again." if disturbed.any?
    end

    private

    def server_row(outcome, name, result, columns, rounds)
      return Text.row([name, "failed: #{result.failure.to_s[0, 140]}", *[""] * columns.size]) if result.samples.empty?

      missing = rounds - result.samples.size
      label = missing.zero? ? name : "#{name} (#{missing} of #{rounds} rounds failed)"
      goal = name == ServerList::OURS ? verdicts(outcome) : ""
      Text.row([label, *columns.map { |column| column.text.call(outcome, result) }, goal])
    end

    def verdicts(outcome) = outcome.goals.map { |goal, value| goal.verdict(value) }.join("; ")

    def tally(goals)
      measured = goals.reject { |_, value| value.nil? }
      met = measured.count { |goal, value| goal.met?(value) }
      "#{met} of #{goals.size} goals met, #{measured.size - met} missed, #{goals.size - measured.size} not measured."
    end
  end
end
