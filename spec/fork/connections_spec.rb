# frozen_string_literal: true

# A fork inside of a callback: the child has closed connections, and the parent goes on.

RSpec.describe "a fork in a callback", :real_time do
  serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP)

  # What the child says of a connection.
  state = "[c.open?, c.pending, c.write('child'), c.subscribe('child'), c.unsubscribe('forked'), c.close, c.timeout, c.protocol].inspect"

  {
    "on_message" => "on(on_open: ->(c) { c.write('ready') }, on_message: ->(c, _) { %s; c.write('parent') })",
    "on_open" => "on(on_open: ->(c) { c.write('ready'); %s; c.write('parent') })",
    "a block of a subscription" => "on(on_open: ->(c) { c.subscribe('forked') { %s; c.write('parent') }; c.write('ready') }, " \
                                   "on_message: ->(c, _) { c.publish('forked', 'x') })"
  }.each do |what, code|
    it "leaves the parent's connection alone: #{what}" do
      fork_code = "pid = fork { say 'child of #{what}: ' + #{state}; exit!(3) }; Process.wait(pid); tell($?.exitstatus)"
      socket = web_socket(format(code, fork_code))
      expect(socket.read_message).to eq("ready")
      socket.text("x")
      expect(socket.read_message).to eq("parent")
      expect(told).to eq([3])
      expect(server.said.grep(/child of #{what}/)).to eq(["child of #{what}: [false, -1, nil, nil, nil, nil, nil, nil]"])
      expect(socket.say_goodbye).to eq([1000, ""])
    end
  end

  it "may outlive the callback: the peer sees the end when the parent says so, and hears nothing of the child" do
    socket = web_socket(<<~RUBY)
      on(on_message: ->(c, _) {
           $child = fork { c.write("child"); sleep }
           c.close
         }, on_close: ->(c) { tell(:closed) })
    RUBY
    expect(socket.text("x").let_go).to eq([1000, ""])
    expect(told).to eq([:closed])
    value_of("Process.kill(:KILL, $child); Process.wait($child); nil")
  end

  it "runs no callback of the parent in the child, which ends as it likes" do
    socket = web_socket(<<~RUBY)
      on(on_message: ->(c, data) {
           pid = fork
           next Process.exit(7) unless pid
           Process.wait(pid)
           c.write($?.exitstatus.to_s)
         }, on_close: ->(c) { say "closed in \#{Process.pid == $$} \#{$main == Process.pid}" })
    RUBY
    value_of("$main = Process.pid; nil")
    expect(socket.text("x").read_message).to eq("7")
    socket.text("y")
    expect(socket.read_message).to eq("7")
    socket.say_goodbye
    server.wait_for_said("closed in true true")
    expect(server.said.grep(/closed in/)).to eq(["closed in true true"])
  end

  it "is no different in a request: what the child raises is its end, not an answer" do
    expect(value_of("pid = fork or exit(9); Process.wait(pid); $?.exitstatus")).to eq(9)
    expect(value_of("pid = fork or raise('in the child'); Process.wait(pid); $?.exitstatus")).to eq(1)
    expect(value_of("$status = Queue.new; Iodine.run { pid = fork or exit(8); Process.wait(pid); $status << $?.exitstatus }; $status.pop")).to eq(8)
  end
end
