# frozen_string_literal: true

# `Iodine.start`, `Iodine.stop` and what they say of themselves, all in one process.

RSpec.describe "starting and stopping" do
  hello = "->(_env) { [200, {}, ['hello']] }"

  # Runs a script with `app` to serve; what it said, once it has ended by itself.
  def run_script(script)
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = Iodine.threads = 1
      def serve(app = ->(_env) { [200, {}, ["hello"]] })
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: app)
      end
      #{script}
    RUBY
    expect(server.wait).to be_success, server.log
    server.said
  end

  it "returns the module, and the module when it stops" do
    said = run_script(<<~RUBY)
      serve
      say Iodine.stop.inspect
      Iodine.run { say Iodine.stop.inspect }
      say Iodine.start.inspect
      say Iodine.stop.inspect
    RUBY
    expect(said).to eq(%w[Iodine] * 4)
  end

  it "takes no arguments" do
    expect(run_script(<<~RUBY)).to eq(%w[ArgumentError ArgumentError ArgumentError])
      %i[start stop running?].each do |name|
        Iodine.public_send(name, 1)
      rescue ArgumentError => error
        say error.class
      end
    RUBY
  end

  it "tells what the process is, at each step" do
    said = run_script(<<~RUBY)
      tell = ->(moment) { say moment, Iodine.running?, Iodine.master?, Iodine.worker? }
      serve(->(_env) { tell["request"]; [200, {}, []] })
      %i[pre_start on_start start_shutdown on_finish].each { |event| Iodine.on_state(event) { tell[event] } }
      Iodine.run { Thread.new { fetch; tell["after"]; Iodine.stop } }
      tell["before"]
      Iodine.start
      tell["end"]
    RUBY
    expect(said).to eq([
                         "before false true false", "pre_start true true false", "on_start true true false",
                         "request true true true", "after true true true", "start_shutdown false true true",
                         "on_finish false true true", "end false true true"
                       ])
  end

  it "can be started again, with new listeners; on_start blocks are used up, others are not" do
    said = run_script(<<~RUBY)
      %i[pre_start on_start start_shutdown on_finish].each { |event| Iodine.on_state(event) { say event } }
      2.times do |round|
        serve(->(_env) { [200, {}, ["round \#{round}"]] })
        Iodine.on_state(:on_start) { say "new" } if round == 1
        Iodine.run { Thread.new { say fetch; Iodine.stop } }
        Iodine.start
        say Iodine.listeners.size
      end
    RUBY
    expect(said).to eq(["pre_start", "on_start", "round 0", "start_shutdown", "on_finish", "0",
                        "pre_start", "new", "round 1", "start_shutdown", "on_finish", "0"])
  end

  {
    "a request" => "Iodine.run { Thread.new { fetch; Iodine.stop } }",
    "pre_start" => "Iodine.on_state(:pre_start) { again; Iodine.stop }",
    "on_start" => "Iodine.on_state(:on_start) { again; Iodine.stop }",
    "a task" => "Iodine.run { again; Iodine.stop }",
    "a thread" => "Iodine.run { Thread.new { again; Iodine.stop } }",
    "on_finish" => "Iodine.on_state(:on_finish) { again }; Iodine.run { Iodine.stop }"
  }.each do |place, code|
    it "refuses to be started again from #{place} while it runs" do
      said = run_script(<<~RUBY)
        def again
          Iodine.start
        rescue RuntimeError => error
          say error.message
        end
        serve(->(_env) { again; [200, {}, []] })
        #{code}
        Iodine.start
        say "end"
      RUBY
      expect(said).to eq(["Iodine already running!", "end"])
    end
  end

  {
    "pre_start" => "Iodine.on_state(:pre_start) { Iodine.stop }",
    "on_start" => "Iodine.on_state(:on_start) { Iodine.stop }",
    "a task" => "Iodine.run { Iodine.stop }",
    "a task, twice" => "Iodine.run { Iodine.stop; Iodine.stop }",
    "a timer" => "Iodine.run_after(5) { Iodine.stop }",
    "a thread" => "Iodine.on_state(:on_start) { Thread.new { Iodine.stop } }",
    "a thread that was there before" => "Thread.new { Thread.pass until Iodine.worker?; Iodine.stop }",
    "a trap" => "trap('USR2') { Iodine.stop }; Iodine.run { Process.kill(:USR2, Process.pid) }"
  }.each do |place, code|
    it "is stopped from #{place}" do
      expect(run_script("serve; #{code}; Iodine.start; say Iodine.running?")).to eq(["false"])
    end
  end

  it "is stopped from a request, which is answered" do
    server = serve("->(_env) { Iodine.stop; [200, {}, ['last words']] }")
    RawClient.open(server.port) do |client|
      expect(client.get.body).to eq("last words")
      expect(client).to be_closed_by_server
    end
    expect(server.wait.exitstatus).to eq(0)
    expect(server.log).to include("start returned")
  end

  it "does not mind a stop before the start" do
    expect(run_script("Iodine.stop; serve; Iodine.run { say fetch; Iodine.stop }; Iodine.threads = 2; Iodine.start"))
      .to eq(["hello"])
  end

  {
    "Thread#kill" => "starter = Thread.new { Iodine.start }; $born.pop; $born.pop; starter.kill; starter.join",
    "an exception" => "starter = Thread.new { Iodine.start rescue nil }; $born.pop; $born.pop; starter.raise('enough'); starter.join"
  }.each do |what, code|
    it "has workers no more when #{what} has ended it" do
      server = start_script(<<~RUBY)
        require "iodine"
        Iodine.workers = 2
        $born = Queue.new
        Iodine.on_state(:enter_master) { $born << 1 }
        Iodine.threads = 1
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1") { |_env| [200, {}, []] }
        def children = `ps -o stat= --ppid \#{Process.pid}`.lines.size - 1
        #{code}
        say "children", children
        Iodine.workers = 1
        Iodine.on_state(:pre_start) { say "worker", Iodine.worker? }
        Iodine.run { Iodine.stop }
        Iodine.start
      RUBY
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said).to eq(["children 0", "worker false"])
      expect(server.log).not_to match(/crash|ERROR/)
    end
  end

  it "serves what is listened to while it runs" do
    server = serve(<<~RUBY)
      ->(_env) do
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1") { |_env| [200, {}, ["the other"]] }
        [200, {}, [Iodine.listeners.last[:port].to_s]]
      end
    RUBY
    port = RawClient.open(server.port, &:get).body.to_i
    expect(RawClient.open(port, &:get).body).to eq("the other")
  end

  it "runs without a listener" do
    expect(run_script("Iodine.run_after(1) { say 'ran'; Iodine.stop }; Iodine.start")).to eq(["ran"])
  end

  it "is over when an exception comes through it, and can be started again" do
    said = run_script(<<~RUBY)
      require "timeout"
      Iodine.threads = 3
      serve
      port = own_port
      begin
        # Longer than it takes to begin, so that it strikes while the server runs.
        Timeout.timeout(1) { Iodine.start }
      rescue Timeout::Error => error
        say error.class, Iodine.running?
      end
      begin
        fetch("/", port)
      rescue SystemCallError => error
        say error.class
      end
      say Thread.list.count { |thread| thread.name == "iodine-app" }
      serve
      Iodine.run { Thread.new { say fetch; Iodine.stop } }
      Iodine.start
    RUBY
    expect(said).to eq(["Timeout::Error false", "Errno::ECONNREFUSED", "0", "hello"])
  end

  it "is started off the main thread, where it leaves signals alone" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = 1
      Iodine.threads = 2
      Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: #{hello})
      # Once the main thread waits where it hears of the signal.
      Iodine.on_state(:on_start) { sleep 0.005 until Thread.main.stop?; say "serving" }
      main = Thread.new { Iodine.start }
      begin
        main.join
      rescue Interrupt
        say fetch
        Iodine.stop
        say main.value.inspect
      end
    RUBY
    server.wait_for_said("serving")
    server.signal(:INT)
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to eq(%w[serving hello Iodine])
  end

  it "leaves no descriptor and no thread behind, however often it is started" do
    said = run_script(<<~RUBY)
      Iodine.threads = 3
      count = -> { [Dir.children("/proc/self/fd").size, Dir.children("/proc/self/task").size] }
      # What the application keeps of a request holds no descriptor of the server that has ended.
      kept = []
      seen = Array.new(20) do
        serve(->(env) { kept << env; [200, {}, ["hello"]] })
        Iodine.run { Thread.new { fetch; Iodine.stop } }
        Iodine.start
        count.call
      end
      # Ruby keeps the native threads of some that have ended, for those to come, but not for long.
      1000.times { count.call.last > 8 ? sleep(0.01) : break }
      say seen.map(&:first).uniq.size, count.call.last <= 8, Thread.list.size
    RUBY
    expect(said).to eq(["1 true 1"])
  end

  it "leaves no descriptor and no process behind in a cluster" do
    said = run_script(<<~RUBY)
      Iodine.workers = 2
      descriptors = Array.new(3) do
        serve
        ready = Queue.new
        reader, writer = IO.pipe
        Iodine.on_state(:on_start) { writer.write("x") }
        thread = Thread.new { reader.read(2); Iodine.stop }
        Iodine.start
        thread.join
        [reader, writer].each(&:close)
        Dir.children("/proc/self/fd").size
      end
      say descriptors.uniq.size
      begin
        Process.wait
      rescue Errno::ECHILD
        say "no children"
      end
    RUBY
    expect(said).to eq(["1", "no children"])
  end
end
