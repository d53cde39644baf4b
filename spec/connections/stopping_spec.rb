# frozen_string_literal: true

# Connections that end, each in its own way, just while the server does.

RSpec.describe "connections while the server stops" do
  app = <<~'RUBY'
    # Counts its ends.
    class Guest
      LOCK = Mutex.new
      ALL = []

      attr_reader :ended

      def initialize = @ended = 0

      def on_open(client)
        LOCK.synchronize { ALL << self }
        client.subscribe("all")
        client.subscribe("some*", match: :redis) { |_, message| client.write(message) }
      end

      def on_message(client, data)
        client.write(data)
        client.publish("something", data)
      end

      def on_shutdown(client)
        client.write("we close")
        client.publish("all", "one is told")
      end

      def on_close(client)
        LOCK.synchronize { @ended += 1 }
        client.write("too late")
        client.publish("all", "one is gone")
      end
    end

    ended = -> { say("ended #{Guest::ALL.size} #{Guest::ALL.map(&:ended).uniq}") unless Guest::ALL.empty? }
    Iodine.on_state(:on_finish, &ended)

    lambda do |env|
      env["rack.upgrade"] = Guest.new if env["rack.upgrade?"]
      [200, text, []]
    end
  RUBY

  count = 1000
  linger = [1, 0].pack("ii")
  endings = [
    ->(client) { client.say_goodbye }, ->(client) { client.bye(4000, "enough") }, ->(client) { client },
    ->(client) { client.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, linger) },
    ->(client) { client.text("last words") }, ->(client) { client.text("not masked", mask: nil) }, ->(client) { client.finish_writing }
  ]

  [1, 2].each do |workers|
    it "are told of their end once each, with #{workers} #{workers == 1 ? "worker" : "workers"}" do
      skip "#{count} descriptors are not allowed" if Process.getrlimit(:NOFILE).first < count + 200

      server = serve(app, threads: 4, workers: workers)
      clients = Array.new(count) { WebSocketClient.open(server.port).tap { |client| client.write(WebSocketClient.handshake) } }
      clients.each(&:read_response)
      clients.each { |client| client.text("hello") }
      threads = clients.each_slice(count / 4).map do |slice|
        Thread.new do
          slice.each_with_index do |client, number|
            server.signal(:TERM) if number == 50 && slice.first.equal?(clients.first)
            endings[number % endings.size].call(client)
            client.close
          rescue Errno::EPIPE, Errno::ECONNRESET, Errno::ENOTCONN, IOError, WebSocketClient::Breach, RuntimeError
            # Some other end came first.
            client.close
          end
        end
      end
      threads.each(&:join)
      expect(server.wait.exitstatus).to eq(0)
      told = server.said.grep(/\Aended/).map { |line| line.split(" ", 3).drop(1) }
      expect(told.sum { |number, _| number.to_i }).to eq(count)
      expect(told.map(&:last)).to all(eq("[1]"))
      expect(server.log).not_to match(/caught|panic|FATAL/)
    end
  end
end
