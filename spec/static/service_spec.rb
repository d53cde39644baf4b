# frozen_string_literal: true

# Static files while other things happen: Ruby computes, clients read slowly, files change.

require_relative "../support/public_files"

RSpec.describe "static files" do
  large = Random.new(4).bytes(20_000_000)
  folder = public_files("a.txt" => "small", "large.bin" => large, "404.html" => "page", "app.css" => "c", "app.css.gz" => Zlib.gzip("c"))
  app = <<~RUBY
    ->(env) do
      case env["PATH_INFO"]
      when "/spin" then say("spinning") and loop {}
      when "/fds" then [200, text, [Dir.children("/proc/self/fd").size.to_s]]
      else [200, text, ["app"]]
      end
    end
  RUBY
  options = "public: #{folder.inspect}"

  it "do not wait for Ruby" do
    server = serve(app, threads: 2, options: "#{options}, log: true")
    spinning = Array.new(2) { RawClient.open(server.port).write("GET /spin HTTP/1.1\r\nHost: x\r\n\r\n") }
    server.wait_for_said("spinning", times: 2)
    RawClient.open(server.port) do |client|
      200.times { expect(client.get("/a.txt").body).to eq("small") }
      expect(client.get("/large.bin").body == large).to be(true)
      expect(fetch("/app.css", { "Accept-Encoding" => "gzip" }, client: client)["content-encoding"]).to eq("gzip")
      expect(fetch("/a.txt", { "Range" => "bytes=0-1" }, client: client).body).to eq("sm")
      expect(fetch("/a.txt", { "If-None-Match" => "*" }, client: client).status).to eq(304)
    end
    expect(RawClient.exchange(server.port, "GET / HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n").first.status).to eq(400)
    spinning.each(&:close)
    server.signal(:KILL)
  end

  it "do not wait for Ruby to say that something is missing, where there is no application" do
    # The block of `:on_start` never ends: nothing of Ruby moves, and there is no app thread.
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = 1
      Iodine.listen(service: :http, port: 0, address: "127.0.0.1", #{options})
      Iodine.run_after(1) { say("spinning"); loop {} }
      Iodine.start
    RUBY
    server.wait_for_said("spinning")
    expect(fetch("/nothing", port: server.port).body).to eq("page")
    expect(fetch("/a.txt", port: server.port).body).to eq("small")
    server.signal(:KILL)
  end

  describe "over a connection" do
    serve_for_all(app, options: options)

    it "keep their order among pipelined answers" do
      paths = %w[/x /a.txt /x /large.bin /a.txt /x]
      RawClient.open(server.port) do |client|
        client.write(paths.map { |path| "GET #{path} HTTP/1.1\r\nHost: x\r\n\r\n" }.join * 3)
        got = Array.new(18) { client.read_response.body.then { |body| body.size > 10 ? body == large : body } }
        expect(got).to eq(["app", "small", "app", true, "small", "app"] * 3)
      end
    end

    it "reach a slow reader whole while others are served" do
      slow = Array.new(5) { RawClient.open(server.port).tap { |client| client.socket.setsockopt(:SOCKET, :RCVBUF, 65_536) } }
      slow.each { |client| client.write("GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") }
      50.times { expect(fetch("/a.txt").body).to eq("small") }
      slow.each do |client|
        expect(client.read_response.body == large).to be(true)
        expect(client.read_all).to eq("")
        client.close
      end
    end

    it "that shrink while they are sent end the connection" do
      PublicFiles.put("#{folder}/shrinking.bin", large)
      RawClient.open(server.port) do |client|
        client.socket.setsockopt(:SOCKET, :RCVBUF, 65_536)
        client.write("GET /shrinking.bin HTTP/1.1\r\nHost: x\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        client.read_line
        File.truncate("#{folder}/shrinking.bin", 1000)
        received = begin
          client.read_all
        rescue Errno::ECONNRESET
          ""
        end
        expect(received.bytesize).to be < large.bytesize
      end
      expect(fetch("/a.txt").body).to eq("small")
    end

    it "that are replaced while they are sent go out as they were" do
      PublicFiles.put("#{folder}/replaced.bin", large)
      RawClient.open(server.port) do |client|
        client.socket.setsockopt(:SOCKET, :RCVBUF, 65_536)
        client.write("GET /replaced.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        PublicFiles.put("#{folder}/new.bin", "new", age: 50)
        client.socket.wait_readable(RawClient::DEADLINE)
        File.rename("#{folder}/new.bin", "#{folder}/replaced.bin")
        expect(client.read_response.body == large).to be(true)
        eventually { client.get("/replaced.bin").body == "new" }
      end
    end

    it "leave the descriptors level, however many are asked for" do
      Array.new(300) { |index| PublicFiles.put("#{folder}/many/#{index}.bin", "x" * 40_000) }
      RawClient.open(server.port) do |client|
        ask_all = -> { 300.times { |index| expect(client.get("/many/#{index}.bin").status).to eq(200) } }
        ask_all.call
        before = client.get("/fds").body.to_i
        3.times { ask_all.call }
        1000.times { client.get("/a.txt") }
        expect(client.get("/fds").body.to_i).to be_within(10).of(before)
      end
    end

    it "cost no memory for what nobody reads" do
      before = server.rss
      idle = Array.new(20) do
        RawClient.open(server.port).tap do |client|
          client.socket.setsockopt(:SOCKET, :RCVBUF, 65_536)
          client.write("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
          client.read_line
        end
      end
      expect(server.rss - before).to be < 40 * 1024 * 1024
      idle.each(&:close)
    end
  end
end
