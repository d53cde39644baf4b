# frozen_string_literal: true

# Iodine::Connection: what each method does on an open connection, a closing one and none at all.

RSpec.describe "Iodine::Connection", :real_time do
  serve_for_all(Asking::APP, threads: 2, before: <<~RUBY)
    #{RealTime::SETUP}
    # All that a connection says of itself.
    def state_of(c)
      [c.open?, c.pending, c.protocol, c.timeout, c.env.class, c.handler.class, c.pubsub?]
    end

    # All that it does.
    def deeds_of(c)
      [c.write("x"), c.write_event("x"), c.subscribe("x"), c.subscribe("x") { }, c.unsubscribe("x"), c.publish("x", "y"),
       c.close, c.send(:timeout=, 3), c.send(:handler=, 5), c.close_code, c.close_reason]
    end
  RUBY

  gone = [false, -1, nil, nil, NilClass, NilClass, true]
  no_deeds = [nil, nil, nil, nil, nil, true, nil, 3, 5, nil, nil]

  describe "on an open connection" do
    it "says what it is" do
      socket = web_socket("on(on_open: ->(c) { $client = c; tell(state_of(c)) })")
      expect(told).to eq([[true, 0, :websocket, 40, Hash, Object, true]])
      expect(value_of("[$client.write('x'), $client.close_code, $client.close_reason]")).to eq([true, nil, nil])
      expect(socket.read_message).to eq("x")
      eventually { value_of("$client.pending").zero? }
    end

    it "says so of a stream of events, too" do
      event_stream("on(on_open: ->(c) { tell(state_of(c)) })")
      expect(told).to eq([[true, 0, :sse, 40, Hash, Object, true]])
    end

    it "is one object, whose env is that of the request" do
      socket = web_socket(<<~RUBY)
        was = env
        objects = []
        on(on_open: ->(c) { objects << c }, on_message: ->(c, _) { objects << c; c.close },
           on_close: ->(c) { tell(objects.all? { |o| o.equal?(c) }, c.env.equal?(was), c.handler.equal?(self)) })
      RUBY
      socket.text("x").let_go
      expect(told).to eq([[true, true, true]])
    end

    it "is closed at once for the application, and behind what was written for the peer" do
      socket = web_socket(<<~RUBY)
        on(on_message: ->(c, data) {
          100.times { |n| c.write("x" * 10_000 + n.to_s) }
          tell(c.close, c.open?, c.write("late"), c.pending, c.close)
        })
      RUBY
      socket.text("go")
      answers = told.first
      expect(answers.values_at(0, 1, 2, 4)).to eq([nil, false, nil, nil])
      expect(answers[3]).to be_between(0, 101)
      expect(Array.new(100) { socket.read_message[10_000..].to_i }).to eq([*0..99])
      expect(socket.let_go).to eq([1000, ""])
    end
  end

  describe "while on_close runs" do
    it "is not open, but still knows what it was" do
      socket = web_socket(<<~RUBY)
        on(on_close: ->(c) {
          tell([c.open?, c.pending, c.protocol, c.write("x"), c.env.class, c.handler.class, c.publish("x", "y"), c.close])
        })
      RUBY
      socket.close
      expect(told).to eq([[false, -1, :websocket, nil, Hash, Object, true, nil]])
    end
  end

  describe "that is over" do
    { "behind on_close" => nil, "by new" => "Iodine::Connection.new", "by allocate" => "Iodine::Connection.allocate" }.each do |what, code|
      it "answers from nothing: #{what}" do
        unless code
          web_socket("on(on_open: ->(c) { $kept = c; c.subscribe('x') }, on_close: ->(c) { tell(1) })").close
          told
          eventually { value_of("$kept.env").nil? }
        end
        expect(value_of("state_of(#{code || "$kept"})")).to eq(gone)
        expect(value_of("deeds_of(#{code || "$kept"})")).to eq(no_deeds)
      end
    end

    %w[dup clone].each do |copy|
      it "answers from nothing: by #{copy}, and the original goes on" do
        socket = web_socket("on(on_open: ->(c) { other = c.#{copy}; tell(state_of(other), deeds_of(other)); c.write('still') })")
        expect(told).to eq([[gone, no_deeds]])
        expect(socket.read_message).to eq("still")
        expect(socket.text("x").say_goodbye).to eq([1000, ""])
      end
    end
  end

  describe "#write" do
    # What is sent for the value of `code`: its opcode and payload.
    def frame_of(code)
      web_socket("on(on_open: ->(c) { c.write(#{code}) })") { |socket| socket.read_frame.to_a.values_at(0, 1, 3) }
    end

    {
      "UTF-8" => ['"é"', :text, "é".b],
      "nothing" => ['""', :text, ""],
      "nothing, binary" => ['"".b', :binary, ""],
      "F33: US-ASCII" => ['"abc".encode("US-ASCII")', :text, "abc"],
      "F33: a number" => ["5.to_s", :text, "5"],
      "binary" => ['"abc".b', :binary, "abc"],
      "F25: UTF-8 that is none" => ['"\xFF"', :binary, "\xFF".b],
      "F25: UTF-8 of a half surrogate" => ['"\xED\xA0\x80"', :binary, "\xED\xA0\x80".b],
      "US-ASCII that is none" => ['"\xFF".dup.force_encoding("US-ASCII")', :binary, "\xFF".b],
      "Latin-1, which is not transcoded" => ['"é".encode("ISO-8859-1")', :binary, "\xE9".b],
      "UTF-16" => ['"a".encode("UTF-16LE")', :binary, "a\0"],
      "a frozen String" => ['"abc".freeze', :text, "abc"],
      "125 bytes" => ['"a" * 125', :text, "a" * 125],
      "126 bytes" => ['"a" * 126', :text, "a" * 126],
      "65,535 bytes" => ['"a" * 65_535', :text, "a" * 65_535],
      "65,536 bytes" => ['"a" * 65_536', :text, "a" * 65_536],
      "much, binary" => ['("a" * 300_000).b', :binary, "a" * 300_000],
      "much that is not UTF-8" => ['"\xFF" * 300_000', :binary, "\xFF".b * 300_000]
    }.each do |what, (code, opcode, payload)|
      it "sends #{what} in one frame" do
        expect(frame_of(code)).to eq([opcode, true, payload])
      end
    end

    it "copies the bytes: the String may change" do
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) { s = +"abc"; c.write(s); s.replace("xyz"); s << "more"; GC.start; c.write(s) })
      RUBY
      expect(Array.new(2) { socket.read_message }).to eq(%w[abc xyzmore])
    end

    it "sends a large String as it was, which the application goes on using" do
      socket = web_socket(<<~RUBY)
        on(on_message: ->(c, _) {
          buffer = +"a" * 1_000_000
          c.write(buffer)
          buffer << "more"
          buffer.setbyte(0, 98)
          c.write(buffer)
          buffer.clear
          GC.start
        })
      RUBY
      socket.text("go")
      expect([socket.read_message, socket.read_message]).to eq(["a" * 1_000_000, "b#{"a" * 999_999}more"])
    end

    it "takes what is no String by to_s, and warns" do
      warned = server.log_after(/non-String object/) { expect(frame_of("5")).to eq([:text, true, "5"]) }
      expect(warned).to match(/`Iodine::Connection#write` was called with a non-String object.*\n.*eval/)
      expect(frame_of(":sym")).to eq([:text, true, "sym"])
      expect(frame_of("nil")).to eq([:text, true, ""])
    end

    it "takes exactly one argument, and to_s has to give a String" do
      web_socket(<<~RUBY)
        bad = Object.new.tap { |o| def o.to_s = 5 }
        on(on_open: ->(c) { tell([[], [1, 2], [bad], [BasicObject.new]].map { |args| (c.write(*args); :none) rescue $!.class.name }) })
      RUBY
      expect(told).to eq([%w[ArgumentError ArgumentError TypeError NoMethodError]])
    end

    it "can be called from any thread, in the order of each, and frames do not mix" do
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) {
          4.times { |t| Thread.new { 50.times { |n| c.write("\#{t} \#{n} \#{t.to_s * (n.even? ? 70_000 : 10)}") } } }
          Iodine.run { 50.times { |n| c.write("4 \#{n} 4") } }
        })
      RUBY
      heard = Array.new(250) { socket.read_message.split(" ") }
      expect(heard).to all(satisfy { |from, _, rest| rest.delete(from).empty? })
      heard.group_by(&:first).each_value { |words| expect(words.map { |word| word[1].to_i }).to eq([*0..49]) }
    end

    it "can be overridden by the application" do
      own = serve(Asking::APP, before: "#{RealTime::SETUP}\nIodine::Connection.prepend(Module.new { def write(data) = super(data.upcase) })")
      expect(web_socket(port: own.port).text("loud").read_message).to eq("LOUD")
    end
  end

  describe "#pending" do
    it "counts writes that wait, not frames or bytes" do
      value_of("$client = nil")
      socket = web_socket("on(on_message: ->(c, _) { 10.times { c.write('x' * 1_000_000) }; $client = c })")
      socket.text("go")
      waiting = eventually { value_of("$client&.pending") }
      expect(waiting).to be_between(1, 10)
      10.times { socket.read_message }
      eventually { value_of("$client.pending").zero? }
    end
  end

  describe "#close" do
    {
      "" => [1000, ""], "1001" => [1001, ""], "4000, 'mine'" => [4000, "mine"], "1011, ''" => [1011, ""],
      "3000, 'é' * 100" => [3000, "é" * 61], "nil" => [1000, ""], "nil, nil" => [1000, ""]
    }.each do |arguments, told|
      it "says #{told.first} for close(#{arguments})" do
        socket = web_socket("on(on_message: ->(c, _) { c.close(#{arguments}) }, on_close: ->(c) { tell(c.close_code, c.close_reason) })")
        expect(socket.text("x").let_go).to eq(told)
        expect(told()).to eq([[told.first, ""]])
      end
    end

    it "refuses what is no code" do
      web_socket(<<~RUBY)
        on(on_open: ->(c) {
          tell([999, 1004, 1005, 1006, 1015, 2000, 5000, 70_000, -1, "x", 1.5].map { |code| (c.close(code); :none) rescue $!.class.name })
          tell(c.open?)
        })
      RUBY
      errors, open = told(2)
      expect(errors.first(9)).to all(eq("RangeError"))
      expect(errors.last(2).first).to eq("TypeError")
      expect(open).to be(true)
    end

    it "ends though the peer does not answer the Close, but is not in a hurry" do
      socket = web_socket("on(on_message: ->(c, _) { c.close }, on_close: ->(c) { tell(:closed) })").text("x")
      expect(socket.read_close).to eq([1000, ""])
      expect(socket).to be_silent(0.2)
      expect(value_of("told")).to eq([])
      socket.bye(1000)
      expect(told).to eq([:closed])
      expect(socket).to be_closed_by_server
    end

    it "ends within seconds though the peer never answers it, whatever else it says", :slow do
      socket = web_socket("on(on_message: ->(c, _) { c.close }, on_close: ->(c) { tell(:closed) })").text("x")
      expect(socket.read_close).to eq([1000, ""])
      talking = Thread.new { loop { socket.text("y") && sleep(0.1) } rescue nil }
      expect(told).to eq([:closed])
      talking.join
    end

    it "lets messages in that were on their way" do
      socket = web_socket("on(on_message: ->(c, data) { tell([data, c.open?]); c.close if data == '0' })")
      socket.write(Array.new(3) { |n| WebSocketClient.frame(:text, n.to_s) }.join)
      expect(told(3)).to eq([["0", true], ["1", false], ["2", false]])
      expect(socket.let_go).to eq([1000, ""])
    end

    it "may come from on_open" do
      socket = web_socket("on(on_open: ->(c) { c.write('bye'); c.close }, on_close: ->(c) { tell(:closed) })")
      expect(socket.read_message).to eq("bye")
      expect(socket.let_go).to eq([1000, ""])
      expect(told).to eq([:closed])
    end
  end

  describe "#close_code and #close_reason" do
    {
      [1000, "done"] => [1000, "done"], [1001] => [1001, ""], [4321, "é"] => [4321, "é"], [3000] => [3000, ""], [] => [nil, nil]
    }.each do |said, told|
      it "are #{told} for a Close with #{said}" do
        socket = web_socket("on(on_close: ->(c) { tell(c.close_code, c.close_reason, c.close_reason&.encoding&.to_s) })")
        expect(socket.bye(*said).read_close).to eq(said.empty? ? [] : [said.first, ""])
        expect(told()).to eq([[*told, told.first && "UTF-8"]])
      end
    end

    it "are nil when the peer just goes" do
      web_socket("on(on_close: ->(c) { tell(c.close_code, c.close_reason) })").close
      expect(told).to eq([[nil, nil]])
    end
  end

  describe "#timeout=" do
    it "takes seconds, of which there may be more than 255" do
      web_socket("on(on_open: ->(c) { tell([1, 0, 255, 256, 86_400, 2**31].map { |n| c.timeout = n; c.timeout }) })")
      expect(told).to eq([[1, 0, 255, 256, 86_400, 2**31]])
    end

    it "refuses the rest" do
      web_socket(<<~RUBY)
        on(on_open: ->(c) {
          tell([-1, 2**40, 2**70, nil, "5", :a].map { |n| (c.timeout = n; :none) rescue [$!.class.name, $!.message[/timeout out of range/]] })
          tell(c.timeout)
        })
      RUBY
      range = ["RangeError", "timeout out of range"]
      expect(told(2)).to eq([[range, range, range, *[["TypeError", nil]] * 3], 40])
    end
  end

  describe "#handler=" do
    it "closes for the old one and opens for the new one, here and now, and subscriptions stay" do
      socket = web_socket(<<~RUBY)
        second = on(on_open: ->(c) { tell(:open2, c.open?, c.handler.equal?(self)) }, on_message: ->(c, data) { c.write("2" + data) },
                    on_close: ->(c) { tell(:close2, c.open?) })
        on(on_open: ->(c) { c.subscribe("kept") },
           on_message: ->(c, data) { tell(:before); c.handler = second; tell(:after) },
           on_close: ->(c) { tell(:close1, c.open?, c.handler.equal?(self)); c.write("from on_close") })
      RUBY
      socket.text("x")
      expect(told(4)).to eq([:before, [:close1, true, true], [:open2, true, true], :after])
      expect(socket.read_message).to eq("from on_close")
      expect(socket.text("y").read_message).to eq("2y")
      value_of("Iodine.publish('kept', 'still')")
      expect(socket.read_message).to eq("still")
      socket.say_goodbye
      expect(told).to eq([[:close2, false]])
    end

    it "goes on though the old on_close raises" do
      socket = web_socket("on(on_message: ->(c, _) { c.handler = echo(on_open: ->(c) { c.write('open') }) }, on_close: ->(c) { raise 'old' })")
      server.log_after(/RuntimeError: old/) { expect(socket.text("x").read_message).to eq("open") }
      expect(socket.text("y").read_message).to eq("y")
    end

    it "is nothing for the same one, and a closing for nil and false" do
      %w[nil false].each do |nobody|
        socket = web_socket(<<~RUBY)
          on(on_message: ->(c, _) { c.handler = self; tell([:same, (c.handler = #{nobody}), c.open?]) }, on_close: ->(c) { tell(:closed) })
        RUBY
        expect(socket.text("x").let_go).to eq([1000, ""])
        expect(told(2)).to eq([[:same, eval(nobody), false], :closed])
      end
    end

    it "is ignored in the last on_close, and in that of a switch ends whom it puts there" do
      socket = web_socket(<<~RUBY)
        third = on(on_open: ->(c) { tell(:open3) }, on_close: ->(c) { tell(:close3) })
        second = on(on_open: ->(c) { tell(:open2); c.write("switched") }, on_close: ->(c) { tell(:close2); c.handler = third; tell(c.handler.equal?(self)) })
        on(on_message: ->(c, _) { c.handler = second }, on_close: ->(c) { tell(:close1); c.handler = third })
      RUBY
      expect(socket.text("x").read_message).to eq("switched")
      socket.say_goodbye
      expect(told(6)).to eq([:close1, :open3, :close3, :open2, :close2, true])
    end

    it "takes anything for a silent one, and asks for methods once" do
      socket = web_socket(<<~RUBY)
        late = Object.new
        on(on_message: ->(c, _) {
          c.handler = late
          late.define_singleton_method(:on_message) { |*| tell(:late) }
          tell(c.handler.equal?(late), c.open?)
        })
      RUBY
      socket.text("x")
      expect(told).to eq([[true, true]])
      expect(socket.text("y").frame(:ping, "z").read_frame.opcode).to eq(:pong)
      socket.say_goodbye
      expect(value_of("told")).to eq([])
    end
  end
end
