# frozen_string_literal: true

# Who hears what, by the engine it is published with, in a lone process and in a cluster; and what is subscribed and published
# before there is a server.

require_relative "../support/cluster"
require_relative "../support/ruby_script"

RSpec.describe "what is published", :real_time do
  include ClusterAsking
  include RubyScript

  engines = { cluster: "Iodine::PubSub::CLUSTER", process: "Iodine::PubSub::PROCESS", siblings: "Iodine::PubSub::SIBLINGS",
              root: "Iodine::PubSub::PUBLISH2ROOT", none: "nil", no: "false" }

  context "in a process that is alone" do
    serve_for_all(Asking::APP, threads: 4, before: "#{ClusterAsking::SETUP}\nhears('table')")

    engines.each do |name, engine|
      heard = name != :siblings
      it "with #{engine} is heard by #{heard ? "itself" : "nobody"}" do
        value_of("Iodine.publish('table', '#{name}', #{engine}); Iodine.publish('table', 'behind #{name}', false)")
        server.wait_for_said("table behind #{name} in root")
        expect(heard("table").count { |line| line == "#{name} in root" }).to eq(heard ? 1 : 0)
      end
    end
  end

  context "in a cluster" do
    serve_for_all(Asking::APP, threads: 4, workers: 2, before: "#{ClusterAsking::SETUP}\nhears('table'); hears('ta?le', match: :redis, as: 'pattern')")

    # Everybody has heard all that was published before, by whom `fence` is a fence.
    def fence(word)
      server.wait_for_said(/table #{word} in (root|\d+)/, times: 3)
    end

    scopes = { cluster: %i[own other root], process: %i[own], siblings: %i[other root], root: %i[root], none: %i[own other root], no: %i[own] }

    engines.each do |name, engine|
      it "by a worker with #{engine} is heard by #{scopes[name].join(", ")}" do
        own, other = workers.keys
        in_worker(0, "Iodine.publish('table', 'w-#{name}', #{engine}); Iodine.publish('table', 'behind w-#{name}')")
        fence("behind w-#{name}")
        places = { own: own.to_s, other: other.to_s, root: "root" }
        expected = scopes[name].map { |who| "w-#{name} in #{places[who]}" }
        expect(heard("table").grep(/\Aw-#{name} /)).to match_array(expected)
        eventually { heard("pattern").grep(/\Atable w-#{name} /).size >= expected.size }
      end

      it "by the root with #{engine} is heard by the same" do
        in_root("Iodine.publish('table', 'r-#{name}', #{engine}); Iodine.publish('table', 'behind r-#{name}')")
        fence("behind r-#{name}")
        all = workers.keys.map(&:to_s)
        expected = { cluster: ["root", *all], process: ["root"], siblings: all, root: ["root"] }
        expected = expected.merge(none: expected[:cluster], no: expected[:process]).fetch(name)
        expect(heard("table").grep(/\Ar-#{name} /)).to match_array(expected.map { |where| "r-#{name} in #{where}" })
      end
    end

    it "reaches the WebSockets of all workers, and their event streams" do
      sockets = [0, 1].map { |place| web_socket_of(place, "on(on_open: ->(c) { c.subscribe('sockets'); c.write('ready') })") }
      sockets.each { |socket| expect(socket.read_message).to eq("ready") }
      in_worker(0, "Iodine.publish('sockets', 'from a worker')")
      in_root("Iodine.publish('sockets', 'from the root')")
      sockets.each { |socket| expect([socket.read_message, socket.read_message]).to match_array(["from a worker", "from the root"]) }
    end

    it "may be published by any thread, in the root and in workers" do
      in_worker(0, "Thread.new { Iodine.publish('table', 'w-thread') }.join; nil")
      fence("w-thread")
      in_root("Thread.new { Iodine.publish('table', 'r-thread') }.join")
      fence("r-thread")
    end

    it "has any bytes as its channel and as its message" do
      code = '"\0\xff\r\n"'
      value_of("Iodine.subscribe(#{code}) { |c, m| say('bytes', (c + m).b.inspect, Process.pid) }; nil", client: workers.values.last)
      in_worker(0, "Iodine.publish(#{code}, #{code})")
      server.wait_for_said("bytes #{"\0\xFF\r\n\0\xFF\r\n".b.inspect} #{workers.keys.last}")
    end

    it "is heard by a worker that has just taken a dead one's place" do
      lost = workers.keys.last
      server.signal(:KILL, lost)
      fresh = eventually(20) { (server.worker_pids - workers.keys).last }
      before = server.said.size
      in_worker(0, "Iodine.publish('table', 'after a death')")
      server.wait_for_said(/table after a death in (root|#{workers.keys.first}|#{fresh})/, times: 3)
      expect(server.said.drop(before)).not_to include("table after a death in #{lost}")
      @workers = nil
    end
  end

  describe "and subscribed before the start" do
    # Blocks of `run` are run by each process: the root, and workers as often as they are replaced.
    it "is delivered in each process once, however many of them publish (F63)" do
      server = serve(Asking::APP, workers: 2, before: <<~RUBY)
        #{ClusterAsking::SETUP}
        hears("early")
        Iodine.publish("early", "cluster")
        Iodine.publish("early", "process", false)
        Iodine.publish("early", "siblings", Iodine::PubSub::SIBLINGS)
        Iodine.publish("early", "root", Iodine::PubSub::PUBLISH2ROOT)
        Iodine.run { say "ran in", where }
      RUBY
      pids = server.worker_pids
      server.wait_for_said(/ran in .*/, times: 3)
      ask("Iodine.publish('early', 'late'); [200, {}, []]", client: RawClient.open(server.port))
      server.wait_for_said(/early late in .*/, times: 3)
      expected = { "root" => %w[cluster process root], **pids.to_h { |pid| [pid.to_s, %w[cluster siblings]] } }
      expected.each { |where, words| expect(heard("early", of: server).grep(/ in #{where}\z/)).to eq([*words, "late"].map { |word| "#{word} in #{where}" }) }
      expect(server.log.scan("no server runs in this process").size).to eq(1)
      # What was published long ago is nothing to a worker that is new.
      server.signal(:KILL, pids.first)
      server.wait_until_ready(workers: 3)
      server.wait_for_said("ran in #{server.worker_pids.last}")
      expect(heard("early", of: server).grep(/ in #{server.worker_pids.last}\z/)).to be_empty
    end

    it "is delivered by a process that is alone" do
      server = serve(Asking::APP, before: <<~RUBY)
        #{ClusterAsking::SETUP}
        hears("early")
        %w[CLUSTER PROCESS SIBLINGS PUBLISH2ROOT].each { |name| Iodine.publish("early", name, Iodine::PubSub.const_get(name)) }
        Iodine.publish("early", "last")
      RUBY
      server.wait_for_said("early last in root")
      expect(heard("early", of: server)).to eq(%w[CLUSTER PROCESS PUBLISH2ROOT last].map { |name| "#{name} in root" })
    end

    it "may be published by workers that are about to serve" do
      server = serve(Asking::APP, workers: 2, before: <<~RUBY)
        #{ClusterAsking::SETUP}
        hears("early")
        Iodine.on_state(:on_start) { Iodine.publish("early", "of \#{Process.pid}") }
      RUBY
      server.worker_pids.each do |pid|
        server.wait_for_said("early of #{pid} in root")
        server.wait_for_said("early of #{pid} in #{pid}")
        expect(heard("early", of: server).tally.values.max).to eq(1)
      end
      expect(server.log).not_to include("no server runs")
    end

    it "ends for the process that ends it" do
      server = serve(Asking::APP, workers: 2, before: "#{ClusterAsking::SETUP}\nhears('inherited')\nIodine.on_state(:on_start) { Iodine.unsubscribe('inherited') }")
      ask("hears('fence'); Iodine.publish('inherited', 'x'); Iodine.publish('fence', ''); [200, {}, []]", client: RawClient.open(server.port))
      server.wait_for_said(/fence .*/)
      server.wait_for_said("inherited x in root")
      expect(heard("inherited", of: server)).to eq(["x in root"])
    end
  end

  describe "where no server ever runs" do
    it "is kept, with one warning, and the process ends in peace (F5)" do
      output = output_of(<<~RUBY)
        Iodine.subscribe("a") { |_, m| puts "heard \#{m}" }
        Iodine.run { puts "ran" }
        3.times { p Iodine.publish("a", "b") }
        puts "end"
      RUBY
      expect(output).to match(/\AWARNING: .*"a".*no server runs in this process.*\ntrue\ntrue\ntrue\nend\n\z/)
    end

    it "does not fill the memory: of very many, the oldest are lost, which is logged" do
      output = output_of('12_000.times { |n| Iodine.publish("a", n.to_s) }; puts "end"')
      expect(output.lines.size).to eq(3)
      expect(output).to match(/the oldest are lost.*\nend\n\z/)
    end

    it "is lost behind a server's end, with the warning, and without a crash" do
      server = serve(Asking::APP, before: <<~RUBY)
        at_exit { say Iodine.publish("a", "b"); say Iodine.unsubscribe("a") }
        Iodine.subscribe("a") { say "heard" }
      RUBY
      server.signal(:INT)
      expect(server.wait.exitstatus).to eq(0)
      expect(server.said).to eq(%w[true true])
      expect(server.log).to include("no server runs in this process")
    end
  end
end
