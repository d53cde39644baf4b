# frozen_string_literal: true

# That messages arrive, each once and in order, whatever their number and size, and whatever becomes of others.

require_relative "../support/cluster"

RSpec.describe "delivery", :real_time do
  include ClusterAsking

  # Each publisher's numbers on each channel; a message is "publisher number".
  def expect_in_order(messages, publishers, count)
    by_publisher = messages.map(&:split).group_by(&:first).transform_values { |pairs| pairs.map { |_, number| number.to_i } }
    expect(by_publisher.keys).to match_array(publishers)
    by_publisher.each do |publisher, numbers|
      next if numbers == [*0...count]

      wrong = numbers.each_cons(2).find { |a, b| b != a + 1 }
      raise "of publisher #{publisher}: #{numbers.size} of #{count} messages, the first wrong ones are #{wrong}"
    end
  end

  # Answers the Close of the server, whatever comes before it.
  def close_over(socket)
    frame = socket.read_frame until frame&.opcode == :close
    socket.bye(1001)
  end

  # The code that has so many threads of a process publish so many messages each.
  def publishers(name, threads, count)
    "#{threads}.times { |t| Thread.new { #{count}.times { |n| Iodine.publish('c' + (n % 3).to_s, '#{name}' + t.to_s + ' ' + n.to_s) } } }; nil"
  end

  def flood(clients:, threads:, count:)
    server
    sockets = Array.new(clients) do |index|
      code = index.even? ? "client.subscribe('c*', match: :redis)" : "client.subscribe('c*', match: :redis) { |_, m| client.write(m) }"
      web_socket("on(on_open: ->(client) { #{code}; client.write('ready') })")
    end
    sockets.each { |socket| expect(socket.read_message).to eq("ready") }
    [0, 1].each { |place| in_worker(place, publishers("w#{place}-", threads, count)) }
    in_root(publishers("root-", 1, count))
    names = Array.new(threads) { |t| ["w0-#{t}", "w1-#{t}"] }.flatten << "root-0"
    sockets.each { |socket| expect_in_order(Array.new(names.size * count) { socket.read_message }, names, count) }
    sockets
  end

  context "in a cluster" do
    serve_for_all(Asking::APP, threads: 8, workers: 2, before: <<~RUBY)
      #{ClusterAsking::SETUP}
      Iodine.subscribe("count") { |_, m| ($counted ||= []) << m; say("counted", m, where) if m.end_with?("last") }
    RUBY

    it "to direct and to block subscribers, from several threads of all processes at once, is complete and in order (F17)" do
      flood(clients: 8, threads: 3, count: 500)
    end

    it "to a thousand clients is complete and in order (F17)", :slow, timeout: 300 do
      flood(clients: 1000, threads: 4, count: 25)
    end

    it "to the blocks of all processes is complete and in order" do
      [0, 1].each { |place| in_worker(place, "8.times.map { |t| Thread.new { 1000.times { |n| Iodine.publish('count', '#{place}-' + t.to_s + ' ' + n.to_s) } } }.each(&:join); Iodine.publish('count', '#{place} last')") }
      2.times { |place| server.wait_for_said(/counted #{place} last .*/, times: 3) }
      names = [0, 1].flat_map { |place| Array.new(8) { |t| "#{place}-#{t}" } }
      [0, 1].each { |place| expect_in_order(in_worker(place, "$counted").reject { |m| m.end_with?("last") }, names, 1000) }
      in_root("say('root counted', [$counted.reject { |m| m.end_with?('last') }.join(',')].pack('m0'))")
      line = server.wait_for_said(/root counted .*/).grep(/\Aroot counted/).last
      expect_in_order(line.split.last.unpack1("m").split(","), names, 1000)
    end

    it "of 70 MB, and of long channels, is as of others (F16)" do
      before = server.log.bytesize
      in_worker(1, "Iodine.subscribe('big*', match: :redis) { |c, m| say('big', c.bytesize, m.bytesize, where) }; nil")
      in_worker(0, "Iodine.publish('big', 'x' * 70_000_000)")
      server.wait_for_said(/big 3 70000000 .*/)
      in_worker(0, "Iodine.publish('big' + 'y' * 17_000_000, 'z')")
      server.wait_for_said(/big 17000003 1 .*/)
      in_root("Iodine.publish('big', 'x' * 70_000_000)")
      server.wait_for_said(/big 3 70000000 .*/, times: 2)
      expect(server.log.byteslice(before..)).not_to match(/ERROR|FATAL/)
    end

    it "of many megabytes at once loses nothing while everybody listens" do
      in_worker(1, "$much = []; Iodine.subscribe('much') { |_, m| $much << m.to_i }; nil")
      in_worker(0, "200.times { |n| Iodine.publish('much', n.to_s + ' ' + 'x' * 1_000_000) }; nil")
      eventually(25) { in_worker(1, "$much.size") == 200 }
      expect(in_worker(1, "$much")).to eq([*0..199])
      expect(server.log).not_to include("does not listen")
    end

    it "goes on for all others when a block takes its time, on a connection or not" do
      in_worker(0, "$gate = Queue.new; Iodine.subscribe('slow') { |_, m| $gate.pop; say('slow', m) }; nil")
      slow = web_socket_of(0, "on(on_open: ->(c) { c.subscribe('slow') { |_, m| $gate.pop; c.write(m) }; c.write('ready') })")
      quick = web_socket_of(0, "on(on_open: ->(c) { c.subscribe('slow'); c.subscribe('slo?', match: :redis) { |_, m| c.write('b' + m) }; c.write('ready') })")
      [slow, quick].each { |socket| expect(socket.read_message).to eq("ready") }
      in_worker(1, "100.times { |n| Iodine.publish('slow', n.to_s) }; nil")
      expect(Array.new(200) { quick.read_message }).to match_array([*0..99].flat_map { |n| [n.to_s, "b#{n}"] })
      in_worker(0, "200.times { $gate << 1 }; nil")
      expect(Array.new(100) { slow.read_message.to_i }).to eq([*0..99])
      server.wait_for_said("slow 99")
      in_worker(0, "Iodine.unsubscribe('slow')")
    end

    it "is not held up by a client that does not read" do
      stuck = web_socket_of(0, "on(on_open: ->(c) { c.subscribe('stuck'); c.write('ready') })")
      fine = web_socket_of(0, "on(on_open: ->(c) { c.subscribe('stuck'); c.write('ready') })")
      [stuck, fine].each { |socket| expect(socket.read_message).to eq("ready") }
      in_worker(1, "20.times { Iodine.publish('stuck', 'x' * 1_000_000) }; nil")
      20.times { expect(fine.read_message.bytesize).to eq(1_000_000) }
    end

    it "costs no more for having unsubscribed 100,000 times" do
      code = "%s = ->(n) { Iodine.subscribe('u' + n.to_s) { } }; 100_000.times { |n| s.call(n) }; 100_000.times { |n| Iodine.unsubscribe('u' + n.to_s) || raise }"
      in_worker(0, format(code, "s"))
      socket = web_socket_of(0, "on(on_message: ->(c, _) { 50_000.times { |n| c.subscribe('u' + n.to_s) }; 50_000.times { |n| c.unsubscribe('u' + n.to_s) }; c.write('done') })")
      expect(socket.text("x").read_message).to eq("done")
      in_worker(0, "Iodine.subscribe('u5') { |_, m| say('u5', m) }; Iodine.publish('u5', 'heard'); nil")
      server.wait_for_said("u5 heard")
    end

    it "costs no more for many connections to one channel that leave" do
      # Each has its connection while both workers still take them.
      expect(workers.size).to eq(2)
      sockets = Array.new(200) { web_socket("on(on_open: ->(c) { c.subscribe('crowd'); c.write('ready') })") }
      sockets.each { |socket| expect(socket.read_message).to eq("ready") }
      sockets.each_slice(2) { |leaver, _| leaver.say_goodbye }
      in_worker(0, "Iodine.publish('crowd', 'x')")
      sockets.each_slice(2) { |_, stayer| expect(stayer.read_message).to eq("x") }
    end

    it "leaves time for everything else while threads publish as fast as they can" do
      in_worker(0, "$going = true; 4.times { Thread.new { Iodine.publish('nobody hears', 'x') while $going } }; nil")
      5.times { expect(in_worker(1, "1")).to eq(1) }
      5.times { expect(in_worker(0, "1")).to eq(1) }
      in_worker(0, "$going = false; Iodine.publish('count', 'quiet last')")
      server.wait_for_said(/counted quiet last .*/, times: 3)
    end
  end

  describe "while a worker" do
    let(:server) { serve(Asking::APP, threads: 4, workers: 2, before: "#{ClusterAsking::SETUP}\nhears('news')\nIodine.subscribe('flood') { }") }

    it "is killed, loses nobody else's messages" do
      lost, = workers.keys.reverse
      stays = workers.keys.first
      in_worker(0, "Thread.new { 2000.times { |n| Iodine.publish('news', 'a ' + n.to_s); sleep 0.0001 } }; nil")
      server.wait_for_said("news a 100 in root")
      server.signal(:KILL, lost)
      server.wait_for_said("news a 1999 in root", seconds: 40)
      server.wait_for_said("news a 1999 in #{stays}")
      ["root", stays].each { |where| expect(heard("news").grep(/ in #{where}\z/)).to eq(Array.new(2000) { |n| "a #{n} in #{where}" }) }
      fresh = eventually(20) { (server.worker_pids - [lost, stays]).last }
      in_worker(0, "Iodine.publish('news', 'welcome')")
      server.wait_for_said("news welcome in #{fresh}")
    end

    it "is gone and replaced before the root looks, has its last words heard, and its channels are at an end" do
      lost, stays = workers.keys
      in_root("Iodine::PubSub.attach(Class.new(Iodine::PubSub::Engine) { def unsubscribe(name, *) = say('ended', name) }.new); say('attached')")
      server.wait_for_said("attached")
      in_worker(0, "Iodine.subscribe('early') {}; nil")
      # A zombie has said all that it had to say.
      in_root("say('busy'); sleep 0.01 until File.read('/proc/#{lost}/stat')[/\\) (\\S)/, 1] == 'Z'")
      server.wait_for_said("busy")
      in_worker(0, "Iodine.subscribe('late') {}; Iodine.publish('news', 'last words')")
      # The next request is read when what the one before it has asked for is done.
      in_worker(0, "1")
      # One that has not crashed is replaced at once.
      workers.values.first.write(request_for("exit!(0)"))
      %W[root #{stays}].each { |place| server.wait_for_said("news last words in #{place}") }
      %w[early late].each { |name| server.wait_for_said("ended #{name}") }
      fresh = eventually(20) { (server.worker_pids - [lost, stays]).last }
      in_worker(1, "Iodine.publish('news', 'welcome')")
      server.wait_for_said("news welcome in #{fresh}")
    end

    it "is stopped, lets the others go on; what waits for it is bounded, and it is heard again later" do
      stopped, = workers.keys.reverse
      going = workers.keys.first
      server.signal(:STOP, stopped)
      in_worker(0, "70.times { Iodine.publish('flood', 'x' * 1_000_000) }; nil")
      # It takes a second to tell one that does not listen from one that is busy.
      eventually(20, "nothing was lost") do
        in_worker(0, "Iodine.publish('flood', 'x' * 1_000_000)")
        server.log.match?(/ERROR: a process of the cluster does not listen: 64 MiB wait for it, messages to it are lost/)
      end
      in_worker(0, "10.times { |n| Iodine.publish('news', 'b ' + n.to_s) }; 20.times { Iodine.publish('flood', 'x' * 1_000_000) }")
      ["root", going].each { |where| server.wait_for_said("news b 9 in #{where}") }
      # The master holds no more than that.
      expect(server.rss).to be < 400 << 20
      server.signal(:CONT, stopped)
      eventually(20, "it does not listen again") { in_worker(1, "1") }
      eventually(20) do
        in_worker(0, "Iodine.publish('news', 'back')")
        heard("news").include?("back in #{stopped}")
      end
      server.wait_for_log(/WARNING: a process of the cluster listens again; \d+ messages to it were lost/)
      lost = server.log[/again; (\d+) messages/, 1].to_i
      expect(lost).to be_between(1, 400)
      in_worker(1, "Iodine.publish('news', 'from it')")
      ["root", going, stopped].each { |where| server.wait_for_said("news from it in #{where}") }
    end
  end

  describe "of what is published while" do
    handler = "on(on_message: ->(c, _) { @armed = c.subscribe('end'); c.write('ready') }, " \
              "on_shutdown: ->(c) { c.publish('end', 'shutdown') if @armed }, on_close: ->(c) { c.publish('end', 'close') if @armed })"

    it "a worker ends, reaches all others (F66)" do
      @server = serve(Asking::APP, threads: 4, workers: 2, before: "#{ClusterAsking::SETUP}\nhears('end')")
      define_singleton_method(:server) { @server }
      leaving = web_socket_of(0, handler)
      staying = web_socket_of(1, handler)
      [leaving, staying].each { |socket| expect(socket.text("x").read_message).to eq("ready") }
      server.signal(:TERM, workers.keys.first)
      close_over(leaving)
      expect([staying.read_message, staying.read_message]).to eq(%w[shutdown close])
      ["root", workers.keys.last].each { |where| %w[shutdown close].each { |word| server.wait_for_said("end #{word} in #{where}") } }
    end

    it "all of the server ends, reaches those that are still there (F66)" do
      @server = serve(Asking::APP, threads: 4, workers: 2, before: "#{ClusterAsking::SETUP}\nhears('end')")
      define_singleton_method(:server) { @server }
      sockets = Array.new(4) { web_socket(handler) }
      sockets.each { |socket| expect(socket.text("x").read_message).to eq("ready") }
      server.signal(:TERM)
      sockets.each { |socket| close_over(socket) }
      expect(server.wait.exitstatus).to eq(0)
      %w[shutdown close].each { |word| expect(heard("end").count("#{word} in root")).to eq(4) }
    end

    it "a process that is alone ends, reaches its own blocks (F66)" do
      server = serve(Asking::APP, threads: 4, before: "#{ClusterAsking::SETUP}\nhears('end')")
      sockets = Array.new(4) { web_socket(handler, port: server.port) }
      sockets.each { |socket| expect(socket.text("x").read_message).to eq("ready") }
      server.signal(:TERM)
      sockets.each { |socket| close_over(socket) }
      expect(server.wait.exitstatus).to eq(0)
      %w[shutdown close].each { |word| expect(heard("end", of: server).count("#{word} in root")).to eq(4) }
    end
  end
end
