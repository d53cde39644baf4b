# frozen_string_literal: true

# More requests than the application can do: `max_queue` and `queue_timeout` have some of them answered with 503.

require "tmpdir"

RSpec.describe "overload" do
  # A request to /hold is answered when the file is there that stands for an open gate.
  app = <<~RUBY
    lambda do |env|
      if env["PATH_INFO"] == "/hold"
        say "holding"
        sleep 0.01 until File.exist?(ENV["GATE"])
      end
      say env["PATH_INFO"]
      [200, text, [env["PATH_INFO"]]]
    end
  RUBY

  around { |example| Dir.mktmpdir { |folder| (@gate = "#{folder}/gate") && example.run } }

  def get(path, more = "")
    "GET #{path} HTTP/1.1\r\nHost: x\r\n#{more}\r\n"
  end

  def open_gate
    File.write(@gate, "")
  end

  # The only app thread is held up from here on.
  def hold(server)
    RawClient.open(server.port).write(get("/hold")).tap { server.wait_for_said("holding") }
  end

  def expect_503(client, head: false)
    response = client.read_response(head: head)
    expect([response.status, response["retry-after"], response["content-type"]]).to eq([503, "1", "text/plain"])
    expect(response.body).to eq(head ? "" : "503 Service Unavailable")
    response
  end

  # As many more requests as wait, once they do: each has a connection of its own, and `probe` is refused from then on.
  def fill(server, count)
    waiting = Array.new(count) { |index| RawClient.open(server.port).write(get("/#{index}")) }
    eventually do
      RawClient.open(server.port) do |probe|
        probe.write(get("/probe"))
        probe.socket.wait_readable(0.05) && expect_503(probe)
      end
    end
    waiting
  end

  {
    "listen" => { options: "max_queue: 2" },
    "DEFAULT_SETTINGS" => { before: "Iodine::DEFAULT_SETTINGS[:max_queue] = 2" },
    "IODINE_MAX_QUEUE" => { env: { "IODINE_MAX_QUEUE" => "2" } },
    "-max-queue" => { before: "Iodine::Base::CLI.parse(%w[-max-queue 2])" }
  }.each do |name, how|
    it "is answered with 503 while more than max_queue requests wait (#{name})" do
      server = serve(app, **how, env: { "GATE" => @gate, **how.fetch(:env, {}) })
      held = hold(server)
      waiting = fill(server, 3)
      RawClient.open(server.port) do |client|
        # The connection stays open.
        2.times { expect(expect_503(client.write(get("/never")))["connection"]).to be_nil }
        open_gate
        expect(held.read_response.body).to eq("/hold")
        expect(waiting.map { |one| one.read_response.body }).to eq(%w[/0 /1 /2])
        expect(client.get("/again").body).to eq("/again")
      end
      expect(server.said).not_to include("/never")
    end
  end

  describe "with max_queue" do
    before do
      @server = serve(app, env: { "GATE" => @gate }, options: "max_queue: 1, log: true")
      @held = hold(@server)
    end

    after { open_gate }

    it "keeps the order of a connection" do
      behind = RawClient.open(@server.port).write(get("/first"))
      fill(@server, 1)
      behind.write(get("/second") + get("/third"))
      # Who comes later is refused: the server has those two, too, before anything moves.
      RawClient.open(@server.port) { |client| expect_503(client.write(get("/later"))) }
      expect(behind).to be_silent
      open_gate
      expect(behind.read_response.body).to eq("/first")
      2.times { expect_503(behind) }
      expect(@server.said).not_to include("/second")
    end

    it "has no body for HEAD, and closes when the client wants that" do
      fill(@server, 2)
      RawClient.open(@server.port) do |client|
        client.write("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n#{get("/", "Connection: close\r\n")}")
        expect_503(client, head: true)
        expect(expect_503(client)["connection"]).to eq("close")
        expect(client).to be_closed_by_server
      end
    end

    it "takes the body of a request that is refused, or refuses before it is sent" do
      fill(@server, 2)
      post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
      RawClient.open(@server.port) do |client|
        2.times { expect_503(client.write("#{post}\r\nhello")) }
        expect(expect_503(client.write("#{post}Expect: 100-continue\r\n\r\n"))["connection"]).to eq("close")
        expect(client).to be_closed_by_server
      end
    end

    it "is said once, and has a line in the request log each time" do
      fill(@server, 2)
      before = @server.log.scan(/ 503 23b /).size
      RawClient.open(@server.port) { |client| 20.times { expect_503(client.write(get("/x"))) } }
      @server.wait_for_log(%r{"GET /x HTTP/1\.1" 503 23b \d+ms}, times: 20)
      expect(@server.log.scan(/ 503 23b /).size).to be >= before + 20
      expect(@server.log.scan(/^WARNING: HTTP server overloaded: \d+ jobs wait, answering 503\.$/).size).to eq(1)
    end
  end

  it "is answered with 503 when the request has waited for longer than queue_timeout" do
    server = serve(app, env: { "GATE" => @gate }, options: "queue_timeout: 2.0, log: true")
    held = hold(server)
    late = RawClient.open(server.port).write(get("/late") + get("/later"))
    # Who comes later is refused at once, so that the server has those two: their time runs.
    expect(RawClient.exchange(server.port, "BAD\r\n\r\n").first.status).to eq(400)
    expect(late).to be_silent(2.3)
    open_gate
    expect(held.read_response.body).to eq("/hold")
    2.times { expect_503(late) }
    server.wait_for_log(%r{"GET /late(r)? HTTP/1\.1" 503 23b \d+ms}, times: 2)
    told = /^WARNING: HTTP server overloaded: a request has waited for \d+\.\d s, answering 503\.$/
    expect(server.log.scan(told).size).to eq(1)
    expect(late.get("/now").body).to eq("/now")
    expect(server.said).not_to include("/late", "/later")
  end

  it "is waited for unless there is a limit" do
    server = serve(app, env: { "GATE" => @gate })
    held = hold(server)
    waiting = Array.new(20) { |index| RawClient.open(server.port).write(get("/#{index}")) }
    expect(waiting.first).to be_silent(0.2)
    open_gate
    expect([held, *waiting].map { |client| client.read_response.status }.uniq).to eq([200])
  end
end
