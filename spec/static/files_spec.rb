# frozen_string_literal: true

# Static files: which one a path names, what goes with it, and what is left for the application.

require_relative "../support/public_files"
require "net/http"
require "time"

RSpec.describe "static files" do
  big = Random.new(1).bytes(3_000_000)
  folder = public_files(
    "a.txt" => "0123456789", "empty.txt" => "", "index.html" => "<h1>index</h1>", "sub/index.html" => "sub",
    "sub/b.txt" => "b", "a b+c.txt" => "blank", "ä.txt" => "umlaut", ".secret" => "hidden", "sub/.git/config" => "git",
    ".well-known/acme-challenge/token" => "token", "m.wasm" => "\0asm", "script.mjs" => "1", "f.woff2" => "w",
    "i.avif" => "a", "s.js.map" => "{}", "app.webmanifest" => "{}", "noextension" => "?", "UPPER.HTML" => "up",
    "big.bin" => big, "style.css" => "plain css", "style.css.gz" => Zlib.gzip("plain css"), "style.css.br" => "as brotli",
    "style.css.zst" => "as zstd", "stale.js" => "new", "only.js.gz" => Zlib.gzip("only"), "404.html" => "a page",
    "../public-private/secret.txt" => "secret", "../outside.txt" => "outside", "folder.d/x" => "x", "custom.iodine" => "c"
  )
  PublicFiles.put("#{folder}/stale.js.gz", Zlib.gzip("old"), age: 2 * PublicFiles::OLD)
  File.symlink("a.txt", "#{folder}/link.txt")
  File.symlink("#{folder}/a.txt", "#{folder}/absolute.txt")
  File.symlink("../outside.txt", "#{folder}/out.txt")
  File.symlink("/etc", "#{folder}/etc")
  File.symlink("nowhere", "#{folder}/dead.txt")
  File.mkfifo("#{folder}/fifo.txt")
  app = '->(env) { [200, text, ["app #{env["REQUEST_METHOD"]} #{env["PATH_INFO"]}"]] }'
  options = "public: #{folder.inspect}, log: true"

  serve_for_all(app, options: options, before: 'Iodine.register_mime_type(".iodine", "text/x-iodine")')

  it "are announced" do
    expect(server.log).to match(/^INFO: Listening on port \d+\nINFO: Serving static files from #{folder}$/)
  end

  it "are served with what a client wants to know of them" do
    response = fetch("/a.txt")
    expect([response.status, response.body]).to eq([200, "0123456789"])
    expect(response.headers.to_h).to include(
      "content-type" => "text/plain", "content-length" => "10", "cache-control" => "max-age=3600",
      "accept-ranges" => "bytes", "last-modified" => File.mtime("#{folder}/a.txt").httpdate,
      "etag" => a_string_matching(/\A"[^"]+"\z/)
    )
    expect(response["date"]).to be_truthy
    expect(response["vary"]).to be_nil
  end

  {
    "/a.txt?x=y" => "0123456789", "/" => "<h1>index</h1>", "/sub/" => "sub", "/sub/b.txt" => "b",
    "/a%20b+c.txt" => "blank", "/%C3%A4.txt" => "umlaut", "/./a.txt" => "0123456789", "/sub/./b.txt" => "b",
    "/%61.txt" => "0123456789", "/empty.txt" => "", "/link.txt" => "0123456789", "/absolute.txt" => "0123456789",
    "/.well-known/acme-challenge/token" => "token", "http://localhost/a.txt" => "0123456789"
  }.each do |path, content|
    it("#{path} is a file") { expect(fetch(path).body).to eq(content) }
  end

  # F-02, F-08 and what else has been tried on servers.
  attempts = %w[
    /../outside.txt /sub/../a.txt /sub/../../outside.txt /%2e%2e/outside.txt /.%2e/outside.txt /..%2foutside.txt
    /..%5coutside.txt /..\\outside.txt /%252e%252e/outside.txt /..%252foutside.txt /sub/..%2f..%2foutside.txt
    //etc/passwd /%2fetc/passwd //a.txt /sub//b.txt /a.txt%00 /a.txt%00.png /a.txt/ /a.txt/. /%c0%ae%c0%ae/outside.txt
    /..%c0%afoutside.txt /%uff0e%uff0e/outside.txt /..;/outside.txt /....//outside.txt /out.txt /etc/passwd /etc/hostname
    /dead.txt /fifo.txt /sub /folder.d /.secret /%2esecret /sub/.git/config /.well-known/../.secret /a.txt%
    /a.txt%2 /a.txt%zz /public-private/secret.txt /../public-private/secret.txt /nothing.txt
  ]
  attempts.each do |path|
    it("#{path} is none") { expect(fetch(path).body).to eq("app GET #{path}") }
  end

  # The decoder refuses some of these before they can be anything.
  ["-private/secret.txt", "../outside.txt", "a.txt", "%2fa.txt", "x/../a.txt", "*"].each do |target|
    it "F-02: the target #{target} is none" do
      answer = RawClient.converse(server.port, "GET #{target} HTTP/1.1\r\nHost: x\r\n\r\n", half_close: true)
      expect(answer).not_to match(/secret|outside\n|0123456789/)
      expect(answer).to match(%r{\AHTTP/1\.1 400 |\r\n\r\napp GET })
    end
  end

  it "are for GET, HEAD and OPTIONS: the rest is the application's (F-03)" do
    %w[POST PUT DELETE PATCH COPY LINK get].each do |verb|
      expect(fetch("/a.txt", verb: verb).body).to eq("app #{verb} /a.txt")
    end
    expect(RawClient.exchange(server.port, "PUT /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab").first.body)
      .to eq("app PUT /a.txt")
  end

  it "tell of themselves to HEAD as to GET (F-48)" do
    %w[/a.txt /big.bin /style.css].each do |path|
      get, head = %w[GET HEAD].map { |verb| fetch(path, verb: verb).headers.reject { |name, _| name == "date" } }
      expect(head).to eq(get)
    end
  end

  it "tell OPTIONS what may be done" do
    response = fetch("/a.txt", { "Range" => "bytes=0-1", "If-None-Match" => "*" }, verb: "OPTIONS")
    expect([response.status, response["allow"], response["content-length"], response.body]).to eq([200, "GET, HEAD", "0", ""])
    expect(response["etag"]).to be_truthy
    expect(fetch("/nothing", verb: "OPTIONS").body).to eq("app OPTIONS /nothing")
  end

  it "are not for those who want a WebSocket or a stream of events" do
    expect(fetch("/a.txt", "Upgrade" => "websocket", "Connection" => "Upgrade").body).to eq("app GET /a.txt")
    expect(fetch("/a.txt", "Accept" => "text/event-stream").body).to eq("app GET /a.txt")
    expect(fetch("/a.txt", "Upgrade" => "h2c", "Accept" => "*/*").body).to eq("0123456789")
  end

  {
    "/index.html" => "text/html", "/UPPER.HTML" => "text/html", "/m.wasm" => "application/wasm",
    "/script.mjs" => "text/javascript", "/f.woff2" => "font/woff2", "/i.avif" => "image/avif",
    "/s.js.map" => "application/json", "/app.webmanifest" => "application/manifest+json",
    "/noextension" => "application/octet-stream", "/style.css.gz" => "application/gzip", "/custom.iodine" => "text/x-iodine"
  }.each do |path, type|
    it("F-48: #{path} is #{type}") { expect(fetch(path, {}, verb: "HEAD")["content-type"]).to eq(type) }
  end

  it "types are added with sense only" do
    require "iodine"
    ["", "a/b", "a.b", "a\0b"].each { |name| expect { Iodine.register_mime_type(name, "a/b") }.to raise_error(ArgumentError) }
    ["", "html", "a/b\r\nx: y", "a/b; x=\n"].each do |type|
      expect { Iodine.register_mime_type("abc", type) }.to raise_error(ArgumentError), type
    end
    expect(Iodine.register_mime_type(:abc, "text/x-abc; charset=utf-8")).to be_nil
  end

  describe "in encoded forms (F-35)" do
    def form(accepts, path = "/style.css")
      response = fetch(path, accepts ? { "Accept-Encoding" => accepts } : {})
      expect(response["vary"]).to eq("accept-encoding")
      [response["content-encoding"], response.body]
    end

    {
      nil => [nil, "plain css"], "br" => ["br", "as brotli"], "zstd" => ["zstd", "as zstd"],
      "gzip, deflate, br, zstd" => ["br", "as brotli"], "br;q=0.5, zstd;q=0.9" => ["zstd", "as zstd"],
      "gzip;q=0" => [nil, "plain css"], "identity, br;q=0.9" => [nil, "plain css"], "*" => ["br", "as brotli"],
      %w[br;q=0 gzip] => ["gzip", Zlib.gzip("plain css")], "x" => [nil, "plain css"]
    }.each do |accepts, (coding, content)|
      it "#{accepts.inspect} gets #{coding || "the plain one"}" do
        got = form(accepts)
        got[1] = Zlib.gunzip(got[1]) if got[0] == "gzip"
        expect(got).to eq([coding, coding == "gzip" ? "plain css" : content])
      end
    end

    it "they are of the plain file's type, with tags of their own" do
      responses = ["", "br", "zstd", "gzip"].map { |accepts| fetch("/style.css", "Accept-Encoding" => accepts) }
      expect(responses.map { |response| response["content-type"] }.uniq).to eq(["text/css"])
      expect(responses.map { |response| response["etag"] }.uniq.size).to eq(4)
    end

    it "one that is older than the file is a leftover" do
      response = fetch("/stale.js", "Accept-Encoding" => "gzip")
      expect([response["content-encoding"], response.body, response["vary"]]).to eq([nil, "new", nil])
    end

    it "they need no plain file, as in 0.7" do
      expect(Zlib.gunzip(form("gzip", "/only.js").last)).to eq("only")
      expect(fetch("/only.js").body).to eq("app GET /only.js")
    end
  end

  it "are logged like any other answer" do
    # Both: the line of an example before this one may be written only now.
    lines = server.log_after(%r{ 206 3b .*"GET /big\.bin.*\n}m) { fetch("/a.txt", "Range" => "bytes=0-2") && fetch("/big.bin") }
    expect(lines).to match(%r{^127\.0\.0\.1 - - \[[^\]]+ GMT\] "GET /a\.txt HTTP/1\.1" 206 3b \d+ms\r$})
    expect(lines).to match(%r{"GET /big\.bin HTTP/1\.1" 200 3000000b \d+ms\r$})
  end

  it "come in one piece, however large" do
    expect(fetch("/big.bin").body == big).to be(true)
  end

  it "are kept by a client that knows how" do
    Net::HTTP.start("127.0.0.1", server.port) do |http|
      first = http.get("/style.css")
      expect([first.code, first.body]).to eq(["200", "plain css"])
      coding = { "Accept-Encoding" => "gzip;q=1.0,deflate;q=0.6,identity;q=0.3" }
      again = http.get("/style.css", coding.merge("If-None-Match" => first["etag"]))
      expect([again.code, again.body, again["etag"]]).to eq(["304", nil, first["etag"]])
      since = http.get("/style.css", "If-Modified-Since" => first["last-modified"])
      expect(since.code).to eq("304")
    end
  end

  it "may be hidden ones, and reached by links, where that is wanted" do
    open = serve(app, options: "#{options}, public_hidden: true, public_symlinks: true")
    get = ->(path) { fetch(path, port: open.port).body }
    expect(get["/.secret"]).to eq("hidden")
    expect(get["/sub/.git/config"]).to eq("git")
    expect(get["/out.txt"]).to eq("outside")
    expect(get["/etc/hostname"]).to eq(File.binread("/etc/hostname"))
    expect(get["/../outside.txt"]).to eq("app GET /../outside.txt")
    expect(get["/fifo.txt"]).to eq("app GET /fifo.txt")
  end

  it "are none where a link leads out of the folder, whether or not it may be followed" do
    own = "#{folder}-of-nobody"
    { "locked/a.txt" => own, "a.txt" => "#{own}-private" }.each { |name, place| PublicFiles.put("#{place}/#{name}", "x") }
    File.symlink("#{own}-private/a.txt", "#{own}/absolute.txt")
    File.symlink("../#{File.basename(own)}-private", "#{own}/out")
    File.symlink("out/a.txt", "#{own}/twice.txt")
    File.symlink("#{own}/locked/a.txt", "#{own}/inside.txt")
    File.chmod(0o755, File.dirname(own))
    File.chmod(0, "#{own}/locked", "#{own}-private")
    nobody = serve(app, options: "public: #{own.inspect}",
                        before: "Process::UID.change_privilege(65_534) if Process.uid.zero?")
    get = ->(path) { fetch(path, port: nobody.port) }
    %w[/absolute.txt /out/a.txt /twice.txt].each { |path| expect(get[path].body).to eq("app GET #{path}") }
    %w[/inside.txt /locked/a.txt].each { |path| expect(get[path].status).to eq(403), path }
  ensure
    File.chmod(0o755, "#{own}/locked", "#{own}-private")
  end

  it "have headers by pattern, of which the first counts" do
    rules = '{ "/sub/**" => "no-store", "*.{html,css}" => { "Cache-Control" => "no-cache", "X-Frame-Options" => "DENY" }, ' \
            '"a.txt" => { "cache-control" => nil }, "**" => "max-age=1" }'
    ruled = serve(app, options: "#{options}, public_headers: #{rules}")
    get = ->(path) { fetch(path, port: ruled.port) }
    expect(get["/sub/b.txt"]["cache-control"]).to eq("no-store")
    expect(get["/sub/"]["cache-control"]).to eq("no-store")
    expect(get["/"].headers.to_h).to include("cache-control" => "no-cache", "x-frame-options" => "DENY")
    expect(get["/a.txt"]["cache-control"]).to be_nil
    expect(get["/big.bin"].all("cache-control")).to eq(["max-age=1"])
  end
end
