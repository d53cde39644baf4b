# frozen_string_literal: true

# Processes started otherwise than by fork in a request: commands, tasks, threads, hooks of the server.

RSpec.describe "processes of the application" do
  hello = "->(_env) { [200, {}, ['hello']] }"

  # The server serves, and ends as it should.
  def expect_health(server)
    RawClient.open(server.port) { |client| 3.times { expect(client.get.status).to eq(200) } }
    server.signal(:INT)
    expect(server.wait.exitstatus).to eq(0)
    expect(server.log).not_to match(/ERROR|FATAL/)
  end

  [1, 2].each do |workers|
    describe "of a server with #{workers} worker(s)" do
      it "are started by system, back-ticks, spawn and popen" do
        server = serve(<<~'RUBY', workers: workers, threads: 2)
          ->(_env) do
            pid = Process.spawn("exit 4")
            Process.wait(pid)
            parts = [`echo one`.chomp, system("exit 3"), $?.exitstatus, IO.popen(%w[echo two], &:read).chomp]
            [200, {}, [parts.join(" ")]]
          end
        RUBY
        RawClient.open(server.port) { |client| expect(client.get.body).to eq("one false 3 two") }
        expect_health(server)
      end

      it "inherit nothing by exec" do
        server = serve('->(_env) { [200, {}, [`ls -l /proc/self/fd`]] }', workers: workers, threads: 2)
        listing = RawClient.open(server.port) { |client| client.get.body }
        expect(listing).not_to match(/socket|eventpoll|eventfd/)
        expect_health(server)
      end

      it "are forked by popen" do
        server = serve(<<~'RUBY', workers: workers, threads: 2)
          ->(_env) do
            io = IO.popen("-")
            io ? [200, {}, [io.read]] : (print(Iodine.running?); exit!(0))
          end
        RUBY
        RawClient.open(server.port) { |client| expect(client.get.body).to eq("false") }
        expect_health(server)
      end

      it "are forked by a task" do
        server = serve(hello, workers: workers, before: <<~RUBY)
          Iodine.run do
            pid = fork
            say pid ? "parent" : "child", Iodine.running?
            Process.wait(pid) if pid
          end
          Iodine.on_state(:on_finish) { say "on_finish" }
          at_exit { say "at_exit" }
        RUBY
        processes = workers == 1 ? 1 : 1 + workers
        # The child may be quicker than its parent.
        ["at_exit", "parent true"].each { |words| server.wait_for_said(words, times: processes) }
        expect(server.said.tally).to eq("parent true" => processes, "child false" => processes, "at_exit" => processes)
        expect_health(server)
        expect(server.log.scan("start returned").size).to eq(1)
      end

      it "are forked by a thread of the program" do
        server = serve(hello, workers: workers, threads: 2, before: <<~RUBY)
          Iodine.on_state(:on_start) do
            Thread.new { Process.wait(fork { say "child", Iodine.running?, Thread.list.size }); say "done" }
          end
        RUBY
        server.wait_for_said("done", times: workers)
        expect(server.said.tally).to eq("child false 1" => workers, "done" => workers)
        expect_health(server)
      end

      %i[pre_start on_start].each do |event|
        it "are forked in #{event}, with a block and without" do
          server = serve(hello, workers: workers, before: <<~RUBY)
            Iodine.on_state(:#{event}) do
              Process.wait(fork { say "block", Iodine.running? })
              pid = fork
              say "child", Iodine.running? unless pid
              Process.wait(pid) if pid
            end
            Iodine.on_state(:#{event}) { say "next" }
            Iodine.on_state(:on_finish) { say "on_finish" }
          RUBY
          times = event == :on_start ? workers : 1
          server.wait_for_said("next", times: times)
          expect(server.said.tally).to eq("block false" => times, "child false" => times, "next" => times)
          expect_health(server)
          expect(server.log.scan("start returned").size).to eq(1)
        end
      end
    end
  end

  it "are forked in the root of a cluster, around the fork of each worker" do
    server = serve(hello, workers: 2, before: <<~RUBY)
      %i[before_fork enter_master].each { |event| Iodine.on_state(event) { fork or say("child", Iodine.running?) } }
    RUBY
    server.wait_for_said("child false", times: 4)
    expect_health(server)
    expect(server.said.size).to eq(4)
  end

  it "may outlive the server and each other" do
    server = serve("->(_env) { [200, {}, [Process.detach(fork { fork { say 'grandchild'; sleep 30 }; sleep 30 }).pid.to_s]] }", threads: 2)
    RawClient.open(server.port, &:get)
    server.wait_for_said("grandchild")
    server.signal(:TERM)
    expect(server.wait.exitstatus).to eq(0)
    expect { TCPSocket.new("127.0.0.1", server.port) }.to raise_error(Errno::ECONNREFUSED)
  end

  it "of a program whose server has stopped are ordinary" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = Iodine.threads = 1
      serve = -> { Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: #{hello}) }
      serve.call
      Iodine.run { Iodine.stop }
      Iodine.start
      Process.wait(fork do
        Iodine.threads = 2
        serve.call
        Iodine.run { say fetch; Iodine.stop }
        Iodine.start
        say "child done"
      end)
      say "parent done"
    RUBY
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to eq(["hello", "child done", "parent done"])
  end

  it "forked beside a running server are told that they can not have one" do
    server = serve(hello, before: <<~RUBY)
      Iodine.on_state(:on_start) do
        Thread.new do
          Process.wait(fork do
            Iodine.start
          rescue RuntimeError => error
            say error.message
          end)
          say "done"
        end
      end
    RUBY
    expect(server.wait_for_said("done")).to match([/forked from a running server can not start one/, "done"])
    expect_health(server)
  end
end
