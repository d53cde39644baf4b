# frozen_string_literal: true

# Callable bodies of Rack 3: the application is given a stream and closes it when it likes, on any thread.

RSpec.describe "a callable body" do
  serve_for_all(Asking::APP, threads: 2)

  def stream(code, headers: "text")
    "[200, #{headers}, ->(stream) { #{code} }]"
  end

  it "writes to a stream" do
    response = ask(stream("stream << 'one' << :two; stream.write('three', 4); stream.flush; stream.close"))
    expect(response.body).to eq("onetwothree4")
  end

  it "has its length when it is short and quick" do
    seen = Array.new(20) { ask(stream("stream << 'short'; stream.close")) }
    expect(seen.map(&:body).uniq).to eq(["short"])
    expect(seen.map { |response| response["content-length"] }).to include("5")
  end

  it "sends its head when it is flushed, or has nothing to say yet" do
    ["stream.flush", ""].each do |code|
      RawClient.open(server.port) do |client|
        client.write(request_for("$stream = nil; #{stream("$stream = stream; #{code}")}"))
        expect(client.read_line).to eq("HTTP/1.1 200 OK\r\n")
        # The head leaves by itself, and perhaps before anything is called.
        eventually { value_of("!$stream.nil?") }
        value_of("$stream << 'later'; $stream.close; nil")
        nil until client.read_line == "\r\n"
        expect(client.read_exactly(15)).to eq("5\r\nlater\r\n0\r\n\r\n")
        expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
      end
    end
  end

  it "knows the return values of an IO" do
    code = "$told = [stream.write('a', 'bcd'), stream.write, stream.write(''), (stream << 'x').equal?(stream), " \
           "stream.flush.equal?(stream), stream.closed?, stream.close, stream.closed?, stream.close]"
    ask("$told = nil; #{stream(code)}")
    # The answer is whole before that is.
    expect(eventually { value_of("$told") }).to eq([4, 0, 0, true, true, false, nil, true, nil])
  end

  it "can not be written to when it is closed" do
    code = "stream.close; $told = begin; stream << 'x'; rescue IOError => e; [e.class.name, e.message]; end"
    ask("$told = nil; #{stream(code)}")
    expect(eventually { value_of("$told") }).to eq(["IOError", "closed stream"])
  end

  it "can be closed by another thread while one waits to write" do
    RawClient.open(server.port) do |client|
      code = "$stream = stream; $told = nil; $writer = Thread.new { stream << 'x' * 5_000_000 << 'y' rescue $told = [$!.class.name, $!.message] }"
      client.write(request_for(stream(code)))
      # The other thread of the application may be here first.
      eventually { value_of("$writer&.status") == "sleep" }
      value_of("$stream.close; nil")
      expect(eventually { value_of("$told") }).to eq(["IOError", "closed stream"])
      expect(client.read_response.body).to eq("x" * 5_000_000)
    end
  end

  it "reads the body of the request" do
    code = stream("stream.write(stream.read(3), '|', stream.read, '|', stream.read(1).inspect); stream.close_read; stream.close_write")
    response = ask(code, verb: "POST", headers: "Content-Length: 6\r\n", body: "abcdef")
    expect(response.body).to eq("abc|def|nil")
    expect(ask(stream("stream << stream.read.inspect; stream.close")).body).to eq('""')
  end

  it "reads a body in a file after the application has returned" do
    code = stream("Thread.new { stream << stream.read.bytesize.to_s; stream.close }")
    body = "x" * 700_000
    expect(ask(code, verb: "POST", headers: "Content-Length: #{body.bytesize}\r\n", body: body).body).to eq("700000")
  end

  it "needs no thread while it has nothing to say" do
    clients = Array.new(100) { RawClient.open(server.port).write(request_for(stream("($all ||= []) << stream; stream.flush"))) }
    clients.each { |client| nil until client.read_line == "\r\n" }
    value_of("$all.each { |stream| stream << 'event' }; nil")
    clients.each { |client| expect(client.read_exactly(10)).to eq("5\r\nevent\r\n") }
    value_of("$all.each(&:close).clear; nil")
    clients.each { |client| expect(client.read_exactly(5)).to eq("0\r\n\r\n") }
  ensure
    clients&.each(&:close)
  end

  it "lets pipelined requests wait for its end" do
    RawClient.open(server.port) do |client|
      client.write(request_for(stream("$stream = stream; stream << 'first'; stream.flush")) + request_for("[200, text, ['second']]"))
      nil until client.read_line == "\r\n"
      expect(client.read_exactly(10)).to eq("5\r\nfirst\r\n")
      value_of("$stream.close; nil")
      expect(client.read_exactly(5)).to eq("0\r\n\r\n")
      expect(client.read_response.body).to eq("second")
    end
  end

  it "is broken off when it fails, or a 500 when nothing was sent" do
    server.log_after(/RuntimeError: early/) do
      status = eventually(25, "the head always left first") do
        ask(stream("raise 'early'")).status
      rescue EOFError
        # The head is held back for a millisecond, which a busy machine may take.
      end
      expect(status).to eq(500)
    end
    server.log_after(/RuntimeError: late/) do
      told = RawClient.converse(server.port, request_for(stream("stream << 'one'; stream.flush; raise 'late'")))
      expect(told).not_to include("\r\n0\r\n")
    end
  end

  it "is broken off when the application forgets it" do
    clients = Array.new(10) { RawClient.open(server.port).write(request_for(stream("stream << 'one'; stream.flush"))) }
    clients.each do |client|
      nil until client.read_line == "\r\n"
      expect(client.read_exactly(8)).to eq("3\r\none\r\n")
    end
    # What the threads have left on their stacks looks to the collector as if the last of them were in use.
    broken = eventually do
      value_of("GC.start; nil")
      clients.select { |client| client.socket.wait_readable(0) }.then { |some| some if some.size > 5 }
    end
    expect(broken).to all(be_closed_by_server)
  ensure
    clients&.each(&:close)
  end

  it "tells when the client has left" do
    RawClient.open(server.port) do |client|
      client.write(request_for(stream("$stream = stream; stream.flush")))
      nil until client.read_line == "\r\n"
      client.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
    end
    eventually { value_of("$stream.closed?") }
    expect(value_of("begin; $stream << 'x'; rescue Iodine::ClientDisconnected => e; e.message; end"))
      .to eq("the client has left before the answer was whole")
  end

  it "waits, on a thread of the application, for a client that reads slowly" do
    RawClient.open(server.port) do |client|
      client.write(request_for(stream("Thread.new { 1000.times { stream << 'x' * 50_000 }; stream.close }")))
      nil until client.read_line == "\r\n"
      10.times { expect(ask("[200, text, ['quick']]").body).to eq("quick") }
      size = 0
      while (length = client.read_line.to_i(16)).positive?
        size += client.read_exactly(length + 2).bytesize - 2
      end
      expect(size).to eq(50_000_000)
    end
  end

  it "leaves nothing behind that a fork of the application could disturb" do
    told = RawClient.open(server.port) do |client|
      client.write(request_for(stream("pid = fork { GC.start; exit }; Process.wait(pid); stream << $?.success?.to_s; stream.close")))
      client.read_response.body
    end
    expect(told).to eq("true")
  end

  it "passes Rack::Lint" do
    linted = serve(Asking::APP, threads: 2, lint: true)
    RawClient.open(linted.port) do |client|
      # Rack 2 knows no such bodies.
      expect(ask("[200, text, Class.new { def each = yield('ok') }.new]", client: client).body).to eq("ok")
      known = ask("require 'rack'; [200, text, [Rack.release]]", client: client).body.to_i >= 3
      expect(ask(stream("stream << 'ok'; stream.close"), client: client).body).to eq("ok") if known
    end
  end

  it "survives the collector", :gc_stress do
    stressed = serve(Asking::APP, threads: 2)
    RawClient.open(stressed.port) do |client|
      expect(ask(stream("stream << 'a' * 10; stream << 'b' * 40_000; stream.close"), client: client).body)
        .to eq(("a" * 10) + ("b" * 40_000))
      expect(ask("[200, {}, Enumerator.new { |y| 3.times { |i| y << i.to_s * 3 } }]", client: client).body).to eq("000111222")
    end
  end

  it "is logged when it is closed" do
    logged = serve(Asking::APP, threads: 2, options: "log: true")
    logged.log_after(%r{"GET /late HTTP/1\.1" 200 4b \d+ms}) do
      RawClient.open(logged.port) do |client|
        ask(stream("Thread.new { stream << 'late'; stream.close }"), client: client, path: "/late")
      end
    end
  end

  describe "in the log" do
    serve_for_all(Asking::APP, threads: 2, options: "log: true")

    # Has $told be what `rack.response_finished` is told.
    register = "$told = nil; env['rack.response_finished'] << ->(_, status, _, error) { $told = [status, error&.class&.name] }\n"

    # The lines of the log, once there are so many and that of a request behind all others.
    def lines_of(path, count: 1)
      # A thread writes its line behind its answer. Meanwhile the other one may answer the last request.
      server.wait_for_log(%r{"GET #{path} .*\n}, times: count)
      server.log_after(%r{"GET /last .*\n}) { ask("[200, text, []]", path: "/last") }
      server.log.lines.grep(%r{"GET #{path} })
    end

    it "is told of when it is closed while the body's close runs" do
      ask(<<~RUBY, path: "/closing")
        #{register}
        $closing, $closed = Queue.new, Queue.new
        body = Class.new do
          def call(stream) = Thread.new { $closing.pop; stream << "abc"; stream.close; $closed.push(nil) }
          def close = ($closing.push(nil); $closed.pop)
        end
        [200, text, body.new]
      RUBY
      expect(eventually { value_of("$told") }).to eq([200, nil])
      expect(lines_of("/closing")).to contain_exactly(/ 200 3b /)
    end

    it "is there when it was closed before the application raises" do
      expect(ask(register + stream("stream << 'hi'; stream.close; raise 'boom'"), path: "/raised").body).to eq("hi")
      expect(eventually { value_of("$told") }).to eq([200, "RuntimeError"])
      expect(lines_of("/raised")).to contain_exactly(/ 200 2b /)
    end

    it "has no line when it is shorter than declared, and the error is told" do
      server.log_after(/ended after 3 bytes, before the content-length/) do
        code = stream("stream << 'abc'; stream.flush; stream.close", headers: "text.merge('content-length' => '10')")
        expect { ask(register + code, path: "/short") }.to raise_error(EOFError)
      end
      expect(eventually { value_of("$told") }).to eq([200, "IOError"])
      expect(lines_of("/short", count: 0)).to eq([])
    end

    it "has no line when the client has left, and the error is told, however it is closed" do
      RawClient.open(server.port) do |client|
        client.write(request_for("$stream = nil; #{register}#{stream("$stream = stream; stream.flush")}", path: "/left"))
        nil until client.read_line == "\r\n"
        client.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii"))
      end
      eventually { value_of("begin; $stream << 'x'; false; rescue Iodine::ClientDisconnected; true; end") }
      value_of("$stream.close; nil")
      expect(eventually { value_of("$told") }).to eq([200, "Iodine::ClientDisconnected"])
      expect(lines_of("/left", count: 0)).to eq([])
    end

    it "is as long as what was sent" do
      code = stream("$stream = stream; stream << 'abc'; stream.flush", headers: "text.merge('content-length' => '10')")
      RawClient.open(server.port) do |client|
        client.write(request_for(code, path: "/long"))
        nil until client.read_line == "\r\n"
        value_of("$stream << '0123456789'; $stream.close; nil")
        expect(client.read_exactly(10)).to eq("abc0123456")
      end
      expect(lines_of("/long")).to contain_exactly(/ 200 10b /)
    end
  end

  describe "chunked by the application (F-27)" do
    coded = "{ 'transfer-encoding' => 'chunked' }"
    chunks = "\"3\\r\\nabc\\r\\n\", \"4\\r\\n\", \"defg\", \"\\r\\n\", \"0\\r\\n\\r\\n\""

    it "is decoded, and chunked anew" do
      expect(ask(stream("stream.write(#{chunks}); stream.close", headers: coded)).body).to eq("abcdefg")
      response = ask(stream("stream.flush; [#{chunks}].each { |part| stream.write(part); stream.flush }; stream.close", headers: coded))
      expect([response.all("transfer-encoding"), response.body]).to eq([["chunked"], "abcdefg"])
    end

    it "is sent as it is where it is plain text" do
      ["'hello'", "'cafe'", "'da', 'ta: x'", "'ab', '', 'c'"].each do |parts|
        plain = parts.delete("', ")
        expect(ask(stream("stream.write(#{parts}); stream.close", headers: coded)).body.delete(" ")).to eq(plain), parts
        expect(ask(stream("stream.flush; stream.write(#{parts}); stream.close", headers: coded)).body.delete(" ")).to eq(plain), parts
      end
    end

    it "does not hold plain text back once it is flushed" do
      RawClient.open(server.port) do |client|
        client.write(request_for(stream("$stream = stream; stream << 'cafe'; stream.flush", headers: coded)))
        nil until client.read_line == "\r\n"
        expect(client.read_exactly(9)).to eq("4\r\ncafe\r\n")
        value_of("$stream << 'd'; $stream.close; nil")
        expect(client.read_exactly(11)).to eq("1\r\nd\r\n0\r\n\r\n")
      end
    end

    it "is broken off when its last chunk is missing" do
      server.log_after(/ends before its last chunk/) do
        told = RawClient.converse(server.port, request_for(stream("stream.flush; stream << \"3\\r\\nabc\\r\\n\"; stream.close", headers: coded)))
        expect(told).not_to include("\r\n0\r\n")
      end
    end
  end
end
