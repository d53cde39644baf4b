# frozen_string_literal: true

# permessage-deflate (RFC 7692), against Ruby's zlib.

RSpec.describe "compression of WebSockets", :real_time do
  offer = "permessage-deflate; client_max_window_bits"
  text = "the same words again and again, " * 100

  # A server, and what it answers to offers.
  def self.answers(options, offers)
    describe "with #{options}" do
      serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP, options: options)

      offers.each do |asked, answered|
        it "answers #{asked} by #{answered.inspect}, and both sides understand each other" do
          socket = web_socket(deflate: asked)
          expect(socket.answer["sec-websocket-extensions"]).to eq(answered)
          words = ["x" * 1000, Random.bytes(3000).unpack1("H*"), "x" * 1000, "é" * 70_000, ""]
          2.times { words.each { |word| expect(socket.compressed(word).read_message).to eq(word) } } if answered
          expect(socket.text("plain").read_message).to eq("plain")
          expect(socket.say_goodbye).to eq([1000, ""])
        end
      end
    end
  end

  none = "server_no_context_takeover; client_no_context_takeover"
  answers "deflate: true",
          offer => "permessage-deflate; #{none}",
          "permessage-deflate" => "permessage-deflate; #{none}",
          "permessage-deflate; server_max_window_bits=9" => "permessage-deflate; #{none}; server_max_window_bits=9",
          "foo, permessage-deflate" => "permessage-deflate; #{none}",
          "permessage-deflate; foo" => nil,
          "x-webkit-deflate-frame" => nil
  answers "deflate: { context_takeover: true }",
          offer => "permessage-deflate",
          "permessage-deflate; server_no_context_takeover" => "permessage-deflate; server_no_context_takeover",
          "permessage-deflate; client_no_context_takeover" => "permessage-deflate; client_no_context_takeover",
          "permessage-deflate; client_max_window_bits=10" => "permessage-deflate; client_max_window_bits=10"
  answers "deflate: { context_takeover: true, window_bits: 10, level: 9 }",
          offer => "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
          "permessage-deflate" => "permessage-deflate; server_max_window_bits=10"

  it "is off unless listen switches it on" do
    plain = serve(Asking::APP, before: RealTime::SETUP)
    expect(web_socket(port: plain.port, deflate: offer).answer["sec-websocket-extensions"]).to be_nil
  end

  describe "as it is used" do
    serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP, options: "deflate: true, max_msg: 64")

    it "is for what is worth it" do
      socket = web_socket(deflate: offer)
      sizes = { 0 => false, 127 => false, 128 => true, 3000 => true }
      sizes.each { |size, compressed| expect(socket.text("a" * size).read_frame).to eq(Frame.new(:text, true, compressed, "a" * size)) }
      expect(socket.frame(:binary, "\0" * 3000).read_frame).to eq(Frame.new(:binary, true, true, "\0" * 3000))
    end

    it "makes messages smaller" do
      socket = web_socket(deflate: offer).text(text)
      expect(socket.read_exactly(2).unpack("CC")).to match([0xC1, a_value_between(30, 125)])
    end

    it "takes fragments, and control frames between them" do
      socket = web_socket(deflate: offer)
      bytes = Zlib::Deflate.new(nil, -15).deflate(text, Zlib::SYNC_FLUSH).delete_suffix(WebSocketClient::DEFLATE_TAIL)
      cut = bytes.bytesize / 2
      socket.frame(:text, bytes[0, cut], final: false, reserved: 4).frame(:ping, "p").frame(:continuation, bytes[cut..])
      expect(socket.read_frame.payload).to eq("p")
      expect(socket.read_message).to eq(text)
    end

    it "counts what comes out of it" do
      socket = web_socket("on(on_message: ->(c, data) { c.write(data.bytesize.to_s) })", deflate: offer)
      expect(socket.compressed("x" * 65_536).read_message).to eq("65536")
      socket.compressed("x" * 65_537)
      expect(socket.let_go.first).to eq(1009)
    end

    it "does not let a bomb go off" do
      before = server.rss
      bomb = Zlib::Deflate.new(nil, -15).deflate("\0" * 60_000_000, Zlib::SYNC_FLUSH).delete_suffix(WebSocketClient::DEFLATE_TAIL)
      expect(bomb.bytesize).to be < 65_536
      8.times do
        socket = web_socket(deflate: offer).frame(:binary, bomb, reserved: 4)
        expect(socket.let_go.first).to eq(1009)
      end
      expect(server.rss - before).to be < 50_000_000
    end

    {
      "what can not be inflated" => [:text, "\xFF\xFF\xFF".b, { reserved: 4 }, 1007],
      "compressed text that is not UTF-8" => [:text, "\xFA\x2F\x00".b, { reserved: 4 }, 1007],
      "a continuation that says it is compressed" => [:continuation, "x", { reserved: 4 }, 1002],
      "a ping that says it is compressed" => [:ping, "x", { reserved: 4 }, 1002],
      "other reserved bits" => [:text, "x", { reserved: 6 }, 1002]
    }.each do |what, (opcode, payload, options, code)|
      it "is broken by #{what}: #{code}" do
        socket = web_socket(deflate: offer).frame(opcode, payload, **options)
        expect(socket.let_go.first).to eq(code)
      end
    end

    it "is not for those who have not agreed" do
      socket = web_socket.frame(:text, "x", reserved: 4)
      expect(socket.let_go.first).to eq(1002)
    end

    it "goes for messages of channels, compressed once for all that agree" do
      ready = "on(on_open: ->(c) { c.subscribe('news'); c.write('ready') })"
      sockets = [offer, nil, offer].map { |asked| web_socket(ready, deflate: asked).tap { |socket| expect(socket.read_message).to eq("ready") } }
      2.times { value_of("Iodine.publish('news', #{text.dump})") }
      expect(sockets.map { |socket| Array.new(2) { socket.read_frame } })
        .to eq([true, false, true].map { |compressed| [Frame.new(:text, true, compressed, text)] * 2 })
    end
  end

  it "works for messages of channels with context takeover, between writes" do
    taking = serve(Asking::APP, threads: 2, before: RealTime::SETUP, options: "deflate: { context_takeover: true, threshold: 0 }")
    socket = web_socket("echo(on_open: ->(c) { c.subscribe('news'); c.write('ready') })", port: taking.port, deflate: offer)
    expect(socket.read_message).to eq("ready")
    RawClient.open(taking.port) do |client|
      5.times do |n|
        ask("Iodine.publish('news', 'news #{n} ' * 50); [200, {}, []]", client: client)
        expect(socket.read_message).to eq("news #{n} " * 50)
        expect(socket.text("news #{n} " * 50).read_frame).to eq(Frame.new(:text, true, true, "news #{n} " * 50))
      end
    end
  end
end
