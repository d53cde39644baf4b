# frozen_string_literal: true

# A browser: a page in headless Chromium reads streams and ranges, is sent back and forth in a sound file, and reports.

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

  it "reads streams and ranges, and seeks" do
    skip "there is no Chromium" unless browser

    Dir.mktmpdir("iodine-spec-chromium") do |folder|
      public = File.join(folder, "public")
      FileUtils.mkdir_p(public)
      File.write(File.join(public, "index.html"), page)
      File.binwrite(File.join(public, "sound.wav"), wav)
      server = serve(app, threads: 4, options: "public: #{public.inspect}")
      arguments = %w[--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
                     --disable-component-update --disable-sync --mute-audio]
      pid = Process.spawn(browser, *arguments, "--user-data-dir=#{folder}/profile", "--remote-debugging-port=0",
                          "http://127.0.0.1:#{server.port}/", in: File::NULL, out: File::NULL, err: File::NULL, pgroup: true)
      begin
        report = server.wait_for_said(/\{.*\}/, seconds: 60).grep(/\A\{/).first
        expect(JSON.parse(report)).to eq(
          "stream" => "first second", "left" => "aborted", "range" => [206, "bytes 8-11/9600044", "WAVE"],
          "revalidated" => [200, 9_600_044], "seek" => [600, 595], "post" => "200000"
        )
        server.wait_for_said("left")
      ensure
        Process.kill(:KILL, -pid)
        Process.wait(pid)
      end
    end
  end
end
