# frozen_string_literal: true

# Files that the application names: X-Sendfile, X-Accel-Redirect, and bodies with to_path.

require_relative "../support/public_files"

RSpec.describe "files named by the application" do
  large = Random.new(3).bytes(300_000)
  folder = public_files("a.txt" => "0123456789", "large.bin" => large, "style.css" => "plain",
                        "style.css.gz" => Zlib.gzip("plain"), "../private/p.txt" => "private", "../outside.txt" => "outside")
  top = File.dirname(folder)
  File.symlink("../outside.txt", "#{top}/private/link.txt")
  # In the code of the examples: a body that tells of its `close`, and never lets `each` run unless asked.
  helpers = <<~RUBY
    F = #{folder.inspect}
    class Closing
      def initialize(path = nil, *parts) = (@path, @parts = path, parts)
      def each(&block) = (say("each"); @parts.each(&block))
      def close = say("closed")
    end
    class Named < Closing
      def to_path = @path
    end
  RUBY

  describe "by X-Sendfile" do
    serve_for_all(Asking::APP, before: helpers, options: "public: #{folder.inspect}")

    def sent(code, **request)
      ask("[200, #{code}, []]", **request)
    end

    # F-41: Rack 3 writes it in lower case.
    ["X-Sendfile", "x-sendfile", "X-SENDFILE"].each do |name|
      it "#{name} is honoured, and not passed on" do
        response = sent("{ '#{name}' => F + '/a.txt', 'content-length' => '99', 'x-own' => '1' }")
        expect([response.status, response.body, response["content-type"], response["content-length"]])
          .to eq([200, "0123456789", "text/plain", "10"])
        expect([response["x-sendfile"], response["x-own"]]).to eq([nil, "1"])
      end
    end

    it "the file is sent whole, however large" do
      expect(sent("{ 'x-sendfile' => F + '/large.bin' }").body == large).to be(true)
    end

    it "in part, and under conditions, as a static file is" do
      code = "{ 'x-sendfile' => F + '/a.txt' }"
      whole = sent(code)
      part = sent(code, headers: "Range: bytes=2-4\r\n")
      expect([part.status, part["content-range"], part.body]).to eq([206, "bytes 2-4/10", "234"])
      expect(sent(code, headers: "If-None-Match: #{whole["etag"]}\r\n").status).to eq(304)
      expect(sent(code, headers: "If-Match: \"x\"\r\n").status).to eq(412)
      expect(sent(code, headers: "Range: bytes=99-\r\n").status).to eq(416)
      expect(whole["etag"]).to eq(fetch("/a.txt")["etag"])
    end

    it "which part it is the server says, unless that is not for it to choose" do
      headers = "{ 'x-sendfile' => F + '/a.txt', 'Content-Range' => 'bytes 0-9/10' }"
      ranges = { "" => [], "bytes=2-4" => ["bytes 2-4/10"], "bytes=0-1,5-6" => [], "bytes=99-" => ["bytes */10"] }
      expect(ranges.to_h { |range, _| [range, sent(headers, headers: "Range: #{range}\r\n").all("content-range")] }).to eq(ranges)
      expect(ask("[206, #{headers}, []]").all("content-range")).to eq(["bytes 0-9/10"])
    end

    it "in an encoded form, unless the application has one of its own" do
      coded = sent("{ 'x-sendfile' => F + '/style.css' }", headers: "Accept-Encoding: gzip\r\n")
      expect([coded["content-encoding"], Zlib.gunzip(coded.body)]).to eq(%w[gzip plain])
      own = sent("{ 'x-sendfile' => F + '/style.css', 'content-encoding' => 'x-own' }", headers: "Accept-Encoding: gzip\r\n")
      expect([own.all("content-encoding"), own.body]).to eq([["x-own"], "plain"])
    end

    it "what the application says wins" do
      response = sent("{ 'x-sendfile' => F + '/a.txt', 'content-type' => 'text/own', 'Cache-Control' => 'private', " \
                      "'ETag' => '\"own\"', 'set-cookie' => \"a=1\\nb=2\" }")
      expect(%w[content-type cache-control etag].map { |name| response.all(name) }).to eq([["text/own"], ["private"], ['"own"']])
      expect(response.all("set-cookie")).to eq(%w[a=1 b=2])
      own = "{ 'x-sendfile' => F + '/a.txt', 'ETag' => '\"own\"' }"
      expect(sent(own, headers: "If-None-Match: \"own\"\r\n").status).to eq(304)
    end

    it "its `connection: close` and its date count, as for any other answer" do
      date = "Sun, 06 Nov 1994 08:49:37 GMT"
      { "/a.txt" => [200, [date]], "/large.bin" => [200, [date]], "/nothing" => [404, [an_instance_of(String)]] }.each do |path, expected|
        code = "[200, { 'Connection' => 'close', 'date' => '#{date}', 'x-sendfile' => F + '#{path}' }, []]"
        RawClient.open(server.port) do |client|
          response = ask(code, client: client)
          expect([response.status, response.all("date"), response.all("connection")]).to match([*expected, ["close"]]), path
          expect(client.closed_by_server?).to be(true), path
        end
      end
      options = sent("{ 'Connection' => 'x-hop', 'x-hop' => '1', 'x-sendfile' => F + '/a.txt' }")
      expect([options.all("connection"), options["x-hop"]]).to eq([["x-hop"], "1"])
    end

    it "a 304 has what a 200 would have: Content-Location, for one (RFC 9110 section 15.4.5)" do
      headers = "{ 'content-location' => '/a', 'Content-Language' => 'en', 'vary' => 'x-own', 'x-sendfile' => F + '/a.txt' }"
      response = sent(headers, headers: "If-None-Match: *\r\n")
      expect([response.status, response["content-location"], response["vary"], response["content-language"]])
        .to eq([304, "/a", "x-own", nil])
    end

    it "caches are told to keep nothing but a success that is everybody's (RFC 9111 sections 3 and 7.3)" do
      keeps = ->(status, headers = "") { ask("[#{status}, { 'x-sendfile' => F + '/a.txt', #{headers} }, []]").all("cache-control") }
      expect([200, 301, 404, 410, 500].to_h { |status| [status, keeps.(status)] })
        .to eq(200 => ["max-age=3600"], 301 => [], 404 => [], 410 => [], 500 => [])
      expect(keeps.(200, "'Set-Cookie' => 'session=1'")).to eq([])
      expect(keeps.(200, "'Expires' => '0'")).to eq([])
      expect(keeps.(404, "'Cache-Control' => 'max-age=5'")).to eq(["max-age=5"])
      revalidated = sent("{ 'set-cookie' => 'a=1', 'x-sendfile' => F + '/a.txt' }", headers: "If-None-Match: *\r\n")
      expect([revalidated.status, revalidated["cache-control"]]).to eq([304, nil])
    end

    it "its status stays, and then nothing else is asked of the file" do
      response = ask("[404, { 'x-sendfile' => F + '/a.txt' }, []]", headers: "Range: bytes=0-1\r\nIf-None-Match: *\r\n")
      expect([response.status, response.body]).to eq([404, "0123456789"])
    end

    it "any method may have one (F-03)" do
      %w[POST PUT DELETE].each do |verb|
        expect(sent("{ 'x-sendfile' => F + '/a.txt' }", verb: verb, headers: "Range: bytes=0-1\r\n").body).to eq("0123456789")
      end
      head = sent("{ 'x-sendfile' => F + '/large.bin' }", verb: "HEAD")
      expect([head["content-length"], head.body]).to eq(["300000", ""])
    end

    it "F-29: the body is closed, and its each does not run" do
      said = server.log_after(/> closed/) { ask("[200, { 'x-sendfile' => F + '/a.txt' }, Closing.new(nil, 'x')]") }
      expect(said.scan(/^> (.*)$/).flatten).to eq(["closed"])
    end

    ["'/no/such/file'", "F", "F + '/../nothing'", "''", "\"a\\0b\"", "'x' * 9000", "F + '/a.txt/'"].each do |path|
      it("#{path} is a 404") { expect(sent("{ 'x-sendfile' => #{path} }").status).to eq(404) }
    end

    it "a path may be anywhere while no roots are set" do
      expect(sent("{ 'x-sendfile' => F + '/../outside.txt' }").body).to eq("outside")
    end

    it "X-Accel-Redirect names a path below the folder" do
      expect(sent("{ 'X-Accel-Redirect' => '/a%2etxt' }").body).to eq("0123456789")
      %w[/../outside.txt a.txt //a.txt /..%2foutside.txt /nothing].each do |path|
        expect(sent("{ 'x-accel-redirect' => '#{path}' }").status).to eq(404), path
      end
    end

    it "the env says that it may, except to those who want to upgrade" do
      keys = "env.values_at('sendfile.type', 'HTTP_X_SENDFILE_TYPE')"
      expect(value_of(keys)).to eq(%w[X-Sendfile X-Sendfile])
      expect(value_of(keys, headers: "X-Sendfile-Type: X-Accel-Redirect\r\n")).to eq(%w[X-Sendfile X-Sendfile])
      expect(value_of(keys, headers: "Accept: text/event-stream\r\n")).to eq([nil, nil])
    end

    it "as Rack would have it" do
      strict = serve('->(_env) { [200, { "content-type" => "text/plain", "x-sendfile" => "%s/a.txt" }, ["x"]] }' % folder,
                     options: "public: #{folder.inspect}", lint: true)
      expect(fetch("/named", port: strict.port).body).to eq("0123456789")
    end

    it "pipelined with others, in order" do
      code = "[200, { 'x-sendfile' => F + '/large.bin' }, []]"
      RawClient.open(server.port) do |client|
        client.write((request_for(code) + request_for("[200, text, ['small']]")) * 5)
        5.times do
          expect(client.read_response.body == large).to be(true)
          expect(client.read_response.body).to eq("small")
        end
      end
    end
  end

  it "are a 503 that says when to come again, while there are no descriptors" do
    server = serve(Asking::APP, before: "#{helpers}Process.setrlimit(:NOFILE, 100, 100)",
                                options: "public: #{folder.inspect}, reserved_descriptors: 1")
    RawClient.open(server.port) do |client|
      response = ask(<<~RUBY, client: client)
        $kept = []
        begin
          loop { $kept << File.open(File::NULL) }
        rescue Errno::EMFILE
          [200, { 'x-sendfile' => F + '/a.txt' }, []]
        end
      RUBY
      expect([response.status, response["retry-after"]]).to eq([503, "1"])
      # A GET would be looked for among the files first.
      again = ask("$kept.each(&:close); [200, { 'x-sendfile' => F + '/a.txt' }, []]", client: client, verb: "POST")
      expect(again.status).to eq(200)
    end
  end

  describe "by X-Sendfile with roots" do
    serve_for_all(Asking::APP, before: helpers, options: "sendfile_roots: ['#{top}/private', '#{top}/nowhere']")

    it "only what is below them is sent" do
      { "p.txt" => 200, "../private/p.txt" => 200, "link.txt" => 404, "../outside.txt" => 404, "../public/a.txt" => 404 }
        .each do |path, status|
          expect(ask("[200, { 'x-sendfile' => '#{top}/private/#{path}' }, []]").status).to eq(status), path
        end
      expect(ask("[200, { 'x-sendfile' => '/etc/hostname' }, []]").status).to eq(404)
      expect(ask("[200, { 'x-accel-redirect' => '/p.txt' }, []]").body).to eq("private")
      expect(ask("[200, { 'x-accel-redirect' => '/link.txt' }, []]").status).to eq(404)
    end
  end

  describe "by to_path" do
    serve_for_all(Asking::APP, before: helpers)

    it "are sent instead of what each yields, and closed" do
      { "/a.txt" => "0123456789", "/large.bin" => large }.each do |path, content|
        said = server.log_after(/> closed/) do
          response = ask("[200, text, Named.new(F + '#{path}', 'from each')]")
          expect(response.body == content).to be(true)
          expect([response["content-length"], response["content-type"], response["etag"]]).to eq([content.bytesize.to_s, "text/plain", nil])
        end
        expect(said).not_to match(/> each/)
      end
    end

    it "a File is one" do
      expect(ask("[200, text, File.open(F + '/large.bin')]").body == large).to be(true)
    end

    it "a File that was read in part is sent from there, as each does" do
      ["/a.txt", "/large.bin"].each do |path|
        content = File.binread(folder + path)
        expect(ask("[200, text, File.open(F + '#{path}').tap { |file| file.read(4) }]").body == content[4..]).to be(true)
        closed = "[200, text, File.open(F + '#{path}').tap { |file| file.read(4); file.close }]"
        expect(ask(closed).body == content).to be(true)
      end
    end

    it "a File that has more to say than its size is read" do
      expect(ask("[200, text, File.open('/proc/self/status')]").body).to match(/^VmRSS:/)
    end

    it "only if they are as long as the application says" do
      response = ask("[206, { 'content-length' => '3', 'content-range' => 'bytes 0-2/10' }, Named.new(F + '/a.txt', '012')]")
      expect([response.body, response["content-length"]]).to eq(%w[012 3])
      expect(ask("[200, { 'content-length' => '10' }, Named.new(F + '/a.txt', 'x')]").body).to eq("0123456789")
    end

    it "never in part: that is for the application to say" do
      response = ask("[200, text, Named.new(F + '/a.txt')]", headers: "Range: bytes=0-1\r\nIf-None-Match: *\r\n")
      expect([response.status, response.body]).to eq([200, "0123456789"])
    end

    ["F", "'/no/such/file'", "nil", "42", "\"a\\0b\""].each do |path|
      it("#{path} is none, and each is called") { expect(ask("[200, text, Named.new(#{path}, 'from each')]").body).to eq("from each") }
    end

    it "tell a HEAD their length, without each" do
      said = server.log_after(/> closed/) do
        head = ask("[200, text, Named.new(F + '/large.bin', 'x')]", verb: "HEAD")
        expect([head["content-length"], head.body]).to eq(["300000", ""])
      end
      expect(said).not_to match(/> each/)
    end

    it "raising is the application's failure" do
      response = ask("[200, text, Class.new { def each; end; def to_path = raise('no path') }.new]")
      expect(response.status).to eq(500)
    end

    it "X-Sendfile means nothing where no listener serves files: it goes to the proxy" do
      response = ask("[200, { 'X-Sendfile' => F + '/a.txt' }, ['x']]")
      expect([response["x-sendfile"], response.body]).to eq(["#{folder}/a.txt", "x"])
      expect(value_of("env.key?('sendfile.type')")).to be(false)
    end

    it "leaves descriptors level" do
      count = "Dir.children('/proc/self/fd').size"
      before = value_of(count)
      RawClient.open(server.port) do |client|
        500.times { |index| ask("[200, text, Named.new(F + '/#{index.even? ? "a.txt" : "large.bin"}')]", client: client) }
      end
      expect(value_of(count)).to be_within(5).of(before)
    end
  end
end
