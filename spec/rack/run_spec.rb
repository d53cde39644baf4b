# frozen_string_literal: true

# `Iodine::Rack.run`, as rackup, Rails and Sinatra call it.

RSpec.describe "Iodine::Rack.run" do
  def run(code)
    start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = Iodine.threads = 1
      app = ->(env) { [200, {}, [env["PATH_INFO"]]] }
      #{code}
    RUBY
  end

  def get(server, path)
    RawClient.open(server.port) { |client| client.get(path) }
  end

  it "serves until the end, and returns true" do
    server = run("p returned: Iodine::Rack.run(app, Host: '127.0.0.1', Port: 0)").wait_until_ready
    expect(get(server, "/here").body).to eq("/here")
    server.signal(:INT)
    expect(server.wait.exitstatus).to eq(0)
    expect(server.log).to match(/returned.*true/)
  end

  it "takes a port as text, and ignores what it does not know" do
    server = run("Iodine::Rack.run(app, Port: '0', Host: '127.0.0.1', environment: 'x', AccessLog: [])")
    expect(get(server.wait_until_ready, "/").status).to eq(200)
  end

  it "falls back to the settings of the process" do
    server = run("Iodine::DEFAULT_SETTINGS.update(port: 0, address: '127.0.0.1'); Iodine::Rack.run(app)")
    expect(get(server.wait_until_ready, "/").status).to eq(200)
  end

  it "is ended by shutdown, from anywhere" do
    server = run(<<~RUBY).wait_until_ready
      stopping = lambda do |env|
        p shutdown: Iodine::Rack.shutdown.equal?(Iodine)
        [200, {}, ["the last one"]]
      end
      p returned: Iodine::Rack.run(stopping, Host: "127.0.0.1", Port: 0)
    RUBY
    expect(get(server, "/").body).to eq("the last one")
    expect(server.wait.exitstatus).to eq(0)
    expect(server.log).to match(/shutdown.*true/).and match(/returned.*true/)
  end

  it "raises when the address can not be bound" do
    TCPServer.open("127.0.0.1", 0) do |taken|
      server = run("Iodine::Rack.run(app, Host: '127.0.0.1', Port: #{taken.addr[1]})")
      expect(server.wait.exitstatus).to eq(1)
      expect(server.log).to match(/Couldn't open listening socket\..*in use.*\(RuntimeError\)/)
    end
  end
end
