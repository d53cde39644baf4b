# frozen_string_literal: true

# Starting and stopping. `Server` is what `Iodine.start` runs: alone it serves from this process, with several workers
# it becomes the master of a `Cluster`. Sockets and requests are the extension's; this is about processes, threads,
# signals and their order.

require "etc"

module Iodine
  module Base
    # The server of this process, from `start` until it returns.
    # @api private
    class Server
      # Seconds for an app thread to die once it has been killed.
      LAST_BREATH = 1
      # Seconds for the callbacks of connections that were closed because time was up.
      LAST_WORDS = 0.5

      class << self
        # The server that runs in this process, if any.
        attr_accessor :current

        # Whether this process serves clients, or did so last.
        attr_accessor :worker
        alias worker? worker

        # Whether this process is a forked worker.
        attr_accessor :child
        alias child? child

        def running?
          !current.nil? && !current.stopping?
        end

        def start
          raise "Iodine already running!" if current
          raise "a process that was forked from a running server can not start one" if Base.forked?

          self.worker = false
          self.current = new
          begin
            current.run
          ensure
            self.current = nil
          end
        end

        def stop
          current&.stop
        end
      end

      def initialize
        @signals = Signals.new { |error| end_with(error) }
        @stopping = false
        @exit_signals = 0
        @threads = []
        @failed = false
        @rotated = false
        # What is raised at the very end.
        @last = nil
        @serving = false
      end

      def stopping?
        @stopping
      end

      # Asks for the end. Safe in a trap and on any thread.
      def stop
        @stopping = true
        Base.wake
      end

      def run
        Limits.of_process
        RedisEngines.from_settings
        @workers, @thread_count = Concurrency.decide
        Base.raise_descriptor_limit
        Banner.starting(@workers, @thread_count)
        @signals.trap { |name| handle_signal(name) }
        hear_of_logs
        State.fire(:pre_start)
        Banner.running(@workers, @thread_count)
        @workers == 1 ? run_alone : Cluster.new(self, @workers).run
        Base.log(4, "   ---  Shutdown Complete  ---") unless Server.child?
        raise @last if @last
      ensure
        @signals.restore
        Listening.close unless Server.child?
      end

      # Serves from the forked process that this is now, until told to end. `slot` is its place in the cluster.
      def run_worker(slot)
        @stopping = false
        @exit_signals = 0
        @cluster = @last = nil
        @serving = false
        Server.child = Server.worker = true
        Unsent.inherit
        State.fire(:after_fork)
        State.fire(:enter_child)
        serve(slot) { State.fire(:on_start) }
        Base.log(4, "(#{Process.pid}) cleanup complete.")
        raise @last if @last
      end

      # An `exit` of the application at a time when the server has to end in its own way first: that comes now, the exit then.
      # Before it serves there is nothing to end, and a block of the start may never return. Safe in a trap.
      def end_with(error)
        raise error unless @serving

        @last ||= error
        stop
      end

      # From here on there is something to end.
      def begin_serving
        @serving = true
      end

      # Runs the blocks of an event of the end.
      def fire_at_the_end(event)
        State.fire(event)
      rescue SystemExit, SignalException => error
        # The end of a child that a block has forked.
        raise if Base.forked?

        end_with(error)
      end

      # The master has become one.
      def lead(cluster)
        @cluster = cluster
      end

      # In a child forked by the application.
      def disown
        @signals.restore
        @stopping = true
        Server.current = nil
        Server.worker = false
      end

      # Where lines go to files, HUP is to open them anew; else it is left alone, and ends the process as it ends any.
      def hear_of_logs
        @signals.trap(%w[HUP]) { handle_rotation } if Base.log_files?
      end

      # Opens log files anew, if a signal has asked for it. Returns whether it has.
      def reopen_logs
        return false unless @rotated

        @rotated = false
        Base.reopen_logs
        Base.log(4, "(#{Process.pid}) has opened its log files anew.")
        true
      end

      # Whether a second signal asked for the end, so that it is to come at once. Only signals count: with one Ctrl-C a
      # worker hears of the end twice, from the terminal and from its master.
      def insisted?
        @exit_signals > 1
      end

      # Seconds that are left to requests under way.
      def shutdown_timeout
        Limits.of_process[:shutdown_timeout] || Limits::SHUTDOWN_TIMEOUT
      end

      private

      def handle_signal(name)
        return handle_restart if name == "USR1"

        @exit_signals += 1
        stop
        # A block of the start may never return.
        raise SignalException, name if insisted? && !@serving
      end

      def handle_restart
        @cluster ? @cluster.restart : (stop if Server.child?)
      end

      # In the trap itself nothing is opened: the master may be about to fork.
      def handle_rotation
        @rotated = true
        Base.wake
      end

      def run_alone
        serve(nil) { State.consume(:on_start) }
      end

      def serve(slot)
        yield
        begin_serving
        Base.start_worker(slot, Limits.of_process)
        @bell = IO.for_fd(Base.notice_descriptor, autoclose: false)
        Server.worker = true
        Engines.come_back
        # Only a master needs them again: for workers that replace others.
        Unsent.hand_over
        RedisEngines.ask_at_last if slot
        Tasks.hand_over(keep: false)
        Connecting.hand_over
        @thread_count.times { @threads << app_thread }
        Base.expect_threads(@thread_count)
        Base.say_ready
        Base.log(4, "#{Process.pid} is running.") if slot
        watch until stopping?
        shut_down
      ensure
        # There are threads left if it was an exception that ended this.
        Base.end_jobs
        end_threads(now)
        Base.stop_worker
      end

      # A thread that runs jobs. When it dies, the main thread is woken to replace it.
      def app_thread
        thread = Thread.new do
          Base.work
        ensure
          Base.wake unless Base.forked?
        end
        thread.report_on_exception = false
        thread.name = "iodine-app"
        thread
      end

      # Waits for something to happen to this process.
      def watch
        case wait_notice
        when :stop_asked then @stopping = true
        when :master_gone then lose_master
        when :failed then @failed = @stopping = true
        end
        replace_dead_threads
      end

      # In Ruby's own way, so that signals are heard. Nil when there is nothing but a reason to look around: whoever calls
      # looks before each wait, and the bell is only silenced behind one, or a signal in between would go unheard.
      def wait_notice
        reopen_logs
        IO.select([@bell])
        Base.take_notice&.first
      end

      def lose_master
        Base.log(1, "(#{Process.pid}) Parent Process crash detected!")
        fire_at_the_end(:on_parent_crush)
        @stopping = true
      end

      # An application may kill a thread of ours, by mistake or by `Timeout`: the server goes on.
      def replace_dead_threads
        @threads.map! { |thread| thread.alive? ? thread : app_thread }
      end

      def shut_down
        Base.log(4, "(#{Process.pid}) detected exit signal.") unless @failed
        fire_at_the_end(:start_shutdown)
        limit = now + (@failed ? LAST_BREATH : shutdown_timeout)
        drain unless @failed
        finish_engines unless @failed
        Base.end_jobs
        end_threads([limit, now + LAST_WORDS].max)
        Engines.leave
        fire_at_the_end(:on_finish)
        give_up if @failed
      end

      # The reactor has failed, and said why: nobody can be served any more. Whoever looks after this process learns of it
      # by the exit status; a master starts another worker.
      def give_up
        Base.log(1, "(#{Process.pid}) can not go on serving.")
        exit(1)
      end

      # Until all connections are closed, by themselves, when time is up, or when somebody insists; and the callbacks have run.
      def drain
        Base.shut_down(insisted? ? 0.0 : shutdown_timeout.to_f)
        loop do
          notice = wait_notice
          return if %i[drained drain_timed_out].include?(notice)
          return @failed = true if notice == :failed

          Base.shut_down(0.0) if insisted?
          replace_dead_threads
        end
      end

      # What was published last leaves by way of Redis, too.
      def finish_engines
        limit = now + RedisEngines::LAST_WORDS
        sleep 0.005 while RedisEngines.busy? && now < limit && !insisted?
        RedisEngines.stop
      end

      def end_threads(limit)
        @threads.each { |thread| thread.join([limit - now, 0.05].max) unless insisted? }
        alive = @threads.select(&:alive?)
        alive.each(&:kill)
        alive.each { |thread| thread.join(LAST_BREATH) }
        Base.drop_jobs
        @threads.clear
      end

      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end
    end

    # What the log says at the start.
    # @api private
    module Banner
      class << self
        def starting(workers, threads)
          Base.log(4, <<~TEXT)
            Starting up Iodine:
             * Iodine #{VERSION}
             * Ruby #{RUBY_VERSION}
             * #{workers} Workers X #{threads} Threads per worker.
             * Maximum #{descriptors} open files / sockets per worker.
             * Master (root) process: #{Process.pid}.
          TEXT
        end

        def running(workers, threads)
          Base.log(4, <<~TEXT)
            Server is running #{count(workers, "worker")} X #{count(threads, "thread")}
            * #{TLS_LIBRARY ? "Linked to #{TLS_LIBRARY}" : "Built without TLS"}
            * Detected capacity: #{descriptors} open file limit
            * Root pid: #{Process.pid}
            * Press ^C to stop
          TEXT
        end

        private

        def descriptors
          Process.getrlimit(:NOFILE).first
        end

        def count(number, noun)
          "#{number} #{noun}#{"s" unless number == 1}"
        end
      end
    end
  end

  module_function

  # Runs the server until it is stopped: by {stop}, by a signal, or in a worker by the root process.
  #
  # @return [Iodine] when everything is closed
  # @raise [RuntimeError] if it runs already, or in a child that was forked by the application while it ran
  def start
    Base::Server.start
    self
  end

  # Stops the server: in the root process all of it, in a worker that worker, which is then replaced. Requests under way
  # are finished. Does nothing when no server runs.
  #
  # @return [Iodine]
  def stop
    Base::Server.stop
    self
  end

  # @return [Boolean] from the beginning of {start} until the server is told to stop
  def running?
    Base::Server.running?
  end

  # @return [Boolean] whether this is the process that called {start}, or will
  def master?
    !Base::Server.child?
  end

  # @return [Boolean] whether this process serves clients
  def worker?
    Base::Server.worker? ? true : false
  end
end
