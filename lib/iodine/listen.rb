# frozen_string_literal: true

# `Iodine.listen`: from keywords and URLs to a listening socket. The extension binds it; this file decides where
# and with which limits.

module Iodine
  module Base
    # Where to listen, as told by `url:`, `address:` and `port:`.
    # @api private
    class Place
      URL = %r{\A(?:(?<scheme>[a-z][a-z0-9+.-]*)://)?(?<authority>[^/?\#]*)(?<path>/[^?\#]*)?(?:\?(?<query>[^\#]*))?}i
      AUTHORITY = /\A(?:\[(?<ipv6>[^\]]+)\]|(?<host>[^:]*))(?::(?<port>[^:]*))?\z/
      USUAL_PORTS = { "http" => 80, "ws" => 80, "https" => 443, "wss" => 443 }.freeze
      RELATIVE = %w[./ ../ ~/].freeze

      # @return [String, nil] the scheme of the URL, if there was one
      attr_reader :scheme
      # @return [String, nil] nil is every address of the machine
      attr_reader :host
      # @return [Integer] 0 is any free port
      attr_reader :port
      # @return [String, nil] of a Unix socket
      attr_reader :path
      # @return [Integer, nil] permissions of the Unix socket
      attr_reader :mode

      def initialize(settings)
        @mode = permissions(settings[:mode])
        settings[:url].is_a?(String) ? read_url(settings[:url]) : read_address(settings)
      end

      def to_s
        path ? "Unix Socket at #{path}" : "port #{port}"
      end

      private

      # A number, or its octal digits.
      def permissions(given)
        mode = given.is_a?(String) && given.match?(/\A0?[0-7]{3}\z/) ? given.to_i(8) : given
        return mode if mode.nil? || (mode.is_a?(Integer) && (0..0o777).cover?(mode))

        raise ArgumentError, "mode must be permissions, such as 0o660, not #{given.inspect}"
      end

      def read_url(url)
        return read_relative(url) if url.start_with?(*RELATIVE)

        parts = URL.match(url)
        authority = AUTHORITY.match(parts[:authority])
        refuse("the URL #{url.inspect} can not be understood") if url.empty? || authority.nil?

        @scheme = parts[:scheme]&.downcase
        read_mode(parts[:query])
        return @path = parts[:path] if unix?(parts, authority)

        @host = authority[:ipv6] || presence(authority[:host])
        @port = authority[:port] ? number(authority[:port]) : USUAL_PORTS.fetch(scheme) { default_port }
      end

      # The path of a socket, maybe with a mode.
      def read_relative(url)
        @path, query = url.split("?", 2)
        read_mode(query)
      end

      def read_mode(query)
        @mode ||= query.to_s[/(?:\A|&)mode=0?([0-7]{3})(?:&|\z)/, 1]&.to_i(8)
      end

      # No host and no port to speak of: the path is that of a socket.
      def unix?(parts, authority)
        parts[:path] && parts[:path] != "/" && presence(authority[:host]).nil? && authority[:ipv6].nil? &&
          [nil, "", "0"].include?(authority[:port])
      end

      def read_address(settings)
        address = presence(settings[:address])
        port = settings[:port]
        return @path = address if address && path?(address) && !own_port?(settings, port)

        @host = address&.delete_prefix("[")&.delete_suffix("]")
        @port = port.nil? ? default_port : number(port)
      end

      # A port of the defaults is not meant for a socket file; a port that was given is, unless it is 0.
      def own_port?(settings, port)
        settings.key?(:own_port) && number(port).positive?
      end

      def path?(address)
        address.include?("/") || address.end_with?(".sock")
      end

      def default_port
        number(DEFAULT_SETTINGS[:port] || Environment::DEFAULT_PORT)
      end

      def number(port)
        number = port.is_a?(Integer) ? port : Integer(port.to_s, 10, exception: false)
        refuse("the port #{port.inspect} is not a number from 0 to 65535") unless (0..65_535).cover?(number)
        number
      end

      def presence(text)
        text if text.is_a?(String) && !text.empty?
      end

      def refuse(why)
        raise "Couldn't open listening socket. (#{why})"
      end
    end

    # @api private
    module Listening
      # Settings that fall back to the defaults of the process.
      SHARED = [*%i[address max_body max_client_body max_header_count max_headers max_line port
                    timeout tls head_timeout body_timeout write_timeout linger_timeout max_queue queue_timeout
                    body_memory early_hints], *PublicFolder::SETTINGS, *Proxies::SETTINGS, *RequestLog::SETTINGS,
                *RealTime::SETTINGS].freeze
      # A negative `max_headers` lifts the limit, as far as a head can be addressed.
      LARGEST_HEAD = 16 * 1024 * 1024
      HTTP = %w[http ws].freeze
      SECURE = %w[https wss tls ssl].freeze
      RAW = %w[raw tcp unix telnet].freeze

      @listeners = []

      class << self
        attr_reader :listeners

        def listen(given, block)
          named = given.nil? ? "nil" : given.class
          raise TypeError, "wrong argument type #{named} (expected Hash)" unless given.is_a?(Hash)

          settings = with_defaults(given)
          Limits.check(settings)
          place = Place.new(settings)
          settings[:raw] = raw?(settings, place)
          handler = handler_of(given, block, settings[:raw] ? nil : settings[:public])
          Limits.ask(settings)
          check_tls(settings)
          bind(handler, place, settings)
          handler
        end

        # The listening sockets close; files of Unix sockets go if they are still ours.
        def close
          Limits.forget
          @listeners.clear
          Base.close_listeners(true)
        end

        private

        def with_defaults(given)
          settings = given.dup
          settings[:own_port] = true unless given[:port].nil?
          SHARED.each { |key| settings[key] = DEFAULT_SETTINGS[key] if settings[key].nil? }
          settings
        end

        def handler_of(given, block, public)
          handler = given[:handler]
          if handler.nil? && !given[:app].nil?
            Base.log(3, "the :app keyword of Iodine.listen is deprecated, use :handler.")
            handler = given[:app]
          end
          handler = block if handler.nil?
          # Static files need no application behind them.
          handler = DEFAULT_SETTINGS[:handler] if handler.nil?
          handler = false if handler.nil? && public
          raise ArgumentError, "a :handler is required." if handler.nil?

          handler
        end

        # Whether the handler has connections from their first byte on, without HTTP.
        def raw?(settings, place)
          service = place.scheme || settings[:service]
          name = service.to_s.downcase
          return false if HTTP.include?(name)
          return true if service.nil? || RAW.include?(name)
          raise "TLS is not available in this version yet (service #{name})." if SECURE.include?(name)

          raise ArgumentError, "unknown service #{service.inspect}; known are http, ws, raw, tcp and unix."
        end

        def check_tls(settings)
          raise "TLS is not available in this version yet." if settings[:tls]
        end

        def bind(app, place, settings)
          path = place.path && File.expand_path(place.path)
          files = PublicFolder.options(settings)
          options = limits(settings).merge(files, Proxies.options(settings), RequestLog.options(settings),
                                           RealTime.options(settings), mode: place.mode, files_only: !app, raw: settings[:raw])
          bound = Base.listen(app, place.host, place.port || 0, path, options)
          @listeners.concat(bound)
          close_at_exit if path
          Server.current&.hear_of_logs
          Base.log(4, "Listening on #{path ? "Unix Socket at #{path}" : "port #{bound.first[:port]}"}")
          Base.log(4, "Serving static files from #{settings[:public]}") if files[:files]
          Base.log(3, "there is no handler: #{files[:files] ? "what is no file" : "every request"} is answered with 404.") unless app
        end

        # A program that ends without having started the server leaves no socket file behind (F-60). Its forks are not
        # asked: the file is not theirs.
        def close_at_exit
          return if @owner == Process.pid

          @owner = Process.pid
          at_exit { close if @owner == Process.pid }
        end

        # What the extension wants to know: bytes and seconds. A 0 asks for the usual value.
        def limits(settings)
          {
            line: Limits.bytes(settings, :max_line),
            head: head_limit(settings),
            headers: Limits.count(settings, :max_header_count),
            body: body_limit(settings),
            keep_alive: Limits.seconds(settings, :timeout),
            head_timeout: Limits.seconds(settings, :head_timeout),
            body_timeout: Limits.seconds(settings, :body_timeout),
            write_timeout: Limits.seconds(settings, :write_timeout),
            linger_timeout: Limits.seconds(settings, :linger_timeout),
            queue_timeout: Limits.seconds(settings, :queue_timeout),
            max_queue: Limits.count(settings, :max_queue),
            body_memory: Limits.bytes(settings, :body_memory),
            **Switches.of(settings, %i[early_hints])
          }
        end

        def head_limit(settings)
          settings[:max_headers]&.negative? ? LARGEST_HEAD : Limits.bytes(settings, :max_headers)&.clamp(1, LARGEST_HEAD)
        end

        # A negative limit refuses every body.
        def body_limit(settings)
          settings[:max_body]&.negative? ? 0 : Limits.bytes(settings, :max_body)
        end
      end
    end
  end

  module_function

  # Opens a listening socket, at once, and serves it once the server runs.
  #
  # Keywords: `:service` ("http" or "ws"), `:handler` (the Rack application, or a block), `:url`, or `:address` and
  # `:port` (0 is any free port, or with a path in `:address` a Unix socket), `:log`, `:timeout` (keep-alive, seconds),
  # `:head_timeout`, `:body_timeout`, `:write_timeout` (seconds), `:max_body` (MiB), `:max_headers` (KiB), `:max_line`
  # (KiB), `:max_header_count`, `:max_clients` (of each worker), `:max_queue`, `:queue_timeout` (seconds), and the other
  # limits of docs/limits.md; `:mode` (of a Unix socket); `:early_hints` (true has applications send headers ahead of
  # their answers). What is nil comes from {DEFAULT_SETTINGS}.
  #
  # Static files (docs/static_files.md): `:public` (a folder; `:handler` may then be missing or false), `:public_headers`
  # (glob => the cache-control, or a Hash of headers), `:public_hidden` (true serves names that begin with a dot),
  # `:public_symlinks` (true follows links out of the folder), `:sendfile_roots` (folders that `X-Sendfile` is confined
  # to).
  #
  # Proxies (docs/proxies.md): `:trusted_proxies` (addresses, networks, "unix", or `:all`: whose X-Forwarded headers count;
  # nobody's unless told), `:proxy_protocol` (true: each connection begins with a PROXY header), `:underscore_headers` (true
  # passes headers on whose name has an underscore).
  #
  # The request log (docs/logs.md): `:log` (true for a line per request), `:log_format` (`:iodine`, `:common`, `:combined`,
  # `:json`, or a template such as "%{client} %{path}"), `:log_to` (`:stderr`, `:stdout` or the path of a file), `:request_id`
  # (true: each request has an X-Request-Id), `:request_id_response` (true: answers tell it).
  #
  # @example
  #   Iodine.listen(service: :http, port: 3000) { |env| [200, {}, ["Hello"]] }
  #
  # @return [Object] the handler
  # @raise [ArgumentError] without a handler, for an unknown service, or for a limit, a network or a format that can not be used
  # @raise [TypeError] unless a Hash is given
  # @raise [RuntimeError] when it, or the file of its log, can not be opened; the message tells the cause
  def listen(settings, &block)
    Base::Listening.listen(settings, block)
  end

  # The sockets opened by {listen}.
  #
  # @return [Array<Hash>] with `:address` and `:port`, or with `:path`
  def listeners
    Base::Listening.listeners.map(&:dup)
  end
end
