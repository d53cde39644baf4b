# frozen_string_literal: true

# The settings of the process: the defaults `Iodine.listen` falls back to, the concurrency wishes, the
# log level, and the environment variables that fill them in when iodine is required. Later voices win:
# variables, then command line flags, then whatever the program sets itself.

module Iodine
  # What {Iodine.listen} uses for keywords that are not given. Change it freely.
  #
  # Keys: `:address` (String), `:port` (String or Integer), `:public` (folder), `:log` (true for a line per
  # request), `:timeout` (keep-alive, seconds), `:head_timeout`, `:body_timeout`, `:write_timeout`,
  # `:shutdown_timeout` (seconds), `:ping` (seconds), `:max_body` (MiB), `:max_headers` (KiB), `:max_line` (KiB),
  # `:max_header_count`, `:max_msg` (KiB), `:max_clients`, `:max_queue`, `:queue_timeout` (seconds), `:handler`,
  # `:public_headers` (Hash), `:public_hidden`, `:public_symlinks` (true or false), `:sendfile_roots` (folders),
  # `:trusted_proxies` (addresses, networks or `:all`), `:proxy_protocol`, `:underscore_headers` (true or false),
  # `:log_format`, `:log_to` (see docs/logs.md), `:request_id`, `:request_id_response` (true or false), and the other limits
  # of docs/limits.md.
  DEFAULT_SETTINGS = {}
  # The older name of {DEFAULT_SETTINGS}: the same Hash.
  DEFAULT_HTTP_ARGS = DEFAULT_SETTINGS

  module Base
    # Reads the environment, once, while iodine is being required.
    # @api private
    module Environment
      # Variables holding numbers, and the setting of {Limits} that each of them fills.
      SETTINGS = {
        "IODINE_HEAD_TIMEOUT" => :head_timeout,
        "IODINE_BODY_TIMEOUT" => :body_timeout,
        "IODINE_WRITE_TIMEOUT" => :write_timeout,
        "IODINE_SHUTDOWN_TIMEOUT" => :shutdown_timeout,
        "IODINE_MAX_LINE" => :max_line,
        "IODINE_MAX_HEADER_COUNT" => :max_header_count,
        "IODINE_MAX_CLIENTS" => :max_clients,
        "IODINE_TIMEOUT" => :timeout,
        "IODINE_LINGER_TIMEOUT" => :linger_timeout,
        "IODINE_QUEUE_TIMEOUT" => :queue_timeout,
        "IODINE_PING" => :ping,
        "IODINE_MAX_HEADERS" => :max_headers,
        "IODINE_MAX_BODY" => :max_body,
        "IODINE_BODY_MEMORY" => :body_memory,
        "IODINE_MAX_MSG" => :max_msg,
        "IODINE_MAX_BACKLOG" => :max_backlog,
        "IODINE_MAX_QUEUE" => :max_queue,
        "IODINE_MAX_JOBS" => :max_jobs,
        "IODINE_RESERVED_DESCRIPTORS" => :reserved_descriptors
      }.freeze
      # Variables holding text.
      TEXTS = {
        "IODINE_TRUSTED_PROXIES" => :trusted_proxies,
        "IODINE_LOG_FORMAT" => :log_format,
        "IODINE_LOG_TO" => :log_to,
        "IODINE_REDIS_URL" => :redis_
      }.freeze
      # Variables that switch something on (1, true, on, yes) or off (0, false, off, no).
      SWITCHES = {
        "IODINE_PROXY_PROTOCOL" => :proxy_protocol,
        "IODINE_LOG" => :log,
        "IODINE_REQUEST_ID" => :request_id,
        "IODINE_REQUEST_ID_RESPONSE" => :request_id_response
      }.freeze
      ON = %w[1 true on yes].freeze
      OFF = %w[0 false off no].freeze
      # In order of preference.
      WORKERS = %w[WEB_CONCURRENCY WORKERS].freeze
      THREADS = %w[THREADS].freeze
      DEFAULT_PORT = "3000"
      PORTS = (0..65_535)

      class << self
        # @param env [Hash, ENV]
        def apply(env = ENV)
          DEFAULT_SETTINGS[:port] ||= port(env) || DEFAULT_PORT
          DEFAULT_SETTINGS[:address] ||= nil
          count(env, THREADS) { |threads| Iodine.threads = threads }
          count(env, WORKERS) { |workers| Iodine.workers = workers }
          SETTINGS.each { |name, key| limit(env, name, key) { |number| DEFAULT_SETTINGS[key] = number } }
          TEXTS.each { |name, key| said(env, name)&.then { |text| DEFAULT_SETTINGS[key] = text } }
          SWITCHES.each { |name, key| switch(env, name) { |on| DEFAULT_SETTINGS[key] = on } }
        end

        private

        # It stays a String.
        def port(env)
          return unless (text = said(env, "PORT"))
          return text if PORTS.cover?(whole_number(text))

          warn_about(env, "PORT", "is ignored: a number from #{PORTS.begin} to #{PORTS.end} is needed")
          nil
        end

        # Text that is no number counts as 0, which means "choose for me": deployments rely on that.
        def count(env, names)
          return unless (name = names.find { |candidate| said(env, candidate) })

          yield whole_number(env[name]) || 0.tap { warn_about(env, name, "is not a whole number; it counts as 0") }
        rescue RangeError => error
          warn_about(env, name, "is ignored: #{error.message.chomp(".")}")
        end

        def limit(env, name, key)
          return unless (text = said(env, name))

          fractions = Limits::ALL.fetch(key) == :seconds
          signed = Limits::SIGNED.include?(key)
          number = whole_number(text) || (Float(text, exception: false) if fractions)
          return yield number if number && (signed || number >= 0)

          wanted = "#{"whole " unless fractions}number#{" of at least 0" unless signed}"
          warn_about(env, name, "is ignored: a #{wanted} is needed")
        end

        def switch(env, name)
          return unless (text = said(env, name))

          word = text.strip.downcase
          return yield ON.include?(word) if [*ON, *OFF].include?(word)

          warn_about(env, name, "is ignored: 1 or 0 is needed")
        end

        def said(env, name)
          text = env[name]
          text unless text.nil? || text.strip.empty?
        end

        def whole_number(text)
          Integer(text, 10, exception: false)
        end

        def warn_about(env, name, what)
          Base.log(3, "the environment variable #{name}=#{env[name]} #{what}.")
        end
      end
    end

    # @api private
    module Settings
      THREADS_BELOW = 4096
      WORKERS_BELOW = 512

      class << self
        def integer!(value)
          return value if value.is_a?(Integer)

          named = value.nil? || value == true || value == false ? value.inspect : value.class
          raise TypeError, "wrong argument type #{named} (expected Integer)"
        end

        def count!(value, below, noun)
          # The spelling is that of the original gem; programs may match on it.
          raise RangeError, "requsted #{noun} count is out of range." if integer!(value) >= below

          value
        end
      end
    end
  end

  module_function

  # The number of threads per worker as it was set, not as it will be used.
  #
  # @return [Integer] 0 when never set, negative for a fraction of the cores
  def threads
    Base::Concurrency.threads
  end

  # Sets the number of threads per worker: 0 lets iodine choose, -2 means half of the cores.
  #
  # @param count [Integer]
  # @raise [TypeError] unless it is an Integer
  # @raise [RangeError] from 4096 on
  def threads=(count)
    Base::Concurrency.threads = Base::Settings.count!(count, Base::Settings::THREADS_BELOW, "thread")
  end

  # The number of worker processes as it was set, not as it will be used.
  #
  # @return [Integer] 0 when never set, negative for a fraction of the cores
  def workers
    Base::Concurrency.workers
  end

  # Sets the number of worker processes: 1 serves from this very process, 0 lets iodine choose,
  # -2 means half of the cores.
  #
  # @param count [Integer]
  # @raise [TypeError] unless it is an Integer
  # @raise [RangeError] from 512 on
  def workers=(count)
    Base::Concurrency.workers = Base::Settings.count!(count, Base::Settings::WORKERS_BELOW, "worker process")
  end

  # How much iodine logs: 0 nothing, 1 fatal, 2 errors, 3 warnings, 4 information, 5 debugging.
  #
  # @return [Integer] 4 when never set
  def verbosity
    Base.verbosity
  end

  # Sets how much iodine logs; see {verbosity}.
  #
  # @param level [Integer] any; below 0 is as 0, above 5 as 5
  # @raise [TypeError] unless it is an Integer
  def verbosity=(level)
    Base.verbosity = Base::Settings.integer!(level)
  end

  Base::Environment.apply
end
