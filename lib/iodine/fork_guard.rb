# frozen_string_literal: true

# A fork made by the application, in a request or elsewhere, gets a child in which there is no server: its sockets are
# closed there, its signals are as before `start`, and nothing of it runs when the child ends.

module Iodine
  module Base
    # Every `fork` of Ruby passes through `Process._fork`.
    # @api private
    module ForkGuard
      def _fork
        worker = Thread.current.thread_variable_get(:iodine_forks_worker)
        pid = super
        Base.disown_server if pid.zero? && !worker
        pid
      end

      # Within the block, a fork is one of the server's own.
      def self.worker
        Thread.current.thread_variable_set(:iodine_forks_worker, true)
        yield
      ensure
        worker_done
      end

      # The worker itself leaves the block by this.
      def self.worker_done
        Thread.current.thread_variable_set(:iodine_forks_worker, nil)
      end
    end

    def self.disown_server
      return unless Server.current

      forked!
      Server.current.disown
    end

    # Called when a block of the application returns on the main thread: a child that was forked in it, and comes back
    # from it, has no business in the code of the server.
    def self.end_forked_child
      exit if forked?
    end
  end
end

Process.singleton_class.prepend(Iodine::Base::ForkGuard)
