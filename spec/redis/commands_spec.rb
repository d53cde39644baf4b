# frozen_string_literal: true

# `cmd`: what commands may be, and what replies become, in the root and in workers.

require_relative "../support/cluster"
require_relative "../support/redis_server"

RSpec.describe "commands for Redis", :real_time do
  include WithRedis
  include ClusterAsking

  before(:context) do
    next unless RedisServer::PROGRAM

    @redis = RedisServer.new
    @shared_server = serve(Asking::APP, threads: 4, workers: 2, before: <<~RUBY)
      #{ClusterAsking::SETUP}
      #{WithRedis.engine(@redis)}
      def reply_to(*command) = Queue.new.tap { |queue| $redis.cmd(*command) { |reply| queue << reply } }.pop
    RUBY
    @servers = nil
    wait_until_joined(@shared_server)
  end

  after(:context) do
    @shared_server&.stop
    @redis&.remove
  end

  attr_reader :redis

  def server = @shared_server

  {
    '"SET", "k", "v"' => true, '"PING"' => "PONG", '"GET", "nothing"' => nil, '"INCRBY", "n", 5' => 5, '"INCRBY", :n, "-5"' => -5,
    '"ECHO", "\0\r\n\xff"' => "\0\r\n\xFF".b, '"ECHO", ""' => "", '"ECHO", true' => "true", '"ECHO", false' => "false",
    '"ECHO", 1.5' => "1.5", '"ECHO", :sym' => "sym", '"NOPE"' => /\A-ERR unknown command/, '"GET"' => /\A-ERR wrong number/,
    '"LRANGE", "none", 0, -1' => [], '"MGET", "k", "nothing"' => ["v", nil], '"EVAL", "return {{1,{2}},3}", 0' => [[1, [2]], 3],
    '"EVAL", "return {1,{},false,{err=\"no\"},{ok=\"OK\"}}", 0' => [1, [], nil, "-no", true], '"SCAN", "0", "MATCH", "k"' => ["0", ["k"]],
    '"ECHO word"' => "word", '"  echo   word  "' => "word", ":PING" => "PONG", '"ECHO", "two words"' => "two words",
    '"ECHO", "x" * 1_000_000' => "x" * 1_000_000
  }.each do |command, expected|
    it "#{command[0, 50]} is replied to by #{expected.inspect[0, 50]} (F13)" do
      value_of("reply_to('SET', 'k', 'v')")
      value_of("reply_to('SET', 'n', 0)") if command.include?("5")
      expect(in_worker(0, "reply_to(#{command})")).to match(expected)
    end
  end

  it "are sent from the root, too" do
    in_root("$redis.cmd('EVAL', 'return {{1},\"a\"}', 0) { |reply| say 'root got', reply.inspect, Iodine.master? }")
    server.wait_for_said('root got [[1], "a"] true')
  end

  it "return the engine, and need no block" do
    expect(in_worker(0, "$redis.cmd('SET', 'quiet', 'x').equal?($redis) && reply_to('GET', 'quiet')")).to eq("x")
  end

  it "are replied to in their order, whoever sends them" do
    code = "$got = Queue.new; 4.times.map { |t| Thread.new { 200.times { |n| $redis.cmd('ECHO', t.to_s + ' ' + n.to_s) { |r| $got << r } } } }.each(&:join); nil"
    [0, 1].each { |place| in_worker(place, code) }
    [0, 1].each do |place|
      eventually { in_worker(place, "$got.size") == 800 }
      by_thread = in_worker(place, "Array.new(800) { $got.pop }").map(&:split).group_by(&:first)
      expect(by_thread.size).to eq(4)
      by_thread.each_value { |pairs| expect(pairs.map { |_, number| number.to_i }).to eq([*0..199]) }
    end
  end

  it "go on when a block raises" do
    server.wait_for_log(/RuntimeError.*in the reply/) if in_worker(0, "$redis.cmd('PING') { raise 'in the reply' }; reply_to('PING')") == "PONG"
    in_root("$redis.cmd('PING') { raise 'in the reply of the root' }; $redis.cmd('PING') { |r| say 'still', r }")
    server.wait_for_said("still PONG")
  end

  it "may be sent, and messages published, from within the block of a reply" do
    in_root("$redis.cmd('PING') { $redis.cmd('ECHO', 'inner') { |r| say r; Iodine.publish('x', 'y') } }")
    server.wait_for_said("inner")
  end

  %w[SUBSCRIBE psubscribe MONITOR quit RESET HELLO CLIENT\ REPLY\ OFF].each do |name|
    it "are refused that would end the use of the connection: #{name}" do
      error = "begin; $redis.cmd(%s); rescue => e; e.class.name + ': ' + e.message; end"
      words = [*name.split, "x"].map(&:inspect).join(", ")
      [words, name.inspect].each do |form|
        expect(in_worker(0, format(error, form))).to match(/\AArgumentError: #{name.upcase[/\A(CLIENT REPLY|\w+)/]} would end the use/)
      end
      expect(in_worker(0, "reply_to('PING')")).to eq("PONG")
    end
  end

  { "" => "a command is required.", "''" => "a command is required.", "'  '" => "a command is required.",
    "'GET', nil" => "only String, Number, Symbol, true and false can be used in a command, not nil.",
    "'GET', ['a']" => "only String, Number, Symbol, true and false can be used in a command, not [\"a\"].",
    "nil" => nil }.each do |form, message|
    it "are refused: cmd(#{form})" do
      expect(in_worker(0, "begin; $redis.cmd(#{form}); rescue => e; [e.class.name, e.message]; end")).to match(["ArgumentError", message || String])
    end
  end

  it "go by two connections for all of the cluster" do
    expect(redis.clients.size).to eq(2)
  end

  it "match patterns as iodine does" do
    random = Random.new(5)
    letters = ["a", "b", "-", "^", "\\", "]", "[", "*", "?", "x"]
    pairs = Array.new(400) { Array.new(2) { Array.new(random.rand(0..5)) { letters.sample(random: random) }.join } }
    script = "local r = {} for i, k in ipairs(KEYS) do redis.call('SET', KEYS[i], '') " \
             "r[i] = #redis.call('KEYS', ARGV[i]) redis.call('DEL', KEYS[i]) end return r"
    redis.call("FLUSHALL")
    theirs = redis.call("EVAL", script, pairs.size.to_s, *pairs.map(&:last), *pairs.map(&:first))
    ours = pairs.each_slice(50).flat_map do |some|
      in_worker(0, "#{some.inspect}.map { |pattern, name| Iodine::Base.glob_match?(pattern, name) ? 1 : 0 }")
    end
    wrong = pairs.zip(ours, theirs).reject { |_, own, other| own == other }
    expect(wrong).to eq([])
    expect(ours.sum).to be > 20
  end
end
