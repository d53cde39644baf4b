# frozen_string_literal: true

# The pid file (`-pid`). It belongs to the master alone: written when the server starts, removed when that
# same process finishes (F-57: workers used to delete it). Process-wide events call it; it starts nothing.

module Iodine
  module Base
    # @api private
    class PidFile
      DEFAULT_NAME = "iodine.pid"
      # The spelling is that of the original gem.
      FOLDER = "pid filename shold point to a valid file name (not a folder)!"

      # @return [String] absolute: the application may change its working directory
      attr_reader :path

      # @param path [String] a file; with a trailing slash, the folder of an `iodine.pid`
      # @raise [RuntimeError] when it names a folder
      def initialize(path)
        path = File.join(path, DEFAULT_NAME) if path.end_with?("/")
        @path = File.expand_path(path)
        @written_by = nil
        raise FOLDER if File.directory?(@path)
      end

      # Writes and removes the file along with the server.
      def follow_server
        Iodine.on_state(:pre_start) { write }
        Iodine.on_state(:on_finish) { remove }
        # However this process ends.
        at_exit { remove }
        self
      end

      class << self
        # For a file that somebody else has written for this process and has every process remove that ends, a worker too, as
        # rackup and Rails do: the master puts it back.
        #
        # @param path [String, nil]
        def outlast_workers(path)
          path = File.expand_path(path.to_s) unless path.to_s.empty?
          @kept = (path if path && File.file?(path) && File.binread(path, 64).to_i == Process.pid)
        rescue SystemCallError => error
          Base.log(3, "could not read the pid file: #{error.message}")
        end

        # After a worker has ended.
        def put_back
          File.write(@kept, Process.pid.to_s) if @kept && !File.exist?(@kept)
        rescue SystemCallError => error
          Base.log(2, "could not write the pid file: #{error.message}")
        end
      end

      # Says so, but goes on, when the file is that of a living process, or cannot be written.
      def write
        owner = living_owner
        Base.log(3, "the pid file #{path} was that of process #{owner}, which is still running.") if owner
        File.write(path, "#{Process.pid}\r\n")
        @written_by = Process.pid
      rescue SystemCallError => error
        Base.log(2, "could not write the pid file: #{error.message}")
      end

      # Only in the process that wrote it, and only if the file is still its own.
      def remove
        return unless @written_by == Process.pid

        @written_by = nil
        File.delete(path) if recorded_pid == Process.pid
      rescue SystemCallError => error
        Base.log(2, "could not remove the pid file: #{error.message}")
      end

      private

      def living_owner
        pid = recorded_pid
        return if pid.nil? || pid == Process.pid

        Process.kill(0, pid)
        pid
      rescue Errno::EPERM # it lives, under another user
        pid
      rescue Errno::ESRCH, RangeError
        nil
      end

      def recorded_pid
        return unless File.file?(path) # reading a FIFO would wait for ever

        pid = Integer(File.binread(path, 64).to_s.strip, 10, exception: false)
        pid if pid&.positive? # 0 and below would address process groups
      end
    end
  end
end
