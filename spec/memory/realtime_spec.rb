# frozen_string_literal: true

# That WebSockets leave nothing behind, however many there were, whatever they heard, and however they ended.

require_relative "../support/memory"

RSpec.describe "a server that has had many WebSockets", :slow, timeout: 300 do
  include Memory

  app = <<~'RUBY'
    # Echoes, once.
    module Echo
      def self.on_message(client, data) = client.write(data)
    end

    # Hears channels in all ways there are, and itself.
    class Listener
      def on_open(client)
        number = object_id / 8 % 50
        client.subscribe("direct#{number}")
        client.subscribe("block#{number}") { |_, message| client.write(message) }
        client.subscribe("*#{number}", match: :redis)
        client.subscribe("own#{object_id}") { |_, message| client.write(message) }
        client.unsubscribe("direct#{number}") if number.odd?
      end

      def on_message(client, data)
        client.publish("direct1", "to some")
        client.publish("block2", "to some")
        client.publish("own#{object_id}", data)
      end
    end

    # Objects of connections that there are.
    def objects
      GC.start
      [Iodine::Connection, Listener].sum { |type| ObjectSpace.each_object(type).count }
    end

    lambda do |env|
      next [200, text, [objects.to_s]] if env["PATH_INFO"] == "/objects"

      env["rack.upgrade"] = env["PATH_INFO"] == "/listen" ? Listener.new : Echo if env["rack.upgrade?"]
      [200, text, []]
    end
  RUBY

  frame = ->(*arguments, **options) { WebSocketClient.frame(*arguments, **options) }
  linger = [1, 0].pack("ii")
  # What is sent behind the message, and what is done then.
  endings = [
    [frame.call(:close, [1000].pack("n")), ->(client) { client.read_all }],
    ["", ->(client) { client.read_response && client.read_exactly(3) }],
    ["", ->(client) { client.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, linger) }],
    [frame.call(:text, "not masked", mask: nil), ->(client) { client.read_all }],
    [frame.call(:text, "half a message", final: false), ->(client) { client.read_response }]
  ]

  # Each source address has its own ports, of which those just used have to rest.
  def connect(number)
    RawClient.new(TCPSocket.new("127.0.0.1", @port, "127.0.0.#{2 + (number % 32)}"))
  end

  def in_threads(count)
    Array.new(4) { |thread| Thread.new { (thread...count).step(4) { |number| yield(number) } } }.each(&:join)
  end

  it "is as it was before 50000 of them, however they ended" do
    server = start_server(app)
    opening = WebSocketClient.handshake + frame.call(:text, "x")
    expect_level(server, 10_000, 50_000) do |count|
      in_threads(count) do |number|
        more, finish = endings[number % endings.size]
        client = connect(number)
        client.write(opening + more)
        finish.call(client)
      rescue Errno::ECONNRESET, Errno::EPIPE
        # The server was quicker than our last words.
      ensure
        client&.close
      end
    end
  end

  it "is as it was before 10000 that came, subscribed, heard one another, and went" do
    server = start_server(app)
    opening = WebSocketClient.handshake(path: "/listen") + frame.call(:text, "over")
    expect_level(server, 2000, 10_000) do |count|
      in_threads(count) do |number|
        client = connect(number)
        client.write(opening).read_response
        # What others have published may come first.
        eventually { client.read_exactly(client.read_exactly(2).getbyte(1)) == "over" }
        client.write(frame.call(:close)) if number.even?
      ensure
        client&.close
      end
    end
  end

  it "keeps no object of 5000 that were idle at once, gives memory back, and takes no more for the next" do
    most = Process.getrlimit(:NOFILE)
    skip "5000 descriptors are not allowed" if most.last < 6000

    Process.setrlimit(:NOFILE, most.last, most.last)
    server = start_server(app)
    opening = WebSocketClient.handshake(path: "/listen")
    before = server.rss
    full = Array.new(4) do
      clients = Array.new(5000) { |number| connect(number).write(opening) }
      clients.each(&:read_response)
      resident = server.rss
      clients.each(&:close)
      # By itself, when it is quiet: much of what they took, if not all. What Ruby has free it gives back only where a whole
      # page of its heap is empty.
      eventually(20, "too little came back of #{resident - before}") { resident - server.rss > (resident - before) / 3 }
      # A few may yet be seen on a stack.
      eventually(20) { RawClient.open(@port) { |client| client.get("/objects").body.to_i } < 50 }
      expect(descriptors(server)).to be < 100
      resident
    end
    expect(full.max).to be <= full.first * 1.2, full.inspect
  end
end
