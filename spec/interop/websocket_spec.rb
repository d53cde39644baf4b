# frozen_string_literal: true

# WebSocket implementations that nobody here wrote, as clients of our server and as servers for our client: Python's
# `websockets`, `ws` of npm, and Ruby's websocket-driver. Each is left out where it is not installed.

require "json"
require "open3"

RSpec.describe "other people's WebSockets" do
  app = <<~'RUBY'
    module Echo
      def self.on_message(client, data)
        what, code, reason = data.split
        what == "close" ? client.close(Integer(code), reason) : client.write(data)
      end

      def self.on_close(client) = say("closed", client.close_code.inspect, client.close_reason)
    end

    lambda do |env|
      env["rack.upgrade"] = Echo if env["rack.upgrade?"] == :websocket
      [200, {}, []]
    end
  RUBY

  # The first of these programs that can do this.
  def self.able(programs, *test)
    programs.find { |program| system(*[*test.first(1).grep(Hash), program, *test.grep(String)], out: File::NULL, err: File::NULL) }
  end

  # Debian's own Python has Debian's modules, whatever comes first in PATH.
  python = able(%w[python3 /usr/bin/python3], "-c", "import websockets")
  # Debian keeps modules where only its own node looks by itself.
  modules = { "NODE_PATH" => [ENV["NODE_PATH"], "/usr/share/nodejs"].compact.join(":") }
  node = able(%w[node nodejs], modules, "-e", "require('ws')")

  # What a script prints, as JSON.
  def told_by(*command, script, url)
    output, errors, status = Open3.capture3(*command, "-", url, stdin_data: script)
    raise "#{command.last} failed: #{errors}" unless status.success?

    JSON.parse(output)
  end

  # Runs a server that prints its port, and yields that.
  def with_server(*command, script)
    file = Tempfile.new("iodine-spec-peer")
    file.write(script)
    file.close
    input, output, = pipes = Open3.popen2e(*command, file.path)
    input.close
    first = Timeout.timeout(20) { output.gets }.to_s
    raise "no server: #{first}#{output.read}" unless first.match?(/\A\d+$/)

    yield first.to_i
  ensure
    if pipes
      Process.kill(:KILL, pipes.last.pid)
      pipes.first(2).each(&:close)
      pipes.last.join
    end
  end

  describe "as clients" do
    serve_for_all(app, options: "deflate: true, max_msg: 4096")

    let(:url) { "ws://127.0.0.1:#{server.port}/" }

    # What any of them has to tell.
    expected = {
      "extensions" => ["permessage-deflate"], "text" => "gr\u00fc\u00dfe", "binary" => true, "empty" => "",
      "fragments" => "fragments", "large" => 2_000_000, "ping" => true
    }

    it "Python's talk, in fragments too, ping, and close with a code, or are closed with one" do
      skip "there is no Python with websockets" unless python

      expect(told_by(python, <<~'PYTHON', url)).to eq(expected.merge("closed" => [4321, "enough"], "answer" => 4000))
        import asyncio, json, sys, websockets

        async def main(url):
            told = {}
            async with websockets.connect(url, max_size=None) as socket:
                # Its newer versions tell this elsewhere.
                protocol = getattr(socket, "protocol", socket)
                told["extensions"] = [extension.name for extension in protocol.extensions]
                await socket.send("gr\u00fc\u00dfe")
                told["text"] = await socket.recv()
                every = bytes(range(256)) * 20
                await socket.send(every)
                told["binary"] = await socket.recv() == every
                await socket.send("")
                told["empty"] = await socket.recv()
                await socket.send(["frag", "", "ment", "s"])
                told["fragments"] = await socket.recv()
                await socket.send("x" * 2000000)
                told["large"] = len(await socket.recv())
                await asyncio.wait_for(await socket.ping(b"there?"), 10)
                told["ping"] = True
                await socket.send("close 4321 enough")
                try:
                    await socket.recv()
                except websockets.ConnectionClosed:
                    told["closed"] = [socket.close_code, socket.close_reason]
            socket = await websockets.connect(url)
            await socket.close(4000, "bye")
            told["answer"] = socket.close_code
            print(json.dumps(told))

        asyncio.run(main(sys.argv[1]))
      PYTHON
      server.wait_for_said("closed 4321 enough")
      server.wait_for_said("closed 4000 bye")
    end

    it "npm's talk, in fragments too, ping, and close with a code, or are closed with one" do
      skip "there is no node with ws" unless node

      expect(told_by(modules, node, <<~'JAVASCRIPT', url)).to eq(expected.merge("closed" => [4322, "enough"], "answer" => 4001))
        const WebSocket = require("ws");
        const url = process.argv[2];
        const once = (socket, event) => new Promise((resolve) => socket.once(event, (...all) => resolve(all)));
        const ask = async (socket, data, options) => {
          socket.send(data, options);
          const [answer, binary] = await once(socket, "message");
          return binary ? answer : answer.toString();
        };

        (async () => {
          const told = {};
          const socket = new WebSocket(url, { perMessageDeflate: { threshold: 0 } });
          await once(socket, "open");
          told.extensions = Object.keys(socket._extensions);
          told.text = await ask(socket, "gr\u00fc\u00dfe");
          const every = Buffer.from(Array.from({ length: 5120 }, (_, at) => at % 256));
          told.binary = every.equals(await ask(socket, every));
          told.empty = await ask(socket, "");
          for (const part of ["frag", "", "ment"]) socket.send(part, { fin: false });
          told.fragments = await ask(socket, "s", { fin: true });
          told.large = (await ask(socket, "x".repeat(2000000))).length;
          socket.ping("there?");
          told.ping = (await once(socket, "pong"))[0].toString() === "there?";
          socket.send("close 4322 enough");
          const [code, reason] = await once(socket, "close");
          told.closed = [code, reason.toString()];
          const other = new WebSocket(url);
          await once(other, "open");
          other.close(4001, "bye");
          told.answer = (await once(other, "close"))[0];
          console.log(JSON.stringify(told));
        })();
      JAVASCRIPT
      server.wait_for_said("closed 4322 enough")
      server.wait_for_said("closed 4001 bye")
    end

    describe "websocket-driver" do
      # The socket that the driver writes to.
      Wire = Struct.new(:url, :client) do
        def write(bytes) = client.write(bytes)
      end

      before do
        require "websocket/driver"
      rescue LoadError
        skip "there is no websocket-driver"
      end

      # Reads until the block is true.
      def read_until(driver, client)
        driver.parse(client.socket.readpartial(65_536)) until yield
      end

      it "talks, pings, and closes with a code, or is closed with one" do
        RawClient.open(server.port) do |client|
          driver = WebSocket::Driver.client(Wire.new(url, client))
          told = []
          driver.on(:open) { told << :open }
          driver.on(:message) { |event| told << event.data }
          driver.on(:close) { |event| told << [event.code, event.reason] }
          driver.on(:error) { |event| told << event.message }
          driver.start
          read_until(driver, client) { told == [:open] }
          driver.text("gr\u00fc\u00dfe")
          driver.binary([0, 255, 128])
          driver.ping("there?") { told << :pong }
          driver.text("close 4323 enough")
          read_until(driver, client) { told.size == 5 }
          # Pings are answered at once, before messages that callbacks have to deal with.
          expect(told.delete(:pong)).to eq(:pong)
          expect(told).to eq([:open, "gr\u00fc\u00dfe", [0, 255, 128], [4323, "enough"]])
        end
        RawClient.open(server.port) do |client|
          driver = WebSocket::Driver.client(Wire.new(url, client))
          closed = nil
          driver.on(:close) { |event| closed = event.code }
          driver.on(:open) { driver.close("bye", 4002) }
          driver.start
          read_until(driver, client) { closed }
          expect(closed).to eq(4002)
        end
        server.wait_for_said("closed 4323 enough")
        server.wait_for_said("closed 4002 bye")
      end
    end
  end

  describe "as servers" do
    # Says what it finds out about a server that greets by a long message, echoes, and closes with 4001 when asked to.
    client = <<~'RUBY'
      require "iodine"
      Iodine.workers = 1
      Iodine.threads = 1

      class Client
        SENT = ["gr\u00fc\u00dfe", "\x00\xFF".b, "", "x" * 300_000, "y".b * 300_000].freeze

        def initialize = @heard = []

        def on_message(client, data)
          @heard << data
          return client.write(SENT[@heard.size - 1]) if @heard.size <= SENT.size

          say "greeted by #{@heard.shift}"
          say "all came back: #{@heard == SENT && @heard.map(&:encoding) == SENT.map(&:encoding)}"
          client.write("close")
        end

        def on_close(client)
          say "closed #{client.close_code} #{client.close_reason}"
          Iodine.stop
        end
      end

      Iodine.connect(url: "ws://127.0.0.1:PORT/some/path?a=b", handler: Client.new, deflate: true, max_msg: 1024,
                     headers: { "x-other" => "one" }, cookies: { "a" => "1", "b" => "2" })
      Iodine.start
    RUBY

    greeting = "/some/path?a=b one a=1; b=2 permessage-deflate"
    expected = ["greeted by #{greeting}", "all came back: true", "closed 4001 enough"]

    it "Python's are talked to" do
      skip "there is no Python with websockets" unless python

      with_server(python, <<~PYTHON) do |port|
        import asyncio, websockets

        async def talk(socket):
            # Its newer versions tell this elsewhere.
            new = hasattr(socket, "protocol")
            path, headers, extensions = (
                (socket.request.path, socket.request.headers, socket.protocol.extensions) if new
                else (socket.path, socket.request_headers, socket.extensions)
            )
            names = [extension.name for extension in extensions]
            await socket.send(" ".join([path, headers["x-other"], headers["cookie"], *names]))
            async for message in socket:
                if message == "close":
                    await socket.close(4001, "enough")
                else:
                    await socket.send(message)

        async def main():
            async with websockets.serve(talk, "127.0.0.1", 0) as server:
                print(server.sockets[0].getsockname()[1], flush=True)
                await asyncio.Future()

        asyncio.run(main())
      PYTHON
        run = start_script(client.sub("PORT", port.to_s))
        run.wait
        expect(run.said).to eq(expected)
      end
    end

    it "npm's are talked to" do
      skip "there is no node with ws" unless node

      with_server(modules, node, <<~JAVASCRIPT) do |port|
        const { WebSocketServer } = require("ws");
        const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0 } });
        server.on("listening", () => console.log(server.address().port));
        server.on("connection", (socket, request) => {
          const extensions = Object.keys(socket._extensions);
          socket.send([request.url, request.headers["x-other"], request.headers.cookie, ...extensions].join(" "));
          socket.on("message", (data, binary) => {
            data.toString() === "close" ? socket.close(4001, "enough") : socket.send(data, { binary });
          });
        });
      JAVASCRIPT
        run = start_script(client.sub("PORT", port.to_s))
        run.wait
        expect(run.said).to eq(expected)
      end
    end
  end
end
