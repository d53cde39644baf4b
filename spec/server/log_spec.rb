# frozen_string_literal: true

# What the server writes on stderr: banners, levels, exceptions, and that nobody ever waits for the log.

RSpec.describe "the log" do
  hello = "->(_env) { [200, {}, ['hello']] }"

  describe "at the start and at the end" do
    it "tells the facts of a single process" do
      server = serve(hello, threads: 3)
      server.stop
      expect(server.log).to match(/\A
        INFO:\ Listening\ on\ port\ #{server.port}\n
        INFO:\ Starting\ up\ Iodine:\n
        \ \*\ Iodine\ \d+\.\d+\.\d+\S*\n
        \ \*\ Ruby\ #{Regexp.escape(RUBY_VERSION)}\n
        \ \*\ 1\ Workers\ X\ 3\ Threads\ per\ worker\.\n
        \ \*\ Maximum\ \d+\ open\ files\ \/\ sockets\ per\ worker\.\n
        \ \*\ Master\ \(root\)\ process:\ #{server.pid}\.\n
        \n
        INFO:\ Server\ is\ running\ 1\ worker\ X\ 3\ threads\n
        (?:\*\ Linked\ to\ OpenSSL\ \d.*|\*\ Built\ without\ TLS)\n
        \*\ Detected\ capacity:\ \d+\ open\ file\ limit\n
        \*\ Root\ pid:\ #{server.pid}\n
        \*\ Press\ \^C\ to\ stop\n
        \n
        INFO:\ \(#{server.pid}\)\ detected\ exit\ signal\.\n
        INFO:\ \ \ \ ---\ \ Shutdown\ Complete\ \ ---\n
        start\ returned\n
      \z/x)
    end

    it "tells the facts of a cluster" do
      server = serve(hello, workers: 2)
      first, second = server.worker_pids
      server.signal(:INT)
      server.wait
      expect(server.log).to include(" * 2 Workers X 1 Threads per worker.\n", " * Master (root) process: #{server.pid}.\n\n",
                                    "INFO: Server is running 2 workers X 1 thread\n", "* Root pid: #{server.pid}\n")
      ending = server.log.lines.drop_while { |line| line != "INFO: Server Detected exit signal.\n" }
      expect(ending).to match_array([
                                      "INFO: Server Detected exit signal.\n",
                                      *[first, second].flat_map { |pid| ["INFO: (#{pid}) detected exit signal.\n", "INFO: (#{pid}) cleanup complete.\n"] },
                                      "INFO:    ---  Shutdown Complete  ---\n", "start returned\n"
                                    ])
      expect(ending.last(2)).to eq(["INFO:    ---  Shutdown Complete  ---\n", "start returned\n"])
    end

    it "names Unix sockets" do
      path = File.join(Dir.mktmpdir, "s.sock")
      server = serve(hello, before: "Iodine.listen(service: :http, address: #{path.inspect}, port: 0, handler: app)")
      expect(server.log).to include("INFO: Listening on Unix Socket at #{path}\n")
      server.stop
      FileUtils.rm_rf(File.dirname(path))
    end
  end

  it "goes to stderr, all of it" do
    server = serve(hello, options: "log: true", before: 'STDERR.reopen(File::NULL); say "here"', ready: false)
    server.wait_for_said("here")
    server.stop
    expect(server.log).to eq("> here\nstart returned\n").or eq("> here\n")
  end

  describe "at verbosity" do
    noise = <<~RUBY
      ->(env) do
        raise "oh" if env["PATH_INFO"] == "/raise"
        [200, {}, [own_port.to_s]]
      end
    RUBY

    # A server at this level, after a bad request and an exception; its whole log.
    def log_at(level, app)
      server = serve(app, before: "Iodine.verbosity = #{level}; Iodine.on_state(:on_start) { say 'port', own_port }", ready: false)
      port = server.wait_for_said(/port \d+/).first[/\d+/].to_i
      RawClient.open(port) { |client| expect(client.write("nonsense\r\n\r\n").read_response.status).to eq(400) }
      RawClient.open(port) { |client| expect(client.get("/raise").status).to eq(500) }
      server.stop
      expect(server.status.exitstatus).to eq(0)
      server.log.lines.reject { |line| line.match?(/^> |^start returned/) }
    end

    it "0 is silent, whatever happens (F-58)" do
      expect(log_at(0, noise)).to be_empty
      expect(log_at(-3, noise)).to be_empty
    end

    it "1 tells nothing of this" do
      expect(log_at(1, noise)).to be_empty
    end

    it "2 tells errors" do
      expect(log_at(2, noise).grep(/^[A-Z]+: /)).to match([/^ERROR: Iodine caught an unprotected exception - RuntimeError: oh$/])
    end

    it "3 tells warnings, too" do
      expect(log_at(3, noise).grep(/^[A-Z]+: /)).to match([/^WARNING: HTTP request from 127\.0\.0\.1 refused with 400: /, /^ERROR: /])
    end

    it "4, the usual one, tells what the server does" do
      kinds = log_at(4, noise).filter_map { |line| line[/^([A-Z]+): /, 1] }
      expect(kinds.uniq).to eq(%w[INFO WARNING ERROR])
      server = start_script('require "iodine"; say Iodine.verbosity')
      server.wait
      expect(server.said).to eq(["4"])
    end

    it "0 still has the lines of requests, when they are asked for" do
      server = serve(noise, options: "log: true", before: "Iodine.verbosity = 0; Iodine.on_state(:on_start) { say 'port', own_port }",
                            ready: false)
      port = server.wait_for_said(/port \d+/).first[/\d+/].to_i
      RawClient.open(port) { |client| client.get("/a?b=c") }
      server.wait_for_log(%r{^127\.0\.0\.1 - - \[[^\]]+ GMT\] "GET /a HTTP/1\.1" 200 5b \d+ms\r$})
    end

    it "0 silences a cluster" do
      server = serve(hello, workers: 2, before: "Iodine.verbosity = 0; Iodine.on_state(:on_start) { say Process.pid }", ready: false)
      server.wait_for_said(/\d+/, times: 2)
      server.signal(:KILL, server.said.first.to_i)
      server.wait_for_said(/\d+/, times: 3)
      server.stop
      expect(server.log.lines.grep_v(/^> \d+$|^start returned/)).to be_empty
    end
  end

  describe "of exceptions" do
    exceptions = {
      "with class, message and back-trace" =>
        ["raise ArgumentError, 'of ' + env['PATH_INFO']",
         %r{^ERROR: Iodine caught an unprotected exception - ArgumentError: of /0\n\S+:\d+:in }],
      "without a back-trace" => ["raise Class.new(StandardError) { def backtrace = nil; def self.to_s = 'E' }, 'x'",
                                 /unprotected exception - E: x\nNo backtrace available\.$/],
      "whose message is no String (F-07)" => ["raise Class.new(StandardError) { def message = 7 }", /unprotected exception - .*: 7$/],
      "whose message raises (F-07)" => ["raise Class.new(StandardError) { def message = raise('no') }",
                                        /unprotected exception - .*message can not be had/],
      "whose back-trace raises" => ["raise Class.new(StandardError) { def backtrace = raise('no') }, 'y'",
                                    /unprotected exception - .*: y\nNo backtrace available\.$/],
      "whose message is broken text" => ["raise \"a\\xffb\\0c\"", /unprotected exception - RuntimeError: a.+b.*c$/],
      "that are no StandardErrors" => ["exit", /unprotected exception - SystemExit: exit$/]
    }
    choices = exceptions.values.each_with_index.map { |(code, _), number| "when '/#{number}' then #{code}" }
    serve_for_all("->(env) do\ncase env['PATH_INFO']\n#{choices.join("\n")}\nelse [200, {}, ['fine']]\nend\nend")

    exceptions.each_with_index do |(kind, (_, pattern)), number|
      it "tells those #{kind}, and the client gets a 500" do
        RawClient.open(server.port) do |client|
          server.log_after(pattern) { expect(client.get("/#{number}").status).to eq(500) }
          expect(client.get("/other").body).to eq("fine")
        end
      end
    end
  end

  describe "when nobody reads it" do
    # A server whose stderr is a full pipe; its reader is in the server, so that it does not break.
    def stalled(workers: 1, logged: true)
      server = serve(<<~RUBY, workers: workers, threads: 2, options: "log: #{logged}", ready: false, before: <<~BEFORE)
        ->(env) do
          case env["PATH_INFO"]
          when "/raise" then raise "oh " * 1000
          when "/read" then Thread.new { $reader.each_line { |line| say line.chomp } }
          end
          [200, {}, [Process.pid.to_s]]
        end
      RUBY
        require "fcntl"
        $reader, writer = IO.pipe
        Iodine.on_state(:pre_start) do
          say "port", own_port
          STDERR.reopen(writer)
          writer.close
          begin
            loop { STDERR.write_nonblock("x") }
          rescue IO::WaitWritable
            STDERR.fcntl(Fcntl::F_SETFL, 0) # it blocks again
          end
        end
        Iodine.on_state(:on_start) { say "serving", Process.pid }
      BEFORE
      port = server.wait_for_said(/serving \d+/, times: workers).first[/\Aport (\d+)/, 1].to_i
      [server, port]
    end

    it "requests are answered all the same" do
      server, port = stalled
      RawClient.open(port) do |client|
        # More lines than the log keeps for its reader.
        300.times do
          client.write("GET /#{"long" * 500} HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
          8.times { expect(client.read_response.status).to eq(200) }
        end
        5.times { expect(client.get("/raise").status).to eq(500) }
      end
      RawClient.open(port) { |client| expect(client.write("nonsense\r\n\r\n").read_response.status).to eq(400) }
      RawClient.open(port) { |client| client.get("/read") }
      server.wait_for_said(/.*WARNING: the log could not keep up, \d+ lines were dropped\./)
    end

    it "the server still ends" do
      server, port = stalled
      RawClient.open(port) { |client| 3.times { client.get } }
      server.signal(:TERM)
      expect(server.wait.exitstatus).to eq(0)
    end

    it "a cluster still replaces its workers and ends" do
      server, port = stalled(workers: 2, logged: false)
      RawClient.open(port) { |client| server.signal(:KILL, client.get.body.to_i) }
      server.wait_for_said(/serving \d+/, times: 3)
      RawClient.open(port) { |client| expect(client.get.status).to eq(200) }
      server.signal(:TERM)
      expect(server.wait.exitstatus).to eq(0)
    end
  end
end
