# frozen_string_literal: true

# Engines: which is the usual one, what they are told of, and that nothing they do hangs or harms.

require_relative "../support/cluster"
require_relative "../support/ruby_script"

RSpec.describe "engines", :real_time do
  include ClusterAsking
  include RubyScript

  recorder = <<~'RUBY'
    # Says what it is told, with its name. It does not call super in `initialize`.
    class Recorder < Iodine::PubSub::Engine
      def initialize(name) = @name = name
      def subscribe(channel, match = :none) = note(:subscribe, channel, match)
      def unsubscribe(channel, match = :none) = note(:unsubscribe, channel, match)
      def publish(channel, message) = note(:publish, channel, message)
      def note(*words) = say(@name, words.shift, *words.map(&:inspect), where)
    end
  RUBY

  # Waits until it was told so much, and returns it.
  def told_to(name, count)
    eventually(25, "#{name} was not told #{count} things but #{heard(name)}") { heard(name).size >= count }
    heard(name)
  end

  describe "and Iodine::PubSub:" do
    it "the default is the cluster, and can be set and unset" do
      output = output_of(<<~RUBY)
        include Iodine
        p PubSub.default == PubSub::CLUSTER
        engine = Class.new(PubSub::Engine).new
        p((PubSub.default = engine) == engine, PubSub.default == engine)
        PubSub.default = PubSub::PROCESS
        p PubSub.default == PubSub::PROCESS
        PubSub.default = nil
        p PubSub.default == PubSub::CLUSTER
        p PubSub.attach(engine) == engine, PubSub.attach(engine) == engine, PubSub.reset(engine) == engine, PubSub.detach(engine) == engine
        p PubSub.detach(engine) == engine, PubSub.default == PubSub::CLUSTER
      RUBY
      expect(output.split.uniq).to eq(["true"])
      expect(output.split.size).to eq(11)
    end

    it "what is no engine is refused" do
      output = output_of(<<~RUBY)
        [5, "x", Object.new, Iodine::PubSub::Engine, true, false].each do |thing|
          %i[default= attach detach reset].each { |name| puts((Iodine::PubSub.public_send(name, thing) rescue "\#{$!.class} \#{$!.message}")) }
        end
        %i[attach detach reset].each { |name| puts((Iodine::PubSub.public_send(name, nil) rescue "\#{$!.class} \#{$!.message}")) }
      RUBY
      expect(output.lines.size).to eq(27)
      expect(output.lines).to all(match(/\ATypeError wrong argument type \w+ \(expected Iodine::PubSub::Engine\)$/))
    end

    it "the built-in ones can be attached, reset and detached like others (F22)" do
      output = output_of(<<~RUBY)
        Iodine.subscribe("a") {}
        %i[CLUSTER PROCESS SIBLINGS PUBLISH2ROOT].each do |name|
          engine = Iodine::PubSub.const_get(name)
          p %i[attach reset detach].all? { |does| Iodine::PubSub.public_send(does, engine).equal?(engine) }
        end
        Iodine.subscribe("b") {}
      RUBY
      expect(output.split).to eq(["true"] * 4)
    end

    it "the older spelling of detach works, with a warning" do
      expect(output_of("e = Iodine::PubSub::Engine.new; p Iodine::PubSub.dettach(e) == e", "-W")).to match(/detach.*\ntrue\n\z/)
    end

    it "a base engine does nothing, whatever it is told" do
      expect(output_of("e = Iodine::PubSub::Engine.new; p [e.subscribe('a'), e.unsubscribe('a', true), e.publish('a', 'b')]")).to eq("[nil, nil, nil]\n")
    end
  end

  context "in a process that is alone" do
    serve_for_all(Asking::APP, threads: 4, before: "#{ClusterAsking::SETUP}\n#{recorder}")

    after { value_of("Iodine::PubSub.default = nil; $engine && Iodine::PubSub.detach($engine); %w[z a* p told r x].each { |name| Iodine.unsubscribe(name) }; nil") }

    it "are told of the first and of the last subscription of a channel and of a pattern, with fresh Strings" do
      value_of('$engine = Iodine::PubSub.attach(Recorder.new("first")); nil')
      # Told of by another thread.
      eventually { heard("first").any? }
      value_of(<<~'RUBY')
        Iodine::PubSub.detach($engine)
        $engine = Iodine::PubSub.attach(Class.new(Recorder) { def subscribe(c, m = nil) = super.tap { c << "!" } }.new("changes"))
        Iodine.subscribe("one") {}
        Iodine.subscribe("one") {}
        Iodine.subscribe(:"two*", match: :redis) {}
        Iodine.subscribe("two*") {}
        Iodine.unsubscribe("one")
        Iodine.unsubscribe("one")
        Iodine.unsubscribe("two*")
      RUBY
      eventually { heard("changes").grep(/one|two/).size >= 6 }
      changes = heard("changes").grep(/one|two/)
      expect(changes).to eq(['subscribe "one" nil root', 'subscribe "two*" true root', 'subscribe "two*" nil root',
                             'unsubscribe "two*" true root', 'unsubscribe "one" nil root', 'unsubscribe "two*" nil root'])
      expect(heard("first")).to eq(['subscribe "code for the root" nil root'])
    end

    it "are told by connections, too, and by their end" do
      value_of("$engine = Iodine::PubSub.attach(Recorder.new('conns')); nil")
      sockets = Array.new(2) { web_socket("on(on_open: ->(c) { c.subscribe('of conns'); c.subscribe('by*', match: :redis); c.write('ready') })") }
      sockets.each { |socket| expect(socket.read_message).to eq("ready") }
      expect(told_to("conns", 3).grep(/conns|by/)).to match_array(['subscribe "of conns" nil root', 'subscribe "by*" true root'])
      sockets.first.say_goodbye
      sockets.last.close
      expect(told_to("conns", 5).grep(/unsubscribe.*(conns|by)/)).to match_array(['unsubscribe "of conns" nil root', 'unsubscribe "by*" true root'])
    end

    it "are told of all there is when attached and when reset, attached or not: channels first" do
      value_of("Iodine.subscribe('z') {}; Iodine.subscribe('a*', match: :redis) {}; $engine = Iodine::PubSub.attach(Recorder.new('all')); Iodine::PubSub.reset(Recorder.new('loose')); Iodine::PubSub.reset($engine); nil")
      all = ['subscribe "code for the root" nil root', 'subscribe "z" nil root', 'subscribe "a*" true root']
      expect(told_to("all", 6)).to eq(all + all)
      expect(heard("loose")).to eq(all)
    end

    it "publish when they are named, or the default, attached or not; nobody else hears" do
      value_of("hears('p'); $engine = Recorder.new('publisher'); Iodine.publish('p', 'named', $engine); Iodine::PubSub.default = $engine; Iodine.publish('p', 'usual'); Iodine.publish(to: :p, message: 'kw', engine: nil); nil")
      expect(heard("publisher")).to eq(['publish "p" "named" root', 'publish "p" "usual" root', 'publish "p" "kw" root'])
      value_of("Iodine.publish('p', 'fence', Iodine::PubSub::CLUSTER)")
      server.wait_for_said("p fence in root")
      expect(heard("p")).to eq(["fence in root"])
    end

    it "may raise: that is logged, and publish is true" do
      code = <<~RUBY
        $engine = Iodine::PubSub.attach(Class.new(Recorder) {
          def subscribe(*) = raise("by subscribe")
          def unsubscribe(*) = raise(NotImplementedError, "by unsubscribe")
          def publish(*) = raise("by publish")
        }.new("raises"))
        Iodine.subscribe("r") {}
        Iodine.unsubscribe("r")
        Iodine.publish("r", "x", $engine)
      RUBY
      # Of channels it is told by another thread.
      server.log_after(/RuntimeError: by subscribe.*NotImplementedError: by unsubscribe/m) { expect(value_of(code)).to be(true) }
      # Lines that were logged a moment later may be written later, too.
      server.wait_for_log(/RuntimeError: by publish/)
    end

    it "may subscribe, publish, attach and detach while they are told (F3, F23)" do
      value_of(<<~'RUBY')
        hears("told")
        $engine = Class.new(Recorder) {
          def subscribe(channel, match = nil)
            super
            return unless channel.start_with?("x", "y")
            Iodine.subscribe("y" + channel) {} if channel.size < 4
            Iodine.publish("told", channel)
            Iodine::PubSub.attach(other = Recorder.new("inner"))
            Iodine::PubSub.detach(other)
            Iodine::PubSub.reset(other) if channel == "x"
            Iodine.unsubscribe(channel) if channel.start_with?("y")
          end
        }.new("nested")
        Iodine::PubSub.attach($engine)
        Iodine.subscribe("x") {}
        nil
      RUBY
      %w[x yx yyx yyyx].each { |channel| server.wait_for_said("told #{channel} in root") }
      value_of("class << $engine; def unsubscribe(*) = Iodine::PubSub.detach(self); end; Iodine.unsubscribe('x'); Iodine.unsubscribe('told'); Iodine.subscribe('after') {}; Iodine.unsubscribe('after')")
      expect(heard("nested").grep(/after/)).to be_empty
    end

    it "do not hang a process in which many come and go on several threads (F3)" do
      value_of(<<~'RUBY')
        class Counter < Iodine::PubSub::Engine
          attr_reader :heard, :wrong, :busy
          def initialize = (@heard = Hash.new(0); @wrong = []; @busy = 0)
          def subscribe(c, m = nil) = count(c, m, 1)
          def unsubscribe(c, m = nil) = count(c, m, -1)
          def count(c, m, by)
            @wrong << :overlap if (@busy += 1) > 1
            Thread.pass
            @wrong << [c, @heard[[c, m]]] unless [0, 1].include?(@heard[[c, m]] += by)
            @busy -= 1
          end
          def left = @heard.select { |(name, _), count| count > 0 && name.start_with?("churn") }
        end
        $engine = Iodine::PubSub.attach(Counter.new)
        nil
      RUBY
      code = "on(on_open: ->(c) { 20.times { c.subscribe('churn' + rand(40).to_s, match: [:redis, nil].sample) }; c.write('ready') })"
      # Some that come and go while all this happens have to know the same in the end.
      value_of("$others = Array.new(4) { Counter.new }; $going = true; $cycle = Thread.new { $others.cycle { |e| break unless $going; Iodine::PubSub.attach(e); sleep 0.002; Iodine::PubSub.detach(e) } }; nil")
      clients = Array.new(8) do |number|
        Thread.new do
          25.times do
            client = WebSocketClient.open(server.port)
            client.shake_hands(lines: "X-Code: #{["env['rack.upgrade'] = #{code}; [200, {}, []]"].pack("m0")}\r\n")
            raise "no answer" unless client.read_message == "ready"

            number.even? ? client.say_goodbye : client.close
          end
        end
      end
      clients.each(&:join)
      value_of("$going = false; $cycle.join; nil")
      eventually { value_of("$engine.left").empty? }
      expect(value_of("$engine.wrong.first(5)")).to eq([])
      value_of("$late = Counter.new; Iodine::PubSub.attach($late); Iodine::PubSub.detach($late); nil")
      expect(value_of("$late.left")).to eq({})
    end
  end

  context "that take their time" do
    serve_for_all(Asking::APP, threads: 2, before: ClusterAsking::SETUP)

    it "keep nobody for longer than their part, however much others go on changing" do
      value_of(<<~RUBY)
        $slow = Iodine::PubSub.attach(Class.new(Iodine::PubSub::Engine) { def subscribe(*) = sleep(0.001) }.new)
        $going = true
        $rounds = [0] * 3
        $busy = Array.new(3) do |n|
          Thread.new { while $going; Iodine.subscribe("busy" + n.to_s) {}; Iodine.unsubscribe("busy" + n.to_s); $rounds[n] += 1; sleep 0.0005; end }
        end
        nil
      RUBY
      eventually { value_of("$rounds.min") > 200 }
      socket = web_socket("on(on_open: ->(c) { c.subscribe('quick'); c.write('ready') })")
      expect(socket.read_message).to eq("ready")
    ensure
      value_of("$going = false; $busy.each(&:join); Iodine::PubSub.detach($slow); nil")
    end
  end

  context "that are slower than clients come and go" do
    serve_for_all(Asking::APP, threads: 2, before: ClusterAsking::SETUP)

    it "are not told of what has changed back, unless that is news to one that was attached in between" do
      waiting, first, second = value_of(<<~RUBY)
        gate = Queue.new
        engine = Class.new(Iodine::PubSub::Engine) do
          attr_reader :told
          def initialize = @told = []
          define_method(:subscribe) { |channel, *| @told << "on " + channel; gate.pop if channel == "gate" }
          def unsubscribe(channel, *) = @told << "off " + channel
        end
        first, second = engine.new, engine.new
        Iodine::PubSub.attach(first)
        teller = Thread.new { Iodine.subscribe("gate") {} }
        Thread.pass until gate.num_waiting == 1
        1000.times { Iodine.subscribe("flaps") {}; Iodine.unsubscribe("flaps") }
        Iodine.subscribe("stays") {}
        Iodine.subscribe("goes") {}
        1000.times { Iodine.unsubscribe("stays"); Iodine.subscribe("stays") {} }
        waiting = Iodine::Base.channel_changes
        Iodine::PubSub.attach(second)
        Iodine.unsubscribe("goes")
        2.times { gate << 1 }
        teller.join
        Thread.pass until second.told.include?("off goes")
        [first, second].each { |attached| Iodine::PubSub.detach(attached) }
        [waiting, first.told, second.told].each { |list| list.delete("on code for the root") if list.is_a?(Array) }
      RUBY
      expect(waiting).to eq(2)
      expect([first, second]).to all(eq(["on gate", "on goes", "on stays", "off goes"]))
    end
  end

  it "are told of all there was when the server ends before they were" do
    server = start_script(<<~RUBY)
      require "iodine"
      Iodine.workers = Iodine.threads = 1
      Iodine::DEFAULT_SETTINGS[:shutdown_timeout] = 0.1
      gate, told = Queue.new, []
      engine = Class.new(Iodine::PubSub::Engine)
      engine.define_method(:subscribe) { |channel, *| told << channel; channel == "gate" ? gate.pop : sleep(0.001) }
      engine.define_method(:unsubscribe) { |channel, *| told.delete(channel) || say("unknown", channel) }
      Iodine.on_state(:start_shutdown) { gate << 1 }
      Iodine.on_state(:on_start) do
        Thread.new do
          sleep 0.01 until Iodine::Base.enqueue(-> {})
          Iodine::PubSub.attach(engine.new)
          teller = Thread.new { Iodine.subscribe("gate") {} }
          Thread.pass until gate.num_waiting == 1
          1500.times { |n| Iodine.subscribe("n" + n.to_s) {} }
          say "asked"
          Iodine.stop
        end
      end
      Iodine.on_state(:on_finish) { say "left", told.size }
      Iodine.start
    RUBY
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to eq(["asked", "left 0"])
  end

  context "in a cluster" do
    let!(:server) { serve(Asking::APP, threads: 4, workers: 2, before: "#{ClusterAsking::SETUP}\n#{recorder}\nIodine::PubSub.attach($engine = Recorder.new('e'))\nIodine.subscribe('mine') {}") }

    # What was told in that process, after the start.
    def told_in(place, count)
      eventually(25, "#{place} was told #{heard("e")}") { lines(place).size >= count }
      lines(place)
    end

    def lines(place)
      heard("e").filter_map { |line| line.delete_suffix(" #{place}") if line.end_with?(" #{place}") && !line.include?('"code for the root"') && !line.include?('"mine"') }
    end

    it "hear in each process of its own channels, and in the root of the first and the last worker" do
      first, second = workers.keys
      2.times { |place| in_worker(place, "Iodine.subscribe('w') {}; Iodine.subscribe('w*', match: :redis) {}; nil") }
      subscribed = ['subscribe "w" nil', 'subscribe "w*" true']
      [first, second, "root"].each { |place| expect(told_in(place, 2)).to match_array(subscribed) }
      # What the root hears of one worker may overtake what it hears of the other.
      in_worker(1, %q[Iodine.publish("code for the root", "say('both')", Iodine::PubSub::PUBLISH2ROOT)])
      server.wait_for_said("both")
      in_worker(0, "Iodine.unsubscribe('w'); Iodine.unsubscribe('w*')")
      told_in(first, 4)
      in_root("say('round trip')")
      server.wait_for_said("round trip")
      expect(lines("root").size).to eq(2)
      in_worker(1, "Iodine.unsubscribe('w'); Iodine.unsubscribe('w*')")
      expect(told_in("root", 4).drop(2)).to match_array(['unsubscribe "w" nil', 'unsubscribe "w*" true'])
    end

    it "hear in the root when the worker has died that heard a channel last" do
      in_worker(1, "Iodine.subscribe('dies') {}; nil")
      expect(told_in("root", 1)).to eq(['subscribe "dies" nil'])
      server.signal(:KILL, workers.keys[1])
      expect(told_in("root", 2)).to eq(['subscribe "dies" nil', 'unsubscribe "dies" nil'])
    end

    it "hear of no more than is heard there in a worker that replaces another, and in the root of the end of what others hear" do
      lost, stays = workers.keys
      in_worker(1, "Iodine.subscribe('elsewhere') {}; Iodine.subscribe('too*', match: :redis) {}; nil")
      told_in("root", 2)
      server.signal(:KILL, lost)
      server.wait_until_ready(workers: 3)
      fresh = (server.worker_pids - [lost, stays]).first
      @workers.delete(server).each_value(&:close)
      place = workers.keys.index(fresh)
      expect(in_worker(place, "Iodine::Base.channels.map(&:first)")).to contain_exactly("code for the root", "mine")
      in_worker(place, "Iodine.subscribe('elsewhere') {}; nil")
      expect(told_in(fresh, 1)).to eq(['subscribe "elsewhere" nil'])
      in_worker(place, "Iodine.unsubscribe('elsewhere')")
      expect(told_in(fresh, 2).last).to eq('unsubscribe "elsewhere" nil')
      # What the root hears of the other worker may overtake what it hears of this one.
      in_worker(place, %q[Iodine.publish("code for the root", "say('of the new one')", Iodine::PubSub::PUBLISH2ROOT)])
      server.wait_for_said("of the new one")
      in_worker(1 - place, "Iodine.unsubscribe('elsewhere'); Iodine.unsubscribe('too*')")
      expect(told_in("root", 4).drop(2)).to contain_exactly('unsubscribe "elsewhere" nil', 'unsubscribe "too*" true')
    end

    it "publish in the process that publishes" do
      in_worker(1, "Iodine.publish('p', 'm', $engine)")
      expect(told_in(workers.keys[1], 1)).to eq(['publish "p" "m"'])
      expect(lines("root") + lines(workers.keys[0])).to eq([])
    end

    it "have a default in each process" do
      in_worker(0, "Iodine::PubSub.default = $engine; Iodine.publish('p', 'm')")
      expect(in_worker(1, "Iodine::PubSub.default == Iodine::PubSub::CLUSTER")).to be(true)
      expect(told_in(workers.keys[0], 1)).to eq(['publish "p" "m"'])
    end

    it "hear at the end of a process that nobody hears any more" do
      pids = workers.keys
      server.signal(:TERM)
      expect(server.wait.exitstatus).to eq(0)
      ["root", *pids].each { |place| expect(heard("e")).to include("unsubscribe \"mine\" nil #{place}") }
    end
  end
end
