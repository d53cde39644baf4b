# frozen_string_literal: true

# Pub/sub as applications see it: what names, options and blocks mean. Who hears what is the extension's business.

module Iodine
  module Base
    # What the arguments of `subscribe`, `unsubscribe` and `publish` mean.
    # @api private
    module PubSub
      class << self
        # @param connection [Iodine::Connection, nil] nil for the process
        # @return [String, Symbol, nil] the name as it was given; nil if the connection is closed
        def subscribe(connection, args, block)
          target, options = split(args)
          named = name!(target)
          handler = options[:handler] || block
          raise ArgumentError, "a block or a :handler is required." if handler.nil? && connection.nil?
          raise TypeError, "the :handler must respond to call" unless handler.nil? || handler.respond_to?(:call)

          binary = options[:as]&.to_sym == :binary
          # There is no binary form of an event.
          return if binary && handler.nil? && connection&.protocol == :sse

          subscribed = Base.subscribe(connection, named, options[:match] == :redis, binary, handler)
          Engines.tell
          target if subscribed
        end

        def unsubscribe(connection, name)
          Base.unsubscribe(connection, name!(name)).tap { Engines.tell }
        end

        def publish(args, named)
          args, named = [], args.first if args.one? && args.first.is_a?(Hash)
          channel, message, engine = *args
          channel, message, engine = named.values_at(:to, :message, :engine) if args.empty? && named.any?
          count = args.size
          raise ArgumentError, "method accepts 1-3 arguments." if count > 3 || (count.zero? && named.empty?)

          name = name!(channel, "target / channel is required .")
          raise ArgumentError, "message is required." unless message
          raise TypeError, "wrong argument type #{message.class} (expected String)" unless message.is_a?(String)

          engine = engine.nil? ? Engines.default : (engine == false ? Iodine::PubSub::PROCESS : Engines.engine!(engine))
          Engines.publish(engine, name, message)
          true
        end

        # To those in these processes, or when no server runs here yet, once it does.
        def publish_within(scope, channel, message)
          Unsent.keep(scope, channel, message) unless Base.publish(channel, message, scope)
        end

        private

        def split(args)
          raise ArgumentError, "method accepts 1 or 2 arguments." unless [1, 2].include?(args.size)

          first, options = args
          first, options = nil, first if first.is_a?(Hash)
          raise TypeError, "wrong argument type #{options.class} (expected Hash)" unless options.nil? || options.is_a?(Hash)

          options ||= {}
          if options.key?(:channel)
            Base.log(3, "the :channel keyword of subscribe is deprecated, use :to.")
            options = { to: options[:channel], **options }
          end
          [first || options[:to], options]
        end

        def name!(name, missing = "a target (:to) subject / stream / channel is required.")
          raise ArgumentError, missing unless name
          return name.name if name.is_a?(Symbol)
          raise TypeError, "wrong argument type #{name.class} (expected String)" unless name.is_a?(String)

          name
        end
      end
    end
  end

  module Base
    # What was published where no server runs: it is delivered once one does.
    # @api private
    module Unsent
      # Of more, the oldest are lost: where none ever runs, as in a console, they must not fill the memory.
      MOST = 10_000

      @waiting = []
      @said = false
      @lost = false

      class << self
        def keep(scope, channel, message)
          # A worker that is about to serve will do so in a moment.
          warn_of(channel) unless Server.current
          @waiting << [scope, channel.dup, message.dup]
          return if @waiting.size <= MOST

          @waiting.shift
          Base.log(2, "#{MOST} publications wait for a server to run in this process: the oldest are lost.") unless @lost
          @lost = true
        end

        # The reactor of this process runs.
        def hand_over
          waiting = @waiting
          @waiting = []
          waiting.each { |scope, channel, message| Base.publish(channel, message, scope) }
        end

        # The same in the root of a cluster whose workers are yet to come. They inherit what is for them.
        def hand_over_to_cluster
          @waiting.each do |scope, channel, message|
            Base.publish(channel, message, :process) unless scope == :siblings
          end
        end

        # All workers that were to be there from the start are: for others it would come too late.
        def forget
          @waiting = []
        end

        # In a worker. All others have inherited the same, so it is told here alone.
        def inherit
          @waiting = @waiting.filter_map do |scope, channel, message|
            [:process, channel, message] if %i[cluster siblings].include?(scope)
          end
        end

        private

        def warn_of(channel)
          return if @said

          @said = true
          Base.log(3, "published to #{channel.inspect} while no server runs in this process: it is delivered when one does.")
        end
      end
    end
  end

  module_function

  # Subscribes the process: the block is called with channel and message, for one message at a time. Called before {start},
  # it is subscribed in the root and in each worker.
  #
  # @overload subscribe(channel, match: nil, handler: nil, &block)
  # @overload subscribe(to:, match: nil, handler: nil, &block)
  # @param channel [String, Symbol]
  # @param match [Symbol, nil] `:redis` makes the name a pattern: `?`, `*`, `[a-z]`, `[^a-z]`, `\x`
  # @param handler [#call] instead of a block
  # @return [String, Symbol] the name as given. Subscribing to it again replaces the block.
  # @raise [ArgumentError] without a name or a block
  # @raise [TypeError] if the name is neither String nor Symbol
  def subscribe(*args, &block)
    Base::PubSub.subscribe(nil, args, block)
  end

  # Ends a subscription of the process.
  #
  # @param name [String, Symbol] the channel or the pattern
  # @return [Boolean] whether there was one
  def unsubscribe(name)
    Base::PubSub.unsubscribe(nil, name)
  end

  # Publishes a message to all who subscribe to its channel. It is delivered after this returns. Before {start} it waits for
  # that, and is then delivered in the root and in each worker. Where no server runs at all, as in a console or in a process
  # that works through a queue, nobody hears it: publish by way of Redis there, with any client of it (see docs/pubsub.md).
  #
  # @overload publish(channel, message, engine = nil)
  # @overload publish(to:, message:, engine: nil)
  # @param engine [PubSub::Engine, nil, false] which way it goes: nil is {PubSub.default}, false is {PubSub::PROCESS}
  # @return [true]
  # @raise [ArgumentError] without a channel or a message
  # @raise [TypeError] unless the message is a String, and the engine an engine
  def publish(*args, **named)
    Base::PubSub.publish(args, named)
  end

  class Connection
    # Subscribes the connection: each message is written to its peer, or with a block, the block is called with channel and
    # message, never at the same time as another callback of the connection. Ends with the connection.
    #
    # @overload subscribe(channel, match: nil, as: :text, handler: nil, &block)
    # @overload subscribe(to:, match: nil, as: :text, handler: nil, &block)
    # @param as [Symbol] `:binary` has WebSockets told in binary frames; else text is text
    # @return [String, Symbol, nil] the name as given; nil if the connection is closed
    # @see Iodine.subscribe
    def subscribe(*args, &block)
      Base::PubSub.subscribe(self, args, block)
    end

    # Ends a subscription of the connection.
    #
    # @return [Boolean, nil] whether there was one; nil if the connection is closed
    def unsubscribe(name)
      Base::PubSub.unsubscribe(self, name)
    end

    # See {Iodine.publish}; works on a closed connection, too.
    def publish(*args, **named)
      Base::PubSub.publish(args, named)
    end
  end
end
