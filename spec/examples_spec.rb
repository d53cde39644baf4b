# frozen_string_literal: true

# Every example is served by the command, answers, and ends in peace.

RSpec.describe "examples/" do
  root = File.expand_path("..", __dir__)
  free_port = -> { TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] } }

  greetings = { "hello.ru" => "Hello", "chat.ru" => "<title>Chat</title>" }

  Dir.glob("*.ru", base: "#{root}/examples").sort.each do |name|
    it "serves #{name}" do
      arguments = ["-b", "127.0.0.1", "-p", free_port.call.to_s, "-t", "2", "-w", "1", "#{root}/examples/#{name}"]
      server = start_script("ARGV.replace(#{arguments}); load(#{"#{root}/exe/iodine".dump})").wait_until_ready
      response = RawClient.open(server.port, &:get)
      expect(response.status).to eq(200)
      expect(response.body).to include(greetings.fetch(name))

      server.signal(:TERM)
      expect(server.wait).to be_success
    end
  end
end
