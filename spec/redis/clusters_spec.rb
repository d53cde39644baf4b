# frozen_string_literal: true

# Messages by way of Redis: within a cluster and between clusters, while Redis is there, away, stuck and back.

require_relative "../support/cluster"
require_relative "../support/redis_server"

RSpec.describe "publishing by way of Redis", :real_time do
  include WithRedis
  include ClusterAsking

  # A server, or a cluster, whose default engine is Redis, and that hears these channels in all its processes.
  def join(redis, *channels, workers: 1, options: "", more: "", url: redis.url)
    hears = channels.map { |channel| "hears(#{channel.inspect}#{", match: :redis" if channel.include?("*")})" }
    server = serve(Asking::APP, threads: 4, workers: workers, before: [ClusterAsking::SETUP, WithRedis.engine(redis, options, url: url), *hears, more].join("\n"))
    return server unless redis.pid

    wait_until_joined(server)
    channels.each { |channel| listening[redis][channel] += 1 }
    wait_until_told(redis)
    server
  end

  # For each Redis, how many servers hear a channel by way of it.
  def listening
    @listening ||= Hash.new { |all, redis| all[redis] = Hash.new(0) }
  end

  # That servers are connected to Redis does not mean yet that it knows what they hear.
  def wait_until_told(redis)
    patterns, names = listening[redis].keys.partition { |channel| channel.include?("*") }
    eventually { redis.call("PUBSUB", "NUMSUB", *names).each_slice(2).to_h == listening[redis].slice(*names) }
    eventually { redis.call("PUBSUB", "NUMPAT") == patterns.size }
  end

  def run_in(server, code, place = 0)
    @solo ||= {}
    return in_worker(place, code, of: server) if server.worker_pids.any?

    value_of(code, client: @solo[server] ||= RawClient.open(server.port))
  end

  after { @solo&.each_value(&:close) }

  # All that was published before through the same Redis has been heard by then.
  def fence(from, *servers)
    word = "fence#{@fences = (@fences || 0) + 1}"
    run_in(from, "Iodine.publish('a', '#{word}')")
    servers.each { |server| server.wait_for_said("a #{word} in root") }
  end

  [1, 2].each do |workers|
    it "reaches all processes of a cluster of #{workers}, once for each subscription, from any of them" do
      redis = start_redis
      server = join(redis, "a", "a*", "nobody", workers: workers)
      places = workers == 1 ? ["root"] : ["root", *server.worker_pids]
      places.each_index.first(workers).each do |place|
        run_in(server, "Iodine.publish('a', 'from #{place}')", place)
        places.each do |where|
          server.wait_for_said("a from #{place} in #{where}")
          server.wait_for_said("a* a from #{place} in #{where}")
        end
      end
      fence(server, server)
      expect(server.said.tally.values.max).to eq(1)
      expect(redis.clients.size).to eq(2)
    end
  end

  it "goes to Redis alone, and other engines pass Redis by" do
    redis = start_redis
    one = join(redis, "a")
    two = join(redis, "a")
    run_in(one, "Iodine.publish('a', 'here', Iodine::PubSub::CLUSTER); Iodine.publish('a', 'mine', false); Iodine.publish('a', 'all')")
    [one, two].each { |server| server.wait_for_said("a all in root") }
    expect(heard("a", of: one)).to eq(["here in root", "mine in root", "all in root"])
    expect(heard("a", of: two)).to eq(["all in root"])
  end

  it "joins two clusters, in order, with connections of their own, and any bytes" do
    redis = start_redis
    one = join(redis, "a", workers: 2)
    two = join(redis, "a", workers: 2)
    run_in(one, "200.times { |n| Iodine.publish('a', n.to_s) }; nil")
    fence(one, one, two)
    [one, two].each do |server|
      ["root", *server.worker_pids].each do |where|
        server.wait_for_said("a fence1 in #{where}")
        expect(heard("a", of: server).grep(/ in #{where}\z/).first(200)).to eq(Array.new(200) { |n| "#{n} in #{where}" })
      end
    end
    run_in(two, 'Iodine.subscribe("\xff\0") { |c, m| say("bytes", (c + m).b.inspect) }; nil')
    eventually { redis.call("PUBSUB", "CHANNELS").include?("\xFF\0".b) }
    run_in(one, 'Iodine.publish("\xff\0", "\0\xff")')
    two.wait_for_said("bytes #{"\xFF\0\0\xFF".b.inspect}")
    expect(redis.clients.size).to eq(4)
  end

  it "may come from anybody who knows Redis, as from redis-cli or a queue's worker" do
    redis = start_redis
    server = join(redis, "a", workers: 2)
    expect(redis.call("PUBLISH", "a", "from elsewhere")).to eq(1)
    ["root", *server.worker_pids].each { |where| server.wait_for_said("a from elsewhere in #{where}") }
    system("redis-cli", "-p", redis.port.to_s, "PUBLISH", "a", "by-the-tool", out: File::NULL) or skip("there is no redis-cli")
    server.wait_for_said("a by-the-tool in #{server.worker_pids.last}")
  end

  it "subscribes there to what is heard here, and to no more" do
    redis = start_redis
    server = join(redis, "a", workers: 2)
    channels = -> { redis.call("PUBSUB", "CHANNELS").sort - ["code for the root"] }
    eventually { channels.call == ["a"] }
    socket = web_socket_of(0, "on(on_message: ->(c, code) { c.instance_eval(code); c.write('done') })", of: server)
    other = web_socket_of(1, "on(on_message: ->(c, code) { c.instance_eval(code); c.write('done') })", of: server)
    [socket, other].each { |client| expect(client.text("subscribe('s'); subscribe('p*', match: :redis)").read_message).to eq("done") }
    eventually { channels.call == %w[a s] && redis.call("PUBSUB", "NUMPAT") == 1 }
    # One of the workers is enough for that. What comes behind tells that the root knows of both.
    [socket, other].each { |client| expect(client.text("Iodine.publish('a', 'behind', Iodine::PubSub::CLUSTER)").read_message).to eq("done") }
    server.wait_for_said("a behind in root", times: 2)
    socket.close
    redis.call("PUBLISH", "s", "still")
    expect(other.read_message).to eq("still")
    expect(other.text("unsubscribe('s'); unsubscribe('p*')").read_message).to eq("done")
    eventually { channels.call == %w[a] && redis.call("PUBSUB", "NUMPAT").zero? }
  end

  it "tells a pattern whose exact fellow has left (F14)" do
    redis = start_redis
    server = join(redis, "a", "pat*")
    run_in(server, "hears('pata'); nil")
    eventually { redis.call("PUBSUB", "CHANNELS").include?("pata") }
    run_in(server, "Iodine.publish('pata', '1')")
    server.wait_for_said("pat* pata 1 in root")
    server.wait_for_said("pata 1 in root")
    run_in(server, "Iodine.unsubscribe('pata'); Iodine.publish('pata', '2')")
    server.wait_for_said("pat* pata 2 in root")
    fence(server, server)
    expect(server.said.grep(/pata/)).to match_array(["pata 1 in root", "pat* pata 1 in root", "pat* pata 2 in root"])
  end

  it "delivers once to those whom several patterns of several names reach" do
    redis = start_redis
    server = join(redis, "a", "x*", "*y", "xy", workers: 2)
    run_in(server, "Iodine.publish('xy', '!')")
    fence(server, server)
    ["root", *server.worker_pids].each do |where|
      server.wait_for_said("a fence1 in #{where}")
      expect(server.said.grep(/xy ! in #{where}/)).to match_array(["xy ! in #{where}", "x* xy ! in #{where}", "*y xy ! in #{where}"])
    end
  end

  it "reaches other clusters with the last words of one that ends (F66)" do
    redis = start_redis
    { 1 => "alone", 2 => "in a cluster" }.each do |workers, name|
      stays = join(redis, "a")
      leaves = join(redis, workers: workers, more: "Iodine.on_state(:start_shutdown) { Iodine.publish('a', 'start #{name}') if Iodine.worker? }")
      socket = web_socket("on(on_open: ->(c) { c.write('ready') }, on_shutdown: ->(c) { c.publish('a', 'shutdown #{name}') }, on_close: ->(c) { c.publish('a', 'close #{name}') })", port: leaves.port)
      expect(socket.read_message).to eq("ready")
      leaves.signal(:TERM)
      socket.let_go
      expect(leaves.wait.exitstatus).to eq(0)
      %w[start shutdown close].each { |word| stays.wait_for_said("a #{word} #{name} in root") }
      expect(leaves.log).not_to match(/Reconnecting|ERROR|WARNING/)
    end
  end

  describe "while Redis is away" do
    # Both connections: what is said over one that is lost unnoticed is lost with it.
    def wait_until_lost(server)
      server.wait_for_log(/WARNING: \(redis \d+\) subscription connection lost/)
      server.wait_for_log(/WARNING: \(redis \d+\) publication connection lost/)
    end

    it "goes on within the cluster; others hear of it when Redis is back, nobody twice" do
      redis = start_redis
      one = join(redis, "a", "b*", workers: 2)
      two = join(redis, "a", "b*")
      fence(one, one, two)
      redis.kill
      [one, two].each { |server| wait_until_lost(server) }
      run_in(one, "3.times { |n| Iodine.publish('a', 'away ' + n.to_s) }; Iodine.publish('bb', 'away'); $redis.cmd('ECHO', 'later') { |r| say 'reply', r }; nil")
      ["root", *one.worker_pids].each do |where|
        one.wait_for_said("a away 2 in #{where}")
        one.wait_for_said("b* bb away in #{where}")
      end
      run_in(two, "hears('new'); Iodine.publish('new', 'also away'); Iodine.publish('a', 'of two')")
      two.wait_for_said("new also away in root")
      redis.start
      [one, two].each { |server| wait_until_joined(server, times: 2) }
      wait_until_told(redis)
      one.wait_for_said("reply later")
      # Whoever is back first is heard by those who are back already: Redis itself keeps nothing.
      fence(one, one, two)
      fence(two, one, two)
      redis.call("PUBLISH", "new", "by Redis")
      two.wait_for_said("new by Redis in root")
      redis.call("PUBLISH", "bcd", "by Redis")
      two.wait_for_said("b* bcd by Redis in root")
      [one, two].each { |server| expect(server.said.tally.values.max).to eq(1) }
      own = heard("a", of: one).grep(/ in root\z/)
      expect(own.grep(/away/)).to eq(Array.new(3) { |n| "away #{n} in root" })
    end

    it "queues what other clusters hear later, in order" do
      redis = start_redis
      one = join(redis, "a")
      two = join(redis, "a", url: "unix://#{redis.socket_path}")
      redis.kill
      [one, two].each { |server| wait_until_lost(server) }
      run_in(one, "500.times { |n| Iodine.publish('a', n.to_s) }; nil")
      one.wait_for_said("a 499 in root")
      one.signal(:STOP)
      redis.start
      wait_until_joined(two, times: 2)
      eventually { redis.call("PUBSUB", "NUMSUB", "a").last == 1 }
      one.signal(:CONT)
      fence(one, two, one)
      expect(heard("a", of: two)).to eq([*0..499].map { |n| "#{n} in root" } + ["fence1 in root"])
      expect(heard("a", of: one).size).to eq(501)
    end

    it "keeps 10,000 publications, the newest ones, and says what it has lost" do
      redis = start_redis
      one = join(redis)
      redis.kill
      one.wait_for_log(/publication connection lost/)
      run_in(one, "10_500.times { |n| Iodine.publish('q', n.to_s) }; nil")
      one.wait_for_log(/ERROR: \(redis \d+\) 10000 commands wait for Redis: the oldest are lost/)
      one.signal(:STOP)
      redis.start
      two = join(redis, more: "$heard = []; Iodine.subscribe('q') { |_, m| $heard << m.to_i }")
      eventually { redis.call("PUBSUB", "NUMSUB", "q").last == 1 }
      one.signal(:CONT)
      one.wait_for_log(/ERROR: \(redis \d+\) 500 commands were lost while Redis was away/)
      eventually { run_in(two, "$heard.size") == 10_000 }
      expect(run_in(two, "[$heard.first, $heard.last, $heard == [*500..10_499]]")).to eq([500, 10_499, true])
    end

    it "costs next to no time, and knocks at longer and longer intervals (F12)" do
      peer = TCPServer.new("127.0.0.1", 0)
      knocks = Queue.new
      closer = Thread.new { loop { peer.accept.close || knocks << 1 } }
      began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      one = serve(Asking::APP, before: "Iodine::PubSub::Redis.new('redis://127.0.0.1:#{peer.addr[1]}')")
      # What starting costs is not meant.
      eventually { knocks.size >= 4 }
      before = cpu_of(one)
      sleep 2
      expect(cpu_of(one) - before).to be < 0.3
      count = knocks.size
      expect(count).to be <= most_knocks(Process.clock_gettime(Process::CLOCK_MONOTONIC) - began)
    ensure
      closer&.kill
      peer&.close
    end

    # Of two connections in that time, each with 0.1, 0.2, 0.4 and so on up to 5 s in between, or half of that.
    def most_knocks(seconds)
      delay = 0.05
      count = 2
      while (seconds -= delay).positive?
        count += 2
        delay = [delay * 2, 2.5].min
      end
      count
    end

    it "is there as soon as Redis is, when it comes later than the server" do
      redis = start_redis
      redis.kill
      one = join(redis, "a", workers: 2)
      run_in(one, "Iodine.publish('a', 'alone')")
      one.wait_for_said("a alone in #{one.worker_pids.last}")
      redis.start
      wait_until_joined(one)
      eventually { redis.call("PUBLISH", "a", "together").positive? }
      one.wait_for_said("a together in root")
    end
  end

  # Seconds of processor time.
  def cpu_of(server)
    File.read("/proc/#{server.pid}/stat").split(") ").last.split[11, 2].sum(&:to_i) / 100.0
  end

  it "notices that Redis is stuck, by ping, and goes on when it moves again" do
    redis = start_redis
    one = join(redis, "a", options: ", ping: 1")
    fence(one, one)
    redis.signal(:STOP)
    one.wait_for_log(/subscription connection lost/)
    one.wait_for_log(/publication connection lost/)
    run_in(one, "Iodine.publish('a', 'meanwhile')")
    one.wait_for_said("a meanwhile in root")
    expect(one.log.scan("connection established").size).to eq(2)
    redis.signal(:CONT)
    wait_until_joined(one, times: 2)
    fence(one, one)
    expect(heard("a", of: one).tally.values.max).to eq(1)
  end

  it "survives what is no Redis at all" do
    peer = TCPServer.new("127.0.0.1", 0)
    talker = Thread.new { loop { peer.accept.tap { |socket| socket.write("HTTP/1.1 400 Bad Request\r\n\r\n") } } }
    one = serve(Asking::APP, before: "#{ClusterAsking::SETUP}\nhears('a')\n$redis = Iodine::PubSub.default = Iodine::PubSub::Redis.new('redis://127.0.0.1:#{peer.addr[1]}')")
    one.wait_for_log(/ERROR: \(redis \d+\) this is not the protocol of Redis/)
    run_in(one, "Iodine.publish('a', 'x')")
    one.wait_for_said("a x in root")
  ensure
    talker&.kill
    peer&.close
  end

  it "does not hold up the end of a server whose Redis is away, or stuck" do
    redis = start_redis
    redis.kill
    one = join(redis, workers: 2)
    run_in(one, "Iodine.publish('a', 'x')")
    one.signal(:TERM)
    expect(one.wait.exitstatus).to eq(0)
    redis.start
    two = join(redis)
    redis.signal(:STOP)
    run_in(two, "Iodine.publish('a', 'x')")
    two.signal(:TERM)
    expect(two.wait.exitstatus).to eq(0)
  end

  it "works again when a server is started anew in the same process" do
    redis = start_redis
    one = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = Iodine.threads = 1
      #{WithRedis.engine(redis)}
      Iodine.subscribe("a") { |_, m| say m; Iodine.stop }
      2.times { |n| Iodine.publish("a", "round \#{n}"); Iodine.start }
    RUBY
    expect(one.wait.exitstatus).to eq(0)
    expect(one.said).to eq(["round 0", "round 1"])
  end

  it "works while garbage is collected all the time", :gc_stress, timeout: 120 do
    redis = start_redis
    one = join(redis, "a")
    5.times { |n| run_in(one, "Iodine.publish('a', '#{n}'); $redis.cmd('EVAL', 'return {{1},\"a\"}', 0) { |r| say 'reply', r.inspect }; nil") }
    one.wait_for_said("a 4 in root", seconds: 60)
    one.wait_for_said('reply [[1], "a"]', times: 5, seconds: 60)
  end
end
