# frozen_string_literal: true

# Bodies with `each`: written as they are produced (F-51), and what becomes of those that are not completed (F-30).

RSpec.describe "a body with each" do
  serve_for_all(Asking::APP, threads: 4)

  # An application's body that yields what `code` does to `y`.
  def body(code)
    "[200, text, #{each(code)}]"
  end

  # As above, without status and headers. In it `gate.pop` waits until {open_gate} is called for the request's path.
  def each(code)
    "Enumerator.new { |y| gate = ($gates ||= Hash.new { |all, path| all[path] = Queue.new })[env['PATH_INFO']]; #{code} }"
  end

  def open_gate(path)
    value_of("$gates[#{path.inspect}].push(nil); nil")
  end

  # Asks, and opens the gate once something of the answer has left.
  def converse_at_gate(code, **request)
    path = "/gate/#{@gate = @gate.to_i + 1}"
    RawClient.open(server.port) do |client|
      client.write(request_for(code, path: path, **request))
      raise "nothing came" unless client.socket.wait_readable(RawClient::DEADLINE)

      open_gate(path)
      yield client
    end
  end

  def ask_at_gate(code, **request)
    converse_at_gate(code, **request, &:read_response)
  end

  # Asks until an answer had an end, or failed, within the millisecond for which its beginning is held back: a busy machine
  # takes longer now and then, and then the answer is broken off, as it is here.
  def ask_in_time(code, port: server.port)
    eventually(25, "the beginning of the answer always left first") do
      RawClient.open(port) do |client|
        response = ask(code, client: client)
        yield client if block_given?
        response
      end
    rescue EOFError
      nil
    end
  end

  def head_of(client)
    lines = []
    lines << client.read_line until lines.last == "\r\n"
    lines.join
  end

  it "leaves piece by piece, the first at once" do
    RawClient.open(server.port) do |client|
      client.write(request_for(body("y << 'one'; gate.pop; y << 'two!'; gate.pop"), path: "/pieces"))
      head = head_of(client)
      expect(head).to match(/^transfer-encoding: chunked\r$/)
      expect(head).not_to include("content-length")
      expect(client.read_exactly(8)).to eq("3\r\none\r\n")
      open_gate("/pieces")
      expect(client.read_exactly(9)).to eq("4\r\ntwo!\r\n")
      open_gate("/pieces")
      expect(client.read_exactly(5)).to eq("0\r\n\r\n")
      expect(ask(body("y << 'next'"), client: client).body).to eq("next")
    end
  end

  it "has its length when it is short and quick" do
    seen = Array.new(20) { ask(body("y << 'one'; y << 'two'")) }
    expect(seen.map(&:body).uniq).to eq(["onetwo"])
    # A busy machine may hold one up for too long.
    expect(seen.map { |response| response["content-length"] }).to include("6")
  end

  it "is as long as the application declared" do
    response = ask_at_gate("[200, text.merge('content-length' => '6'), #{each("y << 'one'; gate.pop; y << 'two'")}]")
    expect([response["content-length"], response["transfer-encoding"], response.body]).to eq(["6", nil, "onetwo"])
  end

  it "is cut when it is longer than declared, and broken off when it is shorter" do
    server.log_after(/cut to the content-length/) do
      code = "[200, text.merge('content-length' => '2'), #{each("y << 'one'; gate.pop; y << 'two'")}]"
      expect(ask_at_gate(code).body).to eq("on")
    end
    server.log_after(/ended after 3 bytes, before the content-length/) do
      code = "[200, text.merge('content-length' => '9'), #{each("y << 'one'; gate.pop")}]"
      expect { ask_at_gate(code) }.to raise_error(EOFError)
    end
  end

  it "has a corrected length when there is time for that" do
    response = ask_in_time("[200, text.merge('content-length' => '9'), Enumerator.new { |y| y << 'one' }]")
    expect([response["content-length"], response.body]).to eq(%w[3 one])
  end

  it "ends with the connection for HTTP/1.0" do
    told = converse_at_gate(body("y << 'one'; gate.pop; y << 'two'"), version: "1.0",
                            headers: "Connection: keep-alive\r\n", &:read_all)
    expect(told).to match(/^connection: close\r$/).and end_with("\r\n\r\nonetwo")
    expect(told).not_to include("chunked")
  end

  it "is not run for HEAD, nor where the status has no body" do
    ["HEAD", "GET"].product([200, 204, 304]).each do |verb, status|
      next if verb == "GET" && status == 200

      RawClient.open(server.port) do |client|
        code = "[#{status}, {}, Enumerator.new { |y| $ran = true; y << 'x' }]"
        expect(ask(code, client: client, verb: verb).body).to eq("")
        expect(ask("[200, text, [$ran.inspect]]", client: client).body).to eq("nil")
      end
    end
  end

  it "is a 500 when it fails before anything was sent" do
    server.log_after(/RuntimeError: early/) do
      response = ask_in_time(body("y << 'one'; raise 'early'")) do |client|
        expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
      end
      expect([response.status, response.body]).to eq([500, "500 Internal Server Error"])
    end
  end

  it "is broken off when it fails later (F-30)" do
    server.log_after(/RuntimeError: late/) do
      told = converse_at_gate(body("y << 'one'; gate.pop; raise 'late'"), &:read_all)
      expect(told).to match(/200 OK/).and end_with("one\r\n")
    end
  end

  it "takes no answer before it along when it fails later" do
    RawClient.open(server.port) do |client|
      server.log_after(/RuntimeError: behind another/) do
        client.write(request_for("[200, text, ['x' * 8_000_000]]") +
                     request_for(body("y << 'one' * 20_000; raise 'behind another'")))
      end
      # Only now: until then the first answer waits to be read.
      expect(client.read_response.body.bytesize).to eq(8_000_000)
      expect { client.read_response }.to raise_error(EOFError)
    end
  end

  it "is refused when it yields what is no String" do
    server.log_after(/the body yielded a Integer, not a String/) { expect(ask(body("y << 1")).status).to eq(500) }
  end

  it "is closed, once, whatever happens" do
    {
      "yield 'x'" => 200, "Thread.pass; yield 'x'; yield 'y'" => 200, "raise 'oh'" => 500, "yield 1" => 500
    }.each do |code, status|
      response = ask(<<~RUBY)
        $closed = 0
        [200, {}, Class.new { define_method(:each) { |&block| #{code.gsub("yield", "block.call")} }
                              define_method(:close) { $closed += 1 } }.new]
      RUBY
      expect(response.status).to eq(status)
      # The end of what was not held back may be there before.
      eventually { value_of("$closed").positive? }
      expect(value_of("$closed")).to eq(1)
    end
  end

  it "makes its producer wait for the client, and memory has a bound" do
    RawClient.open(server.port) do |client|
      client.write(request_for("$sent = 0; #{body("2000.times { y << 'x' * 50_000; $sent += 1 }")}"))
      client.read_line
      stalled = nil
      eventually { stalled == (stalled = value_of("$sent")) && stalled.positive? }
      expect(stalled).to be < 1000
      head_of(client)
      size = 0
      while (length = client.read_line.to_i(16)).positive?
        size += client.read_exactly(length + 2).bytesize - 2
      end
      expect(size).to eq(100_000_000)
    end
    expect(server.rss).to be < 200_000_000
  end

  it "does not keep others waiting while its producer waits" do
    deaf = Array.new(3) do
      RawClient.open(server.port).write(request_for(body("2000.times { y << 'x' * 50_000 }"), headers: "X-A: b\r\n"))
    end
    20.times { expect(ask("[200, text, ['quick']]").body).to eq("quick") }
  ensure
    deaf.each(&:close)
  end

  it "ends with an exception that the application can rescue when the client has gone" do
    code = <<~RUBY
      $seen = nil
      #{body(<<~BODY.tr("\n", ";"))}
        begin
          loop { y << 'x' * 10_000 }
        rescue Iodine::ClientDisconnected => e
          $seen = [e.class.name, e.is_a?(IOError), e.message]
          raise
        ensure
          $ensured = true
        end
      BODY
    RUBY
    RawClient.open(server.port) { |client| client.write(request_for(code)).read_line }
    seen = nil
    eventually { seen = value_of("$seen") }
    expect(seen).to eq(["Iodine::ClientDisconnected", true, "the client has left before the answer was whole"])
    eventually { value_of("$ensured") }
    expect(server.log).not_to include("ClientDisconnected")
  end

  it "may keep its block for later, when it is of no use any more" do
    ask("$kept = nil; [200, {}, Class.new { def each(&block) = ($kept = block).call('x') }.new]")
    told = value_of("GC.start; begin; $kept.call('late'); rescue IOError => e; e.message; end")
    expect(told).to eq("closed stream")
  end

  it "may be produced by another thread" do
    code = "Class.new { def each(&block) = 5.times { |i| Thread.new { block.call(i.to_s) }.join } }.new"
    expect(ask("[200, {}, #{code}]").body).to eq("01234")
  end

  it "is killed with its thread, and another one takes over" do
    quick = serve(Asking::APP, threads: 1)
    expect(ask_in_time(body("y << 'one'; Thread.current.kill"), port: quick.port).status).to eq(500)
    RawClient.open(quick.port) { |client| expect(ask("[200, text, ['alive']]", client: client).body).to eq("alive") }
  end

  it "may fork, and the child has no part in the answer" do
    code = <<~RUBY
      [200, {}, Enumerator.new { |y|
        y << "one"
        pid = fork { begin; y << "child"; rescue IOError => e; exit!(e.message == "closed stream" ? 7 : 8); end }
        y << Process.wait2(pid).last.exitstatus.to_s
        if (pid = fork)
          y << Process.wait2(pid).last.exitstatus.to_s
        end
      }]
    RUBY
    expect(ask(code).body).to eq("one70")
  end

  it "is decoded when the application has chunked it, and chunked anew (F-27)" do
    chunks = "y << \"3\\r\\none\\r\\n\"; gate.pop; y << \"3\\r\\ntw\"; y << \"o\\r\\n0\\r\\n\\r\\n\""
    plain = "y << 'one'; gate.pop; y << 'two'"
    [chunks, plain].each do |code|
      response = ask_at_gate("[200, { 'Transfer-Encoding' => 'chunked' }, #{each(code)}]")
      expect([response.all("transfer-encoding"), response.body]).to eq([["chunked"], "onetwo"])
    end
  end

  # RFC 9112 section 6.3
  it "has no length but that of its chunks when the application names both (F-27)" do
    both = "{ 'Content-Length' => '14', 'transfer-encoding' => 'chunked' }"
    chunks = ["5\\r\\nhello\\r\\n", "0\\r\\n\\r\\n"]
    response = ask_at_gate("[200, #{both}, #{each("y << \"#{chunks[0]}\"; gate.pop; y << \"#{chunks[1]}\"")}]")
    expect([response["content-length"], response["transfer-encoding"], response.body]).to eq([nil, "chunked", "hello"])
    quick = "[200, #{both}, #{each("y << \"#{chunks.join}\"")}]"
    RawClient.open(server.port) do |client|
      expect(ask(quick, client: client).body).to eq("hello")
      expect(ask(quick, client: client, verb: "HEAD")["content-length"]).to be_nil
      expect(ask(quick, client: client).body).to eq("hello")
    end
    expect(server.log).not_to match(/corrected to the 5 bytes/)
  end

  it "is plain text where the application's word that it is chunked is not true (F-27)" do
    coded = "{ 'transfer-encoding' => 'chunked' }"
    ["'cafe'", "'ca', 'fe'", "'ca', 'fe', 'x'", "'cafe;a=', ' '", "\"5\\r\\n\""].each do |parts|
      plain = value_of("[#{parts}].join")
      expect(ask("[200, #{coded}, [#{parts}].each]").body).to eq(plain), parts
    end
  end

  it "is a 500 when its last chunk is missing and nothing was sent" do
    coded = "{ 'transfer-encoding' => 'chunked' }"
    server.log_after(/ends before its last chunk/) do
      response = ask_in_time("[200, #{coded}, [\"5\\r\\nhello\\r\\n\"].each]") do |client|
        expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
      end
      expect(response.status).to eq(500)
    end
    server.log_after(/ends before its last chunk/) do
      told = converse_at_gate("[200, #{coded}, #{each("y << \"5\\r\\nhello\\r\\n\"; gate.pop")}]", &:read_all)
      expect(told).to end_with("5\r\nhello\r\n")
    end
  end

  it "passes Rack::Lint" do
    linted = serve(Asking::APP, threads: 2, lint: true)
    RawClient.open(linted.port) do |client|
      2.times { expect(ask(body("y << 'one'; Thread.pass; y << 'two'"), client: client).body).to eq("onetwo") }
    end
  end

  it "is logged with the length that was sent when it is longer than declared" do
    logged = serve(Asking::APP, options: "log: true")
    code = "[200, text.merge('content-length' => '10'), Enumerator.new { |y| y << 'x' * 40_000 }]"
    logged.log_after(%r{"GET /cut HTTP/1\.1" 200 10b \d+ms}) do
      RawClient.open(logged.port) { |client| expect(ask(code, client: client, path: "/cut").body).to eq("x" * 10) }
    end
  end

  it "is logged with its length when it is whole" do
    logged = serve(Asking::APP, options: "log: true")
    logged.log_after(%r{"GET /long HTTP/1\.1" 200 6b \d+ms}) do
      RawClient.open(logged.port) do |client|
        ask("[200, {}, Enumerator.new { |y| y << 'one'; Thread.pass; y << 'two' }]", client: client, path: "/long")
      end
    end
  end
end
