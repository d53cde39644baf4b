# frozen_string_literal: true

# What an engine for Redis is made of: URLs, keywords, flags and variables.

require "iodine"
require "open3"
require_relative "../support/cluster"
require_relative "../support/redis_server"
require_relative "../support/command"
require_relative "../support/ruby_script"

RSpec.describe "an engine for Redis" do
  include RubyScript
  include WithRedis
  include ClusterAsking

  # Several in one process: each is refused, or says where it goes.
  def addresses_of(*urls, more: "")
    output_of(<<~RUBY).lines.map(&:chomp)
      $stderr.reopen(File::NULL)
      #{urls}.each do |url|
        engine = Iodine::PubSub::Redis.new(url#{more})
        address = engine.instance_variable_get(:@address)
        p [address.settings, address.credentials]
      rescue StandardError => error
        puts "\#{error.class}: \#{error.message}"
      end
    RUBY
  end

  local = { service: "tcp", address: "localhost", port: 6379 }

  {
    "redis://localhost:6379" => [local, nil], "redis://localhost" => [local, nil], "redis://localhost/" => [local, nil],
    "redis://localhost:6379/0" => [local, nil], "localhost:6379" => [local, nil], "localhost" => [local, nil], "" => [local, nil],
    "redis://" => [local, nil], "REDIS://localhost" => [local, nil],
    "redis://10.0.0.1:7000" => [{ service: "tcp", address: "10.0.0.1", port: 7000 }, nil],
    "redis://[::1]:7000" => [{ service: "tcp", address: "::1", port: 7000 }, nil],
    "redis://:secret@localhost" => [local, ["secret"]], "redis://user:secret@localhost" => [local, %w[user secret]],
    "redis://user:p%40ss%3A@localhost" => [local, ["user", "p@ss:"]],
    "rediss://host" => [{ service: "tls", address: "host", port: 6379 }, nil],
    "unix:///run/redis.sock" => [{ service: "unix", address: "/run/redis.sock", port: 0 }, nil],
    "unix://user:secret@/run/redis.sock" => [{ service: "unix", address: "/run/redis.sock", port: 0 }, %w[user secret]]
  }.each do |url, expected|
    it "takes #{url.inspect}" do
      expect(addresses_of(url)).to eq([expected.inspect])
    end
  end

  { "redis://localhost/1" => "it names a database, 1, but pub/sub knows none; leave it out",
    "redis://localhost/x" => "it names a database, x, but pub/sub knows none; leave it out",
    "http://localhost" => "its scheme is none of redis, rediss and unix", "unix://" => "it names no socket",
    "redis://a b" => nil, "redis://host:port" => "it can not be understood", "redis://host:70000" => nil,
    "redis://host:0" => nil, "redis://host?db=1" => "it can not be understood" }.each do |url, why|
    it "refuses #{url}" do
      expect(addresses_of(url).first).to match(/\AArgumentError: the Redis URL #{Regexp.escape(url.inspect)} can not be used: #{why && Regexp.escape(why)}/)
    end
  end

  it "does not tell the password when it refuses a URL" do
    expect(addresses_of("redis://:hidden@localhost/1").first).not_to include("hidden")
  end

  it "refuses what is no URL, or too long" do
    output = output_of(<<~RUBY)
      $stderr.reopen(File::NULL)
      [[nil], [5], [:a], ["redis://" + "x" * 4096], []].each { |given| Iodine::PubSub::Redis.new(*given) rescue puts "\#{$!.class}: \#{$!.message}" }
    RUBY
    expect(output.lines.map(&:chomp)).to match(
      ["TypeError: wrong argument type NilClass (expected String)", "TypeError: wrong argument type Integer (expected String)",
       "TypeError: wrong argument type Symbol (expected String)", "ArgumentError: Redis URL too long.", /\AArgumentError: wrong number/]
    )
  end

  it "takes seconds for ping, as a whole number" do
    { "0" => nil, "1" => nil, "255" => nil, "-1" => "ArgumentError", "nil" => "TypeError", "'1'" => "TypeError", "1.5" => "TypeError" }.each do |ping, error|
      expect(addresses_of("", more: ", ping: #{ping}").first).to start_with(error || "[{")
    end
  end

  it "is not the default by being made, says where it goes, and can be attached again" do
    output = output_of("e = Iodine::PubSub::Redis.new('redis://:pw@localhost'); p Iodine::PubSub.default, Iodine::PubSub.attach(e) == e")
    expect(output).to eq("INFO: Initializing Redis engine for address: localhost:6379\n#<Iodine::PubSub cluster>\ntrue\n")
  end

  it "can not be made in a worker, which goes on (F15)" do
    server = serve(Asking::APP, workers: 2)
    define_singleton_method(:server) { server }
    code = "begin; Iodine::PubSub::Redis.new('redis://localhost'); rescue => e; [e.class.name, e.message]; end"
    expect(in_worker(0, code)).to eq(["RuntimeError", "a Redis engine must be made in the root process, before the server starts."])
    expect(in_worker(1, "Process.pid")).to eq(workers.keys[1])
    expect(server.log).not_to include("exit signal")
  end

  describe "by the command's -r," do
    root = File.expand_path("../..", __dir__)
    clean = { "IODINE_REDIS_URL" => nil }

    it "is the default engine, with its ping" do
      words = %w[-r redis://localhost:7000 -rp 7 -C show.rb]
      Dir.mktmpdir do |folder|
        File.write("#{folder}/show.rb", "e = Iodine::PubSub.default; p e.class, e.ping; exit")
        output, = Open3.capture2e(clean, RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/iodine", *words, chdir: folder)
        expect(output).to eq("INFO: Initializing Redis engine for address: localhost:7000\nIodine::PubSub::Redis\n7\n")
      end
    end

    it "is refused with the reason and status 2 if it can not be used" do
      output, status = Open3.capture2e(clean, RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/iodine", "-r", "redis://localhost/3")
      expect(status.exitstatus).to eq(2)
      expect(output).to start_with("iodine: the Redis URL \"redis://localhost/3\" can not be used: it names a database")
    end
  end

  describe "by IODINE_REDIS_URL (F-50)," do
    script = "require 'iodine'; Iodine.on_state(:pre_start) { p Iodine::PubSub.default.class; Iodine.stop }; Iodine.workers = 1; Iodine.start"

    it "is the default engine of whoever starts a server" do
      server = start_script(script, env: { "IODINE_REDIS_URL" => "redis://localhost:7000" })
      expect(server.wait.exitstatus).to eq(0)
      expect(server.log).to include("Redis engine for address: localhost:7000", "Iodine::PubSub::Redis\n")
    end

    it "ends the process with the reason if it can not be used" do
      server = start_script(script, env: { "IODINE_REDIS_URL" => "redis://localhost/3" })
      expect(server.wait.exitstatus).to eq(1)
      expect(server.log).to include("the Redis URL \"redis://localhost/3\" can not be used: it names a database")
    end

    it "is the default under rackup, too" do
      skip "there is no rackup" unless system("ruby -S rackup --version", out: File::NULL, err: File::NULL)
      redis = start_redis
      Dir.mktmpdir do |folder|
        File.write("#{folder}/config.ru", "require 'iodine'; run ->(_) { [200, {}, [Iodine::PubSub.default.class.name]] }")
        port = FreePort.take
        server = CommandProcess.new(RbConfig.ruby, "-I#{ServerProcess::ROOT}/lib", "-S", "rackup", "-s", "iodine", "-o", "127.0.0.1", "-p", port.to_s,
                                    env: { "IODINE_REDIS_URL" => redis.url, "THREADS" => "1", "WORKERS" => "1" }, chdir: folder)
        (@servers ||= []) << server
        server.wait_until_ready
        expect(RawClient.open(port, &:get).body).to eq("Iodine::PubSub::Redis")
      end
    end
  end

  describe "is let in" do
    # Whether messages go through.
    def expect_to_work(before, url: nil)
      server = serve(Asking::APP, before: "#{ClusterAsking::SETUP}\n#{url ? "" : ""}#{before}\nhears('a')")
      define_singleton_method(:server) { server }
      wait_until_joined(server)
      value_of("Iodine.publish('a', 'through'); $redis.cmd('PING') { |reply| say 'ping', reply }; nil")
      server.wait_for_said("a through in root")
      server.wait_for_said("ping PONG")
      server
    end

    it "by a password (F11)" do
      redis = start_redis("--requirepass", "s3cret@:/")
      expect_to_work(WithRedis.engine(redis, url: "redis://:s3cret%40%3A%2F@127.0.0.1:#{redis.port}"))
    end

    it "by a user and a password" do
      redis = start_redis("--user", *"app on >pw ~* &* +@all".split, "--user", "default", "off")
      expect_to_work(WithRedis.engine(redis, url: "redis://app:pw@127.0.0.1:#{redis.port}"))
    end

    it "as a user who may do nothing but publish and subscribe" do
      redis = start_redis("--user", *"app on >pw ~* &* -@all +publish +subscribe +psubscribe +unsubscribe +punsubscribe +ping".split)
      server = serve(Asking::APP, before: "#{ClusterAsking::SETUP}\n#{WithRedis.engine(redis, url: "redis://app:pw@127.0.0.1:#{redis.port}")}\nhears('a')")
      define_singleton_method(:server) { server }
      wait_until_joined(server)
      value_of("Iodine.publish('a', 'through')")
      server.wait_for_said("a through in root")
    end

    it "over a Unix socket" do
      redis = start_redis
      server = expect_to_work(WithRedis.engine(redis, url: "unix://#{redis.socket_path}"))
      expect(redis.clients.size).to eq(2)
      expect(server.log).to include("Redis engine for address: #{redis.socket_path}")
    end

    it "over TLS, if its certificate is one to trust" do
      authority = TestAuthority.new
      redis = start_redis(tls: authority)
      url = "rediss://localhost:#{redis.port}"
      expect_to_work(WithRedis.engine(redis, ", tls: { trust: #{authority.path.inspect} }", url: url))
      doubtful = serve(Asking::APP, before: WithRedis.engine(redis, url: url))
      doubtful.wait_for_log(/no connection could be made: .*the certificate/)
      expect(doubtful.log).not_to include("established")
    ensure
      authority&.remove
    end

    { "a wrong password" => [":wrong@", /Redis does not let us in: WRONGPASS/],
      "none where there is one" => ["", /Redis does not let us in: NOAUTH/] }.each do |what, (credentials, line)|
      it "not with #{what}, which is logged, and tried again after a while" do
        redis = start_redis("--requirepass", "right")
        began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        server = serve(Asking::APP, before: WithRedis.engine(redis, url: "redis://#{credentials}127.0.0.1:#{redis.port}"))
        # Both connections, four times.
        server.wait_for_log(line, times: 8)
        sleep 0.3
        tries = server.log.scan(line).size
        # Between two times lies at least 0.05 s, then twice as much each time.
        passed = Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
        expect(tries).to be <= 2 * (1 + Math.log2(1 + (passed / 0.05)))
        expect(server.log).not_to match(/established|right|wrong/)
      end
    end
  end
end
