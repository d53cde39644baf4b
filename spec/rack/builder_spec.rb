# frozen_string_literal: true

# Applications as they are in the wild: built by Rack::Builder from Rack's own middleware, with Rack::Lint around it.

require "digest"
require "stringio"
require "fileutils"
require "tmpdir"
require "zlib"

RSpec.describe "Rack applications" do
  folder = Dir.mktmpdir("iodine-spec")
  at_exit { FileUtils.rm_rf(folder) }

  file = "0123456789\n" * 50_000
  File.write("#{folder}/file.txt", file)
  File.write("#{folder}/config.ru", <<~RUBY)
    use Rack::Lint
    use Rack::CommonLogger
    use Rack::Runtime
    use Rack::ShowExceptions
    use Rack::MethodOverride
    use Rack::ConditionalGet
    use Rack::ETag
    use Rack::Head
    use Rack::TempfileReaper
    text = -> { { "content-type" => "text/plain" } }

    map "/files" do
      run Rack::Files.new(#{folder.inspect})
    end

    map "/deflated" do
      use Rack::Deflater
      run ->(env) { [200, text.call, ["deflate me " * 1000]] }
    end

    if Rack.const_defined?(:Chunked)
      map "/chunked" do
        use Rack::Chunked
        run ->(env) { [200, text.call, %w[one two three].each] }
      end
    end

    map "/upload" do
      run(lambda do |env|
        upload = Rack::Request.new(env).params["upload"]
        [200, text.call, [upload[:filename], " ", upload[:tempfile].size.to_s]]
      end)
    end

    map "/locked" do
      use Rack::Lock
      run ->(env) { [200, text.call, ["locked"]] }
    end

    map "/raise" do
      run ->(env) { raise "shown" }
    end

    run(lambda do |env|
      request = Rack::Request.new(env)
      response = Rack::Response.new
      response["content-type"] = "text/plain"
      response.set_cookie("seen", "1")
      told = [request.request_method, request.url, request.ip, request.params.inspect, request.cookies.inspect]
      response.write(told.join(" "))
      response.finish
    end)
  RUBY

  # Rack 2 returns the application and options, Rack 3 the bare application.
  serve_for_all(<<~RUBY, lint: true, threads: 2)
    require "rack"
    built = Rack::Builder.parse_file(#{"#{folder}/config.ru".inspect})
    built.is_a?(Array) ? built.first : built
  RUBY

  def get(path, headers = {})
    RawClient.open(server.port) { |client| client.get(path, headers) }
  end

  def request(verb, path, headers: "", body: "")
    "#{verb} #{path} HTTP/1.1\r\nHost: localhost:4001\r\nContent-Length: #{body.bytesize}\r\n#{headers}\r\n#{body}"
  end

  # Whatever Lint finds ends in the log.
  after { expect(server.log).not_to include("LintError") }

  it "see the request as it is" do
    response = get("/a%20b?c=d&e[]=f", "Cookie" => "g=h", "Host" => "example.com:81")
    expect(response.body).to match(/\AGET http:\/\/example\.com:81\/a%20b\?c=d&e\[\]=f 127\.0\.0\.1 /)
    expect(response.body).to match(/"c"\s?=>\s?"d".*"e"\s?=>\s?\["f"\].*"g"\s?=>\s?"h"/)
    expect(response["set-cookie"]).to start_with("seen=1")
    expect(response["x-runtime"]).to match(/\A\d+\.\d+\z/)
  end

  it "see the scheme and the client that a proxy tells of" do
    body = get("/", "X-Forwarded-Proto" => "https", "X-Forwarded-For" => "203.0.113.7").body
    expect(body).to start_with("GET https://localhost/ 203.0.113.7 ")
  end

  it "read forms, and another method from them" do
    form = "_method=DELETE&a=b"
    headers = "Content-Type: application/x-www-form-urlencoded\r\n"
    response = RawClient.exchange(server.port, request("POST", "/x", headers: headers, body: form)).first
    expect(response.body).to start_with("DELETE http://localhost:4001/x ").and match(/"a"\s?=>\s?"b"/)
  end

  it "take uploads" do
    part = "--B\r\nContent-Disposition: form-data; name=\"upload\"; filename=\"x.bin\"\r\n" \
           "Content-Type: application/octet-stream\r\n\r\n#{"\0\n" * 500_000}\r\n--B--\r\n"
    headers = "Content-Type: multipart/form-data; boundary=B\r\n"
    response = RawClient.exchange(server.port, request("POST", "/upload", headers: headers, body: part)).first
    expect(response.body).to eq("x.bin 1000000")
  end

  it "send files, and parts of them" do
    response = get("/files/file.txt")
    expect([response.status, response["content-length"], response.body == file]).to eq([200, file.bytesize.to_s, true])
    response = get("/files/file.txt", "Range" => "bytes=11-21")
    expect([response.status, response["content-range"], response.body])
      .to eq([206, "bytes 11-21/#{file.bytesize}", "0123456789\n"])
    expect(get("/files/missing.txt").status).to eq(404)
  end

  it "answer conditional requests with 304, and go on" do
    RawClient.open(server.port) do |client|
      tag = client.get("/files/file.txt")["last-modified"]
      response = client.get("/files/file.txt", "If-Modified-Since" => tag)
      expect([response.status, response.body]).to eq([304, ""])
      expect(client.get("/locked").body).to eq("locked")
    end
  end

  it "answer HEAD without a body, and go on" do
    RawClient.open(server.port) do |client|
      %w[/ /files/file.txt /deflated /locked /raise].each do |path|
        response = client.write(request("HEAD", path)).read_response(head: true)
        expect(response.status).to eq(path == "/raise" ? 500 : 200)
        expect(client.get("/locked").body).to eq("locked")
      end
    end
  end

  it "compress" do
    response = get("/deflated", "Accept-Encoding" => "gzip")
    expect(response["content-encoding"]).to eq("gzip")
    expect(Zlib::GzipReader.new(StringIO.new(response.body)).read).to eq("deflate me " * 1000)
  end

  it "chunk their bodies" do
    skip "this Rack leaves that to servers" if get("/chunked").body.include?("http://")
    RawClient.open(server.port) do |client|
      2.times do
        response = client.get("/chunked")
        # So short a body is whole before its head has left: then it needs no chunks.
        expect([response["transfer-encoding"] || response["content-length"], response.body])
          .to eq(["chunked", "onetwothree"]).or eq(["11", "onetwothree"])
      end
      client.write("GET /chunked HTTP/1.0\r\nHost: x\r\n\r\n")
      expect(client.read_response.body).to eq("onetwothree")
    end
  end

  it "show their exceptions" do
    response = get("/raise", "Accept" => "text/html")
    expect([response.status, response["content-type"], response.body.include?("shown")]).to eq([500, "text/html", true])
  end

  it "log to rack.errors" do
    server.log_after(%r{"GET /locked HTTP/1\.1" 200}) { get("/locked") }
  end
end
