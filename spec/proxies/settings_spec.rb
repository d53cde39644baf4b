# frozen_string_literal: true

# How proxies are told of: keywords, defaults, flags and variables.

require "iodine"

RSpec.describe "settings of proxies" do
  def options(**settings)
    Iodine::Base::Proxies.options(settings)
  end

  it "trust nobody and expect nothing, unless told" do
    expect(options).to eq(trusted_proxies: [], proxy_protocol: false, underscore_headers: false)
    expect(options(trusted_proxies: false, proxy_protocol: false)).to eq(options)
    expect(options(trusted_proxies: " ")).to eq(options)
  end

  it "take addresses and networks in an Array, or in a String" do
    {
      "10.0.0.0/8" => %w[10.0.0.0/8],
      "10.0.0.0/8, ::1 unix" => %w[10.0.0.0/8 ::1 unix],
      ["10.0.0.0/8", "::1,fd00::/8", :unix] => %w[10.0.0.0/8 ::1 fd00::/8 unix],
      :all => %w[all],
      [:all] => %w[all]
    }.each { |given, list| expect(options(trusted_proxies: given)[:trusted_proxies]).to eq(list), given.inspect }
  end

  [1, Object, :everybody, [nil], { "a" => 1 }, true].each do |bad|
    it "refuse #{bad.inspect} for a list" do
      expect { options(trusted_proxies: bad) }.to raise_error(ArgumentError, /\Atrusted_proxies: .* is neither :all nor/)
    end
  end

  it "refuse switches that are neither on nor off" do
    expect { options(proxy_protocol: "false") }
      .to raise_error(ArgumentError, 'proxy_protocol must be true or false, not "false"')
    expect { options(underscore_headers: 1) }.to raise_error(ArgumentError, "underscore_headers must be true or false, not 1")
  end

  it "refuse what is no network by its name, before anything is bound" do
    %w[localhost 10.0.0.0/33 10.0.0 [::1] 127.0.0.1:80].each do |bad|
      expect { Iodine.listen(service: :http, port: 0, handler: -> {}, trusted_proxies: ["::1", bad]) }
        .to raise_error(ArgumentError, "trusted_proxies: #{bad.inspect} is neither an IP address nor a network such as 10.0.0.0/8")
    end
    expect(Iodine.listeners).to eq([])
  end

  app = '->(env) { [200, text, [env["REMOTE_ADDR"]]] }'

  def answer(server, before = "")
    bytes = "#{before}GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n"
    RawClient.converse(server.port, bytes).split("\r\n\r\n", 2).last
  end

  it "come from DEFAULT_SETTINGS, where a listener says nothing else" do
    before = 'Iodine::DEFAULT_SETTINGS[:trusted_proxies] = "127.0.0.0/8"'
    expect(answer(serve(app, before: before))).to eq("203.0.113.7")
    expect(answer(serve(app, before: before, options: "trusted_proxies: []"))).to eq("127.0.0.1")
  end

  it "come from variables" do
    server = serve(app, env: { "IODINE_TRUSTED_PROXIES" => "127.0.0.1, 192.0.2.0/24", "IODINE_PROXY_PROTOCOL" => "1" })
    expect(answer(server, "PROXY TCP4 192.0.2.1 ::1 1 2\r\n".sub("::1", "192.0.2.2"))).to eq("203.0.113.7")
    expect(answer(serve(app, env: { "IODINE_PROXY_PROTOCOL" => "off" }))).to eq("127.0.0.1")
    server = serve(app, env: { "IODINE_PROXY_PROTOCOL" => "maybe" })
    expect(server.log).to include("WARNING: the environment variable IODINE_PROXY_PROTOCOL=maybe is ignored: 1 or 0 is needed.")
  end

  it "come from flags, which do not get in the way of -p and -t" do
    typed = Iodine::Base::CLI::Parser.parse(
      %w[-trusted-proxies=10.0.0.0/8,unix -proxy-protocol -underscore-headers -p3001 -t4]
    )
    expect(typed.values).to eq("trusted-proxies" => "10.0.0.0/8,unix", "proxy-protocol" => true,
                               "underscore-headers" => true, "port" => 3001, "threads" => 4)
    settings = %w[trusted-proxies proxy-protocol underscore-headers].map do |name|
      Iodine::Base::CLI::OPTIONS.find { |option| option.name == name }.setting
    end
    expect(settings).to eq(Iodine::Base::Proxies::SETTINGS)
  end
end
