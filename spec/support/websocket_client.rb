# frozen_string_literal: true

# WebSockets by raw frames, so that a spec decides about each of their bits, and a client that takes no breach of RFC 6455.

# At once: digests load themselves when they are first used, which two threads must not do at the same time.
require "digest/sha1"
require "zlib"

# A frame as it came over the wire; a String payload, inflated if it was compressed.
Frame = Struct.new(:opcode, :final, :compressed, :payload)

# One WebSocket. Every read has a deadline, and what the server must not send raises.
class WebSocketClient < RawClient
  KEY = "dGhlIHNhbXBsZSBub25jZQ=="
  OPCODES = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 }.freeze
  GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  DEFLATE_TAIL = "\x00\x00\xFF\xFF".b

  # What a server must not do.
  class Breach < StandardError; end

  # The request of a handshake; `headers` are lines of its own, or Hash entries that replace the usual ones (nil leaves
  # one out).
  def self.handshake(path: "/", verb: "GET", version: "1.1", headers: {}, lines: "")
    usual = { "Host" => "localhost", "Connection" => "Upgrade", "Upgrade" => "websocket", "Sec-WebSocket-Version" => "13",
              "Sec-WebSocket-Key" => KEY }
    headers = usual.merge(headers).compact.map { |name, value| "#{name}: #{value}\r\n" }.join
    "#{verb} #{path} HTTP/#{version}\r\n#{headers}#{lines}\r\n"
  end

  # What `Sec-WebSocket-Accept` has to be (RFC 6455 section 4.2.2).
  def self.accept_for(key)
    [Digest::SHA1.digest("#{key}#{GUID}")].pack("m0")
  end

  # The bytes of a frame of a client.
  #
  # @param mask [String, nil] nil is a breach of the protocol
  # @param form [7, 16, 64] of the length; the shortest unless told
  def self.frame(opcode, payload = "", final: true, reserved: 0, mask: "\x12\x34\x56\x78".b, form: nil)
    payload = payload.b
    opcode = OPCODES.fetch(opcode, opcode)
    form ||= { 0..125 => 7, 126..65_535 => 16 }.find { |range, _| range.cover?(payload.bytesize) }&.last || 64
    masked = mask ? 0x80 : 0
    length = case form
             when 7 then [masked | payload.bytesize].pack("C")
             when 16 then [masked | 126, payload.bytesize].pack("Cn")
             else [masked | 127, payload.bytesize].pack("CQ>")
             end
    [(final ? 0x80 : 0) | (reserved << 4) | opcode].pack("C") << length << mask.to_s << apply(mask, payload)
  end

  def self.apply(mask, payload)
    return payload if mask.nil? || payload.empty?

    mask = (mask * ((payload.bytesize / 4) + 1)).byteslice(0, payload.bytesize)
    # Eight at a time is quick enough in Ruby for megabytes.
    words = payload.bytesize / 8
    head = payload.unpack("Q<#{words}").zip(mask.unpack("Q<#{words}")).map { |a, b| a ^ b }.pack("Q<*")
    tail = payload.byteslice(words * 8..).bytes.zip(mask.byteslice(words * 8..).bytes).map { |a, b| a ^ b }.pack("C*")
    head << tail
  end

  # The answer to the handshake.
  attr_reader :answer

  # Shakes hands. `more` goes out in the same packet; `deflate` is what the client offers.
  def shake_hands(more: "", deflate: nil, **request)
    request[:lines] = "#{request[:lines]}Sec-WebSocket-Extensions: #{deflate}\r\n" if deflate
    write(self.class.handshake(**request) << more)
    @answer = read_response
    return self unless @answer.status == 101

    key = request.dig(:headers, "Sec-WebSocket-Key") || KEY
    breach("the digest is wrong") unless @answer.all("sec-websocket-accept") == [self.class.accept_for(key)]
    agree(@answer["sec-websocket-extensions"])
    self
  end

  # Sends a frame; see {.frame}.
  def frame(opcode, payload = "", **options)
    write(self.class.frame(opcode, payload, **options))
  end

  def text(payload, **options)
    frame(:text, payload, **options)
  end

  # Sends a compressed message, as agreed.
  def compressed(payload, opcode = :text)
    # RFC 7692 section 7.2.3.6: zlib itself has nothing to flush when there is nothing.
    bytes = payload.empty? ? "\0" : @deflater.deflate(payload, Zlib::SYNC_FLUSH).delete_suffix(DEFLATE_TAIL)
    @deflater.reset unless @client_takeover
    frame(opcode, bytes, reserved: 4)
  end

  # Starts the closing handshake, or ends it.
  def bye(code = nil, reason = "")
    frame(:close, code ? [code].pack("n") << reason.b : "")
  end

  # Reads a frame.
  def read_frame
    first, second = read_exactly(2).unpack("CC")
    breach("reserved bits") unless (first & 0x30).zero? && ((first & 0x40).zero? || @inflater)
    breach("a frame of the server is masked") unless (second & 0x80).zero?
    opcode = OPCODES.key(first & 0x0F) || breach("opcode #{first & 0x0F}")
    breach("a frame behind the Close") if @closed
    final = (first & 0x80).positive?
    payload = read_exactly(length_of(second & 0x7F))
    breach("control frame") if first & 0x08 != 0 && (!final || payload.bytesize > 125)
    @closed = true if opcode == :close
    compressed = (first & 0x40).positive?
    Frame.new(opcode, final, compressed, compressed ? inflate(payload) : payload)
  end

  # Reads a message, over pings and fragments: text as UTF-8, the rest as binary.
  def read_message
    frames = [read_frame]
    frames << read_frame until frames.last.final && !%i[ping pong].include?(frames.last.opcode)
    frames.reject! { |frame| %i[ping pong].include?(frame.opcode) }
    opcode = frames.first.opcode
    raise "no message but #{frames}" unless %i[text binary].include?(opcode)

    breach("fragments") unless frames.drop(1).all? { |frame| frame.opcode == :continuation }
    text = frames.map(&:payload).join
    return text unless opcode == :text

    text.force_encoding(Encoding::UTF_8)
    text.valid_encoding? ? text : breach("text that is not UTF-8")
  end

  # Reads the Close frame, perhaps behind pings, and says what it has: nothing, or the code and the reason.
  def read_close
    frame = read_frame
    frame = read_frame while %i[ping pong].include?(frame.opcode)
    raise "no Close but #{frame}" unless frame.opcode == :close

    code, reason = frame.payload.unpack("na*")
    code ? [code, reason.force_encoding(Encoding::UTF_8)] : []
  end

  # Closes as one should, and waits for the end. Returns what the server's Close frame says.
  def say_goodbye(code = 1000, reason = "")
    bye(code, reason)
    told = read_close
    raise "something came behind the Close" unless closed_by_server?

    told
  end

  # Answers the Close of the server, and waits for the end. Returns what it said.
  def let_go
    told = read_close
    bye(told.first)
    raise "something came behind the Close" unless closed_by_server?

    told
  end

  private

  def length_of(code)
    length = case code
             when 126 then read_exactly(2).unpack1("n")
             when 127 then read_exactly(8).unpack1("Q>")
             else return code
             end
    length > (code == 126 ? 125 : 65_535) ? length : breach("the length is not minimal")
  end

  def agree(extensions)
    return unless extensions

    name, *parameters = extensions.split(/; ?/)
    breach("extensions: #{extensions}") unless name == "permessage-deflate"
    bits = ->(side) { parameters.filter_map { |text| text[/\A#{side}_max_window_bits=(\d+)\z/, 1] }.first&.to_i || 15 }
    @client_takeover = !parameters.include?("client_no_context_takeover")
    @server_takeover = !parameters.include?("server_no_context_takeover")
    @deflater = Zlib::Deflate.new(Zlib::DEFAULT_COMPRESSION, -[bits.call("client"), 9].max)
    @inflater = Zlib::Inflate.new(-bits.call("server"))
  end

  def inflate(payload)
    text = @inflater.inflate(payload + DEFLATE_TAIL)
    @inflater.reset unless @server_takeover
    text
  end

  def breach(what)
    raise Breach, what
  end
end
