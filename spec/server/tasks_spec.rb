# frozen_string_literal: true

# `Iodine.run`, `defer`, `run_after`, `run_every` and `on_idle`.

RSpec.describe "tasks" do
  # Runs a script around `Iodine.start`; what it said, once it has ended by itself.
  def run_tasks(script, threads: 1, workers: 1)
    @server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = #{workers}
      Iodine.threads = #{threads}
      def clock = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      #{script}
      Iodine.start
    RUBY
    expect(@server.wait).to be_success, @server.log
    @server.said
  end

  describe "misuse" do
    # A script that says what each call raises.
    def complaints(*calls)
      said = run_tasks(<<~RUBY)
        #{calls.inspect}.each do |call|
          result = eval(call)
          say "fine", result.class
        rescue Exception => error
          say error.class, error.message
        end
        Iodine.on_state(:on_start) { Iodine.stop }
      RUBY
      calls.zip(said).to_h
    end

    it "without a block is a LocalJumpError" do
      expect(complaints("Iodine.run", "Iodine.defer", "Iodine.run_after(1)", "Iodine.run_every(1)", "Iodine.on_idle",
                        "Iodine.run_after(nil)").values).to all(eq("LocalJumpError no block given"))
    end

    it "with what is no Integer is a TypeError" do
      after = ["Iodine.run_after(1.5) {}", "Iodine.run_after('1') {}"]
      every = ["Iodine.run_every(1.5) {}", "Iodine.run_every(nil) {}"]
      expect(complaints(*after).values).to all(eq("TypeError milliseconds must be a number"))
      expect(complaints(*every).values).to all(eq("TypeError milliseconds must be a number."))
      expect(complaints("Iodine.run_every(1, '2') {}").values).to eq(["TypeError repetitions must be a number or `nil`."])
    end

    it "with a number that is no duration is a RangeError (0.7: in 49 days)" do
      expect(complaints("Iodine.run_after(2**32) {}", "Iodine.run_after(-1) {}", "Iodine.run_every(-5) {}",
                        "Iodine.run_every(5, -1) {}").values).to all(start_with("RangeError"))
    end

    it "with too few or too many arguments is an ArgumentError" do
      expect(complaints("Iodine.run(1) {}", "Iodine.run_after {}", "Iodine.run_every {}", "Iodine.run_every(1, 2, 3) {}",
                        "Iodine.on_idle(1) {}").values).to all(start_with("ArgumentError"))
    end

    it "with a timer that would never rest is refused with a line in the log" do
      expect(complaints("Iodine.run_every(0) {}").values).to eq(["fine NilClass"])
      expect(@server.log).to match(/^ERROR: Iodine couldn't initialize timer: /)
    end
  end

  it "gives the block back" do
    said = run_tasks(<<~RUBY)
      block = proc { }
      said = [Iodine.run(&block), Iodine.defer(&block), Iodine.run_after(1, &block), Iodine.run_after(0, &block),
              Iodine.run_after(nil, &block), Iodine.run_every(1, &block), Iodine.run_every(0, 3, &block), Iodine.on_idle(&block)]
      say said.all? { |given| given.equal?(block) }
      Iodine.run { Iodine.stop }
    RUBY
    expect(said).to eq(["true"])
  end

  describe "run" do
    it "keeps the order on one thread, and puts what a task adds at the end" do
      said = run_tasks(<<~RUBY)
        Iodine.run { say 1; Iodine.run { say 4; Iodine.run { say 6; Iodine.stop } } }
        Iodine.defer { say 2; Iodine.defer { say 5 } }
        Iodine.run_after(0) { say 3 }
      RUBY
      expect(said).to eq(%w[1 2 3 4 5 6])
    end

    it "keeps the order in a running server, too" do
      said = run_tasks("Iodine.on_state(:on_start) { 100.times { |number| Iodine.run { say number } }; Iodine.run { Iodine.stop } }")
      expect(said).to eq((0..99).map(&:to_s))
    end

    it "runs tasks side by side on several threads" do
      said = run_tasks(<<~RUBY, threads: 4)
        here = Queue.new
        go_on = Queue.new
        4.times { Iodine.run { here << 1; go_on.pop } }
        Thread.new { 4.times { here.pop }; say "all four"; 4.times { go_on << 1 }; Iodine.stop }
      RUBY
      expect(said).to eq(["all four"])
    end

    it "logs what a task raises, whatever it is, and goes on" do
      said = run_tasks(<<~RUBY)
        Iodine.run { raise "oh" }
        Iodine.run { raise NotImplementedError, "not yet" }
        Iodine.run { exit 7 }
        Iodine.run { throw :away }
        Iodine.run { raise Interrupt, "now" }
        Iodine.run { say "still here"; Iodine.stop }
      RUBY
      expect(said).to eq(["still here"])
      expect(@server.log.scan(/^ERROR: Iodine caught an unprotected exception - (.+)$/).flatten)
        .to eq(["RuntimeError: oh", "NotImplementedError: not yet", "SystemExit: exit", "UncaughtThrowError: uncaught throw :away",
                "Interrupt: now"])
    end

    it "still runs what is queued when the server is stopped, and what that adds" do
      said = run_tasks(<<~RUBY)
        Iodine.run do
          Iodine.stop
          Iodine.run { say "b"; Iodine.run { say "c" } }
          say "a"
        end
      RUBY
      expect(said).to eq(%w[a b c])
    end

    it "takes tasks from any thread" do
      said = run_tasks(<<~RUBY, threads: 2)
        done = Queue.new
        Iodine.on_state(:on_start) do
          8.times { |number| Thread.new { 50.times { Iodine.run { done << number } } } }
          Thread.new { 400.times { done.pop }; say "400"; Iodine.stop }
        end
      RUBY
      expect(said).to eq(["400"])
    end

    it "forgets tasks when the process ends without a server" do
      server = start_script('require "iodine"; Iodine.run { say "never" }; Iodine.run_every(1) { say "never" }; say "end"')
      expect([server.wait.exitstatus, server.said]).to eq([0, ["end"]])
    end
  end

  describe "timers" do
    it "fire once, not before their time, the earliest first" do
      said = run_tasks(<<~RUBY)
        began = nil
        tell = ->(name, wanted) { say name, clock - began >= wanted }
        Iodine.on_state(:on_start) { began = clock }
        Iodine.run_after(60) { tell["third", 0.06]; Iodine.stop }
        Iodine.run_after(20) { tell["first", 0.02] }
        Iodine.run_after(40) { tell["second", 0.04] }
      RUBY
      expect(said).to eq(["first true", "second true", "third true"])
    end

    it "count from the start when they are set before it" do
      said = run_tasks(<<~RUBY)
        Iodine.run_after(100) { say clock - @began >= 0.09; Iodine.stop }
        sleep 0.12
        Iodine.on_state(:on_start) { @began = clock }
      RUBY
      expect(said).to eq(["true"])
    end

    it "repeat as often as they were told to" do
      said = run_tasks(<<~RUBY)
        # The end comes when they have all run, and a while later.
        left = 5
        finish = -> { Iodine.run_every(50, 1) { say "one"; Iodine.stop } if (left -= 1).zero? }
        Iodine.run_every(1, 3) { say "three"; finish.call }
        Iodine.run_every(0, 2) { say "two"; finish.call }
      RUBY
      expect(said.tally).to eq("three" => 3, "two" => 2, "one" => 1)
    end

    it "repeat until the end, which drops them though requests are still at work" do
      server = serve(<<~RUBY, threads: 2, before: <<~BEFORE)
        ->(_env) do
          say "in"
          sleep 0.01 while Iodine.running?
          # Until they rest: the main thread may take a while to say so.
          ticks = moved = nil
          20.times do
            ticks = $ticks
            sleep 0.2
            break if (moved = $ticks - ticks).zero?
          end
          [200, {}, [moved.to_s]]
        end
      RUBY
        $ticks = 0
        Iodine.run_every(1) { $ticks += 1 }
        Iodine.run_after(60_000) { say "never" }
      BEFORE
      RawClient.open(server.port) do |client|
        client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for_said("in")
        server.signal(:INT)
        expect(client.read_response.body).to eq("0")
      end
      expect(server.wait.exitstatus).to eq(0)
    end

    it "keep their rate, however long the block takes" do
      said = run_tasks(<<~RUBY)
        times = []
        Iodine.on_state(:on_start) { @began = clock }
        Iodine.run_every(100, 8) do
          times << clock
          sleep 0.06
          Iodine.stop if times.size == 8
        end
        # From one to the next, and to the last.
        Iodine.on_state(:on_finish) { say times.each_cons(2).map { |one, other| other - one }.min, times.last - @began }
      RUBY
      shortest, whole = said.first.split.map(&:to_f)
      # One after the other, block and interval would take 160 ms, however quick the machine is. It may be late at times, and
      # is never early.
      expect(shortest).to be < 0.15
      expect(whole).to be >= 0.8
    end

    it "never overlap themselves" do
      said = run_tasks(<<~RUBY, threads: 4)
        inside = most = count = 0
        Iodine.run_every(1) do
          most = [most, inside += 1].max
          sleep 0.005
          inside -= 1
          Iodine.stop if (count += 1) == 10
        end
        Iodine.on_state(:on_finish) { say most }
      RUBY
      expect(said).to eq(["1"])
    end

    it "count what raises, ignore what is returned" do
      said = run_tasks(<<~RUBY)
        count = 0
        left = 5
        finish = -> { Iodine.run_after(50) { say count; Iodine.stop } if (left -= 1).zero? }
        Iodine.run_every(1, 3) { finish.call; count += 1; raise "time \#{count}" }
        Iodine.run_every(1, 2) { say "returns"; finish.call; :stop }
      RUBY
      expect(said).to eq(%w[returns returns 3])
      expect(@server.log.scan(/unprotected exception - RuntimeError: (time \d)/).flatten).to eq(["time 1", "time 2", "time 3"])
    end

    it "may be set by a task, a request and a timer" do
      server = serve("->(_env) { Iodine.run_after(1) { Iodine.run { Iodine.run_after(1) { say 'there' } } }; [200, {}, []] }")
      RawClient.open(server.port, &:get)
      server.wait_for_said("there")
    end

    it "are a new matter in each run of the server" do
      said = run_tasks(<<~RUBY)
        Iodine.run_every(10) { say "first run"; Iodine.stop }
        Iodine.start
        say "again"
        Iodine.run_after(100) { say "second run"; Iodine.stop }
      RUBY
      # It may come once more before it is stopped.
      expect(said.drop_while { |line| line == "first run" }).to eq(["again", "second run"])
      expect(said.first).to eq("first run")
    end
  end

  describe "in a cluster" do
    it "run in the root and in every worker when they were set before the start, and in workers that come later" do
      server = serve("->(_env) { [200, {}, []] }", workers: 2, before: <<~RUBY)
        Iodine.run { say "task", Process.pid, Iodine.master?, Iodine.worker? }
        Iodine.run_after(1) { say "timer", Process.pid, Iodine.master?, Iodine.worker? }
      RUBY
      first, second = server.worker_pids
      expected = lambda do |*workers|
        %w[task timer].flat_map do |name|
          ["#{name} #{server.pid} true false", *workers.map { |pid| "#{name} #{pid} false true" }]
        end
      end
      eventually { server.said.sort == expected[first, second].sort }
      server.signal(:KILL, first)
      server.wait_for_log(/is running\./, times: 3)
      eventually { server.said.sort == expected[first, second, server.worker_pids.last].sort }
    end

    it "run where they were set, once the server runs" do
      server = serve("->(_env) { Iodine.run { say 'task', Process.pid }; [200, {}, [Process.pid.to_s]] }", workers: 2)
      pid = RawClient.open(server.port, &:get).body
      server.wait_for_said("task #{pid}")
      server.stop
      expect(server.said).to eq(["task #{pid}"])
    end

    it "run in the root while it looks after its workers" do
      server = serve("->(_env) { [200, {}, []] }", workers: 2, before: <<~RUBY)
        Iodine.run_every(20) { (say "tick"; raise "tock") if Iodine.master? }
      RUBY
      server.wait_for_said("tick", times: 3)
      server.signal(:KILL, server.worker_pids.first)
      server.wait_for_log(/is running\./, times: 3)
      ticks = server.said.size
      server.wait_for_said("tick", times: ticks + 3)
      server.stop
      expect(server.status.exitstatus).to eq(0)
    end
  end

  describe "on_idle" do
    it "runs once, when there is nothing to do any more" do
      server = serve("->(_env) { Iodine.on_idle { say 'idle' } unless $given; $given = true; [200, {}, []] }")
      RawClient.open(server.port) do |client|
        client.get
        server.wait_for_said("idle")
        2.times { client.get }
        client.get("/") # a later round trip, so that there was time
      end
      server.stop
      expect(server.said).to eq(["idle"])
    end

    it "runs again when its block says so, but only after something happened" do
      server = serve("->(_env) { say 'request'; [200, {}, []] }", before: <<~RUBY)
        idle = proc { say "idle"; Iodine.on_idle(&idle) }
        Iodine.on_idle(&idle)
      RUBY
      3.times do |round|
        RawClient.open(server.port, &:get)
        server.wait_for_log(/> request\n(?:> request\n)*> idle/, times: round + 1)
      end
      # Nothing is heard of a server that only rests.
      sleep 0.5
      server.stop
      said = server.said
      expect(said.count("request")).to eq(3)
      # The beginning and the end of a connection are events, too, and there may be a while between them.
      expect(said.count("idle")).to be_between(3, 10)
    end

    it "logs what its blocks raise, and runs them all" do
      server = serve("->(_env) { [200, {}, []] }", before: <<~RUBY)
        Iodine.on_idle { raise 'oh' }
        Iodine.on_idle { raise Exception, 'of any kind' }
        Iodine.on_idle { Thread.current.kill }
        Iodine.on_idle { say 'idle' }
      RUBY
      RawClient.open(server.port, &:get)
      server.wait_for_log(/of any kind/)
      # Those behind a block that killed its thread are for the next time.
      RawClient.open(server.port, &:get)
      server.wait_for_said("idle")
      expect(server.log.scan(/unprotected exception - (.*)/).flatten).to eq(["RuntimeError: oh", "Exception: of any kind"])
    end

    it "lets a child that is forked in a block end there, with its own status" do
      server = serve("->(_env) { [200, {}, []] }", before: <<~RUBY)
        Iodine.on_idle do
          exit 3 unless (child = fork)
          say "status", Process.waitpid2(child).last.exitstatus
        end
        Iodine.on_idle { say "idle" }
      RUBY
      RawClient.open(server.port, &:get)
      server.wait_for_said("idle")
      expect(server.said).to eq(["status 3", "idle"])
    end

    it "runs in the root and in each worker" do
      server = serve("->(_env) { [200, {}, []] }", workers: 2, before: "Iodine.on_idle { say 'idle', Process.pid }")
      10.times { RawClient.open(server.port, &:get) }
      eventually { server.said.sort == [server.pid, *server.worker_pids].map { |pid| "idle #{pid}" }.sort }
    end
  end
end
