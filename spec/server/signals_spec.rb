# frozen_string_literal: true

# What signals do before, while and after the server runs, in a single process.

RSpec.describe "signals" do
  hello = "->(_env) { [200, {}, ['hello']] }"
  sleeper = "->(_env) { say 'in'; sleep }"

  # A server with a request under way that never ends by itself.
  def hanging(app, **options)
    server = serve(app, **options)
    client = RawClient.open(server.port)
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for_said("in")
    [server, client]
  end

  def elapsed
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
  end

  %w[INT TERM].each do |name|
    it "#{name} still ends a program that has only required iodine (F-56)" do
      server = start_script('require "iodine"; say "ready"; sleep')
      server.wait_for_said("ready")
      server.signal(name)
      expect(server.wait.termsig).to eq(Signal.list[name])
    end

    it "#{name} ends the server: start returns, and the program goes on" do
      server = serve(hello, threads: 2)
      server.signal(name)
      expect(server.wait.exitstatus).to eq(0)
      expect(server.log).to include("INFO: (#{server.pid}) detected exit signal.\n", "INFO:    ---  Shutdown Complete  ---\n")
      expect(server.log).to end_with("start returned\n")
    end

    it "#{name} for the second time ends it at once, though a request hangs" do
      server, client = hanging(sleeper)
      server.signal(name)
      server.wait_for_log(/detected exit signal/)
      expect(client).to be_silent
      seconds = elapsed do
        server.signal(name)
        expect(server.wait.exitstatus).to eq(0)
      end
      # Requests have 30 s.
      expect(seconds).to be < 15
      expect(server.log).to include("Shutdown Complete", "start returned")
    end
  end

  it "INT and TERM right after one another end it at once, too" do
    server, = hanging(sleeper)
    server.signal(:INT)
    server.signal(:TERM)
    expect(elapsed { server.wait }).to be < 15
    expect(server.status.exitstatus).to eq(0)
  end

  it "a second signal ends an application that computes" do
    server, = hanging("->(_env) { say 'in'; loop { 1 + 1 } }", threads: 2)
    server.signal(:INT)
    server.wait_for_log(/detected exit signal/)
    server.signal(:INT)
    expect(elapsed { server.wait }).to be < 15
    expect(server.status.exitstatus).to eq(0)
  end

  it "a second signal ends an application that swallows every exception" do
    server, = hanging("->(_env) { say 'in'; begin; sleep; rescue Exception; retry; end }")
    server.signal(:TERM)
    server.wait_for_log(/detected exit signal/)
    server.signal(:TERM)
    expect(elapsed { server.wait }).to be < 15
    expect(server.status.exitstatus).to eq(0)
  end

  it "a second Iodine.stop is no second signal" do
    # The one request ends when the signal has been heard, and half a second later: the server is there to hear it.
    server, client = hanging(<<~RUBY, threads: 2, before: 'trap("INT") { say "heard"; $heard = true }')
      ->(env) do
        say "in"
        if env["PATH_INFO"] == "/stop"
          2.times { Iodine.stop }
        else
          sleep 0.01 until $heard
          sleep 0.5
        end
        [200, {}, ["whole"]]
      end
    RUBY
    RawClient.open(server.port) { |other| expect(other.get("/stop").body).to eq("whole") }
    server.signal(:INT)
    server.wait_for_said("heard")
    expect(client.read_response.body).to eq("whole")
    expect(server.wait.exitstatus).to eq(0)
  end

  it "INT with a trap that stops the server, too, is one signal" do
    server, client = hanging(<<~RUBY, before: 'trap("INT") { Iodine.stop }')
      ->(_env) { say "in"; sleep 0.5; [200, {}, ["whole"]] }
    RUBY
    server.signal(:INT)
    expect(client.read_response.body).to eq("whole")
    expect(server.wait.exitstatus).to eq(0)
  end

  it "USR1 means nothing to a single process" do
    server = serve(hello, before: "Iodine.on_state(:start_shutdown) { say 'ending' }")
    RawClient.open(server.port) do |client|
      client.get
      server.signal(:USR1)
      2.times { expect(client.get.body).to eq("hello") }
    end
    expect(server).to be_alive
    expect(server.said).to be_empty
  end

  it "PIPE does nothing: a client that leaves ends nobody" do
    server = serve("->(_env) { [200, {}, ['x' * 1_000_000]] }")
    client = RawClient.open(server.port)
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
    client.socket.readpartial(100)
    client.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
    client.close
    server.signal(:PIPE)
    expect(RawClient.open(server.port, &:get).body.bytesize).to eq(1_000_000)
  end

  describe "traps of the program" do
    it "are called at once, though nothing else happens (F-64)" do
      server = serve(hello, threads: 2, before: "%w[USR2 HUP QUIT].each { |name| trap(name) { say name } }")
      %w[USR2 HUP QUIT].each do |name|
        server.signal(name)
        server.wait_for_said(name)
      end
      expect(RawClient.open(server.port, &:get).body).to eq("hello")
    end

    it "are called at once while a request is at work" do
      server, = hanging(sleeper, before: "trap('USR2') { say 'heard' }")
      server.signal(:USR2)
      server.wait_for_said("heard")
      server.signal(:KILL)
    end

    it "that were there before the start are called behind the server's own" do
      server = serve(hello, before: <<~RUBY)
        %w[INT TERM USR1].each { |name| trap(name) { |number| say name, number == Signal.list[name], Iodine.running? } }
      RUBY
      server.signal(:USR1)
      server.wait_for_said("USR1 true true")
      server.signal(:TERM)
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said).to eq(["USR1 true true", "TERM true false"])
    end

    it "that are set by on_start take the server's place" do
      server = serve(hello, before: "Iodine.on_state(:on_start) { trap('TERM') { say 'mine' }; say 'set' }")
      server.wait_for_said("set")
      server.signal(:TERM)
      server.wait_for_said("mine")
      expect(RawClient.open(server.port, &:get).body).to eq("hello")
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
    end

    [1, 2].each do |workers|
      it "that exit do so when the server has ended, of #{workers} workers" do
        server = serve("->(_env) { say 'in'; sleep 0.3; [200, {}, ['done']] }", workers: workers, threads: 2, before: <<~RUBY)
          trap("TERM") { exit 7 }
          Iodine.on_state(:on_finish) { say "on_finish" }
        RUBY
        RawClient.open(server.port) do |client|
          client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
          server.wait_for_said("in")
          server.signal(:TERM)
          expect(client.read_response.body).to eq("done")
        end
        expect(server.wait.exitstatus).to eq(7)
        expect(server.said.tally).to eq("in" => 1, "on_finish" => workers == 1 ? 1 : 3)
        expect(server.log).not_to match(/start returned|crash/)
      end
    end

    it "are back when start returns (F-56)" do
      server = start_script(<<~RUBY)
        require "iodine"
        Iodine.workers = Iodine.threads = 1
        trap("INT") { say "mine" }
        trap("USR1", "IGNORE")
        Iodine.run { Iodine.stop }
        Iodine.start
        Process.kill(:USR1, Process.pid)
        Process.kill(:INT, Process.pid)
        say trap("TERM", "DEFAULT")
        say "ready"
        sleep
      RUBY
      expect(server.wait_for_said("ready")).to eq(%w[mine DEFAULT ready])
      server.signal(:TERM)
      expect(server.wait.termsig).to eq(Signal.list["TERM"])
    end

    it "are back when an exception ends the server" do
      server = start_script(<<~RUBY)
        require "iodine"
        Iodine.workers = Iodine.threads = 1
        trap("USR2") { raise "enough" }
        Iodine.run { Process.kill(:USR2, Process.pid) }
        begin
          Iodine.start
        rescue RuntimeError => error
          say error.message, Iodine.running?
        end
        say trap("INT", "DEFAULT"), trap("TERM", "DEFAULT")
      RUBY
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said).to eq(["enough false", "DEFAULT DEFAULT"])
    end
  end

  %w[HUP QUIT USR2 ALRM].each do |name|
    it "#{name} ends the process at once, as it ends any program (F-64)" do
      server = serve(hello, threads: 2)
      RawClient.open(server.port, &:get)
      server.signal(name)
      expect(server.wait.termsig).to eq(Signal.list[name])
    end
  end

  it "CHLD is left to the application" do
    server = serve("->(_env) { [200, {}, [`echo from a child`, $?.exitstatus.to_s, system('exit 3').to_s, $?.exitstatus.to_s]] }")
    expect(RawClient.open(server.port, &:get).body).to eq("from a child\n0false3")
  end
end
