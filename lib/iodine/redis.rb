# frozen_string_literal: true

require "monitor"

# Redis as an engine: joins clusters on several machines. The root process has two connections to it, one that subscribes and
# one for publications and commands; workers ask the root. Both are raw connections like any other (`Iodine.connect`), so
# this file is about the order of things, not about sockets.
#
# How messages are neither doubled nor lost without a word while connections come and go stands in docs/pubsub.md.

module Iodine
  module Base
    # The Redis engines of the cluster. All are made in the root, before workers are forked, so that the place of one in this
    # list is its name in every process.
    # @api private
    module RedisEngines
      # Seconds that the end of a server leaves to what was published last.
      LAST_WORDS = 1

      @list = []
      @last_id = 0
      # In a worker, for each engine: the blocks that wait for a reply, by the names of these, in the order of the commands; and
      # the replies that have come.
      @blocks = Hash.new { |blocks, place| blocks[place] = {} }
      @replies = {}
      @answering = {}
      @unasked = []

      class << self
        # @return [Integer] the engine's place
        def add(engine)
          @list << engine
          @list.size - 1
        end

        # In the root, when its reactor runs.
        def start
          @list.each(&:start)
        end

        # In the root, when the server ends.
        def stop
          @list.each(&:stop)
        end

        # Whether something is on its way to Redis.
        def busy?
          @list.any?(&:busy?)
        end

        # The engine that flags or variables ask for, once; the default from then on.
        #
        # @raise [ArgumentError] if its URL can not be used
        def from_settings
          url = DEFAULT_SETTINGS[:redis_]
          return if url.nil? || @from_settings == url || Server.child?

          @from_settings = url
          Iodine::PubSub.default = Iodine::PubSub::Redis.new(url, ping: DEFAULT_SETTINGS[:redis_ping_] || 0)
        end

        # In a worker: asks the root's engine. The block gets the reply.
        def ask(place, bytes, block)
          id = block ? next_id : 0
          @blocks[place][id] = block if block
          # There is nobody to ask before the worker serves.
          Base.ask_root(place, id, bytes) || @unasked << [place, id, bytes]
        end

        # In a worker that begins to serve.
        def ask_at_last
          unasked = @unasked
          @unasked = []
          unasked.each { |question| Base.ask_root(*question) }
        end

        # In the root: what a worker asks.
        def asked(slot, place, id, bytes)
          @list[place]&.asked(slot, id, bytes)
        end

        # In a worker: the root's reply. Several threads may come with one each, in any order: blocks are called in the order of
        # the commands, by one thread at a time.
        def replied(id, bytes)
          place, = @blocks.find { |_, blocks| blocks.key?(id) }
          return unless place

          @replies[id] = bytes
          call_next_block(place) until @answering[place] || !@replies.key?(@blocks[place].first&.first)
        end

        private

        def call_next_block(place)
          @answering[place] = true
          id, block = @blocks[place].shift
          replies = Replies.new
          replies.feed(@replies.delete(id))
          block.call(replies.next_value&.first)
        rescue StandardError, ScriptError => error
          Base.report(error)
        ensure
          @answering[place] = false
        end

        # No reply to a worker that is dead is for the one in its place.
        def next_id
          (Process.pid << 32) + (@last_id += 1)
        end
      end
    end

    def self.engine_asked(slot, place, id, bytes)
      RedisEngines.asked(slot, place, id, bytes)
    end

    def self.engine_replied(id, bytes)
      RedisEngines.replied(id, bytes)
    end
  end

  module PubSub
    # An engine that publishes by way of a Redis server, so that all clusters with the same server hear each other.
    #
    # Make it before {Iodine.start}. It attaches itself; {PubSub.default=} has {Iodine.publish} use it.
    #
    # @example
    #   Iodine::PubSub.default = Iodine::PubSub::Redis.new("redis://localhost:6379")
    class Redis < Engine
      # Publications and commands that may wait for a connection; of more, the oldest are lost, which is logged.
      MOST_WAITING = 10_000
      # Seconds before the connection is tried again: doubled each time, up to the last, and not the same in each cluster.
      FIRST_DELAY = 0.1
      LAST_DELAY = 5.0
      # Seconds of silence until a PING.
      PING = 300
      # Seconds for the connection to be made, and as many again for Redis to greet us.
      GREETING = 5
      # Bytes on their way to Redis, beyond which others wait: it takes them as fast as it can.
      MOST_SENT = 16 * 1024 * 1024
      # They would turn the connection for commands into something else.
      FORBIDDEN = %w[SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE MONITOR QUIT RESET HELLO SYNC
                     PSYNC CLIENT\ REPLY].freeze

      # @param url [String] `redis://[user[:password]@]host[:port]`, `rediss://` for TLS, `unix://[user[:password]@]/path`, or
      #   `host:port`; "" is localhost
      # @param ping [Integer] seconds of silence until a PING; 0 is 300
      # @param tls [Hash] as in {Iodine.connect}
      # @raise [ArgumentError] for a URL that can not be used: one that names a database other than 0, as pub/sub has none
      # @raise [TypeError] unless these are a String and an Integer
      # @raise [RuntimeError] in a worker
      def initialize(url, ping: 0, tls: nil)
        super()
        raise "a Redis engine must be made in the root process, before the server starts." if Iodine::Base::Server.child?

        @address = Address.new(url)
        @ping = seconds!(ping)
        @tls = tls
        @place = Base::RedisEngines.add(self)
        # Guards all below. Blocks of the application are called without it: their replies gather in @answers.
        @lock = Monitor.new
        @answers = []
        @answering = false
        # What waits for the connection for commands, and what was sent and has no reply yet: [bytes, reply_to].
        @waiting = []
        @unanswered = []
        @sent = 0
        @lost = 0
        # :away, :draining, :joining or :joined; see docs/pubsub.md.
        @phase = :away
        @channels = {}
        @confirmed = {}
        Base.log(4, "Initializing Redis engine for address: #{@address}")
        PubSub.attach(self)
        start if Iodine.running?
      end

      # Publishes by way of Redis. While it is away, all in this cluster are told at once, and Redis later if it comes back
      # in time.
      def publish(channel, message)
        command = Base.redis_command(["PUBLISH", channel, message])
        return Base::RedisEngines.ask(@place, command, nil) && self if Base::Server.child?

        publish_command(command, channel, message)
        self
      end

      # Has Redis execute a command, from any process. Replies come in the order of the commands.
      #
      # @param parts [Array<String, Symbol, Numeric, Boolean>] one String with blanks is taken apart at them
      # @yield [reply] `true` for OK; a String, an Integer, nil or an Array of them; an error is a String that begins with a dash
      # @return [self]
      # @raise [ArgumentError] without parts, for other kinds of them, and for commands that would end the connection's use
      def cmd(*parts, &block)
        bytes = Base.redis_command(command_parts(parts))
        if Base::Server.child?
          Base::RedisEngines.ask(@place, bytes, block)
        else
          send_command(bytes, block)
        end
        self
      end

      # @api private
      def subscribe(channel, match = nil)
        return if Base::Server.child?

        locked do
          @channels[[channel, match]] = true
          tell_server("SUBSCRIBE", channel, match) if %i[joining joined].include?(@phase)
        end
      end

      # @api private
      def unsubscribe(channel, match = nil)
        return if Base::Server.child?

        locked do
          @channels.delete([channel, match])
          tell_server("UNSUBSCRIBE", channel, match) if %i[joining joined].include?(@phase)
        end
      end

      # The root's reactor runs: connects.
      # @api private
      def start
        return if @commands

        @stopped = false
        @commands = Line.new(self, :commands)
        @events = Line.new(self, :events)
        [@commands, @events].each(&:connect)
      end

      # The server ends.
      # @api private
      def stop
        @stopped = true
        [@commands, @events].compact.each(&:close)
        @commands = @events = nil
        locked do
          Base.log(3, "(redis #{Process.pid}) #{@waiting.size} commands still wait for Redis: they are lost.") if @waiting.any?
          @waiting.clear
          lose_unanswered
          @phase = :away
          @confirmed.clear
        end
      end

      # @api private
      def busy?
        @lock.synchronize { @commands&.up? && (@waiting.any? || @unanswered.any?) }
      end

      # A worker asks.
      # @api private
      def asked(slot, id, bytes)
        return send_command(bytes, [slot, id]) unless id.zero?

        replies = Base::Replies.new
        # A command has the form of a reply.
        replies.feed(bytes)
        name, channel, message = replies.next_value&.first
        name == "PUBLISH" ? publish_command(bytes, channel, message) : send_command(bytes, nil)
      end

      # A connection is ready, or lost.
      # @api private
      def line_up(line)
        Base.log(4, "(redis #{Process.pid}) #{line.purpose} connection established.")
        locked do
          flush if line.role == :commands
          step
        end
      end

      # @api private
      def line_down(line)
        locked do
          lose_unanswered if line.role == :commands
          fall_back if line.role == :events || @phase == :draining || @phase == :joining
        end
        Base.log(3, "(redis #{Process.pid}) #{line.purpose} connection lost. Reconnecting...") unless @stopped
      end

      # @api private
      def command_replied(raw)
        locked do
          bytes, reply_to, = @unanswered.shift
          @sent -= bytes.to_s.bytesize
          answer(reply_to, raw)
          flush
          step
        end
      end

      # @api private
      def event(reply)
        kind, first, second, third = reply
        case kind
        when "message" then deliver(first, second)
        when "pmessage" then deliver(second, third) if told_by_pattern?(first, second)
        when "subscribe", "psubscribe" then @confirmed[[first, kind == "psubscribe" || nil]] = true
        when "unsubscribe", "punsubscribe" then @confirmed.delete([first, kind == "punsubscribe" || nil])
        when "pong" then locked { joined } if first == JOIN
        end
      end

      # Whether commands are sent that have no reply yet.
      # @api private
      def waits?
        @unanswered.any?
      end

      # @return [Hash] for {Iodine.connect}
      # @api private
      def connection_settings
        { **@address.settings, timeout: GREETING, connect_timeout: GREETING, outlasts: true, tls: @address.secure? ? @tls || true : nil }
      end

      # What is said first. That the connection is there does not mean that Redis is: it has to answer.
      # @api private
      def greeting
        commands = [["PING"]]
        commands.unshift(["AUTH", *@address.credentials]) if @address.credentials
        commands.map { |command| Base.redis_command(command) }.join
      end

      # @return [Integer] seconds
      # @api private
      attr_reader :ping

      JOIN = "iodine-joined"
      private_constant :JOIN

      private

      # Then calls the blocks whose replies have come: in order, by one thread at a time.
      def locked(&block)
        result = @lock.synchronize(&block)
        run_answers
        result
      end

      def run_answers
        while (block, raw = @lock.synchronize { next_answer })
          begin
            replies = Base::Replies.new
            replies.feed(raw)
            block.call(replies.next_value&.first)
          rescue StandardError, ScriptError => error
            Base.report(error)
          ensure
            @lock.synchronize { @answering = false }
          end
        end
      end

      def next_answer
        return if @answering || @answers.empty?

        @answering = true
        @answers.shift
      end

      def seconds!(ping)
        raise TypeError, "wrong argument type #{ping.class} (expected Integer)" unless ping.is_a?(Integer)
        raise ArgumentError, ":ping must not be negative." if ping.negative?

        ping.zero? ? PING : ping
      end

      # --- publications and commands ---

      def publish_command(bytes, channel, message)
        locked do
          # Redis will not tell us of it.
          Base::PubSub.publish_within(:cluster, channel, message) if @phase == :away
          held = %i[draining joining].include?(@phase) ? [channel, message] : nil
          enqueue([bytes, nil, held])
        end
      end

      def send_command(bytes, reply_to)
        locked { enqueue([bytes, reply_to, nil]) }
      end

      def enqueue(entry)
        @waiting << entry
        shed if @waiting.size > MOST_WAITING
        flush
      end

      # The oldest go first: they are the least wanted by the time Redis is back.
      def shed
        _, reply_to, = @waiting.shift
        @lost += 1
        Base.log(2, "(redis #{Process.pid}) #{MOST_WAITING} commands wait for Redis: the oldest are lost.") if @lost == 1
        answer(reply_to, "-ERR lost: Redis was away for too long\r\n")
      end

      # Sends what waits, unless it has to wait for the moment at which Redis begins to tell us of it.
      def flush
        return unless @commands&.up? && !%i[draining joining].include?(@phase)

        if @lost.positive?
          Base.log(2, "(redis #{Process.pid}) #{@lost} commands were lost while Redis was away.")
          @lost = 0
        end
        send_entry(@waiting.shift) until @waiting.empty? || @sent > MOST_SENT
      end

      def send_entry(entry)
        @unanswered << entry
        @sent += entry.first.bytesize
        @commands.write(entry.first)
      end

      # Whether Redis has seen them nobody knows. Sending them again might double them.
      def lose_unanswered
        lost = @unanswered
        @unanswered = []
        @sent = 0
        lost.each { |_, reply_to,| answer(reply_to, "-ERR the connection to Redis was lost before it replied\r\n") }
        Base.log(3, "(redis #{Process.pid}) #{lost.size} commands had no reply yet.") if lost.any?
      end

      def answer(reply_to, raw)
        case reply_to
        when nil then nil
        when Array then Base.reply_to_worker(*reply_to, raw)
        else @answers << [reply_to, raw]
        end
      end

      def command_parts(parts)
        raise ArgumentError, "a command is required." if parts.empty?

        words = parts.map { |part| word(part) }
        words = words.first.b.split if words.one?
        # Redis would not reply to nothing at all, and all behind it would be out of step.
        raise ArgumentError, "a command is required." if words.empty?

        first, second = words.first(2).map { |text| text.b.upcase }
        named = [first, "#{first} #{second}"]
        forbidden = (FORBIDDEN & named).first or return words
        raise ArgumentError, "#{forbidden} would end the use of the connection; Iodine.subscribe subscribes."
      end

      def word(part)
        case part
        when String then part
        when Symbol, Integer, Float, true, false then part.to_s
        else raise ArgumentError, "only String, Number, Symbol, true and false can be used in a command, not #{part.inspect}."
        end
      end

      # --- joining: from telling our own cluster to being told by Redis ---

      # Goes on with joining, as far as the connections are.
      def step
        return unless @events&.up? && @commands&.up?

        @phase = :draining if @phase == :away
        return unless @phase == :draining && @unanswered.empty? && drained?

        @phase = :joining
        @channels.each_key { |channel, match| tell_server("SUBSCRIBE", channel, match) }
        # Its reply comes behind those of the subscriptions.
        @events.write(Base.redis_command(["PING", JOIN]))
      end

      # What waited for Redis while it was away goes out before it tells us anything: all here know it already. What is held
      # since stays.
      def drained?
        early, held = @waiting.partition { |_, _, held| held.nil? }
        return true if early.empty?

        @waiting = held
        early.each { |entry| send_entry(entry) }
        false
      end

      def joined
        return unless @phase == :joining

        @phase = :joined
        flush
      end

      # Redis tells us of nothing any more: what was held for it is told here.
      def fall_back
        @phase = :away
        @confirmed.clear
        @waiting.each do |entry|
          held = entry[2] or next
          Base.publish(*held, :cluster)
          entry[2] = nil
        end
      end

      # --- what Redis tells ---

      def tell_server(command, channel, match)
        @events&.write(Base.redis_command([match ? "P#{command}" : command, channel]))
      end

      # All who hear the channel by any name are told of a message once, however many of these names Redis knows.
      def told_by_pattern?(pattern, channel)
        return false if @confirmed[[channel, nil]]

        @confirmed.each_key.find { |name, match| match && Base.glob_match?(name, channel) }&.first == pattern
      end

      def deliver(channel, message)
        Base.publish(channel, message, :cluster)
      end
    end
  end
end

require "iodine/redis/address"
require "iodine/redis/line"
