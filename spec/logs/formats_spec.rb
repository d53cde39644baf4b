# frozen_string_literal: true

# The formats of the request log: what a line says of an answer, and that no client can make it say something else.

require "json"
require "time"

RSpec.describe "formats of the request log" do
  app = <<~RUBY
    lambda do |env|
      case env["PATH_INFO"]
      when "/slow" then sleep 0.05
      when "/empty" then next [204, {}, []]
      when "/raise" then raise "on purpose"
      when "/stream" then next [200, text, ->(stream) { stream.write("abcde"); stream.close }]
      when "/each" then next [200, text, Enumerator.new { |body| 3.times { body << "abc" } }]
      end
      [200, text, ["abc"]]
    end
  RUBY

  def log_of(bytes, pattern = /\n/, port: server.port)
    server.log_after(pattern) { RawClient.converse(port, bytes.b, half_close: true) }
  end

  def request(target, headers = "", verb: "GET")
    "#{verb} #{target} HTTP/1.1\r\nHost: x.example:80\r\n#{headers}\r\n"
  end

  # A field that no client can get out of, as it is read back.
  def unescape(field)
    field.gsub(/\\x(\h\h)/) { Regexp.last_match(1).hex.chr.b }.b
  end

  date = %r{\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000}

  describe "common" do
    serve_for_all(app, options: "log_format: :common")

    it "is the Common Log Format, with the whole target" do
      expect(log_of(request("/cl?a=b"))).to match(%r{\A127\.0\.0\.1 - - \[#{date}\] "GET /cl\?a=b HTTP/1\.1" 200 3\n\z})
    end

    it "has a dash for an answer without a body" do
      expect(log_of(request("/empty"))).to end_with("\"GET /empty HTTP/1.1\" 204 -\n")
      expect(log_of(request("/", verb: "HEAD"))).to end_with("\"HEAD / HTTP/1.1\" 200 -\n")
    end

    it "has the time of the answer" do
      line = log_of(request("/"))
      time = Time.strptime(line[/\[(.*)\]/, 1], "%d/%b/%Y:%H:%M:%S %z")
      expect(time).to be_between(Time.now - 30, Time.now + 1)
    end

    it "has what the application streams, with all of its bytes" do
      expect(log_of(request("/stream"))).to end_with("\"GET /stream HTTP/1.1\" 200 5\n")
      expect(log_of(request("/each"))).to end_with("\"GET /each HTTP/1.1\" 200 9\n")
    end

    it "has failures of the application" do
      expect(log_of(request("/raise"), /"GET/)).to match(%r{^127.* "GET /raise HTTP/1\.1" 500 25$})
    end
  end

  describe "combined" do
    serve_for_all(app, options: "log_format: 'combined', max_body: 1")

    it "adds what browsers tell" do
      line = log_of(request("/", "Referer: http://y.example/\r\nUser-Agent: Browser/1.0 (X)\r\n"))
      expect(line).to end_with(%( 200 3 "http://y.example/" "Browser/1.0 (X)"\n))
      expect(log_of(request("/"))).to end_with(%( 200 3 "-" "-"\n))
    end

    it "has quotes, backslashes, escapes and high bytes escaped" do
      agent = "a\"b\\c\x1b[31m\xE4\t".b.sub("\x1b", "") + "d"
      line = log_of(request("/\"", "User-Agent: #{agent}\r\n"))
      expect(line).to match(/\A[ -~]+\n\z/)
      expect(line.count('"')).to eq(6)
      expect(unescape(line[/"([^"]*)"\n/, 1])).to eq(agent.b)
    end

    it "has refused requests, as far as they are known" do
      expect(log_of("BAD\r\n\r\n", /"/)).to match(/^127\.0\.0\.1 - - \[#{date}\] "- - -" 400 15 "-" "-"\n/)
    end
  end

  describe "json" do
    serve_for_all(app, options: "log_format: :json, max_body: 1")

    def json_of(bytes, pattern = /^\{.*\n/)
      JSON.parse(log_of(bytes, pattern)[/^\{.*\n/])
    end

    it "has an object for each answer" do
      began = Time.now
      object = json_of(request("/cl?a=b", "Referer: http://y.example/\r\nUser-Agent: Browser\r\n"))
      time, duration = object.values_at("time", "duration_us")
      expect(object).to eq(
        "time" => time, "client" => "127.0.0.1", "method" => "GET", "scheme" => "http", "host" => "x.example:80",
        "path" => "/cl", "query" => "a=b", "version" => "HTTP/1.1", "referer" => "http://y.example/",
        "user_agent" => "Browser", "status" => 200, "bytes" => 3, "duration_us" => duration
      )
      expect(time).to match(/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\z/)
      expect(Time.iso8601(time)).to be_between(began - 0.1, Time.now + 0.1)
      expect(duration).to be_between(1, 25_000_000)
    end

    it "measures from the request to its answer" do
      expect(json_of(request("/slow"))["duration_us"]).to be_between(50_000, 25_000_000)
    end

    it "is valid UTF-8 whatever is sent" do
      object = json_of(request("/\xFF\xC3\xA4\"\\", "User-Agent: \xE4\"\\{}\xC2\x9B\r\nReferer: \xED\xA0\x80\r\n"))
      expect(object.values_at("path", "user_agent", "referer")).to eq(["/\u{fffd}ä\"\\", "\u{fffd}\"\\{}\u{9b}", "\u{fffd}" * 3])
    end

    it "has nulls for a request that could not be understood" do
      object = json_of("BAD\r\n\r\n")
      expect(object.compact.keys).to eq(%w[time client status bytes duration_us])
      expect(object["status"]).to eq(400)
    end

    it "has one line each, of many at a time" do
      added = server.log_after(%r{"/100"}) do
        RawClient.open(server.port) do |client|
          client.write((1..100).map { |number| request("/#{number}") }.join)
          100.times { client.read_response }
        end
      end
      expect(added.lines.map { |line| JSON.parse(line)["path"] }).to eq((1..100).map { |number| "/#{number}" })
    end
  end

  describe "a template" do
    def line_with(template, bytes = request("/a?b=c d".delete(" ")))
      server = serve('->(_env) { [200, text, ["abc"]] }', options: "log_format: #{template.inspect}")
      server.log_after(/\n/) { RawClient.converse(server.port, bytes.b, half_close: true) }
    end

    it "has the fields that it names" do
      line = line_with("%{client} %{method} %{scheme}://%{host}%{path}?%{query} %{target} %{version} %{status} %{bytes}b 100%%")
      expect(line).to eq("127.0.0.1 GET http://x.example:80/a?b=cd /a?b=cd HTTP/1.1 200 3b 100%\n")
      line = line_with("%{time}|%{date}|%{http_date}|%{duration_us}|%{duration_ms}|%{header:accept}|%{header:x-nothing}",
                       request("/", "Accept: */*\r\n"))
      iso = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/
      expect(line).to match(%r{\A#{iso}\|#{date}\|\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\|\d+\|\d+\|\*/\*\|-\n\z})
    end

    it "escapes in each field what ends it" do
      line = line_with("'%{user_agent}' %{referer} [%{header:x}]", request("/", "User-Agent: it's\r\nReferer: a b]\r\nX: c d]e\r\n"))
      expect(line).to eq("'it\\x27s' a\\x20b] [c d\\x5De]\n")
    end

    it "is as long as it likes" do
      expect(line_with("#{"x" * 5000}%{path}ä")).to eq("#{"x" * 5000}/aä\n")
    end
  end
end
