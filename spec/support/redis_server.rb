# frozen_string_literal: true

# A Redis server of an example's own, on a free port, and what it takes to have iodine talk to it.

require "socket"
require "tmpdir"
require "fileutils"
require_relative "talking"

# One redis-server. It keeps nothing when it ends, and can be started again at the same place.
class RedisServer
  PROGRAM = ENV["PATH"].split(":").map { |folder| File.join(folder, "redis-server") }.find { |file| File.executable?(file) }
  DEADLINE = 25

  # An error that it answered.
  class Refused < StandardError; end

  attr_reader :port, :folder, :pid

  # @param options [Array<String>] of the command line
  # @param tls [TestAuthority, nil] it speaks TLS alone
  def initialize(*options, tls: nil)
    @folder = Dir.mktmpdir("iodine-spec-redis")
    @port = FreePort.take
    @options = options
    @options += tls_options(tls) if tls
    @tls = tls
    start
  end

  def start
    words = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", @folder, "--unixsocket", socket_path,
             *(["--port", @port.to_s] unless @tls), *@options]
    @pid = Process.spawn(PROGRAM, *words, in: File::NULL, out: "#{@folder}/log", err: "#{@folder}/log")
    eventually(DEADLINE, "Redis did not start: #{File.read("#{@folder}/log")}") { answers? }
    self
  end

  def socket_path
    "#{@folder}/redis.sock"
  end

  def url
    "redis://127.0.0.1:#{@port}"
  end

  def signal(name)
    Process.kill(name, @pid)
  end

  # Ends it as it would never end by itself.
  def kill
    return unless @pid

    signal(:KILL)
    Process.wait(@pid)
    @pid = nil
  end

  def remove
    kill
    FileUtils.rm_rf(@folder)
  end

  # Has it execute a command, over a connection of its own to the Unix socket. Words are Strings without blanks in them.
  def call(*words)
    UNIXSocket.open(socket_path) do |socket|
      socket.write("*#{words.size}\r\n", *words.map { |word| "$#{word.bytesize}\r\n#{word}\r\n" })
      read_reply(socket)
    end
  end

  # Connections but for the one that asks.
  def clients
    call("CLIENT", "LIST").lines.reject { |line| line.include?("cmd=client") }
  end

  private

  def answers?
    call("PING") == "PONG"
  rescue SystemCallError, EOFError
    false
  rescue Refused => error
    error.message.start_with?("NOAUTH")
  end

  def read_reply(socket)
    raise "Redis did not answer" unless socket.wait_readable(DEADLINE)

    line = socket.gets("\r\n") or raise EOFError
    text = line[1..].chomp
    case line[0]
    when "+" then text
    when "-" then raise Refused, text
    when ":" then text.to_i
    when "$" then text == "-1" ? nil : socket.read(text.to_i + 2)[0..-3]
    when "*" then Array.new(text.to_i) { read_reply(socket) }
    end
  end

  def tls_options(authority)
    certificate, key = authority.write("redis", authority.issue("DNS:localhost", "IP:127.0.0.1"))
    ["--port", "0", "--tls-port", @port.to_s, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file",
     authority.path, "--tls-auth-clients", "no"]
  end
end

# For groups that are about Redis. Their examples are passed over where there is none.
module WithRedis
  # Source for a server: makes the engine, which is the default one from then on.
  def self.engine(redis, more = "", url: redis.url)
    "$redis = Iodine::PubSub::Redis.new(#{url.inspect}#{more}); Iodine::PubSub.default = $redis"
  end

  # A Redis server, removed with the example.
  def start_redis(...)
    RedisServer.new(...).tap { |redis| (@redis_servers ||= []) << redis }
  end

  # Waits until a server has both its connections to Redis. It need not be told by it yet.
  def wait_until_joined(server, times: 1)
    server.wait_for_log(/subscription connection established/, times: times)
    server.wait_for_log(/publication connection established/, times: times)
  end

  def self.included(group)
    group.before { skip "redis-server is not installed" unless RedisServer::PROGRAM }
    group.after { @redis_servers&.each(&:remove) }
  end
end
