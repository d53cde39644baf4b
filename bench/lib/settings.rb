# frozen_string_literal: true

require "optparse"
require "tmpdir"
require_relative "http_load"
require_relative "load_generator"
require_relative "machine"
require_relative "ports"
require_relative "scratch"
require_relative "waiting"
require_relative "workloads"
require_relative "wrk"

module Bench
  # How a run was asked for, and what all of its parts share.
  class Settings
    CLIENTS = %w[loadgen wrk].freeze

    attr_reader :rounds, :duration, :warmup, :connections, :idle_connections, :ports, :json, :baseline, :client,
                :only, :server_lines, :servers_file

    def initialize(argv)
      @rounds = @duration = 3
      @warmup = 1
      @connections = 64
      @idle_connections = 5000
      @ports = Ports.new(4200..4299)
      @client = CLIENTS.first
      @patterns = ["http"]
      @server_lines = []
      @servers_file = "#{HERE}/servers.txt"
      @scratch_path = File.join(Dir.tmpdir, "iodine-bench")
      rest = parser.parse(argv)
      raise Mistake, "unexpected: #{rest.join(' ')}" if rest.any?
    end

    def scratch = @scratch ||= Scratch.new(@scratch_path)
    def loadgen = @loadgen ||= LoadGenerator.new(scratch)

    # Our own client, for the measurements that need an exact number of requests.
    def own_client = @own_client ||= HttpLoad.new(self)
    def http_client = @http_client ||= client == "wrk" ? Wrk.new(self) : own_client

    # The workloads that were asked for.
    def workloads
      chosen = WORKLOADS.select { |workload| @patterns.any? { |pattern| workload.match?(pattern) } }
      raise Mistake, "no workload matches #{@patterns.join(',')}" if chosen.empty?

      chosen
    end

    # Is it too late to begin another round?
    def over? = !@deadline.nil? && Waiting.now > @deadline

    private

    def parser
      OptionParser.new do |options|
        options.banner = "usage: ruby bench/run.rb [options]   (see bench/README.md)"
        what(options)
        how_long(options)
        where(options)
      end
    end

    def what(options)
      groups = "http (default), checks, static, websocket, all"
      options.on("--workloads LIST", Array, "globs, or groups: #{groups}") { |v| @patterns = v }
      options.on("--servers LIST", Array, "of the servers known, only these") { |v| @only = v }
      options.on("--server SPEC", "one more: NAME=COMMAND or NAME@PATTERN=COMMAND") { |v| @server_lines << v }
      options.on("--servers-file FILE", "instead of bench/servers.txt") { |v| @servers_file = v }
      options.on("--baseline NAME", "ratios are to this server (default: puma)") { |v| @baseline = v }
      options.on("--client NAME", CLIENTS, "HTTP load by loadgen (default) or wrk") { |v| @client = v }
      options.on("--list", "list the workloads") { list }
    end

    def how_long(options)
      options.on("--rounds N", Integer, "rounds (default 3)") { |v| @rounds = v }
      options.on("--duration SECONDS", Integer, "of load in each round (default 3)") { |v| @duration = v.clamp(1, 60) }
      options.on("--warmup SECONDS", Integer, "of load before it (default 1)") { |v| @warmup = v.clamp(0, 60) }
      options.on("--max-seconds N", Integer, "begin no new round after so long") { |v| @deadline = Waiting.now + v }
      options.on("--conns N", Integer, "connections (default 64)") { |v| @connections = v }
      options.on("--idle-conns N", Integer, "idle connections (default 5000)") { |v| @idle_connections = v }
    end

    def where(options)
      options.on("--ports A-B", "ports to use (default 4200-4299)") { |v| @ports = Ports.parse(v) }
      options.on("--work DIR", "scratch folder (default: iodine-bench in TMPDIR)") { |v| @scratch_path = File.expand_path(v) }
      options.on("--json FILE", "append every sample, one JSON object a line") { |v| @json = File.expand_path(v) }
    end

    def list
      WORKLOADS.each do |workload|
        puts format("%-17<name>s %-10<group>s %<about>s", **workload.to_h.slice(:name, :group, :about))
      end
      exit
    end
  end
end
