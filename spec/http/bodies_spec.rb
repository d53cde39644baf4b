# frozen_string_literal: true

# Request bodies of all sizes, however they arrive. Large ones go through a temporary file that has no name.

require "digest/md5"
require "fileutils"
require "tmpdir"

RSpec.describe "request bodies" do
  # Tells what the application has read, what it finds in the folder for temporary files, and its open descriptors.
  app = <<~RUBY
    # Not by name alone: two threads at once can not load it.
    require "digest/md5"
    lambda do |env|
      GC.start if env["PATH_INFO"] == "/collect"
      body = env["rack.input"].read
      told = [body.bytesize, Digest::MD5.hexdigest(body), env["CONTENT_LENGTH"], Dir.children(ENV.fetch("TMPDIR")).size,
              Dir.children("/dev/fd").size]
      [200, text, [told.join(" ")]]
    end
  RUBY
  folder = Dir.mktmpdir("iodine-spec")
  at_exit { FileUtils.rm_rf(folder) }

  serve_for_all(app, env: { "TMPDIR" => folder }, threads: 2, lint: true)

  def bytes(size)
    Random.new(size).bytes(size)
  end

  def told_of(body)
    [body.bytesize, Digest::MD5.hexdigest(body), body.bytesize, 0].join(" ")
  end

  def post(headers, path = "/")
    "POST #{path} HTTP/1.1\r\nHost: x\r\n#{headers}\r\n\r\n"
  end

  def chunked(body, size)
    pieces = body.empty? ? [] : (0...body.bytesize).step(size).map { |at| body.byteslice(at, size) }
    pieces.map { |piece| "#{piece.bytesize.to_s(16)}\r\n#{piece}\r\n" }.join.b << "0\r\n\r\n"
  end

  # What the application told of it, without the descriptors.
  def read_told(client)
    response = client.read_response
    expect(response.status).to eq(200)
    response.body.rpartition(" ").first
  end

  def send_in_pieces(client, data, size)
    (0...data.bytesize).step(size) { |at| client.write(data.byteslice(at, size)) }
  end

  # Around the sizes at which memory, direct reads and the temporary file take turns.
  sizes = [0, 1, 2, 8191, 8192, 8193, 16_383, 16_384, 65_535, 65_536, 65_537, 524_287, 524_288, 524_289, 1_048_577,
           5_000_000]

  sizes.each do |size|
    it "of #{size} bytes, with Content-Length and in chunks, on one connection" do
      body = bytes(size)
      RawClient.open(server.port) do |client|
        client.write(post("Content-Length: #{size}") + body)
        expect(read_told(client)).to eq(told_of(body))
        client.write(post("Transfer-Encoding: chunked") + chunked(body, 10_007))
        expect(read_told(client)).to eq(told_of(body))
        client.write(post("Content-Length: #{size}"))
        send_in_pieces(client, body, 60_001)
        expect(read_told(client)).to eq(told_of(body))
      end
    end
  end

  it "in chunks of every size" do
    body = bytes(3000)
    RawClient.open(server.port) do |client|
      [1, 2, 15, 16, 17, 255, 256, 1000, 2999, 3000].each do |size|
        client.write(post("Transfer-Encoding: chunked") + chunked(body, size))
        expect(read_told(client)).to eq(told_of(body))
      end
    end
  end

  it "behind each other, with requests between them" do
    bodies = [600_000, 10, 0, 70_000, 1_000_000].map { |size| bytes(size) }
    RawClient.open(server.port) do |client|
      data = bodies.flat_map do |body|
        [post("Content-Length: #{body.bytesize}") + body, post("Transfer-Encoding: chunked") + chunked(body, 50_000)]
      end
      writer = Thread.new { client.write(data.join) }
      bodies.each { |body| 2.times { expect(read_told(client)).to eq(told_of(body)) } }
      writer.join(10)
    end
  end

  it "of several clients at once" do
    bodies = Array.new(4) { |index| bytes(1_500_000 + index) }
    clients = bodies.map { |body| RawClient.open(server.port).write(post("Content-Length: #{body.bytesize}")) }
    (0...1_500_100).step(100_000) do |at|
      clients.zip(bodies) { |client, body| client.write(body.byteslice(at, 100_000)) }
    end
    clients.zip(bodies) { |client, body| expect(read_told(client)).to eq(told_of(body)) }
    clients.each(&:close)
  end

  describe "in temporary files (F-04)" do
    def descriptors
      RawClient.exchange(server.port, "GET /collect HTTP/1.1\r\nHost: x\r\n\r\n").first.body.split.last.to_i
    end

    it "leave no file and no descriptor behind" do
      before = descriptors
      10.times do
        RawClient.open(server.port) do |client|
          read_told(client.write(post("Content-Length: 600000") + ("x" * 600_000)))
        end
      end
      eventually { descriptors <= before + 2 }
      expect(Dir.children(folder)).to eq([])
    end

    it "leave none behind when the client goes away half-way" do
      before = descriptors
      5.times do
        RawClient.open(server.port) { |client| client.write(post("Content-Length: 900000") + ("x" * 800_000)) }
      end
      eventually { descriptors <= before + 2 }
      expect(Dir.children(folder)).to eq([])
    end

    it "have no name while the body arrives" do
      RawClient.open(server.port) do |client|
        client.write(post("Content-Length: 900000") + ("x" * 800_000))
        expect(RawClient.open(server.port, &:get).status).to eq(200)
        expect(Dir.children(folder)).to eq([])
        client.write("x" * 100_000)
        expect(read_told(client)).to eq(told_of("x" * 900_000))
      end
    end
  end

  it "that can not be stored are answered with 500" do
    server = serve(app, env: { "TMPDIR" => "#{folder}/missing" })
    added = server.log_after(/a request body could not be stored: /) do
      response = RawClient.exchange(server.port, post("Content-Length: 600000") + ("x" * 600_000)).first
      expect([response.status, response["connection"]]).to eq([500, "close"])
    end
    expect(added).to match(/^ERROR: /)
  end
end
