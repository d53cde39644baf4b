# frozen_string_literal: true

module Bench
  # Instructions in user space for each request, counted by callgrind: good to about 0.5 % whatever else runs on the
  # machine, but blind to the kernel's share. Two runs with different counts: the difference leaves out the start
  # (and the first requests, which cost some 5 % more while Ruby's heap grows).
  class Instructions < Measurement
    FEW = 2_500
    MANY = 7_500
    CONNECTIONS = 8
    # Under callgrind everything takes some fifty times as long.
    SECONDS = 110

    def self.columns(outcome)
      [median_column("instructions each", :rate, 0), ratio_column(outcome)]
    end

    def self.rounds(_settings) = 1

    def sample
      raise "valgrind is not installed" unless Machine.program("valgrind")

      { rate: (total(MANY) - total(FEW)).fdiv(MANY - FEW) }
    end

    private

    def total(requests)
      folder = @settings.scratch.empty_folder("callgrind")
      tool = ["valgrind", "--tool=callgrind", "--quiet", "--trace-children=yes", "--callgrind-out-file=#{folder}/%p"]
      begin
        @server.start(@workload, wrap: tool, patience: 120)
        ask(requests)
      ensure
        @server.stop(60)
      end
      counted(folder)
    end

    def ask(requests)
      run = if @workload.http?
              loadgen.run("http", @server, SECONDS, path: @workload.path, conns: CONNECTIONS, requests: requests)
            else
              loadgen.run("echo", @server, SECONDS, path: @workload.path, conns: CONNECTIONS, messages: requests)
            end
      done = run.reply[:requests] || run.reply[:messages]
      raise "#{done} of #{requests} requests were answered" unless done == requests
    end

    # The sum of all processes.
    def counted(folder)
      totals = Dir["#{folder}/*"].map { |file| File.foreach(file).grep(/^(?:summary|totals):/).last.to_s[/\d+/].to_i }
      raise "callgrind wrote no counts" if totals.sum.zero?

      totals.sum
    end
  end
end
