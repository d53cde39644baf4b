# frozen_string_literal: true

# A browser: pages in headless Chromium read streams and ranges, are sent back and forth in a sound file, talk by WebSocket
# and EventSource, chat with one another, and report.

require "fileutils"
require "json"
require "tmpdir"

RSpec.describe "Chromium", timeout: 120 do
  browser = %w[chromium chromium-browser google-chrome].filter_map do |name|
    ENV.fetch("PATH").split(":").map { |folder| File.join(folder, name) }.find { |path| File.executable?(path) }
  end.first

  page = <<~HTML
    <!doctype html><meta charset="utf-8"><title>iodine</title>
    <script>
      const told = {};
      const text = async (path, options) => await (await fetch(path, options)).text();

      // As it comes: the second piece is only sent when the first has been read.
      async function stream() {
        const reader = (await fetch("/gated")).body.getReader();
        const pieces = [], decoder = new TextDecoder();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return pieces.join("");
          pieces.push(decoder.decode(value));
          if (pieces.length === 1) await fetch("/open");
        }
      }

      async function left() {
        const controller = new AbortController();
        const response = await fetch("/endless", { signal: controller.signal });
        await response.body.getReader().read();
        controller.abort();
        return "aborted";
      }

      async function range() {
        const response = await fetch("/sound.wav", { headers: { Range: "bytes=8-11" } });
        return [response.status, response.headers.get("content-range"), await response.text()];
      }

      async function revalidated() {
        const first = await fetch("/sound.wav");
        await first.arrayBuffer();
        const again = await fetch("/sound.wav", { cache: "no-cache" });
        return [again.status, (await again.arrayBuffer()).byteLength];
      }

      // A browser can only go to a place that it has not read yet if the server has ranges.
      const seek = () => new Promise((resolve, reject) => {
        const sound = new Audio("/sound.wav");
        sound.onerror = () => reject(new Error("the sound can not be played"));
        sound.onloadedmetadata = () => { sound.currentTime = sound.duration - 5; };
        sound.onseeked = () => resolve([Math.round(sound.duration), Math.round(sound.currentTime)]);
        sound.load();
      });

      async function tell(name, work) {
        try { told[name] = await work(); } catch (error) { told[name] = String(error); }
      }

      addEventListener("load", async () => {
        await tell("stream", stream);
        await tell("left", left);
        await tell("range", range);
        await tell("revalidated", revalidated);
        await tell("seek", seek);
        await tell("post", () => text("/echo", { method: "POST", body: "x".repeat(200000) }));
        await fetch("/report", { method: "POST", body: JSON.stringify(told) });
      });
    </script>
  HTML

  app = <<~RUBY
    gate = Queue.new
    lambda do |env|
      case env["PATH_INFO"]
      when "/gated" then [200, text, Enumerator.new { |y| y << "first "; gate.pop; y << "second" }]
      when "/open" then gate.push(nil) && [204, {}, []]
      when "/endless"
        [200, text, Enumerator.new do |y|
          loop { y << "x" * 10_000 }
        rescue Iodine::ClientDisconnected
          say "left"
        end]
      when "/echo" then [200, text, [env["rack.input"].read.bytesize.to_s]]
      when "/report" then say(env["rack.input"].read) || [204, {}, []]
      else [404, text, ["none"]]
      end
    end
  RUBY

  # Ten minutes of silence: 8,000 samples a second, two bytes each.
  def wav(seconds: 600)
    data = "\0" * (8_000 * 2 * seconds)
    "RIFF#{[36 + data.bytesize].pack("V")}WAVEfmt #{[16, 1, 1, 8_000, 16_000, 2, 16].pack("VvvVVvv")}data#{[data.bytesize].pack("V")}#{data}"
  end

  before do
    skip "there is no Chromium" unless browser
    @folder = Dir.mktmpdir("iodine-spec-chromium")
  end

  # Of the browser's processes only the first is waited for; another one may be in the middle of a write yet.
  after { @folder && eventually { FileUtils.rm_rf(@folder) && !File.exist?(@folder) } }

  # Has Chromium open a page, and yields what that reports.
  define_method(:open_page) do |server, path = "/", &block|
    arguments = %w[--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
                   --disable-component-update --disable-sync --mute-audio --disable-popup-blocking
                   --disable-background-timer-throttling --disable-renderer-backgrounding]
    pid = Process.spawn(browser, *arguments, "--user-data-dir=#{@folder}/profile", "--remote-debugging-port=0",
                        "http://127.0.0.1:#{server.port}#{path}", in: File::NULL, out: File::NULL, err: File::NULL, pgroup: true)
    begin
      block.call(JSON.parse(server.wait_for_said(/\{.*\}/, seconds: 90).grep(/\A\{/).first))
    ensure
      Process.kill(:KILL, -pid)
      Process.wait(pid)
    end
  end

  it "reads streams and ranges, and seeks" do
    public = File.join(@folder, "public")
    FileUtils.mkdir_p(public)
    File.write(File.join(public, "index.html"), page)
    File.binwrite(File.join(public, "sound.wav"), wav)
    server = serve(app, threads: 4, options: "public: #{public.inspect}")
    open_page(server) do |report|
      expect(report).to eq(
        "stream" => "first second", "left" => "aborted", "range" => [206, "bytes 8-11/9600044", "WAVE"],
        "revalidated" => [200, 9_600_044], "seek" => [600, 595], "post" => "200000"
      )
      server.wait_for_said("left")
    end
  end

  # Steps one after the other, each with its name in the report.
  script = <<~'HTML'
    <!doctype html><meta charset="utf-8"><title>iodine</title>
    <script>
      const report = async (steps) => {
        const told = {};
        for (const [name, step] of Object.entries(steps)) {
          try { told[name] = await step(); } catch (error) { told[name] = String(error); }
        }
        fetch("/report", { method: "POST", body: JSON.stringify(told) });
      };
      const once = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));
      const until = async (test) => {
        for (const limit = Date.now() + 25000; Date.now() < limit;) {
          const value = test();
          if (value) return value;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        throw new Error(`never: ${test}`);
      };
    </script>
  HTML

  it "talks by WebSocket, compressed, and listens to an EventSource, again after it was cut off" do
    real_time = script + <<~'HTML'
      <script>
        const url = location.origin.replace("http", "ws") + "/socket";
        let socket;
        const ask = async (data) => { socket.send(data); return (await once(socket, "message")).data; };
        report({
          open: async () => {
            socket = new WebSocket(url, ["other", "chat"]);
            socket.binaryType = "arraybuffer";
            await once(socket, "open");
            return [socket.protocol, socket.extensions.split(";")[0]];
          },
          text: () => ask("gr\u00fc\u00dfe"),
          binary: async () => [...new Uint8Array(await ask(new Uint8Array([0, 255, 128])))],
          large: async () => (await ask("x".repeat(2000000))).length,
          closed: async () => {
            socket.send("close 4321 enough");
            const { code, reason, wasClean } = await once(socket, "close");
            return [code, reason, wasClean];
          },
          close: async () => {
            socket = new WebSocket(url);
            await once(socket, "open");
            socket.close(4000, "bye");
            const { code, wasClean } = await once(socket, "close");
            return [code, wasClean];
          },
          events: async () => {
            const source = new EventSource("/events");
            const heard = [];
            source.onmessage = ({ data, lastEventId }) => heard.push([data, lastEventId]);
            source.addEventListener("named", ({ data }) => heard.push(["named", data]));
            await until(() => heard.length === 4);
            source.close();
            return heard;
          },
        });
      </script>
    HTML
    server = serve(<<~RUBY, options: "deflate: true, max_msg: 4096")
      class Echo
        def on_message(client, data)
          what, code, reason = data.split
          what == "close" ? client.close(Integer(code), reason) : client.write(data)
        end

        def on_close(client) = say("closed", client.close_code.inspect, client.close_reason)
      end

      # Ends after each event, so that the browser has to come again.
      class Events
        def initialize(last) = @last = last

        def on_open(client)
          client.write_event("soon", retry: 10) unless @last
          return client.write_event("one\ntwo", id: "7") && client.close unless @last

          client.write("after \#{@last}")
          client.write_event("more", event: "named")
        end
      end

      lambda do |env|
        case env["PATH_INFO"]
        when "/socket"
          env["rack.upgrade"] = Echo.new
          [101, env["HTTP_SEC_WEBSOCKET_PROTOCOL"] ? { "sec-websocket-protocol" => "chat" } : {}, []]
        when "/events"
          env["rack.upgrade"] = Events.new(env["HTTP_LAST_EVENT_ID"])
          [200, {}, []]
        when "/report" then say(env["rack.input"].read) || [204, {}, []]
        else [200, { "content-type" => "text/html" }, [#{real_time.dump}]]
        end
      end
    RUBY
    open_page(server) do |report|
      expect(report).to eq(
        "open" => ["chat", "permessage-deflate"], "text" => "gr\u00fc\u00dfe", "binary" => [0, 255, 128], "large" => 2_000_000,
        "closed" => [4321, "enough", true], "close" => [4000, true],
        "events" => [["soon", ""], ["one\ntwo", "7"], ["after 7", "7"], ["named", "more"]]
      )
      server.wait_for_said("closed 4000 bye")
    end
  end

  it "chats in three tabs, of which one has no WebSocket" do
    tabs = script + <<~'HTML'
      <script>
        const part = (tab, id) => tab.document.getElementById(id);
        const lines = (tab) => [...part(tab, "talk").children].map((line) => [line.className, line.lastElementChild?.textContent ?? line.textContent]);
        const enter = async (path, name, way) => {
          const tab = open(path);
          await until(() => tab.document?.readyState === "complete" && part(tab, "say"));
          part(tab, "name").value = name;
          part(tab, "enter").requestSubmit();
          await until(() => part(tab, "state").textContent === way);
          return tab;
        };
        const say = (tab, words) => {
          part(tab, "text").value = words;
          part(tab, "say").requestSubmit();
        };
        let ada, grace, edsger;
        report({
          chat: async () => {
            ada = await enter("/", "Ada", "WebSocket");
            grace = await enter("/", "Grace", "WebSocket");
            edsger = await enter("/?events", "Edsger", "EventSource");
            await until(() => lines(ada).length === 3);
            say(ada, "<b>hello</b>");
            await until(() => [ada, grace, edsger].every((tab) => lines(tab).at(-1)?.[1].includes("hello")));
            say(edsger, "gr\u00fc\u00dfe");
            await until(() => [ada, grace, edsger].every((tab) => lines(tab).at(-1)?.[1].startsWith("gr")));
            grace.close();
            await until(() => lines(ada).length === 6 && lines(edsger).length === 4);
            return [lines(ada), lines(edsger)];
          },
        });
      </script>
    HTML
    server = serve(<<~RUBY, threads: 2)
      require "rack"
      chat = [*Rack::Builder.parse_file(#{File.expand_path("../../examples/chat.ru", __dir__).inspect})].first
      lambda do |env|
        case env["PATH_INFO"]
        when "/tabs" then [200, { "content-type" => "text/html" }, [#{tabs.dump}]]
        when "/report" then say(env["rack.input"].read) || [204, {}, []]
        else chat.call(env)
        end
      end
    RUBY
    open_page(server, "/tabs") do |report|
      expect(report["chat"]).to eq(
        [
          [["note", "Ada is here"], ["note", "Grace is here"], ["note", "Edsger is here"],
           ["said mine", "<b>hello</b>"], ["said", "gr\u00fc\u00dfe"], ["note", "Grace has left"]],
          [["note", "Edsger is here"], ["said", "<b>hello</b>"], ["said mine", "gr\u00fc\u00dfe"], ["note", "Grace has left"]]
        ]
      )
    end
  end
end
