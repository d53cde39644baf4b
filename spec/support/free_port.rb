# frozen_string_literal: true

require "socket"

# Ports for servers that must be told one.
module FreePort
  # Below what systems hand out to those who ask for any port and to clients: another process of the specs, of which some
  # open thousands of connections, does not come upon it before its server does.
  RANGE = (10_000..32_000)

  def self.take
    port = rand(RANGE)
    TCPServer.open("127.0.0.1", port).close
    port
  rescue Errno::EADDRINUSE
    retry
  end
end
