# frozen_string_literal: true

# Loaded into every server process of the specs, before its script.

require "socket"

$stdout.sync = true
# Whatever runs the specs may ignore these, as nohup does, or a shell with what it puts into the background.
%w[HUP QUIT].each { |name| trap(name, "DEFAULT") }
GC.auto_compact = true if ENV["IODINE_SPEC_AUTO_COMPACT"] == "1"
# It has been read, and is not meant for what the example starts.
ENV.delete("RUBY_GC_HEAP_FREE_SLOTS_MAX_RATIO")

# Says something to the example, which finds it in ServerProcess#said. One write, also in traps and in forked children,
# so that processes do not break into each other's lines.
def say(*words)
  $stdout.syswrite("> #{words.join(" ")}\n")
end

# The port of the first listener.
def own_port
  Iodine.listeners.first[:port]
end

# The answer to a request that this very process sends.
def fetch(path = "/", port = own_port)
  TCPSocket.open("127.0.0.1", port) do |socket|
    socket.write("GET #{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    socket.read.split("\r\n\r\n", 2).last
  end
end
