# frozen_string_literal: true

# State events: the blocks that run at each step in the life of a server. Knows the blocks and their order,
# not when their time has come.

module Iodine
  module Base
    # @api private
    module State
      EVENTS = %i[pre_start before_fork after_fork enter_child enter_master on_start
                  start_shutdown on_finish on_parent_crush on_child_crush].freeze
      # What was set up last is taken down first.
      LAST_FIRST = %i[start_shutdown on_finish on_parent_crush on_child_crush].freeze

      @blocks = EVENTS.to_h { |event| [event, []] }

      class << self
        def add(event, block)
          raise TypeError, "wrong argument type #{event.class} (expected Symbol)" unless event.is_a?(Symbol)

          blocks = @blocks[event] or raise TypeError, "unknown event in Iodine.on_state"
          raise LocalJumpError, "no block given" unless block

          blocks << block
          block
        end

        # Runs the blocks of an event. An exception is logged, and the other blocks still run; they do behind an `exit`, too,
        # which is raised at the end.
        #
        # @raise [SystemExit, SignalException]
        def fire(event)
          blocks = @blocks.fetch(event).dup
          blocks.reverse! if LAST_FIRST.include?(event)
          ending = nil
          blocks.each do |block|
            ending = call(block) || ending
            raise ending if ending && Base.forked?

            Base.end_forked_child
          end
          raise ending if ending
        end

        # A server of one process uses its start-up blocks up; workers of a cluster are started again and again.
        def consume(event)
          fire(event)
          @blocks.fetch(event).clear
        end

        private

        # Returns what is to end the process.
        def call(block)
          block.call
          nil
        rescue Exception => error # rubocop:disable Lint/RescueException -- whatever it is, the others have their turn
          return error if ends?(error)

          Base.report(error)
          nil
        end

        # The last one is of a Timeout around `start`.
        def ends?(error)
          error.is_a?(SystemExit) || error.is_a?(SignalException) ||
            (defined?(Timeout::ExitException) && error.is_a?(Timeout::ExitException))
        end
      end
    end
  end

  module_function

  # Calls the block whenever the server comes to the state named.
  #
  # - `:pre_start`: in the root process, first thing in {start}.
  # - `:before_fork`: in the root, before each fork. `:after_fork`: in the root and in the worker, after it.
  # - `:enter_child` in the worker, `:enter_master` in the root, after `:after_fork`.
  # - `:on_start`: in each process that serves, right before it does.
  # - `:start_shutdown`, `:on_finish`: in every process, when it begins to end, and when its connections are gone.
  # - `:on_child_crush`: in the root, when a worker has died. `:on_parent_crush`: in a worker, when the root has.
  #
  # Blocks run in the order in which they were given; those of the last four events in reverse. What one raises is logged,
  # and the others still run. Behind an `exit` they do, too; the process then ends with that status: at once at a start, when
  # the server has ended at its end.
  #
  # @param event [Symbol]
  # @return [Proc] the block
  # @raise [TypeError] if it is no Symbol, or none of these
  # @raise [LocalJumpError] without a block
  def on_state(event, &block)
    Base::State.add(event, block)
  end
end
