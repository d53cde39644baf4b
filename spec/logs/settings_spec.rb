# frozen_string_literal: true

# How the request log is asked for: keywords, defaults, flags and variables.

require "iodine"
require "open3"
require "pathname"
require "rbconfig"
require "tmpdir"

RSpec.describe "settings of the request log" do
  def options(**settings)
    Iodine::Base::RequestLog.options(settings)
  end

  off = { log: nil, request_id: false, request_id_response: false }

  it "are off unless told" do
    expect(options).to eq(off)
    expect(options(log: false, log_format: :json, log_to: "x")).to eq(off)
    expect(options(log_format: "", log_to: "")).to eq(off)
  end

  it "turn the log on by its name, its format or its place" do
    expect(options(log: true)).to eq(off.merge(log: { format: nil }))
    expect(options(log: 1)[:log]).to eq(format: nil)
    expect(options(log_format: :json)[:log]).to eq(format: "json")
    expect(options(log_to: :stdout)[:log]).to eq(format: nil, stdout: true)
  end

  it "take places by name, by path and by stream" do
    path = File.expand_path("x.log")
    { stderr: { stdout: false }, "stderr" => { stdout: false }, STDERR => { stdout: false }, $stderr => { stdout: false },
      stdout: { stdout: true }, "-" => { stdout: true }, STDOUT => { stdout: true }, "x.log" => { file: path },
      Pathname.new("x.log") => { file: path }, "./stdout" => { file: File.expand_path("stdout") } }.each do |given, expected|
      expect(options(log_to: given)[:log]).to eq(format: nil, **expected), given.inspect
    end
  end

  it "refuse what makes no sense" do
    expect { options(log_to: 1) }.to raise_error(ArgumentError, /\Alog_to must be :stderr, :stdout or the path of a file, not 1/)
    expect { options(log_format: 1) }.to raise_error(ArgumentError, "log_format must be a Symbol or a String, not 1")
    expect { options(log_format: "%{path}\xFF") }.to raise_error(ArgumentError, /\Alog_format must be UTF-8, not /)
    expect { options(request_id: "false") }.to raise_error(ArgumentError, 'request_id must be true or false, not "false"')
  end

  {
    "combinde" => '"combinde" is no log format; known are iodine, common, combined, json, and templates such as ',
    "%{paht}" => "%{paht} is no field of a log line; known are client, time, date, ",
    "%{path} 100%" => "a % that begins no %{field} must be doubled",
    "%{path" => "the last %{ is not closed",
    "%{path}\n" => "a template is one line, without control characters",
    "%{header:}" => "%{header:} names no header"
  }.each do |format, reason|
    it "refuse the format #{format.inspect} before anything is bound" do
      expect { Iodine.listen(service: :http, port: 0, handler: -> {}, log_format: format) }
        .to raise_error(ArgumentError) { |error| expect(error.message).to start_with("log_format: #{reason}") }
      expect(Iodine.listeners).to eq([])
    end
  end

  app = '->(env) { [200, text, ["abc"]] }'

  def line_of(server, pattern = /.*\n/)
    server.log_after(pattern) { RawClient.open(server.port) { |client| client.get("/a") } }
  end

  it "come from DEFAULT_SETTINGS, where a listener says nothing else" do
    before = 'Iodine::DEFAULT_SETTINGS[:log_format] = "%{path}"'
    expect(line_of(serve(app, before: before))).to eq("/a\n")
    expect(line_of(serve(app, before: before, options: "log_format: '%{bytes}'"))).to eq("3\n")
    server = serve(app, before: before, options: "log: false")
    RawClient.open(server.port, &:get)
    server.stop
    expect(server.log).not_to match(%r{^/$})
  end

  it "come from variables" do
    Dir.mktmpdir do |folder|
      file = File.join(folder, "x.log")
      server = serve(app, env: { "IODINE_LOG" => "1", "IODINE_LOG_FORMAT" => "%{path} %{request_id}", "IODINE_LOG_TO" => file,
                                 "IODINE_REQUEST_ID_RESPONSE" => "on" })
      id = RawClient.open(server.port) { |client| client.get("/a") }["x-request-id"]
      server.stop
      expect(File.read(file)).to eq("/a #{id}\n")
    end
    server = serve(app, env: { "IODINE_LOG" => "maybe" })
    expect(server.log).to include("WARNING: the environment variable IODINE_LOG=maybe is ignored: 1 or 0 is needed.")
    expect(line_of(serve(app, env: { "IODINE_LOG" => "yes" }))).to match(%r{"GET /a HTTP/1\.1" 200 3b})
  end

  it "come from flags, which do not get in the way of -log, -v and -r" do
    typed = Iodine::Base::CLI::Parser.parse(
      %w[-log-format=json -log-to ./x.log -request-id -request-id-response -log -p3001]
    )
    expect(typed.values).to eq("log-format" => "json", "log-to" => "./x.log", "request-id" => true,
                               "request-id-response" => true, "log" => true, "port" => 3001)
    settings = %w[log log-format log-to request-id request-id-response].map do |name|
      Iodine::Base::CLI::OPTIONS.find { |option| option.name == name }.setting
    end
    expect(settings).to eq(Iodine::Base::RequestLog::SETTINGS)
  end

  it "work from the command line" do
    root = File.expand_path("../..", __dir__)
    Dir.mktmpdir do |folder|
      File.write("#{folder}/config.ru", "run ->(_env) { [200, {}, ['abc']] }")
      command = [RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/iodine", "-b", "#{folder}/s.sock", "-w", "1", "-t", "1"]
      flags = ["-log-format", "%{client} %{method} %{path}", "-log-to", "#{folder}/x.log", "#{folder}/config.ru"]
      pid = Process.spawn(*command, *flags, out: File::NULL, err: File::NULL)
      # The file is there before anybody listens.
      client = eventually do
        RawClient.open_unix("#{folder}/s.sock")
      rescue Errno::ENOENT, Errno::ECONNREFUSED
        nil
      end
      client.get("/a")
      client.close
      eventually { File.read("#{folder}/x.log") == "#{folder}/s.sock GET /a\n" }
      Process.kill(:TERM, pid)
      Process.wait(pid)
      _, error, status = Open3.capture3(*command, "-log-format", "%{nothing}", "#{folder}/config.ru")
      expect([status.success?, error]).to match([false, /log_format: %\{nothing\} is no field of a log line/])
    end
  end
end
