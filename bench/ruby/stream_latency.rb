# frozen_string_literal: true

# How long a piece of a streamed body is on its way, from the moment the application gives it away to its arrival at the
# client. The client is this script: with a thousand streams some of the time is its own.
#
#   ruby bench/ruby/stream_latency.rb [seconds for each case, default 5]

require "rbconfig"
require "socket"
require_relative "../lib/paths"
require_relative "../lib/ports"
require_relative "../lib/waiting"
require_relative "../lib/bounded_process"

# Streams of one server, and when their pieces came.
class Streams
  def initialize(port, path, count)
    @sockets = Array.new(count) do
      TCPSocket.new("127.0.0.1", port).tap { |socket| socket.write("GET #{path} HTTP/1.1\r\nHost: x\r\n\r\n") }
    end
    @rests = Hash.new { |rests, socket| rests[socket] = +"" }
  end

  # The milliseconds that each piece took which came within so many seconds.
  def listen(seconds)
    limit = Bench::Waiting.now + seconds
    taken = []
    while (left = limit - Bench::Waiting.now).positive?
      ready, = IO.select(@sockets, nil, nil, left)
      ready&.each { |socket| take(socket, taken) }
    end
    taken
  end

  def close = @sockets.each(&:close)

  private

  def take(socket, taken)
    rest = @rests[socket] << socket.read_nonblock(65_536)
    now = Bench::Waiting.now
    # Between the pieces are the sizes of their chunks.
    while (line = rest.slice!(/\A[^\n]*\n/))
      taken << ((now - Float(line)) * 1000) if line.match?(/\A\d+\.\d{6}\n\z/)
    end
  end
end

# Asks for a hello again and again over 16 connections, in a process of its own.
def with_load(port)
  pid = fork do
    clients = Array.new(16) { TCPSocket.new("127.0.0.1", port) }
    loop do
      clients.each { |client| client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
      clients.each { |client| client.readpartial(4096) }
    end
  end
  yield
ensure
  Bench::BoundedProcess.kill(pid)
end

def report(what, count, taken)
  sorted = taken.sort
  raise "no piece came" if sorted.empty?

  at = ->(share) { sorted[[(sorted.size * share).floor, sorted.size - 1].min].round(2) }
  puts "| #{what} | #{count} | #{sorted.size} | #{at[0.5]} | #{at[0.99]} | #{at[1]} |"
end

seconds = Float(ARGV.fetch(0, 5))
port = Bench::Ports.parse("4300-4399").take
server = Process.spawn(RbConfig.ruby, "-I#{Bench::ROOT}/lib", "#{Bench::ROOT}/exe/iodine", "-b", "127.0.0.1",
                       "-p", port.to_s, "-w", "1", "-t", "4", "#{Bench::HERE}/apps/stream.ru", %i[out err] => File::NULL)
begin
  Bench::Waiting.until(20) { TCPSocket.new("127.0.0.1", port).close.nil? rescue false } || raise("the server did not start")
  puts "| streams | how many | pieces | p50 ms | p99 ms | max ms |", "|---|---:|---:|---:|---:|---:|"
  [["each", "/each", 3], ["a callable body", "/call", 3], ["a callable body", "/call", 1000]].each do |what, path, count|
    streams = Streams.new(port, path, count)
    streams.listen(1)
    report(what, count, streams.listen(seconds))
    with_load(port) { report("#{what}, beside a loop of hellos", count, streams.listen(seconds)) }
    streams.close
  end
ensure
  Process.kill(:INT, server)
  Bench::BoundedProcess.kill(server) unless Bench::Waiting.for_exit(server, 10)
end
