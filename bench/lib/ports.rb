# frozen_string_literal: true

require "socket"

module Bench
  # Hands out the ports of a range in turn, so that no server meets the last one's lingering connections. Where it
  # begins depends on our process: two runs at once should not meet either.
  class Ports
    # text: "4200-4299"
    def self.parse(text)
      first, last = text.split("-", 2).map { |port| Integer(port) }
      new(first..(last || first))
    end

    def initialize(range)
      @range = range.to_a
      @range.rotate!(Process.pid % @range.size)
    end

    def take
      @range.size.times do
        port = @range.first
        @range.rotate!
        return port if free?(port)
      end
      raise "no port is free"
    end

    private

    def free?(port)
      TCPServer.new("127.0.0.1", port).close
      true
    rescue SystemCallError
      false
    end
  end
end
