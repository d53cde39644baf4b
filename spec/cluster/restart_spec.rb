# frozen_string_literal: true

# Restarting and losing workers while clients are being served.

RSpec.describe "a cluster under load" do
  pid_app = "->(_env) { [200, {}, [Process.pid.to_s]] }"

  def describe_failures(load, server)
    "#{load.failures.map { |failure| failure.to_a.inspect }.join("\n")}\n#{server.log}"
  end

  describe "restarted by USR1" do
    it "drops no request (F-53)" do
      server = serve(pid_app, workers: 2, threads: 2)
      load = Load.new(server.port, kept: 4, fresh: 3)
      load.wait_for_answers(3)
      3.times do |round|
        server.signal(:USR1)
        server.wait_for_log(/cleanup complete/, times: 2 * (round + 1))
        load.wait_for_answers(3)
      end
      load.stop
      expect(load.failures).to be_empty, describe_failures(load, server)
      # Clients that never pause are all told before their connection closes. One may be kept from its processor for so
      # long that it counts as idle.
      expect(load.retried).to be <= 1
      expect(server.log).not_to match(/ERROR|FATAL|WARNING/)
    end

    it "replaces workers one by one, and at no time serves with fewer" do
      server = serve("->(_env) { [200, {}, []] }", workers: 2, before: <<~RUBY)
        Iodine.on_state(:on_start) { say "start" }
        Iodine.on_state(:start_shutdown) { say "shutdown" if Iodine.worker? }
      RUBY
      server.signal(:USR1)
      server.wait_for_log(/cleanup complete/, times: 2)
      expect(server.said).to eq(%w[start start start shutdown start shutdown])
    end

    it "lets requests that take long finish, and meanwhile serves others" do
      server = serve(<<~RUBY, workers: 2, threads: 2)
        ->(env) do
          (say "in"; sleep 0.6) if env["PATH_INFO"] == "/slow"
          [200, {}, [Process.pid.to_s]]
        end
      RUBY
      old = server.worker_pids
      slow = Array.new(2) { RawClient.open(server.port).write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") }
      server.wait_for_said("in", times: 2)
      server.signal(:USR1)
      server.wait_until_ready(workers: 3)
      expect(RawClient.open(server.port, &:get).status).to eq(200)
      expect(old).to include(*slow.map { |client| client.read_response.body.to_i })
      server.wait_until_ready(workers: 4)
      server.wait_for_log(/cleanup complete/, times: 2)
      expect(old).not_to include(RawClient.open(server.port, &:get).body.to_i)
    end

    it "may be asked for again while it is under way" do
      server = serve(pid_app, workers: 2, threads: 2)
      load = Load.new(server.port, kept: 2, fresh: 2)
      5.times do
        server.signal(:USR1)
        load.wait_for_answers(2)
      end
      server.wait_for_log(/cleanup complete/, times: 2)
      load.wait_for_answers(5)
      load.stop
      expect(load.failures).to be_empty, describe_failures(load, server)
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
    end

    it "keeps the old workers when new ones can not start" do
      server = serve(pid_app, workers: 2, before: <<~RUBY)
        Iodine.on_state(:on_start) { exit!(1) if File.exist?("#{broken = File.join(Dir.mktmpdir, "broken")}") }
      RUBY
      old = server.worker_pids
      File.write(broken, "")
      server.signal(:USR1)
      server.wait_for_log(/crashed\. Respawning/, times: 2)
      clients = []
      # More than a few if one of them stands still just now.
      eventually do
        clients << RawClient.open(server.port)
        clients.size >= 8 && clients.map { |client| client.get.body.to_i }.uniq.size >= 2
      end
      expect(clients.map { |client| client.get.body.to_i }.uniq).to match_array(old)
      File.delete(broken)
      server.wait_for_log(/cleanup complete/, times: 2)
      server.wait_until_ready(workers: 4)
      expect(old).not_to include(RawClient.open(server.port, &:get).body.to_i)
      FileUtils.rm_rf(File.dirname(broken))
    end
  end

  it "goes on when workers are killed, and the clients of others notice nothing" do
    server = serve(pid_app, workers: 2, threads: 2)
    load = Load.new(server.port, kept: 8, fresh: 2)
    load.wait_for_answers(5)
    killed = []
    2.times do |round|
      victim = load.answered.reject { |client,| client.start_with?("fresh") }.values.last.keys.last
      killed << victim
      server.signal(:KILL, victim)
      server.wait_until_ready(workers: 3 + round)
      load.wait_for_answers(5)
    end
    load.stop
    kept, fresh = load.failures.partition { |failure| failure.client.start_with?("kept") }
    # Only who was connected to a victim may have lost something: not even that, if it asked again.
    expect(killed).to include(*kept.map(&:pid)), describe_failures(load, server)
    # Two clients, two kills: one request each at most.
    expect(fresh.size).to be <= 4, describe_failures(load, server)
    expect(server.log.scan(/ERROR: Child worker \((\d+)\) crashed/).flatten.map(&:to_i)).to eq(killed)
    server.signal(:INT)
    expect(server.wait.exitstatus).to eq(0)
  end

  it "answers all that was asked before it ends" do
    server = serve("->(_env) { sleep 0.02; [200, {}, [Process.pid.to_s]] }", workers: 2, threads: 4)
    clients = Array.new(24) { RawClient.open(server.port).tap(&:get) }
    clients.each { |client| client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
    server.signal(:TERM)
    answers = clients.map(&:read_response)
    expect(answers.map(&:status)).to all(eq(200))
    expect(clients).to all(be_closed_by_server)
    expect(server.wait.exitstatus).to eq(0)
  end
end
