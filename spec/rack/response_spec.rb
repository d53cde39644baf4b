# frozen_string_literal: true

# From what an application returns to what is on the wire: status, headers, framing, bodies.

RSpec.describe "responses" do
  serve_for_all(Asking::APP)

  # The application breaks a rule: the client gets a 500 and the log the reason.
  def expect_failure(code, reason, **request)
    response = nil
    added = server.log_after(reason) { response = ask(code, **request) }
    expect([response.status, response["content-type"], response.body])
      .to eq([500, "text/plain", "500 Internal Server Error"])
    expect(added).to match(/^ERROR: /)
    response
  end

  # All that the server sends on a connection that the request lets end.
  def wire(code, **request)
    RawClient.converse(server.port, request_for(code, **request), half_close: true)
  end

  describe "the status" do
    {
      200 => "OK", 201 => "Created", 226 => "IM Used", 299 => "", 302 => "Found", 404 => "Not Found",
      418 => "I'm a teapot",
      451 => "Unavailable For Legal Reasons", 499 => "", 503 => "Service Unavailable", 599 => "", 999 => ""
    }.each do |status, reason|
      it "F-25: #{status} goes out as it is" do
        response = ask("[#{status}, text, ['body']]")
        expect([response.status, response.reason, response.body]).to eq([status, reason, "body"])
      end
    end

    it "may be a String" do
      expect(ask("['404', text, []]").status).to eq(404)
      expect(ask("['404 Whatever', text, []]").status).to eq(404)
    end

    # Rack 2.2: it is what to_i makes of it.
    ["' 404'", "404.0", "404.9", "Rational(404)", "Struct.new(:to_i).new(404)", "'4_04'", "'+404'"].each do |status|
      it("may be #{status}") { expect(ask("[#{status}, text, []]").status).to eq(404) }
    end

    ["nil", ":ok", "[200]", "'abc'", "''", "0", "-1", "99", "1000", "10**30", "Object.new", "1000.0", "'-200'",
     "Struct.new(:to_i).new('x')"].each do |status|
      it("may not be #{status}") { expect_failure("[#{status}, text, ['body']]", /status/) }
    end

    # F-26: an interim answer of the application would be taken for the last one.
    %w[100 101 103 150].each do |status|
      it("may not be #{status}") { expect_failure("[#{status}, text, []]", /#{status} can not be the status/) }
    end
  end

  describe "what the application returns" do
    it "may be an Array of more, a subclass of Array, or frozen" do
      ["[200, text, ['body'], :more]", "Class.new(Array).new([200, text, ['body']])",
       "[200, text.freeze, ['body'.freeze].freeze].freeze"].each do |code|
        expect(ask(code).body).to eq("body"), code
      end
    end

    ["nil", "'text'", "42", "[]", "[200]", "[200, text]", "{}", "Object.new", "BasicObject.new",
     "Struct.new(:to_a).new([200, {}, []])"].each do |code|
      it("may not be #{code}") { expect_failure(code, /the application returned|caught an unprotected exception/) }
    end

    it "goes on on the same connection after a failure" do
      RawClient.open(server.port) do |client|
        3.times do
          expect(ask("nil", client: client).status).to eq(500)
          expect(ask("[200, text, ['ok']]", client: client).body).to eq("ok")
        end
      end
    end
  end

  describe "headers" do
    def headers_of(code, **request)
      response = ask("[200, #{code}, ['body']]", **request)
      expect(response.status).to eq(200)
      response.headers.reject { |name, _| %w[date content-length].include?(name) }
    end

    it "are sent in order, with names in lower case" do
      expect(headers_of('{ "X-B" => "1", "x-a" => "2", "ETag" => "W/\"3\"" }'))
        .to eq([%w[x-b 1], %w[x-a 2], ["etag", 'W/"3"']])
    end

    it "begin in several lines where the value has several" do
      expect(headers_of('{ "set-cookie" => "a=1\nb=2" }')).to eq([%w[set-cookie a=1], %w[set-cookie b=2]])
      expect(headers_of('{ "set-cookie" => ["a=1", "b=2\nc=3", nil] }'))
        .to eq([%w[set-cookie a=1], %w[set-cookie b=2], %w[set-cookie c=3]])
      expect(headers_of('{ "x-a" => [] }')).to eq([])
    end

    it "may be of the same name in two cases" do
      expect(headers_of('{ "X-A" => "1", "x-a" => "2" }')).to eq([%w[x-a 1], %w[x-a 2]])
    end

    it "F-37: may be empty, but not nil" do
      expect(headers_of('{ "x-a" => "", "x-b" => nil, nil => "x", "x-c" => "c" }')).to eq([["x-a", ""], %w[x-c c]])
    end

    it "may have names and values that are no Strings" do
      expect(headers_of("{ :'x-a' => 1, 'x-b' => :two, 'x-c' => 3.5 }")).to eq([%w[x-a 1], %w[x-b two], %w[x-c 3.5]])
    end

    it "keep bytes beyond ASCII" do
      expect(headers_of('{ "x-a" => "\u00e4\t!" }')).to eq([["x-a", "\u00e4\t!".b]])
    end

    it "may be any kind of Hash" do
      expect(headers_of("Class.new(Hash).new.merge('X-A' => '1')")).to eq([%w[x-a 1]])
      rack = "require 'rack'; (defined?(Rack::Headers) ? Rack::Headers : Rack::Utils::HeaderHash)['X-A' => '1']"
      expect(headers_of("begin; #{rack}; end")).to eq([%w[x-a 1]])
    end

    ["nil", "[['x-a', '1']]", "'x-a: 1'", "Object.new"].each do |code|
      it("may not be #{code}") { expect_failure("[200, #{code}, []]", /the headers are a/) }
    end

    # F-16: these could make a second response of one.
    {
      "a line end in a name" => '{ "X-A\r\nX-B" => "1" }', "a line feed in a name" => '{ "X-A\nX-B" => "1" }',
      "a blank in a name" => '{ "X A" => "1" }', "a colon in a name" => '{ "X:" => "1" }',
      "an empty name" => '{ "" => "1" }',
      "NUL in a name" => '{ "X\0" => "1" }', "a name beyond ASCII" => '{ "\u00e4" => "1" }',
      "CR in a value" => '{ "x-a" => "1\r2" }', "CR and LF in a value" => '{ "x-a" => "1\r\nx-b: 2" }',
      "NUL in a value" => '{ "x-a" => "1\0" }', "ESC in a value" => '{ "x-a" => "\e" }',
      "DEL in a value" => '{ "x-a" => "\x7f" }',
      "CR in one of several values" => '{ "x-a" => ["1", "2\r"] }',
      "CR in a value of ours" => '{ "content-length" => "1\r" }'
    }.each do |what, code|
      it "may not have #{what}" do
        code = "[200, { 'x-early' => '1' }.merge(#{code}), ['body']]"
        response = expect_failure(code, /not allowed|control character/)
        expect(response.headers.map(&:first)).to contain_exactly("content-type", "content-length", "date")
      end
    end

    it "F-37: do not go missing where to_s fails" do
      { "raise 'bad to_s'" => /bad to_s/, "1" => /TypeError/ }.each do |to_s, reason|
        value = "Object.new.tap { |object| object.define_singleton_method(:to_s) { #{to_s} } }"
        expect_failure("[200, { 'x-a' => #{value}, 'x-b' => '1' }, []]", reason)
      end
    end

    it "of the server's own kind are not sent" do
      expect(headers_of("{ 'rack.logger' => 'x', 'x-a' => '1' }")).to eq([%w[x-a 1]])
    end

    it "may change while they are looked at" do
      code = <<~RUBY
        headers = { "x-a" => "1" }
        nasty = Object.new
        nasty.define_singleton_method(:to_s) { (headers["x-b"] = "2") rescue nil; "3" }
        headers["x-c"] = nasty
        [200, headers, ["body"]]
      RUBY
      expect([200, 500]).to include(ask(code).status)
    end
  end

  describe "what the server adds" do
    it "is a content-length and a date, and no more" do
      began = Time.now
      response = ask("[200, {}, ['body']]")
      expect(response.headers.map(&:first)).to contain_exactly("content-length", "date")
      expect(response["date"]).to match(/\A[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\z/)
      require "time"
      expect(Time.httpdate(response["date"])).to be_between(began - 5, Time.now + 1)
    end

    it "is not the date when the application says one" do
      expect(ask("[200, { 'Date' => 'today' }, []]").all("date")).to eq(["today"])
    end

    it "F-27: is the right content-length when the application has a wrong one" do
      %w[3 5 -1 four 99999999999999999999].each do |wrong|
        server.log_after(/^WARNING: the content-length of an answer was corrected to the 4 bytes/) do
          response = ask("[200, { 'content-length' => '#{wrong}' }, ['body']]")
          expect([response.all("content-length"), response.body]).to eq([["4"], "body"])
        end
      end
      expect(ask("[200, { 'Content-Length' => 4 }, ['body']]").all("content-length")).to eq(["4"])
    end

    it "is a length of 0 for no body" do
      ["[]", "['']", "[].each", "['', '']"].each do |body|
        expect(ask("[200, text, #{body}]")["content-length"]).to eq("0"), body
      end
    end
  end

  describe "without a body (F-26)" do
    it "204 has neither body nor length" do
      text = wire("[204, { 'content-length' => '4', 'x-a' => '1' }, ['body']]")
      expect(text).to start_with("HTTP/1.1 204 No Content\r\nx-a: 1\r\n").and end_with("\r\n\r\n")
      expect(text).not_to include("content-length")
    end

    it "304 keeps the length that the application knows, and has none otherwise" do
      expect(wire("[304, { 'content-length' => '4', 'etag' => '\"x\"' }, []]"))
        .to include("content-length: 4\r\n").and end_with("\r\n\r\n")
      expect(wire("[304, {}, ['body']]")).not_to include("content-length")
    end

    it "205 has a length of 0" do
      expect(wire("[205, { 'content-length' => '4' }, ['body']]"))
        .to include("content-length: 0\r\n").and end_with("\r\n\r\n")
    end

    it "leaves the connection in order" do
      RawClient.open(server.port) do |client|
        [204, 304, 205].each do |status|
          expect(ask("[#{status}, {}, ['body']]", client: client).body).to eq("")
          expect(ask("[200, {}, ['next']]", client: client).body).to eq("next")
        end
      end
    end

    it "does not run each, but closes" do
      code = <<~RUBY
        body = Object.new
        def body.each = raise("not to be called")
        def body.close = $closed = true
        $closed = false
        [304, {}, body]
      RUBY
      expect(ask(code).status).to eq(304)
      expect(value_of("$closed")).to be(true)
    end
  end

  describe "to HEAD (F-21)" do
    it "has the headers that a GET would have had, and no body" do
      RawClient.open(server.port) do |client|
        { "['body']" => "4", "%w[a bc]" => "3", "'text'" => "4", "[]" => "0" }.each do |body, length|
          response = ask("[200, text, #{body}]", verb: "HEAD", client: client)
          expect([response.status, response["content-length"]]).to eq([200, length])
        end
        expect(client).to be_silent
        expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
      end
    end

    it "has the length that the application knows" do
      expect(ask("[200, { 'content-length' => '1234' }, []]", verb: "HEAD")["content-length"]).to eq("1234")
    end

    it "does not run each, but closes" do
      code = <<~RUBY
        body = Object.new
        def body.each = raise("not to be called")
        def body.close = $closed = true
        $closed = false
        [200, {}, body]
      RUBY
      expect(ask(code, verb: "HEAD").all("content-length")).to eq([])
      expect(value_of("$closed")).to be(true)
    end

    it "has no body in an error either" do
      RawClient.open(server.port) do |client|
        response = ask("raise 'x'", verb: "HEAD", client: client)
        expect([response.status, response["content-length"]]).to eq([500, "25"])
        expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
      end
    end
  end

  describe "persistence (F-38)" do
    it "is the client's to refuse" do
      text = wire("[200, { 'connection' => 'keep-alive' }, []]", headers: "Connection: close\r\n")
      expect(text.scan(/^connection: .*?\r$/)).to eq(["connection: close\r"])
      text = wire("[200, { 'Connection' => 'Keep-Alive' }, []]", version: "1.0")
      expect(text.scan(/^connection: .*?\r$/)).to eq(["connection: close\r"])
    end

    ["close", "Close", "x, close", "keep-alive, close"].each do |value|
      it "is the application's to refuse with #{value}" do
        RawClient.open(server.port) do |client|
          response = ask("[200, { 'Connection' => '#{value}' }, ['body']]", client: client)
          expect([response.all("connection").last, response.body]).to eq(%w[close body])
          expect(client).to be_closed_by_server
        end
      end
    end

    it "leaves other options of the application alone" do
      expect(ask("[200, { 'connection' => 'x-option, keep-alive' }, []]").all("connection")).to eq(["x-option"])
    end
  end

  describe "bodies" do
    {
      "[]" => "", "['a']" => "a", "['a', 'b', '']" => "ab", "'text'" => "text",
      "Class.new(Array).new(['a', 'b'])" => "ab",
      "['a', 'b'].each" => "ab", "[['a', 'b'].each]" => "ab", "StringIO.new(\"a\\nb\")" => "a\nb",
      "Class.new { def each; yield 'a'; yield 'b'; end }.new" => "ab",
      "Enumerator.new { |y| 3.times { |i| y << i.to_s } }" => "012",
      "['\u00e4', \"\\xFF\".b]" => "\xC3\xA4\xFF".b, "Struct.new(:each).new" => "",
      "Class.new(String).new('sub')" => "sub", "(1..3).lazy.map(&:to_s)" => "123",
      "['x' * 100_000, 'y' * 100_000]" => ("x" * 100_000) + ("y" * 100_000), "['z' * 3_000_000]" => "z" * 3_000_000
    }.each do |code, body|
      it "may be #{code}" do
        response = ask("[200, text, #{code}]")
        framing = [response["content-length"], response["transfer-encoding"]]
        expected = eq([body.bytesize.to_s, nil])
        # What comes from each is held back for a millisecond. On a busy machine it may have left without its length.
        expected = expected.or(eq([nil, "chunked"])) if code.match?(/each|Enumerator|StringIO|lazy/)
        expect(response.status).to eq(200)
        expect(framing).to expected
        expect(response.body == body).to be(true)
      end
    end

    ["nil", "42", ":a", "Object.new", "BasicObject.new", "[nil]", "[1]", "['a', :b]", "[1].each",
     "[nil, nil].each"].each do |code|
      it("may not be #{code}") { expect_failure("[200, text, #{code}]", /body|has no each|unprotected exception/) }
    end

    it "may be a File, which is closed" do
      code = "$file = File.open(#{__FILE__.inspect}); [200, text, $file]"
      expect(ask(code).body).to eq(File.binread(__FILE__))
      expect(value_of("$file.closed?")).to be(true)
    end

    it "are taken as they were when the application returned" do
      [10, 100, 40_000, 5_000_000].each do |size|
        code = <<~RUBY
          $kept = "a" * #{size}
          body = Class.new(Array) { def close; $kept.replace("b" * $kept.size); $kept << "c"; $kept.clear; end }
          [200, text, body.new([$kept])]
        RUBY
        expect(ask(code).body).to eq("a" * size)
      end
    end

    it "are not disturbed by what the next request does with them" do
      RawClient.open(server.port) do |client|
        client.write(request_for("$kept = 'a' * 8_000_000; [200, text, [$kept]]"))
        client.write(request_for("$kept.setbyte(7_999_999, 98); $kept << 'x'; GC.start; [200, text, ['done']]"))
        expect(client.read_response.body).to eq("a" * 8_000_000)
        expect(client.read_response.body).to eq("done")
      end
      expect(value_of("[$kept.size, $kept[-2..], $kept.frozen?]")).to eq([8_000_001, "bx", false])
    end

    it "F-30: that fail half-way are no success" do
      code = "[200, text, Class.new { def each; yield 'a'; raise 'half-way'; end }.new]"
      # What came first is held back for a millisecond. On a busy machine it may have left when the rest fails.
      status = nil
      server.log_after(/half-way/) do
        status = ask(code).status
      rescue EOFError
        status = :cut_off
      end
      expect(status).to eq(500).or eq(:cut_off)
    end
  end

  describe "chunked by the application (F-27)" do
    chunked = '"5\r\nhello\r\n0\r\n\r\n"'
    coded = "{ 'Transfer-Encoding' => 'chunked' }"

    it "goes out as it is when it is chunked" do
      response = ask("[200, #{coded}, [#{chunked}]]")
      expect([response["transfer-encoding"], response["content-length"]]).to eq(["chunked", nil])
      expect(response.body).to eq("hello")
    end

    it "may come from each" do
      expect(ask("[200, #{coded}, [\"5\\r\\nhello\\r\\n\", \"0\\r\\n\\r\\n\"].each]").body).to eq("hello")
    end

    it "is decoded for HTTP/1.0" do
      response = ask("[200, #{coded}, [#{chunked}]]", version: "1.0")
      expect([response["transfer-encoding"], response["content-length"], response.body]).to eq([nil, "5", "hello"])
    end

    it "is ignored where it is not true" do
      ["hello", "5\\r\\nhell", "5\\r\\nhello\\r\\n0\\r\\n\\r\\nmore"].each do |plain|
        response = ask("[200, #{coded}.merge('content-length' => '99'), [\"#{plain}\"]]")
        expect([response.all("transfer-encoding"), response.body]).to eq([[], plain.gsub("\\r\\n", "\r\n")])
      end
    end

    it "has no length for HEAD, and leaves the connection in order" do
      RawClient.open(server.port) do |client|
        expect(ask("[200, #{coded}, [#{chunked}]]", verb: "HEAD", client: client)["content-length"]).to be_nil
        expect(ask("[200, #{coded}, [#{chunked}]]", client: client).body).to eq("hello")
        expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
      end
    end
  end

  # F-29
  describe "close" do
    # A body that counts, made of `base` with the methods in `methods`.
    def counting(base, methods = "")
      <<~RUBY
        $calls = []
        klass = Class.new(#{base}) do
          def close; $calls << :close; end
          #{methods}
        end
      RUBY
    end

    {
      "a body with each" => ["Object", "def each; $calls << :each; yield 'a'; end", "klass.new"],
      "such a body in an Array" => ["Object", "def each; $calls << :each; yield 'a'; end", "[klass.new]"],
      "an empty Array" => ["Array", "", "klass.new"],
      "an Array of one" => ["Array", "", "klass.new(['a'])"],
      "an Array of several" => ["Array", "", "klass.new(%w[a b])"],
      "a String" => ["String", "", "klass.new('a')"],
      "a body that is no good" => ["Object", "", "klass.new"],
      "a body whose each raises" => ["Object", "def each; raise 'each'; end", "klass.new"],
      "a body whose each throws" => ["Object", "def each; throw :nowhere; end", "klass.new"],
      "a body whose each yields no String" => ["Object", "def each; yield 1; end", "klass.new"]
    }.each do |what, (base, methods, body)|
      ["[200, text, %s]", "[500, text, %s]", "[nil, text, %s]", "[200, nil, %s]", "[200, { 'a b' => 'x' }, %s]",
       "[204, {}, %s]"].each do |answer|
        it "is called once on #{what} in #{format(answer, "it")}" do
          ask(counting(base, methods) + format(answer, body))
          expect(value_of("$calls.count(:close)")).to eq(1)
        end
      end

      it "is called once on #{what} for HEAD" do
        ask(counting(base, methods) + "[200, text, #{body}]", verb: "HEAD")
        expect(value_of("$calls")).to eq([:close])
      end
    end

    it "comes after each, and may raise without harm" do
      methods = "def each; $calls << :each; yield 'a'; end; def close; $calls << :close; raise 'on closing'; end"
      response = nil
      server.log_after(/on closing/) { response = ask("#{counting("Object", methods)}[200, text, klass.new]") }
      expect([response.status, response.body, value_of("$calls")]).to eq([200, "a", %i[each close]])
    end

    it "may be private, missing, or undefined" do
      ["Class.new { def each; yield 'a'; end; private def close; raise; end }",
       "Class.new { def each; yield 'a'; end }",
       "Class.new(BasicObject) { def each; yield 'a'; end; def respond_to?(m, *) = m == :each }"].each do |body|
        expect(ask("[200, text, #{body}.new]").body).to eq("a")
      end
    end
  end
end
