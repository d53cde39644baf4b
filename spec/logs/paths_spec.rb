# frozen_string_literal: true

# Every way to an answer has its line: the application, files, streams, refusals, and the clients of proxies.

require "time"
require "tmpdir"
require_relative "../support/public_files"

RSpec.describe "what the request log knows" do
  app = <<~RUBY
    lambda do |env|
      case env["PATH_INFO"]
      when "/sleep" then sleep 0.2
      when "/file" then next [200, { "x-sendfile" => env["HTTP_X_FILE"] }, []]
      when "/kept" then next [200, text, ->(stream) { Thread.new { sleep 0.1; stream.write("late"); stream.close } }]
      when "/broken" then next [200, text, Enumerator.new { |body| body << "abc" * 100_000; raise "on purpose" }]
      end
      [200, text, ["abc"]]
    end
  RUBY
  format = "%{client} %{scheme} %{method} %{path} %{status} %{bytes} %{duration_us}"

  def log_of(bytes, pattern = /^\S+ \S+ \S+ \S+ \d+ \d+ \d+\n/)
    server.log_after(pattern) { RawClient.converse(server.port, bytes.b, half_close: true) }[pattern]
  end

  def request(path, headers = "", verb: "GET")
    "#{verb} #{path} HTTP/1.1\r\nHost: x\r\n#{headers}\r\n"
  end

  describe "of answers and refusals" do
    folder = public_files("a.txt" => "0123456789", "large.bin" => "x" * 3_000_000)
    serve_for_all(app, threads: 2, options: "public: #{folder.inspect}, log_format: #{format.inspect}, max_body: 1, max_line: 1, " \
                                            "body_timeout: 0.3, max_queue: nil, early_hints: true")

    {
      "whole files" => ["/a.txt", "", "/a.txt 200 10"],
      "large files" => ["/large.bin", "", "/large.bin 200 3000000"],
      "parts of files" => ["/a.txt", "Range: bytes=2-4\r\n", "/a.txt 206 3"],
      "files that the client has" => ["/a.txt", "If-Modified-Since: #{Time.now.httpdate}\r\n", "/a.txt 304 0"],
      "ranges that are none" => ["/a.txt", "Range: bytes=20-\r\n", "/a.txt 416 25"],
      "files that the application names" => ["/file", "X-File: #{folder}/a.txt\r\n", "/file 200 10"]
    }.each do |what, (path, headers, line)|
      it("has #{what}") { expect(log_of(request(path, headers))).to match(/\A127\.0\.0\.1 http GET #{Regexp.escape(line)} \d+\n\z/) }
    end

    it "has streams that outlive the call, with the time until their end" do
      line = log_of(request("/kept"), /^\S+ .*\n/)
      expect(line).to match(%r{\A127\.0\.0\.1 http GET /kept 200 4 \d+\n\z})
      expect(line[/\d+$/].to_i).to be_between(100_000, 25_000_000)
    end

    it "has the time since the head had come, also with a body behind it" do
      RawClient.open(server.port) do |client|
        @line = server.log_after(%r{/slow.*\n}) do
          client.write(request("/slow", "Content-Length: 3\r\nExpect: 100-continue\r\n", verb: "POST"))
          # The head has come when there is an answer to it.
          expect(client.read_response.status).to eq(100)
          sleep 0.1
          client.write("abc").read_response
        end
      end
      expect(@line[/\d+$/].to_i).to be_between(100_000, 25_000_000)
      expect(log_of(request("/sleep"))[/\d+$/].to_i).to be_between(200_000, 25_000_000)
    end

    {
      "413" => ["/up", "Content-Length: 9999999\r\n", "127.0.0.1 http POST /up 413 21"],
      "417" => ["/up", "Expect: tea\r\n", "127.0.0.1 http POST /up 417 22"],
      "408" => ["/up", "Content-Length: 5\r\n\r\nab", "127.0.0.1 http POST /up 408 19"],
      "414" => ["/#{"x" * 2000}", "", "127.0.0.1 - - - 414 16"],
      "400" => ["/up", "A\r\n", "127.0.0.1 - - - 400 15"]
    }.each do |status, (path, headers, line)|
      it "has refusals with #{status}, as far as the request is known" do
        RawClient.open(server.port) do |client|
          added = server.log_after(/^127.* #{status} /) { client.write(request(path, headers, verb: "POST").b.delete_suffix("\r\n") << "\r\n").read_response }
          expect(added).to match(/^#{Regexp.escape(line)} \d+\n/)
        end
      end
    end

    it "has chunks that are too long, with their request" do
      body = "Transfer-Encoding: chunked\r\n\r\n100001\r\n"
      expect(log_of(request("/chunks", body, verb: "POST"))).to match(%r{\A127\.0\.0\.1 http POST /chunks 413 21 \d+\n\z})
    end

    it "has nothing of an answer that breaks off" do
      added = server.log_after(%r{/behind}) do
        [request("/broken"), request("/behind")].each { |bytes| RawClient.converse(server.port, bytes, half_close: true) }
      end
      expect(added.scan(%r{GET (\S+)}).flatten).to eq(["/behind"])
    end
  end

  it "has connections that leave HTTP, once, with their status" do
    server = serve(<<~RUBY, options: "log_format: '%{method} %{path} %{status} %{bytes} %{request_id}', request_id_response: true")
      ->(env) { env["rack.upgrade"] = Object.new; [env["rack.upgrade?"] == :websocket ? 101 : 200, {}, []] }
    RUBY
    websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: #{["x" * 16].pack("m0")}\r\n"
    { "/ws" => websocket, "/sse" => "Accept: text/event-stream\r\n" }.each do |path, headers|
      RawClient.open(server.port) do |client|
        head = +""
        added = server.log_after(/^GET .*\n/) do
          client.write(request(path, headers))
          head << client.read_line until head.end_with?("\r\n\r\n")
        end
        id = head[/^x-request-id: (\h{32})\r$/, 1]
        expect(added[/^GET .*/]).to eq("GET #{path} #{path == "/ws" ? 101 : 200} 0 #{id}")
      end
    end
  end

  it "has requests that were refused because too much waits" do
    Dir.mktmpdir do |folder|
      gate = "#{folder}/gate"
      server = serve("->(_env) { say 'in'; sleep 0.01 until File.exist?(#{gate.inspect}); [200, text, []] }",
                     options: "queue_timeout: 1.0, log_format: '%{path} %{status} %{bytes}'")
      first = RawClient.open(server.port).write(request("/first"))
      server.wait_for_said("in")
      second = RawClient.open(server.port).write(request("/second"))
      # Who came later is refused at once, so that the server has the second request: its time runs.
      expect(RawClient.exchange(server.port, "BAD\r\n\r\n").first.status).to eq(400)
      expect(second).to be_silent(1.2)
      File.write(gate, "")
      expect([first, second].map { |client| client.read_response.status }).to eq([200, 503])
      server.wait_for_log(%r{^/first 200 0\n})
      server.wait_for_log(%r{^/second 503 23\n})
    end
  end

  describe "of clients behind proxies" do
    serve_for_all(app, options: "trusted_proxies: '127.0.0.1', log_format: #{format.inspect}")

    it "is their address and scheme, by the word of a trusted proxy" do
      line = log_of(request("/", "X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"))
      expect(line).to start_with("203.0.113.7 https GET / 200 3 ")
      expect(log_of(request("/", "Forwarded: for=\"[2001:db8::1]:80\"\r\n"))).to start_with("2001:db8::1 http ")
      expect(log_of(request("/"))).to start_with("127.0.0.1 http ")
    end
  end

  it "takes nobody's word who is not trusted, in any format" do
    %w[iodine common combined json %{client}].each do |format|
      server = serve(app, options: "log_format: #{format.inspect}")
      added = server.log_after(/\n/) { RawClient.converse(server.port, request("/", "X-Forwarded-For: 6.6.6.6\r\n"), half_close: true) }
      expect(added).to include("127.0.0.1")
      expect(added).not_to include("6.6.6.6")
    end
  end

  it "is what the PROXY header says" do
    server = serve(app, options: "proxy_protocol: true, log_format: '%{client} %{path}'")
    bytes = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n#{request("/p")}"
    expect(server.log_after(/\n/) { RawClient.converse(server.port, bytes, half_close: true) }).to eq("192.0.2.1 /p\n")
  end
end
