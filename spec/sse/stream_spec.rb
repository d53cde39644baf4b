# frozen_string_literal: true

# Server-sent events (HTML Living Standard, section 9.2).

RSpec.describe "server-sent events", :real_time do
  serve_for_all(Asking::APP, threads: 4, before: RealTime::SETUP)

  def asked?(lines, verb: "GET", version: "1.1")
    value_of("env['rack.upgrade?']", headers: lines, verb: verb, version: version)
  end

  describe "F34: are asked for" do
    ["text/event-stream", "TEXT/Event-Stream", "text/event-stream, */*", "text/html;q=0.5, text/event-stream;q=0.1",
     "text/event-stream; charset=utf-8", "*/*, text/event-stream"].each do |accept|
      it "by Accept: #{accept}" do
        expect(asked?("Accept: #{accept}\r\n")).to eq(:sse)
      end
    end

    it "by several lines, and as for iodine 0.7 by an Upgrade" do
      expect(asked?("Accept: text/html\r\nAccept: text/event-stream\r\n")).to eq(:sse)
      expect(asked?("Upgrade: sse\r\nConnection: upgrade\r\n")).to eq(:sse)
    end

    it "not by others" do
      ["*/*", "text/*", "text/event-streams", "text/plain", "text/event-stream;q=0"].each do |accept|
        expect(asked?("Accept: #{accept}\r\n")).to be_nil, accept
      end
    end

    it "not by a POST" do
      expect(asked?("Accept: text/event-stream\r\nContent-Length: 0\r\n", verb: "POST")).to be_nil
    end

    it "F37: not by a HEAD" do
      answer = ask("[200, { 'x-asked' => env['rack.upgrade?'].inspect }, []]", verb: "HEAD", headers: "Accept: text/event-stream\r\n")
      expect([answer.status, answer["x-asked"]]).to eq([200, "nil"])
    end

    it "but not when a WebSocket is" do
      socket = web_socket("upgrade = env['rack.upgrade?']; on(on_open: ->(c) { c.write(upgrade.inspect) })", headers: { "Accept" => "text/event-stream" })
      expect(socket.read_message).to eq(":websocket")
    end
  end

  describe "begin" do
    it "with a head that says so once, whatever the application said (F37)" do
      stream = event_stream("on(on_open: ->(c) { c.write('x') })", answer: <<~RUBY)
        [201, { "Content-Type" => "text/plain", "content-length" => "5", "Set-Cookie" => %w[a=1 b=2], "x-mine" => "yes" }, ["12345"]]
      RUBY
      answer = stream.answer
      expect(answer.status).to eq(200)
      expect(answer.all("content-type")).to eq(["text/event-stream"])
      expect(answer.all("cache-control")).to match([/no-cache/])
      expect(answer.all("x-accel-buffering")).to eq(["no"])
      expect(answer.all("set-cookie")).to eq(%w[a=1 b=2])
      expect(answer["x-mine"]).to eq("yes")
      expect(answer.headers.map(&:first)).not_to include("content-length", "transfer-encoding", "content-encoding")
      expect(stream.read_event).to eq(["data: x"])
    end

    it "with the application's own cache-control" do
      expect(event_stream("echo", answer: "[200, { 'Cache-Control' => 'no-store' }, []]").answer.all("cache-control")).to eq(["no-store"])
    end

    it "with on_open, then on_drained, and the env has the Last-Event-ID" do
      stream = event_stream("on(on_open: ->(c) { tell(:open, c.env['HTTP_LAST_EVENT_ID'], c.protocol) }, on_drained: ->(c) { tell(:drained) })",
                            lines: "Accept: text/event-stream\r\nLast-Event-ID: 42\r\n")
      expect(told(2)).to eq([[:open, "42", :sse], :drained])
      expect(stream).to be_silent
    end

    it "not when the application refuses, or has no handler" do
      stream = event_stream("echo", answer: "[404, text, ['no']]")
      expect([stream.answer.status, stream.answer["content-type"], stream.read_exactly(2)]).to eq([404, "text/plain", "no"])
      expect(ask("[200, text, ['plain']]", headers: "Accept: text/event-stream\r\n").body).to eq("plain")
    end

    { "F35: HTTP/1.0" => { version: "1.0" }, "F35: Connection: close" => { lines: "Accept: text/event-stream\r\nConnection: close\r\n" } }.each do |what, request|
      it "for #{what}, too, and stay open" do
        stream = event_stream("on(on_open: ->(c) { c.write('open'); $client = c }, on_close: ->(c) { tell(:closed) })", **request)
        expect(stream.answer.status).to eq(200)
        expect(stream.read_event).to eq(["data: open"])
        expect(value_of("$client.write('later')")).to be(true)
        expect(stream.read_event).to eq(["data: later"])
        value_of("$client.close")
        expect(stream.read_all).to eq("")
        expect(told).to eq([:closed])
      end
    end

    it "behind pipelined requests" do
      stream = EventStream.open(server.port)
      (@sockets ||= []) << stream
      stream.write(request_for("[200, text, ['x' * 100_000]]") + request_for("env['rack.upgrade'] = on(on_open: ->(c) { c.write('e') }); [200, {}, []]",
                                                                             headers: "Accept: text/event-stream\r\n"))
      expect(stream.read_response.body.bytesize).to eq(100_000)
      expect(stream.read_head.read_event).to eq(["data: e"])
    end
  end

  describe "#write" do
    {
      '"a"' => ["data: a"], '"a\nb"' => ["data: a", "data: b"], '"a\r\nb\rc"' => ["data: a", "data: b", "data: c"],
      '"trail\n"' => ["data: trail"], '"trail\n\n"' => ["data: trail", "data: "], '"\nlead"' => ["data: ", "data: lead"],
      '"é".encode("UTF-8")' => ["data: é".b], '"id: 5"' => ["data: id: 5"], '"\xFF".b' => ["data: \xFF".b], "5" => ["data: 5"],
      '"x" * 100_000' => ["data: #{"x" * 100_000}"]
    }.each do |code, lines|
      it "sends #{code} as an event" do
        expect(event_stream("on(on_open: ->(c) { c.write(#{code}) })").read_event).to eq(lines)
      end
    end

    it "sends nothing for nothing" do
      stream = event_stream("on(on_open: ->(c) { tell(c.write(''), c.pending); c.write('x') })")
      expect(told).to eq([[true, 0]])
      expect(stream.read_event).to eq(["data: x"])
    end
  end

  describe "#write_event" do
    {
      '"a", event: "e", id: "7", retry: 3000' => ["id: 7", "event: e", "retry: 3000", "data: a"],
      '"a\nb", event: :sym, id: 5' => ["id: 5", "event: sym", "data: a", "data: b"],
      '"a"' => ["data: a"], '"a", event: nil, id: nil, retry: nil' => ["data: a"], '"", id: ""' => ["id: "],
      '"", retry: 0' => ["retry: 0"], '"a", event: "é"' => ["event: é".b, "data: a"]
    }.each do |arguments, lines|
      it "F37: sends #{arguments} with its fields" do
        stream = event_stream("on(on_open: ->(c) { tell(c.write_event(#{arguments})) })")
        expect(stream.read_event).to match_array(lines).and end_with(lines.last)
        expect(told).to eq([true])
      end
    end

    it "refuses what would be another field, or no number" do
      stream = event_stream(<<~RUBY)
        on(on_open: ->(c) {
          tell([{ event: "a\\nb" }, { id: "a\\rb" }, { id: "a\\0" }, { retry: -1 }, { retry: "x" }, { other: 1 }]
            .map { |fields| (c.write_event("x", **fields); :none) rescue $!.class.name })
          tell((c.write_event(5) rescue $!.class.name), (c.write_event rescue $!.class.name))
          c.write("after")
        })
      RUBY
      expect(told(2)).to eq([%w[ArgumentError ArgumentError ArgumentError RangeError TypeError ArgumentError], %w[TypeError ArgumentError]])
      expect(stream.read_event).to eq(["data: after"])
    end

    it "sends the data alone to WebSockets" do
      socket = web_socket("on(on_open: ->(c) { tell(c.write_event('x', event: 'e', id: 1)) })")
      expect(socket.read_message).to eq("x")
      expect(told).to eq([true])
    end
  end

  it "never hears messages, whatever the client sends" do
    stream = event_stream("on(on_message: ->(c, data) { tell(data) }, on_open: ->(c) { $client = c; c.write('open') })")
    # Its head comes before that.
    expect(stream.read_event).to eq(["data: open"])
    stream.write("GET / HTTP/1.1\r\n\r\n" * 1000)
    value_of("$client.write('x')")
    expect(stream.read_event).to eq(["data: x"])
    expect(value_of("told")).to eq([])
  end

  {
    "garbage" => "\0\xFF garbage\r\n\r\n".b, "a request" => "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "an empty line" => "\r\n",
    "a request that expects leave" => "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    "a request without its end" => "GET / HTTP/1.1\r\nHos"
  }.each do |what, bytes|
    ["", "Connection: close\r\n"].each do |close|
      it "is no longer HTTP: #{what} behind the request is nothing #{"(close)" unless close.empty?}" do
        stream = EventStream.open(server.port)
        (@sockets ||= []) << stream
        code = "sleep 0.02; env['rack.upgrade'] = on(on_open: ->(c) { $client = c; c.write('a') }, on_close: ->(c) { tell(:closed) }); [200, {}, []]"
        stream.write("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n#{close}#{code_line(code)}\r\n" + bytes)
        expect(stream.read_head.answer.status).to eq(200)
        expect(stream.read_event).to eq(["data: a"])
        expect(stream).to be_silent(0.05)
        expect(value_of("$client.write('b')")).to be(true)
        expect(stream.read_event).to eq(["data: b"])
        stream.close
        expect(told).to eq([:closed])
      end
    end
  end

  describe "F36: ends with the client" do
    [["at once", ""], ["though it had sent something", "x"], ["though it had sent much", "x" * 300_000]].each do |what, bytes|
      it what do
        stream = event_stream("on(on_close: ->(c) { tell(:closed, c.open?) })")
        stream.write(bytes).close
        expect(told).to eq([[:closed, false]])
      end
    end

    it "who went before the answer" do
      code = "say 'at work'; sleep 0.05; env['rack.upgrade'] = on(on_open: ->(c) { tell(:open) }, on_close: ->(c) { tell(:closed) }); [200, {}, []]"
      [:close, :finish_writing].each_with_index do |deed, n|
        stream = EventStream.open(server.port)
        (@sockets ||= []) << stream
        stream.write("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n#{code_line(code)}\r\n")
        server.wait_for_said("at work", times: n + 1)
        stream.public_send(deed)
        expect(told(2)).to eq(%i[open closed])
      end
    end

    it "who had no more to ask" do
      [{ version: "1.0" }, { lines: "Accept: text/event-stream\r\nConnection: close\r\n" }].each do |request|
        event_stream("on(on_close: ->(c) { tell(:closed) })", **request).close
        expect(told).to eq([:closed])
      end
    end
  end

  it "ends by close, behind what was written" do
    stream = event_stream("on(on_open: ->(c) { 100.times { |n| c.write('x' * 50_000 + n.to_s) }; c.close; tell(c.open?, c.write('late')) }, " \
                          "on_close: ->(c) { tell(:closed) })")
    expect(Array.new(100) { stream.read_event.first[/\d+\z/].to_i }).to eq([*0..99])
    expect(stream.read_all).to eq("")
    expect(told(2)).to eq([[false, nil], :closed])
  end

  it "changes its handler" do
    stream = event_stream("on(on_open: ->(c) { c.handler = on(on_open: ->(d) { d.write('second') }, on_close: ->(d) { tell(:second) }) }, " \
                          "on_close: ->(c) { c.write('first'); tell(:first) })")
    expect([stream.read_event, stream.read_event]).to eq([["data: first"], ["data: second"]])
    stream.close
    expect(told(2)).to eq(%i[first second])
  end

  it "hears channels as events, but not in binary" do
    stream = event_stream("on(on_open: ->(c) { tell(c.subscribe('news'), c.subscribe('bytes', as: :binary), c.subscribe('news'), " \
                          "c.subscribe('block', as: :binary) { |_, m| c.write('block ' + m) }) })")
    expect(told).to eq([["news", nil, "news", "block"]])
    value_of("%w[news bytes block].each { |name| Iodine.publish(name, \"a\\nb\") }; nil")
    expect([stream.read_event, stream.read_event]).to contain_exactly(["data: a", "data: b"], ["data: block a", "data: b"])
  end

  describe "with ping: 0.2" do
    serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP, options: "ping: 0.2, timeout: 0.1")

    # Nil if it was closed because we took longer than that to ask for it.
    def patient_stream
      event_stream("on(on_open: ->(c) { tell(c.timeout) })")
    rescue EOFError, Errno::ECONNRESET, Errno::EPIPE
      nil
    end

    it "gets a comment after so much silence, and needs not answer" do
      stream = eventually { patient_stream }
      3.times { expect(stream.read_exactly(8)).to eq(": ping\n\n") }
    end
  end
end
