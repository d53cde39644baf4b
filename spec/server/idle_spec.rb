# frozen_string_literal: true

# A server without anything to do does nothing: no timer ticks, no thread polls.

RSpec.describe "an idle server" do
  hello = "->(_env) { [200, {}, ['hello']] }"

  before { skip "only Linux tells" unless File.exist?("/proc/self/status") }

  # How often the threads of these processes were given the processor because something they waited for came.
  def switches(pids)
    pids.flat_map { |pid| Dir.glob("/proc/#{pid}/task/*/status") }.to_h do |path|
      [path, File.read(path)[/^voluntary_ctxt_switches:\s+(\d+)/, 1].to_i]
    end
  end

  # Waits until a second passes in which none of their threads wakes, nor begins a system call, where that can be watched.
  # Some may still come to rest at first.
  def expect_rest(*pids)
    watching_system_calls(pids) do |calls|
      eventually(25, "threads still wake up") do
        before = [switches(pids), calls.call]
        sleep 1
        [switches(pids), calls.call] == before
      end
    rescue RuntimeError => error
      raise "#{error.message}, at last for:\n#{calls.call.lines.last(20).join}"
    end
  end

  # Yields what gives the system calls so far.
  def watching_system_calls(pids)
    Tempfile.create("iodine-spec-strace") do |file|
      strace = start_strace(file.path, pids)
      yield -> { File.read(file.path) }
    ensure
      Process.kill(:INT, strace) && Process.wait(strace) if strace
    end
  end

  # Its pid; nil where there is no such thing.
  def start_strace(path, pids)
    Process.spawn("strace", "-f", "-q", "-o", path, *pids.flat_map { |pid| ["-p", pid.to_s] }, err: File::NULL)
  rescue Errno::ENOENT
    nil
  end

  it "wakes up for nothing, with connections open, after work" do
    server = serve(hello, threads: 4, options: "log: true", before: "idle = proc { Iodine.on_idle(&idle) }; Iodine.on_idle(&idle)")
    clients = Array.new(3) { RawClient.open(server.port) }
    clients.first(2).each { |client| 20.times { client.get } }
    expect_rest(server.pid)
    expect(clients.map { |client| client.get.body }).to all(eq("hello"))
  end

  it "wakes up for nothing in a cluster, in the root and in the workers" do
    server = serve(hello, workers: 2, threads: 2)
    clients = Array.new(6) { RawClient.open(server.port).tap(&:get) }
    expect_rest(server.pid, *server.worker_pids)
    expect(clients.map { |client| client.get.body }).to all(eq("hello"))
  end
end
