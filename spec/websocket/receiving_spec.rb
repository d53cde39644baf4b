# frozen_string_literal: true

# Frames of clients, good and bad, and how the conversation ends (RFC 6455 sections 5 to 7).

RSpec.describe "what WebSockets receive", :real_time do
  serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP, options: "max_msg: 64")

  def frame(...)
    WebSocketClient.frame(...)
  end

  limit = 64 * 1024
  # Tells size and kind of what comes, and echoes the small.
  code = "on(on_message: ->(c, data) { c.write(data.bytesize > 1000 ? \"\#{data.bytesize} \#{data.encoding}\" : data) }, " \
         "on_close: ->(c) { tell(c.close_code) })"

  # How the server ends the conversation after these bytes; it must not have answered anything else.
  define_method(:end_of) do |bytes|
    web_socket(code) do |socket|
      socket.write(bytes)
      said = socket.read_close
      socket.bye(said.first)
      raise "something came behind the Close" unless socket.closed_by_server?

      said.first
    end
  end

  describe "are messages" do
    {
      "of text" => [[[:text, "é"]], "é"],
      "of bytes" => [[[:binary, "\xFF\0"]], "\xFF\0".b],
      "of nothing" => [[[:text, ""]], ""],
      "with a mask of zeros" => [[[:text, "abc", { mask: "\0\0\0\0" }]], "abc"],
      "with a mask of ones" => [[[:text, "abcdefghi", { mask: "\xFF\xFF\xFF\xFF".b }]], "abcdefghi"],
      "of 125 bytes" => [[[:text, "x" * 125]], "x" * 125],
      "of 126 bytes" => [[[:text, "x" * 126]], "x" * 126],
      "of 65,535 bytes" => [[[:text, "x" * 65_535]], "65535 UTF-8"],
      "as large as they may be" => [[[:binary, "x" * limit]], "65536 ASCII-8BIT"],
      "in fragments" => [[[:text, "a", { final: false }], [:continuation, "b", { final: false }], [:continuation, "c"]], "abc"],
      "in empty fragments" => [[[:text, "", { final: false }], [:continuation, "", { final: false }], [:continuation, ""]], ""],
      "in fragments that cut characters" => [[[:text, "\xC3".b, { final: false }], [:continuation, "\xA9".b]], "é"],
      "of bytes in fragments" => [[[:binary, "\xC3".b, { final: false }], [:continuation, "x"]], "\xC3x".b],
      "in fragments as large as they may be" => [[[:text, "x" * 32_768, { final: false }], [:continuation, "x" * 32_768]], "65536 UTF-8"]
    }.each do |what, (frames, message)|
      it what do
        web_socket(code) do |socket|
          frames.each { |opcode, payload, options| socket.frame(opcode, payload, **options.to_h) }
          expect(socket.read_message).to eq(message)
          expect(socket.say_goodbye).to eq([1000, ""])
        end
      end
    end

    it "however the bytes are cut" do
      bytes = frame(:text, "é1", final: false) + frame(:ping, "p") + frame(:continuation, "é2") + frame(:binary, "x" * 126)
      web_socket(code) do |socket|
        bytes.each_char { |byte| socket.write(byte) }
        expect(Array.new(3) { socket.read_frame.payload.force_encoding("UTF-8") }).to eq(["p", "é1é2", "x" * 126])
      end
    end

    it "with control frames between their fragments" do
      web_socket(code) do |socket|
        socket.write(frame(:text, "a", final: false) + frame(:ping, "1") + frame(:pong, "2") + frame(:continuation, "b", final: false) +
                     frame(:ping, "") + frame(:continuation, "c"))
        expect(Array.new(3) { socket.read_frame.to_a.values_at(0, 3) }).to eq([[:pong, "1"], [:pong, ""], [:text, "abc"]])
      end
    end

    it "by the thousand, in order" do
      web_socket(code) do |socket|
        writer = Thread.new { 5.times { |block| socket.write(Array.new(1000) { |n| frame(:text, (block * 1000 + n).to_s) }.join) } }
        expect(Array.new(5000) { socket.read_message.to_i }).to eq([*0..4999])
        writer.join
      end
    end
  end

  describe "are answered" do
    it "by a pong for each ping, with the same payload" do
      web_socket(code) do |socket|
        ["", "x", "\0\xFF".b, "x" * 125].each do |payload|
          expect(socket.frame(:ping, payload).read_frame).to eq(Frame.new(:pong, true, false, payload))
        end
      end
    end

    it "by nothing for pongs that nobody asked for" do
      web_socket(code) do |socket|
        expect(socket.frame(:pong, "x").text("y").read_frame.payload).to eq("y")
      end
    end
  end

  describe "F24: a Close" do
    [[1000, ""], [1001, "tab closed"], [1002, ""], [1003, ""], [1007, "x"], [1008, ""], [1009, ""], [1010, ""], [1011, ""], [1012, ""], [1013, ""],
     [1014, ""], [3000, ""], [4999, "é" * 61]].each do |said, reason|
      it "with #{said} is answered in kind" do
        web_socket(code) { |socket| expect(socket.bye(said, reason).read_close.first).to eq(said) }
        expect(told).to eq([said])
      end
    end

    it "without a code is answered without one" do
      web_socket(code) do |socket|
        expect(socket.bye.read_close).to eq([])
        expect(socket).to be_closed_by_server
      end
      expect(told).to eq([nil])
    end

    it "is answered behind what was asked before, and what comes after it is not heard" do
      web_socket("on(on_message: ->(c, data) { tell(data); c.write(data) }, on_close: ->(c) { tell(:closed) })") do |socket|
        socket.write(frame(:text, "a") + frame(:ping, "p") + frame(:close, [1000].pack("n")) + frame(:text, "b") + "\xFF".b * 50)
        expect(told(2)).to eq(["a", :closed])
        frames = [socket.read_frame]
        frames << socket.read_frame until frames.last.opcode == :close
        expect(frames.map(&:opcode)).to eq(%i[pong text close]).or eq(%i[text pong close])
        expect(socket).to be_closed_by_server
      end
    end

    {
      "of one byte" => ["x", 1002], "with 0" => [[0].pack("n"), 1002], "with 999" => [[999].pack("n"), 1002], "with 1004" => [[1004].pack("n"), 1002],
      "with 1005" => [[1005].pack("n"), 1002], "with 1006" => [[1006].pack("n"), 1002], "with 1015" => [[1015].pack("n"), 1002],
      "with 2999" => [[2999].pack("n"), 1002], "with 5000" => [[5000].pack("n"), 1002], "with a reason that is not UTF-8" => ["\x03\xE8\xFF".b, 1007],
      "of 126 bytes" => ["\x03\xE8#{"x" * 124}".b, 1002]
    }.each do |what, (payload, said)|
      it "#{what} breaks the protocol: #{said}" do
        expect(end_of(frame(:close, payload))).to eq(said)
      end
    end
  end

  describe "F26: breaks the protocol" do
    {
      "by reserved bit 1" => -> { frame(:text, "x", reserved: 4) },
      "by reserved bit 2" => -> { frame(:text, "x", reserved: 2) },
      "by reserved bit 3" => -> { frame(:ping, "x", reserved: 1) },
      "by no mask" => -> { frame(:text, "x", mask: nil) },
      "by no mask on nothing" => -> { frame(:text, "", mask: nil) },
      "by no mask on a Close" => -> { frame(:close, "", mask: nil) },
      "by a length of 16 bits that fits 7" => -> { frame(:text, "x" * 125, form: 16) },
      "by a length of 64 bits that fits 16" => -> { frame(:text, "x" * 126, form: 64) },
      "by a length of 64 bits that fits 7" => -> { frame(:text, "", form: 64) },
      "by a length with the highest bit" => -> { "\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFmask".b },
      "by a ping in fragments" => -> { frame(:ping, "x", final: false) },
      "by a ping of 126 bytes" => -> { frame(:ping, "x" * 126) },
      "by a pong of 126 bytes" => -> { frame(:pong, "x" * 126) },
      "by a continuation of nothing" => -> { frame(:continuation, "x") },
      "by a continuation of nothing that goes on" => -> { frame(:continuation, "x", final: false) },
      "by a message inside another" => -> { frame(:text, "x", final: false) + frame(:text, "y") },
      "by a message of another kind inside another" => -> { frame(:text, "x", final: false) + frame(:binary, "y", final: false) },
      **[*3..7, *11..15].to_h { |opcode| ["by opcode #{opcode}", -> { frame(opcode, "") }] }
    }.each do |what, bytes|
      it "#{what}: 1002" do
        expect(end_of(instance_exec(&bytes))).to eq(1002)
        # The code was ours, not the peer's.
        expect(told).to eq([nil])
      end
    end

    it "and what came before is heard and answered, what comes after is not" do
      web_socket("on(on_message: ->(c, data) { tell(data); sleep(0.02); c.write(data) }, on_close: ->(c) { tell(:closed) })") do |socket|
        socket.write(frame(:text, "before") + frame(3, "x") + frame(:text, "after"))
        expect(socket.read_message).to eq("before")
        expect(socket.let_go.first).to eq(1002)
        expect(told(2)).to eq(["before", :closed])
      end
    end

    it "F1: and 18 bytes do not stop the server" do
      web_socket(code) do |socket|
        socket.write(frame(:text, "x") + "\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF".b)
        expect(socket.read_message).to eq("x")
        used = -> { value_of("Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)") }
        before = used.call
        # Long enough for a collection of garbage, on a slow machine, to be told from a thread that spins.
        sleep 0.5
        expect(used.call - before).to be < 0.4
        socket.write("mask")
        expect(socket.let_go.first).to eq(1002)
      end
    end
  end

  describe "F25: is no text" do
    {
      "a lone byte" => "\xFF", "a cut character" => "\xC3", "a character cut by another" => "\xC3x", "an overlong form" => "\xC0\xAF",
      "half a surrogate" => "\xED\xA0\x80", "beyond Unicode" => "\xF4\x90\x80\x80"
    }.each do |what, text|
      it "for #{what}: 1007" do
        expect(end_of(frame(:text, text))).to eq(1007)
        expect(end_of(frame(:text, "a", final: false) + frame(:continuation, text))).to eq(1007)
      end
    end

    it "as soon as that is known" do
      web_socket(code) do |socket|
        socket.write(frame(:text, "x" * 10 + "\xFF" + "x" * 10)[0, 20])
        expect(socket.let_go.first).to eq(1007)
      end
    end
  end

  describe "F27: is too big" do
    {
      "in one frame" => -> { frame(:binary, "x" * (limit + 1)) },
      "by its header alone" => -> { "\x82\xFF\0\0\0\0\x00\x01\x00\x01mask".b },
      "by a header of terabytes" => -> { "\x82\xFF\x00\x00\x7F\xFF\xFF\xFF\xFF\xFFmask".b },
      "by a byte in the last fragment" => -> { frame(:text, "x" * limit, final: false) + frame(:continuation, "x") },
      "in small fragments" => -> { frame(:text, "x" * 900, final: false) + frame(:continuation, "x" * 900, final: false) * 80 }
    }.each do |what, bytes|
      it "#{what}: 1009" do
        expect(end_of(instance_exec(&bytes))).to eq(1009)
      end
    end

    it "but a limit of a KiB and one of many are what they say" do
      { 1 => 1024, 1000 => 1_024_000 }.each do |max_msg, most|
        other = serve(Asking::APP, before: RealTime::SETUP, options: "max_msg: #{max_msg}")
        web_socket("on(on_message: ->(c, data) { c.write(data.bytesize.to_s) })", port: other.port) do |socket|
          expect(socket.frame(:binary, "x" * most).read_message).to eq(most.to_s)
          socket.frame(:binary, "x" * (most + 1))
          expect(socket.let_go.first).to eq(1009)
        end
      end
    end

    it "by default beyond 256 KiB" do
      other = serve(Asking::APP, before: RealTime::SETUP)
      web_socket("on(on_message: ->(c, data) { c.write(data.bytesize.to_s) })", port: other.port) do |socket|
        expect(socket.frame(:binary, "x" * 262_144).read_message).to eq("262144")
        socket.frame(:binary, "x" * 200_000, final: false).frame(:continuation, "x" * 100_000)
        expect(socket.let_go.first).to eq(1009)
      end
    end
  end

  it "is not read when nobody reads the answers, and goes on when somebody does" do
    web_socket("on(on_message: ->(c, data) { c.write(data * 20) })") do |socket|
      message = frame(:binary, "x" * 60_000)
      writer = Thread.new { 60.times { socket.write(message) } }
      # 72 MB of answers.
      60.times { expect(socket.read_message.bytesize).to eq(1_200_000) }
      writer.join
    end
  end

  it "is not kept without bound while a callback is busy" do
    value_of("$gate = Queue.new; nil")
    web_socket("on(on_message: ->(c, data) { $gate.pop unless @open; @open = true; c.write(data.bytesize.to_s) })") do |socket|
      sent = 0
      message = frame(:binary, "x" * 60_000)
      writer = Thread.new { 400.times { socket.write(message).then { sent += 1 } } }
      settled = nil
      eventually { (was = sent) && sleep(0.2) && was == sent && settled = sent }
      expect(settled).to be < 400
      value_of("$gate << 1; nil")
      expect(Array.new(400) { socket.read_message }.uniq).to eq(["60000"])
      writer.join
    end
  end
end
