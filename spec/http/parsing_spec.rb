# frozen_string_literal: true

# Request heads on the wire: what is understood, and what is refused with which status. Every request is sent once in
# one piece and once byte by byte; the answer must not change.

RSpec.describe "HTTP/1 request heads" do
  serve_for_all(<<~RUBY)
    ->(env) { [200, {}, [env.values_at("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL").join(" ")]] }
  RUBY

  def conversation(bytes, **options)
    RawClient.converse(server.port, bytes.b, **options)
  end

  def statuses(text)
    text.scan(%r{HTTP/1\.1 (\d{3}) }).flatten.map(&:to_i)
  end

  def expect_refusal(bytes, status)
    [false, true].each do |bytewise|
      text = conversation(bytes, bytewise: bytewise)
      expect(statuses(text)).to eq([status])
      expect(text).to match(/^connection: close\r$/).and match(%r{^content-type: text/plain\r$})
      expect(text.split("\r\n\r\n", 2).last).to start_with("#{status} ")
    end
  end

  describe "request lines that are understood" do
    {
      "GET / HTTP/1.1" => "GET /  HTTP/1.1",
      "GET / HTTP/1.0" => "GET /  HTTP/1.0",
      "get /a HTTP/1.1" => "get /a  HTTP/1.1", # the case of a method matters
      "FOO-BAR /a HTTP/1.1" => "FOO-BAR /a  HTTP/1.1",
      "M!#$%&'*+-.^_`|~9 /a HTTP/1.1" => "M!#$%&'*+-.^_`|~9 /a  HTTP/1.1",
      "HTTPS /a HTTP/1.1" => "HTTPS /a  HTTP/1.1", # 0.7 took it for a response
      "GET /a%20b%00/../c//d HTTP/1.1" => "GET /a%20b%00/../c//d  HTTP/1.1", # nothing is decoded
      "GET /a?b=c&d=%20?e HTTP/1.1" => "GET /a b=c&d=%20?e HTTP/1.1",
      "GET /a? HTTP/1.1" => "GET /a  HTTP/1.1",
      "GET /|{}\"<>^` HTTP/1.1" => "GET /|{}\"<>^`  HTTP/1.1",
      "GET /\xC3\xA4 HTTP/1.1" => "GET /\xC3\xA4  HTTP/1.1",
      "GET //evil.example/a HTTP/1.1" => "GET //evil.example/a  HTTP/1.1",
      "GET http://h.example:81/a?b HTTP/1.1" => "GET /a b HTTP/1.1",
      "GET HTTPS://h.example HTTP/1.1" => "GET /  HTTP/1.1",
      "GET http://h.example?a=/1 HTTP/1.1" => "GET / a=/1 HTTP/1.1",
      "OPTIONS * HTTP/1.1" => "OPTIONS *  HTTP/1.1",
      "\r\n\r\nGET /a HTTP/1.1" => "GET /a  HTTP/1.1" # RFC 9112 section 2.2
    }.each do |line, told|
      it line.inspect do
        [false, true].each do |bytewise|
          text = conversation("#{line}\r\nHost: x\r\n\r\n", bytewise: bytewise, half_close: true)
          expect(statuses(text)).to eq([200])
          expect(text.split("\r\n\r\n", 2).last).to eq(told.b)
        end
      end
    end

    it "F-39: HTTP/1.0 without a Host line" do
      expect(statuses(conversation("GET / HTTP/1.0\r\n\r\n"))).to eq([200])
    end
  end

  describe "request lines that are refused" do
    {
      "BAD" => 400, # F-40: 0.7 closed all of these without a word
      "GET" => 400,
      "GET /" => 400, # HTTP/0.9
      "GET / " => 400,
      "GET  / HTTP/1.1" => 400,
      "GET /  HTTP/1.1" => 400,
      "GET / HTTP/1.1 " => 400,
      "GET / x HTTP/1.1" => 400,
      "GET\t/\tHTTP/1.1" => 400,
      " GET / HTTP/1.1" => 400,
      "\nGET / HTTP/1.1" => 400,
      "\0GET / HTTP/1.1" => 400,
      "G@T(x) / HTTP/1.1" => 400,
      "\x16\x03\x01\x02\x00\x01\x00" => 400, # TLS on a plain port
      "\x80GET / HTTP/1.1" => 400,
      "GET / FOOBAR" => 400, # F-39
      "GET / http/1.1" => 400,
      "GET / HTTP/1.10" => 400,
      "GET / HTTP/11" => 400,
      "GET / HTTP/1.2" => 505,
      "GET / HTTP/2.0" => 505,
      "GET / HTTP/9.9" => 505,
      "PRI * HTTP/2.0" => 505,
      "GET /a#b HTTP/1.1" => 400,
      "GET -private/secret.txt HTTP/1.1" => 400, # F-02
      "GET * HTTP/1.1" => 400,
      "GET x:80 HTTP/1.1" => 400,
      "GET ftp://x/ HTTP/1.1" => 400,
      "GET http:// HTTP/1.1" => 400,
      "GET http://user:pw@x/ HTTP/1.1" => 400,
      "GET http://x:port/ HTTP/1.1" => 400,
      "GET /a\0b HTTP/1.1" => 400,
      "GET /a\rb HTTP/1.1" => 400,
      "GET /a\x7Fb HTTP/1.1" => 400,
      "GET /a\eb HTTP/1.1" => 400,
      "CONNECT x:80 HTTP/1.1" => 501
    }.each do |line, status|
      it("#{line.b.inspect}: #{status}") { expect_refusal("#{line}\r\nHost: x\r\n\r\n", status) }
    end
  end

  describe "header lines that are refused (F-17)" do
    {
      "a bare LF behind the request line" => "GET / HTTP/1.1\nHost: x\r\n\r\n",
      "a bare LF behind a header" => "GET / HTTP/1.1\r\nHost: x\n\r\n",
      "a bare LF as the last line" => "GET / HTTP/1.1\r\nHost: x\r\n\n",
      "a bare LF within a value" => "GET / HTTP/1.1\r\nHost: x\r\nA: b\nc\r\n\r\n",
      "a bare CR in a value" => "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
      "a bare CR in front of the line end" => "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n",
      "NUL in a value" => "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
      "ESC in a value" => "GET / HTTP/1.1\r\nHost: x\r\nA: b\ec\r\n\r\n",
      "DEL in a value" => "GET / HTTP/1.1\r\nHost: x\r\nA: b\x7Fc\r\n\r\n",
      "NUL in a name" => "GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
      "a blank in a name" => "GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n",
      "a blank before the colon" => "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
      "a tab before the colon" => "GET / HTTP/1.1\r\nHost: x\r\nA\t: b\r\n\r\n",
      "a separator in a name" => "GET / HTTP/1.1\r\nHost: x\r\nA(B): c\r\n\r\n",
      "a high byte in a name" => "GET / HTTP/1.1\r\nHost: x\r\nA\xE4: b\r\n\r\n",
      "an empty name" => "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
      "no colon" => "GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
      "a folded line" => "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
      "a folded line with a colon" => "GET / HTTP/1.1\r\nHost: x\r\nX: 1\r\n two: 3\r\n\r\n",
      "a folded line behind the request line" => "GET / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n",
      "a line of one tab" => "GET / HTTP/1.1\r\nHost: x\r\n\t\r\n\r\n",
      "no Host" => "GET / HTTP/1.1\r\nA: b\r\n\r\n",
      "an empty Host" => "GET / HTTP/1.1\r\nHost:\r\n\r\n",
      "two Hosts" => "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
      "two Hosts on HTTP/1.0" => "GET / HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n",
      "a Host with a path" => "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
      "a Host with a blank" => "GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
      "a list of Hosts" => "GET / HTTP/1.1\r\nHost: x, y\r\n\r\n",
      "a Host with user information" => "GET / HTTP/1.1\r\nHost: u@x\r\n\r\n",
      "a Host with a bad port" => "GET / HTTP/1.1\r\nHost: x:65536\r\n\r\n",
      "a Host that is half an IPv6 address" => "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"
    }.each do |what, bytes|
      it(what) { expect_refusal(bytes, 400) }
    end
  end

  describe "header lines that are understood" do
    [
      "host:x\r\n",
      "HOST: \t x \t \r\n",
      "Host: [::1]:4001\r\n",
      "Host: x\r\nA:\r\n",
      "Host: x\r\nA: \xE4\t~\r\n",
      "Host: x\r\n!#$%&'*+-.^_`|~: b\r\n"
    ].each do |lines|
      it lines.b.inspect do
        [false, true].each do |bytewise|
          text = conversation("GET / HTTP/1.1\r\n#{lines}\r\n", bytewise: bytewise, half_close: true)
          expect(statuses(text)).to eq([200])
        end
      end
    end
  end

  # Cut where 0.7 lost its place.
  describe "requests in two pieces" do
    get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"

    it "F-05: the last LF of the second request in a segment of its own" do
      RawClient.open(server.port) do |client|
        client.write(get)
        expect(client.read_response.body).to eq("GET /a  HTTP/1.1")
        client.write_pieces(get[..-2], get[-1] + get)
        expect(Array.new(2) { client.read_response.body }).to eq(["GET /a  HTTP/1.1"] * 2)
      end
    end

    (1...get.bytesize).each_slice(9) do |cuts|
      it "cut at #{cuts.first} to #{cuts.last}, on one connection" do
        RawClient.open(server.port) do |client|
          cuts.each do |cut|
            client.write_pieces(get[0...cut], get[cut..], pause: 0.005)
            expect(client.read_response.body).to eq("GET /a  HTTP/1.1")
          end
        end
      end
    end

    it "with the blank line cut, and the next request behind it" do
      RawClient.open(server.port) do |client|
        client.write_pieces(get[..-4], "\n", "\r", "\n#{get[..-2]}", "\n")
        expect(Array.new(2) { client.read_response.status }).to eq([200, 200])
        expect(client).to be_silent
      end
    end
  end

  it "refuses what follows a good request, after answering that" do
    text = conversation("GET /a HTTP/1.1\r\nHost: x\r\n\r\nBAD\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    expect(statuses(text)).to eq([200, 400])
    expect(text).to include("GET /a").and end_with("400 Bad Request")
  end
end
