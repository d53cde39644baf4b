# frozen_string_literal: true

# The end of a server that is still at work: what is under way is finished, what is idle is closed.

require "tmpdir"

RSpec.describe "graceful shutdown" do
  # Sleeps for as long as the path says, in milliseconds, or until a file is there; answers with the length of the body.
  slow = <<~RUBY
    ->(env) do
      path = env["PATH_INFO"]
      say "in", path
      path.match?(%r{\\A/\\d+\\z}) ? sleep(path.delete("/").to_i / 1000.0) : (sleep 0.005 until File.exist?(path))
      [200, { "x-pid" => Process.pid.to_s }, [env["rack.input"].read.bytesize.to_s + " whole"]]
    end
  RUBY
  request = ->(path) { "GET #{path} HTTP/1.1\r\nHost: x\r\n\r\n" }

  around do |example|
    Dir.mktmpdir do |folder|
      @gate = File.join(folder, "open")
      example.run
    end
  end

  # The path of requests that wait for {#open_gate}.
  attr_reader :gate

  def open_gate
    File.write(gate, "")
  end

  # Idle connections to all workers. When they have been closed the end has begun, whereas the log tells of it right before.
  def idle_ones(server, workers = 1)
    clients = []
    pids = []
    eventually do
      clients << RawClient.open(server.port)
      pids |= [clients.last.get("/0")["x-pid"]]
      pids.size == workers
    end
    clients
  end

  def elapsed
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
  end

  # A client whose requests have reached the application.
  def under_way(server, bytes, path)
    client = RawClient.open(server.port)
    client.write(bytes)
    server.wait_for_said("in #{path}")
    client
  end

  [1, 2].each do |workers|
    it "finishes the request at work and says that it is the last one, with #{workers} worker(s)" do
      server = serve(slow, workers: workers)
      idle = idle_ones(server, workers)
      client = under_way(server, request[gate], gate)
      server.signal(:TERM)
      expect(idle).to all(be_closed_by_server)
      open_gate
      answer = client.read_response
      expect([answer.status, answer.body, answer["connection"]]).to eq([200, "0 whole", "close"])
      expect(client).to be_closed_by_server
      expect(server.wait.exitstatus).to eq(0)
    end
  end

  it "finishes requests that wait behind others" do
    server = serve(slow)
    clients = Array.new(5) { RawClient.open(server.port).write(request["/60"]) }
    server.wait_for_said("in /60")
    server.signal(:INT)
    expect(clients.map { |client| client.read_response.body }).to all(eq("0 whole"))
    expect(clients).to all(be_closed_by_server)
    expect(server.wait.exitstatus).to eq(0)
  end

  it "serves those who are connected, but not yet accepted" do
    server = serve(slow)
    busy = under_way(server, request["/200"], "/200")
    clients = Array.new(40) { RawClient.open(server.port).write(request["/0"]) }
    server.signal(:INT)
    answers = [busy, *clients].map(&:read_response)
    expect(answers.map(&:status)).to all(eq(200))
    expect(clients).to all(be_closed_by_server)
    expect(server.wait.exitstatus).to eq(0)
  end

  it "finishes all requests of a client that pipelines, and tells it with the last" do
    server = serve(slow)
    idle = idle_ones(server)
    client = under_way(server, request[gate] + request["/1"] * 4, gate)
    server.signal(:INT)
    expect(idle).to all(be_closed_by_server)
    open_gate
    answers = Array.new(5) { client.read_response }
    expect(answers.map(&:body)).to all(eq("0 whole"))
    expect(answers.map { |answer| answer["connection"] }).to eq([nil, nil, nil, nil, "close"])
    expect(client).to be_closed_by_server
  end

  it "finishes a request whose head is on its way" do
    server = serve(slow)
    late = RawClient.open(server.port).write("GET /0 HTTP/1.1\r\nHo")
    idle = idle_ones(server)
    server.signal(:INT)
    expect(idle).to all(be_closed_by_server)
    late.write("st: x\r\n\r\n")
    answer = late.read_response
    expect([answer.body, answer["connection"]]).to eq(["0 whole", "close"])
    expect(server.wait.exitstatus).to eq(0)
  end

  it "finishes a request whose body is on its way" do
    server = serve(slow)
    late = RawClient.open(server.port).write("POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n#{"a" * 50_000}")
    idle = idle_ones(server)
    server.signal(:INT)
    expect(idle).to all(be_closed_by_server)
    late.write("b" * 50_000)
    answer = late.read_response
    expect([answer.body, answer["connection"]]).to eq(["100000 whole", "close"])
    expect(server.wait.exitstatus).to eq(0)
  end

  it "finishes a long answer to a client that takes its time" do
    server = serve("->(_env) { [200, {}, ['x' * 8_000_000]] }")
    client = RawClient.open(server.port).write(request["/"])
    client.socket.wait_readable(5)
    server.signal(:INT)
    server.wait_for_log(/detected exit signal/)
    expect(server).to be_alive
    expect(client.read_response.body.bytesize).to eq(8_000_000)
    expect(client).to be_closed_by_server
    expect(server.wait.exitstatus).to eq(0)
  end

  it "finishes tasks that run, and only then fires on_finish" do
    server = serve(slow, before: <<~RUBY)
      Iodine.run { say "task"; sleep 0.005 until $ending; sleep 0.3; say "task done" }
      Iodine.on_state(:start_shutdown) { say "start_shutdown"; $ending = true }
      Iodine.on_state(:on_finish) { say "on_finish" }
    RUBY
    server.wait_for_said("task")
    server.stop
    expect(server.said).to eq(["task", "start_shutdown", "task done", "on_finish"])
  end

  it "closes idle connections at once" do
    server = serve(slow)
    clients = Array.new(4) { RawClient.open(server.port) }
    clients.first(2).each { |client| client.get("/0") }
    seconds = elapsed do
      server.signal(:INT)
      expect(clients).to all(be_closed_by_server)
      server.wait
    end
    expect(server.status.exitstatus).to eq(0)
    # They might stay for 40 s.
    expect(seconds).to be < 15
  end

  it "does not answer who comes too late, and closes their connections in the end" do
    server = serve(slow)
    idle = idle_ones(server)
    client = under_way(server, request[gate], gate)
    server.signal(:INT)
    expect(idle).to all(be_closed_by_server)
    begin
      late = RawClient.open(server.port).write(request["/1"])
    rescue Errno::ECONNREFUSED, Errno::ECONNRESET, Errno::EPIPE
      # Better still.
    end
    open_gate
    expect([*late]).to all(be_closed_by_server)
    expect(client.read_response.body).to eq("0 whole")
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to eq(["in /0", "in #{gate}"])
  end

  # By default that is 30 s.
  describe "takes no longer than it may" do
    def ends_within(server, range)
      seconds = elapsed do
        server.signal(:INT)
        expect(server.wait.exitstatus).to eq(0)
      end
      expect(seconds).to be_between(range.begin, range.end)
      expect(server.log).to include("Shutdown Complete", "start returned")
    end

    {
      "DEFAULT_SETTINGS[:shutdown_timeout]" => { before: "Iodine::DEFAULT_SETTINGS[:shutdown_timeout] = 1" },
      "IODINE_SHUTDOWN_TIMEOUT" => { env: { "IODINE_SHUTDOWN_TIMEOUT" => "1" } }
    }.each do |setting, options|
      it "by #{setting}, when a request hangs" do
        server = serve(slow, **options)
        client = under_way(server, request["/60000"], "/60000")
        ends_within(server, 0.9..15)
        expect(client).to be_closed_by_server
      end
    end

    half = "Iodine::DEFAULT_SETTINGS[:shutdown_timeout] = 0.5"

    it "when a request hangs in a cluster" do
      server = serve(slow, workers: 2, before: half)
      client = under_way(server, request["/60000"], "/60000")
      ends_within(server, 0.4..15)
      expect(client).to be_closed_by_server
      expect(server.log).not_to include("crash")
    end

    it "when a client does not finish its request" do
      server = serve(slow, before: half)
      head = RawClient.open(server.port).write("GET / HTT")
      body = RawClient.open(server.port).write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc")
      under_way(server, request["/0"], "/0").read_response
      ends_within(server, 0.4..15)
      expect([head, body]).to all(be_closed_by_server)
    end

    it "when a client does not read its answer" do
      server = serve("->(_env) { say 'in'; [200, {}, ['x' * 20_000_000]] }", before: half)
      client = RawClient.open(server.port).write(request["/"])
      client.socket.wait_readable(5)
      ends_within(server, 0.4..15)
    end

    it "when a task hangs" do
      server = serve(slow, before: "#{half}; Iodine.run { say 'task'; sleep }")
      server.wait_for_said("task")
      ends_within(server, 0.4..15)
    end
  end
end
