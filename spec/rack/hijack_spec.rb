# frozen_string_literal: true

# Full hijacking: the application takes the socket, and the server has no more to do with it.

require "tmpdir"

RSpec.describe "rack.hijack" do
  serve_for_all(Asking::APP, threads: 2)

  take = "io = env['rack.hijack'].call\n"
  answer = "io.write(\"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nmine!\")\n"

  def wire(code, **request)
    RawClient.converse(server.port, request_for(code, **request))
  end

  it "gives the socket, which the application answers and closes" do
    text = wire("#{take}#{answer}io.close; [200, text, ['ignored']]")
    expect(text).to eq("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmine!")
  end

  it "gives a TCPSocket that works as any, and the same one again" do
    told = wire(<<~RUBY)
      #{take}
      other = env["rack.hijack"].call
      io.write(Marshal.dump([io.class.name, io.sync, io.equal?(other), env["rack.hijack_io"].equal?(io),
                             io.remote_address.ip_address, io.local_address.ip_port, io.closed?, io.close_on_exec?]))
      io.close
      [200, {}, []]
    RUBY
    expect(Marshal.load(told)).to eq(["TCPSocket", true, true, true, "127.0.0.1", server.port, false, true])
  end

  it "is announced in the env" do
    expect(value_of("[env['rack.hijack?'], env['rack.hijack'].respond_to?(:call), env.key?('rack.hijack_io')]"))
      .to eq([true, true, false])
  end

  it "lets the application talk both ways, for as long as it likes" do
    code = <<~RUBY
      #{take}
      Thread.new do
        io.write("hello\\n")
        while (line = io.gets)
          io.write("echo \#{line}")
        end
        io.close
      end
      [200, {}, []]
    RUBY
    RawClient.open(server.port) do |client|
      expect(client.write(request_for(code)).read_line).to eq("hello\n")
      3.times { |number| expect(client.write("#{number}\n").read_line).to eq("echo #{number}\n") }
      expect(client.finish_writing).to be_closed_by_server
    end
  end

  it "is none of the server's deadlines" do
    quick = serve(Asking::APP, options: "timeout: 1, head_timeout: 1, body_timeout: 1, write_timeout: 1")
    RawClient.open(quick.port) do |client|
      client.write(request_for("#{take}Thread.new { io.gets; #{answer}io.close }; [200, {}, []]"))
      expect(client).to be_silent(1.5)
      client.write("go\n")
      expect(client.read_response.body).to eq("mine!")
    end
  end

  describe "F-31: keeps the server from writing anything" do
    {
      "a status of 404" => "[404, text, ['not mine']]",
      "a status of 500" => "[500, text, ['not mine']]",
      "no status at all" => "nil",
      "a bad status" => "['x', 3, nil]",
      "an exception" => "raise 'after the hijack'",
      "a throw" => "throw :nowhere",
      "a body that raises" => "[200, {}, Class.new { def each = raise('in each') }.new]",
      "the end of the thread" => "Thread.exit"
    }.each do |what, code|
      it "with #{what}" do
        text = wire("#{take}Thread.new { sleep 0.05; #{answer}io.close }\n#{code}")
        expect(text).to eq("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmine!")
      end
    end
  end

  it "makes nothing of what the application returns, whatever that is" do
    before = server.log.bytesize
    ["nil", "42", "[]", "[200]", "['x', 3, nil]", "Object.new"].each { |code| wire("#{take}io.close; #{code}") }
    server.log_after(/the last one/) { wire("#{take}io.close; raise 'the last one'") }
    expect(server.log.byteslice(before..)).not_to match(/can not be sent/)
  end

  it "closes the body that the application returns, without running it" do
    code = <<~RUBY
      #{take}
      $calls = []
      body = Class.new { def each = $calls << :each; def close = $calls << :close }.new
      io.close
      [200, {}, body]
    RUBY
    wire(code)
    # The client sees the end before the application has returned.
    eventually { value_of("$calls").any? }
    expect(value_of("$calls")).to eq([:close])
  end

  it "logs an exception all the same" do
    server.log_after(/RuntimeError: after the hijack/) { wire("#{take}io.close; raise 'after the hijack'") }
  end

  it "gives nil when the application has returned" do
    RawClient.open(server.port) do |client|
      expect(ask("$late = env['rack.hijack']; [200, text, ['first']]", client: client).body).to eq("first")
      expect(ask("[200, text, [$late.call.inspect]]", client: client).body).to eq("nil")
      expect(ask("[200, text, ['third']]", client: client).body).to eq("third")
    end
    expect(value_of("[$late.call, GC.start, $late.call]")).to eq([nil, nil, nil])
  end

  it "gives nil when the client has gone and the connection with it" do
    RawClient.open(server.port) { |client| client.write(request_for("$late = env['rack.hijack']; [200, {}, []]")) }
    eventually { value_of("$late.nil?") == false }
    expect(value_of("$late.call")).to be_nil
  end

  it "comes after the answers before it, and drops the requests behind it" do
    RawClient.open(server.port) do |client|
      client.write(request_for("[200, text, ['before']]") + request_for("#{take}#{answer}io.close; [200, {}, []]") +
                   request_for("$behind = true; [200, text, ['behind']]"))
      expect(Array.new(2) { client.read_response.body }).to eq(%w[before mine!])
      expect(client).to be_closed_by_server
    end
    expect(value_of("$behind")).to be_nil
  end

  it "waits until the client has read the answers before it" do
    RawClient.open(server.port) do |client|
      client.write(request_for("[200, text, ['a' * 20_000_000]]") + request_for("#{take}#{answer}io.close; [200, {}, []]"))
      expect(client).not_to be_silent(RawClient::DEADLINE)
      expect(client.read_response.body == "a" * 20_000_000).to be(true)
      expect(client.read_response.body).to eq("mine!")
    end
  end

  it "works for a request with a body, and keeps that readable" do
    text = wire("#{take}body = env['rack.input'].read; io.write(body.reverse); io.close; [200, {}, []]",
                verb: "POST", headers: "Content-Length: 5\r\n", body: "hello")
    expect(text).to eq("olleh")
    big = "ab" * 400_000
    code = "#{take}Thread.new(env['rack.input']) { |input| io.write(input.read.reverse); io.close }; [200, {}, []]"
    text = wire(code, verb: "POST", headers: "Content-Length: #{big.bytesize}\r\n", body: big)
    expect(text == big.reverse).to be(true)
  end

  it "leaves no descriptor behind" do
    count = -> { value_of("GC.start; Dir.children('/dev/fd').size") }
    before = count.call
    20.times { wire("#{take}io.close; [200, {}, []]") }
    eventually { count.call <= before }
  end

  it "survives the collector" do
    code = <<~RUBY
      #{take}
      Thread.new { 20.times { GC.start; "x" * 1000 }; GC.compact if GC.respond_to?(:compact); #{answer}io.close }
      [200, {}, []]
    RUBY
    10.times { expect(wire(code)).to end_with("mine!") }
  end

  it "gives a UNIXSocket where the client came by one" do
    Dir.mktmpdir do |folder|
      serve(Asking::APP, address: "#{folder}/s.sock")
      RawClient.open_unix("#{folder}/s.sock") do |client|
        client.write(request_for("#{take}io.write(io.class.name); io.close; [200, {}, []]"))
        expect(client.read_all).to eq("UNIXSocket")
      end
    end
  end

  it "passes Rack::Lint" do
    linted = serve(Asking::APP, lint: true)
    code = "#{take}#{answer}io.flush; io.close; [200, text, []]"
    text = RawClient.converse(linted.port, request_for(code))
    expect(text).to end_with("mine!")
    expect(linted.log).not_to include("ERROR")
  end
end
