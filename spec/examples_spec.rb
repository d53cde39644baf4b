# frozen_string_literal: true

# Every example is served by the command, answers, and ends in peace.

require_relative "support/redis_server"

RSpec.describe "examples/" do
  root = File.expand_path("..", __dir__)

  greetings = { "hello.ru" => "Hello", "chat.ru" => "<title>Chat</title>", "redis.ru" => "Listen by EventSource" }

  Dir.glob("*.ru", base: "#{root}/examples").sort.each do |name|
    it "serves #{name}" do
      arguments = ["-b", "127.0.0.1", "-p", FreePort.take.to_s, "-t", "2", "-w", "1", "#{root}/examples/#{name}"]
      server = start_script("ARGV.replace(#{arguments}); load(#{"#{root}/exe/iodine".dump})").wait_until_ready
      response = RawClient.open(server.port, &:get)
      expect(response.status).to eq(200)
      expect(response.body).to include(greetings.fetch(name))

      server.signal(:TERM)
      expect(server.wait).to be_success
    end
  end

  describe "redis.ru" do
    include WithRedis

    it "joins servers" do
      redis = start_redis
      servers = Array.new(2) do
        arguments = ["-b", "127.0.0.1", "-p", FreePort.take.to_s, "-t", "1", "-w", "1", "-r", redis.url, "#{root}/examples/redis.ru"]
        start_script("ARGV.replace(#{arguments}); load(#{"#{root}/exe/iodine".dump})").wait_until_ready
      end
      listeners = servers.map do |server|
        server.wait_for_log(/connection established/, times: 2)
        RawClient.open(server.port).write("GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
      end
      listeners.each { |listener| expect(listener.read_response(head: true).status).to eq(200) }
      eventually { redis.call("PUBSUB", "NUMSUB", "news") == ["news", 2] }
      RawClient.open(servers.first.port) do |client|
        answer = client.write("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello").read_response
        expect(answer.status).to eq(202)
      end
      hear = lambda do |word|
        text = "data: #{word}\r\n\r\n"
        listeners.each { |listener| expect(listener.read_exactly(text.bytesize)).to eq(text) }
      end
      # The answer may come before Redis has heard of it.
      hear["hello"]
      redis.call("PUBLISH", "news", "elsewhere")
      hear["elsewhere"]
    end
  end
end
