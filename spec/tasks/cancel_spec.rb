# frozen_string_literal: true

# `Iodine.cancel`: timers that are not wanted any more (F62).

RSpec.describe "Iodine.cancel" do
  # What a script around `Iodine.start` said, once it has ended by itself.
  def run_timers(script, workers: 1, threads: 1)
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = #{workers}
      Iodine.threads = #{threads}
      #{script}
      Iodine.start
      say "end", $last_words
    RUBY
    expect(server.wait).to be_success, server.log
    server.said
  end

  it "ends a timer once, before and after the start" do
    said = run_timers(<<~RUBY)
      early = Iodine.run_after(1) { say "never" }
      often = Iodine.run_every(1) { say "never" }
      say Iodine.cancel(early), Iodine.cancel(early), Iodine.cancel(often), Iodine.cancel(often)
      Iodine.on_state(:on_start) do
        Iodine.run do
          late = Iodine.run_after(1) { say "never" }
          long = Iodine.run_every(1) { say "never" }
          say Iodine.cancel(late), Iodine.cancel(late), Iodine.cancel(long), Iodine.cancel(long)
          Iodine.run_after(50) { Iodine.stop }
        end
      end
    RUBY
    expect(said).to eq(["true false true false", "true false true false", "end "])
  end

  it "ends a timer from its own block, which is not called again" do
    said = run_timers(<<~RUBY)
      count = 0
      timer = Iodine.run_every(1) do
        say "tick", count += 1
        next unless count == 3

        say Iodine.cancel(timer), Iodine.cancel(timer)
        Iodine.run_after(50) { Iodine.stop }
      end
    RUBY
    expect(said).to eq(["tick 1", "tick 2", "tick 3", "true false", "end "])
  end

  it "is too late for one that runs for the last time, or did" do
    said = run_timers(<<~RUBY)
      once = twice = nil
      left = 3
      ran = -> { Iodine.run_after(20) { say Iodine.cancel(once), Iodine.cancel(twice); Iodine.stop } if (left -= 1).zero? }
      once = Iodine.run_after(1) { say "once", Iodine.cancel(once); ran.call }
      twice = Iodine.run_every(1, 2) { say "twice"; ran.call }
    RUBY
    expect(said.tally).to eq("once false" => 1, "twice" => 2, "false false" => 1, "end " => 1)
  end

  it "catches one that is due already and waits for its turn" do
    said = run_timers(<<~RUBY)
      Iodine.on_state(:on_start) do
        Iodine.run do
          due = [Iodine.run_after(1) { say "never" }, Iodine.run_every(1) { say "never" }]
          sleep 0.1
          say due.map { |timer| Iodine.cancel(timer) }.inspect
          Iodine.run_after(50) { Iodine.stop }
        end
      end
    RUBY
    expect(said).to eq(["[true, true]", "end "])
  end

  it "ends all timers with the same block, and no other" do
    said = run_timers(<<~RUBY)
      block = proc { say "never" }
      3.times { Iodine.run_after(1, &block) }
      Iodine.run_every(1, &block)
      left = 3
      Iodine.run_every(1, 3) { say "other"; Iodine.run_after(50) { Iodine.stop } if (left -= 1).zero? }
      say Iodine.cancel(block), Iodine.cancel(proc { }), Iodine.cancel(block)
    RUBY
    expect(said.tally).to eq("true false false" => 1, "other" => 3, "end " => 1)
  end

  it "takes Procs only, and none that were given to run" do
    said = run_timers(<<~RUBY)
      task = Iodine.run { say "task" }
      now = Iodine.run_after(0) { say "now" }
      say Iodine.cancel(task), Iodine.cancel(now)
      [nil, 1, "x"].each do |bad|
        Iodine.cancel(bad)
      rescue TypeError => error
        say error.message
      end
      Iodine.run { Iodine.stop }
    RUBY
    expect(said).to eq(["false false", *%w[NilClass Integer String].map { |kind| "wrong argument type #{kind} (expected Proc)" },
                        "task", "now", "end "])
  end

  it "knows nothing of timers that a stop has dropped, in the next run" do
    said = run_timers(<<~RUBY)
      timer = Iodine.run_after(60_000) { say "never" }
      Iodine.run { Iodine.stop }
      Iodine.start
      say Iodine.cancel(timer)
      Iodine.run { say Iodine.cancel(timer); Iodine.stop }
    RUBY
    expect(said).to eq(%w[false false] + ["end "])
  end

  it "is a matter of each process of a cluster" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = 2
      Iodine.threads = 1
      timer = Iodine.run_every(20) { say "tick", Iodine.master? ? "root" : "worker" }
      Iodine.on_state(:on_start) { Iodine.run_after(1) { say "cancelled", Iodine.cancel(timer), Iodine.cancel(timer) } }
      Iodine.start
    RUBY
    server.wait_until_ready(workers: 2)
    server.wait_for_said("cancelled true false", times: 2)
    before = server.said.count("tick worker")
    server.wait_for_said("tick root", times: server.said.count("tick root") + 4)
    # One may have been under way.
    expect(server.said.count("tick worker")).to be <= before + 2
  end

  it "lets go of the blocks, and does not gather what was cancelled" do
    said = run_timers(<<~RUBY)
      class Ballast; end
      # In a frame of its own, so that no reference is left on the stack.
      def add_and_cancel
        ballast = Ballast.new
        timer = Iodine.run_after(3_600_000) { ballast }
        Iodine.cancel(timer) or say "not cancelled"
      end
      Iodine.on_state(:on_start) do
        Iodine.run { 20_000.times { add_and_cancel } }
        Iodine.run_every(50, 100) do
          # What is let go of is so when something new is kept.
          Iodine.run { }
          GC.start
          next if ObjectSpace.each_object(Ballast).count > 200

          say "gone"
          Iodine.stop
        end
      end
    RUBY
    expect(said).to eq(["gone", "end "])
  end
end
