# frozen_string_literal: true

# The life of a connection: pipelining, persistence, the half-closed client, and expectations.

RSpec.describe "HTTP/1 connections" do
  def get(path = "/", version: "1.1", headers: "")
    "GET #{path} HTTP/#{version}\r\nHost: x\r\n#{headers}\r\n"
  end

  def open_client(&block)
    RawClient.open(server.port, &block)
  end

  def exchange(bytes)
    RawClient.exchange(server.port, bytes).first
  end

  describe "pipelining" do
    serve_for_all(<<~RUBY, threads: 4, lint: true)
      lambda do |env|
        sleep 0.002 if env["PATH_INFO"].end_with?("3")
        [200, text, [env["PATH_INFO"] + env["rack.input"].read]]
      end
    RUBY

    [2, 16, 100, 1000].each do |depth|
      it "answers #{depth} requests in order" do
        open_client do |client|
          client.write((1..depth).map { |number| get("/#{number}") }.join)
          expect(Array.new(depth) { client.read_response.body }).to eq((1..depth).map { |number| "/#{number}" })
          expect(client).to be_silent
        end
      end
    end

    it "answers requests with and without bodies in order" do
      chunked = "POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
      length = "POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nGET "
      open_client do |client|
        client.write("#{get("/1")}#{length}#{chunked}\r\n#{get("/4")}" * 10)
        expect(Array.new(40) { client.read_response.body }).to eq(%w[/1 /2GET\  /3abc /4] * 10)
      end
    end

    it "stops behind a request that closes" do
      text = RawClient.converse(server.port, get("/1") + get("/2", headers: "Connection: close\r\n") + get("/3"))
      expect(text.scan(%r{/\d\b}).grep(/[123]/).last).to eq("/2")
      expect(text).not_to include("/3")
      expect(text.scan("200 OK").size).to eq(2)
    end

    it "keeps the order of several connections apart" do
      clients = Array.new(8) { RawClient.open(server.port) }
      clients.each_with_index { |client, index| client.write((1..16).map { |number| get("/#{index}/#{number}") }.join) }
      clients.each_with_index do |client, index|
        expect(Array.new(16) { client.read_response.body }).to eq((1..16).map { |number| "/#{index}/#{number}" })
        client.close
      end
    end

    it "writes to a client that reads late" do
      open_client do |client|
        client.write((1..3000).map { |number| get("/#{number}") }.join)
        expect(Array.new(3000) { client.read_response.body }.last).to eq("/3000")
      end
    end
  end

  describe "persistence" do
    # With its length: Rack::Lint has no Array for a body, and one that takes a moment is streamed, to HTTP/1.0 up to the end.
    serve_for_all('->(env) { [200, text.merge("content-length" => env["PATH_INFO"].bytesize.to_s), [env["PATH_INFO"]]] }', lint: true)

    it "serves many requests on one connection" do
      open_client do |client|
        20.times { |number| expect(client.get("/#{number}").body).to eq("/#{number}") }
      end
    end

    it "of HTTP/1.1 needs no words" do
      open_client do |client|
        expect(client.get["connection"]).to be_nil
        expect(client).to be_silent
      end
    end

    it "of HTTP/1.1 ends with close" do
      open_client do |client|
        expect(client.get("/", "Connection" => "close")["connection"]).to eq("close")
        expect(client).to be_closed_by_server
      end
    end

    it "of HTTP/1.0 is not given for nothing" do
      open_client do |client|
        client.write(get(version: "1.0"))
        expect(client.read_response["connection"]).to eq("close")
        expect(client).to be_closed_by_server
      end
    end

    it "of HTTP/1.0 is given on request" do
      open_client do |client|
        2.times do
          client.write(get(version: "1.0", headers: "Connection: keep-alive\r\n"))
          expect(client.read_response["connection"]).to eq("keep-alive")
        end
      end
    end

    describe "as the Connection lines have it (F-38)" do
      {
        "Connection: close, keep-alive" => :closes,
        "Connection: keep-alive, Close" => :closes,
        "Connection: keep-alive\r\nConnection: close" => :closes,
        "Connection: close\r\nConnection: keep-alive" => :closes,
        "Connection: x-close" => :stays,
        "Connection: TE\r\nTE: trailers" => :stays,
        "Connection: Upgrade, keep-alive" => :stays,
        "Connection:" => :stays,
        "Connection: keep-alive\r\nConnection: keep-alive" => :stays
      }.each do |lines, outcome|
        it "#{lines.inspect} #{outcome}" do
          open_client do |client|
            client.write(get(headers: "#{lines}\r\n"))
            expect(client.read_response["connection"]).to eq(outcome == :closes ? "close" : nil)
            if outcome == :closes
              expect(client).to be_closed_by_server
            else
              expect(client.get.status).to eq(200)
            end
          end
        end
      end
    end
  end

  describe "a half-closed client" do
    serve_for_all('->(env) { sleep 0.05; [200, text, [env["PATH_INFO"] * 100_000]] }', lint: true)

    it "gets all its answers, then the end" do
      open_client do |client|
        client.write(get("/1") + get("/2")).finish_writing
        expect(Array.new(2) { client.read_response.body }).to eq(["/1" * 100_000, "/2" * 100_000])
        expect(client).to be_closed_by_server
      end
    end

    it "that has asked for nothing is let go" do
      open_client { |client| expect(client.finish_writing).to be_closed_by_server }
    end

    it "that has asked for half a request is let go" do
      open_client { |client| expect(client.write("GET / HTTP/1.1\r\nHo").finish_writing).to be_closed_by_server }
    end
  end

  it "goes on when a client leaves before its answer" do
    serve('->(env) { sleep 0.05; [200, text, ["x" * 1_000_000]] }')
    10.times { RawClient.open(@servers.first.port).write(get).close }
    response = RawClient.open(@servers.first.port, &:get)
    expect(response.body.bytesize).to eq(1_000_000)
  end

  describe "Expect" do
    serve_for_all('->(env) { [200, text, [env["rack.input"].read]] }', lint: true)

    def post(headers, version: "1.1")
      "POST / HTTP/#{version}\r\nHost: x\r\n#{headers}\r\n\r\n"
    end

    %w[100-continue 100-Continue].each do |expectation|
      it "F-44: answers #{expectation} at once" do
        open_client do |client|
          client.write(post("Expect: #{expectation}\r\nContent-Length: 5"))
          expect(client.read_response.status).to eq(100)
          client.write("hello")
          expect(client.read_response.body).to eq("hello")
        end
      end
    end

    it "answers it for a chunked body" do
      open_client do |client|
        client.write(post("Expect: 100-continue\r\nTransfer-Encoding: chunked"))
        interim = client.read_response
        expect([interim.status, interim.headers]).to eq([100, []])
        client.write("5\r\nhello\r\n0\r\n\r\n")
        expect(client.read_response.body).to eq("hello")
      end
    end

    it "waits for the answers before it" do
      open_client do |client|
        client.write((get * 3) + post("Expect: 100-continue\r\nContent-Length: 5"))
        expect(Array.new(4) { client.read_response.status }).to eq([200, 200, 200, 100])
        client.write("hello#{get}")
        expect(Array.new(2) { client.read_response.body }).to eq(["hello", ""])
      end
    end

    it "says nothing when the body is there already" do
      open_client do |client|
        client.write("#{post("Expect: 100-continue\r\nContent-Length: 5")}hello")
        expect(client.read_response.status).to eq(200)
      end
    end

    ["Content-Length: 0", "X: no body at all"].each do |line|
      it "says nothing when there is no body (#{line})" do
        response = exchange(post("Expect: 100-continue\r\n#{line}"))
        expect(response.status).to eq(200)
      end
    end

    it "means nothing to HTTP/1.0" do
      open_client do |client|
        client.write(post("Expect: 100-continue\r\nContent-Length: 5", version: "1.0"))
        expect(client).to be_silent
        client.write("hello")
        expect(client.read_response.body).to eq("hello")
      end
    end

    it "answers other expectations with 417" do
      ["Expect: x", "Expect: 100-continue, x=y"].each do |line|
        open_client do |client|
          client.write(post("#{line}\r\nContent-Length: 5"))
          response = client.read_response
          expect([response.status, response["connection"]]).to eq([417, "close"])
          expect(client).to be_closed_by_server
        end
      end
    end

    it "answers 413 rather than 100 to a body that is too long" do
      expect(exchange(post("Expect: 100-continue\r\nContent-Length: 99999999999")).status).to eq(413)
    end
  end
end
