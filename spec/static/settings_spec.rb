# frozen_string_literal: true

# The settings of static files: how a folder may be named, what is refused, and service without an application.

require_relative "../support/public_files"
require_relative "../support/command"

RSpec.describe "a folder of static files" do
  folder = public_files("a.txt" => "a", "index.html" => "index", "404.html" => "a page for 404")

  # What `listen` raises for these options.
  def refusal(options)
    script = "require 'iodine'\nbegin; Iodine.listen(service: :http, port: 0, address: '127.0.0.1', #{options})\n" \
             "rescue StandardError => e; say e.class, e.message; end"
    start_script(script).tap(&:wait).said.last
  end

  it "needs no handler (F-66)" do
    ["public: #{folder.inspect}", "public: #{folder.inspect}, handler: false"].each do |options|
      server = start_script("require 'iodine'\nIodine.workers = 1\n" \
                            "say Iodine.listen(service: :http, port: 0, address: '127.0.0.1', #{options}).inspect\nIodine.start")
      server.wait_until_ready
      expect(server.said).to eq(["false"])
      expect(fetch("/a.txt", port: server.port).body).to eq("a")
      missing = fetch("/b.txt", port: server.port)
      expect([missing.status, missing["content-type"], missing.body]).to eq([404, "text/html", "a page for 404"])
      expect(fetch("/a.txt", { "Content-Length" => "0" }, verb: "POST", port: server.port).status).to eq(404)
    end
  end

  it "is not needed where there is no handler" do
    server = start_script("require 'iodine'\nIodine.workers = 1\n" \
                          "Iodine.listen(service: :http, port: 0, address: '127.0.0.1', handler: false)\nIodine.start")
    missing = fetch("/", port: server.wait_until_ready.port)
    expect([missing.status, missing.body]).to eq([404, "404 Not Found"])
    expect(server.log).to match(/^WARNING: there is no handler/)
  end

  it "may be relative, under ~, a Pathname, end with a slash, or be the default" do
    parent, name = File.split(folder)
    home = { "HOME" => parent }
    {
      "public: #{name.inspect}" => {}, "public: '~/#{name}'" => {}, "public: '#{folder}/'" => {},
      "public: (require 'pathname'; Pathname.new(#{folder.inspect}))" => {}, "" => { default: true }
    }.each do |options, how|
      before = "Dir.chdir(#{parent.inspect})\n"
      before += "Iodine::DEFAULT_SETTINGS[:public] = #{folder.inspect}" if how[:default]
      server = serve('->(_env) { [200, text, ["app"]] }', options: options, before: before, env: home)
      expect(fetch("/a.txt", port: server.port).body).to eq("a"), options
      server.stop
    end
  end

  it "may come later" do
    later = "#{folder}-later"
    server = serve('->(_env) { [200, text, ["app"]] }', options: "public: #{later.inspect}")
    expect(fetch("/a.txt", port: server.port).body).to eq("app")
    PublicFiles.put("#{later}/a.txt", "at last")
    expect(fetch("/a.txt", port: server.port).body).to eq("at last")
  end

  it "is refused with a reason where it makes no sense" do
    expect(refusal("public: 5")).to match(/\ATypeError public: must be the path of a folder, not 5/)
    ["5", "['x', 5]"].each do |roots|
      expect(refusal("public: 'x', sendfile_roots: #{roots}")).to match(/\ATypeError sendfile_roots: must be paths of folders, not 5/)
    end
    expect(refusal("public: 'x', public_headers: 'no'")).to match(/\ATypeError public_headers: must be a Hash/)
    expect(refusal("public: 'x', public_headers: { '*' => 5 }")).to match(/\ATypeError public_headers: "\*" needs a String/)
    expect(refusal("public: 'x', public_headers: { '*' => { 'ETag' => 'x' } }"))
      .to match(/\AArgumentError public_headers: etag is for the server to say/)
    expect(refusal("public: 'x', public_headers: { '*' => { 'a b' => 'x' } }")).to match(/\AArgumentError invalid header name/)
    expect(refusal("public: 'x', public_headers: { '*' => %(a\\r\\nb: c) }")).to match(/\AArgumentError invalid header value/)
    # It would switch on what must be asked for.
    %w[public_hidden public_symlinks early_hints].each do |key|
      expect(refusal("public: 'x', #{key}: 'false'")).to match(/\AArgumentError #{key} must be true or false, not "false"/)
    end
  end

  it "is served by the command without an application" do
    Dir.mktmpdir do |empty|
      script = "IODINE_PARSE_CLI = true\nARGV.replace(['-b', '127.0.0.1', '-p', '0', '-w', '1', '-t', '1', '-www', #{folder.inspect}])\n" \
               "load '#{ServerProcess::ROOT}/exe/iodine'"
      server = start_script(script, chdir: empty).wait_until_ready
      expect(fetch("/", port: server.port).body).to eq("index")
      expect(fetch("/b", port: server.port).status).to eq(404)
    end
  end
end
