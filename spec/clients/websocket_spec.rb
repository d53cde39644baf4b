# frozen_string_literal: true

# WebSocket clients: what they ask for, which answers they take, and what they say on the wire (RFC 6455).

require_relative "../support/talking"
require "zlib"

RSpec.describe "WebSocket clients" do
  include Talking

  serve_for_all(Asking::APP, threads: 4, before: Talking::RECORDER)

  before { @listener = PeerServer.tcp }
  after { @listener.close }

  let(:url) { "ws://127.0.0.1:#{@listener.port}" }

  def clock
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  # A client whose handler does that, and the request that it sends.
  def request(options = "url: #{url.inspect}", does: "", name: fresh_name, listener: @listener)
    connect("Recorder.new(name, #{does})", options, name: name)
    WebSocketPeer.new(listener.accept)
  end

  # The same, and it is agreed to.
  def talk(does = "", options: "", name: fresh_name)
    peer = request("url: #{url.inspect}, #{options}", does: does, name: name).agree
    yield peer, name
  ensure
    peer&.close
  end

  describe "ask" do
    it "for what the URL or the keywords say, of the host with its port" do
      port = @listener.port
      host = "127.0.0.1:#{port}"
      {
        "url: 'ws://#{host}'" => "/",
        "url: 'ws://#{host}/'" => "/",
        "url: 'WS://#{host}/chat?room=1&x=%20#top'" => "/chat?room=1&x=%20",
        "url: 'ws://#{host}?q=1'" => "/?q=1",
        "url: 'ws://user:pass%40word@#{host}/in'" => "/in",
        "service: 'ws', address: '127.0.0.1', port: #{port}, path: '/chat'" => "/chat",
        "service: :websocket, address: '127.0.0.1', port: '#{port}', path: 'chat'" => "/chat",
        "service: :ws, address: '127.0.0.1', port: #{port}" => "/"
      }.each do |options, target|
        peer = request(options)
        expect([options, peer.line, peer.all("host")]).to eq([options, "GET #{target} HTTP/1.1", [host]])
        peer.close
      end
    end

    it "servers of IPv6 addresses and of names" do
      listener = begin
        PeerServer.tcp("::1")
      rescue SystemCallError
        skip "there is no IPv6"
      end
      peer = request("url: 'ws://[::1]:#{listener.port}/six'", listener: listener)
      expect([peer.line, peer["host"]]).to eq(["GET /six HTTP/1.1", "[::1]:#{listener.port}"])
      peer.close
      peer = request("url: 'ws://localhost:#{@listener.port}'")
      expect(peer["host"]).to eq("localhost:#{@listener.port}")
      peer.close
    ensure
      listener&.close
    end

    it "over a Unix socket, too" do
      path = File.join(Dir.mktmpdir("iodine-spec"), "ws.sock")
      listener = PeerServer.unix(path)
      name = fresh_name
      peer = request("service: :ws, address: #{path.inspect}, path: '/chat'", listener: listener, name: name)
      expect([peer.line, peer["host"]]).to eq(["GET /chat HTTP/1.1", "localhost"])
      peer.agree
      wait_until_told(name, "on_open")
    ensure
      listener&.close
      FileUtils.rm_rf(File.dirname(path))
    end

    it "with headers and cookies as given, and none that say nothing (F38)" do
      peer = request("url: #{url.inspect}, headers: { 'X-One' => '1', two: :two, 'X-More' => %w[a b], 'Origin' => 'http://x' }, " \
                     "cookies: { a: 'b', 'c' => 1 }")
      expect(peer.headers.map(&:first) - %w[sec-websocket-key]).to match_array(
        %w[host upgrade connection sec-websocket-version x-one two x-more x-more origin cookie]
      )
      expect([peer["x-one"], peer["two"], peer.all("x-more"), peer["origin"], peer.all("cookie")])
        .to eq(["1", "two", %w[a b], "http://x", ["a=b; c=1"]])
      expect([peer["upgrade"], peer["connection"], peer["sec-websocket-version"]]).to eq(%w[websocket Upgrade 13])
      peer.close
    end

    it "with another Host if one is given" do
      peer = request("url: #{url.inspect}, headers: { 'Host' => 'example.com' }")
      expect(peer.all("host")).to eq(["example.com"])
      peer.close
    end

    it "with a key of 16 bytes that is another each time (F39)" do
      keys = Array.new(3) do
        peer = request
        peer.close
        peer["sec-websocket-key"]
      end
      expect(keys.uniq.size).to eq(3)
      expect(keys.map { |key| key.unpack1("m0").bytesize }).to eq([16, 16, 16])
    end

    it "for nothing that would be something else on the wire" do
      ["headers: { 'X' => \"a\\r\\nInjected: 1\" }", "headers: { \"X\\r\\nY\" => '1' }", "headers: { 'X y' => '1' }",
       "headers: { 'X' => \"a\\0b\" }", "headers: { '' => 'x' }", "headers: { 'X' => ['fine', \"\\n\"] }",
       "cookies: { a: \"b\\r\\nX: 1\" }", "cookies: { a: 'b; c=d' }", "cookies: { 'a=b' => 'c' }", "cookies: { 'a;b' => 'c' }",
       "headers: { 'Sec-WebSocket-Key' => 'x' }", "headers: { 'content-length' => '5' }",
       "headers: { 'Transfer-Encoding' => 'chunked' }", "headers: { 'Sec-WebSocket-Protocol' => 'a b' }",
       "url: #{"#{url}/a\r\nInjected: 1".inspect}", "url: '#{url}/a b'", "url: \"#{url}/\\u00e9\""].each do |bad|
        error = value_of("begin; Iodine.connect(**{ url: #{url.inspect}, handler: Recorder.new('x') }.merge({ #{bad} })); " \
                         "'none'; rescue => error; error.class.name; end")
        expect([bad, error]).to eq([bad, "ArgumentError"])
      end
      expect(@listener.silent?).to be(true)
    end

    it "for sub-protocols, of which the server may choose one or none" do
      { "Sec-WebSocket-Protocol: two" => "on_open", nil => "on_open", "Sec-WebSocket-Protocol: three" => "on_close" }.each do |line, event|
        name = fresh_name
        peer = request("url: #{url.inspect}, headers: { 'Sec-WebSocket-Protocol' => 'one, two' }", name: name)
        expect(peer["sec-websocket-protocol"]).to eq("one, two")
        peer.agree(*line)
        wait_until_told(name, event)
        expect(told(name).first).to eq(event)
        peer.close
      end
    end
  end

  describe "take no other answer than a consent" do
    # What the log says of it. Clients of other examples have other ports.
    def failed
      /no connection could be made: 127\.0\.0\.1:#{@listener.port}: .*\n/
    end

    # What became of a client that was answered like that.
    def answered(name: fresh_name)
      peer = request(name: name)
      answer = yield peer
      log = server.log_after(failed) do
        peer.client.write(answer)
      rescue SystemCallError
        nil # It had heard enough.
      end
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_close"])
      expect(peer.client).to be_closed_by_server
      log[failed]
    ensure
      peer&.close
    end

    it "neither another status, nor another key, nor another protocol" do
      expect(answered { "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok" }).to match(/status/)
      expect(answered { "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n" }).to match(/status/)
      expect(answered { |peer| peer.consent(key: "dGhlIHNhbXBsZSBub25jZQ==") }).to match(/Accept/)
      expect(answered { |peer| peer.consent.sub(/^Sec-WebSocket-Accept.*\r\n/, "") }).to match(/Accept/)
      expect(answered { |peer| peer.consent.sub("Upgrade: websocket", "Upgrade: echo") }).to match(/upgrades/)
      expect(answered { |peer| peer.consent.sub("Connection: Upgrade", "Connection: close") }).to match(/upgrades/)
      expect(answered { |peer| peer.consent.sub("HTTP/1.1", "HTTP/1.0") }).to match(%r{HTTP/1\.1})
      expect(answered { |peer| peer.consent("Sec-WebSocket-Extensions: permessage-deflate") }).to match(/extensions/)
      expect(answered { "220 mail.example.com ESMTP\r\n" }).to match(%r{not HTTP/1\.1})
    end

    it "nor an endless one" do
      expect(answered { "HTTP/1.1 101 Switching Protocols\r\nX: #{"x" * 40_000}" }).to match(/too large/)
      expect(answered { "HTTP/1.1 101 Switching Protocols\r\n#{"X: x\r\n" * 200}\r\n" }).to match(/too large/)
    end

    it "nor none: the server closes, or says nothing for too long" do
      name = fresh_name
      request(name: name).close
      wait_until_told(name, "on_close")
      name = fresh_name
      peer = request("url: #{url.inspect}, connect_timeout: 0.3", name: name)
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_close"])
      expect(peer.client).to be_closed_by_server
      server.wait_for_log(/no connection could be made: 127\.0\.0\.1:#{@listener.port}: it took too long/)
    end
  end

  describe "are open" do
    it "when the answer has come, in however many pieces" do
      name = fresh_name
      peer = request(name: name)
      peer.consent.each_byte { |byte| peer.client.write(byte.chr) }
      wait_until_told(name, "on_open")
      expect(of_client(name, "[client.protocol, client.env, client.open?, client.timeout]")).to eq([:websocket, nil, true, 40])
      peer.close
      wait_until_told(name, "on_close")
    end

    it "and get what came behind the answer in the same packet, also much of it, also the end" do
      name = fresh_name
      frames = WebSocketFrame.bytes(1, "first") + WebSocketFrame.bytes(2, "x" * 200_000) + WebSocketFrame.bytes(1, "last")
      peer = request(name: name).agree(behind: frames)
      wait_until_told(name, 'on_message "last"')
      expect(told(name)).to eq(["on_open", 'on_message "first"', "on_message 200000", 'on_message "last"'])
      peer.close
      name = fresh_name
      peer = request(name: name).agree(behind: WebSocketFrame.bytes(1, "hi") + WebSocketFrame.bytes(8, [1000].pack("n")))
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_open", 'on_message "hi"', "on_close"])
      expect(peer.read_frame.opcode).to eq(8)
      peer.close
    end
  end

  describe "speak" do
    it "in frames with masks that are other ones each time, also control frames (F39)" do
      does = "on_open: ->(client) { client.write('text'); client.write('bin'.b); client.write('') ; client.write('y' * 70_000) }, " \
             "on_message: ->(client, _) { client.close }"
      talk(does) do |peer, _name|
        frames = Array.new(4) { peer.read_frame }
        expect(frames.map { |frame| [frame.final, frame.reserved, frame.opcode, frame.payload.size] })
          .to eq([[true, 0, 1, 4], [true, 0, 2, 3], [true, 0, 1, 0], [true, 0, 1, 70_000]])
        expect(frames[3].payload == "y" * 70_000).to be(true)
        peer.send_frame(9, "are you there?")
        pong = peer.read_frame
        expect([pong.opcode, pong.payload]).to eq([10, "are you there?"])
        peer.send_frame(1, "close now")
        close = peer.read_frame
        expect([close.opcode, close.close]).to eq([8, [1000, ""]])
        masks = [*frames, pong, close].map(&:mask)
        expect(masks).to all(be_a(String))
        expect(masks.uniq.size).to eq(6)
        peer.send_frame(8, [1000].pack("n"))
        expect(peer.client.read_all).to eq("")
      end
    end

    it "with whoever closes first" do
      talk("on_close: ->(client) { say name, client.close_code, client.close_reason }") do |peer, name|
        peer.send_frame(8, "#{[4001].pack("n")}enough")
        expect(peer.read_frame.close).to eq([4001, ""])
        expect(peer.client.read_all).to eq("")
        wait_until_told(name, "4001 enough")
      end
    end

    it "binary and text as they come, and hear fragments as one" do
      talk("on_message: ->(client, data) { say name, data.encoding; client.write(data) }") do |peer, name|
        peer.send_frame(1, "gr\u00fcn")
        expect(peer.read_frame.to_a.values_at(2, 4)).to eq([1, "gr\u00fcn".b])
        peer.send_frame(2, "\xff")
        expect(peer.read_frame.to_a.values_at(2, 4)).to eq([2, "\xff".b])
        peer.send_frame(1, "one ", head: 0).send_frame(9, "").send_frame(0, "two", head: 0).send_frame(0, " three")
        expect(peer.read_frame.opcode).to eq(10)
        expect(peer.read_frame.payload).to eq("one two three")
        expect(told(name)).to include("UTF-8", "ASCII-8BIT")
      end
    end

    it "with no server that masks its frames (F39), or breaks other rules" do
      {
        WebSocketFrame.bytes(1, "masked", mask: "abcd") => 1002,
        WebSocketFrame.bytes(1, "\xff") => 1007,
        WebSocketFrame.bytes(3, "") => 1002,
        WebSocketFrame.bytes(1, "reserved", head: 0xc0) => 1002,
        WebSocketFrame.bytes(0, "of what?") => 1002
      }.each do |bytes, code|
        talk do |peer, name|
          peer.client.write(bytes)
          expect([bytes, peer.read_frame.close.first]).to eq([bytes, code])
          wait_until_told(name, "on_close")
          expect(told(name).grep(/on_message/)).to eq([])
        end
      end
    end

    it "hearing all that it says along with its answer" do
      name = fresh_name
      long, short = [2, "x" * 300_000], [1, "end"]
      peer = request("url: #{url.inspect}, max_msg: 1024", name: name)
      peer.agree(behind: WebSocketFrame.bytes(*long) + WebSocketFrame.bytes(*short))
      wait_until_told(name, "on_message 300000")
      wait_until_told(name, 'on_message "end"')
      peer.close
    end

    it "with none that says too much at once" do
      talk(options: "max_msg: 1") do |peer, name|
        peer.send_frame(2, "x" * 1024)
        wait_until_told(name, "on_message 1024")
        peer.send_frame(2, "x" * 1025)
        expect(peer.read_frame.close.first).to eq(1009)
        wait_until_told(name, "on_close")
      end
    end

    it "of life, when nothing comes for the time of their ping, and are gone without an answer (F40)" do
      talk("on_open: ->(client) { say name, client.timeout }", options: "ping: 7") do |_peer, name|
        wait_until_told(name, "7")
      end
      talk(options: "ping: 0.3") do |peer, name|
        expect(peer.read_frame.opcode).to eq(9)
        # There is no pong.
        wait_until_told(name, "on_close")
        peer.client.read_all
      end
      # A peer that the machine held up for longer than it has for its pong, by its own clock, is another one's turn.
      eventually do
        spoke = clock
        late = false
        talk(options: "ping: 0.3") do |peer, _name|
          2.times do
            ping = peer.read_frame
            expect([ping.opcode, ping.mask.nil?]).to eq([9, false])
            answers = clock
            peer.send_frame(10, ping.payload)
            late ||= clock - spoke >= 0.6
            spoke = answers
          end
          expect(peer.read_frame.opcode).to eq(9)
        end
        true
      rescue EOFError, SystemCallError
        raise unless late || clock - spoke >= 0.6
      end
    end

    it "compressed, if both want to" do
      deflated = ->(text) { Zlib::Deflate.new(9, -15).deflate(text, Zlib::SYNC_FLUSH).delete_suffix("\0\0\xff\xff".b) }
      name = fresh_name
      peer = request("url: #{url.inspect}, deflate: true", does: "on_message: ->(client, data) { client.write(data * 100) }", name: name)
      expect(peer["sec-websocket-extensions"]).to start_with("permessage-deflate")
      peer.agree("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                 behind: WebSocketFrame.bytes(1, deflated["compressed "], head: 0xc0))
      wait_until_told(name, 'on_message "compressed "')
      frame = peer.read_frame
      expect([frame.reserved, frame.opcode, frame.mask.nil?]).to eq([0x40, 1, false])
      expect(frame.payload.bytesize).to be < 100
      expect(Zlib::Inflate.new(-15).inflate(frame.payload + "\0\0\xff\xff".b)).to eq("compressed " * 100)
      peer.close
      plain = request("url: #{url.inspect}, deflate: true", does: "on_open: ->(client) { client.write('x' * 5000) }").agree
      frame = plain.read_frame
      expect([frame.reserved, frame.payload.bytesize]).to eq([0, 5000])
      plain.close
    end
  end

  it "are many at once, and speak with servers of iodine's own" do
    name = fresh_name
    server_side = "env['rack.upgrade'] = Class.new { def on_message(client, data) = client.write(data.swapcase) }.new; [101, {}, []]"
    code = ["# encoding: utf-8\n#{server_side}"].pack("m0")
    value_of(<<~RUBY)
      client = Class.new do
        def on_open(client) = client.write("Hello \#{client.object_id}")
        def on_message(client, data)
          say "#{name} right" if data == "hELLO \#{client.object_id}"
          client.close
        end
        def on_close(_client) = say("#{name} closed")
      end
      200.times { Iodine.connect(url: "ws://127.0.0.1:\#{own_port}/", handler: client.new, headers: { "x-code" => #{code.inspect} }) }
      nil
    RUBY
    server.wait_for_said("#{name} closed", times: 200)
    expect(told(name).tally).to eq("right" => 200, "closed" => 200)
  end
end
