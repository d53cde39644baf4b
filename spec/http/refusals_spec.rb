# frozen_string_literal: true

# Every status that the server answers by itself, to a client that reads what it gets: once, whole, and with the end of
# the connection behind it.

RSpec.describe "refusals" do
  reasons = { 400 => "Bad Request", 408 => "Request Timeout", 413 => "Payload Too Large", 414 => "URI Too Long",
              417 => "Expectation Failed", 431 => "Request Header Fields Too Large", 501 => "Not Implemented",
              505 => "HTTP Version Not Supported" }
  # What follows the method.
  requests = {
    "a request line that is none" => [400, " / HTTP\r\n\r\n"],
    "a missing Host" => [400, " / HTTP/1.1\r\n\r\n"],
    "a header line without a name" => [400, " / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"],
    "a head that stops" => [408, " / HTTP/1.1\r\nHo"],
    "a body that stops" => [408, " / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe"],
    "a body that is too long" => [413, " / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n"],
    "a chunk that is too long" => [413, " / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n"],
    "a request line that is too long" => [414, " /#{"x" * 1100} HTTP/1.1\r\nHost: x\r\n\r\n"],
    "a request line without an end" => [414, " /#{"x" * 1100}"],
    "an expectation that is not known" => [417, " / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"],
    "a header line that is too long" => [431, " / HTTP/1.1\r\nHost: x\r\nX: #{"x" * 1100}\r\n\r\n"],
    "a head that is too large" => [431, " / HTTP/1.1\r\nHost: x\r\n#{"X: #{"x" * 1000}\r\n" * 4}\r\n"],
    "too many header lines" => [431, " / HTTP/1.1\r\nHost: x\r\n#{"X: y\r\n" * 9}\r\n"],
    "too many trailers" => [431, " / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n#{"X: y\r\n" * 9}\r\n"],
    "a coding that is not known" => [501, " / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"],
    "a version that is not known" => [505, " / HTTP/2.0\r\nHost: x\r\n\r\n"]
  }
  app = '->(env) { [200, text, ["never"]] }'
  options = "max_line: 1, max_headers: 3, max_header_count: 8, max_body: 1, log: true"

  # A connection on which these were sent, in much less time than any has here: this process may be held up meanwhile.
  def open_and_write(pieces)
    eventually do
      client = RawClient.open(server.port)
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      client.write_pieces(*pieces)
      next client if Process.clock_gettime(Process::CLOCK_MONOTONIC) - start < 0.5

      client.close
    rescue Errno::EPIPE, Errno::ECONNRESET
      client.close
    end
  end

  shared_examples "refused" do |rest, status|
    let(:body) { "#{status} #{reasons.fetch(status)}" }

    it "is #{status} (F-40)" do
      RawClient.open(server.port) do |client|
        response = client.write("POST#{rest}").read_response
        expect([response.status, response.reason, response.body]).to eq([status, reasons.fetch(status), body])
        expect([response["content-type"], response["connection"]]).to eq(["text/plain", "close"])
        expect(client).to be_closed_by_server
      end
    end

    it "has no body for HEAD, however it arrives (RFC 9110 section 9.3.2)" do
      all = [["HEAD#{rest}"], "HEAD#{rest}".partition("AD"), "\r\nHEAD#{rest}".partition("D ")]
      all.map { |pieces| open_and_write(pieces) }.each do |client|
        response = client.read_response(head: true)
        expect([response.status, response["content-length"]]).to eq([status, body.bytesize.to_s])
        expect(client).to be_closed_by_server
        client.close
      end
    end
  end

  slow, others = requests.partition { |_name, (status, _rest)| status == 408 }

  describe "in time" do
    serve_for_all(app, options: "head_timeout: 2, body_timeout: 2")

    slow.each { |name, (status, rest)| describe("of #{name}") { it_behaves_like "refused", rest, status } }
  end

  serve_for_all(app, options: options)

  others.each { |name, (status, rest)| describe("of #{name}") { it_behaves_like "refused", rest, status } }

  it "is 501 for CONNECT" do
    response = RawClient.exchange(server.port, "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n").first
    expect([response.status, response.body]).to eq([501, "501 Not Implemented"])
  end

  it "comes behind the answers before it" do
    RawClient.open(server.port) do |client|
      client.write("#{"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3}GET / HTTP/9.9\r\n\r\n")
      expect(Array.new(4) { client.read_response.status }).to eq([200, 200, 200, 505])
      expect(client).to be_closed_by_server
    end
  end

  it "has its line in the request log" do
    { "a chunk that is too long" => "POST / HTTP/1.1\" 413 21b", "a body that is too long" => "POST / HTTP/1.1\" 413 21b",
      "an expectation that is not known" => "POST / HTTP/1.1\" 417 22b", "a missing Host" => "POST / HTTP/1.1\" 400 15b",
      "a request line that is none" => "- - HTTP/1.1\" 400 15b" }.each do |name, told|
      server.log_after(%r{^127\.0\.0\.1 - - \[.+ GMT\] "#{told} \d+ms\r$}) { RawClient.exchange(server.port, "POST#{requests[name][1]}") }
    end
  end

  # Its buffers are long full when it begins to read.
  it "reaches a client that first sends all of 20 MB (F-32)" do
    RawClient.open(server.port) do |client|
      client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
      200.times { client.write("x" * 100_000) }
      response = client.read_response
      expect([response.status, response.body]).to eq([413, "413 Payload Too Large"])
      expect(client).to be_closed_by_server
    end
  end

  it "reaches curl, which sends a large file (F-44)", skip: !system("curl --version", out: File::NULL, err: File::NULL) do
    server = serve('->(env) { [200, text, [env["rack.input"].read.bytesize.to_s]] }', options: "max_body: 3")
    post = lambda do |size|
      command = ["curl", "-s", "-i", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", "@-",
                 "http://127.0.0.1:#{server.port}/"]
      IO.popen(command, "r+") do |curl|
        curl.write("x" * size)
        curl.close_write
        curl.read
      end
    end
    # It would wait for half a minute, which is more than an example has, unless it is told to go on.
    expect(post.call(2_000_000)).to match(%r{\AHTTP/1\.1 100 Continue\r\n\r\nHTTP/1\.1 200 OK\r\n.*\r\n\r\n2000000\z}m)
    expect(post.call(4_000_000)).to match(%r{\AHTTP/1\.1 413 Payload Too Large\r\n.*413 Payload Too Large\z}m)
  end

  it "is 503 without a body for HEAD when there is no room for its connection (F-33)" do
    server = serve('->(env) { [200, text, []] }', options: "max_clients: 1")
    RawClient.open(server.port) do |client|
      expect(client.get.status).to eq(200)
      # The head may come after the refusal; then it could not be known.
      eventually do
        text = RawClient.converse(server.port, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(text).to start_with("HTTP/1.1 503 ")
        text.end_with?("\r\n\r\n")
      end
    end
  end
end
