# frozen_string_literal: true

# Clients that nobody here wrote: curl, Net::HTTP and wrk agree with what the other specs say.

require "digest/sha2"
require "net/http"
require "open3"
require "tmpdir"

RSpec.describe "other people's clients" do
  app = <<~RUBY
    lambda do |env|
      case env["PATH_INFO"]
      when "/stream" then [200, text, Enumerator.new { |y| 5.times { |i| y << "part \#{i}\\n"; sleep 0.005 } }]
      when "/callable" then [200, text, ->(stream) { 5.times { |i| stream << "part \#{i}\\n"; stream.flush }; stream.close }]
      when "/large" then [200, text, ["x" * 5_000_000]]
      when "/digest" then [200, text, [Digest::SHA256.hexdigest(env["rack.input"].read)]]
      else [200, text, ["hello"]]
      end
    end
  RUBY

  before(:context) do
    @folder = Dir.mktmpdir("iodine-spec-interop")
    @bytes = Random.new(1).bytes(2_000_000)
    File.binwrite(File.join(@folder, "file.bin"), @bytes)
    @server_options = "public: #{@folder.inspect}, max_body: 4"
    @shared_server = serve(app, threads: 4, before: "require 'digest/sha2'", options: @server_options)
    @servers = nil
  end

  after(:context) do
    [*@shared_server, *@servers].each(&:stop)
    FileUtils.rm_rf(@folder)
  end

  let(:server) { @shared_server }
  let(:url) { "http://127.0.0.1:#{server.port}" }

  parts = Array.new(5) { |number| "part #{number}\n" }.join

  describe "curl" do
    before { skip "there is no curl" unless system("curl", "--version", out: File::NULL) }

    # Its output, and what `-w` asks for.
    def curl(*arguments, input: "")
      told, errors, status = Open3.capture3("curl", "--silent", "--show-error", "--max-time", "20", *arguments,
                                            stdin_data: input, binmode: true)
      raise "curl: #{errors}" unless status.success?

      told
    end

    it "reads streams, by HTTP/1.1 and HTTP/1.0" do
      ["--http1.1", "--http1.0"].product(%w[/stream /callable]).each do |version, path|
        expect(curl("--no-buffer", version, url + path)).to eq(parts)
      end
    end

    it "reads large bodies, twice on one connection" do
      told = curl("--write-out", "%{num_connects} ", "#{url}/large", "#{url}/large", "--output", File::NULL, "--output", File::NULL)
      expect(told).to eq("1 0 ")
    end

    it "uploads, with and without Expect, in one piece and in chunks" do
      digest = Digest::SHA256.hexdigest(@bytes)
      [[], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]].each do |arguments|
        expect(curl("--data-binary", "@-", *arguments, "#{url}/digest", input: @bytes)).to eq(digest)
      end
    end

    it "hears that its upload is too large" do
      told = curl("--data-binary", "@-", "--write-out", "%{http_code}", "--output", File::NULL, "#{url}/digest", input: "x" * 6_000_000)
      expect(told).to eq("413")
    end

    it "reads files, whole and in ranges, and resumes" do
      expect(curl("#{url}/file.bin")).to eq(@bytes)
      expect(curl("--range", "100-199", "#{url}/file.bin")).to eq(@bytes[100..199])
      expect(curl("--range", "-50", "#{url}/file.bin")).to eq(@bytes[-50..])
      path = File.join(@folder, "..", "#{File.basename(@folder)}.part")
      File.binwrite(path, @bytes[0, 1_500_000])
      curl("--continue-at", "-", "--output", path, "#{url}/file.bin")
      expect(File.binread(path)).to eq(@bytes)
    ensure
      FileUtils.rm_f(path) if path
    end

    it "asks for what it has only when that has changed" do
      etag = File.join(@folder, "..", "#{File.basename(@folder)}.etag")
      code = ["--write-out", "%{http_code}", "--output", File::NULL]
      expect(curl(*code, "--etag-save", etag, "#{url}/file.bin")).to eq("200")
      expect(curl(*code, "--etag-compare", etag, "#{url}/file.bin")).to eq("304")
      expect(curl(*code, "--time-cond", "tomorrow", "#{url}/file.bin")).to eq("304").or eq("200")
    ensure
      FileUtils.rm_f(etag) if etag
    end
  end

  describe "Net::HTTP" do
    def start(&block)
      Net::HTTP.start("127.0.0.1", server.port, open_timeout: 10, read_timeout: 20, &block)
    end

    it "reads a stream as it comes, and goes on with the connection" do
      start do |http|
        %w[/stream /callable].each do |path|
          pieces = []
          http.request_get(path) { |response| response.read_body { |piece| pieces << piece } }
          expect(pieces.join).to eq(parts)
        end
        expect(http.get("/").body).to eq("hello")
        expect(http.head("/file.bin")["content-length"]).to eq("2000000")
      end
    end

    it "reads ranges" do
      start do |http|
        response = http.get("/file.bin", "Range" => "bytes=10-19")
        expect([response.code, response["content-range"], response.body]).to eq(["206", "bytes 10-19/2000000", @bytes[10..19]])
        expect(http.get("/file.bin", "Range" => "bytes=3000000-").code).to eq("416")
      end
    end

    it "uploads a stream, and waits for leave" do
      start do |http|
        http.continue_timeout = 5
        post = Net::HTTP::Post.new("/digest", "Transfer-Encoding" => "chunked", "Expect" => "100-continue")
        post.body_stream = StringIO.new(@bytes)
        expect(http.request(post).body).to eq(Digest::SHA256.hexdigest(@bytes))
      end
    end
  end

  describe "wrk" do
    # It has no option that only tells of it: asked for its version it fails, but it is there.
    before { skip "there is no wrk" if system("wrk", "-v", out: File::NULL, err: File::NULL).nil? }

    it "has no errors" do
      %w[/ /stream /file.bin].each do |path|
        # By itself it counts what takes longer than two seconds among the errors.
        told, status = Open3.capture2e("wrk", "-t1", "-c16", "-d1s", "--timeout", "25s", url + path)
        expect(status).to be_success
        expect(told).to match(/\d+ requests in/)
        expect(told).not_to match(/Socket errors|Non-2xx/)
      end
    end
  end
end
