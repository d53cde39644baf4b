# frozen_string_literal: true

# Workers wait on the same listening sockets; each takes its share of the connections.

RSpec.describe "the balance between workers" do
  pid_app = "->(_env) { [200, {}, [Process.pid.to_s]] }"

  # How many of these connections each process serves.
  def shares(clients)
    clients.map { |client| client.get.body.to_i }.tally
  end

  # What the block returns, and how many connections may have gone to the wrong worker meanwhile: when one stands still, the
  # other takes one of those that it has left to it every 2 ms (LEAVE_FOR in reactor/accept.rs).
  def with_strays
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    [yield, ((Process.clock_gettime(Process::CLOCK_MONOTONIC) - began) / 0.002).floor]
  end

  it "of 64 connections at once on two workers is no worse than 40 to 24" do
    server = serve(pid_app, workers: 2)
    3.times do
      clients = []
      counts, strays = with_strays { shares(clients.concat(Array.new(64) { RawClient.open(server.port) })) }
      expect(server.worker_pids).to include(*counts.keys)
      expect(counts.values.max).to be <= [40, 34 + strays].max, counts.inspect
      clients.each(&:close)
    end
  end

  it "holds when they come from several places at once, and are in use" do
    server = serve(pid_app, workers: 2, threads: 2)
    clients, strays = with_strays do
      Array.new(4) { Thread.new { Array.new(16) { RawClient.open(server.port).tap(&:get) } } }.flat_map(&:value)
    end
    counts = shares(clients)
    expect(counts.values.sum).to eq(64)
    expect(counts.values.max).to be <= [40, 34 + strays].max, counts.inspect
  end

  it "comes back when a worker is replaced" do
    server = serve(pid_app, workers: 2)
    old = []
    eventually do
      counts = shares(old << RawClient.open(server.port))
      counts.size == 2 && counts.values.min >= 10
    end
    victim = shares(old).keys.first
    server.signal(:KILL, victim)
    server.wait_until_ready(workers: 3)
    heir = server.worker_pids.last
    counts, strays = with_strays { shares(Array.new(12) { RawClient.open(server.port) }) }
    # The survivor has ten already.
    expect(counts.fetch(heir, 0)).to be >= [8, 9 - strays].min, counts.inspect
  end

  it "does not leave connections to a worker that is busy" do
    server = serve("->(env) { (say 'in'; sleep) if env['PATH_INFO'] == '/slow'; [200, {}, [Process.pid.to_s]] }", workers: 2)
    RawClient.open(server.port).write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for_said("in")
    # One worker's only thread sleeps; the clients of the other one do not wait for it. Where that one stands still when they
    # come, they go to the sleeper, and those who come next are all its own.
    rounds = []
    answered = -> { rounds.last.count { |client| client.socket.wait_readable(0) } >= 6 }
    eventually(25) do
      rounds << Array.new(16) { RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
      300.times { answered.call ? break : sleep(0.01) }
      answered.call
    end
    server.signal(:KILL)
  end

  it "serves connections that nobody else takes" do
    server = serve(pid_app, workers: 2)
    stopped, going = server.worker_pids
    server.signal(:STOP, stopped)
    threads = Dir.glob("/proc/#{stopped}/task/*/stat")
    eventually { threads.all? { |path| File.read(path)[/\) (\S)/, 1] == "T" } }
    clients = Array.new(20) { RawClient.open(server.port) }
    answered = clients.select { |client| client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").socket.wait_readable(15) }
    expect(answered.size).to be >= 18
    expect(answered.map { |client| client.read_response.body.to_i }.uniq).to eq([going])
    server.signal(:CONT, stopped)
  end
end
