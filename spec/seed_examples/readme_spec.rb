# frozen_string_literal: true

# The programs that the README of iodine 0.7 shows, driven from end to end. They are kept as close to it as they can be: of
# their own they have no more than the port and the address of the echo server.

require_relative "../support/talking"

RSpec.describe "the examples of iodine 0.7" do
  # A WebSocket that a server of iodine's has agreed to.
  def websocket(port, path = "/")
    client = RawClient.open(port)
    client.write("GET #{path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    raise "no consent" unless client.read_response.status == 101

    client
  end

  def say_to(client, text)
    client.write(WebSocketFrame.bytes(1, text, mask: "mask"))
  end

  # The payload of the next frame, which is short.
  def hear(client)
    _, length = client.read_exactly(2).unpack("CC")
    client.read_exactly(length)
  end

  chat = <<~'RUBY'
    require 'iodine'
    module WebsocketChat
      def on_open client
        # Pub/Sub directly to the client (or use a block to process the messages)
        client.subscribe :chat
        # Writing directly to the socket
        client.write "You're now in the chatroom."
      end
      def on_message client, data
        # Strings and symbol channel names are equivalent.
        client.publish "chat", data
      end
      extend self
    end
    APP = Proc.new do |env|
      if env['rack.upgrade?'.freeze] == :websocket
        env['rack.upgrade'.freeze] = WebsocketChat
        [0,{}, []] # It's possible to set cookies for the response.
      elsif env['rack.upgrade?'.freeze] == :sse
        puts "SSE connections can only receive data from the server, the can't write."
        env['rack.upgrade'.freeze] = WebsocketChat
        [0,{}, []] # It's possible to set cookies for the response.
      else
        [200, {"Content-Length" => "12", "Content-Type" => "text/plain"}, ["Welcome Home"] ]
      end
    end
  RUBY

  describe "the chat room" do
    # `workers` is what the example leaves to the machine, or sets to 4.
    def start_chat(chat, workers:)
      start_script(<<~RUBY)
        #{chat}
        # Pus/Sub can be server oriented as well as connection bound
        Iodine.subscribe(:chat) {|ch, msg| puts msg if Iodine.master? }
        # By default, Pub/Sub performs in process cluster mode.
        Iodine.workers = #{workers}
        Iodine.threads = 2
        Iodine.listen service: :http, public: "www/public", handler: APP, port: 0
        Iodine.start
      RUBY
    end

    it "takes WebSockets, event sources and plain requests, and carries messages to all" do
      server = start_chat(chat, workers: 1).wait_until_ready
      expect(RawClient.open(server.port, &:get).body).to eq("Welcome Home")
      members = Array.new(3) { websocket(server.port) }
      members.each { |member| expect(hear(member)).to eq("You're now in the chatroom.") }
      reader = RawClient.open(server.port)
      reader.write("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
      until reader.read_line == "\r\n"; end
      expect(Array.new(2) { reader.read_line.chomp }).to eq(["data: You're now in the chatroom.", ""])
      say_to(members.first, "Hello, everybody.")
      members.each { |member| expect(hear(member)).to eq("Hello, everybody.") }
      expect(reader.read_line.chomp).to eq("data: Hello, everybody.")
      server.wait_for_log(/^Hello, everybody\.$/)
      server.wait_for_log(/^SSE connections can only receive/)
      server.stop
      expect(server.status.exitstatus).to eq(0)
    end
  end

  it "the protocol of its own behind an HTTP upgrade echoes" do
    server = start_script(<<~'RUBY')
      require 'iodine'
      class MyProtocol
        def on_message client, data
          # regular socket echo - NOT websockets
          client.write data
        end
      end
      APP = Proc.new do |env|
        if env["HTTP_UPGRADE".freeze] =~ /echo/i.freeze
          env['upgrade.tcp'.freeze] = MyProtocol.new
          # an HTTP response will be sent before changing protocols.
          [101, { "Upgrade" => "echo" }, []]
        else
          [200, {"Content-Length" => "12", "Content-Type" => "text/plain"}, ["Welcome Home"] ]
        end
      end
      Iodine.listen service: :http, public: "www/public", handler: APP, port: 0
      Iodine.threads = 1
      Iodine.workers = 1
      Iodine.start
    RUBY
    server.wait_until_ready
    expect(RawClient.open(server.port, &:get).body).to eq("Welcome Home")
    RawClient.open(server.port) do |client|
      client.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
      answer = client.read_response
      expect([answer.status, answer["upgrade"]]).to eq([101, "echo"])
      client.write("\x00 regular socket echo")
      expect(client.read_exactly(21)).to eq("\x00 regular socket echo")
    end
  end

  it "the WebSocket client says all that it has to say, and stops iodine when it is closed" do
    echo = serve(<<~RUBY)
      handler = Class.new { def on_message(client, data) = client.write(data) }.new
      lambda do |env|
        env["rack.upgrade"] = handler if env["rack.upgrade?"] == :websocket
        [200, {}, []]
      end
    RUBY
    client = start_script(<<~RUBY)
      require 'iodine'

      # The client class
      class EchoClient

        def on_open(connection)
          @messages = [ "Hello World!",
            "I'm alive and sending messages",
            "I also receive messages",
            "now that we all know this...",
            "I can stop.",
            "Goodbye." ]
          send_one_message(connection)
        end

        def on_message(connection, message)
          puts "Received: \#{message}"
          send_one_message(connection)
        end

        def on_close(connection)
          # in this example, we stop iodine once the client is closed
          puts "* Client closed."
          Iodine.stop
        end

        # We use this method to pop messages from the queue and send them
        #
        # When the queue is empty, we disconnect the client.
        def send_one_message(connection)
          msg = @messages.shift
          if(msg)
            connection.write msg
          else
            connection.close
          end
        end
      end

      Iodine.threads = 1
      Iodine.workers = 1
      Iodine.connect url: "ws://127.0.0.1:#{echo.port}", handler: EchoClient.new, ping: 40
      Iodine.start
    RUBY
    expect(client.wait.exitstatus).to eq(0)
    expect(client.log.scan(/^(?:Received: |\* Client).*/)).to eq(
      ["Received: Hello World!", "Received: I'm alive and sending messages", "Received: I also receive messages",
       "Received: now that we all know this...", "Received: I can stop.", "Received: Goodbye.", "* Client closed."]
    )
  end

  it "the timer restarts the workers" do
    server = serve("->(_env) { [200, {}, [Process.pid.to_s]] }", workers: 2, before: <<~RUBY)
      # As in the example, but every 4 hours would be too late.
      Iodine.run_every(700) do
        Process.kill("SIGUSR1", Process.pid) unless Iodine.worker?
      end
    RUBY
    first = server.worker_pids
    server.wait_for_log(/is running\./, times: 4)
    expect(server.worker_pids.first(4).uniq.size).to eq(4)
    expect(RawClient.open(server.port, &:get).status).to eq(200)
    expect(first.size).to be >= 2
  end

  # These are of the documentation of 0.7's methods, told in words of our own.
  describe "raw servers" do
    it "an echo that says when it is idle, and has something to do later" do
      server = start_script(<<~RUBY)
        require "iodine"
        module Echo
          def self.on_open(client)
            client.write "Echo server running on Iodine ruby server\\n"
          end

          def self.on_message(client, data)
            client.write data
            Iodine.run_after(20) { client.write "later: \#{data}" }
            client.close if data =~ /bye/
          end

          def self.on_close(client)
            say "closed"
          end

          def self.ping(client)
            client.write "Are you there?\\n"
          end
        end

        Iodine.threads = 1
        Iodine.workers = 1
        Iodine.listen(service: :raw, port: 0) { Echo }
        Iodine.start
      RUBY
      server.wait_until_ready
      RawClient.open(server.port) do |client|
        expect(client.read_line).to eq("Echo server running on Iodine ruby server\n")
        client.write("hi\n")
        expect([client.read_line, client.read_line]).to eq(["hi\n", "later: hi\n"])
        client.write("bye\n")
        expect(client.read_all).to eq("bye\n")
      end
      server.wait_for_said("closed")
    end

    it "a login that hands its client over to a chat" do
      server = start_script(<<~RUBY)
        require "iodine"
        class LoginProtocol
          def on_open(client)
            client.timeout = 10
            client.write "Name and password, please:\\n"
          end

          def on_message(client, data)
            name, password = data.chomp.split(":")
            if password == "open sesame"
              client.handler = ChatProtocol.new(name)
            else
              client.write "No.\\n"
              client.close
            end
          end

          def on_close(client)
            say "login over"
          end
        end

        class ChatProtocol
          def initialize(name)
            @name = name
          end

          def on_open(client)
            client.subscribe :chat
            client.publish :chat, "\#{@name} has joined.\\n"
          end

          def on_message(client, data)
            client.publish :chat, "\#{@name}: \#{data}"
          end

          def on_shutdown(client)
            client.write "The server is going away. Goodbye.\\n"
          end

          def on_close(client)
            client.publish :chat, "\#{@name} has left.\\n"
          end
        end

        Iodine.threads = 1
        Iodine.workers = 1
        Iodine.listen(port: 0, handler: -> { LoginProtocol.new })
        Iodine.start
      RUBY
      server.wait_until_ready
      join = lambda do |name|
        RawClient.open(server.port).tap do |client|
          client.read_line
          client.write("#{name}:open sesame\n")
          expect(client.read_line).to eq("#{name} has joined.\n")
        end
      end
      RawClient.open(server.port) do |client|
        client.read_line
        client.write("mallory:guess\n")
        expect(client.read_all).to eq("No.\n")
      end
      first = join["ann"]
      second = join["bob"]
      expect(first.read_line).to eq("bob has joined.\n")
      second.write("hello\n")
      expect([first.read_line, second.read_line]).to eq(["bob: hello\n"] * 2)
      second.close
      expect(first.read_line).to eq("bob has left.\n")
      server.signal(:INT)
      expect(first.read_all).to start_with("The server is going away. Goodbye.\n")
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said.count("login over")).to eq(3)
      first.close
    end
  end
end
