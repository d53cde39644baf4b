# frozen_string_literal: true

# What Rack has beside the answer itself: hijacking by a response header, other protocols, early hints, and those who are
# called when the answer was given.

RSpec.describe "beside the answer" do
  serve_for_all(Asking::APP, threads: 2, options: "early_hints: true")

  describe "rack.hijack in the response" do
    it "is called with the socket, behind the head" do
      code = "[200, text.merge('rack.hijack' => ->(io) { io.write(io.class.name); io.close }), ['ignored']]"
      told = RawClient.converse(server.port, request_for(code))
      expect(told).to start_with("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n").and end_with("\r\n\r\nTCPSocket")
      expect(told).to match(/^connection: close\r$/)
      expect(told).not_to match(/rack\.|content-length|chunked/)
    end

    # RFC 9112 section 6.3: who names both has chunks. HTTP/1.0 knows none.
    {
      ["chunked", nil, "1.1"] => ["transfer-encoding: chunked"],
      [nil, "7", "1.1"] => ["content-length: 7"],
      ["chunked", "7", "1.1"] => ["transfer-encoding: chunked"],
      [nil, "x", "1.1"] => [],
      [nil, "7\\n8", "1.1"] => [],
      [nil, "7", "1.0"] => ["content-length: 7"],
      ["chunked", "7", "1.0"] => []
    }.each do |(coding, length, version), framing|
      it "is framed as the application says: #{coding.inspect} and #{length.inspect} for HTTP/#{version}" do
        code = <<~RUBY
          headers = { "Transfer-Encoding" => #{coding.inspect}, "Content-Length" => #{length ? "\"#{length}\"" : "nil"} }
          [200, headers.merge("rack.hijack" => ->(io) { io.write("5\\r\\nhello\\r\\n0\\r\\n\\r\\n"); io.close }), []]
        RUBY
        told = RawClient.converse(server.port, request_for(code, version: version))
        expect(told).to end_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n").and match(/^connection: close\r$/)
        expect(told.lines("\r\n", chomp: true).grep(/\A(content-length|transfer-encoding)/)).to eq(framing)
      end
    end

    it "may switch protocols, and talk as long as it likes" do
      code = <<~RUBY
        talk = ->(io) { Thread.new { while (line = io.gets) do io.write("echo \#{line}") end; io.close } }
        [101, { "connection" => "upgrade", "upgrade" => "echo", "rack.hijack" => talk }, []]
      RUBY
      RawClient.open(server.port) do |client|
        client.write(request_for(code))
        head = []
        head << client.read_line until head.last == "\r\n"
        expect(head.first).to eq("HTTP/1.1 101 Switching Protocols\r\n")
        expect(head).to include("connection: upgrade\r\n", "upgrade: echo\r\n")
        3.times { |n| expect(client.write("#{n}\n").read_line).to eq("echo #{n}\n") }
      end
    end

    it "comes behind what was asked before" do
      big = "[200, text, ['x' * 3_000_000]]"
      code = "[200, {}, []].tap { |a| a[1]['rack.hijack'] = ->(io) { io.write('mine'); io.close } }"
      RawClient.open(server.port) do |client|
        client.write(request_for(big) + request_for(code))
        expect(client.read_response.body.bytesize).to eq(3_000_000)
        expect(client.read_all).to end_with("\r\n\r\nmine")
      end
    end

    it "is refused when it is nothing that can be called" do
      server.log_after(/rack\.hijack is nothing that can be called/) do
        expect(ask("[200, { 'rack.hijack' => 1 }, []]").status).to eq(500)
      end
    end
  end

  describe "rack.protocol" do
    headers = "Connection: Upgrade\r\nUpgrade: other, echo\r\n"

    it "has what the client asks for" do
      expect(value_of("env['rack.protocol']", headers: headers)).to eq(%w[other echo])
      expect(value_of("env.key?('rack.protocol')", headers: "Upgrade: echo\r\n")).to be(false)
    end

    it "switches to the protocol that the application chooses" do
      code = "[200, { 'rack.protocol' => 'echo' }, ->(stream) { stream.write(stream.gets); stream.close }]"
      RawClient.open(server.port) do |client|
        client.write(request_for(code, headers: headers))
        head = []
        head << client.read_line until head.last == "\r\n"
        expect(head).to include("HTTP/1.1 101 Switching Protocols\r\n", "upgrade: echo\r\n", "connection: upgrade\r\n")
        expect(client.write("hello\n").read_line).to eq("hello\n")
      end
    end

    it "is refused when the client has not asked for it" do
      server.log_after(/has not asked for the protocol/) do
        expect(ask("[200, { 'rack.protocol' => 'echo' }, ->(stream) { stream.close }]").status).to eq(500)
      end
    end
  end

  describe "rack.early_hints" do
    it "go out as a 103 before the answer (RFC 8297)" do
      code = <<~RUBY
        env["rack.early_hints"].call("link" => ["</a.css>; rel=preload", "</b.js>; rel=preload"])
        [200, text, ["ok"]]
      RUBY
      RawClient.open(server.port) do |client|
        hints, answer = client.write(request_for(code)).then { Array.new(2) { client.read_response } }
        expect([hints.status, hints.reason, hints.headers])
          .to eq([103, "Early Hints", [["link", "</a.css>; rel=preload"], ["link", "</b.js>; rel=preload"]]])
        expect([answer.status, answer.body]).to eq([200, "ok"])
      end
    end

    it "are not for HTTP/1.0" do
      expect(value_of("env['rack.early_hints'].inspect", version: "1.0")).to eq("nil")
    end

    it "are nothing to split an answer with" do
      code = "begin; env['rack.early_hints'].call('link' => \"a\\r\\nb: c\"); rescue ArgumentError => e; e.message; end"
      expect(value_of(code)).to match(/control character/)
    end

    it "are off unless listen switches them on" do
      plain = serve(Asking::APP)
      RawClient.open(plain.port) do |client|
        expect(ask("[200, text, [env.key?('rack.early_hints').to_s]]", client: client).body).to eq("false")
      end
    end
  end

  describe "rack.response_finished and rack.after_reply" do
    def told
      eventually { value_of("$told if $told&.size.to_i >= 3") }
    end

    register = <<~RUBY
      $told = []
      2.times { |n| env["rack.response_finished"] << ->(env, status, headers, error) {
        $told << [n, env["PATH_INFO"], status, headers, error&.message] } }
      env["rack.after_reply"] << -> { $told << :after }
    RUBY

    it "are called behind the answer, with what it was" do
      ask("#{register}[201, { 'x-a' => 'b' }, []]", path: "/done")
      expect(told).to eq([[1, "/done", 201, { "x-a" => "b" }, nil], [0, "/done", 201, { "x-a" => "b" }, nil], :after])
    end

    it "are told what went wrong" do
      ask("#{register}raise 'oh'", path: "/wrong")
      expect(told).to eq([[1, "/wrong", nil, nil, "oh"], [0, "/wrong", nil, nil, "oh"], :after])
    end

    it "are called when a stream is closed, not before" do
      RawClient.open(server.port) do |client|
        client.write(request_for("#{register}[200, {}, ->(stream) { $stream = stream; stream.flush }]", path: "/stream"))
        client.read_line
        expect(value_of("$told")).to eq([])
        value_of("$stream.close; nil")
      end
      expect(told.last).to eq(:after)
    end

    # What is left of such a stream is nobody's: it is dropped.
    ["$stream << 'x'", "$stream.flush", "raise Iodine::ClientDisconnected if $stream.closed?"].each do |use|
      it "are called when the application hears, by #{use[/[^ ]+.*/]}, that the client has left" do
        RawClient.open(server.port) do |client|
          client.write(request_for("#{register}[200, {}, ->(stream) { $stream = stream; stream.flush }]", path: "/left"))
          nil until client.read_line == "\r\n"
          client.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
        end
        eventually { value_of("begin; #{use}; false; rescue Iodine::ClientDisconnected; true; end") }
        error = "the client has left before the answer was whole"
        expect(told).to eq([[1, "/left", 200, {}, error], [0, "/left", 200, {}, error], :after])
        value_of("begin; $stream << 'x'; rescue Iodine::ClientDisconnected; end; $stream.close; nil")
        expect(value_of("$told.size")).to eq(3)
      end
    end

    it "do not hold the answer up" do
      RawClient.open(server.port) do |client|
        code = "$go = Queue.new; env['rack.after_reply'] << -> { $go.pop }; [200, text, ['there']]"
        expect(ask(code, client: client).body).to eq("there")
        value_of("$go.push(1); nil")
      end
    end

    it "log what they raise, and the others have their turn" do
      server.log_after(/RuntimeError: finished badly/) do
        ask("env['rack.after_reply'] << -> { raise 'finished badly' } << -> { $told = [1, 2, 3] }; $told = nil; [200, {}, []]")
      end
      expect(told).to eq([1, 2, 3])
    end
  end
end
