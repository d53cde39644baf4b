# frozen_string_literal: true

require_relative "server"

module Bench
  # Which servers take part: those of servers.txt that can run here, and those given on the command line.
  class ServerList
    OURS = "iodine"
    BASELINE = "puma"
    CEILING = "raw"

    attr_reader :servers

    def initialize(settings)
      @settings = settings
      @servers = {}
      File.foreach(settings.servers_file, chomp: true) { |line| add(line) unless line.match?(/\A\s*(#|\z)/) }
      settings.server_lines.each { |line| add(line) }
      settings.only ? choose(settings.only) : leave_out_absent
      raise Mistake, "no server is left to measure" if servers.empty?
    end

    def for(workload) = servers.values.select { |server| server.takes?(workload) }

    # The name of the server that ratios are to: in workloads that Puma is not up to, the ceiling.
    def baseline(workload)
      candidates = [@settings.baseline || BASELINE, CEILING].select { |name| servers[name]&.takes?(workload) }
      candidates.first || servers.keys.first
    end

    # A wrong name is told before anything is built.
    def check_baseline
      wanted = @settings.baseline
      raise Mistake, "no server named #{wanted.inspect} takes part" unless wanted.nil? || servers.key?(wanted)
    end

    def stop = servers.each_value(&:stop)

    private

    # line: NAME=COMMAND, NAME@PATTERN=COMMAND or NAME?=WORD
    def add(line)
      name, text = line.split("=", 2).map(&:strip)
      raise Mistake, "not a server: #{line.inspect}" if text.to_s.empty?
      return named(name.delete_suffix("?")).requires(text) if name.end_with?("?")

      name, pattern = name.split("@", 2)
      named(name).add_command(pattern || "*", text)
    end

    def named(name) = servers[name] ||= Server.new(name, @settings)

    def choose(names)
      unknown = names - servers.keys
      raise Mistake, "unknown server: #{unknown.join(', ')} (known: #{servers.keys.join(', ')})" if unknown.any?

      servers.select! { |name, _| names.include?(name) }
      servers.each { |name, server| raise Mistake, "#{name} cannot run: #{server.absence}" if server.absence }
    end

    def leave_out_absent
      servers.select! do |name, server|
        warn "left out: #{name} (#{server.absence})" if server.absence
        server.absence.nil?
      end
    end
  end
end
