# frozen_string_literal: true

# Pub/sub engines: where publications go, and who is told which channels are heard. Four are built in and name the processes
# that hear a message; others, such as Redis, carry messages elsewhere.

module Iodine
  # Publish and subscribe beyond one connection: the engines, and which of them is the usual one.
  module PubSub
    # The base of all engines. Subclasses override what they need.
    class Engine
      # Called when a channel has its first subscription in a process; in the root also when it has its first in a worker. On
      # {PubSub.attach} and {PubSub.reset} it is called for all channels there are. One call at a time, on whichever thread
      # brought the change about.
      #
      # @param channel [String] binary
      # @param match [true, nil] true for a pattern
      def subscribe(channel, match = nil); end

      # Called when the last subscription of a channel is gone; otherwise as {#subscribe}.
      def unsubscribe(channel, match = nil); end

      # Called by {Iodine.publish} with this engine, on the publishing thread. Nobody hears the message unless the engine
      # publishes it, as with `Iodine.publish(channel, message, Iodine::PubSub::CLUSTER)`.
      #
      # @param channel [String] binary
      # @param message [String]
      def publish(channel, message); end
    end

    # A built-in engine: a set of processes.
    # @api private
    class Scope < Engine
      def initialize(name)
        super()
        @name = name
      end

      def publish(channel, message)
        Base::PubSub.publish_within(@name, channel, message)
        self
      end

      def inspect
        "#<Iodine::PubSub #{@name}>"
      end
    end

    # All processes of the cluster: the usual engine.
    CLUSTER = Scope.new(:cluster)
    # The publishing process alone.
    PROCESS = Scope.new(:process)
    # All processes but the publishing one.
    SIBLINGS = Scope.new(:siblings)
    # The root process alone.
    PUBLISH2ROOT = Scope.new(:root)

    class << self
      # @return [Engine] used by {Iodine.publish} when none is named; {CLUSTER} unless it was set
      def default
        Base::Engines.default
      end

      # Sets {default}, in this process: before {Iodine.start} for all of them.
      #
      # @param engine [Engine, nil] nil is {CLUSTER}
      # @raise [TypeError] unless it is an Engine
      def default=(engine)
        Base::Engines.default = engine.nil? ? CLUSTER : Base::Engines.engine!(engine)
      end

      # Has the engine told of channels: of all there are now, then of each change.
      #
      # @return [Engine]
      # @raise [TypeError] unless it is an Engine
      def attach(engine)
        Base::Engines.attach(Base::Engines.engine!(engine))
      end

      # Ends {attach}.
      #
      # @return [Engine]
      def detach(engine)
        Base::Engines.detach(Base::Engines.engine!(engine))
      end

      # Tells the engine of all channels there are, again, whether or not it is attached.
      #
      # @return [Engine]
      def reset(engine)
        Base::Engines.reset(Base::Engines.engine!(engine))
      end

      # The older spelling of {detach}.
      # @deprecated
      def dettach(engine)
        warn "Iodine::PubSub.dettach is deprecated, use Iodine::PubSub.detach.", uplevel: 0
        detach(engine)
      end
    end
  end

  module Base
    # The engines of this process, and how they are told of channels. Engines are called with nothing locked that anybody
    # waits for, so they may do whatever they like, also subscribe.
    # @api private
    module Engines
      @default = Iodine::PubSub::CLUSTER
      # Those to be told of changes, and those of them whose turn has come.
      @wanted = []
      @attached = []
      # Engines that are to be told of all there is, by number, and whether they are attached by that.
      @turns = {}
      @last_turn = 0
      # Held by the thread that tells. Nobody waits for it.
      @telling = Thread::Mutex.new

      # Changes that a thread tells before it goes on with what it was doing, and leaves the others to a task.
      AT_ONCE = 256

      class << self
        attr_accessor :default

        def engine!(engine)
          return engine if engine.is_a?(Iodine::PubSub::Engine)

          raise TypeError, "wrong argument type #{engine.class} (expected Iodine::PubSub::Engine)"
        end

        def attach(engine)
          # They carry messages to all who listen anyway.
          return engine if engine.is_a?(Iodine::PubSub::Scope) || @wanted.include?(engine)

          @wanted += [engine]
          Base.watch_channels(true)
          queue(engine, true)
        end

        def detach(engine)
          @wanted -= [engine]
          @attached -= [engine]
          Base.watch_channels(false) if @wanted.empty?
          engine
        end

        def reset(engine)
          queue(engine, false)
        end

        # Tells engines of what there is, and of what has changed: in order, by one thread at a time. Whoever comes meanwhile
        # leaves it to that one, an engine that subscribes included. Where tasks run, nobody is kept from their own work for
        # long by what others go on changing.
        def tell(at_most = AT_ONCE)
          until (count = Base.channel_changes).zero?
            mine = false
            begin
              mine = @telling.try_lock
              return unless mine

              tell_changes([count, at_most].min)
            ensure
              # Whoever came since the last look has left it to this thread: it looks again.
              @telling.unlock if mine
            end
            return if Base.channel_changes.positive? && Base.enqueue(GO_ON)
          end
        end

        def publish(engine, channel, message)
          call(engine, :publish, channel, message)
        end

        # The server of this process ends: nobody hears anything any more.
        def leave
          # The task that was to go on does not run any more.
          tell(Float::INFINITY)
          @left = true
          @attached.each do |engine|
            Base.channels.each { |name, pattern| call(engine, :unsubscribe, name, pattern || nil) }
          end
        end

        # It begins, perhaps again.
        def come_back
          @attached.each { |engine| reset(engine) } if @left
          @left = false
          # A worker may have been forked before all was told.
          tell
        end

        private

        def queue(engine, attached)
          @turns[@last_turn += 1] = [engine, attached]
          Base.queue_channels(@last_turn)
          tell
          engine
        end

        def tell_changes(count)
          count.times do
            # What was to be told may have changed back meanwhile.
            change = Base.take_channel_change or break
            name, pattern, heard, turn = change
            next take_turn(turn, heard) if name.nil?

            engines = turn ? [@turns[turn]&.first].compact : @attached
            engines.each { |engine| call(engine, heard ? :subscribe : :unsubscribe, name.dup, pattern || nil) }
          end
        end

        def take_turn(turn, over)
          engine, attached = over ? @turns.delete(turn) : @turns[turn]
          return if over || !attached

          # It may have been detached while it waited.
          @wanted.include?(engine) ? @attached |= [engine] : @turns.delete(turn)
        end

        def call(engine, method, *args)
          engine.public_send(method, *args)
        rescue StandardError, ScriptError => error
          Base.report(error)
        end
      end

      GO_ON = -> { tell }
      private_constant :GO_ON
    end

    # Called when channels have changed.
    # @api private
    def self.tell_engines
      Engines.tell
    end
  end
end
