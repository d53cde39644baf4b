# frozen_string_literal: true

require "etc"

module Bench
  # What the whole machine does meanwhile: figures taken on a busy one deserve less trust.
  module Machine
    module_function

    # [busy, all] CPU-seconds since the machine started.
    def cpu
      ticks = File.foreach("/proc/stat").first.split.drop(1).first(8).map { |field| Integer(field) }
      idle = ticks[3] + ticks[4]
      [(ticks.sum - idle) / ProcessTree::TICKS, ticks.sum / ProcessTree::TICKS]
    end

    def describe = "#{Etc.nprocessors} cores, ruby #{RUBY_VERSION}"

    # Thousands of connections need as many descriptors, here and in the servers we start.
    def raise_descriptor_limit
      hard = Process.getrlimit(:NOFILE).last
      Process.setrlimit(:NOFILE, hard, hard)
    end

    def program(name)
      folders = ENV.fetch("PATH", "").split(File::PATH_SEPARATOR)
      candidates = name.include?("/") ? [name] : folders.map { |folder| File.join(folder, name) }
      candidates.find { |path| File.file?(path) && File.executable?(path) }
    end
  end
end
