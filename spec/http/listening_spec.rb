# frozen_string_literal: true

# Where a server listens: addresses, ports, Unix sockets, URLs, and what is said when that fails.

require "iodine"
require "tmpdir"

RSpec.describe "Iodine.listen" do
  app = '->(env) { [200, text, [env.values_at("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT").join(" ")]] }'

  ipv6 = begin
    TCPServer.new("::1", 0).close
    true
  rescue SystemCallError
    false
  end

  def ask(port, host)
    RawClient.open(port, host: host, &:get).body
  end

  # Runs Ruby code in a process of its own and returns what it prints.
  def printed(code)
    server = start_script("require 'iodine'\n$stdout.sync = true\napp = ->(env) { [200, {}, []] }\n#{code}")
    server.wait
    server.log
  end

  describe "on TCP" do
    it "serves one IPv4 address" do
      expect(ask(serve(app, address: "127.0.0.1", lint: true).port, "127.0.0.1")).to eq("127.0.0.1 localhost 80")
    end

    it "serves one IPv6 address, with or without brackets", if: ipv6 do
      ["::1", "[::1]"].each do |address|
        # Not any free port: on the other address, that may be another server's.
        server = serve(app, address: address, lint: true, options: "**{ port: #{FreePort.take} }")
        expect(ask(server.port, "::1")).to start_with("::1 ")
        expect { TCPSocket.new("127.0.0.1", server.port) }.to raise_error(Errno::ECONNREFUSED)
      end
    end

    # F-67: in 0.7 one family only.
    [nil, "::"].each do |address|
      it "serves both families on #{address.inspect}" do
        skip "there is no IPv6 here" if address && !ipv6
        port = serve(app, address: address, lint: true).port
        expect(ask(port, "127.0.0.1")).to start_with("127.0.0.1 ")
        expect(ask(port, "::1")).to start_with("::1 ") if ipv6
      end
    end

    it "serves IPv4 on 0.0.0.0" do
      port = serve(app, address: "0.0.0.0").port
      expect(ask(port, "127.0.0.1")).to start_with("127.0.0.1 ")
    end

    it "F-67: serves each address of a name" do
      port = serve(app, address: "localhost").port
      addresses = Addrinfo.getaddrinfo("localhost", nil, nil, :STREAM).map(&:ip_address).uniq
      addresses.each { |address| expect(ask(port, address)).to start_with("#{address} ") }
    end

    it "serves several, each with an application of its own" do
      server = serve(app, before: <<~RUBY)
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1") { |env| [200, {}, ["the other"]] }
      RUBY
      first, second = server.wait_for_log(/Listening on port (\d+)/, times: 2).scan(/port (\d+)/).flatten.map(&:to_i)
      expect(ask(first, "127.0.0.1")).to eq("the other")
      expect(ask(second, "127.0.0.1")).to start_with("127.0.0.1 ")
    end

    it "serves what is opened while it runs" do
      server = serve(<<~RUBY)
        lambda do |env|
          Iodine.listen(service: :http, port: 0, address: "127.0.0.1") { |_| [200, {}, ["late"]] }
          [200, {}, [Iodine.listeners.last[:port].to_s]]
        end
      RUBY
      port = ask(server.port, "127.0.0.1").to_i
      expect(ask(port, "127.0.0.1")).to eq("late")
    end

    it "takes a port as text, and 0 for any free one that can be read back" do
      output = printed(<<~RUBY)
        handler = Iodine.listen(service: :http, port: "0", address: "127.0.0.1", handler: app)
        Iodine.listen(service: "http", port: 0, address: "127.0.0.1", handler: app)
        puts handler.equal?(app)
        ports = Iodine.listeners.map { |listener| listener[:port] }
        Iodine.listeners.zip(ports) { |one, port| puts one.values_at(:address, :path).inspect + port.class.name }
        puts ports.uniq.size, ports.none?(&:zero?)
      RUBY
      expect(output.lines.grep_v(/^INFO/).join).to eq(<<~TEXT)
        true
        ["127.0.0.1", nil]Integer
        ["127.0.0.1", nil]Integer
        2
        true
      TEXT
      expect(output.scan(/^INFO: Listening on port [1-9]\d*$/).size).to eq(2)
    end

    it "frees the port when the server has ended" do
      output = printed(<<~RUBY)
        2.times do
          Iodine.listen(service: :http, port: @port || 0, address: "127.0.0.1", handler: app)
          @port = Iodine.listeners.last[:port]
          Iodine.on_state(:on_start) { Iodine.stop }
          Iodine.workers = Iodine.threads = 1
          Iodine.start
          p Iodine.listeners
        end
      RUBY
      expect(output.scan(/^\[\]$/).size).to eq(2)
    end
  end

  describe "on a Unix socket" do
    around { |example| Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } } }

    let(:path) { File.join(Dir.pwd, "s.sock") }

    it "serves it, open to everybody, and removes it at the end" do
      server = serve(app, address: path, lint: true)
      expect(File.stat(path).mode.to_s(8)).to eq("140777")
      expect(RawClient.open_unix(path, &:get).body).to eq("#{path} localhost 80")
      expect(server.log).to include("Listening on Unix Socket at #{path}\n")
      server.stop
      expect(File.exist?(path)).to be(false)
    end

    it "gives it the mode asked for" do
      serve(app, address: path, options: "mode: 0o640")
      expect(File.stat(path).mode.to_s(8)).to eq("140640")
    end

    it "takes the place of a socket that was left behind" do
      UNIXServer.new(path).close
      serve(app, address: path)
      expect(RawClient.open_unix(path, &:get).status).to eq(200)
    end

    it "leaves a file alone that is none, and one that has become somebody else's" do
      File.write(path, "precious")
      output = printed("Iodine.listen(service: :http, address: #{path.inspect}, port: 0, handler: app)")
      expect(output).to match(/Couldn't open listening socket.*no socket/)
      expect(File.read(path)).to eq("precious")

      File.delete(path)
      server = serve(app, address: path)
      File.delete(path)
      File.write(path, "precious")
      server.stop
      expect(File.read(path)).to eq("precious")
    end

    it "F-60: removes it though the server never started" do
      output = printed(<<~RUBY)
        Iodine.listen(service: :http, port: 0, address: #{path.inspect}, handler: app)
        p Iodine.listeners
        p File.socket?(#{path.inspect})
      RUBY
      expect(output).to include("[{:path=>#{path.inspect}}]").or include("[{path: #{path.inspect}}]")
      expect(output).to include("true")
      expect(File.exist?(path)).to be(false)
    end

    it "needs no port with a path in the address or the URL" do
      %w[address url].each do |key|
        output = printed(<<~RUBY)
          Iodine.listen(service: :http, #{key}: #{path.inspect}, handler: app)
          p Iodine.listeners.first.keys
        RUBY
        expect(output).to include("[:path]")
      end
    end

    it "serves pipelined requests and bodies there, too" do
      serve('->(env) { [200, {}, [env["rack.input"].read]] }', address: path)
      RawClient.open_unix(path) do |client|
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" * 20)
        expect(Array.new(20) { client.read_response.body }).to eq(["abc"] * 20)
        client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n#{"x" * 2_000_000}")
        expect(client.read_response.body.bytesize).to eq(2_000_000)
        client.finish_writing
        expect(client).to be_closed_by_server
      end
    end
  end

  # Where a URL points; 0.7 made files of some hosts (F-61).
  describe "with a URL" do
    def place(url, **settings)
      place = Iodine::Base::Place.new({ url: url }.merge(settings))
      place.path || [place.host, place.port]
    end

    default = (Iodine::DEFAULT_SETTINGS[:port] || 3000).to_i
    {
      "http://:4001" => [nil, 4001],
      "ws://:4001" => [nil, 4001],
      "HTTP://:4001" => [nil, 4001],
      "http://127.0.0.1:4001/any/path" => ["127.0.0.1", 4001],
      "http://example.com:4001?a=b#c" => ["example.com", 4001],
      "127.0.0.1:4001" => ["127.0.0.1", 4001],
      "example.com" => ["example.com", default],
      "http://127.0.0.1" => ["127.0.0.1", 80],
      "http://127.0.0.1/" => ["127.0.0.1", 80],
      "ws://example.com" => ["example.com", 80],
      "https://example.com" => ["example.com", 443],
      "http://[::1]:4001" => ["::1", 4001],
      "http://[::1]" => ["::1", 80],
      "[::1]:4001" => ["::1", 4001],
      "http://:0" => [nil, 0],
      "http://127.0.0.1:0/" => ["127.0.0.1", 0],
      "http://:0/tmp/x.sock" => "/tmp/x.sock",
      "http:///tmp/x.sock" => "/tmp/x.sock",
      "unix:///tmp/x.sock" => "/tmp/x.sock",
      "/tmp/x.sock" => "/tmp/x.sock",
      "./x.sock" => "./x.sock",
      "../x" => "../x"
    }.each do |url, expected|
      it("#{url.inspect} is #{expected.inspect}") { expect(place(url)).to eq(expected) }
    end

    it "goes before address and port" do
      expect(place("http://127.0.0.1:4001", address: "::1", port: 5)).to eq(["127.0.0.1", 4001])
    end

    it "gives a Unix socket its mode" do
      expect(Iodine::Base::Place.new(url: "http:///tmp/x.sock?mode=0660").mode).to eq(0o660)
      expect(Iodine::Base::Place.new(url: "http:///tmp/x.sock?mode=660", mode: 0o600).mode).to eq(0o600)
      expect(Iodine::Base::Place.new(url: "./x.sock?mode=0640")).to have_attributes(path: "./x.sock", mode: 0o640)
      expect(Iodine::Base::Place.new(address: "x.sock", mode: "0640")).to have_attributes(path: "x.sock", mode: 0o640)
      ["9", "x", -1, 0o1777, 1.5, true].each do |mode|
        expect { Iodine::Base::Place.new(address: "x.sock", mode: mode) }.to raise_error(ArgumentError, /\Amode must be permissions/)
      end
    end

    ["", "http://[::1", "http://x:y", "http://x:70000", "http://a:b:1"].each do |url|
      it "refuses #{url.inspect}" do
        expect { place(url) }.to raise_error(RuntimeError, /\ACouldn't open listening socket\./)
      end
    end

    it "is ignored when it is no String" do
      expect(place(4001, address: "127.0.0.1", port: 7)).to eq(["127.0.0.1", 7])
    end

    it "serves there" do
      server = start_script(<<~RUBY)
        require "iodine"
        Iodine.workers = Iodine.threads = 1
        Iodine.listen(url: "http://127.0.0.1:0/", handler: ->(env) { [200, {}, ["by URL"]] })
        Iodine.start
      RUBY
      expect(ask(server.wait_until_ready.port, "127.0.0.1")).to eq("by URL")
    end
  end

  describe "that fails" do
    def listen(**settings)
      Iodine.listen({ service: :http, handler: ->(_env) {} }.merge(settings))
    end

    def expect_failure(cause, **settings)
      expect { listen(**settings) }.to raise_error(RuntimeError) { |error|
        expect(error.message).to match(/\ACouldn't open listening socket\./).and match(cause)
      }
      expect(Iodine.listeners).to eq([])
    end

    # F-62: 0.7 kept the causes to itself.
    it "tells that the port is taken" do
      TCPServer.open("127.0.0.1", 0) do |taken|
        port = taken.addr[1]
        expect_failure(/127\.0\.0\.1:#{port}.*in use/, address: "127.0.0.1", port: port)
      end
    end

    {
      "the address is not here" => [/192\.0\.2\.1:4001: .+/, "192.0.2.1", 4001],
      "the name is not known" => [/no\.such\.invalid/, "no.such.invalid", 4001],
      "the folder is missing" => [/No such file/, "/no/such/folder/s", 0],
      "the path is too long" => [/#{"x" * 200}/, "/tmp/#{"x" * 200}", 0]
    }.each do |what, (cause, address, port)|
      it("tells that #{what}") { expect_failure(cause, address: address, port: port) }
    end

    ["70000", 70_000, -1, "abc", "", 3.5, "80x"].each do |port|
      it "refuses the port #{port.inspect}" do
        expect_failure(/#{Regexp.escape(port.to_s)}/, address: "127.0.0.1", port: port)
      end
    end

    it "wants a Hash, a handler and a service it knows" do
      expect { Iodine.listen(nil) }.to raise_error(TypeError, /nil \(expected Hash\)/)
      expect { Iodine.listen(service: :http, port: 0) }.to raise_error(ArgumentError, "a :handler is required.")
      expect { listen(service: :htpt, port: 0) }.to raise_error(ArgumentError, /unknown service :htpt/)
    end
  end
end
