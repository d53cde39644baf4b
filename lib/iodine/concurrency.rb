# frozen_string_literal: true

# How many worker processes and threads a server gets: the raw wishes (0 = not said, negative = a
# fraction of the cores) and the pure function that turns them into numbers. Knows no process and no thread.

require "etc"

module Iodine
  module Base
    # @api private
    module Concurrency
      # One worker per core stops paying off long before large machines run out of cores.
      AUTOMATIC_CORES_LIMIT = 8
      # From this many cores on, one is left to the master and to the rest of the machine.
      CORES_TO_SPARE_ONE = 4

      @threads = 0
      @workers = 0

      class << self
        # The numbers as set by the user: Integers, unchecked here.
        attr_accessor :threads, :workers

        # What the wishes come to on a machine with that many cores.
        #
        # @param threads [Integer] 0 = choose, negative = cores / |threads|
        # @param workers [Integer] likewise
        # @param cores [Integer]
        # @return [Array(Integer, Integer, Boolean)] workers, threads of each, and whether
        #   the number of cores was capped
        def resolve(threads, workers, cores)
          return automatic(cores) if threads.zero? && workers.zero?
          return [at_least_one(workers), at_least_one(threads), false] unless threads.negative? || workers.negative?

          [*fractions(threads, workers, cores), false]
        end

        # The numbers for this machine and the settings of this process; says so when it caps them.
        #
        # @return [Array(Integer, Integer)] workers, threads of each
        def decide
          cores = self.cores
          workers, threads, capped = resolve(self.threads, self.workers, cores)
          Base.log(3, cap_warning(cores)) if capped
          [workers, threads]
        end

        # The cores this process may use: the kernel's affinity mask, further limited by a container's quota.
        #
        # @return [Integer] at least 1
        def cores
          at_least_one([Etc.nprocessors, cgroup_quota].compact.min)
        end

        # The cores that a cgroup's CPU quota amounts to, rounded up.
        #
        # @param root [String] where the cgroup file system is mounted
        # @return [Integer, nil] nil without a quota
        def cgroup_quota(root = "/sys/fs/cgroup")
          quota, period = cgroup_v2(root) || cgroup_v1(root)
          return unless quota.to_i.positive? && period.to_i.positive? # "max" and -1 mean unlimited

          (quota.to_i / period.to_f).ceil
        end

        private

        def automatic(cores)
          capped = cores > AUTOMATIC_CORES_LIMIT
          count = [cores, AUTOMATIC_CORES_LIMIT].min
          [at_least_one(spare_one?(count) ? count - 1 : count), at_least_one(count), capped]
        end

        # A 0 beside a negative number takes the other's magnitude, as it always did: `-w -2` alone
        # means half of the cores with two threads each.
        def fractions(threads, workers, cores)
          thread_count = share(threads, workers, cores)
          worker_count = share(workers, threads, cores)
          crowded = spare_one?(cores) && worker_count * thread_count >= cores
          [
            at_least_one(crowded && workers.negative? ? worker_count - 1 : worker_count),
            at_least_one(crowded && threads.negative? ? thread_count - 1 : thread_count)
          ]
        end

        def share(wish, other, cores)
          return cores / wish.abs if wish.negative?

          wish.zero? ? other.abs : wish
        end

        def spare_one?(cores)
          cores >= CORES_TO_SPARE_ONE
        end

        def at_least_one(count)
          count < 1 ? 1 : count
        end

        def cgroup_v2(root)
          File.read(File.join(root, "cpu.max")).split
        rescue SystemCallError
          nil
        end

        def cgroup_v1(root)
          %w[cpu.cfs_quota_us cpu.cfs_period_us].map { |name| File.read(File.join(root, "cpu", name)) }
        rescue SystemCallError
          nil
        end

        def cap_warning(cores)
          "Detected #{cores} cores. Capping auto-detection of cores to #{AUTOMATIC_CORES_LIMIT}.\n" \
            "  More workers are started when asked for: -w and -t on the command line,\n" \
            "  WORKERS and THREADS in the environment, Iodine.workers= and Iodine.threads= in Ruby."
        end
      end
    end
  end
end
