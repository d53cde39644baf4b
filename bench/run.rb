#!/usr/bin/env ruby
# frozen_string_literal: true

# Measures our server beside whatever rivals are installed, and prints Markdown.
#
#   ruby bench/run.rb                                         hello, headers, POST, Sinatra ...: 3 rounds of 3 s
#   ruby bench/run.rb --workloads checks --servers iodine     spread, system calls, memory, idle, instructions
#   ruby bench/run.rb --help
#
# Each round starts each server anew, checks one answer, warms the server up and loads it. README.md, beside this
# file, tells how to read the figures.

require_relative "lib/paths"
require_relative "lib/settings"
require_relative "lib/server_list"
require_relative "lib/comparison"

module Bench
  def self.run(argv)
    raise Mistake, "the benchmarks read /proc, which only Linux has" unless File.exist?("/proc/self/stat")

    settings = Settings.new(argv)
    workloads = settings.workloads
    servers = ServerList.new(settings)
    servers.check_baseline
    settings.scratch.claim
    Machine.raise_descriptor_limit
    settings.loadgen.build
    compare(settings, servers, workloads)
  end

  # However it ends, every server is stopped on the way out.
  def self.compare(settings, servers, workloads)
    %w[INT TERM].each { |signal| trap(signal) { exit 1 } }
    Comparison.new(settings, servers, workloads).run
  ensure
    servers.stop
  end
end

begin
  Bench.run(ARGV)
rescue Bench::Mistake, OptionParser::ParseError => e
  warn "bench: #{e.message}"
  exit 2
end
