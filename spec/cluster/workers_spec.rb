# frozen_string_literal: true

# A master and its workers: how they are born, die, are replaced and end.

RSpec.describe "a cluster" do
  pid_app = "->(_env) { [200, {}, [Process.pid.to_s]] }"

  def alive?(pid)
    # A child of somebody else may be dead, and not yet buried.
    File.read("/proc/#{pid}/stat")[/\) (\S)/, 1] != "Z"
  rescue Errno::ENOENT, Errno::ESRCH
    false
  end

  def expect_gone(*pids)
    eventually(25, "#{pids} did not end") { pids.none? { |pid| alive?(pid) } }
  end

  # A dozen answers that begin with a pid, each over a connection that stays open; more, until that many workers have
  # answered: one that stands still leaves all of them to the others.
  def answers_of_all(server, count)
    clients = []
    answers = []
    eventually(20, "#{count} workers did not answer") do
      clients << RawClient.open(server.port)
      answers << clients.last.get.body
      answers.size >= 12 && answers.map(&:to_i).uniq.size >= count
    end
    answers
  end

  # Pids of the processes that answer, as long as it takes to hear of so many.
  def answering(server, count)
    seen = {}
    eventually(20, "#{count} workers did not answer") do
      clients = Array.new(4) { RawClient.open(server.port) }
      clients.each { |client| seen[client.get.body.to_i] = true }
      clients.each(&:close)
      seen.size >= count
    end
    seen.keys
  end

  it "serves from its workers, which are children of the master" do
    server = serve("->(_env) { [200, {}, [[Process.pid, Process.ppid, Thread.main == Thread.list.first].join(' ')]] }", workers: 3)
    answers = answers_of_all(server, 3).map(&:split)
    expect(answers.map { |pid,| pid.to_i }.uniq).to match_array(server.worker_pids)
    expect(answers.map { |_, parent, _| parent.to_i }.uniq).to eq([server.pid])
  end

  it "shares memory between master and workers only by copy, and listeners by inheritance" do
    server = serve("->(_env) { [200, {}, [[Process.pid, $count += 1, Iodine.listeners.size].join(' ')]] }", workers: 2,
                   before: "$count = 0")
    answers = answers_of_all(server, 2).map(&:split)
    by_worker = answers.group_by(&:first).transform_values { |lines| lines.map { |_, count, _| count.to_i } }
    expect(by_worker.keys.map(&:to_i)).to match_array(server.worker_pids)
    by_worker.each_value { |counts| expect(counts).to eq([*1..counts.size]) }
    expect(answers.map(&:last).uniq).to eq(["1"])
  end

  describe "when a worker" do
    it "is killed, replaces it, says so and fires on_child_crush in the master" do
      server = serve(pid_app, workers: 2, before: "Iodine.on_state(:on_child_crush) { say 'crush', Process.pid }")
      victim, survivor = server.worker_pids
      server.signal(:KILL, victim)
      server.wait_for_log(/^ERROR: Child worker \(#{victim}\) crashed\. Respawning worker\.$/)
      server.wait_until_ready(workers: 3)
      expect(answering(server, 2)).to contain_exactly(survivor, server.worker_pids.last)
      expect(server.said).to eq(["crush #{server.pid}"])
    end

    it "exits with another status than 0, takes it for a crash" do
      server = serve("->(_env) { exit!(3) }", workers: 2, before: "Iodine.on_state(:on_child_crush) { say 'crush' }")
      RawClient.open(server.port) { |client| expect(client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")).to be_closed_by_server }
      server.wait_for_log(/^ERROR: Child worker \(\d+\) crashed\. Respawning worker\.$/)
      server.wait_for_said("crush")
      server.wait_until_ready(workers: 3)
    end

    it "ends by itself, replaces it with a warning" do
      server = serve("->(env) { Iodine.stop if env['PATH_INFO'] == '/stop'; [200, {}, [Process.pid.to_s]] }", workers: 2,
                     before: "Iodine.on_state(:on_child_crush) { say 'crush' }")
      leaver = RawClient.open(server.port) { |client| client.get("/stop").body.to_i }
      server.wait_for_log(/^WARNING: Child worker \(#{leaver}\) shutdown\. Respawning worker\.$/)
      server.wait_until_ready(workers: 3)
      expect(answering(server, 2)).not_to include(leaver)
      expect(server.said).to be_empty
      expect(server.log).not_to include("ERROR")
    end

    %w[INT TERM USR1].each do |name|
      it "gets #{name}, lets it finish and replaces it" do
        server = serve("->(_env) { say 'in', Process.pid; sleep 0.3; [200, {}, [Process.pid.to_s]] }", workers: 2)
        client = RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        worker = server.wait_for_said(/in \d+/).first[/\d+/].to_i
        server.signal(name, worker)
        expect(client.read_response.body).to eq(worker.to_s)
        server.wait_for_log(/^WARNING: Child worker \(#{worker}\) shutdown/)
        server.wait_until_ready(workers: 3)
        expect(server.log).to include("INFO: (#{worker}) detected exit signal.", "INFO: (#{worker}) cleanup complete.")
        expect(server.log).not_to match(/ERROR|FATAL/)
        expect(server).to be_alive
      end
    end

    it "gets a second signal, it ends at once" do
      server = serve("->(_env) { say 'in', Process.pid; sleep }", workers: 2)
      client = RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      worker = server.wait_for_said(/in \d+/).first[/\d+/].to_i
      2.times do |round|
        server.signal(:TERM, worker)
        server.wait_for_log(/\(#{worker}\) detected exit signal/)
        expect(alive?(worker)).to be(true) if round.zero?
      end
      expect_gone(worker)
      expect(client).to be_closed_by_server
    end

    # Whoever dies has died young, however slow the machine is just now.
    never_grown_up = "Iodine::Base::Cluster.send(:remove_const, :GROWN_UP); Iodine::Base::Cluster::GROWN_UP = 600"

    ["exit!(1)", "exit", "Thread.current.kill"].each do |death|
      it "dies at its start of #{death}, again and again, waits longer each time (F-54)" do
        server = serve(pid_app, workers: 1, ready: false, before: <<~RUBY)
          Iodine.workers = 2
          #{never_grown_up}
          Iodine.on_state(:on_start) { say "born", Process.clock_gettime(Process::CLOCK_MONOTONIC); #{death} }
        RUBY
        births = server.wait_for_said(/born .*/, times: 9).first(9).map { |line| line[/[\d.]+/].to_f }
        # Two at a time, after 0.1, 0.2, 0.4 and 0.8 s. Without waiting there were more than sixty a second.
        expect(births.max - births.min).to be >= 1.5
        server.signal(:INT)
        expect(server.wait.exitstatus).to eq(0)
      end
    end

    it "is stopped together with all others, is replaced after one delay, not after one that doubles for each" do
      server = serve(pid_app, workers: 1, ready: false, before: <<~RUBY)
        Iodine.workers = 6
        #{never_grown_up}
        Iodine::Base::Cluster.prepend(Module.new do
          def replace_missing
            before = @workers.size
            super
            say "delays", @young_deaths, "births", @workers.size - before if @workers.size > before
          end
        end)
      RUBY
      server.wait_until_ready(workers: 6)
      before = server.worker_pids
      # The master is to find them all dead when it looks.
      server.signal(:STOP)
      before.each { |pid| server.signal(:TERM, pid) }
      eventually { before.none? { |pid| alive?(pid) } }
      server.signal(:CONT)
      eventually { (server.worker_pids - before).size == 6 }
      expect(server.said).to eq(["delays 1 births 6"])
    end

    it "dies at its start for a while, serves when that is over" do
      server = serve(pid_app, workers: 2, ready: false, before: <<~RUBY)
        tokens, writer = IO.pipe
        writer.write("x" * 3)
        Iodine.on_state(:on_start) { exit!(1) if tokens.read_nonblock(1, exception: false) == "x" }
      RUBY
      server.wait_until_ready(workers: 2)
      expect(answering(server, 2)).to match_array(server.worker_pids)
      expect(server.log.scan("crashed. Respawning").size).to eq(3)
    end

    it "raises in a block of its start, goes on" do
      server = serve(pid_app, workers: 2, before: "%i[after_fork enter_child on_start].each { |event| Iodine.on_state(event) { raise event.to_s } }")
      expect(answering(server, 2)).to match_array(server.worker_pids)
      expect(server.log).not_to include("crashed")
    end
  end

  describe "ends" do
    %w[INT TERM].each do |name|
      it "with all its workers by #{name} to the master, and each finishes what it is at" do
        server = serve("->(_env) { say 'in'; sleep 0.4; [200, {}, [Process.pid.to_s]] }", workers: 2, threads: 2,
                       before: "Iodine.on_state(:on_parent_crush) { say 'parent crush' }; Iodine.on_state(:on_child_crush) { say 'child crush' }")
        clients = Array.new(2) { RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
        server.wait_for_said("in", times: 2)
        server.signal(name)
        expect(server.worker_pids).to include(*clients.map { |client| client.read_response.body.to_i })
        expect(server.wait.exitstatus).to eq(0)
        expect_gone(*server.worker_pids)
        # Nothing has crashed (F-58).
        expect(server.log).not_to match(/ERROR|FATAL|WARNING/)
        expect(server.said).to eq(%w[in in])
      end
    end

    it "with all its workers by one INT to the whole group, as from a terminal, and each finishes what it is at" do
      # It computes, so that the signal is heard late.
      server = serve(<<~RUBY, workers: 2, threads: 2)
        ->(_env) do
          say "in"
          limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 0.5
          1 + 1 while Process.clock_gettime(Process::CLOCK_MONOTONIC) < limit
          [200, {}, [Process.pid.to_s]]
        end
      RUBY
      clients = Array.new(2) { RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
      server.wait_for_said("in", times: 2)
      server.signal(:INT, -server.pid)
      expect(server.worker_pids).to include(*clients.map { |client| client.read_response.body.to_i })
      expect(server.wait.exitstatus).to eq(0)
      expect(server.log).not_to match(/ERROR|FATAL|WARNING/)
    end

    it "by Iodine.stop in the master" do
      server = serve(pid_app, workers: 2, before: "Iodine.on_state(:enter_master) { Iodine.run_after(300) { Iodine.stop } }")
      expect(server.wait.exitstatus).to eq(0)
      expect_gone(*server.worker_pids)
      expect(server.log).to include("start returned")
      expect(server.log).not_to match(/ERROR|FATAL|WARNING/)
    end

    { "pre_start" => 0, "before_fork" => 1, "enter_master" => 1 }.each do |event, at_most|
      it "by Iodine.stop in #{event}, before all workers are there" do
        server = serve(pid_app, workers: 2, ready: false, before: "Iodine.on_state(:#{event}) { Iodine.stop }")
        expect(server.wait.exitstatus).to eq(0)
        expect_gone(*server.worker_pids)
        expect(server.worker_pids.size).to be <= at_most
      end
    end

    it "at once by a second signal, though requests hang" do
      server = serve("->(_env) { say 'in'; sleep }", workers: 2, threads: 2)
      clients = Array.new(2) { RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
      server.wait_for_said("in", times: 2)
      server.signal(:INT)
      server.wait_for_log(/\(\d+\) detected exit signal/, times: 2)
      expect(server).to be_alive
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
      expect(clients).to all(be_closed_by_server)
      expect_gone(*server.worker_pids)
    end

    it "though a worker does not react" do
      server = serve(pid_app, workers: 2)
      stuck = server.worker_pids.first
      server.signal(:STOP, stuck)
      server.signal(:INT)
      server.wait_for_log(/cleanup complete/)
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
      expect_gone(stuck)
    end

    it "when the master is killed: its workers finish, with on_parent_crush once each" do
      server = serve("->(_env) { say 'in'; sleep 0.4; [200, {}, [Process.pid.to_s]] }", workers: 2, before: <<~RUBY)
        Iodine.on_state(:on_parent_crush) { say "crush", Process.pid, Iodine.running? }
        Iodine.on_state(:on_finish) { say "finish", Process.pid }
      RUBY
      workers = server.worker_pids
      client = RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      server.wait_for_said("in")
      server.signal(:KILL)
      expect(workers).to include(client.read_response.body.to_i)
      expect_gone(*workers)
      expect(server.log.scan(/^FATAL: \((\d+)\) Parent Process crash detected!$/).flatten.map(&:to_i)).to match_array(workers)
      expect(server.said).to match_array(["in", *workers.flat_map { |pid| ["crush #{pid} true", "finish #{pid}"] }])
    end
  end

  describe "in its workers" do
    it "runs at_exit blocks, at each kind of end (F-58)" do
      server = serve("->(_env) { [200, {}, []] }", workers: 2, before: <<~RUBY)
        at_exit { say "at_exit", Process.pid, $!.inspect }
        Iodine.on_state(:on_finish) { say "finish", Process.pid }
        Iodine.on_state(:on_start) { at_exit { say "own at_exit", Process.pid } }
      RUBY
      first, second = server.worker_pids
      server.signal(:TERM, first)
      server.wait_until_ready(workers: 3)
      third = server.worker_pids.last
      server.signal(:INT)
      server.wait
      by_process = server.said.group_by { |line| line[/\d+/].to_i }
      [first, second, third].each do |pid|
        expect(by_process[pid]).to eq(["finish #{pid}", "own at_exit #{pid}", "at_exit #{pid} nil"])
      end
      expect(by_process[server.pid]).to eq(["finish #{server.pid}", "at_exit #{server.pid} nil"])
    end

    it "does not go on behind Iodine.start" do
      server = serve(pid_app, workers: 2)
      server.stop
      expect(server.log.scan("start returned").size).to eq(1)
    end

    it "lets the program's traps work" do
      server = serve(pid_app, workers: 2, before: "trap('USR2') { say 'heard', Process.pid }")
      [server.pid, *server.worker_pids].each do |pid|
        server.signal(:USR2, pid)
        server.wait_for_said("heard #{pid}")
      end
    end
  end

  it "keeps its pid file until the master ends, whatever becomes of workers (F-57)" do
    Dir.mktmpdir do |folder|
      path = File.join(folder, "x.pid")
      server = start_script(<<~RUBY)
        IODINE_PARSE_CLI = true
        ARGV.replace(%w[-w 2 -t 1 -pid #{path}])
        require "iodine"
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: #{pid_app})
        Iodine.start
      RUBY
      server.wait_until_ready(workers: 2)
      first, second = server.worker_pids
      server.signal(:KILL, first)
      server.signal(:TERM, second)
      server.wait_until_ready(workers: 4)
      server.signal(:USR1)
      server.wait_until_ready(workers: 6)
      expect(File.binread(path)).to eq("#{server.pid}\r\n")
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
      expect(File.exist?(path)).to be(false)
      expect(server.log).not_to include("pid file")
    end
  end

  it "removes the files of its Unix sockets when the master ends, not when a worker does" do
    Dir.mktmpdir do |folder|
      path = File.join(folder, "x.sock")
      server = serve(pid_app, workers: 2, before: "Iodine.listen(service: :http, address: #{path.inspect}, port: 0, handler: app)")
      server.signal(:TERM, server.worker_pids.first)
      server.wait_until_ready(workers: 3)
      expect(RawClient.open_unix(path, &:get).status).to eq(200)
      server.stop
      expect(File.exist?(path)).to be(false)
    end
  end
end
