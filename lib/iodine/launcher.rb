# frozen_string_literal: true

# What the `iodine` command does once its flags are read: the configuration file, the application, the
# warm-up, and then the server. Every step may change the settings, so each later one wins over the flags.

require "iodine/app_loader"

module Iodine
  module Base
    # @api private
    module Launcher
      # Exit status when there is nothing to serve.
      FAILURE = 1

      class << self
        # Serves until the server is stopped.
        def run(settings = Iodine::DEFAULT_SETTINGS)
          load_config(settings.delete(:conf_))
          app = AppLoader.load(settings[:filename_], static: !settings[:public].nil?)
          Iodine.on_state(:on_start) { warm_up(app) } if settings[:warmup_]
          listen(app)
          Iodine.start
        rescue AppLoader::NotFound => error
          give_up(error.message)
        end

        # Requests `/` once, so that what an application loads or connects lazily is there for the first
        # visitor. Whatever comes of it, the worker goes on.
        #
        # @param app [#call]
        def warm_up(app)
          require "rack"
          status = ::Rack::MockRequest.new(app).get("http://localhost/").status
          Base.log(3, "warm-up: GET / was answered with status #{status}.") if status >= 500
        rescue SignalException
          raise
        rescue Exception => error # rubocop:disable Lint/RescueException -- an `exit` is an error in any request
          raise if Base.forked?

          Base.log(2, "warm-up: GET / failed: #{error.class}: #{error.message}")
        end

        private

        # Where it fails the settings are at fault, or the port is taken: our lines of code tell nothing about that.
        def listen(app)
          Iodine.listen(service: :http, handler: app)
        rescue ArgumentError, TypeError, RuntimeError => error
          give_up(error.message)
        end

        # A path from the working directory, with or without its suffix; failing that, whatever `require` knows.
        def load_config(name)
          return unless name

          path = [name, "#{name}.rb"].find { |candidate| File.file?(candidate) }
          path ? load_file(File.expand_path(path)) : require(name)
        rescue LoadError => error
          raise if path || error.path != name

          give_up("cannot find the configuration file #{name} in #{Dir.pwd}")
        end

        # `require` knows no other suffix.
        def load_file(path)
          path.end_with?(".rb") ? require(path) : Kernel.load(path)
        end

        def give_up(reason)
          $stderr.write("iodine: #{reason}\n")
          exit FAILURE
        end
      end
    end
  end
end
