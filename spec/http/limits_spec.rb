# frozen_string_literal: true

# What a client may not exceed, and how it is told.

require "tmpdir"

RSpec.describe "limits" do
  app = <<~RUBY
    ->(env) { [200, text, [env["rack.input"].read.bytesize.to_s]] }
  RUBY

  # A request whose request line, and whose one header line beside Host, have so many bytes with their line ends.
  def request(line: nil, header: nil)
    request_line = line ? "GET /#{"x" * (line - 16)} HTTP/1.1\r\n" : "GET / HTTP/1.1\r\n"
    header_line = header ? "X: #{"y" * (header - 5)}\r\n" : ""
    "#{request_line}Host: x\r\n#{header_line}\r\n"
  end

  def post(length)
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: #{length}\r\n\r\n"
  end

  def chunked(size, pieces)
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
      ("#{size.to_s(16)}\r\n#{"z" * size}\r\n" * pieces) + "0\r\n\r\n"
  end

  def status_of(bytes, at: server)
    text = RawClient.converse(at.port, bytes, half_close: true)
    expect(text.scan("HTTP/1.1").size).to eq(1)
    text[%r{\AHTTP/1\.1 (\d{3}) }, 1].to_i
  end

  describe "as they are unless told otherwise" do
    serve_for_all(app, lint: true)

    it "8 KiB for the request line, then 414 (F-40)" do
      expect(status_of(request(line: 8192))).to eq(200)
      expect(status_of(request(line: 8193))).to eq(414)
      expect(status_of("GET /#{"x" * 9000}")).to eq(414)
    end

    it "8 KiB for a header line, then 431, once (F-32)" do
      expect(status_of(request(header: 8192))).to eq(200)
      expect(status_of(request(header: 8193))).to eq(431)
      expect(status_of(request(header: 9000).chomp("\r\n\r\n"))).to eq(431)
    end

    it "32 KiB for the head, then 431" do
      lines = ->(count) { "GET / HTTP/1.1\r\nHost: x\r\n#{"A: #{"b" * 1019}\r\n" * count}\r\n" }
      expect(status_of(lines.call(31))).to eq(200)
      expect(status_of(lines.call(32))).to eq(431)
    end

    it "128 header lines, then 431, however they are called" do
      lines = ->(count) { "GET / HTTP/1.1\r\nHost: x\r\n#{(2..count).map { |n| "A#{n}: b\r\n" }.join}\r\n" }
      expect(status_of(lines.call(128))).to eq(200)
      expect(status_of(lines.call(129))).to eq(431)
      expect(status_of("GET / HTTP/1.1\r\nHost: x\r\n#{"A: b\r\n" * 128}\r\n")).to eq(431)
    end

    it "50 MiB for a body, then 413 before any of it is read" do
      expect(status_of(post((50 * 1024 * 1024) + 1))).to eq(413)
    end
  end

  describe "as listen sets them" do
    serve_for_all(app, lint: true, options: "max_line: 1, max_headers: 2, max_header_count: 4, max_body: 1")

    it "the lines" do
      expect(status_of(request(line: 1024))).to eq(200)
      expect(status_of(request(line: 1025))).to eq(414)
      expect(status_of(request(header: 1024))).to eq(200)
      expect(status_of(request(header: 1025))).to eq(431)
    end

    it "the head" do
      lines = ->(size) { "GET / HTTP/1.1\r\nHost: x\r\n#{"A: #{"b" * (size - 5)}\r\n" * 2}\r\n" }
      expect(status_of(lines.call(1010))).to eq(200)
      expect(status_of(lines.call(1011))).to eq(431)
    end

    it "the number of header lines" do
      expect(status_of("GET / HTTP/1.1\r\nHost: x\r\n#{"A: b\r\n" * 3}\r\n")).to eq(200)
      expect(status_of("GET / HTTP/1.1\r\nHost: x\r\n#{"A: b\r\n" * 4}\r\n")).to eq(431)
    end

    it "the body" do
      expect(status_of(post(1_048_576) + ("x" * 1_048_576))).to eq(200)
      expect(status_of(post(1_048_577))).to eq(413)
    end

    it "the body in chunks" do
      expect(status_of(chunked(65_536, 16))).to eq(200)
      expect(status_of(chunked(65_536, 17))).to eq(413)
      expect(status_of("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n")).to eq(413)
    end

    it "the trailers" do
      body = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
      expect(status_of("#{body}#{"A: b\r\n" * 4}\r\n")).to eq(200)
      expect(status_of("#{body}#{"A: b\r\n" * 5}\r\n")).to eq(431)
    end
  end

  it "are the usual ones for 0, and no body at all for a negative max_body" do
    server = serve(app, options: "max_line: 0, max_headers: 0, max_header_count: 0, max_body: -1")
    expect(status_of(request(line: 8192), at: server)).to eq(200)
    expect(status_of(request(line: 8193), at: server)).to eq(414)
    expect(status_of(post(1), at: server)).to eq(413)
  end

  it "do not hold for the head with a negative max_headers" do
    server = serve(app, options: "max_headers: -1, max_header_count: 1000")
    bytes = "GET / HTTP/1.1\r\nHost: x\r\n#{"A: #{"b" * 8000}\r\n" * 100}\r\n"
    expect(status_of(bytes, at: server)).to eq(200)
  end

  it "are none for infinity, or for more than can be meant" do
    ["Float::INFINITY", "10**30"].each do |much|
      sizes = %w[max_body max_line body_memory max_msg max_backlog timeout body_timeout].map { |key| "#{key}: #{much}" }
      server = serve(app, options: [*sizes, "max_header_count: 10**30", "max_queue: 10**30", "max_clients: 10**30"].join(", "))
      expect(status_of(request(line: 20_000), at: server)).to eq(200)
      RawClient.open(server.port) do |client|
        client.write(post(2**40).sub("Host", "Expect: 100-continue\r\nHost"))
        expect(client.read_response.status).to eq(100)
      end
    end
  end

  it "fall back to the settings of the process" do
    server = serve(app, before: "Iodine::DEFAULT_SETTINGS.update(max_body: 1, max_line: 1)")
    expect(status_of(post(1_048_577), at: server)).to eq(413)
    expect(status_of(request(line: 1025), at: server)).to eq(414)
  end

  describe "a refusal" do
    serve_for_all(app, options: "max_body: 1")

    it "arrives although the client is still sending (F-32)" do
      RawClient.open(server.port) do |client|
        client.write(post(8_000_000))
        80.times { client.write("x" * 100_000) }
        response = client.read_response
        expect([response.status, response["connection"], response.body]).to eq([413, "close", "413 Payload Too Large"])
        expect(client).to be_closed_by_server
      end
    end

    it "arrives although the client is still sending chunks" do
      RawClient.open(server.port) do |client|
        client.write(chunked(65_536, 80))
        expect(client.read_response.status).to eq(413)
        expect(client).to be_closed_by_server
      end
    end

    it "is told in the log, with its reason" do
      {
        "BAD\r\n\r\n" => /refused with 400: the request line is not METHOD TARGET VERSION$/,
        post("-1") => /refused with 400: the Content-Length is not a number$/,
        post(99_999_999) => /refused with 413: the request body is too large$/,
        request(line: 9000) => /refused with 414: the request line is too long$/
      }.each do |bytes, reason|
        added = server.log_after(reason) { status_of(bytes) }
        expect(added).to match(/^WARNING: HTTP request from 127\.0\.0\.1 refused/)
      end
    end
  end

  it "keeps quiet about refusals below the level of warnings" do
    server = serve(app, before: "Iodine.verbosity = 4; Iodine.on_state(:on_start) { Iodine.verbosity = 2 }")
    expect(RawClient.exchange(server.port, "BAD\r\n\r\n").first.status).to eq(400)
    server.stop
    expect(server.log).not_to include("refused")
  end

  describe "on connections" do
    before_start = "Iodine::DEFAULT_SETTINGS[:max_clients] = 3"

    it "F-33: answers one too many with 503" do
      server = serve(app, before: before_start, lint: true)
      clients = Array.new(3) { RawClient.open(server.port) }
      clients.each { |client| expect(client.get.status).to eq(200) }
      2.times do
        RawClient.open(server.port) do |client|
          response = client.read_response
          expect([response.status, response["connection"]]).to eq([503, "close"])
          expect(response.body).to eq("503 Service Unavailable")
          expect(response["retry-after"]).to match(/\A\d+\z/)
          expect(client).to be_closed_by_server
        end
      end
      expect(clients.map { |client| client.get.status }).to eq([200, 200, 200])
      server.wait_for_log(/^WARNING: HTTP server at capacity/)
      expect(server.log.scan("at capacity").size).to eq(1)
      clients.pop.close
      eventually { RawClient.open(server.port) { |client| client.get.status == 200 } }
      clients.each(&:close)
    end

    it "can be given to listen, too" do
      server = serve(app, options: "max_clients: 1")
      RawClient.open(server.port) do |client|
        expect(client.get.status).to eq(200)
        RawClient.open(server.port) { |other| expect(other.read_response.status).to eq(503) }
      end
    end

    it "is not spent by clients that have left" do
      server = serve(app, before: before_start)
      20.times { RawClient.open(server.port) { |client| expect([200, 503]).to include(client.get.status) } }
      eventually { RawClient.open(server.port) { |client| client.get.status == 200 } }
    end

    it "F-33: keeps descriptors free, and answers with 503 when they run short" do
      server = serve(app, before: "Process.setrlimit(:NOFILE, 100, 100)")
      clients = Array.new(60) { RawClient.open(server.port) }
      served = clients.map { |client| client.get.status }
      expect(served.tally.keys).to contain_exactly(200, 503)
      expect(served.count(200)).to be_between(15, 36)
      clients.each(&:close)
      eventually { RawClient.open(server.port) { |client| client.get.status == 200 } }
    end
  end

  # A client could have its answers pile up otherwise: it costs a few bytes to ask for a large one.
  it "does not go on serving a client that does not read" do
    server = serve(<<~RUBY, threads: 2)
      calls = 0
      lambda do |env|
        next [200, {}, [calls.to_s]] if env["PATH_INFO"] == "/calls"

        calls += 1
        [200, {}, ["x" * 1_000_000]]
      end
    RUBY
    RawClient.open(server.port) do |client|
      client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
      calls = -> { RawClient.open(server.port) { |other| other.get("/calls").body.to_i } }
      eventually { calls.call > 5 }
      sleep 0.2
      expect(calls.call).to be < 100
      200.times { expect(client.read_response.body.bytesize).to eq(1_000_000) }
      expect(calls.call).to eq(200)
    end
  end
end
