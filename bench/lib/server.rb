# frozen_string_literal: true

require "socket"
require_relative "command_line"
require_relative "process_tree"

module Bench
  # A server of servers.txt: its commands, and its processes while it runs.
  class Server
    # Servers are told that this is production. What Bundler put into the environment (by `bundle exec rake bench`)
    # is taken out again, since a rival is seldom in our Gemfile.
    ENVIRONMENT = { "RACK_ENV" => "production", "APP_ENV" => "production", "RAILS_ENV" => "production" }.freeze

    attr_reader :name, :port, :tree, :temporary_folder

    def initialize(name, settings)
      @name = name
      @settings = settings
      @commands = []
    end

    def add_command(pattern, command) = @commands << [pattern, command]

    # A program or a glob of files without which the server cannot run.
    def requires(word) = @requirement = word

    def takes?(workload) = !command_for(workload).nil?

    # A sentence on why the server cannot run here, or nil.
    def absence
      unset = @commands.flat_map { |_, command| command.scan(/\{env:(\w+)\}/) }.flatten.find { |name| !ENV.key?(name) }
      return "#{unset} is not set" if unset

      needed = @requirement || first_words.find { |word| !word.start_with?("{") }
      return if needed.nil? || present?(needed)

      needed.include?("/") ? "there is no #{needed.delete_prefix('{root}/')}" : "#{needed} is not installed"
    end

    # The newest gem of that name, as this Ruby knows it; nil for what is no gem.
    def version
      Gem::Specification.select { |spec| spec.name == name }.map(&:version).max
    end

    # wrap: the words of a tool that runs the command.
    def start(workload, wrap: [], patience: 20)
      @port = @settings.ports.take
      @temporary_folder = @settings.scratch.empty_folder("tmp-#{name}")
      line = CommandLine.new(command_for(workload), placeholders(workload), @settings.scratch, name)
      pid = Process.spawn(environment(line.env), *wrap, *line.argv,
                          unsetenv_others: true, pgroup: true, in: File::NULL, out: [log, "w"], err: %i[child out],
                          chdir: @settings.scratch.path)
      @tree = ProcessTree.new(pid)
      await_listening(patience)
    end

    def stop(patience = 5)
      @tree&.stop(patience)
      @tree = nil
    end

    def address = "127.0.0.1:#{port}"

    private

    def command_for(workload)
      _, command = @commands.reverse_each.find { |pattern, _| File.fnmatch(pattern, workload.name) }
      command unless command == "-"
    end

    def first_words = @commands.map { |_, command| command.split.first } - ["-"]

    def present?(needed)
      return Machine.program(needed) unless needed.include?("/")

      Dir[needed.sub("{root}", ROOT)].any?
    end

    def placeholders(workload)
      {
        "port" => port, "app" => "#{HERE}/apps/#{workload.app}", "w" => workload.workers, "t" => workload.threads,
        "w0" => workload.workers == 1 ? 0 : workload.workers, "root" => ROOT, "here" => HERE,
        "public" => @settings.scratch.public, "tmp" => @settings.scratch.path, "loadgen" => @settings.loadgen.path
      }
    end

    def environment(own)
      inherited = defined?(Bundler) ? Bundler.unbundled_env : ENV.to_h
      inherited.merge(ENVIRONMENT).merge("BENCH_PUBLIC" => @settings.scratch.public, "TMPDIR" => temporary_folder, **own)
    end

    def log = @settings.scratch.file("#{name}.log")

    def await_listening(patience)
      listening = Waiting.until(patience) { listening? || ended? }
      raise "the server did not listen in #{patience} s" unless listening
    end

    def listening?
      TCPSocket.new("127.0.0.1", port).close
      true
    rescue SystemCallError
      false
    end

    def ended?
      return false unless Process.waitpid(@tree.root, Process::WNOHANG)

      raise "the server ended at its start: #{File.read(log).lines.last(3).join.strip}"
    end
  end
end
