# frozen_string_literal: true

# Peers that are silent, and peers that do not read.

RSpec.describe "WebSockets that are kept", :real_time do
  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  # Talks by turns on a socket. A peer that is held up by its machine between two of them, by its own clock for `silence`, may
  # have been pinged or closed for that: then another one tries.
  def in_turns(silence, code = "echo", **options)
    eventually do
      turns = []
      turn = lambda do |&act|
        began = now
        act.call
      ensure
        turns << [began, now]
      end
      socket = turn.call { web_socket(code, **options) }
      yield socket, turn
      true
    rescue RSpec::Expectations::ExpectationNotMetError, EOFError, SystemCallError
      raise unless turns.each_cons(2).any? { |(began, _), (_, ended)| ended - began >= silence }
    end
  end

  describe "by pings" do
    serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP, options: "ping: 0.15")

    it "get one after so much silence, again and again while they answer" do
      in_turns(0.3, "on(on_open: ->(c) { tell(c.timeout) })") do |socket, turn|
        expect(socket.read_frame).to eq(Frame.new(:ping, true, false, ""))
        2.times do
          spoke = now
          turn.call { socket.frame(:pong) }
          expect(socket.read_frame).to eq(Frame.new(:ping, true, false, ""))
          expect(now - spoke).to be >= 0.15
        end
      end
    end

    it "F30: are closed when no pong comes" do
      socket = web_socket("on(on_close: ->(c) { tell(c.close_code) })")
      expect(socket.read_frame.opcode).to eq(:ping)
      expect(told).to eq([nil])
      expect(socket.read_all).to eq("")
    end

    it "are not closed while anything comes" do
      in_turns(0.3) do |socket, turn|
        4.times { turn.call { expect(socket.text("x").read_message).to eq("x") } and sleep 0.11 }
        turn.call { expect(socket.text("y").read_message).to eq("y") }
      end
    end

    it "are not pinged while they talk" do
      in_turns(0.15) do |socket, turn|
        10.times do
          turn.call { expect(socket.text("x").read_frame.opcode).to eq(:text) }
          sleep 0.03
        end
      end
    end

    it "get none when the connection wants none" do
      socket = web_socket("on(on_open: ->(c) { c.timeout = 0; c.write('set') })")
      expect(socket.read_message).to eq("set")
      expect(socket).to be_silent(0.35)
    end

    it "get them later, or earlier, when the connection wants that" do
      began = now
      socket = web_socket("on(on_open: ->(c) { c.timeout = 1; c.write('set') })")
      expect(socket.read_message).to eq("set")
      expect(socket.read_frame.opcode).to eq(:ping)
      expect(now - began).to be >= 1
    end

    it "are not closed though a callback takes its time, and the pong waits behind it" do
      in_turns(0.3, "on(on_message: ->(c, _) { sleep 0.5; c.write('done') })") do |socket, turn|
        turn.call { socket.text("x") }
        frames = [socket.read_frame]
        while frames.last.opcode == :ping
          turn.call { socket.frame(:pong) }
          frames << socket.read_frame
        end
        expect(frames.last.payload).to eq("done")
      end
    end
  end

  it "are not pinged with ping: 0, whatever HTTP's timeout" do
    quiet = serve(Asking::APP, threads: 2, before: RealTime::SETUP, options: "ping: 0, timeout: 0.05")
    port = quiet.port
    # It stands still until the request is there: the time of HTTP could be over before, on a busy machine.
    quiet.signal(:STOP)
    WebSocketClient.open(port) do |socket|
      socket.write(WebSocketClient.handshake(lines: upgrade_line("echo(on_open: ->(c) { c.write(c.timeout.to_s) })")))
      quiet.signal(:CONT)
      expect(socket.read_response.status).to eq(101)
      expect(socket.read_message).to eq("0")
      expect(socket).to be_silent(0.3)
      expect(socket.text("x").read_message).to eq("x")
    end
  end

  describe "though they do not read" do
    it "F2: get all of it when they do" do
      late = serve(Asking::APP, threads: 2, before: RealTime::SETUP)
      socket = web_socket("on(on_open: ->(c) { 20.times { |n| c.write(n.to_s.ljust(2_000_000, 'x')) } })", port: late.port)
      sleep 0.2
      expect(Array.new(20) { socket.read_message }.map { |text| [text.to_i, text.bytesize] }).to eq(Array.new(20) { |n| [n, 2_000_000] })
      expect(socket.say_goodbye).to eq([1000, ""])
      expect(late.log).not_to match(/Slowloris|WARN/)
    end

    it "get a thousand small writes, and the rest" do
      late = serve(Asking::APP, threads: 2, before: RealTime::SETUP)
      socket = web_socket("on(on_open: ->(c) { 5000.times { |n| c.write('%04d' % n + 'x' * 4000) } })", port: late.port)
      sleep 0.1
      expect(Array.new(5000) { socket.read_message[0, 4].to_i }).to eq([*0..4999])
    end

    it "are closed when they read nothing for write_timeout, but not while they do" do
      hasty = serve(Asking::APP, threads: 2, before: RealTime::SETUP, options: "write_timeout: 0.3")
      code = "on(on_message: ->(c, _) { c.write('x' * 20_000_000) }, on_close: ->(c) { say 'closed' })"
      web_socket(code, port: hasty.port).text("go")
      hasty.wait_for_said("closed")
      in_turns(0.2, code, port: hasty.port) do |socket, turn|
        turn.call { socket.text("go") }
        20.times { turn.call { sleep 0.06 and expect(socket.read_exactly(1_000_000).bytesize).to eq(1_000_000) } }
        turn.call { expect(socket.read_exactly(10).bytesize).to eq(10) }
      end
    end

    # Writes until that is refused, and tells what write and open? say.
    flood = "on(on_message: ->(c, data) { 1000.times { |n| said = c.write('%03d' % n + 'x' * 99_997); tell([n, said, c.open?]) if said != true || n == 999 ; " \
            "break unless said } }, on_close: ->(c) { tell(:closed) })"

    describe "with max_backlog: 4" do
      serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP, options: "max_backlog: 4")

      it "are closed with 1013, behind what waits, and write says false" do
        socket = web_socket(flood).text("go")
        refused, said, open = told.first
        expect([said, open]).to eq([false, false])
        # At least the backlog, and what the kernel has.
        expect(refused).to be_between(40, 999)
        expect(Array.new(refused) { socket.read_message[0, 3].to_i }).to eq([*0...refused])
        expect(socket.let_go.first).to eq(1013)
        expect(told).to eq([:closed])
      end

      it "are told so by write_event, too, and streams of events just end" do
        stream = event_stream(<<~RUBY)
          on(on_open: ->(c) { $client = c; c.write("open") }, on_close: ->(c) { tell(:closed) })
        RUBY
        expect(stream.read_event).to eq(["data: open"])
        said = value_of("Array.new(300) { $client.write_event('x' * 100_000, id: 1) }")
        expect(said.uniq).to eq([true, false, nil])
        expect(said.count(false)).to eq(1)
        said.count(true).times { expect(stream.read_event.last.bytesize).to eq(100_006) }
        expect(stream.read_all).to eq("")
        expect(told).to eq([:closed])
      end

      it "may have one message that is larger than the backlog" do
        socket = web_socket("on(on_message: ->(c, _) { c.write('x' * 9_000_000) })").text("go")
        expect(socket.read_message.bytesize).to eq(9_000_000)
      end

      it "count messages of channels, too" do
        socket = web_socket("on(on_open: ->(c) { c.subscribe('flood'); c.write('ready') }, on_close: ->(c) { tell(:closed) })")
        expect(socket.read_message).to eq("ready")
        value_of("200.times { Iodine.publish('flood', 'x' * 100_000) }")
        count = 0
        count += 1 while (frame = socket.read_frame).opcode == :text
        expect(count).to be_between(30, 199)
        expect(frame.payload.unpack1("n")).to eq(1013)
        socket.bye(1013)
        expect(told).to eq([:closed])
      end
    end

    it "lose messages with slow_clients: :drop, whole ones, and stay" do
      dropping = serve(Asking::APP, threads: 2, before: RealTime::SETUP, options: "max_backlog: 4, slow_clients: :drop")
      socket = web_socket(<<~RUBY, port: dropping.port)
        on(on_message: ->(c, data) {
          said = Array.new(300) { |n| c.write('%03d' % n + 'x' * 99_997) }
          c.write("end") until c.pending.zero? && c.open?
          c.write(said.join(","))
        })
      RUBY
      socket.text("go")
      heard = []
      heard << socket.read_message until heard.last&.start_with?("true")
      said = heard.last.split(",").map { |word| word == "true" }
      expect(said).to include(true, false)
      kept = heard.select { |text| text.bytesize == 100_000 }.map { |text| text[0, 3].to_i }
      expect(kept).to eq(said.each_index.select { |n| said[n] })
      expect(socket.say_goodbye).to eq([1000, ""])
    end
  end

  it "refuse settings that mean nothing" do
    require "iodine"
    [[:slow_clients, :maybe], [:slow_clients, 1], [:deflate, 1], [:deflate, []], [:deflate, :on]].each do |name, value|
      expect { Iodine.listen(service: :http, port: 0, handler: -> {}, name => value) }.to raise_error(ArgumentError, /#{name}/)
    end
    [{ window_bits: 7 }, { window_bits: 16 }, { level: 0 }, { threshold: -1 }, { context_takeover: 1 }, { other: 1 }].each do |deflate|
      expect { Iodine.listen(service: :http, port: 0, handler: -> {}, deflate: deflate) }.to raise_error(ArgumentError, /deflate/)
    end
    expect(Iodine.listeners).to eq([])
  end
end
