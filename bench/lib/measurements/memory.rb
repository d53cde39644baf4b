# frozen_string_literal: true

module Bench
  # What the server holds after many requests that it did not hold after some: resident memory, temporary files
  # (those with a name in its TMPDIR, and open ones that have none any more).
  class Memory < Measurement
    SECONDS = 150
    SETTLE = 1

    def self.columns(_outcome)
      [
        median_column("RSS before, KiB", :before), median_column("RSS after, KiB", :after),
        median_column("growth, %", :growth, 1), median_column("temp files left", :files),
        median_column("per s", :rate)
      ]
    end

    def self.rounds(_settings) = 1

    private

    def measure
      ask(@workload.request.fetch(:warm))
      before = resident
      answer = ask(@workload.request.fetch(:requests))
      after = resident
      { before: before, after: after, growth: (after - before) * 100.0 / before, files: files, rate: answer[:rate] }
    end

    def ask(requests)
      answer = @settings.own_client.run(@server, @workload, SECONDS, requests: requests)
      raise "#{answer[:count]} of #{requests} requests were answered in #{SECONDS} s" unless answer[:count] == requests
      raise "#{answer[:errors]} errors" if answer[:errors].positive?

      answer
    end

    def resident
      sleep SETTLE
      tree.memory.rss / 1024
    end

    def files
      named = Dir.glob("#{@server.temporary_folder}/**/*", File::FNM_DOTMATCH).count { |path| File.file?(path) }
      named + tree.unlinked_files
    end
  end
end
