# frozen_string_literal: true

require "etc"
require_relative "waiting"

module Bench
  # A server's processes, as /proc knows them: what they cost, what they hold, and how they are ended.
  class ProcessTree
    TICKS = Etc.sysconf(Etc::SC_CLK_TCK).to_f
    Stat = Struct.new(:parent, :group, :user, :system)
    Memory = Struct.new(:rss, :pss)

    # Every living process of the machine.
    def self.table
      Dir.children("/proc").grep(/\A\d+\z/).to_h { |pid| [pid.to_i, stat(pid)] }.compact
    end

    # nil when the process is gone, or a zombie.
    def self.stat(pid)
      fields = File.read("/proc/#{pid}/stat").rpartition(")").last.split
      return if fields[0] == "Z"

      Stat.new(fields[1].to_i, fields[2].to_i, fields[11].to_i / TICKS, fields[12].to_i / TICKS)
    rescue SystemCallError
      nil
    end

    attr_reader :root

    def initialize(root)
      @root = root
    end

    # The root's descendants, and what is in the process group that the root was started in: a worker whose
    # parent crashed has another parent now.
    def members
      table = ProcessTree.table
      found = table.filter_map { |pid, stat| pid if pid == root || stat.group == root }
      found.each { |pid| table.each { |child, stat| found << child if stat.parent == pid && !found.include?(child) } }
    end

    # [user, system] CPU-seconds so far.
    def cpu
      stats = members.filter_map { |pid| ProcessTree.stat(pid) }
      [stats.sum(&:user), stats.sum(&:system)]
    end

    # Bytes. What processes share counts once in the PSS, and once for each in the RSS.
    def memory
      texts = members.filter_map { |pid| read(pid, "smaps_rollup") }
      Memory.new(*%w[Rss Pss].map { |name| texts.sum { |text| text[/^#{name}:\s+(\d+)/, 1].to_i } * 1024 })
    end

    # How often the threads went to sleep so far, which is how often they were woken.
    def sleeps
      threads.sum { |status| status[/^voluntary_ctxt_switches:\s+(\d+)/, 1].to_i }
    end

    def traced? = threads.all? { |status| status[/^TracerPid:\s+(\d+)/, 1].to_i.positive? }

    # Open files that have no name any more, memory files and devices aside.
    def unlinked_files
      links = members.flat_map { |pid| Dir["/proc/#{pid}/fd/*"] }.filter_map { |link| readlink(link) }
      links.count { |target| target.end_with?(" (deleted)") && !target.start_with?("/memfd:", "/dev/") }
    end

    # Asks the root to end and waits; what did not go, or was left behind by a crashed parent, is killed, each
    # process by its id.
    def stop(patience)
      unless Waiting.for_exit(root, 0)
        Process.kill(:TERM, root)
        Waiting.for_exit(root, patience)
      end
      Waiting.until(1) { members.empty? }
      members.each { |pid| kill(pid) }
      Waiting.for_exit(root, 5)
    end

    private

    def threads
      files = members.flat_map { |pid| Dir["/proc/#{pid}/task/*/status"] }
      files.filter_map { |file| read_file(file) }
    end

    def read(pid, name) = read_file("/proc/#{pid}/#{name}")

    def read_file(path)
      File.read(path)
    rescue SystemCallError
      nil
    end

    def readlink(path)
      File.readlink(path)
    rescue SystemCallError
      nil
    end

    def kill(pid)
      Process.kill(:KILL, pid)
    rescue Errno::ESRCH
      nil
    end
  end
end
