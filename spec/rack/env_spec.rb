# frozen_string_literal: true

# The env: what it holds for a request, in which form.

RSpec.describe "the Rack env" do
  serve_for_all(Asking::APP, lint: true)

  def env_of(**request)
    value_of("env.reject { |key, value| key.start_with?('rack.') && ![true, false, nil].include?(value) }", **request)
  end

  # The value of one key, and whether there is one.
  def values(*keys, headers: "", **request)
    value_of("env.values_at(*#{keys.inspect})", headers: headers, **request)
  end

  it "has the keys of iodine 0.7, and the lists of what is called after the answer" do
    keys = value_of("env.keys", path: "/a?b", headers: "A: b\r\n")
    expect(keys).to contain_exactly(
      "rack.upgrade?", "rack.upgrade", "rack.version", "SCRIPT_NAME", "rack.input", "rack.errors", "rack.hijack?",
      "rack.multiprocess", "rack.multithread", "rack.run_once", "rack.url_scheme", "HTTP_VERSION", "SERVER_PROTOCOL",
      "rack.hijack", "PATH_INFO", "REMOTE_ADDR", "REQUEST_METHOD", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT",
      "HTTP_HOST", "HTTP_X_CODE", "HTTP_A", "rack.response_finished", "rack.after_reply"
    )
  end

  it "has the values of iodine 0.7" do
    expect(env_of(verb: "PURGE", path: "/a%20b/../c?d=e?f")).to include(
      "SCRIPT_NAME" => "", "PATH_INFO" => "/a%20b/../c", "QUERY_STRING" => "d=e?f", "REQUEST_METHOD" => "PURGE",
      "HTTP_VERSION" => "HTTP/1.1", "SERVER_PROTOCOL" => "HTTP/1.1", "REMOTE_ADDR" => "127.0.0.1",
      "SERVER_NAME" => "localhost", "SERVER_PORT" => "80", "HTTP_HOST" => "localhost",
      "rack.upgrade?" => nil, "rack.upgrade" => nil, "rack.hijack?" => true, "rack.multiprocess" => true,
      "rack.multithread" => true, "rack.run_once" => false
    )
    expect(values("QUERY_STRING", "SERVER_PROTOCOL", version: "1.0")).to eq(["", "HTTP/1.0"])
    expect(values("rack.version", "rack.url_scheme")).to eq([[1, 3], "http"])
  end

  it "has objects where Rack wants them" do
    expect(value_of(<<~RUBY)).to eq(["Iodine::Base::RackIO", true, true, true])
      input = env["rack.input"]
      input = input.instance_variable_get(:@input) while input.class.name.start_with?("Rack::Lint")
      errors = env["rack.errors"]
      errors = errors.instance_variable_get(:@error) while errors.class.name.start_with?("Rack::Lint")
      [input.class.name, errors.equal?($stderr), env["rack.hijack"].respond_to?(:call), env["rack.hijack_io"].nil?]
    RUBY
  end

  it "has nothing for what the server does not do" do
    absent = %w[rack.session rack.logger REQUEST_PATH REQUEST_URI rack.early_hints
                rack.protocol SERVER_SOFTWARE CONTENT_LENGTH CONTENT_TYPE HTTP_TRANSFER_ENCODING
                sendfile.type HTTP_X_SENDFILE_TYPE]
    expect(env_of.keys & absent).to eq([])
  end

  it "says hello on rack.errors, which is the log" do
    server.log_after(/^hello, log$/) { value_of('env["rack.errors"].puts("hello, log")') }
  end

  describe "in its form" do
    it "is a Hash that each request has for itself" do
      expect(value_of(<<~RUBY)).to eq([true, false, nil, nil])
        env["spec.mark"] = env
        env["rack.upgrade?"].inspect
        [env.instance_of?(Hash), env.frozen?, env.default, env.default_proc]
      RUBY
      expect(value_of('env.key?("spec.mark")')).to be(false)
      value_of('env.delete_if { |key, _| key.start_with?("HTTP_") }.size')
      expect(values("REQUEST_METHOD")).to eq(["GET"])
    end

    it "has frozen binary keys" do
      forms = value_of(<<~RUBY, headers: "Cookie: a\r\nX-#{"long" * 50}: b\r\nX-New: c\r\n")
        env.keys.map { |key| [key.encoding.name, key.frozen?] }.uniq
      RUBY
      expect(forms).to eq([["ASCII-8BIT", true]]).or eq([["BINARY", true]])
    end

    # What requests have in common is shared, and therefore frozen (0.7 made it anew each time).
    it "has binary values that may be changed, but for those that requests share" do
      forms = value_of(<<~RUBY, path: "/\xC3\xA4?\xC3\xA4", headers: "A: \xC3\xA4\r\nContent-Type: a/b\r\n")
        env.select { |_, value| value.is_a?(String) }
           .to_h { |key, value| [key, [value.encoding == Encoding::BINARY, value.frozen?]] }
      RUBY
      frozen, open = forms.partition { |_, (_, is_frozen)| is_frozen }
      expect(forms.values.map(&:first).uniq).to eq([true])
      expect(%w[SCRIPT_NAME rack.url_scheme REQUEST_METHOD HTTP_VERSION SERVER_PROTOCOL SERVER_NAME SERVER_PORT])
        .to include(*frozen.map(&:first))
      expect(open.map(&:first))
        .to include("PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "HTTP_A", "CONTENT_TYPE", "HTTP_HOST")
      expect(values("PATH_INFO", "QUERY_STRING", path: "/\xC3\xA4?\xC3\xA4")).to eq(["/\xC3\xA4".b, "\xC3\xA4".b])
    end

    it "lives as long as the application wants, whatever the collector does" do
      ["", "Accept: text/event-stream\r\n"].each do |headers|
        value_of("($kept ||= []) << env; 1", path: "/a?b=c", headers: headers)
      end
      kept = value_of(<<~RUBY)
        5.times do
          GC.start(full_mark: false)
          GC.compact if GC.respond_to?(:compact)
          Array.new(10_000) { |number| number.to_s }
        end
        GC.start
        $kept.map { |env| env.values_at(*%w[PATH_INFO QUERY_STRING REMOTE_ADDR HTTP_HOST REQUEST_METHOD rack.after_reply]) }
      RUBY
      expect(kept).to eq([["/a", "b=c", "127.0.0.1", "localhost", "GET", []]] * 2)
    end

    it "keeps values of one request from changing the next" do
      value_of('env.each_value { |value| value << "x" if value.is_a?(String) && !value.frozen? }; 1')
      expect(values("REQUEST_METHOD", "SERVER_NAME", "SERVER_PROTOCOL", "REMOTE_ADDR"))
        .to eq(["GET", "localhost", "HTTP/1.1", "127.0.0.1"])
    end
  end

  describe "for headers" do
    it "has their names in capitals, and their values without blanks around them" do
      headers = "accept-encoding: gzip \t\r\nX-A-B:\tc d  \r\nX-Empty:\r\nx-#{"n" * 100}: long\r\n" \
                "!#$%&'*+.^`|~1: odd\r\n"
      expect(values("HTTP_ACCEPT_ENCODING", "HTTP_X_A_B", "HTTP_X_EMPTY", "HTTP_X_#{"N" * 100}", "HTTP_!\#$%&'*+.^`|~1",
                    headers: headers)).to eq(["gzip", "c d", "", "long", "odd"])
    end

    it "has content headers under names of their own" do
      headers = "content-type: text/x\r\nContent-length: 05\r\n"
      expect(values("CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH",
                    verb: "POST", body: "hello", headers: headers)).to eq(["text/x", "05", nil, nil])
    end

    it "F-23: joins those that are repeated" do
      headers = "Cookie: a=1\r\nX-Forwarded-For: 1.1.1.1\r\ncookie: b=2\r\nX-New-One: a\r\n" \
                "x-forwarded-for: 2.2.2.2\r\nX-NEW-ONE: b\r\nx-new-one: c\r\nAccept: x\r\n" \
                "X-#{"q" * 80}: 1\r\nX-#{"Q" * 80}: 2\r\n"
      2.times do # the second time the names are known
        expect(values("HTTP_COOKIE", "HTTP_X_FORWARDED_FOR", "HTTP_X_NEW_ONE", "HTTP_ACCEPT", "HTTP_X_#{"Q" * 80}",
                      headers: headers)).to eq(["a=1; b=2", "1.1.1.1, 2.2.2.2", "a, b, c", "x", "1, 2"])
      end
      expect(value_of("require 'rack'; Rack::Request.new(env).cookies", headers: headers)).to eq("a" => "1", "b" => "2")
    end

    it "F-01: takes a repeated Upgrade for what it is" do
      told = value_of("env.values_at('HTTP_UPGRADE', 'HTTP_CONNECTION')", headers: "Upgrade: a\r\nUpgrade: b\r\n")
      expect(told).to eq(["a, b", nil])
    end

    it "F-18: lets none pass for what the server says" do
      headers = "Version: evil\r\nProxy: evil\r\nX-Sendfile-Type: evil\r\n"
      expect(values("HTTP_VERSION", "HTTP_PROXY", "HTTP_X_SENDFILE_TYPE", headers: headers))
        .to eq(["HTTP/1.1", nil, nil])
    end

    it "F-18: has no name with an underscore, which could pass for one with a dash" do
      headers = "X-Real-Ip: right\r\nX_Real_Ip: wrong\r\nX_Own: wrong\r\nContent_Length: 7\r\nx_real-ip: wrong\r\n"
      expect(values("HTTP_X_REAL_IP", "HTTP_X_OWN", "CONTENT_LENGTH", headers: headers)).to eq(["right", nil, nil])
    end

    it "stays itself when clients make up names without end" do
      RawClient.open(server.port) do |client|
        (0...900).each_slice(90) do |numbers|
          headers = numbers.map { |number| "Made-Up-#{number}: #{number}\r\n" }.join
          keys = numbers.map { |number| "HTTP_MADE_UP_#{number}" }
          got = value_of("env.values_at(*%w[#{keys.join(" ")}])", client: client, headers: headers)
          expect(got).to eq(numbers.map(&:to_s))
        end
      end
      expect(values("HTTP_MADE_UP_899", "HTTP_MADE_UP_1", headers: "made-up-899: a\r\nMADE-UP-899: b\r\n"))
        .to eq(["a, b", nil])
    end
  end

  describe "for the server's name" do
    def raw(bytes)
      Marshal.load(RawClient.exchange(server.port, bytes).first.body)
    end

    def asked(lines, target: "/", version: "1.1")
      code = ['[200, text, [Marshal.dump(env.values_at("SERVER_NAME", "SERVER_PORT", "HTTP_HOST"))]]'].pack("m0")
      raw("GET #{target} HTTP/#{version}\r\n#{lines}X-Code: #{code}\r\n\r\n")
    end

    {
      "Host: example.com\r\n" => %w[example.com 80 example.com],
      "Host: example.com:4001\r\n" => %w[example.com 4001 example.com:4001],
      "Host: EXAMPLE.com:\r\n" => %w[EXAMPLE.com 80 EXAMPLE.com:],
      "Host: [::1]:4001\r\n" => %w([::1] 4001 [::1]:4001), # F-24
      "Host: [::1]\r\n" => %w([::1] 80 [::1]),
      "Host: a\r\nX-Forwarded-Proto: https\r\n" => %w[a 80 a] # nobody is trusted
    }.each do |lines, expected|
      it("takes #{lines.inspect}") { expect(asked(lines)).to eq(expected) }
    end

    it "takes the authority of a URL before the Host line" do
      expect(asked("Host: wrong:1\r\n", target: "http://right:81/x")).to eq(%w[right 81 right:81])
      expect(asked("Host: wrong:1\r\n", target: "http://right")).to eq(%w[right 80 right])
    end

    it "F-39: makes do without a Host line in HTTP/1.0" do
      expect(asked("", version: "1.0")).to eq(["localhost", server.port.to_s, nil])
    end
  end

  # F-22; who is trusted, and what else they may tell, is in spec/proxies.
  describe "for the scheme, where everybody is trusted" do
    serve_for_all(Asking::APP, lint: true, options: "trusted_proxies: :all")

    {
      "X-Forwarded-Proto: https" => "https",
      "X-Forwarded-Proto: HTTPS" => "https",
      "X-Forwarded-Proto: https, http" => "https",
      "X-Forwarded-Proto: http, https" => "http",
      "X-Forwarded-Proto: wss" => "https",
      "X-Forwarded-Proto: ws" => "http",
      "X-Forwarded-Proto: ftp" => "http",
      "X-Forwarded-Proto:" => "http",
      "Forwarded: proto=https" => "https",
      "Forwarded: for=1.2.3.4;Proto=\"https\";by=x" => "https",
      "Forwarded: for=\"a;proto=http\";proto=https, proto=http" => "https",
      "Forwarded: xproto=https" => "http",
      "Forwarded: for=x, proto=https" => "http",
      "Forwarded: proto=ftp" => "http",
      "X-Forwarded-Proto: http\r\nForwarded: proto=https" => "http",
      "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http" => "https",
      "X_Forwarded_Proto: https" => "http"
    }.each do |lines, scheme|
      it("takes #{lines.inspect} for #{scheme}") do
        expect(value_of('[env["rack.url_scheme"], env["rack.url_scheme"].frozen?]', headers: "#{lines}\r\n"))
          .to eq([scheme, true])
      end
    end
  end

  describe "for bodies" do
    it "F-28: has the size of a chunked one, and no Transfer-Encoding" do
      { "0\r\n\r\n" => "0", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n" => "6" }.each do |body, size|
        expect(values("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", verb: "POST", body: body,
                      headers: "Transfer-Encoding: chunked\r\n")).to eq([size, nil])
      end
    end

    it "has a length of 0 as it came" do
      expect(values("CONTENT_LENGTH", verb: "POST", headers: "Content-Length: 0\r\n")).to eq(["0"])
    end
  end

  it "takes SCRIPT_NAME from the environment" do
    ["/sub", "/", ""].each do |given|
      app = '->(env) { [200, text, [env["SCRIPT_NAME"] + "|" + env["PATH_INFO"]]] }'
      server = serve(app, env: { "SCRIPT_NAME" => given })
      told = RawClient.open(server.port) { |client| client.get("/sub/x").body }
      expect(told).to eq("#{given.delete_suffix("/")}|/sub/x")
    end
  end

  it "has the asterisk of OPTIONS as the path" do
    server = serve('->(env) { [200, text, [env["PATH_INFO"]]] }')
    expect(RawClient.exchange(server.port, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").first.body).to eq("*")
  end
end
