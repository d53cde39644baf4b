# frozen_string_literal: true

# Keeps database connections from being shared between processes: two processes talking over one socket
# garble each other's queries. Runs around forks only, and only for what the application has loaded by then.

module Iodine
  module Base
    # @api private
    module ORM
      # From this version on ActiveRecord notices a fork by itself and drops what belonged to the parent.
      ACTIVE_RECORD_FORK_AWARE = Gem::Version.new("5.2")

      class << self
        def install
          Iodine.on_state(:before_fork) { before_fork }
          Iodine.on_state(:after_fork) { after_fork }
        end

        # In the master, before each fork.
        def before_fork
          disconnect_sequel
          disconnect_active_record if active_record?
        end

        # In both processes, after each fork. Sequel reconnects when it is next used.
        def after_fork
          guard("ActiveRecord") { ::ActiveRecord::Base.establish_connection } if active_record?
        end

        private

        def disconnect_sequel
          return unless defined?(::Sequel::DATABASES)

          ::Sequel::DATABASES.each { |database| guard("Sequel") { database.disconnect } }
        end

        def disconnect_active_record
          guard("ActiveRecord") { ::ActiveRecord::Base.connection.disconnect! }
          guard("ActiveRecord") { ::ActiveRecord::Base.connection_pool.disconnect! }
        end

        # Only versions that need our help. The version is asked first: naming ActiveRecord::Base may load it.
        def active_record?
          return false unless defined?(::ActiveRecord)
          return false if ::ActiveRecord.respond_to?(:version) && ::ActiveRecord.version >= ACTIVE_RECORD_FORK_AWARE

          defined?(::ActiveRecord::Base) && ::ActiveRecord::Base.respond_to?(:establish_connection)
        end

        # A database that is down must not keep the workers from starting.
        def guard(library)
          yield
        rescue StandardError => error
          Base.log(3, "#{library} connections around a fork: #{error.class}: #{error.message}")
        end
      end
    end

    ORM.install
  end
end
