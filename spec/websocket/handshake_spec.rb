# frozen_string_literal: true

# From a request of HTTP to a WebSocket: which requests may, what the application says to it, and what is answered.

require "tmpdir"

RSpec.describe "the handshake of WebSockets", :real_time do
  serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP)

  # The answer to a handshake that has the application run `code`.
  def answer_to(code, verb: "GET", **request)
    RawClient.open(server.port) do |client|
      client.write(WebSocketClient.handshake(lines: code_line(code), verb: verb, **request))
      client.read_response(head: verb == "HEAD")
    end
  end

  def asked?(**request)
    Marshal.load(answer_to("[200, text, [Marshal.dump(env['rack.upgrade?'])]]", **request).body)
  end

  accept = "env['rack.upgrade'] = echo; [200, {}, []]"

  describe "F28: is asked for" do
    {
      "a plain one" => {},
      "names in another case" => { "Upgrade" => "WebSocket", "Connection" => "UPGRADE" },
      "a list in Connection" => { "Connection" => "keep-alive, Upgrade" },
      "lists in Upgrade" => { "Upgrade" => "foo, websocket" },
      "the other way round" => { "Upgrade" => "websocket, foo" },
      "empty elements" => { "Connection" => ",, upgrade ,", "Upgrade" => " ,websocket" }
    }.each do |what, headers|
      it "by #{what}" do
        expect(asked?(headers: headers)).to eq(:websocket)
        answer = answer_to(accept, headers: headers)
        expect([answer.status, answer["sec-websocket-accept"]]).to eq([101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="])
      end
    end

    it "by several lines" do
      lines = "Connection: close\r\nConnection: Upgrade\r\nUpgrade: foo\r\nUpgrade: websocket\r\n"
      socket = web_socket(lines: lines, headers: { "Connection" => nil, "Upgrade" => nil })
      expect(socket.text("hi").read_message).to eq("hi")
    end
  end

  describe "F28: is not asked for" do
    {
      "another protocol of nine letters" => { headers: { "Upgrade" => "pestering" } },
      "another protocol" => { headers: { "Upgrade" => "h2c" } },
      "a longer name" => { headers: { "Upgrade" => "websockets" } },
      "no Upgrade" => { headers: { "Upgrade" => nil } },
      "no Connection" => { headers: { "Connection" => nil } },
      "a Connection that names others" => { headers: { "Connection" => "keep-alive" } },
      "HTTP/1.0" => { version: "1.0" },
      "a POST" => { verb: "POST", headers: { "Content-Length" => "0" } },
      "a PUT" => { verb: "PUT", headers: { "Content-Length" => "0" } }
    }.each do |what, request|
      it "by #{what}" do
        expect(asked?(**request)).to be_nil
      end
    end

    it "by a HEAD" do
      answer = answer_to("[200, { 'x-asked' => env['rack.upgrade?'].inspect }, []]", verb: "HEAD")
      expect([answer.status, answer["x-asked"]]).to eq([200, "nil"])
    end
  end

  describe "is refused, though the application would have it," do
    {
      "version 8" => [{ "Sec-WebSocket-Version" => "8" }, 426],
      "version 14" => [{ "Sec-WebSocket-Version" => "14" }, 426],
      "versions in a list" => [{ "Sec-WebSocket-Version" => "13, 8" }, 426],
      "no version" => [{ "Sec-WebSocket-Version" => nil }, 400],
      "no key" => [{ "Sec-WebSocket-Key" => nil }, 400],
      "an empty key" => [{ "Sec-WebSocket-Key" => "" }, 400],
      "a short key" => [{ "Sec-WebSocket-Key" => "dGhlIHNhbXBsZSBub25j" }, 400],
      "a key that is no base64" => [{ "Sec-WebSocket-Key" => "!!!!IHNhbXBsZSBub25jZQ==" }, 400],
      "malformed extensions" => [{ "Sec-WebSocket-Extensions" => "a;;b" }, 400]
    }.each do |what, (headers, status)|
      it "for #{what}: #{status}" do
        code = "env['rack.upgrade'] = on(on_open: ->(c) { tell(:open) }, on_close: ->(c) { tell(c.open?) }); " \
               "[200, { 'x-app' => 'yes', 'content-type' => 'text/html', 'content-length' => '3' }, ['abc']]"
        answer = answer_to(code, headers: headers)
        expect([answer.status, answer.all("sec-websocket-version"), answer.all("content-type"), answer["x-app"]])
          .to eq([status, ["13"], ["text/plain"], "yes"])
        expect(answer.body.bytesize).to eq(answer["content-length"].to_i).and be > 10
        # As in 0.7: it hears of the end, and of nothing else.
        expect(told).to eq([false])
      end
    end
  end

  describe "rack.upgrade?" do
    it "is nil for plain requests, and rack.upgrade is there" do
      expect(value_of("[env['rack.upgrade?'], env.key?('rack.upgrade'), env['rack.upgrade']]")).to eq([nil, true, nil])
    end

    it "says which one is possible, together with rack.upgrade and rack.hijack" do
      code = "[200, text, [Marshal.dump([env['rack.upgrade?'], env.key?('rack.upgrade'), env['rack.hijack?']])]]"
      expect(Marshal.load(answer_to(code).body)).to eq([:websocket, true, true])
    end
  end

  describe "is answered" do
    it "by a 101 that has what the application says, what the RFC wants and no length (F29)" do
      headers = "{ 'Set-Cookie' => %w[a=1 b=2], 'x-lines' => \"one\\ntwo\", 'Sec-WebSocket-Protocol' => 'chat', " \
                "'Content-Length' => '5', 'content-type' => 'text/html', 'Upgrade' => 'x', 'Connection' => 'close', " \
                "'Sec-WebSocket-Accept' => 'mine' }"
      answer = answer_to("env['rack.upgrade'] = echo; [200, #{headers}, ['12345']]",
                         headers: { "Sec-WebSocket-Protocol" => "chat, other" })
      expect([answer.status, answer.reason]).to eq([101, "Switching Protocols"])
      told = answer.headers.reject { |name, _| %w[date server].include?(name) }
      expect(told).to contain_exactly(
        %w[set-cookie a=1], %w[set-cookie b=2], %w[x-lines one], %w[x-lines two], %w[sec-websocket-protocol chat],
        %w[connection Upgrade], %w[upgrade websocket], %w[sec-websocket-accept s3pPLMBiTxaQ9kYGzzhZRbK+xOo=]
      )
    end

    it "with the digest of the key" do
      3.times do
        key = [Random.bytes(16)].pack("m0")
        expect(web_socket(headers: { "Sec-WebSocket-Key" => key }).text("x").read_message).to eq("x")
      end
    end

    it "with no sub-protocol and no extension by itself" do
      answer = answer_to(accept, headers: { "Sec-WebSocket-Protocol" => "chat", "Sec-WebSocket-Extensions" => "permessage-deflate" })
      expect(answer.status).to eq(101)
      expect(answer.headers.map(&:first)).not_to include("sec-websocket-protocol", "sec-websocket-extensions")
    end

    ["0", "-1", "101", "200", "299", "'200'"].each do |status|
      it "by a 101 when the application says #{status}" do
        expect(answer_to("env['rack.upgrade'] = echo; [#{status}, {}, []]").status).to eq(101)
      end
    end

    {
      "deleted and set again" => "env.delete('rack.upgrade'); env['rack.upgrade'] = handler",
      "alone in its env" => "env.replace('rack.upgrade' => handler)",
      "in an env in another order" => "env['rack.upgrade'] = handler; env.replace(env.to_a.rotate(3).to_h)",
      "under a String of the application's own" => "env.delete('rack.upgrade'); env[+'rack.upgrade'] = handler"
    }.each do |how, code|
      it "when rack.upgrade is #{how}" do
        code = "handler = on(on_open: ->(c) { c.write('hello').then { c.close } }); #{code}; [200, {}, []]"
        expect(answer_to(code).status).to eq(101)
        RawClient.open(server.port) do |client|
          client.write(request_for(code))
          expect(client.read_all).to end_with("hello")
        end
      end
    end

    it "and the body is closed, not sent" do
      code = <<~RUBY
        body = on(each: ->(&block) { tell(:each) }, close: -> { tell(:closed) })
        env["rack.upgrade"] = on(on_open: ->(c) { c.write("hello") })
        [200, {}, body]
      RUBY
      socket = WebSocketClient.open(server.port).shake_hands(lines: code_line(code))
      expect(socket.read_message).to eq("hello")
      expect(told).to eq([:closed])
      expect(socket.say_goodbye).to eq([1000, ""])
    ensure
      socket&.close
    end
  end

  describe "is refused by the application" do
    [300, 302, 401, 404, 503].each do |status|
      it "with #{status}, and its body" do
        answer = answer_to("env['rack.upgrade'] = on(on_close: ->(c) { tell(:closed) }); [#{status}, text, ['no', '!']]")
        expect([answer.status, answer.body, answer["upgrade"]]).to eq([status, "no!", nil])
        expect(value_of("told")).to eq([])
      end
    end

    it "by no handler" do
      answer = answer_to("[200, text, ['plain']]")
      expect([answer.status, answer.body]).to eq([200, "plain"])
    end

    it "by an exception" do
      expect(answer_to("env['rack.upgrade'] = echo; raise 'never mind'").status).to eq(500)
    end

    it "and other requests follow on the connection" do
      RawClient.open(server.port) do |client|
        refused = WebSocketClient.handshake(lines: code_line("[403, text, ['no']]"))
        before, after = %w[before after].map { |word| request_for("[200, text, ['#{word}']]") }
        client.write(before + refused + after)
        answers = Array.new(3) { client.read_response }
        expect(answers.map { |answer| [answer.status, answer.body] }).to eq([[200, "before"], [403, "no"], [200, "after"]])
        client.write(WebSocketClient.handshake(lines: upgrade_line("echo")))
        expect(client.read_response.status).to eq(101)
      end
    end
  end

  it "upgrades behind a pipelined request" do
    WebSocketClient.open(server.port) do |client|
      client.write(request_for("[200, text, ['x' * 100_000]]") + WebSocketClient.handshake(lines: upgrade_line("echo")) +
                   WebSocketClient.frame(:text, "early"))
      expect(client.read_response.body.bytesize).to eq(100_000)
      expect(client.read_response.status).to eq(101)
      expect(client.read_message).to eq("early")
    end
  end

  it "hears what came in the same packet behind on_open" do
    more = %w[a b c].map { |text| WebSocketClient.frame(:text, text) }.join
    socket = web_socket("on(on_open: ->(c) { sleep 0.02; c.write('open') }, on_message: ->(c, data) { c.write(data) })", more: more)
    expect(Array.new(4) { socket.read_message }).to eq(%w[open a b c])
  end

  it "may ask for the end of HTTP in the same breath: what comes next is heard all the same" do
    # In one packet, and a little later: the server has read the request by then, or has not.
    [nil, 0, 0.01].each do |pause|
      4.times do
        request = { headers: { "Connection" => "close, Upgrade" } }
        early = pause ? "" : WebSocketClient.frame(:text, "early")
        web_socket("sleep 0.02; echo", more: early, **request) do |socket|
          expect(socket.read_message).to eq("early") unless pause
          sleep pause if pause
          expect(socket.text("late").read_message).to eq("late")
          expect(socket.say_goodbye).to eq([1000, ""])
        end
      end
    end
  end

  it "closes behind a refusal when the client asked for that" do
    lines = code_line("[403, text, ['no']]")
    request = WebSocketClient.handshake(headers: { "Connection" => "close, Upgrade" }, lines: lines)
    RawClient.open(server.port) do |client|
      answer = client.write(request + WebSocketClient.frame(:text, "early")).read_response
      expect([answer.status, answer.body, answer["connection"]]).to eq([403, "no", "close"])
      expect(client).to be_closed_by_server
    end
  end

  it "hears what comes byte by byte" do
    WebSocketClient.open(server.port) do |client|
      (WebSocketClient.handshake(lines: upgrade_line("echo")) + WebSocketClient.frame(:text, "é")).each_char { |byte| client.write(byte) }
      expect(client.read_response.status).to eq(101)
      expect(client.read_message).to eq("é")
    end
  end

  it "upgrades to silence for false" do
    socket = web_socket("false")
    socket.text("hello").frame(:ping, "there?")
    expect(socket.read_frame).to eq(Frame.new(:pong, true, false, "there?"))
    expect(socket.say_goodbye).to eq([1000, ""])
  end

  it "keeps the env, whose input and hijack are dead" do
    socket = web_socket(<<~RUBY, path: "/room?who=me", headers: { "X-Mine" => "1" })
      hijack, input = env.values_at("rack.hijack", "rack.input")
      was = env
      on(on_open: ->(c) {
        env = c.env
        c.write([env.equal?(was), env["PATH_INFO"], env["QUERY_STRING"], env["HTTP_X_MINE"], env["rack.upgrade"].equal?(self),
                 hijack.call, input.read, env["rack.hijack"].call].inspect)
      })
    RUBY
    expect(socket.read_message).to eq('[true, "/room", "who=me", "1", true, nil, "", nil]')
    expect(socket.say_goodbye).to eq([1000, ""])
  end

  it "may have a body, in memory, in a file or after leave to send it, which is for the application and then gone" do
    read = "was = env['rack.input'].read.to_s.bytesize; echo(on_open: ->(c) { c.write([was, c.env['rack.input'].read.to_s].inspect) })"
    [5, 700_000].each do |length|
      WebSocketClient.open(server.port) do |socket|
        socket.write(WebSocketClient.handshake(headers: { "Content-Length" => length }, lines: upgrade_line(read)) +
                     "x" * length + WebSocketClient.frame(:text, "frame"))
        expect([socket.read_response.status, socket.read_message, socket.read_message]).to eq([101, [length, ""].inspect, "frame"])
      end
    end
    WebSocketClient.open(server.port) do |socket|
      socket.write(WebSocketClient.handshake(headers: { "Content-Length" => "5", "Expect" => "100-continue" }, lines: upgrade_line(read)))
      expect(socket.read_response.status).to eq(100)
      socket.write("hello#{WebSocketClient.frame(:text, "frame")}")
      expect([socket.read_response.status, socket.read_message, socket.read_message]).to eq([101, '[5, ""]', "frame"])
    end
  end

  {
    "a handler whose respond_to? raises" => "env['rack.upgrade'] = Class.new { def respond_to_missing?(*) = raise('asked') }.new; [200, {}, []]",
    "a header that is none" => "env['rack.upgrade'] = echo; [200, { 'a' => \"b\\rc\" }, []]",
    "headers that are no Hash" => "env['rack.upgrade'] = echo; [200, 5, []]",
    "a status that is none" => "env['rack.upgrade'] = echo; ['abc', {}, []]"
  }.each do |what, code|
    it "is answered by 500 for #{what}" do
      expect(answer_to(code).status).to eq(500)
    end
  end

  it "is not undone by a body whose close raises" do
    server.log_after(/RuntimeError: in close/) do
      socket = web_socket(answer: "[200, {}, on(close: -> { raise 'in close' })]")
      expect(socket.text("x").read_message).to eq("x")
    end
  end

  it "goes through middleware and Rack::Lint of Rack 2" do
    app = <<~RUBY
      require "rack"
      inner = ->(env) { env["rack.upgrade"] = echo; [200, { "x-inner" => "yes" }, []] }
      Rack::Builder.new do
        use Rack::Runtime
        use Rack::Lint
        use Rack::ContentLength
        use Rack::Head
        run inner
      end.to_app
    RUBY
    lint = serve(app, before: RealTime::SETUP)
    socket = WebSocketClient.open(lint.port).shake_hands
    expect([socket.answer.status, socket.answer["x-inner"], socket.answer["content-length"]]).to eq([101, "yes", nil])
    expect(socket.text("hi").read_message).to eq("hi")
    expect(lint.log).not_to match(/Lint|Error/)
  ensure
    socket&.close
  end

  it "is an answer for those who are called behind it" do
    socket = web_socket(<<~RUBY)
      env["rack.after_reply"] << -> { tell(:after) }
      env["rack.response_finished"] << ->(env, status, headers, error) { tell(status, error) }
      on(on_open: ->(c) { c.write("open") })
    RUBY
    expect(socket.read_message).to eq("open")
    answer, after = told(2)
    expect([answer.last, after]).to eq([nil, :after])
  end

  it "goes over Unix sockets" do
    Dir.mktmpdir do |folder|
      serve(Asking::APP, before: RealTime::SETUP, address: "#{folder}/socket")
      WebSocketClient.open_unix("#{folder}/socket") do |socket|
        expect(socket.shake_hands(lines: upgrade_line("echo")).text("x" * 70_000).read_message).to eq("x" * 70_000)
        expect(socket.say_goodbye).to eq([1000, ""])
      end
    end
  end

  it "is logged as a request that was answered by 101" do
    logging = serve(Asking::APP, before: RealTime::SETUP, options: "log: true")
    web_socket(port: logging.port)
    logging.wait_for_log(%r{"GET / HTTP/1.1" 101 })
  end
end
