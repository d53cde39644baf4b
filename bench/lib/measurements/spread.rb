# frozen_string_literal: true

require "socket"

module Bench
  # How keep-alive connections spread over the workers. The app answers the number of its process. Connections come
  # in a burst (all connect, then all ask) and one by one (each is answered before the next connects): a server that
  # leaves the choice to the kernel fares differently in the two. The worst of some tries counts.
  class Spread < Measurement
    TRIES = 5
    PATIENCE = 10
    # So long a cluster may take until all of its workers accept.
    BOOT = 2

    def self.columns(_outcome)
      [
        Column.new("burst, worst of #{TRIES}", ->(_, result) { result.last(:burst_tally) }),
        Column.new("one by one, worst of #{TRIES}", ->(_, result) { result.last(:one_by_one_tally) })
      ]
    end

    def self.rounds(_settings) = 1

    private

    def measure
      sleep BOOT
      burst = worst { all_at_once }
      one_by_one = worst { each_in_turn }
      {
        burst: burst.first, burst_tally: burst.join(" : "),
        one_by_one: one_by_one.first, one_by_one_tally: one_by_one.join(" : ")
      }
    end

    # The tally whose fullest worker is the fullest of all tries, greatest first.
    def worst
      Array.new(TRIES) { tally(yield) }.max_by(&:first)
    end

    def tally(sockets)
      counts = sockets.map { |socket| pid_from(socket) }.tally.values.sort.reverse
      counts << 0 while counts.size < @workload.workers
      counts
    ensure
      sockets&.each(&:close)
    end

    def all_at_once
      sockets = Array.new(@settings.connections) { connect }
      sockets.each { |socket| ask(socket) }
    end

    def each_in_turn
      Array.new(@settings.connections) do
        socket = connect
        ask(socket)
        raise "no answer in #{PATIENCE} s" unless socket.wait_readable(PATIENCE)

        socket
      end
    end

    def connect = TCPSocket.new("127.0.0.1", @server.port)

    def ask(socket) = socket.write("GET / HTTP/1.1\r\nHost: #{@server.address}\r\n\r\n")

    def pid_from(socket)
      text = +""
      until (body = text[/\r\n\r\n(\d+)/, 1]) && body.bytesize == text[/^content-length:\s*(\d+)/i, 1].to_i
        raise "no answer in #{PATIENCE} s" unless socket.wait_readable(PATIENCE)

        text << socket.readpartial(4096)
      end
      Integer(body)
    end
  end
end
