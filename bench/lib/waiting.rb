# frozen_string_literal: true

module Bench
  # Waiting with a limit.
  module Waiting
    PAUSE = 0.02

    module_function

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # True as soon as the block is, false when the seconds are over.
    def until(seconds)
      limit = now + seconds
      loop do
        return true if yield
        return false if now > limit

        sleep PAUSE
      end
    end

    # True when our child has ended.
    def for_exit(pid, seconds)
      self.until(seconds) { Process.waitpid(pid, Process::WNOHANG) }
    rescue Errno::ECHILD
      true
    end
  end
end
