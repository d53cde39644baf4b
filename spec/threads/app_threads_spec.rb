# frozen_string_literal: true

# The threads that run the application: how many there are, and that the server survives whatever is done to them.

RSpec.describe "app threads" do
  # Answers to /meet come when as many requests are at work as there are threads; /count tells the number of these.
  meeting = lambda do |code, threads|
    <<~RUBY
      here = []
      all_here = ConditionVariable.new
      door = Mutex.new
      ->(env) do
        case env["PATH_INFO"]
        when "/meet"
          door.synchronize do
            here << true
            here.size % #{threads} == 0 ? all_here.broadcast : all_here.wait(door)
          end
          [200, {}, ["met"]]
        when "/count" then [200, {}, [Thread.list.count { |thread| thread.name == "iodine-app" }.to_s]]
        when "/other" then [200, {}, ["other"]]
        else #{code}
        end
      end
    RUBY
  end

  # The server runs that many requests at a time.
  def expect_full_strength(server, threads)
    clients = Array.new(threads) { RawClient.open(server.port).write("GET /meet HTTP/1.1\r\nHost: x\r\n\r\n") }
    expect(clients.map { |client| client.read_response.body }).to all(eq("met"))
    clients.each(&:close)
    eventually(25, "there were not #{threads} app threads") do
      RawClient.open(server.port) { |client| client.get("/count").body == threads.to_s }
    end
  end

  [1, 2, 5, 16].each do |threads|
    it "run #{threads} request(s) at a time when that many are wanted" do
      expect_full_strength(serve(meeting.call("nil", threads), threads: threads), threads)
    end
  end

  it "sleep side by side" do
    server = serve("->(_env) { sleep 0.6; [200, {}, []] }", threads: 8)
    clients = Array.new(16) { RawClient.open(server.port) }
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    clients.each { |client| client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
    expect(clients.map { |client| client.read_response.status }).to all(eq(200))
    # Two rounds of 0.6 s; one after the other they were 9.6.
    expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - began).to be_between(1.19, 8)
  end

  it "serve others while one of them sleeps, however quick requests were before" do
    server = serve("->(env) { (say 'in'; sleep) if env['PATH_INFO'] == '/slow'; [200, {}, []] }", threads: 2)
    RawClient.open(server.port) { |client| 200.times { client.get } }
    RawClient.open(server.port).write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for_said("in")
    RawClient.open(server.port) { |client| 5.times { expect(client.get.status).to eq(200) } }
    server.signal(:KILL)
  end

  it "never run two requests of one connection at once" do
    server = serve(<<~RUBY, threads: 4)
      inside = 0
      ->(_env) do
        inside += 1
        sleep 0.005
        most = inside
        inside -= 1
        [200, {}, [most.to_s]]
      end
    RUBY
    RawClient.open(server.port) do |client|
      client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
      expect(Array.new(20) { client.read_response.body }).to all(eq("1"))
    end
  end

  it "may all wait for what never comes, and Ruby does not take it for a deadlock" do
    server = serve("->(_env) { say 'in'; Queue.new.pop }", threads: 2)
    clients = Array.new(2) { RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
    server.wait_for_said("in", times: 2)
    expect(clients).to all(be_silent(0.3))
    expect(server).to be_alive
    2.times { |round| server.signal(:INT) && server.wait_for_log(/detected exit/) }
    expect(server.wait.exitstatus).to eq(0)
    expect(server.log).not_to include("fatal", "Deadlock")
  end

  deeds = {
    "kills its thread" => "Thread.current.kill",
    "ends its thread" => "Thread.exit",
    "kills its thread in the body" => "[200, {}, Enumerator.new { |body| body << 'a'; Thread.current.kill }]",
    "raises into its thread" => "Thread.current.raise(ArgumentError, 'into')",
    "throws" => "throw :nowhere",
    "exits" => "exit",
    "raises an Interrupt" => "raise Interrupt",
    "runs out of stack" => "endless = -> { endless.call }; endless.call"
  }

  [1, 3].each do |threads|
    describe "of which there are #{threads}, survive that the application" do
      choices = deeds.values.each_with_index.map { |code, number| "when '/#{number}' then #{code}" }
      serve_for_all(meeting.call("(case env['PATH_INFO']\n#{choices.join("\n")}\nend)", threads), threads: threads)

      deeds.each_key.with_index do |deed, number|
        it deed do
          RawClient.open(server.port) do |client|
            # The next request of the same connection is in the lane already.
            client.write("GET /#{number} HTTP/1.1\r\nHost: x\r\n\r\nGET /other HTTP/1.1\r\nHost: x\r\n\r\n")
            answers = Array.new(2) { client.read_response }
            expect(answers.map(&:status)).to eq([500, 200])
            expect(answers.last.body).to eq("other")
            expect(client.get("/#{number}").status).to eq(500)
          end
          expect_full_strength(server, threads)
        end
      end
    end
  end

  it "survive that closing a body kills the thread, and its answer is sent" do
    server = serve(meeting.call("(body = ['a', 'b']; def body.close = Thread.exit; [200, {}, body])", 2), threads: 2)
    RawClient.open(server.port) { |client| 3.times { expect(client.get("/do").body).to eq("ab") } }
    expect_full_strength(server, 2)
  end

  describe "survive that another thread" do
    # Does `deed` to the threads at work.
    define_method(:interfering) do |deed|
      serve(meeting.call(<<~RUBY, 2), threads: 2)
        begin
          at_work = Thread.current
          Thread.new { #{deed} }
          sleep
        end
      RUBY
    end

    {
      "kills one at work" => "at_work.kill",
      "raises into one at work" => "at_work.raise('from outside')"
    }.each do |deed, code|
      it deed do
        server = interfering(code)
        RawClient.open(server.port) do |client|
          3.times { expect(client.get("/do").status).to eq(500) }
          expect(client.get("/other").body).to eq("other")
        end
        expect_full_strength(server, 2)
      end
    end

    it "wakes one that has nothing to do" do
      server = serve(meeting.call("nil", 2), threads: 2, before: <<~RUBY)
        Iodine.run_every(5, 50) { Thread.list.each { |thread| thread.wakeup if thread.name == "iodine-app" && thread.stop? } }
      RUBY
      RawClient.open(server.port) { |client| 100.times { expect(client.get("/other").status).to eq(200) } }
      expect_full_strength(server, 2)
    end

    it "kills, or raises into, all that have nothing to do" do
      server = serve(meeting.call("nil", 3), threads: 3, before: <<~RUBY)
        trap("USR2") { Thread.list.each { |thread| thread.kill if thread.name == "iodine-app" }; say "killed" }
        trap("QUIT") { Thread.list.each { |thread| thread.raise("nobody") if thread.name == "iodine-app" }; say "raised" }
      RUBY
      RawClient.open(server.port) do |client|
        3.times do |round|
          server.signal(:USR2)
          server.wait_for_said("killed", times: round + 1)
          expect(client.get("/other").status).to eq(200)
          server.signal(:QUIT)
          server.wait_for_said("raised", times: round + 1)
          # The thread of this request may be one of those.
          expect(client.get("/other").status).to eq(200).or eq(500)
        end
      end
      expect_full_strength(server, 3)
    end

    it "kills them all, again and again, under load" do
      server = serve(meeting.call("[200, {}, [Process.pid.to_s]]", 4), threads: 4, before: <<~RUBY)
        Iodine.on_state(:on_start) do
          Thread.new do
            60.times do
              Thread.list.each { |thread| thread.kill if thread.name == "iodine-app" }
              sleep 0.01
            end
            say "done"
          end
        end
      RUBY
      load = Load.new(server.port, kept: 4, fresh: 2)
      server.wait_for_said("done")
      load.wait_for_answers(20)
      load.stop
      # A request that was at work when its thread died has a 500; all others are answered.
      expect(load.failures.map { |failure| failure.error.message }.uniq - ["status 500"]).to be_empty
      expect_full_strength(server, 4)
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
    end
  end

  describe "survive Timeout" do
    it "in the application" do
      server = serve(meeting.call(<<~RUBY, 2), threads: 2, before: 'require "timeout"')
        begin
          Timeout.timeout(0.05) { env["PATH_INFO"] == "/sleep" ? sleep : loop { 1 + 1 } }
        rescue Timeout::Error => error
          [503, {}, [error.class.name]]
        end
      RUBY
      RawClient.open(server.port) do |client|
        2.times { expect(client.get("/sleep").body).to eq("Timeout::Error") }
        2.times { expect(client.get("/compute").status).to eq(503) }
      end
      expect_full_strength(server, 2)
    end

    it "around the application, unrescued" do
      server = serve(<<~RUBY, threads: 2)
        require "timeout"
        inner = begin
          #{meeting.call("sleep", 2)}
        end
        ->(env) { Timeout.timeout(env["PATH_INFO"] == "/do" ? 0.05 : 10) { inner.call(env) } }
      RUBY
      RawClient.open(server.port) do |client|
        3.times { expect(client.get("/do").status).to eq(500) }
        expect(client.get("/other").body).to eq("other")
      end
      server.wait_for_log(/unprotected exception - Timeout::Error: execution expired/, times: 3)
      expect_full_strength(server, 2)
    end

    it "while requests end just when it strikes" do
      server = serve(<<~RUBY, threads: 2)
        require "timeout"
        ->(_env) do
          Timeout.timeout(0.004) { sleep 0.0035 + rand * 0.001 }
          [200, {}, ["in time"]]
        rescue Timeout::Error
          [200, {}, ["too late"]]
        end
      RUBY
      clients = Array.new(4) { RawClient.open(server.port) }
      bodies = Array.new(20) { clients.map { |client| client.get.body } }.flatten
      expect(bodies.uniq - ["in time", "too late"]).to be_empty
    end
  end

  describe "survive in tasks and timers" do
    it "that their thread is killed" do
      server = serve(meeting.call("nil", 2), threads: 2, before: <<~RUBY)
        3.times { Iodine.run { say "task"; Thread.current.kill } }
        Iodine.run_every(5, 3) { say "timer"; Thread.exit }
        Iodine.run_after(5) { say "after"; Thread.current.raise("oh") }
        Iodine.on_idle { say "idle"; Thread.exit }
      RUBY
      eventually { server.said.tally == { "task" => 3, "timer" => 3, "after" => 1, "idle" => 1 } }
      expect_full_strength(server, 2)
    end
  end

  it "do not end the program when it wants to know of exceptions in threads" do
    server = serve("->(env) { env['PATH_INFO'] == '/' ? raise('oh') : [200, {}, ['fine']] }", threads: 2,
                   before: "Thread.abort_on_exception = true; Thread.report_on_exception = true")
    RawClient.open(server.port) do |client|
      expect(client.get.status).to eq(500)
      expect(client.get("/other").body).to eq("fine")
    end
  end

  it "are replaced in each worker of a cluster" do
    server = serve("->(_env) { Thread.current.kill }", workers: 2, threads: 2)
    clients = Array.new(4) { RawClient.open(server.port) }
    3.times { expect(clients.map { |client| client.get.status }).to all(eq(500)) }
    server.signal(:INT)
    expect(server.wait.exitstatus).to eq(0)
    expect(server.log).not_to match(/WARNING|crash/)
  end
end
