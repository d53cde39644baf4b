# frozen_string_literal: true

# A bit of everything that touches Ruby values on the way of a connection. With IODINE_SPEC_GC_STRESS=1 the server collects
# garbage at every allocation meanwhile, so that a value nobody keeps alive does not live.

RSpec.describe "connections and the collector", :real_time do
  setup = <<~RUBY
    #{RealTime::SETUP}
    # Talks about everything.
    class Talker
      def initialize(name) = @name = name
      def on_open(c)
        c.subscribe("direct \#{@name}")
        c.subscribe("block \#{@name}") { |channel, message| c.write("\#{channel}: \#{message}") }
        c.subscribe("pattern \#{@name}*", match: :redis, handler: ->(channel, message) { c.write(channel + message) })
        c.write("open \#{c.env["PATH_INFO"]}")
      end

      def on_message(c, data)
        @kept = [*@kept, data].last(5)
        c.write(data)
        c.handler = Talker.new(@name + "!") if data == "switch"
        c.close(4000, "as you \#{"wish" * 2}") if data == "close"
      end

      def on_drained(c) = @drained = c.pending.to_s
      def on_close(c) = tell("closed \#{@name} \#{c.close_code} \#{c.close_reason}")
    end
  RUBY

  def talk_to(server_port, name)
    socket = web_socket("Talker.new(#{name.inspect})", port: server_port, path: "/#{name}")
    expect(socket.read_message).to eq("open /#{name}")
    ["é", "x" * 40_000, ""].each { |text| expect(socket.text(text).read_message).to eq(text) }
    expect(socket.frame(:binary, "\xFF" * 70_000).read_message).to eq("\xFF".b * 70_000)
    RawClient.open(server_port) do |client|
      ask("%w[direct block pattern].each { |kind| Iodine.publish(\"\#{kind} #{name}\", 'm' * 3) }; [200, {}, []]", client: client)
    end
    expect(Array.new(3) { socket.read_message }).to contain_exactly("mmm", "block #{name}: mmm", "pattern #{name}mmm")
    expect(Array.new(2) { |n| n.zero? ? socket.text("switch").read_message : socket.read_message }).to eq(["switch", "open /#{name}"])
    yield if block_given?
    expect(socket.text("close").read_message).to eq("close")
    expect(socket.let_go).to eq([4000, "as you wishwish"])
  end

  describe "under GC.stress", :gc_stress do
    serve_for_all(Asking::APP, threads: 2, before: setup)

    it "live as long as they are open" do
      talk_to(server.port, "one")
      expect(told(2)).to eq(["closed one  ", "closed one! 4000 "])
    end

    it "stream events" do
      stream = event_stream(<<~RUBY)
        on(on_open: ->(c) { c.subscribe("events"); c.write_event("a\\nb", event: :e, id: 5, retry: 100); c.write("x" * 40_000); c.write(5) },
           on_close: ->(c) { tell("closed") })
      RUBY
      expect(stream.read_event).to contain_exactly("event: e", "id: 5", "retry: 100", "data: a", "data: b")
      expect(stream.read_event).to eq(["data: #{"x" * 40_000}"])
      expect(stream.read_event).to eq(["data: 5"])
      value_of("Iodine.publish('events', 'from afar')")
      expect(stream.read_event).to eq(["data: from afar"])
      stream.close
      expect(told).to eq(["closed"])
    end

    it "are refused" do
      RawClient.open(server.port) do |client|
        lines = code_line("env['rack.upgrade'] = on(on_close: ->(c) { tell(c.open?.to_s) }); [200, { 'x-a' => 'b' }, []]")
        answer = client.write(WebSocketClient.handshake(headers: { "Sec-WebSocket-Version" => "8" }, lines: lines)).read_response
        expect([answer.status, answer["x-a"]]).to eq([426, "b"])
      end
      expect(told).to eq(["false"])
    end

    it "raise" do
      server.log_after(/RuntimeError: ohoh/) { web_socket("on(on_open: ->(c) { raise 'oh' * 2 })") }
      socket = web_socket("on(on_message: ->(c, data) { c.write(data); Thread.exit if data == 'die' })")
      expect(socket.text("die").text("on").read_message).to eq("die")
      expect(socket.read_message).to eq("on")
    end
  end

  describe "with GC.auto_compact" do
    serve_for_all(Asking::APP, threads: 4, before: "GC.auto_compact = true\n#{setup}")

    it "live as long as they are open, wherever their values are moved" do
      4.times.map { |n| Thread.new { 3.times { |m| compacting("#{n}-#{m}") } } }.each(&:join)
      expect(told(24).grep(/4000/).size).to eq(12)
    end

    # Threads of an example have no example of their own.
    def compacting(name)
      @lock ||= Mutex.new
      line = @lock.synchronize { "X-Code: #{["env['rack.upgrade'] = Talker.new('#{name}'); [200, {}, []]"].pack("m0")}\r\n" }
      WebSocketClient.open(server.port) do |socket|
        socket.shake_hands(lines: line).read_message
        50.times { |n| expect(socket.text(n.to_s * 100).read_message).to eq(n.to_s * 100) }
        value_of("Array.new(1000) { 'garbage' * 10 }; GC.compact; Iodine.publish('block #{name}', 'm'); nil")
        expect(socket.read_message).to eq("block #{name}: m")
        expect(socket.text("switch").read_message).to eq("switch")
        socket.read_message
        expect(socket.text("close").read_message).to eq("close")
        socket.let_go
      end
    end
  end

  describe "in a crowd of clients that behave in every way" do
    serve_for_all(Asking::APP, threads: 8, before: "GC.auto_compact = true\n#{setup}")

    it "are opened and closed once, in order, and are all let go of" do
      line = upgrade_line(<<~RUBY)
        state = nil
        count = ->(what) { $lock.synchronize { $counts[what] += 1 } }
        check = ->(good) { count.(:wrong) unless good }
        on(
          on_open: lambda { |c|
            check.(state.nil?)
            state = :open
            count.(:opened)
            c.subscribe("all")
            c.subscribe("blocks") { |_, message| check.(state == :open); c.write(message) }
          },
          on_message: lambda { |c, data|
            check.(state == :open)
            case data
            when "close" then c.close
            when "exit" then Thread.exit
            when "publish" then c.publish("blocks", "news")
            else c.write(data * 1000)
            end
          },
          on_drained: ->(c) { check.(state == :open) },
          on_close: ->(c) { check.(state == :open); state = :closed; count.(:closed) }
        )
      RUBY
      value_of("$counts, $lock = Hash.new(0), Mutex.new; nil")
      clients = Array.new(8) { |number| Thread.new(Random.new(number)) { |random| 40.times { come_and_go(line, random) } } }
      20.times { value_of("%w[all blocks].each { |name| Iodine.publish(name, 'x' * 1000) }; sleep 0.01") }
      clients.each(&:join)
      eventually { value_of("$counts.values_at(:opened, :closed)").uniq.one? }
      expect(value_of("$counts")).to include(opened: a_value > 100).and(satisfy { |counts| !counts.key?(:wrong) })
      eventually { value_of("GC.start; ObjectSpace.each_object(Iodine::Connection).count(&:env)") < 2 }
    end

    def come_and_go(line, random)
      frames = Array.new(random.rand(8)) { WebSocketClient.frame(:text, %w[close exit publish echo][random.rand(4)]) }
      WebSocketClient.open(server.port) do |socket|
        socket.write(WebSocketClient.handshake(lines: line) + frames.join)
        case random.rand(4)
        when 0 then socket.bye(1000).read_all
        when 1 then socket.read_exactly(100)
        when 2 then socket.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
        end
      end
    rescue EOFError, SystemCallError
      # The server may have closed first.
      nil
    end
  end

  it "leave nothing behind" do
    many = serve(Asking::APP, threads: 2, before: setup)
    line = upgrade_line("Talker.new('x')")
    count = "ObjectSpace.each_object(Iodine::Connection).count + ObjectSpace.each_object(Talker).count"
    objects = lambda do
      RawClient.open(many.port) { |client| ask("3.times { GC.start }; [200, text, [(#{count}).to_s]]", client: client).body.to_i }
    end
    round = lambda do |count|
      count.times do |n|
        WebSocketClient.open(many.port) do |socket|
          socket.shake_hands(lines: line).read_message
          socket.text("x" * 5000).read_message
          n.even? ? socket.say_goodbye : nil
        end
      end
    end
    round.call(50)
    eventually { objects.call < 10 }
    before = many.rss
    round.call(500)
    eventually { objects.call < 10 }
    expect(many.rss - before).to be < 10_000_000
  end
end
