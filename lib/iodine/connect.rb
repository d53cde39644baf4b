# frozen_string_literal: true

# `Iodine.connect` and `Iodine.attach_fd`: from keywords and URLs to addresses. Names are resolved here, by the caller's
# thread: the reactor must not wait for anybody.

module Iodine
  module Base
    # Where a client connects to, as told by `url:`, or by `service:`, `address:`, `port:` and `path:`.
    # @api private
    class Destination
      URL = %r{\A(?:(?<scheme>[a-z][a-z0-9+.-]*)://)?(?:[^/?\#@]*@)?(?<authority>[^/?\#]*)(?<path>[^\#]*)}i
      USUAL_PORTS = { "ws" => 80, "wss" => 443 }.freeze
      SECURE = %w[wss tls ssl].freeze

      # @return [String] what the request asks for
      attr_reader :path
      # @return [String, nil] of a Unix socket
      attr_reader :socket
      # @return [String] a name or an address
      attr_reader :host
      # @return [Integer]
      attr_reader :port

      def initialize(settings)
        @service = settings[:service].to_s.downcase
        settings[:url].is_a?(String) ? read_url(settings[:url]) : read_address(settings)
        # WebSockets would be the wrong thing to speak to whoever is asked for a page.
        raise "HTTP client connections aren't supported yet." if @service.start_with?("h")

        @path = settings[:path].to_s unless settings[:path].nil?
        @path = "/#{@path}" unless @path&.start_with?("/")
      end

      def websocket?
        @service.start_with?("w")
      end

      def secure?
        SECURE.include?(@service)
      end

      # `Host` of a request: the port stands there unless it is the usual one.
      def authority
        return "localhost" if socket

        name = host.include?(":") ? "[#{host}]" : host
        port == USUAL_PORTS[@service] ? name : "#{name}:#{port}"
      end

      # @return [Array<Array>] addresses and ports, or a path, in the order in which to try them
      # @raise [RuntimeError] when there are none
      def targets
        return [[socket]] if socket && File.socket?(socket)

        refuse("there is no socket at #{socket}") if socket
        found = Addrinfo.getaddrinfo(host, port, nil, :STREAM)
        found.map { |address| [address.ip_address[/[^%]+/], address.ip_port] }.uniq
      rescue SocketError => error
        refuse("#{host}: #{error.message}")
      end

      private

      def read_url(url)
        parts = URL.match(url)
        authority = Place::AUTHORITY.match(parts[:authority])
        refuse("the URL #{url.inspect} can not be understood") if url.empty? || authority.nil?

        @service = parts[:scheme].downcase if parts[:scheme]
        @service = "raw" if @service.empty?
        name = authority[:ipv6] || authority[:host].to_s
        return @socket = parts[:path][/[^?]+/] if name.empty? && parts[:path].start_with?("/") && !websocket?

        @host = name.empty? ? "localhost" : name
        @path = parts[:path]
        @port = authority[:port] ? number(authority[:port]) : USUAL_PORTS[@service] || default_port
      end

      def read_address(settings)
        address = (settings[:address] || DEFAULT_SETTINGS[:address]).to_s
        port = settings[:port]
        return @socket = address if address.include?("/") && [nil, "", "0", 0].include?(port)

        @host = address.empty? ? "localhost" : address.delete_prefix("[").delete_suffix("]")
        @port = port.nil? ? default_port : number(port)
      end

      def default_port
        number(DEFAULT_SETTINGS[:port] || Environment::DEFAULT_PORT)
      end

      def number(port)
        number = port.is_a?(Integer) ? port : Integer(port.to_s, 10, exception: false)
        refuse("the port #{port.inspect} is not a number from 1 to 65535") unless (1..65_535).cover?(number)
        number
      end

      def refuse(why)
        raise "Couldn't open client socket. (#{why})"
      end
    end

    # @api private
    module Connecting
      TLS = { verify: :tls_verify, trust: :tls_trust, certificate: :tls_certificate, private_key: :tls_private_key,
              password: :tls_password }.freeze

      # What {Limits} knows, of the keywords.
      CHECKED = %i[ping timeout max_msg max_backlog].freeze

      @waiting = []

      class << self
        def connect(settings)
          named = settings.nil? ? "nil" : settings.class
          raise TypeError, "wrong argument type #{named} (expected Hash)" unless settings.is_a?(Hash)

          settings = settings.dup
          handler = settings[:handler]
          raise ArgumentError, "a :handler is required." if handler.nil?

          Limits.check(settings, CHECKED)
          check_limit(settings[:connect_timeout])
          place = Destination.new(settings)
          run(:connect, handler, place.targets, options(settings, place))
        end

        def attach(fd, handler)
          raise TypeError, "wrong argument type #{fd.class} (expected Integer)" unless fd.is_a?(Integer)
          raise ArgumentError, "A callback object must be provided." if [nil, true, false].include?(handler)

          # A copy: the caller may close its own.
          copy = IO.for_fd(fd, autoclose: false).dup
          # Nothing ever happens to a file that could be waited for.
          raise IOError, "invalid fd." if copy.stat.file? || copy.stat.directory?

          return handler if Base.attach(copy.fileno, handler).tap { |attached| copy.close if attached }

          @waiting << -> { Base.attach(copy.fileno, handler).tap { copy.close } }
          handler
        rescue SystemCallError, RangeError
          raise IOError, "invalid fd."
        end

        # Gives what waits for the start to the reactor: of the root alone.
        def hand_over
          waiting = @waiting
          @waiting = []
          waiting.each(&:call)
          Base::RedisEngines.start
        end

        # In a worker: what waits is the root's.
        def forget
          @waiting = []
        end

        private

        def run(*call)
          Base.public_send(*call) || @waiting << -> { Base.public_send(*call) }
        end

        def options(settings, place)
          # Only Redis asks to outlast the others.
          realtime = { **RealTime.options(settings), outlasts: settings[:outlasts] ? true : nil }
          { **realtime, **times(settings, place), **tls(settings[:tls], place), **request(settings, place) }
        end

        def check_limit(seconds)
          return if seconds.nil? || Limits.positive(seconds)

          raise ArgumentError, "connect_timeout must be a number of seconds, more than 0, not #{seconds.inspect}"
        end

        # The ping of a raw client is the limit for its making, too, as in 0.7.
        def times(settings, place)
          ping, timeout, limit = settings.values_at(:ping, :timeout, :connect_timeout)
          return { timeout: (ping || DEFAULT_SETTINGS[:ping] || 40).to_f, connect_timeout: limit&.to_f } if place.websocket?

          { timeout: (timeout || ping)&.to_f, connect_timeout: (limit || Limits.positive(ping))&.to_f }
        end

        def tls(given, place)
          return {} unless given || place.secure?

          options = { tls: place.host || "localhost" }
          return options if [nil, false, true].include?(given)
          raise TypeError, "wrong argument type #{given.class} (expected Hash)" unless given.is_a?(Hash)

          given.each do |key, value|
            name = TLS[key] or raise ArgumentError, "tls knows #{TLS.keys.join(", ")}, but not #{key.inspect}"
            options[name] = key == :trust ? [*value] : value
          end
          options
        end

        def request(settings, place)
          return {} unless place.websocket?

          headers = [*header_lines(settings[:headers]), *cookie_line(settings[:cookies])]
          { websocket: true, host: place.authority, path: place.path, headers: headers }
        end

        def header_lines(headers)
          (headers || {}).flat_map { |name, values| [*values].map { |value| [name.to_s, value.to_s] } }
        end

        def cookie_line(cookies)
          return [] if cookies.nil? || cookies.empty?

          [["cookie", cookies.map { |name, value| cookie(name.to_s, value.to_s) }.join("; ")]]
        end

        # One that would be several, or another one, for the server is refused; control bytes are, as in any header.
        def cookie(name, value)
          raise ArgumentError, "a cookie can not be named #{name.inspect}" if name.empty? || name.match?(/[=;,\s]/)
          raise ArgumentError, "the cookie #{name} can not be #{value.inspect}" if value.include?(";")

          "#{name}=#{value}"
        end
      end
    end
  end

  module_function

  # Connects to a server, as a WebSocket client or raw, over TCP or a Unix socket. May be called before {start}; the
  # connection then belongs to the root process. Once it is open `on_open` of the handler is called; if it can not be made,
  # `on_close` alone.
  #
  # Keywords: `:url` (`ws://host/path`, `wss://…`, `tcp://host:port`, `tls://host:port`, `unix:///path`), or `:service`,
  # `:address`, `:port` and `:path`; `:handler` (whose callbacks are called); `:headers`, `:cookies` (Hashes, for the request
  # of a WebSocket); `:ping` (seconds of silence until a ping; raw: until the handler's `ping`, or the end), `:timeout` (raw:
  # the same), `:connect_timeout` (seconds, 30), `:max_msg` (KiB, 256), `:max_backlog` (MiB), `:slow_clients`, `:deflate`;
  # `:tls` (true, or a Hash with `:verify`, `:trust`, `:certificate`, `:private_key`, `:password`). With TLS the server has to
  # prove its name by a certificate of an authority that the system trusts, or one in `:trust`, unless `verify: false`.
  #
  # @example
  #   Iodine.connect(url: "ws://localhost:3000/chat", handler: MyClient.new)
  #
  # @return [Iodine]
  # @raise [ArgumentError] without a handler, or for what can not be sent
  # @raise [TypeError] unless a Hash is given
  # @raise [RuntimeError] when the name can not be resolved, or there is no such socket
  def connect(settings)
    Base::Connecting.connect(settings)
    self
  end

  # Hands a connected socket (or a pipe, a terminal) over: a copy of the descriptor is read and written by the server from
  # here on, raw. `on_open` has run when this returns; before {start} it runs then.
  #
  # @param fd [Integer] the descriptor; the caller may close its own
  # @param handler [Object] whose callbacks are called
  # @return [Object] the handler
  # @raise [TypeError] unless the descriptor is an Integer
  # @raise [ArgumentError] without a handler
  # @raise [IOError] if there is no such descriptor
  def attach_fd(fd, handler)
    Base::Connecting.attach(fd, handler)
  end
end
