# frozen_string_literal: true

# The PROXY protocol: what a balancer says of its client before the first byte of HTTP.

require "tmpdir"

RSpec.describe "the PROXY protocol" do
  app = '->(env) { env["PATH_INFO"] == "/hijack" ? hijacked(env) : [200, text, [env["REMOTE_ADDR"]]] }'
  hijack = <<~RUBY
    def hijacked(env)
      io = env["rack.hijack"].call
      io.write("HTTP/1.1 200 OK\\r\\ncontent-length: 10\\r\\n\\r\\n\#{io.class.name.ljust(10)}")
      io.close
    end
  RUBY

  def v2(command, kind, block = "")
    "\r\n\r\n\0\r\nQUIT\n".b << [command, kind, block.bytesize].pack("CCn") << block.b
  end

  def get(path = "/", headers = "")
    "GET #{path} HTTP/1.1\r\nHost: x\r\n#{headers}\r\n"
  end

  line = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
  ipv4 = [192, 0, 2, 1, 198, 51, 100, 1, 56_324, 443].pack("C8n2")
  ipv6 = "#{[0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].pack("n8")}#{[0, 0, 0, 0, 0, 0, 0, 1].pack("n8")}#{[1, 2].pack("n2")}"
  tlv = [4, 3, "abc"].pack("Cna*")

  describe "where it is switched on" do
    serve_for_all(app, before: hijack, options: "proxy_protocol: true, log: true")

    it "names the client of version 1" do
      {
        line => "192.0.2.1",
        "PROXY TCP6 2001:db8::7 ::1 1 2\r\n" => "2001:db8::7",
        "PROXY UNKNOWN\r\n" => "127.0.0.1",
        "PROXY UNKNOWN and more\r\n" => "127.0.0.1"
      }.each { |header, client| expect(RawClient.exchange(server.port, header + get).first.body).to eq(client), header }
    end

    it "names the client of version 2" do
      {
        v2(0x21, 0x11, ipv4) => "192.0.2.1",
        v2(0x21, 0x11, ipv4 + tlv) => "192.0.2.1",
        v2(0x21, 0x21, ipv6 + tlv) => "2001:db8::7",
        v2(0x20, 0x00) => "127.0.0.1", # LOCAL: the balancer itself
        v2(0x20, 0x11, ipv4) => "127.0.0.1",
        v2(0x21, 0x00, tlv) => "127.0.0.1",
        v2(0x21, 0x31, "x" * 216) => "127.0.0.1"
      }.each { |header, client| expect(RawClient.exchange(server.port, header + get).first.body).to eq(client), header }
    end

    it "takes it byte by byte" do
      [line, v2(0x21, 0x11, ipv4)].each do |header|
        bytes = header.b + get("/", "Connection: close\r\n")
        expect(RawClient.converse(server.port, bytes, bytewise: true)).to end_with("\r\n\r\n192.0.2.1")
      end
    end

    it "takes it in pieces, also with the request cut" do
      whole = v2(0x21, 0x11, ipv4) + get.b
      [1, 12, 15, 16, 27, 28, 40].each do |at|
        RawClient.open(server.port) do |client|
          client.write_pieces(whole[0...at], whole[at..])
          expect(client.read_response.body).to eq("192.0.2.1"), "cut at #{at}"
        end
      end
    end

    it "counts for all requests of the connection, and for the log" do
      RawClient.open(server.port) do |client|
        added = server.log_after(/"GET \/three /) do
          client.write(line + get("/one") + get("/two"))
          expect(Array.new(2) { client.read_response.body }).to eq(%w[192.0.2.1 192.0.2.1])
          expect(client.write(get("/three")).read_response.body).to eq("192.0.2.1")
        end
        expect(added.scan(%r{^192\.0\.2\.1 - - .*GET (/\w+) }).flatten).to eq(%w[/one /two /three])
      end
    end

    it "is the client whom a refusal is logged for" do
      added = server.log_after(/refused with 400/) { RawClient.converse(server.port, "#{line}BAD\r\n\r\n") }
      expect(added).to include("WARNING: HTTP request from 192.0.2.1 refused with 400")
    end

    it "leaves the socket of a hijack what it is" do
      body = RawClient.exchange(server.port, line + get("/hijack")).first.body
      expect(body).to eq("TCPSocket ")
    end

    it "is heard once: a second header is no request" do
      answer = RawClient.converse(server.port, line + line + get)
      expect(answer).to start_with("HTTP/1.1 400 ")
    end

    it "closes what does not begin with one, without an answer" do
      ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00", "PROXY UNKNOWN\n", v2(0x2f, 0x11, ipv4)].each do |bytes|
        RawClient.open(server.port) { |client| expect(client.write(bytes.b)).to be_closed_by_server }
      end
    end
  end

  it "has the log say why a connection is closed" do
    server = serve(app, options: "proxy_protocol: true")
    # Health checks do this.
    RawClient.converse(server.port, "", half_close: true)
    {
      get => "it does not begin with a PROXY header",
      "PROXY TCP4 300.0.2.1 198.51.100.1 1 2\r\n" => "its PROXY line can not be understood",
      "PROXY UNKNOWN #{"x" * 200}" => "its PROXY line does not end",
      v2(0x11, 0x11, ipv4) => "its PROXY header is of an unknown version or command",
      v2(0x21, 0x41, ipv4) => "its PROXY header names an unknown kind of address",
      v2(0x21, 0x21, ipv4) => "its PROXY header is too short for its addresses",
      "PROXY TCP4 " => "it ended within its PROXY header"
    }.each do |bytes, reason|
      added = server.log_after(/\n/) { expect(RawClient.open(server.port) { |client| cut_off?(client, bytes) }).to be(true) }
      expect(added).to eq("WARNING: connection from 127.0.0.1 closed: #{reason}.\n")
    end
  end

  def cut_off?(client, bytes)
    client.write(bytes.b).finish_writing.closed_by_server?
  end

  it "has the time of a head to come" do
    server = serve(app, options: "proxy_protocol: true, head_timeout: 0.2")
    server.log_after(/WARNING: connection from 127\.0\.0\.1 closed: its PROXY header took too long/) do
      RawClient.open(server.port) { |client| expect(client).to be_closed_by_server }
    end
    RawClient.open(server.port) { |client| expect(client.write("PROXY T")).to be_closed_by_server }
    server.wait_for_log(/its PROXY header took too long/, times: 2)
  end

  it "makes the client whom it names the one that must be trusted" do
    { "192.0.2.1" => "203.0.113.7", "127.0.0.1" => "192.0.2.1" }.each do |trusted, client|
      server = serve(app, options: "proxy_protocol: true, trusted_proxies: #{trusted.inspect}")
      answer = RawClient.exchange(server.port, line + get("/", "X-Forwarded-For: 203.0.113.7\r\n")).first
      expect(answer.body).to eq(client), trusted
    end
  end

  it "goes over Unix sockets, too" do
    Dir.mktmpdir do |folder|
      path = File.join(folder, "s.sock")
      serve(app, before: hijack, address: path, options: "proxy_protocol: true")
      RawClient.open_unix(path) do |client|
        expect(client.write(line + get).read_response.body).to eq("192.0.2.1")
        expect(client.write(get("/hijack")).read_response.body).to eq("UNIXSocket")
      end
    end
  end

  it "is no HTTP where it is not switched on" do
    server = serve(app)
    expect(RawClient.converse(server.port, line + get)).to start_with("HTTP/1.1 400 ")
    expect(RawClient.converse(server.port, v2(0x21, 0x11, ipv4) + get)).to start_with("HTTP/1.1 400 ")
  end
end
