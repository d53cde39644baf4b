# frozen_string_literal: true

# Finds the application that the `iodine` command was asked to serve, and loads it. Needs the rack gem for
# rackup files only. Starts nothing.

module Iodine
  module Base
    # Holds `Builder`, which rackup files are read with: Rack's own.
    module Rack
    end

    # @api private
    class AppLoader
      DEFAULT_FILE = "config.ru"
      # Stands in for an application when there are only static files to serve.
      NOT_FOUND_APP = ->(_env) { [404, {}, ["Not Found!"]] }
      CONSTANT = /\A[A-Z]\w*(::[A-Z]\w*)*\z/

      # There is no application to load; the message says what was tried.
      class NotFound < StandardError; end

      # @param name [String, nil] a rackup or Ruby file (the suffix may be left out), a folder with a
      #   config.ru, or a constant that is already defined; nil = config.ru
      # @param static [Boolean] whether static files are served, so that there may be no application
      # @return [#call] the Rack application
      # @raise [NotFound]
      # @raise [Exception] whatever the application's files raise
      def self.load(name = nil, static: false)
        new(name, static: static).load
      end

      def initialize(name, static:)
        @name = name
        @static = static
      end

      def load
        load_rack
        path = file
        return load_file(path) if path
        return Object.const_get(@name) if constant?

        load_default
      end

      private

      # Applications in plain Ruby files may do without Rack.
      def load_rack
        require "rack"
        Base::Rack.const_set(:Builder, ::Rack::Builder) unless Base::Rack.const_defined?(:Builder, false)
      rescue LoadError => error
        raise unless error.path == "rack"
      end

      def file
        return unless @name

        candidates = [@name, "#{@name}.ru", "#{@name}.rb", File.join(@name, DEFAULT_FILE)]
        candidates.find { |path| File.file?(path) }
      end

      def constant?
        @name&.match?(CONSTANT) && Object.const_defined?(@name)
      end

      def load_default
        Base.log(3, "Couldn't find #{@name}, testing for #{DEFAULT_FILE}.") if @name
        return load_file(DEFAULT_FILE) if File.file?(DEFAULT_FILE)
        raise NotFound, complaint unless @static

        Base.log(3, "there is no application: whatever is not a static file is answered with 404.")
        NOT_FOUND_APP
      end

      def complaint
        missing = @name ? "neither #{@name} nor a #{DEFAULT_FILE}" : "no #{DEFAULT_FILE}"
        "there is #{missing} in #{Dir.pwd}; name the file of your application, such as iodine my_app.ru"
      end

      # Rack 2 returns the application and options, Rack 3 the bare application.
      def load_file(path)
        path = File.expand_path(path)
        return load_constant(path) unless path.end_with?(".ru")
        raise NotFound, "the rack gem is needed to load #{path}: gem install rack" unless rack?

        app = Base::Rack::Builder.parse_file(path)
        app.is_a?(Array) ? app.first : app
      end

      def rack?
        Base::Rack.const_defined?(:Builder, false)
      end

      # my_app.rb defines MyApp: rackup's rule.
      def load_constant(path)
        require path
        Object.const_get(File.basename(path, ".*").split("_").map(&:capitalize).join)
      end
    end
  end
end
