# frozen_string_literal: true

# The master of a cluster: forks workers, replaces those that die, restarts them one after the other, ends them all.
# It serves nobody, and it has no thread but the one it runs on, so that it may fork at any time.

module Iodine
  module Base
    # @api private
    class Cluster
      # Seconds before a worker is replaced when its predecessors died young: doubled each time, up to the last.
      FIRST_DELAY = 0.1
      LAST_DELAY = 30.0
      # A worker that lived so many seconds did not die young.
      GROWN_UP = 5
      # Seconds that a worker gets beyond the time to drain before it is killed.
      GRACE = 5
      # How often the master looks for a worker that is about to be gone.
      REAP_EVERY = 0.02

      # A worker as the master sees it.
      Worker = Struct.new(:slot, :pid, :born, :ready, :leaving, keyword_init: true)

      def initialize(server, size)
        @server = server
        @size = size
        # A worker being replaced and its replacement both need a place.
        @slots = (0...(size * 2)).to_a
        @workers = []
        @outgoing = []
        @young_deaths = 0
        @spawn_at = nil
        @restarts = 0
        # Whether the connections of the master itself are closed.
        @drained = false
      end

      def run
        @server.lead(self)
        @server.begin_serving
        Base.start_master(@slots.size)
        Engines.come_back
        Unsent.hand_over_to_cluster
        Tasks.hand_over(keep: true)
        Connecting.hand_over
        @size.times { spawn_worker unless @server.stopping? }
        Unsent.forget
        look_after until @server.stopping?
        shut_down
      ensure
        unless Server.child?
          abandon_workers
          Base.stop_master
        end
      end

      # Replaces all workers, one by one. Safe in a trap.
      def restart
        @restarts += 1
        Base.wake
      end

      private

      def look_after
        wait(pause)
        reopen_logs
        reap
        begin_restart if @restarts.positive?
        replace_missing
        step_restart
      end

      # Seconds until something is due; nil when only an event can change anything.
      def pause
        return REAP_EVERY if @workers.any? { |worker| worker.leaving == :gone }

        @spawn_at && [@spawn_at - now, 0].max
      end

      def wait(seconds)
        descriptor, limit = Base.prepare_turn
        IO.select([IO.for_fd(descriptor, autoclose: false)], nil, nil, [seconds, limit].compact.min)
        Base.turn
        Base.run_waiting_jobs
        Base.end_forked_child
        while (name, slot = Base.take_notice)
          raise "the server can not go on: its poller has failed" if name == :failed

          @drained = true if %i[drained drain_timed_out].include?(name)
          worker = @workers.find { |candidate| candidate.slot == slot }
          next unless worker

          worker.ready = true if name == :worker_ready
          worker.leaving = :gone if name == :worker_gone
        end
      end

      # --- birth ---

      def spawn_worker
        slot = (@slots - @workers.map(&:slot)).first
        State.fire(:before_fork)
        Base.prepare_worker(slot)
        pid = ForkGuard.worker { Process.fork { become_worker(slot) } }
        Base.adopt_worker(slot, true)
        @workers << Worker.new(slot: slot, pid: pid, born: now)
        State.fire(:after_fork)
        State.fire(:enter_master)
      rescue SystemCallError => error
        Base.adopt_worker(slot, false)
        Base.log(2, "a worker can not be started: #{error.message}")
        delay_spawning
      end

      # In the new process, which ends with this: what the caller of `start` does next is the root's business.
      def become_worker(slot)
        ForkGuard.worker_done
        Base.leave_master
        Connecting.forget
        @server.run_worker(slot)
      rescue StandardError, ScriptError => error
        Base.report(error)
        exit(1)
      end

      def replace_missing
        return if @spawn_at && now < @spawn_at

        @spawn_at = nil
        spawn_worker while !@spawn_at && !@server.stopping? && missing?
      end

      # While old workers are being replaced there is one more than usual.
      def missing?
        @workers.size < @size + (@outgoing.empty? ? 0 : 1) && fresh.size < @size
      end

      # Those that are to stay.
      def fresh
        @workers - @outgoing
      end

      # Workers that were forked before have the files that were open then.
      def reopen_logs
        signal_workers(:HUP) if @server.reopen_logs
      end

      # Once for all that die together: what they die of is one cause.
      def delay_spawning
        return if @spawn_at

        delay = [FIRST_DELAY * (2**@young_deaths), LAST_DELAY].min
        @young_deaths += 1
        @spawn_at = now + delay
      end

      # --- death ---

      def reap
        @workers.dup.each do |worker|
          pid, status = Process.waitpid2(worker.pid, Process::WNOHANG)
          bury(worker, status) if pid
        rescue Errno::ECHILD
          # Somebody else has waited for it; what it died of is not known.
          bury(worker, nil)
        end
      end

      def bury(worker, status)
        @workers.delete(worker)
        expected = @outgoing.delete(worker) || worker.leaving == :asked
        Base.vacate(worker.slot)
        PidFile.put_back
        return if @server.stopping?

        mourn(worker, status) unless expected && status&.success?
      end

      def mourn(worker, status)
        if status&.success?
          Base.log(3, "Child worker (#{worker.pid}) shutdown. Respawning worker.")
        else
          Base.log(2, "Child worker (#{worker.pid}) crashed. Respawning worker.")
          @server.fire_at_the_end(:on_child_crush)
        end
        now - worker.born < GROWN_UP ? delay_spawning : @young_deaths = 0
      end

      # --- restart ---

      def begin_restart
        @restarts = 0
        @outgoing |= @workers
      end

      # One at a time: a new worker, and when it serves, the end of an old one.
      def step_restart
        return if @outgoing.empty? || @outgoing.any?(&:leaving) || @workers.size <= @size

        ask_to_stop(@outgoing.first) if fresh.all?(&:ready)
      end

      def ask_to_stop(worker)
        worker.leaving = :asked unless worker.leaving == :gone
        Base.ask_worker_to_stop(worker.slot)
      end

      # --- the end ---

      def shut_down
        Base.log(4, "Server Detected exit signal.")
        @server.fire_at_the_end(:start_shutdown)
        deadline = now + @server.shutdown_timeout + GRACE
        end_workers(deadline)
        close_clients(deadline)
        finish_engines
        Engines.leave
        @server.fire_at_the_end(:on_finish)
      end

      def end_workers(deadline)
        @workers.each { |worker| ask_to_stop(worker) }
        until @workers.empty?
          reap
          reopen_logs
          signal_workers(:KILL) if now > deadline || @server.insisted?
          wait(REAP_EVERY) unless @workers.empty?
        end
      end

      # The master is ended by an exception or by `Thread#kill`: nobody else would end its workers and wait for them.
      def abandon_workers
        # In a child that a block has forked they are its parent's.
        return if @workers.empty? || Base.forked?

        @server.stop
        end_workers(now + @server.shutdown_timeout + GRACE)
      rescue StandardError => error
        Base.report(error)
        signal_workers(:KILL)
        until @workers.empty?
          reap
          sleep(REAP_EVERY)
        end
      end

      # The master's own clients go last: workers publish up to their last moment.
      def close_clients(deadline)
        Base.shut_down(@server.insisted? ? 0.0 : [deadline - now, 0.0].max)
        until @drained
          wait(REAP_EVERY)
          Base.shut_down(0.0) if now > deadline || @server.insisted?
        end
        nil while Base.run_waiting_jobs && now < deadline && !@server.insisted?
      end

      # What was published last leaves by way of Redis, too.
      def finish_engines
        # What workers have said last is heard first.
        wait(0)
        limit = now + RedisEngines::LAST_WORDS
        wait(REAP_EVERY) while RedisEngines.busy? && now < limit && !@server.insisted?
        RedisEngines.stop
      end

      def signal_workers(name)
        @workers.each do |worker|
          Process.kill(name, worker.pid)
        rescue Errno::ESRCH
          next
        end
      end

      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end
    end
  end
end
