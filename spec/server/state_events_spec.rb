# frozen_string_literal: true

# `Iodine.on_state`: which blocks run, where, and in which order.

RSpec.describe "state events" do
  events = %i[pre_start before_fork after_fork enter_child enter_master on_start
              start_shutdown on_finish on_parent_crush on_child_crush]
  # Says each event with its process and what that takes itself for.
  tell = <<~RUBY
    #{events.inspect}.each do |event|
      Iodine.on_state(event) { say event, Process.pid, Iodine.running?, Iodine.master?, Iodine.worker? }
    end
  RUBY
  hello = "->(_env) { [200, {}, [Process.pid.to_s]] }"

  # What the server said, as [event, pid, ...], by process.
  def events_of(server)
    server.said.map(&:split).group_by { |words| words[1].to_i }
  end

  describe "in a single process" do
    %i[start_shutdown on_finish].each do |event|
      it "end the process by an exit in #{event} when all blocks have run" do
        server = serve("->(_env) { say 'in'; sleep 0.3; [200, {}, ['done']] }", threads: 2, before: <<~RUBY)
          %i[start_shutdown on_finish].each { |event| Iodine.on_state(event) { say event } }
          Iodine.on_state(#{event.inspect}) { exit 3 }
        RUBY
        RawClient.open(server.port) do |client|
          client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
          server.wait_for_said("in")
          server.signal(:INT)
          expect(client.read_response.body).to eq("done")
        end
        expect(server.wait.exitstatus).to eq(3)
        expect(server.said).to eq(%w[in start_shutdown on_finish])
      end
    end

    %i[pre_start on_start start_shutdown on_finish].each do |event|
      it "let a child that is forked in #{event} end there, with its own status" do
        server = serve(hello, before: <<~RUBY)
          Iodine.on_state(#{event.inspect}) do
            child = fork { exit 5 }
            said = Process.waitpid2(child).last.exitstatus
            exit 6 unless (child = fork)

            say "statuses", said, Process.waitpid2(child).last.exitstatus
          end
          Iodine.on_state(#{event.inspect}) { say "other" }
        RUBY
        server.stop
        expect(server.said.tally).to eq("statuses 5 6" => 1, "other" => 1)
        expect(server.log).not_to match(/ERROR|Errno/)
      end
    end

    it "can be broken out of by signals while they hang at the start" do
      server = serve(hello, ready: false, before: "Iodine.on_state(:on_start) { say 'in'; sleep }")
      server.wait_for_said("in")
      eventually do
        server.signal(:TERM)
        !server.alive?
      end
      expect(server.wait.termsig).to eq(Signal.list["TERM"])
    end

    it "are broken out of at the start by an exit in a trap" do
      server = serve(hello, ready: false, before: "trap('TERM') { exit 7 }; Iodine.on_state(:on_start) { say 'in'; sleep }")
      server.wait_for_said("in")
      server.signal(:TERM)
      expect(server.wait.exitstatus).to eq(7)
    end

    it "run behind an exit in pre_start, which ends the process" do
      server = serve(hello, ready: false, before: "Iodine.on_state(:pre_start) { exit 3 }\nIodine.on_state(:pre_start) { say 'other' }")
      expect(server.wait.exitstatus).to eq(3)
      expect(server.said).to eq(["other"])
    end

    it "come in this order" do
      server = serve(hello, before: tell)
      server.wait_for_said(/on_start .*/)
      server.signal(:INT)
      server.wait
      expect(server.said).to eq([
                                  "pre_start #{server.pid} true true false", "on_start #{server.pid} true true false",
                                  "start_shutdown #{server.pid} false true true", "on_finish #{server.pid} false true true"
                                ])
    end

    it "run their blocks in order, but those of the end in reverse" do
      server = serve(hello, before: <<~RUBY)
        %i[pre_start on_start start_shutdown on_finish].each do |event|
          2.times { |number| Iodine.on_state(event) { say event, number } }
        end
      RUBY
      server.stop
      expect(server.said).to eq([
                                  "pre_start 0", "pre_start 1", "on_start 0", "on_start 1",
                                  "start_shutdown 1", "start_shutdown 0", "on_finish 1", "on_finish 0"
                                ])
    end

    it "log what a block raises, and go on" do
      server = serve(hello, before: <<~RUBY)
        def endless = endless
        raisers = { StandardError: -> { raise "oh" }, ScriptError: -> { raise NotImplementedError, "not yet" },
                    SystemStackError: -> { endless }, UncaughtThrowError: -> { throw :away },
                    Exception: -> { raise Exception, "of any kind" } }
        raisers.each_value { |raiser| %i[pre_start on_start on_finish].each { |event| Iodine.on_state(event) { raiser.call } } }
        %i[pre_start on_start on_finish].each { |event| Iodine.on_state(event) { say event } }
      RUBY
      expect(RawClient.open(server.port, &:get).status).to eq(200)
      server.stop
      expect(server.status.exitstatus).to eq(0)
      expect(server.said).to eq(%w[pre_start on_start on_finish])
      raised = server.log.scan(/^ERROR: Iodine caught an unprotected exception - (\w+): /).flatten.tally
      expect(raised).to eq("RuntimeError" => 3, "NotImplementedError" => 3, "SystemStackError" => 3,
                           "UncaughtThrowError" => 3, "Exception" => 3)
    end
  end

  describe "in a cluster" do
    it "come in this order in the root and in each worker" do
      server = serve(hello, workers: 2, before: tell)
      workers = server.worker_pids
      # The root may come to it only when its workers run.
      server.wait_for_said(/enter_master .*/, times: 2)
      server.signal(:INT)
      server.wait
      by_process = events_of(server)
      root = by_process.delete(server.pid).map { |words| words.values_at(0, 2, 3, 4).join(" ") }
      fork = ["before_fork true true false", "after_fork true true false", "enter_master true true false"]
      expect(root).to eq(["pre_start true true false", *fork, *fork, "start_shutdown false true false", "on_finish false true false"])
      expect(by_process.keys).to match_array(workers)
      expect(by_process.values.map { |lines| lines.map { |words| words.values_at(0, 2, 3, 4).join(" ") } })
        .to all(eq([
                     "after_fork true false true", "enter_child true false true", "on_start true false true",
                     "start_shutdown false false true", "on_finish false false true"
                   ]))
    end

    it "end with the root's on_finish, after all workers'" do
      server = serve(hello, workers: 2, before: tell)
      server.stop
      expect(server.said.last).to start_with("on_finish #{server.pid} ")
      shutdowns = server.said.grep(/start_shutdown/).map { |line| line.split[1].to_i }
      expect(shutdowns.first).to eq(server.pid)
    end

    it "run their blocks in order, but those of the end in reverse" do
      server = serve(hello, workers: 2, before: <<~RUBY)
        #{events.inspect}.each do |event|
          2.times { |number| Iodine.on_state(event) { say event, Process.pid, number } }
        end
      RUBY
      server.signal(:KILL, server.worker_pids.first)
      server.wait_for_log(/is running\./, times: 3)
      server.stop
      numbers = server.said.map(&:split).group_by { |event, pid,| [event.to_sym, pid] }.transform_values { |lines| lines.map(&:last) }
      expect(numbers.keys.map(&:first).uniq).to match_array(events - [:on_parent_crush])
      numbers.each do |(event, _), seen|
        forwards = %i[start_shutdown on_finish on_child_crush].include?(event) ? %w[1 0] : %w[0 1]
        expect(seen.each_slice(2).to_a).to all(eq(forwards)), "#{event}: #{seen}"
      end
    end

    it "come again with each worker that replaces another" do
      server = serve(hello, workers: 2, before: tell)
      before = server.wait_for_said(/enter_master .*/, times: 2).size
      server.signal(:USR1)
      server.wait_for_said(/on_finish .*/, times: 2)
      server.wait_for_log(/is running\./, times: 4)
      root, workers = server.said.drop(before).map(&:split).partition { |words| words[1].to_i == server.pid }
      expect(root.map(&:first)).to eq(%w[before_fork after_fork enter_master] * 2)
      expect(workers.group_by { |words| words[1] }.values.map { |lines| lines.map(&:first) })
        .to contain_exactly(%w[start_shutdown on_finish], %w[start_shutdown on_finish],
                            %w[after_fork enter_child on_start], %w[after_fork enter_child on_start])
    end

    it "leave workers alone in a child that is forked in one of the root" do
      server = serve(hello, workers: 2, before: <<~RUBY)
        root = Process.pid
        Iodine::Base.singleton_class.prepend(Module.new do
          define_method(:vacate) { |slot| say("taken for dead by a child") if Process.pid != root; super(slot) }
        end)
        Iodine.on_state(:enter_master) do
          exit 5 unless (child = fork)
          say "status", Process.waitpid2(child).last.exitstatus
        end
      RUBY
      server.wait_for_said("status 5", times: 2)
      expect(server.said).to eq(["status 5"] * 2)
    end

    it "let only the worker die whose block calls exit" do
      server = serve(hello, workers: 2, before: <<~RUBY, ready: false)
        tokens, writer = IO.pipe
        writer.write("x")
        Iodine.on_state(:on_start) { exit(3) if tokens.read_nonblock(1, exception: false) == "x" }
      RUBY
      server.wait_for_log(/Child worker \(\d+\) crashed/)
      server.wait_until_ready(workers: 2)
      expect(RawClient.open(server.port, &:get).status).to eq(200)
      server.stop
      expect(server.status.exitstatus).to eq(0)
    end
  end
end
