# frozen_string_literal: true

# Iodine as a Rack server: what `rackup -s iodine`, `rails server -u iodine` and Sinatra call. Does not load Rack.

module Iodine
  # The handler for Rack (`Rack::Handler`, Rack 2) and Rackup (`Rackup::Handler`, Rack 3).
  module Rack
    # True once iodine can serve Rack applications.
    IODINE_RACK_LOADED = true

    class << self
      # Serves the application until the server is stopped.
      #
      # @param app [#call] the Rack application
      # @param options [Hash] `:Port` (Integer or String) and `:Host` (String), both falling back to
      #   {Iodine::DEFAULT_SETTINGS}; `:pid` (String), the pid file that the caller writes; other keys are ignored
      # @yieldparam server [Iodine::Rack] just before it starts
      # @return [true]
      # @raise [RuntimeError] when the address cannot be bound
      def run(app, options = {})
        Iodine.listen(service: :http, handler: app, port: options[:Port], address: options[:Host])
        Base::PidFile.outlast_workers(options[:pid])
        yield self if block_given?
        Iodine.start
        true
      end

      # Stops the server gracefully.
      #
      # @return [Iodine]
      def shutdown
        Iodine.stop
      end
      # Sinatra's word for it.
      alias stop shutdown

      # What may follow `rackup -O`: nothing beyond what rackup has flags for.
      #
      # @return [Hash{String => String}]
      def valid_options
        {
          "Host=HOST" => "the address to listen on (default: every address)",
          "Port=PORT" => "the port to listen on (default: #{Iodine::DEFAULT_SETTINGS[:port]})"
        }
      end

      # Makes iodine known to the registries that are loaded by now. One that is loaded later finds it
      # by itself, through rack/handler/iodine.rb or rackup/handler/iodine.rb.
      # @api private
      def register_handlers
        registries = []
        registries << ::Rack::Handler if defined?(::Rack::Handler)
        registries << ::Rackup::Handler if defined?(::Rackup::Handler)
        registries.uniq.each { |registry| %w[iodine Iodine].each { |name| registry.register(name, self) } }
      end

      # Makes plain `rackup` choose iodine, unless someone has chosen already. Rackup 2 has a variable of
      # its own, which wins over the old one and whose absence it complains about.
      # @api private
      def become_default(env = ENV)
        env["RACKUP_HANDLER"] ||= "iodine" unless env["RACK_HANDLER"]
        env["RACK_HANDLER"] ||= "iodine"
      end
    end

    register_handlers
    become_default
  end
end
