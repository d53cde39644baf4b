# frozen_string_literal: true

# What becomes of connections when the server ends.

RSpec.describe "connections of a server that ends", :real_time do
  def server
    @server ||= serve(Asking::APP, threads: 4, options: options, before: <<~RUBY)
      #{RealTime::SETUP}
      Iodine.on_state(:on_finish) { say "finished \#{$closed.to_i}" }
    RUBY
  end

  let(:options) { "" }

  def end_server
    @ended = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    server.signal(:TERM)
  end

  # The server has ended by itself, well, and before its patience ended, which takes half a minute. Returns the seconds.
  def expect_end
    expect(server.wait.exitstatus).to eq(0)
    took = Process.clock_gettime(Process::CLOCK_MONOTONIC) - @ended
    expect(server.log).to include("start returned")
    expect(server.log).not_to match(/ERROR|FATAL|WARN/)
    took
  end

  # The block has a server of its own end, and returns how long that took. The machine may stand still for as long as what is
  # told apart by that: the least of a few counts.
  def expect_within(seconds)
    took = Array.new(3) do
      @server = nil
      yield.tap { |time| return if time < seconds }
    end
    raise "it took #{took} s"
  end

  it "hear of it, and what they write then arrives before the Close with 1001" do
    socket = web_socket(<<~RUBY)
      on(on_shutdown: ->(c) { say "shutdown \#{c.open?}"; c.write("bye"); c.write("x" * 5_000_000); c.write("end") },
         on_close: ->(c) { say "closed \#{c.open?}" }, on_open: ->(c) { c.write("open") })
    RUBY
    expect(socket.read_message).to eq("open")
    end_server
    expect([socket.read_message, socket.read_message.bytesize, socket.read_message]).to eq(["bye", 5_000_000, "end"])
    expect(socket.let_go.first).to eq(1001)
    expect_end
    expect(server.said).to eq(["shutdown true", "closed false", "finished 0"])
  end

  it "are closed with 1001 without on_shutdown, too, and those that do not answer do not hold it up" do
    # They have a second, not the five of another time.
    expect_within(3) do
      socket = web_socket("on(on_close: ->(c) { say 'closed' })")
      socket.text("x").frame(:ping, "y").read_frame
      end_server
      expect(socket.read_close.first).to eq(1001)
      expect_end.tap { expect(server.said).to eq(["closed", "finished 0"]) }
    end
  end

  it "may choose their own code" do
    socket = web_socket("on(on_shutdown: ->(c) { c.close(4001, 'come back'); c.write('late') })")
    socket.frame(:ping, "y").read_frame
    end_server
    expect(socket.let_go).to eq([4001, "come back"])
    expect_end
  end

  it "F66: may publish: others that are not closed yet hear it" do
    # The first is not closed as long as this file is there.
    gate = Tempfile.new("iodine-spec-gate")
    first = web_socket("on(on_open: ->(c) { c.subscribe('last words'); c.write('open') }, on_shutdown: ->(c) { sleep 0.01 while File.exist?(#{gate.path.inspect}) })")
    expect(first.read_message).to eq("open")
    second = web_socket("on(on_open: ->(c) { c.write('open') }, on_shutdown: ->(c) { c.publish('last words', 'farewell') })")
    expect(second.read_message).to eq("open")
    end_server
    expect(first.read_message).to eq("farewell")
    gate.unlink
    expect([first.let_go.first, second.let_go.first]).to eq([1001, 1001])
    expect_end
  end

  it "finish the callback at work before" do
    socket = web_socket("on(on_message: ->(c, _) { c.write('begun'); sleep 0.15; c.write('done') }, on_shutdown: ->(c) { c.write('shutdown') })")
    # Both are there when it begins.
    socket.write(%w[x y].map { |text| WebSocketClient.frame(:text, text) }.join)
    expect(socket.read_message).to eq("begun")
    end_server
    expect(Array.new(4) { socket.read_message }).to eq(%w[done begun done shutdown])
    expect(socket.let_go.first).to eq(1001)
    expect_end
  end

  it "that raise in on_shutdown are closed all the same" do
    socket = web_socket("on(on_shutdown: ->(c) { raise 'no' }, on_close: ->(c) { say 'closed' })").frame(:ping, "")
    socket.read_frame
    end_server
    expect(socket.let_go.first).to eq(1001)
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to eq(["closed", "finished 0"])
    expect(server.log).to include("RuntimeError: no")
  end

  it "of streams of events get what is written, and their end" do
    stream = event_stream("on(on_shutdown: ->(c) { c.write('bye') }, on_close: ->(c) { say 'closed' })")
    end_server
    expect(stream.read_event).to eq(["data: bye"])
    expect(stream.read_all).to eq("")
    expect_end
    expect(server.said).to eq(["closed", "finished 0"])
  end

  describe "that do not read" do
    def expect_quick_end(seconds)
      expect_within(seconds) do
        socket = web_socket("on(on_shutdown: ->(c) { c.write('x' * 30_000_000) }, on_close: ->(c) { say 'closed' })").frame(:ping, "")
        socket.read_frame
        end_server
        expect_end.tap { expect(server.said).to eq(["closed", "finished 0"]) }
      end
    end

    # Not for as long as write_timeout, which is half a minute.
    it("do not hold it up for long", :slow) { expect_quick_end(8) }

    context "with a write_timeout" do
      let(:options) { "write_timeout: 0.2" }

      it("do not hold it up") { expect_quick_end(3) }
    end

    it "and have not for a while may still begin to" do
      socket = web_socket("on(on_message: ->(c, _) { c.write('x' * 30_000_000); say 'wrote' }, on_shutdown: ->(c) { c.write('bye'); say 'told' })").text("x")
      server.wait_for_said("wrote")
      end_server
      server.wait_for_said("told")
      expect([socket.read_message.bytesize, socket.read_message]).to eq([30_000_000, "bye"])
      expect(socket.let_go.first).to eq(1001)
      expect_end
    end
  end

  it "may close while it ends: 200 of them, each told once" do
    sockets = Array.new(200) do
      web_socket("$closed = 0; $lock = Mutex.new; on(on_open: ->(c) { c.write('o') }, on_shutdown: ->(c) { c.write('bye') }, " \
                 "on_close: ->(c) { $lock.synchronize { $closed += 1 } })")
    end
    sockets.each { |socket| expect(socket.read_message).to eq("o") }
    value_of("$closed = 0; nil")
    leaving = Thread.new { sockets.each_with_index { |socket, n| n.even? ? socket.close : socket.bye(1000) } }
    end_server
    leaving.join
    expect_end
    expect(server.said).to eq(["finished 200"])
  end

  it "are not upgraded any more when it has begun" do
    late = WebSocketClient.open(server.port)
    (@sockets ||= []) << late
    code = "say 'at work'; sleep 0.15; env['rack.upgrade'] = on(on_open: ->(c) { say 'open' }, on_close: ->(c) { say 'closed' }); [200, {}, []]"
    late.write(WebSocketClient.handshake(lines: code_line(code)))
    server.wait_for_said("at work")
    end_server
    expect(late.read_response.status).to eq(101)
    expect(late.let_go.first).to eq(1001)
    expect_end
    expect(server.said).to eq(["at work", "open", "closed", "finished 0"])
  end

  describe "with workers" do
    def server
      @server ||= serve(Asking::APP, threads: 2, workers: 2, before: RealTime::SETUP)
    end

    code = "on(on_open: ->(c) { c.write(Process.pid.to_s) }, on_shutdown: ->(c) { c.write('bye') }, on_close: ->(c) { say 'closed' })"

    it "hear of it in each of them" do
      sockets = Array.new(8) { web_socket(code) }
      sockets.each(&:read_message)
      end_server
      sockets.each { |socket| expect([socket.read_message, socket.let_go.first]).to eq(["bye", 1001]) }
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said).to eq(["closed"] * 8)
    end

    it "hear of it when the workers are replaced, and those who come back are served" do
      socket = web_socket(code)
      pid = socket.read_message
      server.signal(:USR1)
      expect(socket.read_message).to eq("bye")
      expect(socket.let_go.first).to eq(1001)
      expect(web_socket(code).read_message).not_to eq(pid)
    end
  end
end
