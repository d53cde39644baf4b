# frozen_string_literal: true

# Tasks and timers: blocks that the server runs when it can, later, or again and again. What is given before
# `start` waits here; afterwards it goes to the reactor at once.

module Iodine
  module Base
    # @api private
    module Tasks
      LONGEST = 2**32

      @waiting = []
      @idle = []

      class << self
        def run(block)
          schedule([:enqueue, block])
        end

        def after(milliseconds, block)
          schedule([:add_timer, block, milliseconds, 1])
        end

        def every(milliseconds, times, block)
          schedule([:add_timer, block, milliseconds, times])
        end

        # @return [Boolean] whether there was a timer with this block, here or in the reactor
        def cancel(block)
          raise TypeError, "wrong argument type #{block.class} (expected Proc)" unless block.is_a?(Proc)

          waited = @waiting.reject! { |name, waiting| name == :add_timer && waiting.equal?(block) }
          Base.cancel_timers(block) || !waited.nil?
        end

        def when_idle(block)
          @idle << block
          Base.want_idle
          block
        end

        # Gives what waits to the reactor of this process. In a cluster each process gets all of it, and workers that
        # replace others do too, so there it is kept.
        def hand_over(keep:)
          waiting = @waiting
          @waiting = [] unless keep
          waiting.each { |task| Base.public_send(*task) }
          Base.want_idle if @idle.any?
        end

        # Called by an app thread: each block runs once. One that kills its thread leaves the others for the next time.
        def run_idle_blocks
          blocks = @idle
          @idle = []
          call_reporting(blocks.shift) until blocks.empty? || Base.forked?
        ensure
          blocks.each { |block| when_idle(block) } unless Base.forked?
        end

        def milliseconds!(value, text)
          raise TypeError, text unless value.is_a?(Integer)
          raise RangeError, "milliseconds must be between 0 and #{LONGEST - 1}." unless (0...LONGEST).cover?(value)

          value
        end

        private

        def call_reporting(block)
          block.call
        rescue Exception => error # rubocop:disable Lint/RescueException -- as in any task
          raise if Base.forked?

          Base.report(error)
        end

        def schedule(task)
          @waiting << task unless Base.public_send(*task)
          task[1]
        end
      end
    end

    # @api private
    def self.run_idle_blocks
      Tasks.run_idle_blocks
    end
  end

  module_function

  # Runs the block on an app thread as soon as one is free. May be called from any thread, also before {start}: then
  # it runs in the root and in each worker.
  #
  # @return [Proc] the block
  # @raise [LocalJumpError] without a block
  def run(&block)
    raise LocalJumpError, "no block given" unless block

    Base::Tasks.run(block)
  end

  # See {run}.
  def defer(&block)
    raise LocalJumpError, "no block given" unless block

    Base::Tasks.run(block)
  end

  # Runs the block once, after a while.
  #
  # @param milliseconds [Integer, nil] nil or 0 is as {run}
  # @return [Proc] the block
  # @raise [TypeError] unless it is an Integer
  # @raise [RangeError] if it is negative, or 2**32 and more
  def run_after(milliseconds, &block)
    raise LocalJumpError, "no block given" unless block
    return Base::Tasks.run(block) if milliseconds.nil? || milliseconds == 0

    Base::Tasks.after(Base::Tasks.milliseconds!(milliseconds, "milliseconds must be a number"), block)
  end

  # Runs the block again and again, at a fixed rate, never overlapping itself. An exception is logged and counts as a
  # run.
  #
  # @param milliseconds [Integer] from one run to the next
  # @param repetitions [Integer, nil] how often; nil or 0 is for ever
  # @return [Proc, nil] the block; nil for 0 milliseconds without repetitions, which would never rest
  # @raise [TypeError] unless both are Integers
  # @raise [RangeError] if one is negative, or 2**32 and more
  def run_every(milliseconds, repetitions = nil, &block)
    raise LocalJumpError, "no block given" unless block

    Base::Tasks.milliseconds!(milliseconds, "milliseconds must be a number.")
    times = Base::Tasks.milliseconds!(repetitions || 0, "repetitions must be a number or `nil`.")
    if milliseconds.zero? && times.zero?
      Base.log(2, "Iodine couldn't initialize timer: it would never rest.")
      return nil
    end
    Base::Tasks.every(milliseconds, times.zero? ? nil : times, block)
  end

  # Cancels all timers of this process with this block, set by {run_after} or {run_every}: from here on it is not called by
  # them any more. May be called from any thread, also from the block itself, and before {start}.
  #
  # @example
  #   timer = Iodine.run_after(5_000) { puts "nobody came" }
  #   Iodine.cancel(timer) # => true
  #   Iodine.cancel(timer) # => false
  #
  # @param block [Proc] the very object that {run_after} or {run_every} returned
  # @return [Boolean] whether there was one that would have run (again). For `run_after(0)`, which is {run}, there is none.
  # @raise [TypeError] unless it is a Proc
  def cancel(block)
    Base::Tasks.cancel(block)
  end

  # Runs the block once, when the process has had something to do and then has nothing: in the root and in each worker
  # that inherits it.
  #
  # @return [Proc] the block
  # @raise [LocalJumpError] without a block
  def on_idle(&block)
    raise LocalJumpError, "no block given" unless block

    Base::Tasks.when_idle(block)
  end
end
