# frozen_string_literal: true

# The `iodine` command, rackup and rails, serving for real, each in a process of its own.

require "net/http"
require "rbconfig"
require "socket"
require "timeout"
require "tmpdir"

RSpec.describe "serving from the command line" do
  root = File.expand_path("../..", __dir__)
  ruby = [RbConfig.ruby, "-I#{root}/lib"]
  command = [*ruby, "#{root}/exe/iodine"]
  unset = %w[PORT THREADS WORKERS WEB_CONCURRENCY RACK_HANDLER RACKUP_HANDLER RACK_ENV]
          .to_h { |name| [name, nil] }
  # Rails takes a while to load.
  deadline = 40

  let(:port) { FreePort.take }

  around do |example|
    Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } }
  end

  before do
    File.write("config.ru", <<~RUBY)
      run ->(env) { [200, { "content-type" => "text/plain" }, ["\#{Process.pid} \#{env["PATH_INFO"]}"]] }
    RUBY
  end

  after do
    stop("KILL") if @pid
  end

  # Starts a server and waits until it listens; its output goes to out.log.
  define_method(:serve) do |*words, env: {}, with: command, at: -> { TCPSocket.new("127.0.0.1", port) }|
    @pid = Process.spawn(unset.merge(env), *with, *words, %i[out err] => ["out.log", "a"], in: :close)
    Timeout.timeout(deadline) do
      at.call.close
    rescue SystemCallError
      if Process.wait(@pid, Process::WNOHANG)
        @pid = nil
        raise "it ended early: #{log}"
      end
      sleep 0.02
      retry
    end
  end

  define_method(:get) do |path = "/"|
    Timeout.timeout(deadline) { Net::HTTP.get_response("127.0.0.1", path, port) }
  end

  # Its exit status.
  define_method(:stop) do |signal = "INT"|
    Process.kill(signal, @pid)
    Timeout.timeout(deadline) { Process.wait(@pid) }
    $?.exitstatus
  ensure
    @pid = nil
  end

  define_method(:log) { File.read("out.log") }

  %w[INT TERM].each do |signal|
    it "serves config.ru until #{signal}, then exits with 0" do
      serve("-p", port.to_s, "-w", "1", "-t", "2")
      expect(get("/here").body).to eq("#{@pid} /here")
      expect(stop(signal)).to eq(0)
    end
  end

  it "understands the short forms and another file" do
    File.write("other.ru", "run ->(_env) { [200, {}, ['other']] }")
    serve("-p#{port}", "-w1", "-t=1", "other")
    expect(get.body).to eq("other")
    expect(stop).to eq(0)
  end

  it "takes everything from the environment when there are no arguments (F-50)" do
    serve(env: { "PORT" => port.to_s, "THREADS" => "1", "WORKERS" => "1" })
    expect(get.body).to eq("#{@pid} /")
    expect(stop).to eq(0)
  end

  it "lets the configuration file and the application override the flags" do
    File.write("conf.rb", "Iodine.workers = 1; Iodine::DEFAULT_SETTINGS[:port] = '#{port}'")
    File.write("config.ru", <<~RUBY)
      Iodine.threads = 3
      run ->(_env) { [200, {}, ["\#{Iodine.workers} \#{Iodine.threads}"]] }
    RUBY
    serve("-w", "2", "-t", "1", "-p", "1", "-C", "conf.rb")
    expect(get.body).to eq("1 3")
    expect(stop).to eq(0)
  end

  it "listens on a Unix socket" do
    serve("-b", "./x.sock", "-w", "1", "-t", "1", at: -> { UNIXSocket.new("x.sock") })
    answer = Timeout.timeout(deadline) do
      UNIXSocket.open("x.sock") do |socket|
        socket.write("GET /unix HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        socket.read
      end
    end
    expect(answer).to end_with("#{@pid} /unix")
    expect(stop).to eq(0)
  end

  it "keeps a pid file while it runs" do
    serve("-p", port.to_s, "-w", "1", "-t", "1", "-pid", "./")
    get # It listens before it starts; it has started when it answers.
    expect(File.binread("iodine.pid")).to eq("#{@pid}\r\n")
    expect(stop).to eq(0)
    expect(File.exist?("iodine.pid")).to be(false)
  end

  it "keeps the pid file when a worker leaves (F-57)" do
    serve("-p", port.to_s, "-w", "2", "-t", "1", "-pid", "x.pid")
    worker = get.body.to_i
    expect(worker).not_to eq(@pid)
    Process.kill("TERM", worker)
    Timeout.timeout(deadline) { sleep 0.02 until gone?(worker) }
    expect(File.binread("x.pid")).to eq("#{@pid}\r\n")
    expect(stop).to eq(0)
    expect(File.exist?("x.pid")).to be(false)
  end

  def gone?(pid)
    Process.kill(0, pid)
    false
  rescue Errno::ESRCH
    true
  end

  it "requests / when it shall warm up (F-49)" do
    File.write("config.ru", "seen = []; run ->(env) { seen << env['PATH_INFO']; [200, {}, [seen.join(' ')]] }")
    serve("-p", port.to_s, "-w", "1", "-t", "1", "-warmup")
    expect(get("/mine").body).to eq("/ /mine")
    expect(stop).to eq(0)
  end

  it "says why it cannot listen, and exits with 1" do
    TCPServer.open("127.0.0.1", 0) do |taken|
      @pid = Process.spawn(unset, *command, "-b", "127.0.0.1", "-p", taken.addr[1].to_s, "-w1", "-t1",
                           %i[out err] => ["out.log", "a"])
      Timeout.timeout(deadline) { Process.wait(@pid) }
      @pid = nil
      expect($?.exitstatus).to eq(1)
      expect(log.lines.grep(/\Aiodine: Couldn't open listening socket\. \(127\.0\.0\.1:\d+: .*in use/).size).to eq(1)
      expect(log).not_to include("listen.rb")
    end
  end

  it "says in a line what a variable is wrong about" do
    @pid = Process.spawn(unset.merge("IODINE_LOG_FORMAT" => "%{nothing}"), *command, "-p", port.to_s, %i[out err] => ["out.log", "a"])
    Timeout.timeout(deadline) { Process.wait(@pid) }
    @pid = nil
    expect($?.exitstatus).to eq(1)
    expect(log).to start_with("iodine: log_format: %{nothing} is no field").and have_attributes(lines: have_attributes(size: 1))
  end

  it "leaves no pid file behind, however it ends" do
    File.write("config.ru", "Iodine.on_state(:on_start) { exit 3 }; run ->(_env) {}")
    @pid = Process.spawn(unset, *command, "-p", port.to_s, "-w1", "-t1", "-pid", "x.pid", %i[out err] => ["out.log", "a"])
    Timeout.timeout(deadline) { Process.wait(@pid) }
    @pid = nil
    expect($?.exitstatus).to eq(3)
    expect(File.exist?("x.pid")).to be(false)
  end

  ["exit", "raise Exception, 'of any kind'"].each do |failure|
    it "serves although the warm-up fails by #{failure}" do
      File.write("config.ru", "failures = [1]; run ->(_env) { #{failure} if failures.pop; [200, {}, ['warm']] }")
      serve("-p", port.to_s, "-w", "1", "-t", "1", "-warmup")
      expect(get.body).to eq("warm")
      expect(log).to include("ERROR: warm-up: GET / failed:")
      expect(stop).to eq(0)
    end
  end

  def pid_of_rackup
    File.read("rackup.pid").to_i
  rescue Errno::ENOENT
    nil
  end

  describe "as the server of others" do
    one = { "THREADS" => "1", "WORKERS" => "1" }
    available = ->(file) { !Gem.find_files("#{file}.rb").empty? }

    if available["rack/handler"] || available["rackup/handler"]
      rackup = [*ruby, "-S", "rackup"]

      [%w[-s iodine], %w[-s Iodine], %w[-r iodine]].each do |words|
        it "runs under rackup #{words.join(" ")}, with its development middleware" do
          serve(*words, "-p", port.to_s, "-o", "127.0.0.1", env: one, with: rackup)
          expect(get("/there").body).to eq("#{@pid} /there")
          expect(stop).to eq(0)
        end
      end

      it "keeps rackup's pid file when a worker leaves" do
        serve("-s", "iodine", "-p", port.to_s, "-o", "127.0.0.1", "-P", "rackup.pid", env: { "THREADS" => "1", "WORKERS" => "2" }, with: rackup)
        worker = get.body.to_i
        Process.kill("TERM", worker)
        Timeout.timeout(deadline) { sleep 0.02 until gone?(worker) }
        Timeout.timeout(deadline) { sleep 0.02 until pid_of_rackup == @pid }
        # Each old one ends when a new one is there.
        running = -> { log.scan(/^INFO: \d+ is running/).size }
        Timeout.timeout(deadline) { sleep 0.02 until running.call == 3 }
        Process.kill("USR1", @pid)
        Timeout.timeout(deadline) { sleep 0.02 until running.call == 5 && log.scan("cleanup complete").size == 3 }
        Timeout.timeout(deadline) { sleep 0.02 until pid_of_rackup == @pid }
        expect(stop).to eq(0)
        expect(File.exist?("rackup.pid")).to be(false)
      end
    end

    if available["sinatra/base"]
      it "runs a Sinatra application that starts its own server" do
        File.write("app.rb", <<~RUBY)
          require "sinatra/base"
          class App < Sinatra::Base
            set :server, :iodine
            set :bind, "127.0.0.1"
            set :port, #{port}
            get("/") { "sung by " + self.class.handler_name.to_s }
          end
          App.run!
        RUBY
        serve("app.rb", env: one, with: ruby)
        expect(get.body).to start_with("sung by")
        expect(stop).to eq(0)
      end
    end

    if available["rails"] && available["action_controller/railtie"]
      it "runs under rails server -u iodine" do
        rails_application
        serve("server", "-u", "iodine", "-p", port.to_s, "-b", "127.0.0.1", env: one, with: [*ruby, "bin/rails"])
        expect(get.body).to eq("on rails")
        expect(stop).to eq(0)
      end
    end
  end

  # The least that `rails server` works with.
  def rails_application
    %w[bin config log tmp].each { |folder| Dir.mkdir(folder) }
    File.write("bin/rails", <<~RUBY)
      APP_PATH = File.expand_path("../config/application", __dir__)
      require "logger" # older versions of Rails forget it
      require "rails/commands"
    RUBY
    File.write("config/application.rb", <<~RUBY)
      require "rails"
      require "action_controller/railtie"
      class Tiny < Rails::Application
        config.root = File.expand_path("..", __dir__)
        config.eager_load = false
        config.hosts.clear
        config.secret_key_base = "not so secret"
        routes.append { root to: ->(_env) { [200, { "content-type" => "text/plain" }, ["on rails"]] } }
      end
    RUBY
    File.write("config/environment.rb", "require_relative 'application'\nRails.application.initialize!\n")
    File.write("config.ru", "require_relative 'config/environment'\nrun Rails.application\n")
  end
end
