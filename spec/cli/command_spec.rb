# frozen_string_literal: true

# The `iodine` command up to the point where it would serve: settings, help, refusals and exit codes.

require "iodine"
require "open3"
require "rbconfig"
require "tmpdir"
require "timeout"
require "pty"

RSpec.describe "the iodine command" do
  root = File.expand_path("../..", __dir__)
  command = [RbConfig.ruby, "-I#{root}/lib", "#{root}/exe/iodine"]
  clean = %w[PORT THREADS WORKERS WEB_CONCURRENCY IODINE_REDIS_URL].to_h { |name| [name, nil] }

  around do |example|
    Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } }
  end

  # Output, errors and status; a command that goes on and on is killed (and has no exit status).
  define_method(:iodine) do |*words, env: {}|
    Open3.popen3(clean.merge(env), *command, *words) do |input, output, errors, waiter|
      input.close
      readers = [output, errors].map { |stream| Thread.new { stream.read } }
      Process.kill("KILL", waiter.pid) unless waiter.join(20)
      [*readers.map(&:value), waiter.value]
    end
  end

  # What the flags make of the settings: a configuration file is the first code that sees them.
  define_method(:settings) do |*words, env: {}, what: "Iodine::DEFAULT_SETTINGS"|
    File.write("show.rb", "p(#{what}); exit")
    out, err, status = iodine(*words, "-C", "show.rb", env: env)
    raise err unless status.success?

    [out.chomp, err]
  end

  describe "flags" do
    it "change nothing when there are none" do
      expect(settings.first).to eq({ port: "3000", address: nil }.inspect)
    end

    {
      %w[-p 4001] => { port: "4001" },
      %w[-b 127.0.0.1] => { address: "127.0.0.1" },
      %w[-b ./x.sock] => { port: "0", address: "./x.sock" },
      %w[-k 5] => { timeout: 5 },
      %w[-v] => { log: true },
      %w[-maxbd 1 -maxhd 2 -maxms 3 -max-line 4 -max-header-count 5 -max-clients 6] =>
        { max_body: 1, max_headers: 2, max_msg: 3, max_line: 4, max_header_count: 5, max_clients: 6 },
      %w[-head-timeout 1 -body-timeout 2 -write-timeout 3 -shutdown-timeout 4] =>
        { head_timeout: 1, body_timeout: 2, write_timeout: 3, shutdown_timeout: 4 },
      %w[-ping 9] => { ping: 9 },
      %w[-max-queue 1 -queue-timeout 0.5 -max-jobs 2 -linger-timeout 3] =>
        { max_queue: 1, queue_timeout: 0.5, max_jobs: 2, linger_timeout: 3 },
      %w[-body-memory 4 -reserved-descriptors 5] => { body_memory: 4, reserved_descriptors: 5 },
      %w[-warmup] => { warmup_: true },
      %w[-pid ./x.pid] => { pid: "./x.pid" },
      %w[my_app.ru] => { filename_: "my_app.ru" },
      %w[-www ./public -public-hidden -public-symlinks -sendfile-roots /a:/b] =>
        { public: "./public", public_hidden: true, public_symlinks: true, sendfile_roots: "/a:/b" }
    }.each do |words, expected|
      it "#{words.join(" ")} sets #{expected.keys.join(", ")}" do
        shown, = settings(*words, what: "Iodine::DEFAULT_SETTINGS.values_at(*#{expected.keys})")
        expect(shown).to eq(expected.values.inspect)
      end
    end

    it "set the counts, also in the forms with prefixes" do
      counts = "[Iodine.threads, Iodine.workers, Iodine.verbosity]"
      expect(settings("-t3", "-w=-2", "-V", "2", what: counts).first).to eq("[3, -2, 2]")
    end

    it "win over the environment (F-50)" do
      env = { "THREADS" => "5", "WEB_CONCURRENCY" => "6", "PORT" => "4009", "IODINE_HEAD_TIMEOUT" => "7" }
      what = "[Iodine.threads, Iodine.workers, *Iodine::DEFAULT_SETTINGS.values_at(:port, :head_timeout)]"
      expect(settings(what: what, env: env).first).to eq('[5, 6, "4009", 7]')
      words = %w[-t 1 -w 2 -p 4001 -head-timeout 3]
      expect(settings(*words, what: what, env: env).first).to eq('[1, 2, "4001", 3]')
    end

    it "leave ARGV alone" do
      expect(settings("-p", "4001", what: "ARGV").first).to eq('["-p", "4001", "-C", "show.rb"]')
    end

    it "warn when a Unix socket makes the port useless" do
      expect(settings("-b", "/tmp/x.sock", "-p", "4001").last)
        .to eq("WARNING: -port 4001 is ignored: /tmp/x.sock is a Unix socket.\n")
      expect(settings("-b", "/tmp/x.sock", "-p", "0").last).to eq("")
    end

    it "have the variable's Redis, or another one" do
      redis = { "IODINE_REDIS_URL" => "redis://localhost:7000" }
      expect(settings(env: redis).last).to eq("INFO: Initializing Redis engine for address: localhost:7000\n")
      expect(settings("-V", "1", env: redis).last).to eq("")
      expect(settings("-r", "redis://localhost:7001", env: redis).last).to eq("INFO: Initializing Redis engine for address: localhost:7001\n")
    end

    it "ignore a verbosity out of range, and say so" do
      shown, err = settings("-V", "100", what: "Iodine.verbosity")
      expect(shown).to eq("4")
      expect(err).to start_with("WARNING: -verbosity 100 is ignored")
    end

    it "serve the first of several files, and say so" do
      shown, err = settings("a.ru", "b.ru", what: "Iodine::DEFAULT_SETTINGS[:filename_]")
      expect(shown).to eq('"a.ru"')
      expect(err).to eq("WARNING: only a.ru is served; ignored: b.ru\n")
    end
  end

  it "parses flags for a script that sets IODINE_PARSE_CLI, and not otherwise" do
    code = "require 'iodine'; p Iodine::DEFAULT_SETTINGS[:port]"
    ruby = [RbConfig.ruby, "-I#{root}/lib"]
    run = ->(head) { Open3.capture3(clean, *ruby, "-e", head + code, "--", "-p", "4001").first }
    expect(run.call("IODINE_PARSE_CLI = true; ")).to eq("\"4001\"\n")
    expect(run.call("IODINE_PARSE_CLI = false; ")).to eq("\"3000\"\n")
    expect(run.call("")).to eq("\"3000\"\n")
  end

  describe "help" do
    %w[-h -help --help -?].each do |word|
      it "is printed by #{word}, with status 0 and no colours" do
        out, err, status = iodine(word)
        expect([status.exitstatus, err]).to eq([0, ""])
        expect(out).to include("iodine #{Iodine::VERSION}", "Usage: iodine <options> <filename>")
        expect(out).not_to include("\e")
      end
    end

    it "shows every spelling of every option" do
      out, = iodine("-h")
      Iodine::Base::CLI::OPTIONS.each do |option|
        option.names.each { |name| expect(out).to match(/(^  |, )-#{Regexp.escape(name)}[ ,\n]/) }
      end
      expect(out).to include("--preload")
    end

    it "has bold words on a terminal, unless NO_COLOR is set" do
      { {} => true, { "NO_COLOR" => "1" } => false }.each do |env, styled|
        text = +""
        PTY.spawn(clean.merge("NO_COLOR" => nil).merge(env), *command, "-h") do |reader, _writer, pid|
          Timeout.timeout(20) { loop { text << reader.readpartial(4096) } }
        rescue Errno::EIO, EOFError
          Process.wait(pid)
        end
        expect(text).to include("Usage")
        expect(text.include?("\e[1m")).to be(styled)
      end
    end
  end

  %w[-version --version].each do |word|
    it "prints its version on #{word}" do
      expect(iodine(word).first).to eq("iodine #{Iodine::VERSION}\n")
    end
  end

  describe "what it refuses (F-59)" do
    {
      %w[-p abc] => '-port needs a whole number, not "abc"',
      %w[-x] => "-x is not an option",
      %w[-t 5000] => "-threads 5000: requsted thread count is out of range.",
      %w[-w 600] => "-workers 600: requsted worker process count is out of range.",
      %w[-tls] => "TLS is not available in this version yet (-tls was given)",
      %w[-key k.pem] => "TLS is not available in this version yet (-tls-key was given)",
      %w[-r redis://localhost/1] => 'the Redis URL "redis://localhost/1" can not be used: it names a database, 1, but pub/sub knows none; leave it out.',
      %w[-r http://localhost] => 'the Redis URL "http://localhost" can not be used: its scheme is none of redis, rediss and unix.',
      %w[-rp 5x] => '-redis-ping needs a whole number, not "5x"',
      %w[-pid .] => "-pid .: pid filename shold point to a valid file name (not a folder)!"
    }.each do |words, reason|
      it "#{words.join(" ")}: the reason on stderr, status 2" do
        out, err, status = iodine(*words)
        expect(status.exitstatus).to eq(2)
        expect(err).to start_with("iodine: #{reason}\nusage: iodine ")
        expect(out).to eq("")
      end
    end

    it "no application: the reason on stderr, status 1" do
      out, err, status = iodine("-p", "4001")
      expect(status.exitstatus).to eq(1)
      expect(err).to start_with("iodine: there is no config.ru in #{File.realpath(Dir.pwd)}")
      expect(out).to eq("")
    end

    it "a missing configuration file: the reason on stderr, status 1" do
      _, err, status = iodine("-C", "missing.rb")
      expect([status.exitstatus, err]).to match([1, /\Aiodine: cannot find the configuration file missing\.rb/])
    end

    {
      "an application that raises" => "raise IOError, 'told by the app'",
      "one that forgets to run anything" => "# told by the app\nuse Rack::Lint",
      "one with a syntax error" => "run ( # told by the app"
    }.each do |what, text|
      it "#{what}: its exception, status 1" do
        File.write("config.ru", text)
        _, err, status = iodine
        expect(status.exitstatus).to eq(1)
        expect(err).to match(/told by the app|missing run|SyntaxError/)
      end
    end
  end
end
