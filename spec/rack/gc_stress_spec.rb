# frozen_string_literal: true

# A bit of everything that touches Ruby values on the way of a request. With IODINE_SPEC_GC_STRESS=1 the server collects
# garbage at every allocation meanwhile, so that a value nobody keeps alive does not live.

RSpec.describe "requests under GC.stress", :gc_stress do
  serve_for_all(Asking::APP, threads: 2, options: "log: true")

  it "have an env of known, unknown and repeated headers" do
    names = (1..5).map { |number| "X-Stress-#{number}" }
    headers = names.map { |name| "#{name}: #{name.downcase}\r\n" }.join +
              "Cookie: a=1\r\nCookie: b=2\r\nX-#{"long" * 30}: 1\r\nX-#{"long" * 30}: 2\r\nAccept: */*\r\nAccept: x\r\n"
    keys = names.map { |name| "HTTP_#{name.upcase.tr("-", "_")}" }
    keys.push("HTTP_COOKIE", "HTTP_ACCEPT", "HTTP_X_#{"LONG" * 30}")
    code = "[200, text, [env.values_at(*%w[#{keys.join(" ")}]).join('|'), env['PATH_INFO'] + env['QUERY_STRING']]]"
    2.times do
      told = ask(code, path: "/stress?a=b", headers: headers).body
      expect(told).to eq("#{names.map(&:downcase).join("|")}|a=1; b=2|*/*, x|1, 2/stressa=b")
    end
  end

  it "have a body in memory" do
    code = <<~RUBY
      io = env["rack.input"]
      first = io.gets
      rest = io.read(4, buffer = +"what was there")
      lines = []
      io.each { |line| lines << line }
      io.rewind
      [200, text, [first, rest, lines.join, io.read, io.gets.inspect]]
    RUBY
    body = "one\ntwo\nthree"
    2.times do
      told = ask(code, verb: "POST", headers: "Content-Length: #{body.bytesize}\r\n", body: body).body
      expect(told).to eq("one\ntwo\n#{body}#{body}nil")
    end
  end

  it "have a body in a file, or in chunks" do
    code = "io = env['rack.input']; [200, text, [io.gets, io.read(5), io.size.to_s]]"
    body = "first\nsecond#{"x" * 600_000}"
    expect(ask(code, verb: "POST", headers: "Content-Length: #{body.bytesize}\r\n", body: body).body)
      .to eq("first\nsecon600012")
    chunks = "6\r\nfirst\n\r\n6\r\nsecond\r\n0\r\n\r\n"
    expect(ask(code, verb: "POST", headers: "Transfer-Encoding: chunked\r\n", body: chunks).body)
      .to eq("first\nsecon12")
  end

  it "are answered with bodies of every kind" do
    {
      "%w[a b c]" => "abc", "'text'" => "text", "%w[a b].each" => "ab", "[%w[a b].each]" => "ab", "[]" => "",
      "Class.new { def each = 3.times { |i| yield(i.to_s * 2) } }.new" => "001122", "['x' * 50_000]" => "x" * 50_000,
      "['x' * 9, 'y' * 50_000]" => ("x" * 9) + ("y" * 50_000), "[('z' * 50_000) << 'end'].each" => "#{"z" * 50_000}end"
    }.each { |code, body| expect(ask("[200, text, #{code}]").body).to eq(body) }
  end

  it "are answered with large bodies that change behind the server's back" do
    code = <<~RUBY
      kept = "a" * 300_000
      body = Class.new(Array) { define_method(:close) { kept.replace("b" * 300_000) } }
      [200, text, body.new([kept])]
    RUBY
    2.times { expect(ask(code).body).to eq("a" * 300_000) }
  end

  it "are answered with headers of every kind" do
    value = "Object.new.tap { |object| def object.to_s = 'c' * 60 }"
    response = ask("[200, { 'x-a' => 1, :x_b => [:two, 3.5, nil, \"4\\n5\"], 'x-c' => #{value} }, []]")
    expect(%w[x-a x_b x-c].map { |name| response.all(name) }).to eq([%w[1], %w[two 3.5 4 5], ["c" * 60]])
  end

  it "are answered without a body, which is closed" do
    body = "Class.new { def each = raise; def close = $stderr.puts('closed ' + 'it') }.new"
    server.log_after(/closed it/) { expect(ask("[304, {}, #{body}]").status).to eq(304) }
    server.log_after(/closed it/) { expect(ask("[200, text, #{body}]", verb: "HEAD").status).to eq(200) }
  end

  it "fail, and are logged" do
    ["raise 'on purpose'", "[200, { 'a b' => 'c' }, []]", "nil", "[200, text, [1, 2]]",
     "raise Class.new(StandardError) { def message = nil }", "Thread.exit"].each do |code|
      expect(ask(code).status).to eq(500), code
    end
    expect(ask("[200, text, ['next']]").body).to eq("next")
  end

  it "are hijacked" do
    code = "io = env['rack.hijack'].call; io.write(env['rack.hijack_io'].class.name); io.close; [200, {}, []]"
    expect(RawClient.converse(server.port, request_for(code))).to eq("TCPSocket")
  end

  it "come one behind the other" do
    RawClient.open(server.port) do |client|
      requests = (1..6).map { |number| request_for("[200, text, ['#{number}', env['PATH_INFO']]]", path: "/#{number}") }
      client.write(requests.join)
      expect(Array.new(6) { client.read_response.body }).to eq((1..6).map { |number| "#{number}/#{number}" })
    end
  end
end
