# frozen_string_literal: true

# `Iodine.attach_fd`: sockets and pipes of the application's own.

require_relative "../support/talking"

RSpec.describe "Iodine.attach_fd" do
  include Talking

  describe "in a running server" do
    serve_for_all(Asking::APP, threads: 4, before: Talking::RECORDER)

    echo = "Recorder.new(name, on_message: ->(client, data) { client.write(data.upcase) })"

    # Attaches the one end of a pair, and gives the other one to the block of source; its value.
    def attached(handler, code, name: fresh_name)
      value_of(<<~RUBY)
        name = #{name.inspect}
        ours, theirs = UNIXSocket.pair
        handler = #{handler}
        given = Iodine.attach_fd(theirs.fileno, handler)
        theirs.close
        begin
          #{code}
        ensure
          ours.close
        end
      RUBY
    end

    it "gives the handler back, and speaks with the socket though the caller has closed its own" do
      name = fresh_name
      told = attached(echo, "ours.write('hello'); [given.equal?(handler), ours.readpartial(5), $clients[name].protocol]", name: name)
      expect(told).to eq([true, "HELLO", :raw])
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_open", 'on_message "hello"', "on_close"])
    end

    it "has called on_open when it returns, on the calling thread" do
      order = "Recorder.new(name, on_open: ->(client) { $opened = Thread.current; client.write('open') })"
      expect(attached(order, "[$opened == Thread.current, ours.readpartial(4)]")).to eq([true, "open"])
      told = value_of(<<~RUBY)
        Thread.new do
          a, b = UNIXSocket.pair
          seen = nil
          Iodine.attach_fd(a.fileno, Recorder.new("thread", on_open: ->(_) { seen = Thread.current }))
          [a, b].each(&:close)
          seen == Thread.current
        end.value
      RUBY
      expect(told).to be(true)
    end

    it "logs what on_open raises, and goes on" do
      name = fresh_name
      failing = "Recorder.new(name, on_open: ->(_) { raise 'not today, ' + name }, on_message: ->(client, data) { client.write(data) })"
      expect(attached(failing, "ours.write('x'); ours.readpartial(1)", name: name)).to eq("x")
      server.wait_for_log(/unprotected exception - RuntimeError: not today, #{name}/)
    end

    it "hears what was there before, and an end that was" do
      name = fresh_name
      value_of(<<~RUBY)
        ours, theirs = UNIXSocket.pair
        ours.write("before")
        ours.close
        Iodine.attach_fd(theirs.fileno, Recorder.new(#{name.inspect}))
        theirs.close
        nil
      RUBY
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_open", 'on_message "before"', "on_close"])
    end

    it "takes the ends of pipes, of which one is only read and the other one only written" do
      name = fresh_name
      told = value_of(<<~RUBY)
        name = #{name.inspect}
        reader, writer = IO.pipe
        Iodine.attach_fd(reader.fileno, Recorder.new(name))
        reader.close
        writer.write("through the pipe")
        writer.close
        reader, writer = IO.pipe
        Iodine.attach_fd(writer.fileno, Recorder.new(name + "w", on_open: ->(client) { client.write("x" * 300_000); client.close }))
        writer.close
        text = reader.read
        [text.bytesize, text.count("x")]
      RUBY
      expect(told).to eq([300_000, 300_000])
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_open", 'on_message "through the pipe"', "on_close"])
      wait_until_told("#{name}w", "on_close")
    end

    it "takes TCP sockets, also hijacked ones" do
      name = fresh_name
      RawClient.open(server.port) do |client|
        client.write(request_for("io = env['rack.hijack'].call; io.write('yours'); " \
                                 "Iodine.attach_fd(io.fileno, Recorder.new(#{name.inspect}, on_message: ->(c, d) { c.write(d.upcase) })); " \
                                 "io.close; [200, {}, []]"))
        expect(client.read_exactly(5)).to eq("yours")
        client.write("now raw")
        expect(client.read_exactly(7)).to eq("NOW RAW")
      end
      wait_until_told(name, "on_close")
    end

    it "refuses what is no descriptor, and no handler" do
      told = value_of(<<~RUBY)
        socket, = UNIXSocket.pair
        file = File.open(RbConfig.ruby)
        number = IO.pipe.then { |pair| pair.last.fileno.tap { pair.each(&:close) } }
        [["x", 1], [nil, 1], [1.5, 1], [socket.fileno, nil], [socket.fileno, true], [socket.fileno, false], [-1, 1], [number, 1],
         [2**20, 1], [2**40, 1], [file.fileno, 1]].map do |fd, handler|
          Iodine.attach_fd(fd, handler)
          "none"
        rescue Exception => error
          "\#{error.class}: \#{error.message}"
        end
      RUBY
      expect(told).to match([/\ATypeError: /, /\ATypeError: /, /\ATypeError: /,
                             *["ArgumentError: A callback object must be provided."] * 3, *["IOError: invalid fd."] * 5])
    end

    it "dies with a thread that is killed in its on_open, and leaves the connection to others" do
      name = fresh_name
      value_of(<<~RUBY)
        name = #{name.inspect}
        $ours, theirs = UNIXSocket.pair
        Thread.new do
          Iodine.attach_fd(theirs.fileno, Recorder.new(name, on_open: ->(_) { Thread.current.kill }, on_message: ->(c, d) { c.write(d) }))
        end.join
        theirs.close
        nil
      RUBY
      expect(value_of("$ours.write('still'); $ours.readpartial(5).tap { $ours.close }")).to eq("still")
      wait_until_told(name, "on_close")
    end
  end

  # A script whose descriptor 3 is the one end of a pair; yields the other one.
  def with_descriptor(script)
    ours, theirs = UNIXSocket.pair
    path = File.join(Dir.mktmpdir("iodine-spec"), "given.sock")
    # Spawned servers have no descriptors but the usual ones, so that they are given a socket to connect to.
    listener = UNIXServer.new(path)
    server = start_script(<<~RUBY)
      require "iodine"
      #{Talking::RECORDER}
      Iodine.threads = 1
      socket = UNIXSocket.new(#{path.inspect})
      #{script}
      Iodine.start
    RUBY
    peer = PeerServer.new(listener).accept
    yield server, peer
  ensure
    [ours, theirs, listener, peer].compact.each(&:close)
    FileUtils.rm_rf(File.dirname(path)) if path
  end

  greeting = "Recorder.new('a', on_open: ->(client) { client.write(\"\#{Process.pid}\\n\") }, on_shutdown: ->(client) { client.write('bye') })"

  [1, 2].each do |workers|
    it "before the start is a matter of the root process, once it runs, with #{workers} worker#{"s" if workers > 1}" do
      with_descriptor("Iodine.workers = #{workers}; Iodine.attach_fd(socket.fileno, #{greeting}); socket.close") do |server, peer|
        expect(peer.read_line.to_i).to eq(server.pid)
        server.wait_until_ready(workers: workers)
        server.signal(:INT)
        # No worker holds a copy of the socket.
        expect(peer.read_all).to eq("bye")
        expect(server.wait.exitstatus).to eq(0)
        expect(server.said).to eq(["a on_open", "a on_shutdown", "a on_close"])
      end
    end
  end

  { pre_start: 1, on_start: 1, enter_master: 2 }.each do |event, workers|
    it "works in #{event}" do
      once = "Iodine.on_state(:#{event}) { next if socket.closed?; Iodine.attach_fd(socket.fileno, #{greeting}); say 'attached'; socket.close }"
      with_descriptor("Iodine.workers = #{workers}; #{once}") do |server, peer|
        expect(peer.read_line.to_i).to eq(server.pid)
        server.wait_until_ready(workers: workers)
        server.signal(:INT)
        server.wait
        # Where the server runs, on_open has run when the call returns; before, it is a matter of the start.
        first = event == :enter_master ? ["a on_open", "attached"] : ["attached", "a on_open"]
        expect(server.said.first(2)).to eq(first)
      end
    end
  end

  it "in the root of a cluster is not there for workers that come later" do
    with_descriptor(<<~RUBY) do |server, peer|
      Iodine.workers = 1 + 1
      Iodine.attach_fd(socket.fileno, #{greeting})
      Iodine.on_state(:on_start) { client = $clients["a"]; say "worker", client && [client.open?, client.write("x"), client.pending].inspect }
    RUBY
      peer.read_line
      server.wait_until_ready(workers: 2)
      server.signal(:KILL, server.worker_pids.first)
      server.wait_for_said("worker [false, nil, -1]")
      expect(peer).to be_silent(0)
      server.signal(:INT)
      expect(peer.read_all).to eq("bye")
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said.grep(/on_close/)).to eq(["a on_close"])
    end
  end

  it "while the server stops has its handler told of that, and holds nothing up" do
    with_descriptor("Iodine.workers = 1; other, theirs = UNIXSocket.pair; Iodine.attach_fd(socket.fileno, Recorder.new('a', " \
                    "on_shutdown: ->(_) { Iodine.attach_fd(theirs.fileno, Recorder.new('late', on_shutdown: ->(client) { client.write('bye') })) }))") do |server, _|
      server.wait_for_said("a on_open")
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said).to include("late on_open", "late on_shutdown", "late on_close")
    end
  end

  it "by threads of the application does not hang when the server ends meanwhile" do
    # Without an end of what is attached, the server waits for as long as it may.
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = Iodine.threads = 1
      Iodine::DEFAULT_SETTINGS[:shutdown_timeout] = 1
      Iodine.on_state(:on_start) do
        3.times do
          Thread.new do
            loop do
              pair = UNIXSocket.pair
              Iodine.attach_fd(pair.first.fileno, Object.new)
              pair.each(&:close)
            end
          end
        end
        Thread.new { sleep 0.2; Iodine.stop }
      end
      Iodine.start
      say "done"
    RUBY
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to eq(["done"])
  end
end
