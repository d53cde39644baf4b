# frozen_string_literal: true

require "fileutils"

module Bench
  # The folder outside the repository where everything goes that a run writes.
  class Scratch
    attr_reader :path

    def initialize(path)
      @path = path
      FileUtils.mkdir_p(public)
      File.binwrite("#{public}/1k.txt", "x" * 1024)
      File.binwrite("#{public}/1m.bin", "x" * (1 << 20))
    end

    # Two runs at once would spoil each other's figures, and their files.
    def claim
      @lock = File.open(file("lock"), "w")
      return if @lock.flock(File::LOCK_EX | File::LOCK_NB)

      raise Mistake, "another run is at work in #{path} (--work names another folder)"
    end

    # Static files for the servers.
    def public = "#{path}/public"

    def file(name) = "#{path}/#{name}"

    # An empty folder of that name.
    def empty_folder(name)
      FileUtils.rm_rf(file(name))
      FileUtils.mkdir_p(file(name)).first
    end
  end
end
