# frozen_string_literal: true

# What `subscribe`, `unsubscribe` and `publish` take, return and refuse; and what is the same channel.

RSpec.describe "pub/sub", :real_time do
  serve_for_all(Asking::APP, threads: 4, before: RealTime::SETUP)

  # A WebSocket that has subscribed; `code` knows `client`. What it returned was told.
  def subscriber(code, **request)
    web_socket("on(on_open: ->(client) { #{code}; client.write('ready') }, on_message: ->(client, data) { eval(data) })", **request)
      .tap { |socket| expect(socket.read_message).to eq("ready") }
  end

  def publish(*several)
    value_of(several.map { |arguments| "Iodine.publish(#{arguments})" }.join("; "))
  end

  # What `code` raises: class and message.
  def raised(code)
    value_of("begin; #{code}; nil; rescue Exception => error; [error.class.name, error.message]; end")
  end

  # Proves that nothing else was on its way to it.
  def expect_no_more(socket)
    socket.text("client.write('nothing else')")
    expect(socket.read_message).to eq("nothing else")
  end

  describe "subscribe, of a connection," do
    {
      "'%s'" => "a name", ":'%s'" => "a Symbol", "to: '%s'" => "a keyword", "to: :'%s'" => "a keyword's Symbol",
      "{ to: '%s' }" => "a Hash", "'%s', { match: :nats }" => "options that mean nothing", "'%s', as: :text" => "the usual format",
      "'%s', to: 'another'" => "a name that wins over :to", "'%s', match: 'redis'" => "a pattern that is none",
      "'%s', nobody: :knows" => "an option that nobody knows", "'%s', nil" => "nil for options (F4)"
    }.each_with_index do |(arguments, what), index|
      it "takes #{what}, and has the peer told" do
        channel = "forms#{index}"
        socket = subscriber("tell(client.subscribe(#{format(arguments, channel)}))")
        expect(told.first.to_s).to eq(channel)
        expect(publish("'#{channel}', 'one'")).to be(true)
        expect(publish(":#{channel}, 'two'")).to be(true)
        expect([socket.read_message, socket.read_message]).to eq(%w[one two])
        expect(publish("'another', 'x'")).to be(true)
        expect_no_more(socket)
      end
    end

    it "returns the name as it was given" do
      subscriber("tell([client.subscribe(:sym), client.subscribe('str'), client.subscribe(to: :kw), client.subscribe('p*', match: :redis)])")
      expect(told).to eq([[:sym, "str", :kw, "p*"]])
    end

    {
      "a block" => "'b0') { |c, m| client.write(c + '=' + m) }",
      "a :handler" => "'b1', handler: ->(c, m) { client.write(c + '=' + m) })",
      "a :handler that wins over a block" => "'b2', handler: ->(c, m) { client.write(c + '=' + m) }) { client.write('block') }",
      "any object with call" => "'b3', handler: Struct.new(:client) { def call(c, m) = client.write(c + '=' + m) }.new(client))"
    }.each_with_index do |(what, code), index|
      it "calls #{what} with channel and message" do
        socket = subscriber("client.subscribe(#{code}")
        publish("'b#{index}', 'hi'")
        expect(socket.read_message).to eq("b#{index}=hi")
        expect_no_more(socket)
      end
    end

    it "writes text that is none as binary, and anything as binary if told to (F25)" do
      socket = subscriber("client.subscribe('t'); client.subscribe('b', as: :binary); client.subscribe('s', as: 'binary')")
      publish("'t', \"caf\\u00e9\"", "'t', \"\\xff\"", "'b', 'abc'", "'s', 'abc'")
      frames = Array.new(4) { socket.read_frame }
      expect(frames.map(&:opcode)).to eq(%i[text binary binary binary])
      expect(frames.map(&:payload)).to eq(["café".b, "\xFF".b, "abc", "abc"])
    end

    it "has a pattern by match: :redis alone, and gives the block the channel itself" do
      socket = subscriber("client.subscribe('pat.*', match: :redis) { |c, m| client.write(c + '=' + m) }; client.subscribe('pat.?')")
      publish("'pat.x', '1'", "'pat.', '2'", "'pat', '3'", "'pat.?', '4'")
      expect(Array.new(4) { socket.read_message }.sort).to eq(["4", "pat.=2", "pat.?=4", "pat.x=1"])
      expect_no_more(socket)
    end

    it "warns that :channel is old, and takes it" do
      log = server.log_after(/WARNING: .*:channel keyword.*:to/) do
        socket = subscriber("tell(client.subscribe(channel: 'old'))")
        publish("'old', 'x'")
        expect(socket.read_message).to eq("x")
      end
      expect(log).not_to include("ERROR")
      expect(told).to eq(["old"])
    end

    it "knows no binary events" do
      stream = event_stream("on(on_open: ->(client) { tell([client.subscribe('e', as: :binary), client.subscribe('f')]) })")
      expect(told).to eq([[nil, "f"]])
      publish("'e', 'x'", "'f', 'y'")
      expect(stream.read_event).to eq(["data: y"])
    end

    it "is nil on a closed connection, as is unsubscribe; publish works on" do
      socket = subscriber("client.subscribe('after')")
      web_socket("on(on_close: ->(c) { tell([c.subscribe('x'), c.unsubscribe('x'), c.publish('after', 'closed')]) ; $gone = c })").say_goodbye
      expect(socket.read_message).to eq("closed")
      expect(told.first.last).to be(true)
      # Behind on_close.
      eventually { value_of("$gone && $gone.env.nil?") }
      expect(value_of("[$gone.subscribe('x'), $gone.unsubscribe('x'), $gone.publish('after', 'again')]")).to eq([nil, nil, true])
      expect(socket.read_message).to eq("again")
    end
  end

  describe "subscribe, of the process," do
    ["'%s'", ":'%s'", "to: '%s'", "{ to: :'%s' }", "'%s', { as: :binary }"].each_with_index do |arguments, index|
      it "takes #{format(arguments, "x")} and a block" do
        channel = "process#{index}"
        name = value_of("Iodine.subscribe(#{format(arguments, channel)}) { |c, m| tell([c, m], to: $told) }")
        expect(name.to_s).to eq(channel)
        publish("'#{channel}', 'hi'")
        eventually { value_of("$told.size") == 1 }
        expect(value_of("told")).to eq([[channel, "hi"]])
        expect(value_of("Iodine.unsubscribe(:'#{channel}')")).to be(true)
        expect(value_of("Iodine.unsubscribe('#{channel}')")).to be(false)
      end
    end

    it "wants a block or a handler at once (F64)" do
      expect(raised("Iodine.subscribe('x')")).to eq(["ArgumentError", "a block or a :handler is required."])
      expect(raised("Iodine.subscribe('x', match: :redis)")).to eq(["ArgumentError", "a block or a :handler is required."])
    end
  end

  describe "refuses:" do
    arguments = "method accepts 1 or 2 arguments."
    target = "a target (:to) subject / stream / channel is required."
    {
      "subscribe()" => ["ArgumentError", arguments], "subscribe('a', {}, 3)" => ["ArgumentError", arguments],
      "subscribe(nil)" => ["ArgumentError", target], "subscribe(false)" => ["ArgumentError", target],
      "subscribe({})" => ["ArgumentError", target], "subscribe(to: nil)" => ["ArgumentError", target],
      "subscribe(5)" => ["TypeError", "wrong argument type Integer (expected String)"],
      "subscribe(to: 5)" => ["TypeError", "wrong argument type Integer (expected String)"],
      "subscribe('a', 1)" => ["TypeError", "wrong argument type Integer (expected Hash)"],
      "subscribe('a', 'b')" => ["TypeError", "wrong argument type String (expected Hash)"],
      "subscribe('a', handler: 5)" => ["TypeError", "the :handler must respond to call"],
      "unsubscribe(nil)" => ["ArgumentError", target], "unsubscribe(5)" => ["TypeError", "wrong argument type Integer (expected String)"],
      "publish" => ["ArgumentError", "method accepts 1-3 arguments."],
      "publish('a', 'b', nil, 4)" => ["ArgumentError", "method accepts 1-3 arguments."],
      "publish('a')" => ["ArgumentError", "message is required."], "publish('a', nil)" => ["ArgumentError", "message is required."],
      "publish('a', false)" => ["ArgumentError", "message is required."],
      "publish('a', 5)" => ["TypeError", "wrong argument type Integer (expected String)"],
      "publish('a', :b)" => ["TypeError", "wrong argument type Symbol (expected String)"],
      "publish(nil, 'b')" => ["ArgumentError", "target / channel is required ."],
      "publish(5, 'b')" => ["TypeError", "wrong argument type Integer (expected String)"],
      "publish('a', 'b', 5)" => ["TypeError", "wrong argument type Integer (expected Iodine::PubSub::Engine)"],
      "publish('a', 'b', true)" => ["TypeError", "wrong argument type TrueClass (expected Iodine::PubSub::Engine)"],
      "publish('a', 'b', Iodine::PubSub::Engine)" => ["TypeError", "wrong argument type Class (expected Iodine::PubSub::Engine)"],
      "publish(to: 'a')" => ["ArgumentError", "message is required."],
      "publish(message: 'a')" => ["ArgumentError", "target / channel is required ."],
      "publish(to: 'a', message: 'b', engine: 5)" => ["TypeError", "wrong argument type Integer (expected Iodine::PubSub::Engine)"]
    }.each do |code, error|
      it code do
        expect(raised("Iodine.#{code}#{" { }" if code.start_with?("subscribe")}")).to eq(error)
      end
    end

    it "the same, of a connection" do
      socket = web_socket(<<~'RUBY')
        on(on_message: ->(client, code) {
          begin
            client.instance_eval(code)
            client.write("nothing raised")
          rescue Exception => error
            client.write("#{error.class}: #{error.message}")
          end
        })
      RUBY
      { "subscribe" => "ArgumentError: #{arguments}", "subscribe(nil)" => "ArgumentError: #{target}",
        "subscribe('a', nil)" => "nothing raised", "subscribe('a', 1)" => "TypeError: wrong argument type Integer (expected Hash)",
        "unsubscribe(nil)" => "ArgumentError: #{target}", "publish('a')" => "ArgumentError: message is required.",
        "publish('a', 'b', 5)" => "TypeError: wrong argument type Integer (expected Iodine::PubSub::Engine)" }.each do |code, answer|
        expect(socket.text(code).read_message).to eq(answer)
      end
    end
  end

  describe "publish" do
    ["'f%d', 'm'", ":f%d, 'm'", "'f%d', 'm', nil", "'f%d', 'm', false", "'f%d', 'm', Iodine::PubSub::CLUSTER",
     "'f%d', 'm', Iodine::PubSub::PROCESS", "to: 'f%d', message: 'm'", "to: :f%d, message: 'm', engine: nil",
     "to: 'f%d', message: 'm', engine: false", "to: 'f%d', message: 'm', engine: Iodine::PubSub::PROCESS",
     "**{ to: 'f%d', message: 'm' }"].each_with_index do |form, index|
      it "takes #{form % 0}" do
        socket = subscriber("client.subscribe('f#{index}')")
        expect(publish(form % index)).to be(true)
        expect(socket.read_message).to eq("m")
      end
    end

    it "takes a Hash, as 0.7 meant to (F21)" do
      socket = subscriber("client.subscribe('hash')")
      expect(publish("{ to: 'hash', message: 'm' }")).to be(true)
      expect(socket.read_message).to eq("m")
    end

    it "delivers an empty message, and one of a megabyte" do
      socket = subscriber("client.subscribe('sizes')")
      publish("'sizes', ''", "'sizes', 'x' * 1_000_000")
      expect(socket.read_message).to eq("")
      expect(socket.read_message).to eq("x" * 1_000_000)
    end

    it "copies: what the application does to its Strings later changes nothing" do
      socket = subscriber("client.subscribe('copied') { |c, m| client.write(c + m); c << 'x'; m << 'x' }")
      value_of("c, m = +'copied', +'!'; 2.times { Iodine.publish(c, m) }; c << 'no'; m << 'no'; nil")
      expect([socket.read_message, socket.read_message]).to eq(%w[copied! copied!])
    end

    it "comes behind what its callback wrote before, to the publisher, too" do
      socket = web_socket("on(on_open: ->(c) { c.subscribe('own') }, on_message: ->(c, m) { c.write('1'); c.publish('own', '2') })")
      5.times { expect([socket.text("x").read_message, socket.read_message]).to eq(%w[1 2]) }
    end

    it "is not heard by who subscribes later, nor by who has unsubscribed" do
      socket = web_socket(<<~RUBY)
        on(on_message: ->(c, m) {
          next c.write("nothing else") if m == "?"
          c.publish('later', 'early')
          c.subscribe('later')
          c.publish('later', 'heard')
          c.publish('later', 'end')
        })
      RUBY
      socket.text("x")
      expect([socket.read_message, socket.read_message]).to eq(%w[heard end])
      socket.text("?")
      expect(socket.read_message).to eq("nothing else")
    end

    it "is not delivered to who unsubscribes in the meantime" do
      socket = web_socket(<<~RUBY)
        on(on_message: ->(c, m) {
          c.subscribe('short') { c.write('heard') }
          100.times { c.publish('short', '') }
          c.unsubscribe('short')
          c.publish('short', '')
          c.write('nothing else')
        })
      RUBY
      3.times { expect(socket.text("x").read_message).to eq("nothing else") }
    end
  end

  describe "a channel" do
    it "has a name of any bytes, whatever their encoding" do
      names = ["", "\0", "\xFF\xFE", "a b\r\n", "ü", "x" * 1000]
      names.each_with_index do |name, index|
        data = [name].pack("m0")
        socket = subscriber("client.subscribe('#{data}'.unpack1('m')) { |c, m| client.write([c].pack('m0') + m) }")
        value_of("Iodine.publish('#{data}'.unpack1('m').force_encoding('#{%w[UTF-8 BINARY ISO-8859-1][index % 3]}'), '!')")
        expect(socket.read_message).to eq("#{data}!")
        socket.close
      end
    end

    it "is the same as String and as Symbol" do
      socket = subscriber("client.subscribe(:same)")
      publish("'same', '1'", ":same, '2'")
      expect([socket.read_message, socket.read_message]).to eq(%w[1 2])
      socket.text("client.write(client.unsubscribe('same').to_s + client.unsubscribe(:same).to_s)")
      expect(socket.read_message).to eq("truefalse")
    end

    it "has one subscription of a connection: a new one replaces the old one, and a pattern of the same text, too" do
      socket = subscriber("client.subscribe('slot') { client.write('old') }; client.subscribe('slot') { client.write('new') }")
      publish("'slot', ''")
      expect(socket.read_message).to eq("new")
      socket.text("client.subscribe('sl*') { client.write('exact') }; client.subscribe('sl*', match: :redis) { client.write('pattern') }; client.write('ok')")
      expect(socket.read_message).to eq("ok")
      publish("'sl*', ''")
      expect(socket.read_message).to eq("pattern")
      expect_no_more(socket)
      socket.text("client.write(client.unsubscribe('sl*').to_s + client.unsubscribe('sl*').to_s)")
      expect(socket.read_message).to eq("truefalse")
    end

    it "that matches twice is told twice" do
      socket = subscriber("client.subscribe('two'); client.subscribe('t*', match: :redis)")
      publish("'two', 'x'")
      expect([socket.read_message, socket.read_message]).to eq(%w[x x])
      expect_no_more(socket)
    end

    it "is matched as by Redis (F18, F19)" do
      patterns = { "news*" => %w[news newsx], "?*" => %w[a ab], "[a" => %w[a], "a\\" => ["a\\"], "a*c" => %w[abcbc ac],
                   "a**b" => %w[ab], "[^x]" => %w[y], "[e-a]" => %w[c], "\\*" => %w[*] }
      patterns.each do |pattern, names|
        socket = subscriber("client.subscribe(#{pattern.dump}, match: :redis) { |c, _| client.write(c) }")
        names.each do |name|
          publish("#{name.dump}, ''")
          expect(socket.read_message).to eq(name)
        end
        publish("'x', ''", "'', ''")
        socket.text("client.write('.')")
        rest = socket.read_message
        rest = socket.read_message while rest == "x" && pattern == "?*"
        expect(rest).to eq(".")
        socket.close
      end
    end
  end

  it "logs what a block raises, and goes on" do
    socket = subscriber("client.subscribe('raise') { |_, m| m == 'bad' ? raise('told you') : client.write(m) }")
    log = server.log_after(/told you/) { publish("'raise', 'bad'", "'raise', 'good'") }
    expect(log).to include("RuntimeError")
    expect(socket.read_message).to eq("good")
  end

  it "survives the death of its thread in a block" do
    socket = subscriber("Iodine.subscribe('death') { |_, m| m == 'die' ? Thread.current.kill : client.write(m) }")
    publish("'death', 'die'", "'death', '0'", "'death', '1'", "'death', '2'")
    expect(Array.new(3) { socket.read_message }).to eq(%w[0 1 2])
    value_of("Iodine.unsubscribe('death')")
  end

  it "calls a block of the process for one message at a time, in order, whatever thread it is on" do
    value_of(<<~RUBY)
      $busy = 0
      $order = []
      Iodine.subscribe("serial") { |_, m| $overlap = true if ($busy += 1) > 1; sleep 0.0001 if m.end_with?("7"); $order << m.to_i; $busy -= 1 }
      500.times { |n| Iodine.publish("serial", n.to_s) }
      nil
    RUBY
    eventually { value_of("$order.size") == 500 }
    expect(value_of("[$order, $overlap]")).to eq([[*0..499], nil])
    value_of("Iodine.unsubscribe('serial')")
  end

  it "reaches WebSockets, events and blocks at once", :gc_stress do
    socket = subscriber("client.subscribe('all')")
    stream = event_stream("on(on_open: ->(client) { client.subscribe('all'); tell(:there) })")
    expect(told).to eq([:there])
    value_of("$heard = []; Iodine.subscribe('all') { |_, m| $heard << m }; nil")
    5.times { |n| publish("'all', '#{n}'") }
    expect(Array.new(5) { socket.read_message }).to eq(%w[0 1 2 3 4])
    expect(Array.new(5) { stream.read_event }).to eq(Array.new(5) { |n| ["data: #{n}"] })
    eventually(20) { value_of("$heard.size") == 5 }
    value_of("Iodine.unsubscribe('all')")
  end
end
