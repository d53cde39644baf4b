# frozen_string_literal: true

# The limits and timeouts that a user may set: which there are, what may be given, and which of them are the
# process's rather than a listener's. What happens beyond each is told in docs/limits.md.

module Iodine
  module Base
    # @api private
    module Limits
      # What a value may be. The names are for error messages.
      UNITS = {
        seconds: "a number of seconds, at least 0",
        mib: "a number of MiB, at least 0",
        kib: "a number of KiB, at least 0",
        count: "a whole number, at least 0"
      }.freeze
      # Every setting that `listen` and DEFAULT_SETTINGS know, and its unit.
      ALL = {
        timeout: :seconds, head_timeout: :seconds, body_timeout: :seconds, write_timeout: :seconds,
        linger_timeout: :seconds, queue_timeout: :seconds, shutdown_timeout: :seconds, ping: :seconds,
        max_line: :kib, max_headers: :kib, max_header_count: :count, max_body: :mib, body_memory: :kib, max_msg: :kib,
        max_backlog: :mib, max_queue: :count, max_jobs: :count, max_clients: :count, reserved_descriptors: :count
      }.freeze
      BYTES = { kib: 1024, mib: 1024 * 1024 }.freeze
      # Whatever is above is as good as no limit, which is how it is meant: `max_body: Float::INFINITY`.
      LARGEST = 2**48
      # Of the process, not of a listener: the largest that any `listen` asked for counts.
      OF_PROCESS = %i[max_clients max_jobs reserved_descriptors shutdown_timeout].freeze
      # iodine 0.7 had these, and ignored what it could not use. So does this version, but it says so.
      FORGIVING = %i[timeout ping max_body max_headers max_msg max_clients].freeze
      # Below 0 these mean something: no limit, and no body at all.
      SIGNED = %i[max_headers max_body].freeze
      # Seconds for requests under way once the server is to stop.
      SHUTDOWN_TIMEOUT = 30

      @asked = {}

      class << self
        # Refuses what can not be used; what 0.7 ignored is removed from `settings`.
        #
        # @raise [ArgumentError] naming the setting, what it may be, and what it was
        def check(settings, keys = ALL.keys)
          keys.each do |key|
            value = settings[key]
            next if value.nil? || usable?(key, value)

            wanted = UNITS.fetch(ALL.fetch(key))
            raise ArgumentError, "#{key} must be #{wanted}, not #{value.inspect}" unless FORGIVING.include?(key)

            Base.log(3, "#{key}: #{value.inspect} is ignored: it must be #{wanted}.")
            settings[key] = nil
          end
        end

        # Remembers what a `listen` wants for the whole process.
        def ask(settings)
          OF_PROCESS.each { |key| @asked[key] = [@asked[key], positive(settings[key])].compact.max }
        end

        # The listeners are closed, and their wishes with them.
        def forget
          @asked.clear
        end

        # @return [Hash] of {OF_PROCESS}; nil is as usual
        # @raise [ArgumentError] when DEFAULT_SETTINGS holds what can not be used
        def of_process
          defaults = DEFAULT_SETTINGS.slice(*OF_PROCESS)
          check(defaults, OF_PROCESS)
          OF_PROCESS.to_h { |key| [key, (@asked[key] || positive(defaults[key]))&.clamp(0, LARGEST)] }
        end

        # Nil for what asks for the usual value.
        def positive(value)
          value if value.is_a?(Numeric) && value.positive?
        end

        # @param settings [Hash] checked
        # @return [Integer, nil] of a size in KiB or MiB; nil is as usual
        def bytes(settings, key)
          positive(settings[key])&.then { |size| (size * BYTES.fetch(ALL.fetch(key))).clamp(0, LARGEST).to_i }
        end

        # @param settings [Hash] checked
        # @return [Float, nil] nil is as usual
        def seconds(settings, key)
          positive(settings[key])&.to_f
        end

        # @param settings [Hash] checked
        # @return [Integer, nil] nil is as usual
        def count(settings, key)
          positive(settings[key])&.clamp(0, LARGEST)
        end

        private

        def usable?(key, value)
          return false unless value.is_a?(ALL.fetch(key) == :count ? Integer : Numeric) && value.real?

          value >= 0 || (SIGNED.include?(key) && value.negative?)
        end
      end
    end
  end
end
