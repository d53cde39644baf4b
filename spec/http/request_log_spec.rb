# frozen_string_literal: true

# One line for each answer, in the form iodine 0.7 gave it.

require "tmpdir"

RSpec.describe "the request log" do
  app = <<~RUBY
    lambda do |env|
      case env["PATH_INFO"]
      when "/slow" then sleep 0.05
      when "/raise" then raise "on purpose"
      when "/hijack" then env["rack.hijack"].call.tap { |io| io.write("HTTP/1.1 200 OK\\r\\n\\r\\n") }.close
      when "/empty" then next [204, {}, []]
      end
      [200, text, ["abc"]]
    end
  RUBY
  date = /[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT/

  def log_of(bytes, pattern)
    server.log_after(pattern) { RawClient.converse(server.port, bytes.b, half_close: true) }
  end

  def request(path, verb: "GET", headers: "")
    "#{verb} #{path} HTTP/1.1\r\nHost: x\r\n#{headers}\r\n"
  end

  describe "with log: true" do
    serve_for_all(app, options: "log: true", lint: true)

    it "has address, date, request line without the query, status, size and time" do
      added = log_of(request("/cl?a=b"), /\n/)
      expect(added).to match(/\A127\.0\.0\.1 - - \[#{date}\] "GET \/cl HTTP\/1\.1" 200 3b \d+ms\r\n\z/)
    end

    it "has the version and the method as they came" do
      expect(log_of("patch /v HTTP/1.0\r\n\r\n", /\n/)).to include('"patch /v HTTP/1.0" 200 3b ')
    end

    it "has two dashes for an answer without a body" do
      expect(log_of(request("/empty"), /\n/)).to match(%r{"GET /empty HTTP/1\.1" 204 -- \d+ms\r\n\z})
      expect(log_of(request("/head", verb: "HEAD"), /\n/)).to match(%r{"HEAD /head HTTP/1\.1" 200 -- \d+ms\r\n\z})
    end

    it "has the time that the answer took" do
      expect(log_of(request("/slow"), /ms\r\n/)[/ (\d+)ms/, 1].to_i).to be_between(45, 25_000)
    end

    it "F-17: escapes what could pass for something else" do
      expect(log_of(request("/a\"b\\c\xC3\xA4"), /\n/)).to include('"GET /a\x22b\x5Cc\xC3\xA4 HTTP/1.1" 200 ')
    end

    it "has failures of the application" do
      expect(log_of(request("/raise"), /"GET/)).to match(%r{"GET /raise HTTP/1\.1" 500 25b \d+ms\r\n})
    end

    it "has refused requests" do
      expect(log_of("BAD\r\n\r\n", /"/)).to match(/^127\.0\.0\.1 - - \[#{date}\] ".*" 400 15b \d+ms\r\n/)
    end

    it "does not have what was hijacked" do
      added = server.log_after(/after/) do
        [request("/hijack") + request("/lost"), request("/after")].each do |bytes|
          RawClient.converse(server.port, bytes, half_close: true)
        end
      end
      expect(added.scan(/"(?:GET|-) (\S+)/).flatten).to eq(["/after"])
    end

    it "has every one of many" do
      added = server.log_after(%r{/100 }) do
        RawClient.open(server.port) { |client| (1..100).each { |number| client.get("/#{number}") } }
      end
      expect(added.scan(%r{GET /(\d+) }).flatten.map(&:to_i)).to eq((1..100).to_a)
    end

    it "has the lines that wait when the server ends" do
      server = serve(app, options: "log: true")
      RawClient.open(server.port) { |client| client.get("/last") }
      server.stop
      expect(server.log).to include('"GET /last HTTP/1.1" 200 3b')
    end
  end

  it "has the path of a Unix socket for its clients" do
    Dir.mktmpdir do |folder|
      server = serve(app, options: "log: true", address: "#{folder}/s.sock")
      RawClient.open_unix("#{folder}/s.sock", &:get)
      server.wait_for_log(%r{^#{Regexp.escape(folder)}/s\.sock - - \[})
    end
  end

  it "has clients for whose connection there is no room" do
    server = serve(app, options: "max_clients: 1, log_format: '%{client} %{method} %{status} %{bytes} %{duration_us}'")
    RawClient.open(server.port) do |client|
      client.get
      2.times { RawClient.open(server.port) { |other| expect(other.read_response.status).to eq(503) } }
      server.wait_for_log(/^127\.0\.0\.1 - 503 23 0$/, times: 2)
    end
  end

  it "does not depend on the verbosity" do
    server = serve(app, options: "log: true", before: "Iodine.on_state(:on_start) { Iodine.verbosity = 0 }")
    RawClient.open(server.port, &:get)
    server.wait_for_log(%r{"GET / HTTP/1\.1" 200})
  end

  it "is off unless asked for, and on by the settings of the process" do
    [["", false], ["Iodine::DEFAULT_SETTINGS[:log] = true", true]].each do |before, logged|
      server = serve(app, before: before)
      RawClient.open(server.port, &:get)
      server.stop
      expect(server.log.include?('"GET /')).to be(logged)
    end
  end
end
