# frozen_string_literal: true

# The command line of `iodine` as data: every option, in the order of the help text. The parser, the help
# and the specs all read this one table. It knows nothing about what the values do.

module Iodine
  module Base
    module CLI
      # One option.
      #
      # names:: without the leading dash, the best one first
      # type:: :text, :number or :switch
      # setting:: the key in DEFAULT_SETTINGS that takes the value as it is; nil if it needs more than that
      # range:: what a :number may be; nil = anything
      # fractions:: whether a :number may have decimals
      # default, environment:: for the help text only
      # note:: the help text
      # missing:: what this version lacks, if the option is only here to be refused with a reason
      # doubled:: extra spellings that start with two dashes
      Option = Struct.new(:names, :type, :setting, :range, :fractions, :default, :environment, :note, :missing, :doubled,
                          keyword_init: true) do
        def name
          names.first
        end

        def switch?
          type == :switch
        end

        def number?
          type == :number
        end

        # The spellings that start with two dashes: every name longer than a letter.
        def long_names
          names.select { |name| name.size > 2 } + (doubled || [])
        end
      end

      Group = Struct.new(:title, :options, :remark, keyword_init: true)

      def self.text(*names, **more)
        Option.new(names: names, type: :text, **more)
      end

      def self.number(*names, **more)
        Option.new(names: names, type: :number, **more)
      end

      def self.switch(*names, **more)
        Option.new(names: names, type: :switch, **more)
      end

      private_class_method :text, :number, :switch

      GROUPS = [
        Group.new(
          title: "Address",
          options: [
            text("bind", "b", "address", default: "every address",
                 note: "what to listen on; a value with a / in it, or ending in .sock, is a Unix socket"),
            number("port", "p", range: 0..65_535, default: "3000", environment: "PORT",
                   note: "the port to listen on; 0 goes with a Unix socket")
          ]
        ),
        Group.new(
          title: "Concurrency",
          remark: "Negative numbers are fractions of the cores: -w -2 is half of them. 0 lets iodine choose.",
          options: [
            number("threads", "t", default: "chosen", environment: "THREADS",
                   note: "threads of each worker process"),
            number("workers", "w", default: "chosen", environment: "WEB_CONCURRENCY or WORKERS",
                   note: "worker processes")
          ]
        ),
        Group.new(
          title: "HTTP",
          options: [
            text("public", "www", setting: :public, note: "a folder with static files"),
            switch("public-hidden", setting: :public_hidden, note: "serve files in it whose name begins with a dot, too"),
            switch("public-symlinks", setting: :public_symlinks, note: "follow symbolic links that lead out of it"),
            text("sendfile-roots", setting: :sendfile_roots,
                 note: "the folders X-Sendfile may name files in, separated by :"),
            text("trusted-proxies", setting: :trusted_proxies, default: "nobody", environment: "IODINE_TRUSTED_PROXIES",
                 note: "whose X-Forwarded headers count: addresses, networks, unix, or all"),
            switch("proxy-protocol", setting: :proxy_protocol, environment: "IODINE_PROXY_PROTOCOL",
                   note: "each connection begins with a PROXY header"),
            switch("underscore-headers", setting: :underscore_headers,
                   note: "pass headers on whose name has an underscore"),
            switch("log", "v", setting: :log, environment: "IODINE_LOG", note: "log a line per request"),
            text("log-format", setting: :log_format, default: "iodine", environment: "IODINE_LOG_FORMAT",
                 note: "iodine, common, combined, json, or a template such as \"%{client} %{path}\""),
            text("log-to", setting: :log_to, default: "stderr", environment: "IODINE_LOG_TO",
                 note: "stderr, stdout, or a file, which HUP opens anew"),
            switch("request-id", setting: :request_id, environment: "IODINE_REQUEST_ID",
                   note: "give each request an X-Request-Id, unless a trusted proxy has"),
            switch("request-id-response", setting: :request_id_response, environment: "IODINE_REQUEST_ID_RESPONSE",
                   note: "the same, and tell it in the response"),
            switch("early-hints", setting: :early_hints, note: "let applications send headers ahead of their answers (103)"),
            number("keep-alive", "k", "tout", setting: :timeout, fractions: true, default: "40",
                   environment: "IODINE_TIMEOUT", note: "seconds an idle connection is kept"),
            number("head-timeout", setting: :head_timeout, fractions: true, range: (0..), default: "30",
                   environment: "IODINE_HEAD_TIMEOUT", note: "seconds a client has to send the head of a request"),
            number("body-timeout", setting: :body_timeout, fractions: true, range: (0..), default: "30",
                   environment: "IODINE_BODY_TIMEOUT", note: "seconds in which a body must come on by a KiB for each"),
            number("write-timeout", setting: :write_timeout, fractions: true, range: (0..), default: "30",
                   environment: "IODINE_WRITE_TIMEOUT", note: "seconds in which a client must read on by a KiB for each"),
            number("linger-timeout", setting: :linger_timeout, fractions: true, range: (0..), default: "30",
                   environment: "IODINE_LINGER_TIMEOUT",
                   note: "seconds in which a refused client may send on before it reads why"),
            number("max-body", "maxbd", setting: :max_body, default: "50", environment: "IODINE_MAX_BODY",
                   note: "largest request body, in MiB"),
            number("body-memory", setting: :body_memory, range: (0..), default: "512",
                   environment: "IODINE_BODY_MEMORY", note: "KiB of a body kept in memory; a longer one goes to a file"),
            number("max-header", "maxhd", setting: :max_headers, default: "32", environment: "IODINE_MAX_HEADERS",
                   note: "largest request head, in KiB"),
            number("max-line", setting: :max_line, range: (0..), default: "8", environment: "IODINE_MAX_LINE",
                   note: "longest request or header line, in KiB"),
            number("max-header-count", setting: :max_header_count, range: (0..), default: "128",
                   environment: "IODINE_MAX_HEADER_COUNT", note: "most header lines in a request"),
            number("max-clients", setting: :max_clients, range: (0..), default: "131072",
                   environment: "IODINE_MAX_CLIENTS", note: "most open connections of a worker"),
            number("reserved-descriptors", setting: :reserved_descriptors, range: (0..), default: "64",
                   environment: "IODINE_RESERVED_DESCRIPTORS", note: "descriptors kept free for the application"),
            number("max-jobs", setting: :max_jobs, range: (0..), default: "16384", environment: "IODINE_MAX_JOBS",
                   note: "waiting jobs from which on sockets are no longer read"),
            number("max-queue", setting: :max_queue, range: (0..), default: "off", environment: "IODINE_MAX_QUEUE",
                   note: "waiting jobs beyond which requests are answered with 503"),
            number("queue-timeout", setting: :queue_timeout, fractions: true, range: (0..), default: "off",
                   environment: "IODINE_QUEUE_TIMEOUT", note: "seconds a request may wait before it is answered with 503")
          ]
        ),
        Group.new(
          title: "WebSocket",
          options: [
            number("max-msg", "maxms", setting: :max_msg, default: "256", environment: "IODINE_MAX_MSG",
                   note: "largest message, in KiB"),
            number("ping", setting: :ping, fractions: true, default: "40", environment: "IODINE_PING",
                   note: "seconds of silence after which a ping is sent; 0 is never"),
            number("max-backlog", setting: :max_backlog, range: (0..), default: "64",
                   environment: "IODINE_MAX_BACKLOG", note: "MiB that may wait to be written to one connection"),
            text("slow-clients", setting: :slow_clients, default: "close",
                 note: "what becomes of one for which more waits: close it, or drop the messages"),
            switch("deflate", setting: :deflate, note: "compress messages (permessage-deflate)")
          ]
        ),
        Group.new(
          title: "TLS (not available in this version yet)",
          options: [
            switch("tls", missing: "TLS", note: "encrypt, with a self-signed certificate if none is given"),
            text("tls-cert", "cert", missing: "TLS", note: "the certificate file"),
            text("tls-key", "key", missing: "TLS", note: "the file with its private key"),
            text("tls-pass", "tls-password", missing: "TLS", note: "the password of the private key")
          ]
        ),
        Group.new(
          title: "Redis",
          options: [
            text("redis", "r", setting: :redis_, environment: "IODINE_REDIS_URL",
                 note: "the URL of a Redis server that joins clusters, for pub/sub"),
            number("redis-ping", "rp", setting: :redis_ping_, range: (0..), default: "300",
                   note: "seconds of silence after which it is sent a ping")
          ]
        ),
        Group.new(
          title: "Miscellaneous",
          options: [
            text("config", "C", note: "a Ruby file to run before the application is loaded"),
            text("pid", "pidfile", note: "where to write the process id; with a trailing / a folder"),
            number("shutdown-timeout", setting: :shutdown_timeout, fractions: true, range: (0..), default: "30",
                   environment: "IODINE_SHUTDOWN_TIMEOUT", note: "seconds that requests have to end at shutdown"),
            number("verbosity", "V", default: "4",
                   note: "0 silent, 1 fatal, 2 errors, 3 warnings, 4 information, 5 debugging"),
            switch("warmup", doubled: %w[preload], note: "request / once in every worker before it serves")
          ]
        )
      ].freeze

      OPTIONS = GROUPS.flat_map(&:options).freeze
      HELP = /\A--?(h|help|\?)\z/i
      VERSION = /\A--?version\z/i
    end
  end
end
