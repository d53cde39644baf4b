# frozen_string_literal: true

# The command line of `iodine`: reads ARGV (and leaves it alone), writes the settings, and ends the process
# where there is nothing to serve. Loading the application is the launcher's business.

require "iodine/cli/options"
require "iodine/cli/parser"
require "iodine/cli/help"

module Iodine
  module Base
    # Command line flags; see `iodine -h`.
    module CLI
      # Exit status for a command line that makes no sense.
      BAD_USAGE = 2
      VERBOSITY = (0..99)
      UNIX_SOCKET = %r{/|\.sock\z}

      class << self
        # Applies the command line to the settings. Prints and exits for `-h` and `-version` (status 0), and
        # for a command line it cannot use (status 2, with the reason on stderr).
        #
        # @param words [Array<String>] not consumed
        # @return [Hash] {Iodine::DEFAULT_SETTINGS}
        def parse(words = ARGV)
          typed = Parser.parse(words)
          return leave(Help.new($stdout).text) if typed.help
          return leave("iodine #{Iodine::VERSION}\n") if typed.version

          apply(typed)
          DEFAULT_SETTINGS
        rescue BadOption => error
          refuse(error.message)
        end

        private

        # First the verbosity: it decides which warnings about the others are seen.
        def apply(typed)
          values = typed.values
          refuse_missing(values)
          apply_verbosity(values["verbosity"])
          apply_concurrency(values)
          OPTIONS.each do |option|
            DEFAULT_SETTINGS[option.setting] = values[option.name] if option.setting && values.key?(option.name)
          end
          apply_address(values)
          apply_launch(values, typed.files)
          apply_redis
        end

        def refuse_missing(values)
          option = OPTIONS.find { |candidate| candidate.missing && values.key?(candidate.name) }
          return unless option

          raise BadOption, "#{option.missing} is not available in this version yet (-#{option.name} was given)"
        end

        def apply_verbosity(level)
          return if level.nil?
          return Iodine.verbosity = level if VERBOSITY.cover?(level)

          Base.log(3, "-verbosity #{level} is ignored: it must be between #{VERBOSITY.begin} and #{VERBOSITY.end}.")
        end

        def apply_concurrency(values)
          set_count(values, "threads") { |count| Iodine.threads = count }
          set_count(values, "workers") { |count| Iodine.workers = count }
        end

        def set_count(values, name)
          yield values[name] if values.key?(name)
        rescue RangeError => error
          raise BadOption, "-#{name} #{values[name]}: #{error.message}"
        end

        # The port stays a String, as it always was.
        def apply_address(values)
          port = values["port"]
          address = values["bind"]
          DEFAULT_SETTINGS[:port] = port.to_s if port
          return unless address

          raise BadOption, "-bind takes an address or the path of a Unix socket, not #{address}" if address.include?("://")

          DEFAULT_SETTINGS[:address] = address
          return unless UNIX_SOCKET.match?(address)

          Base.log(3, "-port #{port} is ignored: #{address} is a Unix socket.") unless port.nil? || port.zero?
          DEFAULT_SETTINGS[:port] = "0"
        end

        # The keys ending in an underscore are for the launcher.
        def apply_launch(values, files)
          values["config"]&.then { |file| DEFAULT_SETTINGS[:conf_] = file }
          values["warmup"]&.then { |wanted| DEFAULT_SETTINGS[:warmup_] = wanted }
          values["pid"]&.then { |file| apply_pid(file) }
          file = files.find { |name| !name.empty? }
          DEFAULT_SETTINGS[:filename_] = file if file
          Base.log(3, "only #{file} is served; ignored: #{(files - [file]).join(" ")}") if files.size > 1
        end

        def apply_pid(file)
          PidFile.new(file).follow_server
          DEFAULT_SETTINGS[:pid] = file
        rescue RuntimeError => error
          raise BadOption, "-pid #{file}: #{error.message}"
        end

        def apply_redis
          RedisEngines.from_settings
        rescue ArgumentError => error
          raise BadOption, error.message
        end

        def leave(text)
          $stdout.write(text)
          $stdout.flush
          exit
        end

        def refuse(reason)
          $stderr.write("iodine: #{reason}\nusage: iodine <options> <filename>; iodine -h lists the options\n")
          exit BAD_USAGE
        end
      end
    end
  end
end
