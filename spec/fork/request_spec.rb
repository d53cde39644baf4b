# frozen_string_literal: true

# Processes that an application starts while it serves. A forked child has nothing of the server: no socket, no thread,
# no signal handler, and nothing of it runs at its end.

RSpec.describe "a process forked by the application" do
  # Serves an application that forks for /fork, as `code` says, and answers with the child's pid; other paths are answered
  # with the server's own.
  def forking(code, **options)
    serve(<<~RUBY, **options)
      ->(env) do
        next [200, {}, [Process.pid.to_s]] unless env["PATH_INFO"] == "/fork"
        child = begin
          #{code}
        end
        [200, {}, [child.to_s]]
      end
    RUBY
  end

  def alive?(pid)
    Process.kill(0, pid)
    File.read("/proc/#{pid}/stat")[/\) (\S)/, 1] != "Z"
  rescue Errno::ESRCH, Errno::ENOENT
    false
  end

  def expect_gone(pid)
    eventually(25, "#{pid} did not end") { !alive?(pid) }
  end

  # Some requests on this and on a new connection, each of which must get exactly one answer.
  def expect_service(server, client)
    3.times { expect(client.get.status).to eq(200) }
    RawClient.open(server.port) { |other| expect(other.get.status).to eq(200) }
    expect(client).to be_silent
  end

  [["a single process", 1, 1], ["a single process with threads", 1, 4], ["a cluster", 2, 2]].each do |kind, workers, threads|
    describe "in #{kind}" do
      let(:setup) { { workers: workers, threads: threads } }

      it "with a block ends with it, and the server goes on" do
        server = forking('fork { say "child", Iodine.running? }.tap { |pid| Process.wait(pid) }', **setup)
        RawClient.open(server.port) do |client|
          expect(client.get("/fork").body.to_i).to be_positive
          expect_service(server, client)
        end
        expect(server.said).to eq(["child false"])
      end

      it "without a block ends when it returns from call, and answers nothing" do
        server = forking('pid = fork; say "child", Process.pid unless pid; pid.inspect', **setup)
        RawClient.open(server.port) do |client|
          child = client.get("/fork").body.to_i
          server.wait_for_said("child #{child}")
          expect_gone(child)
          expect_service(server, client)
        end
      end

      it "that raises ends, too, and answers nothing" do
        server = forking('fork || raise("in the child")', **setup)
        RawClient.open(server.port) do |client|
          expect_gone(client.get("/fork").body.to_i)
          expect_service(server, client)
        end
      end

      it "may end by exit!, by exit and by a signal" do
        server = forking(<<~RUBY, **setup)
          [fork { exit!(7) }, fork { exit(8) }, fork { Process.kill(:KILL, Process.pid) }].map do |pid|
            Process.wait(pid)
            $?.exitstatus.inspect
          end.join(",")
        RUBY
        RawClient.open(server.port) do |client|
          expect(client.get("/fork").body).to eq("7,8,nil")
          expect_service(server, client)
        end
      end
    end
  end

  it "knows of no server, and can do nothing to it" do
    server = forking(<<~RUBY, threads: 2)
      reader, writer = IO.pipe
      pid = fork do
        said = [Iodine.running?, Iodine.worker?, Iodine.stop, Thread.list.size, Signal.trap("INT", "DEFAULT"), Signal.trap("TERM", "DEFAULT")]
        writer.write(said.join(" "))
      end
      Process.wait(pid)
      writer.close
      reader.read
    RUBY
    RawClient.open(server.port) do |client|
      expect(client.get("/fork").body).to eq("false false Iodine 1 DEFAULT DEFAULT")
      expect_service(server, client)
    end
    expect(server).to be_alive
  end

  it "has no socket, pipe or file of the server" do
    server = forking(<<~RUBY, threads: 2, before: <<~BEFORE)
      reader, writer = IO.pipe
      Process.wait(fork { writer.write((open_files - $known - [File.readlink("/proc/self/fd/\#{writer.fileno}")]).join(",")) })
      writer.close
      reader.read
    RUBY
      def open_files
        Dir.children("/proc/self/fd").filter_map do |fd|
          File.readlink("/proc/self/fd/\#{fd}")
        rescue Errno::ENOENT
          nil
        end.grep_v(%r{^/proc/})
      end
      $known = open_files
    BEFORE
    body = "x" * 1_000_000
    RawClient.open(server.port) do |client|
      client.write("POST /fork HTTP/1.1\r\nHost: x\r\nContent-Length: #{body.bytesize}\r\n\r\n#{body}")
      # Pollers lead nowhere without sockets. The body of its request is the application's.
      files = client.read_response.body.split(",").grep_v(/anon_inode/)
      expect(files).to match([%r{/.*\(deleted\)}])
      expect_service(server, client)
    end
  end

  describe "that lives on" do
    long = 'fork { say "child", Process.pid; sleep 30 }'

    # A server with such a child, and its pid.
    def with_child(code, **options)
      server = forking(code, **options)
      client = RawClient.open(server.port)
      child = client.get("/fork").body.to_i
      server.wait_for_said("child #{child}")
      yield(server, client, child)
    ensure
      # The server's group is killed in any case.
      begin
        Process.kill(:KILL, child) if child
      rescue Errno::ESRCH
        nil
      end
    end

    it "does not keep the client's connection open" do
      with_child(long, threads: 2) do |server, client, child|
        client.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        expect(client.read_response.status).to eq(200)
        expect(client).to be_closed_by_server
        expect(alive?(child)).to be(true)
        RawClient.open(server.port) { |other| expect(other.get.status).to eq(200) }
      end
    end

    it "does not keep the listening port" do
      with_child(long) do |server, _, child|
        server.signal(:TERM)
        expect(server.wait.exitstatus).to eq(0)
        expect { TCPSocket.new("127.0.0.1", server.port) }.to raise_error(Errno::ECONNREFUSED)
        TCPServer.new("127.0.0.1", server.port).close
        expect(alive?(child)).to be(true)
      end
    end

    it "does not keep a worker's master from seeing that it is gone" do
      with_child(long, workers: 2) do |server, client, child|
        worker = client.get.body.to_i
        server.signal(:KILL, worker)
        server.wait_for_log(/Child worker \(#{worker}\) crashed/)
        server.wait_until_ready(workers: 3)
        server.signal(:INT)
        expect(server.wait.exitstatus).to eq(0)
        expect(alive?(child)).to be(true)
      end
    end

    %w[TERM INT].each do |name|
      it "dies of #{name} like any other, and the server does not" do
        with_child(long, threads: 2) do |server, client, child|
          server.signal(name, child)
          expect_gone(child)
          expect_service(server, client)
          expect(server.log).not_to include("exit signal")
        end
      end
    end

    it "hears signals by the traps that were there before the server" do
      code = 'fork { say "child", Process.pid; sleep 30 while sleep }'
      with_child(code, before: "trap('TERM') { say 'mine', Process.pid; exit!(0) }") do |server, client, child|
        server.signal(:TERM, child)
        server.wait_for_said("mine #{child}")
        expect_service(server, client)
      end
    end

    it "may use threads, log and collect garbage" do
      code = <<~RUBY
        fork do
          # Connections, heads and bodies of the server die in here.
          20.times { GC.start }
          Array.new(4) { Thread.new { "x" * 1000 } }.each(&:join)
          Iodine::Base.log(3, "from the child")
          say "child", Process.pid
          sleep 30
        end
      RUBY
      with_child(code, threads: 4) do |server, client, _|
        server.wait_for_log(/^WARNING: from the child$/)
        expect_service(server, client)
      end
    end
  end

  it "is one of many while others are served" do
    server = forking("fork { GC.start; exit!(0) }.tap { |pid| Process.detach(pid) }", threads: 4)
    load = Load.new(server.port, kept: 3, fresh: 2)
    RawClient.open(server.port) { |client| 20.times { expect(client.get("/fork").status).to eq(200) } }
    load.wait_for_answers(2).stop
    expect(load.failures).to be_empty
  end

  it "leaves the body of its request alone" do
    body = "0123456789" * 100_000
    server = serve(<<~RUBY, threads: 2)
      ->(env) do
        input = env["rack.input"]
        first = input.read(10)
        pid = fork { input.read(500_000); exit!(input.read.to_s.bytesize == 499_990 ? 0 : 1) }
        Process.wait(pid)
        [200, {}, [first + input.read.to_s, $?.exitstatus.to_s]]
      end
    RUBY
    RawClient.open(server.port) do |client|
      client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: #{body.bytesize}\r\n\r\n#{body}")
      expect(client.read_response.body).to eq("#{body}0")
    end
  end

  it "runs the program's own at_exit blocks, none of the server's" do
    server = forking('fork { }.tap { |pid| Process.wait(pid) }', before: <<~RUBY)
      at_exit { say "at_exit", Process.pid }
      %i[start_shutdown on_finish].each { |event| Iodine.on_state(event) { say event, Process.pid } }
    RUBY
    child = RawClient.open(server.port) { |client| client.get("/fork").body.to_i }
    expect(server.said).to eq(["at_exit #{child}"])
    server.stop
    expect(server.said.drop(1)).to eq(%w[start_shutdown on_finish at_exit].map { |event| "#{event} #{server.pid}" })
  end

  it "behind an answer does not go on with what the client has asked for behind it" do
    server = serve(<<~RUBY)
      lambda do |env|
        say "called", Process.pid
        if env["PATH_INFO"] == "/fork"
          env["rack.response_finished"] << ->(*) { (child = fork) ? say("forked", child) : exit }
        end
        [200, {}, [Process.pid.to_s]]
      end
    RUBY
    RawClient.open(server.port) do |client|
      client.write("GET /fork HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
      pids = Array.new(2) { client.read_response.body.to_i }
      expect_gone(server.wait_for_said(/forked \d+/).grep(/forked/).first[/\d+/].to_i)
      expect_service(server, client)
      expect(server.said.grep(/called/).map { |line| line[/\d+/].to_i }.uniq).to eq(pids.uniq)
    end
  end
end
