# frozen_string_literal: true

require_relative "../lib/text"

# Our way of doing something beside another one, in one run: for each case rounds of both in turn, in CPU time, so that
# what else the machine does harms both alike. The table has the median of the rounds and of their ratios.
class RubyComparison
  ROUNDS = 7

  # others: what the other way is called; seconds: CPU time for each way, case and round; unit: what a rate counts.
  def initialize(others, seconds, unit = "calls")
    @others = others
    @seconds = seconds
    puts "ruby #{RUBY_VERSION}, #{unit} per CPU-second, median of #{ROUNDS} rounds (ratio: median, least and greatest)", ""
    puts "| case | iodine | #{others} | x #{others} | goal |", "|---|---:|---:|---:|---:|"
  end

  # Measures one case; goal is the ratio it should reach.
  def measure(name, goal, ours, theirs)
    raise "#{name}: the results differ" unless ours.call == theirs.call

    rounds = Array.new(ROUNDS) { [rate(ours), rate(theirs)] }
    ratios = rounds.map { |our, their| our / their }
    rates = rounds.transpose.map { |values| Bench::Text.number(Bench::Text.median(values)) }
    puts Bench::Text.row([name, *rates, Bench::Text.spread(ratios), "#{goal}x"])
  end

  private

  # Calls per CPU-second, in batches that are long enough for the clock.
  def rate(work)
    GC.start
    batch = 1
    batch *= 4 while time(batch, work) < @seconds / 50
    calls = 0
    spent = 0.0
    while spent < @seconds
      spent += time(batch, work)
      calls += batch
    end
    calls / spent
  end

  def time(batch, work)
    start = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
    batch.times { work.call }
    Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - start
  end
end
