# frozen_string_literal: true

# Listeners without HTTP: how they are asked for, and who handles a connection.

require_relative "../support/talking"

RSpec.describe "raw listeners" do
  include Talking

  serve_for_all(Asking::APP, threads: 4, before: Talking::RECORDER)

  before(:context) { @folder = Dir.mktmpdir("iodine-spec-raw") }
  after(:context) { FileUtils.rm_rf(@folder) }

  # Source of a factory whose connections are greeted by that.
  def greeter(text)
    "Class.new { define_method(:on_open) { |client| client.write(#{text.inspect}); client.close } }.new"
  end

  def listen(code)
    value_of("#{code}; Iodine.listeners.last.then { |place| place[:path] || place[:port] }")
  end

  it "are asked for by every name of theirs, by URL, and by none" do
    ["service: :raw, port: 0", "service: 'raw', port: '0'", "service: :tcp, port: 0", "service: 'TCP', port: 0", "port: 0",
     "url: 'tcp://127.0.0.1:0'", "url: 'raw://127.0.0.1:0'", "service: :unix, address: '#{@folder}/a'",
     "address: '#{@folder}/b'", "url: 'unix://#{@folder}/c'"].each do |options|
      place = listen("Iodine.listen(#{options}) { #{greeter("hi")} }")
      client = place.is_a?(String) ? RawClient.open_unix(place) : RawClient.open(place)
      expect([options, client.read_all]).to eq([options, "hi"])
      client.close
    end
  end

  it "give their handler back, a callable or the block" do
    expect(value_of("factory = -> { #{greeter("x")} }; [Iodine.listen(port: 0, handler: factory).equal?(factory), " \
                    "Iodine.listen(port: 0) { nil }.class.name]")).to eq([true, "Proc"])
    expect(value_of("begin; Iodine.listen(service: :raw, port: 0); rescue => e; [e.class.name, e.message]; end"))
      .to eq(["ArgumentError", "a :handler is required."])
  end

  it "take any callable: an object, a method, a class" do
    {
      "Class.new { def call = #{greeter("object")} }.new" => "object",
      "Class.new { def self.call = #{greeter("class")} }" => "class",
      "Object.new.tap { |o| def o.make = #{greeter("method")} }.method(:make)" => "method"
    }.each do |factory, text|
      port = listen("Iodine.listen(service: :raw, port: 0, handler: #{factory})")
      RawClient.open(port) { |client| expect(client.read_all).to eq(text) }
    end
  end

  it "call it for each connection, which has its own handler" do
    port = listen("made = 0; Iodine.listen(port: 0) { made += 1; number = made; " \
                  "Class.new { define_method(:on_open) { |client| client.write(number.to_s); client.close } }.new }")
    expect(Array.new(3) { RawClient.open(port, &:read_all) }).to eq(%w[1 2 3])
  end

  it "close connections for which there is no handler, and say why if that was an error" do
    ["nil", "true", "false", "raise 'no factory today'", "exit(4)", "throw(:away)", "->(needed) { }.call"].each do |value|
      port = listen("Iodine.listen(port: 0) { #{value} }")
      RawClient.open(port) do |client|
        client.write("hello?")
        expect([value, client.closed_by_server?]).to eq([value, true])
      end
    end
    server.wait_for_log(/unprotected exception - RuntimeError: no factory today/)
  end

  it "take modules, classes, Procs and even Strings as handlers; what they lack is not called" do
    ["Module.new { def self.on_open(client) = client.write('x') }", "Class.new { def self.on_open(client) = client.write('x') }",
     "Object.new.tap { |o| def o.respond_to_missing?(name, _) = name == :on_open; def o.method_missing(_, client) = client.write('x') }"]
      .each do |handler|
        port = listen("handler = #{handler}; Iodine.listen(port: 0) { handler }")
        RawClient.open(port) { |client| expect([handler, client.read_exactly(1)]).to eq([handler, "x"]) }
      end
    ["proc { }", "'a String'", "5", ":symbol", "Object.new"].each do |handler|
      port = listen("Iodine.listen(port: 0) { #{handler} }")
      RawClient.open(port) do |client|
        client.write("nobody listens")
        expect([handler, client.silent?(0.02)]).to eq([handler, true])
      end
    end
  end

  it "ask what a handler has once, and only for public methods" do
    handler = "Class.new { def on_open(client) = (def self.on_message(client, _) = client.write('late'); client.write('open')); " \
              "private def on_drained(client) = client.write('private') }.new"
    port = listen("Iodine.listen(port: 0) { #{handler} }")
    RawClient.open(port) do |client|
      client.write("x")
      expect(client.read_exactly(4)).to eq("open")
      expect(client).to be_silent(0.05)
    end
  end

  it "are refused unknown services" do
    expect(value_of("begin; Iodine.listen(service: :gopher, port: 0) { 1 }; rescue => e; e.class.name; end")).to eq("ArgumentError")
  end

  it "hear of a stop by on_shutdown, in which they may still write and publish (F66), and then close" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.threads = 2
      #{Talking::RECORDER}
      Iodine.listen(port: 0, address: "127.0.0.1") do
        Recorder.new("a", on_open: ->(client) { client.subscribe("goodbye") { |_, text| say "heard", text; client.write(text) } },
                     on_shutdown: ->(client) { client.write("stopping "); client.publish("goodbye", "all ") },
                     on_close: ->(client) { say client.open?, client.publish("goodbye", "late") })
      end
      Iodine.subscribe("goodbye") { |_, text| say "process", text }
      Iodine.start
    RUBY
    server.wait_until_ready
    client = RawClient.open(server.port)
    server.wait_for_said("a on_open")
    server.signal(:INT)
    expect(client.read_all).to start_with("stopping ")
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to include("a on_shutdown", "process all ", "a on_close", "false true")
    expect(server.said.index("a on_shutdown")).to be < server.said.index("a on_close")
  end

  it "do not let a peer that neither reads nor goes hold up the end" do
    server = start_script(<<~RUBY, env: { "IODINE_SHUTDOWN_TIMEOUT" => "1" })
      require "iodine"
      Iodine.threads = 1
      #{Talking::RECORDER}
      Iodine.listen(port: 0, address: "127.0.0.1") { Recorder.new("a", on_open: ->(client) { client.write("x" * 20_000_000) }) }
      Iodine.start
    RUBY
    server.wait_until_ready
    client = RawClient.open(server.port)
    server.wait_for_said("a on_open")
    server.signal(:INT)
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to include("a on_close")
    client.close
  end

  it "leave no socket file behind, and replace one that nobody listens at" do
    path = File.join(@folder, "gone.sock")
    PeerServer.unix(path).close
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.listen(service: :raw, address: #{path.inspect}) { #{greeter("here")} }
      Iodine.start
    RUBY
    server.wait_until_ready
    expect(RawClient.open_unix(path, &:read_all)).to eq("here")
    server.stop
    expect(File.exist?(path)).to be(false)
  end

  it "serve from all workers" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = 2
      Iodine.threads = 1
      Iodine.listen(service: :raw, port: 0, address: "127.0.0.1") do
        Class.new { def on_open(client) = client.write(Process.pid.to_s.rjust(10)) }.new
      end
      Iodine.start
    RUBY
    server.wait_until_ready(workers: 2)
    clients = []
    pids = []
    # A worker leaves connections to the other one, but not for long: that may be held up by the machine for a while.
    eventually(25, "one worker serves all") do
      clients << RawClient.open(server.port)
      pids |= [clients.last.read_exactly(10).to_i]
      pids.size == 2
    end
    expect(pids.sort).to eq(server.worker_pids.sort)
  ensure
    clients&.each(&:close)
  end
end
