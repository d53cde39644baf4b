# frozen_string_literal: true

# Objects of ours that have grown old are looked into by full collections only. What is stored into them late has to be told
# to the collector, or the next small collection takes it away.

RSpec.describe "what an old object is given late", :real_time do
  serve_for_all(Asking::APP, threads: 2, before: <<~RUBY)
    #{RealTime::SETUP}
    # No singleton class, as that would keep it.
    class Late
      def on_message(client, data) = client.write("late \#{data}")
    end

    def grow_old = 4.times { GC.start }
    def collect_young = 10.times { Array.new(10_000) { "garbage" * 5 }; GC.start(full_mark: false) }
  RUBY

  # Several: one of them may be found where the machine has left it.
  it "lives: the handlers of connections" do
    value_of("$clients = []; nil")
    sockets = Array.new(5) { web_socket("on(on_open: ->(c) { $clients << c; c.write('open') })") }
    sockets.each { |socket| expect(socket.read_message).to eq("open") }
    value_of("grow_old; nil")
    value_of("$clients.each { |client| client.handler = Late.new }; nil")
    value_of("collect_young; nil")
    sockets.each { |socket| expect(socket.text("one").read_message).to eq("late one") }
    sockets.each { |socket| expect(socket.say_goodbye).to eq([1000, ""]) }
  end

  it "lives: the socket that a hijack has given" do
    RawClient.open(server.port) do |client|
      client.write(request_for(<<~RUBY))
        $hijack = env["rack.hijack"]
        grow_old
        $hijack.call.write("open")
        env.delete("rack.hijack_io")
        [200, {}, []]
      RUBY
      expect(client.read_exactly(4)).to eq("open")
      value_of("collect_young; nil")
      value_of("$hijack.call.then { |io| io.write('late'); io.close }; $hijack = nil")
      expect(client.read_all).to eq("late")
    end
  end

  it "lives: whom to call when a stream has ended, and with what" do
    RawClient.open(server.port) do |client|
      client.write(request_for(<<~RUBY))
        env["rack.response_finished"] << ->(env, status, headers, error) { $heard = [env["PATH_INFO"], status, headers, error] }
        [200, { "x-late" => "yes".dup }, ->(stream) { grow_old; env.delete("rack.response_finished"); $stream = stream }]
      RUBY
      nil until client.read_line == "\r\n"
      # The head may go out before the body has grown old.
      eventually { value_of("!$stream.nil?") }
      value_of("collect_young; grow_old; nil")
      value_of("$stream << 'late'; $stream.close; nil")
      expect(client.read_exactly(14)).to eq("4\r\nlate\r\n0\r\n\r\n")
    end
    expect(eventually { value_of("$heard") }).to eq(["/", 200, { "x-late" => "yes" }, nil])
  end
end
