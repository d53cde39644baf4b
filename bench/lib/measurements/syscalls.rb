# frozen_string_literal: true

module Bench
  # System calls for each request under load, counted by strace. Two loads of different size: the difference leaves
  # out what opening and closing the connections costs. A traced server is some ten times slower at its system calls,
  # so more requests wait for it than usual: servers that work in batches look a little better than they are.
  class Syscalls < Measurement
    LOADS = [2_000, 22_000].freeze
    SECONDS = 60
    READS = %w[read readv pread64 preadv recvfrom recvmsg recvmmsg].freeze
    WRITES = %w[write writev pwrite64 pwritev sendto sendmsg sendmmsg sendfile sendfile64].freeze
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
      check_tools
      @settings.own_client.run(@server, @workload, 1)
      loads = self.class::LOADS
      few, many = loads.map { |requests| counted(requests) }
      each = many.to_h { |name, calls| [name, (calls - few.fetch(name, 0)).fdiv(loads.last - loads.first)] }
      reads = each.values_at(*READS).compact.sum
      writes = each.values_at(*WRITES).compact.sum
      total = each.values.sum
      { reads: reads, writes: writes, others: total - reads - writes, total: total, names: named(each) }
    end

    def check_tools
      raise "strace is not installed" unless Machine.program("strace")
    end

    def named(each)
      notable = each.select { |_, calls| calls >= NOTABLE }.sort_by { |_, calls| -calls }
      notable.map { |name, calls| "#{name} #{Text.number(calls, 2)}" }.join(", ")
    end

    # Calls by name while so many requests are served.
    def counted(requests)
      file = @settings.scratch.file("calls.txt")
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

    def detach(tracer)
      Process.kill(:INT, tracer) unless Waiting.for_exit(tracer, 0)
      BoundedProcess.kill(tracer) unless Waiting.for_exit(tracer, 15)
    end

    # Lines of "% time, seconds, usecs/call, calls, (errors,) name".
    def parse(lines)
      rows = lines.map(&:split).select { |fields| fields.size >= 5 && fields[3].match?(/\A\d+\z/) }
      rows.to_h { |fields| [fields.last, Integer(fields[3])] }.except("total")
    end
  end
end
