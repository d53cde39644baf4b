# frozen_string_literal: true

module Bench
  # System calls for each request under load, counted by strace. Two loads of different size: the difference leaves
  # out what opening and closing the connections costs. A traced server is some ten times slower at its system calls,
  # so more requests wait for it than usual: servers that work in batches look a little better than they are.
  class Syscalls < Measurement
    FEW = 2_000
    MANY = 22_000
    SECONDS = 60
    READS = %w[read readv pread64 preadv recvfrom recvmsg recvmmsg].freeze
    WRITES = %w[write writev pwrite64 pwritev sendto sendmsg sendmmsg sendfile].freeze
    # What is called less often than this goes unnamed.
    NOTABLE = 0.01

    def self.columns(_outcome)
      [
        *%i[reads writes others total].map { |key| median_column(key.to_s, key, 2) },
        Column.new("by name", ->(_, result) { result.last(:names) })
      ]
    end

    def self.rounds(_settings) = 1

    private

    def measure
      raise "strace is not installed" unless Machine.program("strace")

      @settings.own_client.run(@server, @workload, 1)
      few, many = [FEW, MANY].map { |requests| counted(requests) }
      each = many.to_h { |name, calls| [name, (calls - few.fetch(name, 0)).fdiv(MANY - FEW)] }
      reads = each.values_at(*READS).compact.sum
      writes = each.values_at(*WRITES).compact.sum
      total = each.values.sum
      { reads: reads, writes: writes, others: total - reads - writes, total: total, names: named(each) }
    end

    def named(each)
      notable = each.select { |_, calls| calls >= NOTABLE }.sort_by { |_, calls| -calls }
      notable.map { |name, calls| "#{name} #{Text.number(calls, 2)}" }.join(", ")
    end

    # Calls by name while so many requests are served.
    def counted(requests)
      file = @settings.scratch.file("strace.txt")
      traced(file) do
        done = @settings.own_client.run(@server, @workload, SECONDS, requests: requests)[:count]
        raise "#{done} of #{requests} requests were answered in #{SECONDS} s" unless done == requests
      end
      parse(File.readlines(file))
    end

    def traced(file)
      pids = tree.members.flat_map { |pid| ["-p", pid.to_s] }
      strace = Process.spawn("strace", "-c", "-f", "-q", "-o", file, *pids, in: File::NULL, %i[out err] => File::NULL)
      raise "strace could not attach" unless Waiting.until(5) { tree.traced? }

      yield
    ensure
      detach(strace) if strace
    end

    def detach(strace)
      Process.kill(:INT, strace) unless Waiting.for_exit(strace, 0)
      BoundedProcess.kill(strace) unless Waiting.for_exit(strace, 5)
    end

    # Lines of "% time, seconds, usecs/call, calls, (errors,) name".
    def parse(lines)
      rows = lines.map(&:split).select { |fields| fields.size >= 5 && fields[3].match?(/\A\d+\z/) }
      rows.to_h { |fields| [fields.last, Integer(fields[3])] }.except("total")
    end
  end
end
