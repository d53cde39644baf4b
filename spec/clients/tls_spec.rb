# frozen_string_literal: true

# Clients with TLS: whom they trust, what they show of themselves, and how a failure is told. `on_open` means that all of it is
# settled (F9, F42).

require_relative "../support/talking"

RSpec.describe "clients with TLS" do
  include Talking

  serve_for_all(Asking::APP, threads: 4, before: Talking::RECORDER)

  before(:context) do
    @authority = TestAuthority.new
    @stranger = TestAuthority.new("Somebody Else")
    @local = @authority.issue("DNS:localhost", "IP:127.0.0.1")
  end

  after(:context) { [@authority, @stranger].each(&:remove) }

  let(:trust) { "trust: #{@authority.path.inspect}" }

  # A client of a server that has this identity, and the server's end: nil if they could not agree.
  def talk(options, identity: @local, scheme: "tls", host: "localhost", does: "", **server)
    listener = TlsPeerServer.new(identity, **server)
    name = fresh_name
    connect("Recorder.new(name, #{does})", "url: '#{scheme}://#{host}:#{listener.port}', #{options}", name: name)
    peer = listener.accept
    yield name, peer, listener
  ensure
    peer&.close
    listener&.close
  end

  # Why the client does not want this server, as its log says.
  def refusal(options, **server)
    talk(options, **server) do |name, _peer, listener|
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_close"])
      line = /^INFO: no connection could be made: \S+:#{listener.port}: (.*)\n/
      return shared_server.wait_for_log(line)[line, 1]
    end
  end

  it "speak to a server that proves its name, or its address" do
    %w[localhost 127.0.0.1].each do |host|
      talk("tls: { #{trust} }", host: host, does: "on_open: ->(client) { client.write('hello') }") do |name, peer, _|
        expect(peer.read_exactly(5)).to eq("hello")
        peer.write("welcome")
        wait_until_told(name, 'on_message "welcome"')
        # The name was told to the server; an address is none (RFC 6066 section 3).
        peer.close
        wait_until_told(name, "on_close")
      end
    end
  end

  it "tell the server its name, but no address" do
    { "localhost" => "localhost", "127.0.0.1" => nil }.each do |host, told|
      asked = :nothing
      listener = TlsPeerServer.new(@local, servername_cb: ->((_, name)) { asked = name and nil })
      connect("Recorder.new(name)", "url: 'tls://#{host}:#{listener.port}', tls: { #{trust} }")
      listener.accept&.close
      expect(asked).to eq(told || :nothing)
      listener.close
    end
  end

  it "speak WebSocket over it" do
    listener = TlsPeerServer.new(@local)
    name = fresh_name
    connect("Recorder.new(name, on_open: ->(client) { client.write('x' * 100_000) }, on_message: ->(client, _) { client.close })",
            "url: 'wss://localhost:#{listener.port}/secure', tls: { #{trust} }", name: name)
    peer = WebSocketPeer.new(listener.accept)
    expect([peer.line, peer["host"]]).to eq(["GET /secure HTTP/1.1", "localhost:#{listener.port}"])
    peer.agree(behind: WebSocketFrame.bytes(1, "at once"))
    expect(peer.read_frame.payload.bytesize).to eq(100_000)
    expect(peer.read_frame.close).to eq([1000, ""])
    wait_until_told(name, 'on_message "at once"')
    peer.send_frame(8, [1000].pack("n"))
    wait_until_told(name, "on_close")
    peer.close
  ensure
    listener&.close
  end

  it "trust nobody by default that the system does not" do
    expect(refusal("")).to match(/certificate/i)
    expect(refusal("tls: true")).to match(/certificate/i)
    expect(refusal("tls: {}", scheme: "wss")).to match(/certificate/i)
  end

  it "refuse a server of another authority, of another name or address, and of another time" do
    expect(refusal("tls: { trust: #{@stranger.path.inspect} }")).to match(/certificate/i)
    expect(refusal("tls: { #{trust} }", identity: @authority.issue("DNS:example.com", "IP:127.0.0.2"))).to match(/name|host/i)
    expect(refusal("tls: { #{trust} }", identity: @authority.issue("DNS:localhost"), host: "127.0.0.1")).to match(/address|IP/i)
    expect(refusal("tls: { #{trust} }", identity: @authority.issue("DNS:localhost", until_time: Time.now - 60))).to match(/expired/i)
  end

  it "trust several authorities" do
    talk("tls: { trust: #{[@stranger.path, @authority.path].inspect} }") { |name, *| wait_until_told(name, "on_open") }
  end

  it "take anybody if they are told not to verify" do
    [@authority.issue("DNS:example.com"), @stranger.issue("DNS:x", until_time: Time.now - 60)].each do |identity|
      talk("tls: { verify: false }", identity: identity) { |name, *| wait_until_told(name, "on_open") }
    end
  end

  it "show who they are, if they are told to" do
    certificate, key = @authority.write("client", @authority.issue("DNS:client"))
    shown = "certificate: #{certificate.inspect}, private_key: #{key.inspect}"
    talk("tls: { #{trust}, #{shown} }", trust: @authority.certificate) do |name, peer, _|
      wait_until_told(name, "on_open")
      expect(peer.socket.peer_cert.to_pem).to eq(File.read(certificate))
    end
    talk("tls: { #{trust} }", trust: @authority.certificate) do |name, peer, listener|
      expect([peer, listener.error]).to match([nil, an_instance_of(OpenSSL::SSL::SSLError)])
      wait_until_told(name, "on_close")
    end
  end

  it "may have an encrypted key" do
    identity = @authority.issue("DNS:client")
    certificate, key = @authority.write("secret", identity)
    File.write(key, identity.last.to_pem(OpenSSL::Cipher.new("aes-128-cbc"), "s3cret"))
    shown = "certificate: #{certificate.inspect}, private_key: #{key.inspect}"
    talk("tls: { #{trust}, #{shown}, password: 's3cret' }", trust: @authority.certificate) { |name, *| wait_until_told(name, "on_open") }
    error = value_of("begin; Iodine.connect(url: 'tls://localhost:1', handler: 1, tls: { #{shown}, password: 'wrong' }); " \
                     "rescue => error; error.class.name; end")
    expect(error).to eq("RuntimeError")
  end

  it "are refused at once with files that are not there, or not what they should be" do
    empty = File.join(@authority.folder, "empty").tap { |path| File.write(path, "") }
    certificate, = @authority.write("one", @authority.issue("DNS:one"))
    _, key = @authority.write("two", @authority.issue("DNS:two"))
    ["trust: '/nowhere.pem'", "trust: #{empty.inspect}", "certificate: '/nowhere.pem', private_key: #{key.inspect}",
     "certificate: #{certificate.inspect}, private_key: #{key.inspect}", "certificate: #{certificate.inspect}"].each do |options|
      error = value_of("begin; Iodine.connect(url: 'tls://localhost:1', handler: 1, tls: { #{options} }); 'none'; " \
                       "rescue => error; error.class.name; end")
      expect([options, error]).to eq([options, "RuntimeError"])
    end
  end

  it "do not wait for ever for a server that is silent, or speaks no TLS" do
    listener = PeerServer.tcp
    name = fresh_name
    connect("Recorder.new(name)", "url: 'tls://localhost:#{listener.port}', connect_timeout: 0.3", name: name)
    peer = listener.accept
    wait_until_told(name, "on_close")
    expect(told(name)).to eq(["on_close"])
    peer.close
    name = fresh_name
    connect("Recorder.new(name)", "url: 'tls://localhost:#{listener.port}'", name: name)
    peer = listener.accept
    peer.write("220 mail.example.com ESMTP\r\n")
    wait_until_told(name, "on_close")
    expect(told(name)).to eq(["on_close"])
    peer.close
  ensure
    listener&.close
  end

  it "hear what came with the end of the handshake" do
    20.times do
      listener = TlsPeerServer.new(@local)
      name = fresh_name
      connect("Recorder.new(name)", "url: 'tls://localhost:#{listener.port}', tls: { #{trust} }", name: name)
      peer = listener.accept
      peer.write("banner")
      peer.close
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_open", 'on_message "banner"', "on_close"])
      listener.close
    end
  end
end
