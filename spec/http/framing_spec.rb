# frozen_string_literal: true

# Where a request ends: Content-Length, Transfer-Encoding and chunks on the wire. What is not clear is refused, and what
# stands behind it never becomes a request.

RSpec.describe "HTTP/1 request framing" do
  serve_for_all(<<~RUBY)
    lambda do |env|
      told = env.values_at("REQUEST_METHOD", "PATH_INFO", "CONTENT_LENGTH") << env["rack.input"].read
      [200, {}, ["<\#{told.join(" ")}>"]]
    end
  RUBY

  # A request that must not be taken for one.
  smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

  def statuses(text)
    text.scan(%r{HTTP/1\.1 (\d{3}) }).flatten.map(&:to_i)
  end

  def converse(bytes, **options)
    RawClient.converse(server.port, bytes.b, **options)
  end

  def post(headers, body = "", version: "1.1")
    "POST / HTTP/#{version}\r\nHost: x\r\n#{headers}\r\n\r\n#{body}"
  end

  def expect_refusal(bytes, status)
    [false, true].each do |bytewise|
      text = converse(bytes, bytewise: bytewise)
      expect(statuses(text)).to eq([status])
      expect(text).to match(/^connection: close\r$/)
      expect(text).not_to include("smuggled")
    end
  end

  # One answer with this body, and the one to a request behind it.
  def expect_body(bytes, told)
    [false, true].each do |bytewise|
      text = converse("#{bytes}GET /next HTTP/1.1\r\nHost: x\r\n\r\n", bytewise: bytewise, half_close: true)
      expect(statuses(text)).to eq([200, 200])
      expect(text.scan(/<.*?>/m)).to eq(["<POST / #{told}>".b, "<GET /next  >"])
    end
  end

  describe "Content-Length (F-10)" do
    {
      "0" => ["", "0 "], "5" => %w[hello], "005" => ["hello", "005 hello"], "\t5 " => ["hello", "5 hello"]
    }.each do |value, (body, told)|
      it("takes #{value.inspect}") { expect_body(post("Content-Length: #{value}", body), told || "#{value} #{body}") }
    end

    ["-5", "+5", "--5", "5x", "5,5", "5, 5", "0x5", "5.0", "5 5", "abc", ""].each do |value|
      it("refuses #{value.inspect}") { expect_refusal(post("Content-Length: #{value}", "hello#{smuggled}"), 400) }
    end

    %w[5 6].each do |second|
      it "refuses a second one of #{second}" do
        expect_refusal(post("Content-Length: 5\r\nContent-Length: #{second}", "hello#{smuggled}"), 400)
      end
    end

    %w[52428801 18446744073709551615 18446744073709551616 99999999999999999999999999].each do |value|
      it("answers #{value} with 413") { expect_refusal(post("Content-Length: #{value}"), 413) }
    end

    it "is taken for a body of other methods, too" do
      text = converse("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", half_close: true)
      expect(text).to end_with("<GET / 5 hello>")
    end
  end

  describe "Transfer-Encoding" do
    chunked = "5\r\nhello\r\n0\r\n\r\n"

    %w[chunked Chunked CHUNKED].each do |coding|
      it("takes #{coding}") { expect_body(post("Transfer-Encoding: #{coding}", chunked), "5 hello") }
    end

    it("takes chunked between blanks") { expect_body(post("Transfer-Encoding: \t chunked \t", chunked), "5 hello") }

    # F-11, F-12
    {
      "xchunked" => 400, "chunked, chunked" => 400, "chunked, gzip" => 400, "chunked;x" => 400, "chunked;a=b" => 400,
      "\"chunked\"" => 400, "x" => 400, "identity" => 400, "" => 400, "gzip, chunked" => 501,
      "gzip,deflate , chunked" => 501
    }.each do |coding, status|
      it("answers #{coding.inspect} with #{status}") do
        expect_refusal(post("Transfer-Encoding: #{coding}", "0\r\n\r\n#{smuggled}"), status)
      end
    end

    it "reads several lines as one list" do
      expect_refusal(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n#{smuggled}"), 400)
      expect_refusal(post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "0\r\n\r\n#{smuggled}"), 501)
    end

    it "F-09: goes with no Content-Length, in either order" do
      lines = ["Content-Length: 4", "Transfer-Encoding: chunked"]
      body = "1a\r\n#{smuggled}\r\n0\r\n\r\n"
      expect_refusal(post(lines.join("\r\n"), body), 400)
      expect_refusal(post(lines.reverse.join("\r\n"), body), 400)
      expect_refusal(post("Content-Length: 0\r\nTransfer-Encoding: xchunked", "0\r\n\r\n#{smuggled}"), 400)
    end

    it "is not for HTTP/1.0" do
      expect_refusal(post("Transfer-Encoding: chunked", chunked, version: "1.0"), 400)
    end
  end

  describe "chunks" do
    {
      "one" => ["5\r\nhello\r\n0\r\n\r\n", "5 hello"],
      "several" => ["1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "5 hello"],
      "none (F-28)" => ["0\r\n\r\n", "0 "],
      "leading zeros" => ["0005\r\nhello\r\n000\r\n\r\n", "5 hello"],
      "hex in both cases" => ["a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", "21 01234567890123456789a"],
      "line ends as data" => ["4\r\n\r\n\r\n\r\n0\r\n\r\n", "4 \r\n\r\n"],
      "an extension (F-45)" => ["5;x=y\r\nhello\r\n0;last\r\n\r\n", "5 hello"],
      "a quoted extension" => [%(5 ; x="a;\\"\t b" ;y\r\nhello\r\n0\r\n\r\n), "5 hello"],
      "blanks behind the size" => ["5 \t\r\nhello\r\n0 \r\n\r\n", "5 hello"],
      "trailers" => ["5\r\nhello\r\n0\r\nX-A: b\r\nC:\r\n\r\n", "5 hello"]
    }.each do |what, (body, told)|
      it("may be #{what}") { expect_body(post("Transfer-Encoding: chunked", body), told) }
    end

    {
      "a size with a sign" => "+5\r\nhello\r\n0\r\n\r\n",
      "a negative size" => "-5\r\nhello\r\n0\r\n\r\n",
      "a size with a prefix" => "0x5\r\nhello\r\n0\r\n\r\n",
      "no size" => "\r\nhello\r\n0\r\n\r\n",
      "an extension without a size" => ";x=y\r\nhello\r\n0\r\n\r\n",
      "a size that is none" => "five\r\nhello\r\n0\r\n\r\n",
      "a size of 17 digits" => "00000000000000005\r\nhello\r\n0\r\n\r\n",
      "a bare LF behind the size" => "5\nhello\r\n0\r\n\r\n",
      "a bare CR behind the size" => "5\rhello\r\n0\r\n\r\n",
      "a bare LF in an extension" => "5;x\nhello\r\n0\r\n\r\n",
      "a control byte in an extension" => "5;x=\x01\r\nhello\r\n0\r\n\r\n",
      "no line end behind the data" => "5\r\nhello0\r\n\r\n",
      "too much data" => "5\r\nhello!\r\n0\r\n\r\n",
      "a bare LF behind the data" => "5\r\nhello\n0\r\n\r\n",
      "a bare LF at the end" => "5\r\nhello\r\n0\r\n\n",
      "a trailer without a colon" => "0\r\nnonsense\r\n\r\n",
      "a trailer with a blank before its colon" => "0\r\nX : y\r\n\r\n",
      "a folded trailer" => "0\r\nX: y\r\n z\r\n\r\n",
      "a trailer with a bare LF" => "0\r\nX: y\n\r\n"
    }.each do |what, body|
      it("may not be #{what}") { expect_refusal(post("Transfer-Encoding: chunked", body + smuggled), 400) }
    end

    %w[fffffffffffffff0 ffffffffffffffff 8000000000000000 7fffffffffffffff 3200001].each do |size|
      it("F-15: a size of #{size} is answered with 413") do
        expect_refusal(post("Transfer-Encoding: chunked", "#{size}\r\nhi"), 413)
      end
    end

    it "may not have an endless size line" do
      expect_refusal(post("Transfer-Encoding: chunked", "5;#{"x" * 5000}\r\nhello\r\n0\r\n\r\n"), 400)
    end

    it "may not carry more extension than data" do
      text = converse(post("Transfer-Encoding: chunked", "1;#{"x" * 4000}\r\nh\r\n" * 100 + "0\r\n\r\n"))
      expect(statuses(text)).to eq([400])
    end
  end

  describe "trailers (F-13)" do
    serve_for_all(<<~RUBY)
      ->(env) { [200, {}, [env.values_at("HTTP_HOST", "HTTP_COOKIE", "HTTP_X_A", "HTTP_TRANSFER_ENCODING").inspect]] }
    RUBY

    ["", "5\r\nhello\r\n"].each do |data|
      it "never become headers#{" of an empty body" if data.empty?}" do
        trailers = "Host: evil\r\nCookie: a=b\r\nX-A: c\r\nTransfer-Encoding: chunked\r\nContent-Length: 3"
        text = converse(post("Transfer-Encoding: chunked", "#{data}0\r\n#{trailers}\r\n\r\n"), half_close: true)
        expect(statuses(text)).to eq([200])
        expect(text).to end_with('["x", nil, nil, nil]')
      end
    end
  end

  it "F-06: a head cut between CR and LF, and its body" do
    head = post("Content-Length: 4")
    RawClient.open(server.port) do |client|
      client.write_pieces(head[..-2], "\nabcd#{head[..-2]}", "\n", "ab", "cd")
      expect(Array.new(2) { client.read_response.body }).to eq(["<POST / 4 abcd>"] * 2)
      expect(client).to be_silent
    end
  end

  it "takes a chunked request cut anywhere" do
    bytes = post("Transfer-Encoding: chunked", "3;x=\"y\"\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n")
    RawClient.open(server.port) do |client|
      (1...bytes.bytesize).each do |cut|
        client.write_pieces(bytes[0...cut], bytes[cut..], pause: 0.003)
        expect(client.read_response.body).to eq("<POST / 5 abcde>")
      end
    end
  end

  it "does not call the application for a body that never ends" do
    expect(converse(post("Content-Length: 5", "hell"), half_close: true)).to eq("")
    expect(converse(post("Transfer-Encoding: chunked", "5\r\nhello\r\n"), half_close: true)).to eq("")
  end
end
