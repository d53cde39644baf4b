# frozen_string_literal: true

# Raw connections and clients, from both ends: handlers that say what happens to them, and servers of the examples' own that
# the clients of iodine connect to.

require "fileutils"
require "openssl"
require "tmpdir"
require_relative "http"

# To be included beside {Asking}: its server knows `Recorder` then.
module Talking
  # Source for the server's process. A Recorder says each of its callbacks, and does what it was given to do in them. `on_drained`,
  # `ping` and `on_shutdown` are there only if something is to be done.
  RECORDER = <<~'RUBY'
    $clients = {}
    class Recorder
      def initialize(name, **does)
        @name = name
        @does = does
        (%i[on_drained ping on_shutdown] & does.keys).each do |callback|
          define_singleton_method(callback) { |client| happen(callback, client) }
        end
      end

      def on_open(client)
        $clients[@name] = client
        happen(:on_open, client)
      end

      def on_message(client, data)
        happen(:on_message, client, data)
      end

      def on_close(client)
        happen(:on_close, client)
      end

      private

      def happen(callback, client, *data)
        say @name, callback, *data.map { |text| text.bytesize > 100 ? text.bytesize : text.inspect }
        @does[callback]&.call(client, *data)
      end
    end
  RUBY

  # A name that no other example has.
  def fresh_name
    "r#{Talking.count}"
  end

  @count = 0

  def self.count
    @count += 1
  end

  # What the Recorder of this name has said.
  def told(name)
    server.said.filter_map { |line| line.delete_prefix("#{name} ") if line.start_with?("#{name} ") }
  end

  # Waits until it has said that.
  def wait_until_told(name, line, times: 1)
    line = Regexp.escape(line) if line.is_a?(String)
    server.wait_for_said(/#{name} #{line}/, times: times)
  end

  # The port, or the path, of a new raw listener whose connections get the value of `handler`, source that knows `name`.
  def listen_raw(handler, name: fresh_name, unix: nil)
    place = unix ? "address: #{unix.inspect}" : "address: '127.0.0.1', port: 0"
    value_of("name = #{name.inspect}; Iodine.listen(service: :raw, #{place}) { #{handler} }; " \
             "Iodine.listeners.last.then { |place| place[:path] || place[:port] }")
  end

  # Has the server connect. `options` is the source of keywords.
  def connect(handler, options, name: fresh_name)
    value_of("name = #{name.inspect}; Iodine.connect(handler: (#{handler}), #{options}); nil")
  end

  # The value of `code`, which knows the Recorder's `client`.
  def of_client(name, code)
    value_of("client = $clients.fetch(#{name.inspect}); #{code}")
  end
end

# A listening socket of the example's own.
class PeerServer
  DEADLINE = RawClient::DEADLINE

  attr_reader :socket

  def self.tcp(host = "127.0.0.1", port = 0)
    new(TCPServer.new(host, port))
  end

  def self.unix(path)
    new(UNIXServer.new(path))
  end

  def initialize(socket)
    @socket = socket
  end

  def port
    @socket.local_address.ip_port
  end

  # The next connection that comes.
  def accept
    raise "nobody came within #{DEADLINE} s" unless @socket.wait_readable(DEADLINE)

    RawClient.new(@socket.accept)
  end

  # Whether nobody comes for a while: only for proving an absence.
  def silent?(seconds = 0.1)
    @socket.wait_readable(seconds).nil?
  end

  def close
    @socket.close unless @socket.closed?
  end
end

# The same with TLS. A client that can not be agreed with is nil.
class TlsPeerServer < PeerServer
  attr_reader :error

  # @param identity [Array] certificate and key
  def initialize(identity, trust: nil, **options)
    super(TCPServer.new("127.0.0.1", 0))
    @context = OpenSSL::SSL::SSLContext.new
    @context.cert, @context.key = identity
    options.each { |name, value| @context.public_send(:"#{name}=", value) }
    return unless trust

    @context.verify_mode = OpenSSL::SSL::VERIFY_PEER | OpenSSL::SSL::VERIFY_FAIL_IF_NO_PEER_CERT
    @context.cert_store = OpenSSL::X509::Store.new.tap { |store| store.add_cert(trust) }
  end

  def accept
    plain = super.socket
    secure = OpenSSL::SSL::SSLSocket.new(plain, @context)
    secure.sync_close = true
    Timeout.timeout(DEADLINE) { secure.accept }
    TlsPeer.new(secure)
  rescue OpenSSL::SSL::SSLError, SystemCallError => error
    @error = error
    plain&.close
    nil
  end
end

# A connection with TLS, in the example's hands.
class TlsPeer < RawClient
  def silent?(seconds = 0.1)
    @buffer.empty? && @socket.pending.zero? && @socket.to_io.wait_readable(seconds).nil?
  end

  private

  def fill
    limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + DEADLINE
    loop do
      read = @socket.read_nonblock(65_536, exception: false)
      return @buffer << read if read.is_a?(String)
      return @ended = true if read.nil?
      raise "nothing came within #{DEADLINE} s; so far #{@buffer.inspect}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > limit

      read == :wait_readable ? @socket.to_io.wait_readable(1) : @socket.to_io.wait_writable(1)
    end
  rescue Errno::ECONNRESET
    @ended = true
  end
end

# Certificates made here and now, for tests alone.
class TestAuthority
  attr_reader :certificate, :folder

  def initialize(name = "Iodine Spec CA")
    @folder = Dir.mktmpdir("iodine-spec-ca")
    @key = OpenSSL::PKey::EC.generate("prime256v1")
    @serial = 1
    @certificate = certificate_of(name, @key, issuer: nil, extensions: [["basicConstraints", "CA:TRUE", true],
                                                                        ["keyUsage", "keyCertSign,cRLSign", true]])
    File.write(path, @certificate.to_pem)
  end

  # The PEM file to trust.
  def path
    File.join(@folder, "ca.pem")
  end

  # A certificate and its key. `names` are of its subjectAltName, as "DNS:localhost" or "IP:127.0.0.1".
  def issue(*names, until_time: Time.now + 3600)
    key = OpenSSL::PKey::EC.generate("prime256v1")
    certificate = certificate_of("iodine spec", key, issuer: @certificate, until_time: until_time,
                                                     extensions: [["subjectAltName", names.join(","), false]])
    [certificate, key]
  end

  # The files of such a pair.
  def write(name, identity)
    %w[crt key].zip(identity).map do |ending, part|
      File.join(@folder, "#{name}.#{ending}").tap { |file| File.write(file, part.to_pem) }
    end
  end

  def remove
    FileUtils.rm_rf(@folder)
  end

  private

  def certificate_of(name, key, issuer:, extensions:, until_time: Time.now + 3600)
    certificate = OpenSSL::X509::Certificate.new
    certificate.version = 2
    certificate.serial = (@serial += 1)
    certificate.subject = OpenSSL::X509::Name.new([["CN", name]])
    certificate.issuer = issuer ? issuer.subject : certificate.subject
    certificate.public_key = key
    certificate.not_before = Time.now - 7200
    certificate.not_after = until_time
    factory = OpenSSL::X509::ExtensionFactory.new(issuer || certificate, certificate)
    extensions.each { |extension| certificate.add_extension(factory.create_extension(*extension)) }
    certificate.sign(@key, OpenSSL::Digest.new("SHA256"))
  end
end

# One frame of a WebSocket.
WebSocketFrame = Struct.new(:final, :reserved, :opcode, :mask, :payload) do
  # As a server sends it: without a mask.
  def self.bytes(opcode, payload, mask: nil, head: 0x80)
    length = payload.bytesize
    bytes = [head | opcode].pack("C")
    masked = mask ? 0x80 : 0
    bytes << case length
             when 0..125 then [masked | length].pack("C")
             when 126..65_535 then [masked | 126, length].pack("Cn")
             else [masked | 127, length].pack("CQ>")
             end
    return bytes << payload.b unless mask

    bytes << mask << masked(payload, mask)
  end

  def self.masked(payload, mask)
    keys = mask.bytes
    payload.bytes.each_with_index.map { |byte, index| byte ^ keys[index % 4] }.pack("C*")
  end

  # The status code and the reason of a Close frame.
  def close
    [payload.unpack1("n"), payload.byteslice(2..).to_s.force_encoding("UTF-8")]
  end
end

# The server's side of a WebSocket, in the example's hands.
class WebSocketPeer
  GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

  attr_reader :client, :line, :headers

  # Reads the request.
  def initialize(client)
    @client = client
    @line = client.read_line.chomp
    @headers = []
    until (line = client.read_line.chomp).empty?
      name, value = line.split(": ", 2)
      @headers << [name.downcase, value]
    end
  end

  # The values of a header.
  def all(name)
    @headers.filter_map { |header, value| value if header == name }
  end

  def [](name)
    all(name).first
  end

  def consent(*lines, key: self["sec-websocket-key"])
    accept = OpenSSL::Digest.digest("SHA1", key + GUID)
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
      "Sec-WebSocket-Accept: #{[accept].pack("m0")}\r\n#{lines.map { |line| "#{line}\r\n" }.join}\r\n"
  end

  def agree(*lines, behind: "")
    @client.write(consent(*lines).b + behind)
    self
  end

  def send_frame(opcode, payload, **options)
    @client.write(WebSocketFrame.bytes(opcode, payload, **options))
    self
  end

  def read_frame
    first, second = @client.read_exactly(2).unpack("CC")
    length = second & 0x7f
    length = @client.read_exactly(2).unpack1("n") if length == 126
    length = @client.read_exactly(8).unpack1("Q>") if length == 127
    mask = @client.read_exactly(4) if second.anybits?(0x80)
    payload = @client.read_exactly(length)
    payload = WebSocketFrame.masked(payload, mask) if mask
    WebSocketFrame.new(first.anybits?(0x80), first & 0x70, first & 0x0f, mask, payload)
  end

  def close
    @client.close
  end
end
