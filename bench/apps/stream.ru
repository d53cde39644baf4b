# frozen_string_literal: true

# Streams of pieces that each tell when they were given away: by `each`, which takes an app thread for each stream, and by
# a callable body, whose streams one thread feeds. Beside them a hello.

# What a piece says.
module Stamp
  def self.now = format("%.6f\n", Process.clock_gettime(Process::CLOCK_MONOTONIC))
end

# A piece every 20 ms until the client has gone.
class Pieces
  def each
    loop do
      sleep 0.02
      yield Stamp.now
    end
  end
end

arrivals = Queue.new
feeder = nil
# Each stream gets a piece a second, one stream after the other.
feed = lambda do
  streams = []
  loop do
    streams << arrivals.pop until arrivals.empty?
    sleep 1.0 / [streams.size, 1].max
    next unless (stream = streams.shift)

    begin
      stream.write(Stamp.now)
      streams << stream
    rescue IOError, SystemCallError
      stream.close
    end
  end
end

run(lambda do |env|
  case env["PATH_INFO"]
  when "/each" then [200, {}, Pieces.new]
  when "/call"
    feeder ||= Thread.new(&feed)
    [200, {}, ->(stream) { arrivals << stream }]
  else [200, { "content-type" => "text/plain" }, ["Hello from app.\n"]]
  end
end)
