# frozen_string_literal: true

# Clients that are slow, idle or deaf: each state of a connection has its deadline. The times are short here, and an
# example waits for what must happen, not for a time to pass. Where the client must be in time itself, they leave it two
# seconds, for this process may be held up. Clocks start before what starts the server's.

RSpec.describe "timeouts" do
  app = <<~RUBY
    lambda do |env|
      next [200, text, [Dir.children("/dev/fd").size.to_s]] if env["PATH_INFO"] == "/descriptors"

      sleep env["PATH_INFO"].delete_prefix("/slow/").to_f if env["PATH_INFO"].start_with?("/slow/")
      size = env["PATH_INFO"][%r{\\A/(\\d+)\\z}, 1].to_i
      [200, text, ["x" * size + env["rack.input"].read.bytesize.to_s]]
    end
  RUBY

  let(:head) { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n" }

  # Seconds that the block takes.
  def seconds
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
  end

  # Sends a byte now and then until the server answers.
  def drip(client, byte)
    until client.socket.wait_readable(0.02)
      begin
        client.write(byte)
      rescue Errno::EPIPE, Errno::ECONNRESET
        break
      end
    end
  end

  def expect_408(client)
    response = client.read_response
    expect([response.status, response["connection"], response.body]).to eq([408, "close", "408 Request Timeout"])
    expect(client).to be_closed_by_server
  end

  def open_client(&block)
    RawClient.open(server.port, &block)
  end

  describe "of the head" do
    serve_for_all(app, lint: true, options: "head_timeout: 0.5")

    it "ends a request that stops half-way with 408" do
      open_client do |client|
        expect(seconds { expect_408(client.write("GET / HTTP/1.1\r\nHo")) }).to be_between(0.2, 25)
      end
    end

    it "F-47: ends a request that drips, too (slowloris)" do
      open_client do |client|
        expect(seconds { drip(client.write("GET / HTTP/1.1\r\nHost: x\r\nX: "), "a") }).to be_between(0.2, 25)
        expect_408(client)
      end
    end

    it "counts from the first byte of each request" do
      server = serve(app, lint: true, options: "head_timeout: 2")
      RawClient.open(server.port) do |client|
        4.times do |number|
          sleep 0.7 if number.positive?
          client.write_pieces("GET / HTTP/1.1\r\n", "Host: x\r\n\r\n")
          expect(client.read_response.status).to eq(200)
        end
        client.write("G")
        expect_408(client)
      end
    end

    it "leaves alone who has not begun a request, and who waits for an answer" do
      open_client do |client|
        expect(client).to be_silent(0.7)
        expect(client.get("/slow/0.8").status).to eq(200)
        expect(client).to be_silent(0.2)
        expect(client.get.status).to eq(200)
      end
    end

    it "closes behind the answer that is under way when it is the next request that drips" do
      open_client do |client|
        client.write("GET /slow/0.8 HTTP/1.1\r\nHost: x\r\n\r\nGET / HT")
        expect(client.read_response.status).to eq(200)
        expect(client.read_all).to eq("").or start_with("HTTP/1.1 408 ")
      end
    end

    it "is told in the log" do
      server.log_after(/^WARNING: .* refused with 408: the request head took too long$/) do
        open_client { |client| expect_408(client.write("GET")) }
      end
    end
  end

  describe "of the body" do
    serve_for_all(app, lint: true, options: "body_timeout: 0.3")

    it "ends a body that stops half-way with 408" do
      open_client do |client|
        expect(seconds { expect_408(client.write("#{head}he")) }).to be_between(0.2, 25)
      end
    end

    it "ends a body that drips, too" do
      open_client do |client|
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n")
        drip(client, "a")
        expect_408(client)
      end
    end

    it "ends dripping chunks, too" do
      open_client do |client|
        client.write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        drip(client, "1\r\na\r\n")
        expect_408(client)
      end
    end

    it "ends a client that asked for leave to send and then does not" do
      open_client do |client|
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        expect(client.read_response.status).to eq(100)
        expect_408(client)
      end
    end

    it "begins anew while the body comes at a fair pace" do
      server = serve(app, lint: true, options: "body_timeout: 3")
      RawClient.open(server.port) do |client|
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n")
        client.write_pieces(*["x" * 2000] * 10, pause: 0.4)
        expect(client.read_response.body).to eq("20000")
      end
    end

    it "ends a body that stops after a hurried beginning" do
      open_client do |client|
        bytes = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n#{"x" * 19_999}"
        expect(seconds { expect_408(client.write(bytes)) }).to be_between(0.2, 25)
      end
    end

    it "is told in the log" do
      server.log_after(/^WARNING: .* refused with 408: the request body took too long$/) do
        open_client { |client| expect_408(client.write(head)) }
      end
    end
  end

  # F-43: in 0.7 this had no effect without another setting.
  describe "of an idle connection" do
    serve_for_all(app, lint: true, options: "timeout: 2")

    it "closes it, without a word, after an answer" do
      open_client do |client|
        time = seconds do
          2.times { expect(client.get.status).to eq(200) }
          expect(client).to be_closed_by_server
        end
        expect(time).to be_between(1.5, 25)
      end
    end

    it "closes it when nothing was ever asked" do
      expect(seconds { open_client { |client| expect(client).to be_closed_by_server } }).to be_between(1.5, 25)
    end

    it "closes it when there were only empty lines" do
      open_client { |client| expect(client.write("\r\n").read_all).to eq("").or match(/\AHTTP.1\.1 408 /) }
    end

    it "waits for the application" do
      open_client do |client|
        expect(client.get("/slow/2.5").status).to eq(200)
        expect(client).to be_closed_by_server
      end
    end

    it "begins anew with each request" do
      open_client do |client|
        4.times do
          expect(client).to be_silent(0.7)
          expect(client.get.status).to eq(200)
        end
      end
    end
  end

  describe "of writing" do
    serve_for_all(app, lint: true, options: "write_timeout: 2")

    def deaf_client(size)
      socket = Socket.new(:INET, :STREAM)
      socket.setsockopt(:SOCKET, :RCVBUF, 4096)
      socket.connect(Addrinfo.tcp("127.0.0.1", server.port))
      RawClient.closing(RawClient.new(socket)) do |client|
        client.write("GET /#{size} HTTP/1.1\r\nHost: x\r\n\r\n")
        yield client
      end
    end

    def descriptors
      RawClient.open(server.port) { |client| client.get("/descriptors").body.to_i }
    end

    it "breaks off an answer that nobody reads" do
      before = descriptors
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      deaf_client(50_000_000) do |client|
        # The answer has begun: from here on the connection is there, until it is broken off.
        client.socket.wait_readable(RawClient::DEADLINE)
        eventually { descriptors == before }
        expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be_between(1.5, 25)
        received = begin
          client.read_all
        rescue Errno::ECONNRESET
          ""
        end
        expect(received.bytesize).to be < 50_000_000
      end
    end

    it "lets a client take its time that reads on" do
      deaf_client(3_000_000) do |client|
        size = 0
        size += client.socket.readpartial(100_000).bytesize.tap { sleep 0.005 } while size < 3_000_000
        expect(size).to be >= 3_000_000
      end
    end
  end

  it "are those of the process unless listen sets them" do
    server = serve(app, before: "Iodine::DEFAULT_SETTINGS.update(timeout: 2, head_timeout: 0.2, body_timeout: 0.2)")
    RawClient.open(server.port) { |client| expect(client).to be_closed_by_server }
    RawClient.open(server.port) { |client| expect_408(client.write("GET")) }
    RawClient.open(server.port) { |client| expect_408(client.write(head)) }
  end
end
