# frozen_string_literal: true

# `Iodine.connect`: what may be said, whom it reaches, and how whoever can not be reached is told of.

require_relative "../support/talking"
require_relative "../support/ruby_script"

RSpec.describe "Iodine.connect" do
  include Talking

  describe "in a running server" do
    # Names of our own, each with the ports that its addresses have here.
    names = <<~RUBY
      $names = {}
      Addrinfo.singleton_class.prepend(Module.new do
        def getaddrinfo(name, ...)
          $names.key?(name) ? $names[name].map { |port| Addrinfo.tcp("127.0.0.1", port) } : super
        end
      end)
    RUBY

    serve_for_all(Asking::APP, threads: 4, before: Talking::RECORDER + names)

    # What a call comes to: the class and the text of its error, or its value.
    def outcome(call)
      value_of("begin; value = (#{call}); value == Iodine ? 'Iodine' : value.inspect; " \
               "rescue Exception => error; [error.class.name, error.message]; end")
    end

    # A port that nobody listens on, nor can.
    def closed_port
      @closed ||= Socket.new(:INET, :STREAM).tap { |socket| socket.bind(Addrinfo.tcp("127.0.0.1", 0)) }
      @closed.local_address.ip_port
    end

    after { @closed&.close }

    it "takes a Hash, with a handler, and gives the module back (F65)" do
      listener = PeerServer.tcp
      expect(outcome("Iodine.connect(nil)")).to eq(["TypeError", "wrong argument type nil (expected Hash)"])
      expect(outcome("Iodine.connect('tcp://x')")).to eq(["TypeError", "wrong argument type String (expected Hash)"])
      expect(outcome("Iodine.connect")).to include("ArgumentError")
      expect(outcome("Iodine.connect({}, {})")).to include("ArgumentError")
      url = "url: 'tcp://127.0.0.1:#{listener.port}'"
      expect(outcome("Iodine.connect(#{url})")).to eq(["ArgumentError", "a :handler is required."])
      expect(outcome("Iodine.connect({ #{url} }) { 1 }")).to eq(["ArgumentError", "a :handler is required."])
      expect(outcome("Iodine.connect({ #{url}, handler: Recorder.new('given') })")).to eq("Iodine")
      listener.accept.close
    ensure
      listener.close
    end

    it "refuses what it can not use" do
      base = "url: 'ws://127.0.0.1:1', handler: 1"
      ["slow_clients: :maybe", "max_backlog: -1", "connect_timeout: '3'", "deflate: 3", "deflate: { level: 0 }",
       "tls: { verfy: true }"].each do |bad|
        expect([bad, outcome("Iodine.connect(#{base}, #{bad})").first]).to eq([bad, "ArgumentError"])
      end
      expect(outcome("Iodine.connect(#{base}, tls: 3)").first).to eq("TypeError")
    end

    it "says that it knows no HTTP clients, rather than speak WebSocket to them (F40)" do
      ["url: 'http://127.0.0.1:1/'", "url: 'https://localhost'", "service: :http, address: '127.0.0.1', port: 1"].each do |bad|
        expect(outcome("Iodine.connect(#{bad}, handler: 1)"))
          .to eq(["RuntimeError", "HTTP client connections aren't supported yet."])
      end
    end

    it "says at once whom it can not find" do
      ["url: 'tcp://no.such.host.invalid:1'", "url: 'ws://no.such.host.invalid/'", "url: 'unix:///nowhere/at/all.sock'",
       "address: '/nowhere.sock'", "address: '127.0.0.1', port: 65536", "address: '127.0.0.1', port: 'x'",
       "url: 'tcp://127.0.0.1:0'", "url: 'tcp://127.0.0.1:99999'", "url: ''"].each do |place|
        kind, text = outcome("Iodine.connect(handler: 1, #{place})")
        expect([place, kind, text]).to match([place, "RuntimeError", start_with("Couldn't open client socket.")])
      end
    end

    it "tells the handler by on_close alone, and the log, that nobody is there (F41)" do
      port = closed_port
      ["url: 'tcp://127.0.0.1:#{port}'", "url: 'ws://127.0.0.1:#{port}'", "url: '127.0.0.1:#{port}'"].each do |options|
        name = fresh_name
        log = server.log_after(/no connection could be made: 127\.0\.0\.1:#{port}: .*refused/i) do
          connect("Recorder.new(name, on_close: ->(client) { say name, client.protocol, client.open?, client.write('x').inspect })",
                  options, name: name)
          wait_until_told(name, /(raw|websocket) false nil/)
        end
        expect(log).to match(/^INFO/)
        expect(told(name)).to match(["on_close", / false nil\z/])
      end
    end

    it "tells the same of a socket file that nobody listens at" do
      path = File.join(Dir.mktmpdir("iodine-spec"), "left.sock")
      PeerServer.unix(path).close
      name = fresh_name
      connect("Recorder.new(name)", "url: 'unix://#{path}'", name: name)
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_close"])
    ensure
      FileUtils.rm_rf(File.dirname(path))
    end

    it "tries one address of a name after the other" do
      listener = PeerServer.tcp
      refusing = closed_port
      name = fresh_name
      # A name of two addresses, of which the first refuses.
      value_of(<<~RUBY)
        $names["two.example"] = [#{refusing}, #{listener.port}]
        Iodine.connect(url: "tcp://two.example:1", handler: Recorder.new(#{name.inspect}, on_open: ->(client) { client.write("here") }))
        nil
      RUBY
      peer = listener.accept
      expect(peer.read_exactly(4)).to eq("here")
      expect(told(name)).to eq(["on_open"])
      peer.close
    ensure
      listener.close
    end

    it "gives each address its share of the time, so that a silent one does not use it up" do
      # A listener whose queue is full answers nobody.
      full = Socket.new(:INET, :STREAM).tap { |socket| socket.bind(Addrinfo.tcp("127.0.0.1", 0)) }
      full.listen(0)
      fillers = Array.new(3) do
        Socket.new(:INET, :STREAM).tap { |socket| socket.connect_nonblock(full.local_address, exception: false) }
      end
      listener = PeerServer.tcp
      name = fresh_name
      value_of(<<~RUBY)
        $names["slow.example"] = [#{full.local_address.ip_port}, #{listener.port}]
        Iodine.connect(url: "tcp://slow.example:1", handler: Recorder.new(#{name.inspect}), connect_timeout: 1)
        nil
      RUBY
      peer = listener.accept
      wait_until_told(name, "on_open")
      peer.close
    ensure
      [full, listener, *fillers].compact.each(&:close)
    end

    it "has raw clients time out by :timeout, or :ping as in 0.7" do
      ["timeout: 1", "ping: 1"].each do |option|
        listener = PeerServer.tcp
        name = fresh_name
        connect("Recorder.new(name, on_open: ->(client) { say name, client.timeout })",
                "url: 'tcp://127.0.0.1:#{listener.port}', #{option}", name: name)
        peer = listener.accept
        wait_until_told(name, "1")
        peer.close
        listener.close
      end
    end

    it "refuses what a peer does not read, beyond max_backlog: it is closed, or messages are dropped" do
      listener = PeerServer.tcp
      big = "30.times.map { client.write('x' * 1_000_000) }.uniq.inspect"
      { "slow_clients: :drop" => "[true, false]", "slow_clients: :close" => "[true, false, nil]" }.each do |option, answers|
        name = fresh_name
        connect("Recorder.new(name, on_open: ->(client) { say name, #{big} })",
                "url: 'tcp://127.0.0.1:#{listener.port}', max_backlog: 1, #{option}", name: name)
        peer = listener.accept
        wait_until_told(name, answers)
        expect(peer.read_exactly(1_000_000).bytesize).to eq(1_000_000)
        peer.close
        wait_until_told(name, "on_close")
      end
    ensure
      listener.close
    end

    describe "closes what a handler can not be made the handler of" do
      # A handler that can be asked for its callbacks once, as it is by the call.
      asked_twice = <<~RUBY
        Class.new(Recorder) do
          def respond_to?(name, *)
            return super unless name == :on_close

            @asked ? raise("asked again, " + @name) : @asked = true
          end
        end.new(name)
      RUBY

      # How often the log tells of it.
      def told_of(name)
        server.log.scan(/unprotected exception - RuntimeError: asked again, #{name}$/).size
      end

      it "WebSockets with 1011" do
        listener = PeerServer.tcp
        name = fresh_name
        connect(asked_twice, "url: 'ws://127.0.0.1:#{listener.port}/'", name: name)
        peer = WebSocketPeer.new(listener.accept).agree
        frame = peer.read_frame
        expect([frame.opcode, frame.close]).to eq([8, [1011, ""]])
        peer.close
        eventually { told_of(name) == 1 }
        expect(told(name)).to eq([])
      ensure
        listener.close
      end

      it "and keeps apart what the server keeps for others" do
        listener = PeerServer.tcp
        name = fresh_name
        connect(asked_twice, "url: 'tcp://127.0.0.1:#{listener.port}'", name: name)
        peer = listener.accept
        expect(peer.write("not heard").read_all).to eq("")
        peer.close
        eventually { told_of(name) == 1 }
        blocks = <<~RUBY
          GC.start
          ran = Queue.new
          8.times { |number| Iodine.run_after(20) { ran << number } }
          Array.new(8) { ran.pop }.sort
        RUBY
        expect(value_of(blocks)).to eq([*0..7])
        expect([told_of(name), told(name)]).to eq([1, []])
      ensure
        listener.close
      end
    end

    it "can be called by the callbacks of another client, and from any thread" do
      listener = PeerServer.tcp
      name = fresh_name
      url = "url: 'tcp://127.0.0.1:#{listener.port}'"
      connect("Recorder.new(name, on_open: ->(_) { Iodine.connect(#{url}, handler: Recorder.new(name + 'b', " \
              "on_open: ->(_) { Thread.new { Iodine.connect(#{url}, handler: Recorder.new(name + 'c')) } })) })",
              url, name: name)
      peers = Array.new(3) { listener.accept }
      wait_until_told("#{name}c", "on_open")
      peers.each(&:close)
    ensure
      listener.close
    end
  end

  describe "its URLs and addresses" do
    include RubyScript

    it "are understood alike" do
      cases = {
        "url: 'ws://host'" => ["host", 80, "/", "host"],
        "url: 'wss://host/x'" => ["host", 443, "/x", "host"],
        "url: 'wss://host:80'" => ["host", 80, "/", "host:80"],
        "url: 'ws://user:pw@host:81/x?y#z'" => ["host", 81, "/x?y", "host:81"],
        "url: 'ws://[::1]/'" => ["::1", 80, "/", "[::1]"],
        "url: 'wss://[::1]:8443'" => ["::1", 8443, "/", "[::1]:8443"],
        "url: 'tcp://host:9'" => ["host", 9, "/", "host:9"],
        "url: 'host:9'" => ["host", 9, "/", "host:9"],
        "url: 'unix:///a/b.sock'" => ["/a/b.sock"],
        "url: 'raw://:0/a/b.sock'" => ["/a/b.sock"],
        "address: '/a/b.sock', port: 0" => ["/a/b.sock"],
        "address: '/a/b.sock'" => ["/a/b.sock"],
        "service: :tcp, address: 'host', port: '7'" => ["host", 7, "/", "host:7"],
        "{}" => ["localhost", 3000, "/", "localhost:3000"]
      }
      told = output_of(<<~RUBY)
        Iodine::DEFAULT_SETTINGS[:port] = "3000"
        #{cases.keys.inspect}.each do |options|
          place = Iodine::Base::Destination.new(eval(options.start_with?("{") ? options : "{ \#{options} }"))
          p(place.socket ? [place.socket] : [place.host, place.port, place.path, place.authority])
        end
      RUBY
      expect(cases.keys.zip(told.lines.map(&:chomp))).to eq(cases.map { |options, parts| [options, parts.inspect] })
    end
  end

  describe "around the life of a server" do
    def client_script(workers:, url:, stop: "")
      <<~RUBY
        require "iodine"
        #{Talking::RECORDER}
        Iodine.workers = #{workers}
        Iodine.threads = 1
        Iodine.connect(url: #{url.inspect}, handler: Recorder.new("c", on_open: ->(client) { client.write("from \#{Process.pid}") },
                                                                  on_shutdown: ->(client) { client.write("bye") }))
        #{stop}
        Iodine.start
      RUBY
    end

    [1, 2].each do |workers|
      it "waits for the start, and is of the root process alone, with #{workers} worker#{"s" if workers > 1}" do
        listener = PeerServer.tcp
        server = start_script(client_script(workers: workers, url: "tcp://127.0.0.1:#{listener.port}"))
        peer = listener.accept
        server.wait_until_ready(workers: workers)
        expect(peer.read_exactly("from #{server.pid}".size)).to eq("from #{server.pid}")
        server.signal(:TERM)
        expect(peer.read_all).to eq("bye")
        expect(server.wait.exitstatus).to eq(0)
        expect(listener).to be_silent
        expect(server.said).to eq(["c on_open", "c on_shutdown", "c on_close"])
      ensure
        listener&.close
      end
    end

    it "is read on in the root of a cluster when more was to be run for a while than is kept for anyone" do
      listener = PeerServer.tcp
      server = start_script(<<~RUBY)
        require "iodine"
        Iodine.workers = 2
        Iodine.threads = 1
        handler = Object.new
        handler.define_singleton_method(:on_message) do |client, data|
          if data == "fill"
            20_000.times { Iodine.run {} }
            TCPSocket.open("127.0.0.1", #{listener.port}, &:read)
          end
          client.write(data)
        end
        Iodine.connect(url: "tcp://127.0.0.1:#{listener.port}", handler: handler)
        Iodine.start
      RUBY
      peer = listener.accept
      server.wait_until_ready(workers: 2)
      peer.write("fill")
      gate = listener.accept
      # It is there when the root looks again.
      peer.write("during")
      gate.close
      expect(peer.read_exactly(10)).to eq("fillduring")
      peer.write("behind")
      expect(peer.read_exactly(6)).to eq("behind")
    ensure
      [gate, peer, listener].compact.each(&:close)
    end

    it "is told of by on_close when it comes while the server stops" do
      listener = PeerServer.tcp
      url = "tcp://127.0.0.1:#{listener.port}"
      server = start_script(client_script(workers: 1, url: url, stop: <<~RUBY))
        Iodine.on_state(:start_shutdown) { Iodine.connect(url: #{url.inspect}, handler: Recorder.new("first")) }
        Iodine.connect(url: #{url.inspect}, handler: Recorder.new("d", on_shutdown: lambda do |_|
          Iodine.connect(url: #{url.inspect}, handler: Recorder.new("late"))
        end))
      RUBY
      2.times { listener.accept }
      server.wait_for_said("d on_open")
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said.grep(/late|first/)).to include("late on_close", "first on_close")
      expect(server.said.grep(/late/)).to eq(["late on_close"])
    ensure
      listener&.close
    end
  end
end
