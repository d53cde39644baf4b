# frozen_string_literal: true

# What proxies say of the client, the scheme and the host: from those that are trusted it counts, from nobody else.

require "rack"
require "tmpdir"

RSpec.describe "X-Forwarded headers" do
  app = <<~RUBY
    lambda do |env|
      [200, text, [Marshal.dump(env.select { |_, value| value.is_a?(String) }.transform_values(&:b))]]
    end
  RUBY

  def env_for(*lines, host: "own.example", port: server.port)
    RawClient.open(port) { |client| env_over(client, *lines, host: host) }
  end

  def env_over(client, *lines, host: "own.example")
    client.write("GET / HTTP/1.1\r\nHost: #{host}\r\n#{lines.map { |line| "#{line}\r\n" }.join}\r\n")
    Marshal.load(client.read_response.body)
  end

  # What the server derives, as one line.
  def derived(*lines, **options)
    env_for(*lines, **options).values_at("REMOTE_ADDR", "rack.url_scheme", "SERVER_NAME", "SERVER_PORT").join(" ")
  end

  chain = "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.1"
  spoof = [chain, "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example:1", "X-Forwarded-Port: 2",
           "Forwarded: for=6.6.6.7;proto=https;host=evil.example"]

  describe "by default, where nobody is trusted" do
    serve_for_all(app, lint: true)

    it "change nothing of what the server derives" do
      expect(derived(*spoof)).to eq("127.0.0.1 http own.example 80")
      spoof.each { |line| expect(derived(line)).to eq("127.0.0.1 http own.example 80"), line }
    end

    it "stay in the env as what they are" do
      expect(env_for(*spoof)).to include(
        "HTTP_X_FORWARDED_FOR" => "6.6.6.6, 203.0.113.7, 10.0.0.1", "HTTP_X_FORWARDED_PROTO" => "https",
        "HTTP_X_FORWARDED_HOST" => "evil.example:1", "HTTP_X_FORWARDED_PORT" => "2",
        "HTTP_FORWARDED" => "for=6.6.6.7;proto=https;host=evil.example", "HTTP_HOST" => "own.example"
      )
    end

    it "F-18: can not be passed by way of an underscore or of Proxy" do
      env = env_for("X_Forwarded_For: 6.6.6.6", "X_Own: 1", "Proxy: http://evil.example", "Proxy_: 2")
      expect(env.keys & %w[HTTP_X_FORWARDED_FOR HTTP_X_OWN HTTP_PROXY HTTP_PROXY_]).to eq([])
    end
  end

  describe "from a peer that is not on the list" do
    serve_for_all(app, options: 'trusted_proxies: ["10.0.0.0/8", "::1", "unix"]')

    it "change nothing" do
      expect(derived(*spoof)).to eq("127.0.0.1 http own.example 80")
    end
  end

  describe "from a trusted peer" do
    serve_for_all(app, lint: true, options: 'trusted_proxies: ["127.0.0.1", "10.0.0.0/8"]')

    {
      [] => "127.0.0.1 http own.example 80",
      [chain] => "203.0.113.7 http own.example 80",
      ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.0.0.2,10.0.0.1"] => "203.0.113.7 http own.example 80",
      ["X-Forwarded-For: 6.6.6.6, [2001:db8::7]:4711"] => "2001:db8::7 http own.example 80",
      ["X-Forwarded-For: 10.0.0.2, 10.0.0.1"] => "10.0.0.2 http own.example 80",
      ["X-Forwarded-For: 6.6.6.6, unknown"] => "127.0.0.1 http own.example 80",
      ["X-Forwarded-For: nonsense"] => "127.0.0.1 http own.example 80",
      ["X-Forwarded-Proto: https"] => "127.0.0.1 https own.example 443", # F-22
      [chain, "X-Forwarded-Proto: http, https, http"] => "203.0.113.7 https own.example 443",
      ["X-Forwarded-Host: shop.example"] => "127.0.0.1 http shop.example 80",
      ["X-Forwarded-Host: shop.example", "X-Forwarded-Proto: https"] => "127.0.0.1 https shop.example 443",
      ["X-Forwarded-Host: shop.example:8443", "X-Forwarded-Port: 443"] => "127.0.0.1 http shop.example 8443",
      ["X-Forwarded-Host: [::1]", "X-Forwarded-Port: 8080"] => "127.0.0.1 http [::1] 8080",
      ["X-Forwarded-Port: 8443", "X-Forwarded-Proto: https"] => "127.0.0.1 https own.example 8443",
      ["X-Forwarded-Host: a b", "X-Forwarded-Port: x"] => "127.0.0.1 http own.example 80",
      ['Forwarded: for=6.6.6.6, for="[2001:db8::7]:4711";proto=https;host="shop.example:8443", for=10.0.0.1'] =>
        "2001:db8::7 https shop.example 8443",
      ["Forwarded: for=203.0.113.7;proto=https"] => "203.0.113.7 https own.example 443",
      ["Forwarded: for=\", for=203.0.113.7;host=\"shop.example\""] => "127.0.0.1 http own.example 80",
      ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=6.6.6.6;proto=https;host=evil"] => "203.0.113.7 http own.example 80"
    }.each do |lines, expected|
      it("derive #{expected} from #{lines.join("; ").inspect}") { expect(derived(*lines)).to eq(expected) }
    end

    it "name a port that goes before the one of Host, which may be the proxy's choice" do
      expect(derived("X-Forwarded-Port: 443", "X-Forwarded-Proto: https", host: "own.example:3000"))
        .to eq("127.0.0.1 https own.example 443")
      expect(derived("X-Forwarded-Proto: https", host: "own.example:3000")).to eq("127.0.0.1 https own.example 3000")
    end

    it "count for one request and not for the next on the connection" do
      RawClient.open(server.port) do |client|
        expect(env_over(client, chain, "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example"))
          .to include("REMOTE_ADDR" => "203.0.113.7", "rack.url_scheme" => "https", "SERVER_NAME" => "shop.example")
        expect(env_over(client))
          .to include("REMOTE_ADDR" => "127.0.0.1", "rack.url_scheme" => "http", "SERVER_NAME" => "own.example")
      end
    end

    it "come to the same for Rack, which reads them itself" do
      request = Rack::Request.new(env_for(chain, "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example"))
      expect([request.ip, request.scheme, request.host, request.port, request.base_url])
        .to eq(["203.0.113.7", "https", "shop.example", 443, "https://shop.example"])
    end
  end

  describe "where everybody is trusted" do
    serve_for_all(app, options: "trusted_proxies: :all")

    it "count as they did in 0.7, and the furthest is the client" do
      expect(derived(chain)).to eq("6.6.6.6 http own.example 80")
      expect(derived("Forwarded: for=6.6.6.6;proto=https, for=10.0.0.1")).to eq("6.6.6.6 https own.example 443")
      expect(derived(chain, "Forwarded: proto=https")).to eq("6.6.6.6 https own.example 443")
    end
  end

  it "come over Unix sockets, too, if those are on the list" do
    Dir.mktmpdir do |folder|
      { "yes" => "unix", "no" => "127.0.0.1" }.each do |name, trusted|
        path = File.join(folder, name)
        serve(app, address: path, options: "trusted_proxies: #{trusted.inspect}")
        told = RawClient.open_unix(path) { |client| env_over(client, "X-Forwarded-For: 203.0.113.7, unix:") }
        expect(told["REMOTE_ADDR"]).to eq(name == "yes" ? "203.0.113.7" : path)
      end
    end
  end

  it "come over IPv6, and from IPv4 peers of a socket for both" do
    begin
      TCPServer.new("::1", 0).close
    rescue SystemCallError
      skip "this machine has no IPv6"
    end
    server = serve(app, address: "::", options: 'trusted_proxies: "::1"')
    line = "X-Forwarded-For: 203.0.113.7"
    told = %w[::1 127.0.0.1].map do |host|
      RawClient.open(server.port, host: host) { |client| env_over(client, line)["REMOTE_ADDR"] }
    end
    expect(told).to eq(%w[203.0.113.7 127.0.0.1])
  end
end
