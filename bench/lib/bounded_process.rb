# frozen_string_literal: true

require_relative "waiting"

module Bench
  # Runs a client to its end, or to its time limit.
  module BoundedProcess
    module_function

    # Returns what it said (stdout and stderr) and the CPU-seconds it used.
    def run(*argv, seconds:)
      before = children_cpu
      reader, writer = IO.pipe
      pid = Process.spawn(*argv, out: writer, err: %i[child out], in: File::NULL)
      writer.close
      said = Thread.new { reader.read }
      raise "#{File.basename(argv.first)} ran over #{seconds} s" unless Waiting.for_exit(pid, seconds)

      [said.value, children_cpu - before]
    ensure
      kill(pid) if pid
      reader&.close
    end

    def children_cpu
      times = Process.times
      times.cutime + times.cstime
    end

    def kill(pid)
      return if Waiting.for_exit(pid, 0)

      Process.kill(:KILL, pid)
      Waiting.for_exit(pid, 5)
    end
  end
end
