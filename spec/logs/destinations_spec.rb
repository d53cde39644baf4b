# frozen_string_literal: true

# Where the request log goes, HUP, which has files opened anew, and destinations that take nothing.

require "json"
require "tmpdir"

RSpec.describe "destinations of the request log" do
  app = '->(env) { [200, text, [Process.pid.to_s]] }'

  around do |example|
    Dir.mktmpdir("iodine-logs") do |folder|
      @folder = folder
      example.run
    end
  end

  attr_reader :folder

  def file(name = "access.log")
    File.join(folder, name)
  end

  def content(name = "access.log")
    File.exist?(file(name)) ? File.read(file(name)) : ""
  end

  def wait_for_lines(pattern, name = "access.log", times: 1)
    eventually(25, "#{name} had no #{pattern.inspect}: #{content(name)}") { content(name).scan(pattern).size >= times }
  end

  def get(server, path)
    RawClient.open(server.port) { |client| client.get(path) }
  end

  describe "a file" do
    it "gets the lines of requests and nothing else" do
      server = serve(app, options: "log_to: #{file.inspect}")
      get(server, "/one")
      wait_for_lines(%r{"GET /one HTTP/1\.1" 200 \d+b \d+ms\r\n})
      server.stop
      expect(content.lines.size).to eq(1)
      expect(server.log).to include("Listening on port")
      expect(server.log).not_to include("/one")
    end

    it "is appended to, and may be relative" do
      File.write(file, "before\n")
      server = start_script(server_script(app, workers: 1, options: 'log_to: "access.log"'), chdir: folder).wait_until_ready
      get(server, "/two")
      server.stop
      expect(content).to match(%r{\Abefore\n127.*GET /two .*\r\n\z})
    end

    it "has the lines that wait when the server ends" do
      server = serve(app, options: "log_to: #{file.inspect}")
      get(server, "/last")
      server.stop
      expect(content).to include("/last")
    end

    it "is nobody's business behind exec, and in forks of the application" do
      server = serve(<<~RUBY, options: "log_to: #{file.inspect}")
        ->(env) do
          links = "Dir['/proc/self/fd/*'].map { |fd| File.readlink(fd) rescue nil }.grep(/access/)"
          forked = IO.popen("-") { |io| io ? io.read : (puts eval(links).inspect; exit!) }
          [200, text, [IO.popen([RbConfig.ruby, "-e", "puts " + links + ".inspect"], &:read), forked]]
        end
      RUBY
      expect(get(server, "/").body).to eq("[]\n[]\n")
    end

    it "may be shared by listeners, each with its own format" do
      server = serve(app, options: "log_to: #{file.inspect}", before: <<~RUBY)
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: app, log_format: :json, log_to: #{file.inspect})
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: app, log: true, log_format: "%{path}")
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: app)
        Iodine.on_state(:on_start) { say "ports", *Iodine.listeners.map { |listener| listener[:port] } }
      RUBY
      ports = server.wait_for_said(/ports .*/).last.split.drop(1).map(&:to_i)
      ports.each_with_index { |port, index| RawClient.open(port) { |client| client.get("/#{index}") } }
      server.wait_for_log(%r{^/1$})
      wait_for_lines(/\n/, times: 2)
      expect(content).to match(%r{^\{.*"path":"/0".*\}$}).and match(%r{GET /3 HTTP})
      server.stop
      expect(content.lines.size).to eq(2)
    end

    it "that can not be opened is told at the start, before anything listens" do
      script = <<~RUBY
        require "iodine"
        [["/nowhere/x.log"], [#{folder.inspect}], ["a\\0b"], [7], [Object]].each do |(place)|
          Iodine.listen(service: :http, port: 0, handler: -> {}, log_to: place)
        rescue StandardError => error
          say error.class, error.message
        end
        say Iodine.listeners.size
      RUBY
      server = start_script(script)
      server.wait
      expect(server.said).to match(
        ["RuntimeError log_to: can not open /nowhere/x.log: No such file or directory (os error 2)",
         "RuntimeError log_to: can not open #{folder}: Is a directory (os error 21)",
         /\AArgumentError log_to must be :stderr, :stdout or the path of a file, not "a.*b"\z/,
         "ArgumentError log_to must be :stderr, :stdout or the path of a file, not 7",
         "ArgumentError log_to must be :stderr, :stdout or the path of a file, not Object", "0"]
      )
    end

    it "that may not be written is told at the start", if: Process.uid.positive? do
      File.write(file, "")
      File.chmod(0o400, file)
      server = serve(app, options: "log_to: #{file.inspect}", ready: false)
      expect(server.wait).not_to be_success
      expect(server.log).to match(/log_to: can not open .*access\.log: Permission denied/)
    end

    it "that is full costs lines, which is said once, and no request", if: File.exist?("/dev/full") do
      server = serve(app, options: 'log_to: "/dev/full"')
      5.times { expect(get(server, "/").status).to eq(200) }
      server.wait_for_log(%r{^ERROR: the request log /dev/full can not be written: No space left on device \(os error 28\)\. Lines are lost\.$})
      5.times { expect(get(server, "/").status).to eq(200) }
      server.stop
      expect(server.log.scan("can not be written").size).to eq(1)
      expect(server.status.exitstatus).to eq(0)
    end
  end

  describe "HUP" do
    it "opens the file anew" do
      server = serve(app, options: "log_to: #{file.inspect}")
      RawClient.open(server.port) do |client|
        client.get("/before")
        wait_for_lines(%r{/before})
        File.rename(file, file("old"))
        client.get("/between")
        wait_for_lines(%r{/between}, "old")
        server.log_after(/\(#{server.pid}\) has opened its log files anew/) { server.signal(:HUP) }
        client.get("/after")
      end
      wait_for_lines(%r{/after})
      expect(content.lines.size).to eq(1)
      expect(content("old").lines.size).to eq(2)
    end

    it "opens it anew in every process of a cluster, and in workers to come" do
      server = serve(app, workers: 2, options: "log_to: #{file.inspect}, log_format: '%{header:x-pid} %{path}'")
      # A line of each worker, which is told to name itself.
      reach_all = lambda do |path|
        pids = eventually(20, "not all workers answered") do
          clients = Array.new(8) { RawClient.open(server.port) }
          pids = clients.map { |client| client.get("/who").body }.uniq
          clients.each { |client| client.get(path, "X-Pid" => client.get("/who").body) }
          clients.each(&:close)
          pids if pids.size == 2
        end
        pids.map(&:to_i)
      end
      reach_all.call("/before")
      File.rename(file, file("old"))
      server.log_after(/(\(\d+\) has opened its log files anew.*?){3}/m) { server.signal(:HUP) }
      expect(server.log.scan(/\((\d+)\) has opened/).flatten.map(&:to_i)).to match_array([server.pid, *server.worker_pids])
      pids = reach_all.call("/after")
      pids.each { |pid| wait_for_lines(%r{^#{pid} /after$}) }
      expect(content("old")).not_to include("/after")

      # The next workers get the file from the master, which has opened it anew, too.
      server.signal(:KILL, pids.first)
      server.wait_until_ready(workers: 3)
      reach_all.call("/again").each { |pid| wait_for_lines(%r{^#{pid} /again$}) }
      expect(content("old")).not_to include("/again")
    end

    it "keeps the old file when that fails, and says so" do
      server = serve(app, options: "log_to: #{file("logs/x.log").inspect}", before: "Dir.mkdir(#{file("logs").inspect})")
      File.rename(file("logs"), file("moved"))
      server.signal(:HUP)
      server.wait_for_log(%r{^ERROR: the request log .*/logs/x\.log can not be opened again: No such file or directory.*stays in use\.$})
      get(server, "/still")
      wait_for_lines(%r{/still}, "moved/x.log")
    end

    it "may come in a burst, under load, and costs nothing" do
      server = serve(app, threads: 2, options: "log_to: #{file.inspect}, log_format: '%{path}'")
      RawClient.open(server.port) do |client|
        (1..300).each do |number|
          (1..3).each { |again| File.rename(file, file("#{number}.#{again}")) if File.exist?(file) } && server.signal(:HUP) if (number % 20).zero?
          client.get("/#{number}")
        end
      end
      server.stop
      found = Dir[file("*")].flat_map { |path| File.readlines(path, chomp: true) }
      expect(found).to match_array((1..300).map { |number| "/#{number}" })
    end

    it "is called behind the server's own trap, if it was trapped before" do
      server = serve(app, options: "log_to: #{file.inspect}", before: "trap('HUP') { say 'mine' }")
      server.signal(:HUP)
      server.wait_for_said("mine")
      server.wait_for_log(/anew/)
    end

    it "is as it was when the server has ended" do
      server = start_script(<<~RUBY)
        require "iodine"
        say Signal.trap("HUP", "DEFAULT")
        Iodine.threads = Iodine.workers = 1
        Iodine.listen(service: :http, port: 0, handler: ->(_) { [200, {}, []] }, log_to: #{file.inspect})
        Iodine.run { Iodine.stop }
        Iodine.start
        say Signal.trap("HUP", "DEFAULT")
      RUBY
      server.wait
      expect(server.said).to eq(%w[DEFAULT DEFAULT])
    end
  end

  describe "stdout" do
    it "gets the lines, and stderr the messages" do
      server = serve(app, options: "log_to: :stdout", before: "$stderr.reopen(#{file("messages").inspect}, 'a')", ready: false)
      eventually { content("messages").include?("Press ^C") }
      port = content("messages")[/Listening on port (\d+)/, 1].to_i
      RawClient.open(port) { |client| client.get("/out") }
      server.wait_for_log(%r{"GET /out })
      expect(content("messages")).not_to include("/out")
    end

    it "that nobody reads holds up nobody" do
      server = serve(app, threads: 2, options: "log_to: $stdout, log_format: :json", before: <<~RUBY)
        reader, writer = IO.pipe
        Iodine.on_state(:pre_start) do
          $stdout.reopen(writer)
          $keep = reader
          begin
            loop { writer.write_nonblock("x") }
          rescue IO::WaitWritable
            nil
          end
        end
        Iodine.on_state(:on_finish) { Thread.new { $keep.read } }
      RUBY
      RawClient.open(server.port) do |client|
        100.times do
          client.write("GET /#{"long" * 1000} HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
          8.times { expect(client.read_response.status).to eq(200) }
        end
      end
      # Messages have their own way.
      server.log_after(/WARNING: HTTP request from .* refused with 400/) { RawClient.converse(server.port, "BAD\r\n\r\n") }
      server.signal(:TERM)
      expect(server.wait.exitstatus).to eq(0)
    end
  end
end
