# frozen_string_literal: true

require "fileutils"
require "json"
require "timeout"
require_relative "bounded_process"

module Bench
  # The client in Rust: builds it once into the scratch folder and runs its commands.
  class LoadGenerator
    SOURCE = "#{HERE}/loadgen"
    # A client may take so much longer than it was told to, before it is ended.
    GRACE = 30

    # reply: the JSON object that the command printed; cpu: the CPU-seconds it used.
    Run = Struct.new(:reply, :cpu)

    attr_reader :path

    def initialize(scratch)
      @target = scratch.file("target")
      @path = "#{@target}/release/loadgen"
    end

    def build
      return if built?

      manifest = "#{SOURCE}/Cargo.toml"
      raise Mistake, "cargo, which builds the load generator, is not installed" unless Machine.program("cargo")

      system("cargo", "build", "--release", "--quiet", "--manifest-path", manifest, "--target-dir", @target) ||
        raise(Mistake, "the load generator did not build")
      FileUtils.touch(path)
    end

    # options: those of loadgen's command line.
    def run(command, server, seconds, **options)
      said, cpu = BoundedProcess.run(*argv(command, server, duration: seconds, **options), seconds: seconds + GRACE)
      line = said.lines.find { |text| text.start_with?("{") }
      raise "client: #{said.strip}" unless line

      Run.new(JSON.parse(line, symbolize_names: true), cpu)
    end

    # Holds idle connections while the block runs; returns how many the server has closed meanwhile.
    def hold(server, kind, path, count)
      IO.popen(argv("idle", server, kind: kind, path: path, conns: count), "r+", err: %i[child out]) do |client|
        ready = Timeout.timeout(90) { client.gets }.to_s
        raise "client: #{ready.strip}" unless ready.include?("ready")

        yield
        client.close_write
        JSON.parse(client.gets.to_s)["closed"]
      ensure
        BoundedProcess.kill(client.pid)
      end
    end

    private

    def built?
      sources = Dir["#{SOURCE}/{Cargo.toml,Cargo.lock,src/*}"]
      File.exist?(path) && File.mtime(path) >= sources.map { |file| File.mtime(file) }.max
    end

    def argv(command, server, **options)
      words = options.flat_map { |name, value| ["--#{name.to_s.tr('_', '-')}", value.to_s] }
      [path, command, "--addr", server.address, *words]
    end
  end
end
