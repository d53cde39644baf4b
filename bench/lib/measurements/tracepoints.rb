# frozen_string_literal: true

require "fileutils"
require "io/wait"
require_relative "syscalls"

module Bench
  # The same, counted by the kernel itself (perf stat) while the server runs at full speed.
  class Tracepoints < Syscalls
    LOADS = [5_000, 105_000].freeze
    # By name; each one costs perf a while. The others are counted together.
    EVENTS = [*READS, *WRITES, *%w[epoll_wait epoll_pwait2 epoll_ctl ppoll poll futex sched_yield clock_gettime]].freeze
    PREFIX = "syscalls:sys_enter_"
    ALL = "raw_syscalls:sys_enter"

    private

    def check_tools
      raise "perf is not installed (Debian: linux-perf)" unless Machine.program("perf")

      raise "perf can not count: that takes root, and tracefs (mount -t tracefs none /sys/kernel/tracing)" unless countable?(ALL)
    end

    # It begins to count when it is told to, and says so.
    def traced(file)
      control, answers = %w[control answers].map { |name| fifo(name) }
      perf = Process.spawn("perf", "stat", "-x", ",", "-o", file, "-e", events, "-p", tree.members.join(","), "--delay", "-1",
                           "--control", "fd:#{control.fileno},#{answers.fileno}",
                           control => control, answers => answers, in: File::NULL, %i[out err] => File::NULL)
      control.syswrite("enable\n")
      raise "perf could not attach" unless answers.wait_readable(30)

      yield
    ensure
      detach(perf) if perf
      [control, answers].compact.each(&:close)
    end

    # Those that this kernel has.
    def events
      [ALL, *EVENTS.map { |name| "#{PREFIX}#{name}" }.select { |event| countable?(event) }].join(",")
    end

    def countable?(event)
      system("perf", "stat", "-e", event, "true", %i[out err] => File::NULL)
    end

    def fifo(name)
      path = @settings.scratch.file(name)
      FileUtils.rm_f(path)
      File.mkfifo(path)
      File.open(path, "r+")
    end

    # Lines of "calls,,event,...".
    def parse(lines)
      rows = lines.map { |line| line.split(",") }.select { |fields| fields.size > 2 && fields[0].match?(/\A\d+\z/) }
      calls = rows.to_h { |fields| [fields[2].delete_prefix(PREFIX), Integer(fields[0])] }
      all = calls.delete(ALL) or raise "perf has counted nothing"
      calls.merge("unnamed" => all - calls.values.sum)
    end
  end
end
