# frozen_string_literal: true

# Workers wait on the same listening sockets; each takes its share of the connections.

RSpec.describe "the balance between workers" do
  pid_app = "->(_env) { [200, {}, [Process.pid.to_s]] }"

  # How many of these connections each process serves.
  def shares(clients)
    clients.map { |client| client.get.body.to_i }.tally
  end

  it "of 64 connections at once on two workers is no worse than 40 to 24" do
    server = serve(pid_app, workers: 2)
    3.times do
      clients = Array.new(64) { RawClient.open(server.port) }
      counts = shares(clients)
      expect(counts.keys).to match_array(server.worker_pids)
      expect(counts.values.max).to be <= 40, counts.inspect
      clients.each(&:close)
    end
  end

  it "holds when they come from several places at once, and are in use" do
    server = serve(pid_app, workers: 2, threads: 2)
    clients = Array.new(4) do
      Thread.new { Array.new(16) { RawClient.open(server.port).tap(&:get) } }
    end.flat_map(&:value)
    counts = shares(clients)
    expect(counts.values.sum).to eq(64)
    expect(counts.values.max).to be <= 40, counts.inspect
  end

  it "comes back when a worker is replaced" do
    server = serve(pid_app, workers: 2)
    old = Array.new(20) { RawClient.open(server.port) }
    victim = shares(old).keys.first
    server.signal(:KILL, victim)
    server.wait_until_ready(workers: 3)
    heir = server.worker_pids.last
    fresh = Array.new(12) { RawClient.open(server.port) }
    # The survivor has ten already.
    expect(shares(fresh).fetch(heir, 0)).to be >= 8
  end

  it "does not leave connections to a worker that is busy" do
    server = serve("->(env) { (say 'in'; sleep) if env['PATH_INFO'] == '/slow'; [200, {}, [Process.pid.to_s]] }", workers: 2)
    RawClient.open(server.port).write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for_said("in")
    clients = Array.new(16) { RawClient.open(server.port) }
    clients.each { |client| client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
    # One worker's only thread sleeps; the clients of the other one do not wait for it.
    eventually(25) { clients.count { |client| client.socket.wait_readable(0) } >= 6 }
    server.signal(:KILL)
  end

  it "serves connections that nobody else takes" do
    server = serve(pid_app, workers: 2)
    stopped, going = server.worker_pids
    server.signal(:STOP, stopped)
    threads = Dir.glob("/proc/#{stopped}/task/*/stat")
    eventually { threads.all? { |path| File.read(path)[/\) (\S)/, 1] == "T" } }
    clients = Array.new(20) { RawClient.open(server.port) }
    answered = clients.select { |client| client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").socket.wait_readable(2) }
    expect(answered.size).to be >= 18
    expect(answered.map { |client| client.read_response.body.to_i }.uniq).to eq([going])
    server.signal(:CONT, stopped)
  end
end
