# frozen_string_literal: true

# Who is called, in which order, and that it is one call at a time.

RSpec.describe "callbacks of connections", :real_time do
  serve_for_all(Asking::APP, threads: 8, before: RealTime::SETUP)

  all = "%i[on_open on_message on_drained on_shutdown on_close ping]"

  describe "belong to" do
    {
      "an instance" => "Class.new { %s.each { |name| define_method(name) { |c, *data| tell(name, *data) } } }.new",
      "a class" => "Class.new { %s.each { |name| define_singleton_method(name) { |c, *data| tell(name, *data) } } }",
      "a module" => "Module.new { %s.each { |name| define_singleton_method(name) { |c, *data| tell(name, *data) } } }",
      "a Proc" => "proc { }.tap { |o| %s.each { |name| o.define_singleton_method(name) { |c, *data| tell(name, *data) } } }",
      "a String" => "+''.tap { |o| %s.each { |name| o.define_singleton_method(name) { |c, *data| tell(name, *data) } } }"
    }.each do |what, code|
      it "#{what}, in their order" do
        socket = web_socket(format(code, all))
        expect(told(2)).to eq(%i[on_open on_drained])
        socket.text("hi").say_goodbye
        expect(told(2)).to eq([[:on_message, "hi"], :on_close])
      end
    end

    it "whoever says so by respond_to_missing?" do
      web_socket(<<~RUBY).text("hi").say_goodbye
        Class.new {
          def respond_to_missing?(name, private) = %i[on_open on_message].include?(name)
          def method_missing(name, c, *data) = tell(name, *data)
        }.new
      RUBY
      expect(told(2)).to eq([:on_open, [:on_message, "hi"]])
    end

    it "nobody when they are private, or when they come too late" do
      socket = web_socket(<<~RUBY)
        Class.new {
          def on_open(c)
            define_singleton_method(:on_message) { |c, data| tell(:late) }
            c.write("open")
          end
          def on_close(c) = tell(:closed)
          private def on_drained(c) = tell(:private)
        }.new
      RUBY
      expect(socket.read_message).to eq("open")
      socket.text("hi").say_goodbye
      expect(told).to eq([:closed])
    end

    it "anything at all, which is then silent" do
      %w[5 :a Object.new BasicObject Class true].each do |mute|
        socket = web_socket(mute)
        expect(socket.text("x").frame(:ping, mute).read_frame.payload).to eq(mute)
        expect(socket.say_goodbye).to eq([1000, ""])
      end
    end
  end

  it "are given fresh Strings, text as UTF-8 and the rest as binary" do
    socket = web_socket("$kept = []; on(on_message: ->(c, data) { $kept << data; tell([data.encoding.to_s, data.frozen?, data << '!']) })")
    socket.text("é").frame(:binary, "é").text("").frame(:binary, "")
    expect(told(4)).to eq([["UTF-8", false, "é!"], ["ASCII-8BIT", false, "é!".b], ["UTF-8", false, "!"], ["ASCII-8BIT", false, "!"]])
    expect(value_of("GC.start; $kept")).to eq(["é!", "é!".b, "!", "!"])
  end

  it "come one at a time for a connection, and at the same time for several" do
    code = <<~RUBY
      $running, $most, $inside = Hash.new(0), 0, {} unless $told.size > 0 || $inside
      on(
        on_open: ->(c) { c.subscribe("shared") { |_, m| enter(c) } ; enter(c) },
        on_message: ->(c, data) { enter(c); c.write(data) },
        on_drained: ->(c) { enter(c) },
        on_close: ->(c) { enter(c); tell(:closed) }
      )
    RUBY
    value_of(<<~RUBY)
      $inside, $overlaps, $busy, $most = {}.compare_by_identity, 0, 0, 0
      $guard = Mutex.new
      def enter(c)
        $guard.synchronize { $overlaps += 1 if $inside[c]; $inside[c] = true; $busy += 1; $most = [$most, $busy].max }
        sleep 0.001
        $guard.synchronize { $inside.delete(c); $busy -= 1 }
      end
      nil
    RUBY
    sockets = Array.new(8) { web_socket(code) }
    sockets.each { |socket| socket.write(Array.new(20) { |n| WebSocketClient.frame(:text, n.to_s) }.join) }
    20.times { value_of("Iodine.publish('shared', 'x')") }
    sockets.each { |socket| expect(Array.new(20) { socket.read_message.to_i }).to eq([*0..19]) }
    sockets.each(&:say_goodbye)
    expect(told(8).size).to eq(8)
    overlaps, most = value_of("[$overlaps, $most]")
    expect(overlaps).to eq(0)
    expect(most).to be > 1
  end

  it "do not hold up other connections, nor what leaves this one" do
    value_of("$gate = Queue.new; nil")
    slow = web_socket("on(on_message: ->(c, _) { c.write('before'); $gate.pop; c.write('after') })").text("x")
    expect(slow.read_message).to eq("before")
    expect(web_socket.text("quick").read_message).to eq("quick")
    expect(slow.frame(:ping, "?").read_frame.opcode).to eq(:pong)
    value_of("$gate << 1; nil")
    expect(slow.read_message).to eq("after")
  end

  describe "on_drained" do
    it "comes once behind on_open, and once when what was written has left, however many writes that were" do
      # The first does not leave before it is read, or those behind it might leave apart.
      socket = web_socket("on(on_drained: ->(c) { tell(c.pending) }, on_message: ->(c, _) { c.write('x' * 20_000_000); 9.times { c.write('x') }; tell(:written) })")
      expect(told).to eq([0])
      socket.text("x")
      expect(told).to eq([:written])
      10.times { socket.read_message }
      expect(told).to eq([0])
      socket.say_goodbye
      expect(value_of("told")).to eq([])
    end

    it "waits for the peer to read" do
      socket = web_socket("on(on_drained: ->(c) { tell(:drained) }, on_message: ->(c, _) { c.write('x' * 20_000_000); c.write('y'); tell(:written) })")
      expect(told).to eq([:drained])
      socket.text("x")
      expect(told).to eq([:written])
      sleep 0.1
      expect(value_of("told")).to eq([])
      expect([socket.read_message.bytesize, socket.read_message]).to eq([20_000_000, "y"])
      expect(told).to eq([:drained])
    end

    it "may write more, until it does not" do
      socket = web_socket("on(on_drained: ->(c) { n = (@n = @n.to_i + 1); c.write(n.to_s) if n < 50 })")
      expect(Array.new(49) { socket.read_message.to_i }).to eq([*1..49])
      expect(socket).to be_silent
    end
  end

  describe "that raise" do
    {
      "an exception" => ["raise 'oh'", /unprotected exception - RuntimeError: oh\n.*eval/],
      "SystemExit" => ["exit 3", /unprotected exception - SystemExit: exit/],
      "Interrupt" => ["raise Interrupt, 'now'", /unprotected exception - Interrupt: now/],
      "NoMemoryError" => ["raise NoMemoryError, 'much'", /unprotected exception - NoMemoryError: much/],
      "a throw" => ["throw :nowhere", /unprotected exception - UncaughtThrowError: uncaught throw :nowhere/],
      "SystemStackError" => ["f = ->(x) { f.(x) }; f.(1)", /unprotected exception - SystemStackError/],
      "text that is not UTF-8" => ['raise "\xFF\0"', /unprotected exception - RuntimeError: /]
    }.each do |what, (code, pattern)|
      it "#{what} are logged, and the connection stays" do
        socket = web_socket("on(on_open: ->(c) { #{code} }, on_message: ->(c, data) { c.write(data); #{code} })")
        server.log_after(pattern) { expect(socket.text("x").read_message).to eq("x") }
        expect(socket.text("y").read_message).to eq("y")
        expect(socket.say_goodbye).to eq([1000, ""])
      end
    end

    it "for their arity, too" do
      socket = web_socket("on(on_open: -> { }, on_message: ->(c) { }, on_close: ->(c) { tell(:closed) })")
      server.log_after(/ArgumentError: wrong number of arguments \(given 2, expected 1\)/) { socket.text("x") }
      socket.say_goodbye
      expect(told).to eq([:closed])
    end

    it "in on_close and on_drained do no harm" do
      socket = web_socket("on(on_drained: ->(c) { raise 'drained' }, on_close: ->(c) { $kept = c; raise 'closed' })")
      server.wait_for_log(/RuntimeError: drained/)
      server.log_after(/RuntimeError: closed/) { socket.say_goodbye }
      eventually { value_of("$kept.env").nil? }
    end

    it "in a block of a subscription, too" do
      socket = web_socket("on(on_open: ->(c) { c.subscribe('raising') { |_, m| c.write(m); raise m } })")
      eventually { value_of("Iodine.publish('raising', 'oh'); nil"); socket.socket.wait_readable(0.05) }
      expect(socket.read_message).to eq("oh")
      expect(socket.frame(:ping, "x").read_frame).to be_a(Frame)
    end
  end

  it "may kill their thread: what was to come runs on another one" do
    socket = web_socket(<<~RUBY)
      on(on_message: ->(c, data) { c.write(data); Thread.current.kill if data == "1" }, on_close: ->(c) { tell(:closed) })
    RUBY
    socket.write(Array.new(4) { |n| WebSocketClient.frame(:text, n.to_s) }.join)
    expect(Array.new(4) { socket.read_message }).to eq(%w[0 1 2 3])
    expect(socket.text("4").read_message).to eq("4")
    expect(socket.say_goodbye).to eq([1000, ""])
    expect(told).to eq([:closed])
  end

  it "may kill their thread in on_close, which is over for good then" do
    web_socket("on(on_close: ->(c) { tell(:closed); $kept = c; Thread.exit })").say_goodbye
    expect(told).to eq([:closed])
    9.times { web_socket("on(on_close: ->(c) { Thread.exit })").close }
    expect(web_socket.text("alive").read_message).to eq("alive")
    eventually { value_of("$kept.handler").nil? }
  end

  it "may kill their thread in on_open" do
    socket = web_socket("echo(on_open: ->(c) { Thread.exit })")
    expect(socket.text("x").read_message).to eq("x")
  end

  describe "on_close" do
    {
      "a Close of the peer" => ->(socket) { socket.bye(1000) },
      "the end of the stream" => ->(socket) { socket.finish_writing },
      "a reset" => lambda do |socket|
        socket.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
        socket.close
      end,
      "a breach of the protocol" => ->(socket) { socket.frame(3) },
      "a close of the application" => ->(socket) { socket.text("close").let_go },
      "a close while the peer closes" => ->(socket) { socket.text("close").bye(1000) },
      "the end in the middle of a frame" => ->(socket) { socket.write(WebSocketClient.frame(:text, "x" * 100)[0, 50]).close }
    }.each do |what, deed|
      it "comes once, and last, for #{what}" do
        socket = web_socket(<<~RUBY)
          on(on_open: ->(c) { c.subscribe("until the end") { |*| tell(:message) } },
             on_message: ->(c, data) { c.close if data == "close"; sleep 0.01; tell(:message) }, on_close: ->(c) { tell(:closed) })
        RUBY
        socket.text("x")
        deed.call(socket)
        seen = []
        eventually { seen.concat(value_of("told")).include?(:closed) }
        value_of("Iodine.publish('until the end', 'x')")
        socket.close
        web_socket.text("x").read_message
        seen.concat(value_of("told"))
        # A reset may take the message with it.
        expect(seen - [:message]).to eq([:closed])
        expect(seen.last).to eq(:closed)
      end
    end
  end

  it "may be long: a connection that is closed meanwhile hears so behind them" do
    value_of("$gate = Queue.new; nil")
    socket = web_socket("on(on_message: ->(c, _) { tell(:in); $gate.pop; tell([c.open?, c.write('x')]) }, on_close: ->(c) { tell(:closed) })")
    socket.text("x")
    expect(told).to eq([:in])
    socket.close
    sleep 0.05
    value_of("$gate << 1; nil")
    answer, closed = told(2)
    expect(answer.last).to be_nil.or be(true)
    expect(closed).to eq(:closed)
  end
end
