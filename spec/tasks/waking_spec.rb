# frozen_string_literal: true

# Tasks and timers in numbers, from every kind of thread, in every state of the server.

require_relative "../support/ruby_script"

RSpec.describe "tasks" do
  include RubyScript

  # Seconds of processor time that a process has used.
  def cpu_of(pid)
    File.read("/proc/#{pid}/stat").rpartition(")").last.split.values_at(11, 12).sum(&:to_i) / 100.0
  end

  describe "timers in thousands" do
    it "cost an idle server nothing, fire all when they are due, and are dropped at the stop" do
      server = start_script(<<~RUBY)
        require "iodine"
        Iodine.threads = Iodine.workers = 1
        5_000.times { Iodine.run_after(3_600_000) { say "never" } }
        Iodine.on_state(:on_start) do
          left = 5_000
          5_000.times { |number| Iodine.run_after(number % 50) { say "all" if (left -= 1).zero? } }
        end
        Iodine.start
      RUBY
      server.wait_for_said("all")
      # What it does behind the last of them may come late, but a time comes in which it does nothing.
      eventually(25, "it is not idle") do
        before = cpu_of(server.pid)
        sleep 0.5
        cpu_of(server.pid) - before < 0.1
      end
      server.signal(:TERM)
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said).to eq(["all"])
    end
  end

  # An idle server waits in its poller; who asks from elsewhere must not have to wait for its next event: here there is none
  # before they have what they asked for.
  it "are run at once, whoever asks: threads of the application, of the server, and of callbacks" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.threads = 2
      Iodine.workers = 1
      $done = Queue.new
      def done(name) = $done << name
      def wait_for_it
        say $done.pop
        sleep 0.1
      end
      Iodine.on_state(:on_start) do
        Thread.new do
          sleep 0.1
          Iodine.run { done("foreign run") }
          wait_for_it
          Iodine.run_after(5) { done("foreign timer") }
          wait_for_it
          Iodine.run { Iodine.run { Iodine.run { done("nested") } } }
          wait_for_it
          Iodine.subscribe("c") { done("published") }
          Iodine.publish("c", "m")
          wait_for_it
          a, b = UNIXSocket.pair
          Iodine.attach_fd(a.fileno, Class.new { define_method(:on_message) { |client, data| client.write(data) } }.new)
          b.write("x")
          done("attached") if b.readpartial(1) == "x"
          wait_for_it
          Iodine.stop
        end
      end
      Iodine.start
      say "stopped"
    RUBY
    expect(server.wait).to be_success
    expect(server.said).to eq(["foreign run", "foreign timer", "nested", "published", "attached", "stopped"])
  end

  it "from before the start run in the order in which they were given, once per process (F63)" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = 2
      Iodine.threads = 1
      3.times { |number| Iodine.run { say number, Iodine.master?, Iodine.worker?, Process.pid } }
      Iodine.start
    RUBY
    server.wait_until_ready(workers: 2)
    eventually { server.said.size == 9 }
    by_process = server.said.map(&:split).group_by(&:last).transform_values { |lines| lines.map { |line| line.first(3) } }
    worker = %w[0 1 2].map { |number| [number, "false", "true"] }
    expect(by_process).to eq(server.pid.to_s => %w[0 1 2].map { |number| [number, "true", "false"] },
                             server.worker_pids[0].to_s => worker, server.worker_pids[1].to_s => worker)
  end

  it "that callbacks of a worker's birth ask for are that worker's, as are its clients and publications" do
    listener = TCPServer.new("127.0.0.1", 0)
    asks = <<~RUBY
      Iodine.run { say event, "task", Process.pid }
      Iodine.run_after(1) { say event, "timer", Process.pid }
      Iodine.publish(event, Process.pid.to_s)
      client = Class.new { define_method(:on_open) { |_| say event, "client", Process.pid } }
      Iodine.connect(url: "tcp://127.0.0.1:#{listener.addr[1]}", handler: client.new)
    RUBY
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = 2
      Iodine.threads = 1
      %w[after_fork enter_child on_start].each do |event|
        Iodine.subscribe(event) { |_, pid| say event, "message", pid if pid == Process.pid.to_s }
        Iodine.on_state(event.to_sym) { next if Iodine.master?; #{asks.lines.map(&:strip).join("; ")} }
      end
      Iodine.start
    RUBY
    server.wait_until_ready(workers: 2)
    wanted = server.worker_pids.product(%w[after_fork enter_child on_start], %w[task timer message client])
    wanted = wanted.map { |pid, event, what| "#{event} #{what} #{pid}" }.sort
    eventually { server.said.size >= wanted.size }
    expect(server.said.sort).to eq(wanted)
  ensure
    listener&.close
  end

  it "are not the business of a child that the application forks, which may ask for them all the same" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = 1
      Iodine.threads = 2
      timer = Iodine.run_every(5) { say "in the child" if Process.pid != $server }
      $server = Process.pid
      Iodine.on_state(:on_start) do
        Iodine.run do
          pid = fork do
            Iodine.run { say "in the child" }
            Iodine.run_after(1) { say "in the child" }
            Iodine.on_idle { say "in the child" }
            Iodine.subscribe("c") { say "in the child" }
            Iodine.publish("c", "m")
            Iodine.cancel(timer)
            sleep 0.1
            exit!(7)
          end
          say Process.wait2(pid).last.exitstatus, Iodine.cancel(timer)
          Iodine.run { say "goes on"; Iodine.stop }
        end
      end
      Iodine.start
    RUBY
    expect(server.wait).to be_success
    expect(server.said).to eq(["7 true", "goes on"])
  end

  describe "without a server" do
    it "neither crash nor hang at the end of the process (F5)" do
      {
        "Iodine.run { }" => "", "Iodine.defer { raise 'x' }; Iodine.run_after(1) { }; Iodine.run_every(1) { }" => "",
        "Iodine.subscribe('a') { }; Iodine.publish('a', 'b')" => "", "Iodine.on_idle { }; Iodine.on_state(:on_finish) { }" => "",
        "p Iodine.publish('a', 'b'), Iodine.unsubscribe('a'), Iodine.subscribe(:s) { }, Iodine.unsubscribe(:s)" => "true\nfalse\n:s\ntrue\n",
        "1000.times { Iodine.publish('a', 'b' * 1000) }; Thread.new { loop { Iodine.run { } } }; sleep 0.05" => "",
        "p Iodine.stop, Iodine.running?" => "Iodine\nfalse\n", "Iodine::Connection.new.write('x')" => "",
        "Iodine.connect(url: 'tcp://127.0.0.1:1', handler: 1); Iodine.attach_fd(0, 1)" => "",
        "at_exit { Iodine.run { }; Iodine.publish('a', 'b'); Iodine.subscribe('c') { } }" => "",
        "Iodine.workers = Iodine.threads = 1; Iodine.run { Iodine.stop }; Iodine.verbosity = 0; Iodine.start; " \
        "Iodine.publish('a', 'b'); Iodine.run { puts 'never' }; puts 'end'" => "end\n"
      }.each { |script, said| expect([script, output_of(script).gsub(/^WARNING: .*\n/, "")]).to eq([script, said]) }
    end

    it "keep what is published for the subscribers of a server that starts later" do
      server = start_script(<<~RUBY)
        require "iodine"
        Iodine.workers = Iodine.threads = 1
        Iodine.publish("a", "early")
        Iodine.subscribe("a") { |channel, message| say channel, message; Iodine.stop }
        Iodine.start
      RUBY
      expect(server.wait).to be_success
      expect(server.said).to eq(["a early"])
    end
  end
end
