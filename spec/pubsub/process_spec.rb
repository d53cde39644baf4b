# frozen_string_literal: true

# Publish and subscribe within one process.

RSpec.describe "pub/sub", :real_time do
  serve_for_all(Asking::APP, threads: 8, before: <<~RUBY)
    #{RealTime::SETUP}
    $early = Queue.new
    Iodine.subscribe("early") { |channel, message| $early << [channel, message] }
    Iodine.subscribe("early dropped") { |*| $early << :dropped }
    Iodine.unsubscribe("early dropped")
    Iodine.publish("early", "before the start")

    # A handler that subscribes when it is opened, and says so; it subscribes and publishes as it is told.
    def subscriber(*names, **options, &block)
      on(on_open: ->(c) { names.each { |name| c.subscribe(name, **options, &block) }; c.write("ready") },
         on_message: ->(c, code) { c.write(c.instance_eval(code).inspect) })
    end
  RUBY

  # A WebSocket whose connection has subscribed.
  def subscriber(arguments, **request)
    web_socket("subscriber(#{arguments})", **request).tap { |socket| expect(socket.read_message).to eq("ready") }
  end

  def publish(channel, message)
    value_of("Iodine.publish(#{channel.dump}, #{message.dump})")
  end

  # What a handler of WebSockets gets from `code`, in which `c` is the connection.
  def result_of(code)
    socket = web_socket("on(on_open: ->(c) { tell(begin\n#{code}\nrescue Exception => e\n[e.class.name, e.message]\nend) })")
    told.first.tap { socket.close }
  end

  describe "subscribe" do
    {
      'c.subscribe("a")' => "a", "c.subscribe(:a)" => :a, 'c.subscribe(to: "a")' => "a", "c.subscribe(to: :a, match: :redis)" => :a,
      'c.subscribe("a", match: :redis)' => "a", 'c.subscribe("a", to: "b")' => "a", 'c.subscribe("a", {})' => "a",
      'c.subscribe("a", { as: :binary })' => "a", 'c.subscribe("a", other: 1)' => "a", 'c.subscribe("")' => "", 'c.subscribe("\xFF\0")' => "\xFF\0",
      'c.subscribe("a", handler: ->(c, m) { })' => "a", 'c.subscribe("a", match: :nats)' => "a", 'c.subscribe("a", as: nil)' => "a",
      'F4: c.subscribe("a", nil)' => "a"
    }.each do |code, name|
      it "returns the name as given: #{code}" do
        expect(result_of(code.delete_prefix("F4: "))).to eq(name)
      end
    end

    {
      "c.subscribe" => ["ArgumentError", "method accepts 1 or 2 arguments."],
      'c.subscribe("a", {}, 1)' => ["ArgumentError", "method accepts 1 or 2 arguments."],
      "c.subscribe(nil)" => ["ArgumentError", /a target .* is required/], "c.subscribe(false)" => ["ArgumentError", /a target .* is required/],
      "c.subscribe({})" => ["ArgumentError", /a target .* is required/], "c.subscribe(to: nil)" => ["ArgumentError", /a target .* is required/],
      "c.subscribe(5)" => ["TypeError", /./], "c.subscribe(to: Object)" => ["TypeError", /./],
      'c.subscribe("a", 1)' => ["TypeError", /./], 'c.subscribe("a", "b")' => ["TypeError", /./],
      'c.subscribe("a", handler: 5)' => ["TypeError", /call/], "c.unsubscribe(nil)" => ["ArgumentError", /./], "c.unsubscribe(5)" => ["TypeError", /./],
      "Iodine.subscribe { }" => ["ArgumentError", /./], 'F64: Iodine.subscribe("a")' => ["ArgumentError", /block/],
      "Iodine.publish" => ["ArgumentError", /./], 'Iodine.publish("a")' => ["ArgumentError", "message is required."],
      'Iodine.publish("a", nil)' => ["ArgumentError", "message is required."], 'Iodine.publish("a", false)' => ["ArgumentError", "message is required."],
      'Iodine.publish("a", 5)' => ["TypeError", /Integer/], 'Iodine.publish(nil, "b")' => ["ArgumentError", "target / channel is required ."],
      'Iodine.publish(5, "b")' => ["TypeError", /Integer/], 'Iodine.publish("a", "b", nil, 1)' => ["ArgumentError", /./],
      'Iodine.publish(to: "a")' => ["ArgumentError", "message is required."], 'Iodine.publish(message: "b")' => ["ArgumentError", "target / channel is required ."]
    }.each do |code, (error, message)|
      it "or its kin raise #{error}: #{code}" do
        expect(result_of(code.sub(/\AF\d+: /, ""))).to match([error, message])
      end
    end

    it "knows the old name of to:, with a warning" do
      warned = server.log_after(/channel/) { expect(result_of('c.subscribe(channel: "old")')).to eq("old") }
      expect(warned).to match(/deprecated/)
    end

    it "F21: publish takes keywords" do
      socket = subscriber('"keywords"')
      expect(value_of('[Iodine.publish(to: "keywords", message: "a"), Iodine.publish(to: :keywords, message: "")]')).to eq([true, true])
      expect([socket.read_message, socket.read_message]).to eq(["a", ""])
    end

    it "tells whether there was a subscription to end" do
      expect(result_of('c.subscribe("u"); [c.unsubscribe(:u), c.unsubscribe("u"), c.unsubscribe("never"), Iodine.unsubscribe("never")]'))
        .to eq([true, false, false, false])
    end
  end

  describe "names" do
    it "are bytes: a String, a Symbol, of any encoding" do
      socket = subscriber('"é"')
      value_of('[:é, "é", "é".b, "é".dup.force_encoding("ISO-8859-1")].each_with_index { |name, n| Iodine.publish(name, n.to_s) }; nil')
      expect(Array.new(4) { socket.read_message }).to eq(%w[0 1 2 3])
    end

    it "may be anything, and differ in anything" do
      ["", "\0", "a\0b", "\xFF", "a" * 3000].each do |name|
        socket = subscriber("#{name.dump}.b")
        publish("a", "not this")
        publish("#{name}x", "nor this")
        publish(name, "this")
        expect(socket.read_message).to eq("this")
      end
    end

    it "hold one subscription each: a new one takes the place of the old, and pattern and channel are one name" do
      socket = subscriber('"one*"')
      socket.text('subscribe("one*", match: :redis); subscribe("one*", match: :redis, as: :binary)')
      expect(socket.read_message).to eq('"one*"')
      publish("one*", "x")
      publish("one more", "y")
      expect([socket.read_frame, socket.read_frame].map { |frame| [frame.opcode, frame.payload] }).to eq([[:binary, "x"], [:binary, "y"]])
      socket.text('subscribe("one*")')
      expect(socket.read_message).to eq('"one*"')
      publish("one more", "not")
      publish("one*", "z")
      expect(socket.read_message).to eq("z")
      expect(socket).to be_silent
    end

    it "that overlap both deliver" do
      socket = subscriber('"over"')
      socket.text('subscribe("o*", match: :redis)').read_message
      publish("over", "x")
      expect([socket.read_message, socket.read_message]).to eq(%w[x x])
    end
  end

  describe "without a block" do
    {
      "text" => ['"é"', "", :text, "é".b], "F33: ASCII" => ['"a".encode("US-ASCII")', "", :text, "a"], "bytes that are text" => ['"é".b', "", :text, "é".b],
      "F25: what is not UTF-8" => ['"\xFF"', "", :binary, "\xFF".b], "nothing" => ['""', "", :text, ""],
      "text, as: :binary" => ['"é"', ", as: :binary", :binary, "é".b], "text, as: :text" => ['"é"', ", as: :text", :text, "é".b],
      "much" => ['"x" * 3_000_000', "", :text, "x" * 3_000_000]
    }.each do |what, (message, options, opcode, payload)|
      it "WebSockets are told #{what} in one frame" do
        socket = subscriber("\"direct\"#{options}")
        value_of("Iodine.publish('direct', #{message})")
        expect(socket.read_frame.to_a.values_at(0, 1, 3)).to eq([opcode, true, payload])
      end
    end

    it "the channel's name says nothing about the message" do
      socket = subscriber('"\xFF".b')
      publish("\xFF".b, "é")
      expect(socket.read_frame.opcode).to eq(:text)
    end
  end

  describe "with a block" do
    it "of a connection, gets fresh Strings: UTF-8 if they are (F33)" do
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) {
          c.subscribe("é*", match: :redis) { |*args| tell(args.map { |arg| [arg, arg.encoding.to_s, arg.frozen?] }); c.write(args.last) }
          c.write("ready")
        })
      RUBY
      expect(socket.read_message).to eq("ready")
      publish("é1", "ü")
      publish("é2", "\xFF")
      expect(told(2)).to eq([[["é1", "UTF-8", false], ["ü", "UTF-8", false]], [["é2", "UTF-8", false], ["\xFF".b, "ASCII-8BIT", false]]])
      expect([socket.read_frame.opcode, socket.read_frame.opcode]).to eq(%i[text binary])
    end

    it "or a :handler, which wins" do
      web_socket("on(on_open: ->(c) { c.subscribe('both', handler: ->(n, m) { tell(:handler, n, m) }) { |*| tell(:block) }; c.write('ready') })").read_message
      publish("both", "x")
      expect(told).to eq([[:handler, "both", "x"]])
    end

    it "of the process, runs on any thread, one call at a time" do
      value_of(<<~RUBY)
        $inside = $overlaps = 0
        Iodine.subscribe("process") { |n, m| $overlaps += 1 if $inside > 0; $inside += 1; sleep 0.0005; $told << m.to_i; $inside -= 1 }
        $told = Queue.new
        200.times { |n| Iodine.publish("process", n.to_s) }
        nil
      RUBY
      expect(told(200)).to eq([*0..199])
      expect(value_of("[$overlaps, Iodine.unsubscribe('process')]")).to eq([0, true])
    end

    it "of the process, may subscribe, unsubscribe and publish" do
      value_of(<<~RUBY)
        $told = Queue.new
        Iodine.subscribe("first") { |_, m| Iodine.subscribe("second") { |_, m| Iodine.unsubscribe("second"); tell(m) }; Iodine.publish("second", m + "!") ;
                                    tell(Iodine.unsubscribe("first")) }
        Iodine.publish("first", "x")
      RUBY
      expect(told(2)).to contain_exactly(true, "x!")
      expect(value_of("[Iodine.unsubscribe('first'), Iodine.unsubscribe('second')]")).to eq([false, false])
    end

    it "of the process, may raise" do
      value_of("$told = Queue.new; Iodine.subscribe('raise') { |_, m| tell(m); raise m }")
      server.log_after(/unprotected exception - RuntimeError: oh 2/) { 2.times { |n| publish("raise", "oh #{n + 1}") } }
      expect(told(2)).to eq(["oh 1", "oh 2"])
      value_of("Iodine.unsubscribe('raise')")
    end

    it "subscribed before the start, hears what was published then, and what is published now" do
      publish("early dropped", "x")
      publish("early", "now")
      heard = []
      eventually { heard.concat(value_of("Array.new($early.size) { $early.pop }")).size >= 2 }
      expect(heard).to eq([["early", "before the start"], ["early", "now"]])
    end
  end

  describe "delivery" do
    # What it writes later goes out whenever that is written: so it writes on when the message is there.
    it "is behind what the publisher has written before" do
      value_of("$gate = Queue.new; nil")
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) { c.subscribe("self") ; c.write("ready") },
           on_message: ->(c, _) { c.write("1"); c.publish("self", "2"); $gate.pop; c.write("3"); c.publish("self", "4") })
      RUBY
      expect(socket.read_message).to eq("ready")
      socket.text("x")
      expect(Array.new(2) { socket.read_message }).to eq(%w[1 2])
      value_of("$gate << 1; nil")
      expect(Array.new(2) { socket.read_message }).to eq(%w[3 4])
    end

    it "to a block of the publisher is behind the callback that publishes" do
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) { c.subscribe("own block") { tell(:block) } },
           on_message: ->(c, _) { c.publish("own block", "x"); sleep 0.02; tell(:end) })
      RUBY
      socket.text("x")
      expect(told(2)).to eq(%i[end block])
    end

    it "is for those who had subscribed before" do
      socket = web_socket(<<~RUBY)
        on(on_message: ->(c, _) { c.publish("when", "before"); c.subscribe("when"); c.publish("when", "after") })
      RUBY
      expect(socket.text("x").read_message).to eq("after")
      expect(socket).to be_silent
    end

    it "F17: keeps the order of 20,000 messages, direct and to blocks, with 8 threads" do
      direct = Array.new(2) { subscriber('"order"') }
      block = web_socket("on(on_open: ->(c) { c.subscribe('order') { |_, m| c.write(m) }; c.write('ready') })")
      block.read_message
      value_of("$heard = []; Iodine.subscribe('order') { |_, m| $heard << m.to_i }; nil")
      readers = [*direct, block].map { |socket| Thread.new { Array.new(20_000) { socket.read_message.to_i } } }
      value_of("20_000.times { |n| Iodine.publish('order', n.to_s) }; nil")
      expect(readers.map(&:value)).to all(eq([*0...20_000]))
      eventually { value_of("$heard.size") == 20_000 }
      expect(value_of("$heard")).to eq([*0...20_000])
      value_of("Iodine.unsubscribe('order')")
    end

    it "keeps the order of each of several publishers" do
      socket = subscriber('"several"')
      value_of("4.times { |t| Thread.new { 500.times { |n| Iodine.publish('several', \"\#{t} \#{n}\") } } }; nil")
      heard = Array.new(2000) { socket.read_message.split.map(&:to_i) }
      heard.group_by(&:first).each_value { |pairs| expect(pairs.map(&:last)).to eq([*0...500]) }
    end

    it "stops with unsubscribe, for messages that wait, too" do
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) { c.subscribe("stop") { |_, m| tell(m) }; c.write("ready") },
           on_message: ->(c, _) { 5.times { |n| c.publish("stop", n.to_s) }; sleep 0.05; tell(c.unsubscribe("stop")); c.write("done") })
      RUBY
      expect(socket.read_message).to eq("ready")
      expect(socket.text("x").read_message).to eq("done")
      publish("stop", "late")
      expect(socket.frame(:ping, "x").read_frame.opcode).to eq(:pong)
      expect(value_of("told")).to eq([true])
    end

    it "stops for a block of the process with unsubscribe, too" do
      value_of(<<~RUBY)
        $told = Queue.new
        Iodine.subscribe("stop all") { |_, m| tell(m); Iodine.unsubscribe("stop all") if m == "2"; sleep 0.002 }
        6.times { |n| Iodine.publish("stop all", n.to_s) }
      RUBY
      expect(told(3)).to eq(%w[0 1 2])
      expect(web_socket.text("x").read_message).to eq("x")
      expect(value_of("told")).to eq([])
    end

    it "stops with the connection, and on_close may still publish" do
      listener = subscriber('"leaving"')
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) { c.subscribe("leaving") { tell(:block) }; c.write("ready") },
           on_close: ->(c) { tell(c.subscribe("leaving"), c.unsubscribe("leaving"), c.publish("leaving", "gone")); $kept = c })
      RUBY
      expect(socket.read_message).to eq("ready")
      socket.say_goodbye
      # It would have ended with the connection at once.
      expect(told).to eq([["leaving", false, true]])
      expect(listener.read_message).to eq("gone")
      eventually { value_of("$kept.env").nil? }
      expect(value_of("[$kept.subscribe('leaving'), $kept.unsubscribe('leaving'), $kept.publish('leaving', 'late'), $kept.publish('leaving', 'later')]"))
        .to eq([nil, nil, true, true])
      expect([listener.read_message, listener.read_message]).to eq(%w[late later])
      expect(value_of("told")).to eq([])
    end

    it "does not mix with frames of the application" do
      socket = web_socket(<<~RUBY)
        on(on_open: ->(c) { c.subscribe("mix"); c.write("ready") }, on_message: ->(c, _) { 50.times { |n| c.write("w" * 100_000) } })
      RUBY
      expect(socket.read_message).to eq("ready")
      socket.text("x")
      value_of("50.times { Iodine.publish('mix', 'p' * 100_000) }")
      heard = Array.new(100) { socket.read_message }
      expect(heard.tally).to eq("w" * 100_000 => 50, "p" * 100_000 => 50)
    end

    it "goes on while connections come and go" do
      steady = subscriber('"crowd"')
      line = upgrade_line("subscriber('crowd')")
      leavers = Array.new(4) do
        Thread.new { 15.times { WebSocketClient.open(server.port) { |socket| socket.shake_hands(lines: line).read_message } } }
      end
      value_of("200.times { |n| Iodine.publish('crowd', n.to_s); sleep 0.001 }; nil")
      expect(Array.new(200) { steady.read_message.to_i }).to eq([*0..199])
      leavers.each(&:join)
    end
  end

  describe "patterns" do
    {
      "news*" => [%w[news newsy news.a.b], %w[new xnews News]], "*" => [["", "a", "\xFF\0".b], []], "?*" => [%w[a ab], [""]], "a?*" => [%w[ab abc], %w[a]],
      "a?c" => [%w[abc a?c a/c], %w[ac abbc]], "??" => [%w[é ab], %w[a abc]], "[a-c]x" => [%w[ax bx cx], %w[dx -x]], "[e-a]" => [%w[a c e], %w[f -]],
      "[^a]" => [%w[b ^], %w[a]], "[!a]" => [%w[! a], %w[b]], "a\\*" => [%w[a*], %w[ab a\\*]], "a*c" => [%w[ac abc abcbc], %w[acb]],
      "a**b" => [%w[ab axb], %w[a]], "*\\*" => [%w[x* *], %w[x]], "{a,b}" => [%w[{a,b}], %w[a b]], "*.log" => [%w[.log a.b.log], %w[log]],
      "[a" => [%w[a], ["b", "[a"]], "a\\" => [["a\\"], %w[a]]
    }.each do |pattern, (matching, others)|
      it "#{pattern.inspect} hears #{matching.inspect}, not #{others.inspect}" do
        socket = subscriber("#{pattern.dump}.b, match: :redis")
        others.each { |channel| publish(channel, "wrong: #{channel}") }
        matching.each_with_index { |channel, n| publish(channel, n.to_s) }
        expect(Array.new(matching.size) { socket.read_message }).to eq(matching.each_index.map(&:to_s))
        expect(socket.frame(:ping, "x").read_frame.opcode).to eq(:pong)
      end
    end

    it "are patterns only when they say so" do
      socket = subscriber('"a*", match: "redis"')
      publish("ab", "no")
      publish("a*", "yes")
      expect(socket.read_message).to eq("yes")
    end
  end

  it "F5: may have messages on their way when the program ends" do
    quick = serve(Asking::APP, before: <<~RUBY)
      #{RealTime::SETUP}
      Iodine.subscribe("end") { |_, m| sleep 0.01; $heard = m }
      Iodine.on_state(:on_finish) { Iodine.publish("end", "late"); say "finished" }
      at_exit { say Iodine.publish("end", "later").inspect }
    RUBY
    RawClient.open(quick.port) { |client| ask("50.times { |n| Iodine.publish('end', n.to_s) }; [200, {}, []]", client: client) }
    quick.signal(:TERM)
    expect(quick.wait.exitstatus).to eq(0)
    expect(quick.said).to eq(%w[finished true])
  end
end
