# frozen_string_literal: true

# The URL of a Redis server: where it is, and who we are there. It knows no connection.

module Iodine
  module PubSub
    class Redis < Engine
      # Where Redis is, and who we are there.
      # @api private
      class Address
        URL = %r{\A(?:(?<scheme>[a-z]+)://)?(?:(?<user>[^:@/]*)(?::(?<password>[^@/]*))?@)?
                 (?:\[(?<ipv6>[^\]]+)\]|(?<host>[^:/?\#\s]*))(?::(?<port>\d*))?(?<path>/(?!/)[^?\#]*)?\z}xi
        LONGEST = 4096
        USUAL_PORT = 6379

        # @return [Array<String>, nil] user and password, or the password alone
        attr_reader :credentials

        def initialize(url)
          raise TypeError, "wrong argument type #{url.class} (expected String)" unless url.is_a?(String)
          raise ArgumentError, "Redis URL too long." if url.bytesize > LONGEST

          @parts = URL.match(url) or refuse(url, "it can not be understood")
          @scheme = (@parts[:scheme] || "redis").downcase
          refuse(url, "its scheme is none of redis, rediss and unix") unless %w[redis rediss unix].include?(@scheme)
          refuse(url, "its port is none") unless @parts[:port].to_s.empty? || (1..65_535).cover?(@parts[:port].to_i)
          check_path(url)
          @credentials = [unescape(@parts[:user]), unescape(@parts[:password])].reject { |part| part.to_s.empty? }
          @credentials = nil if @credentials.empty?
        end

        def secure?
          @scheme == "rediss"
        end

        def settings
          return { service: "unix", address: unescape(@parts[:path]), port: 0 } if @scheme == "unix"

          { service: secure? ? "tls" : "tcp", address: host, port: port }
        end

        def to_s
          @scheme == "unix" ? @parts[:path] : "#{host}:#{port}"
        end

        private

        def host
          @parts[:ipv6] || (@parts[:host].empty? ? "localhost" : @parts[:host])
        end

        def port
          @parts[:port].to_s.empty? ? USUAL_PORT : @parts[:port].to_i
        end

        def check_path(url)
          path = @parts[:path].to_s
          if @scheme == "unix"
            refuse(url, "it names no socket") if path.empty?
          elsif !["", "/", "/0"].include?(path)
            refuse(url, "it names a database, #{path.delete_prefix("/")}, but pub/sub knows none; leave it out")
          end
        end

        def unescape(text)
          text && Iodine::Rack::Utils.decode_path(text)
        end

        def refuse(url, why)
          raise ArgumentError, "the Redis URL #{url.sub(/:[^:@]*@/, ":***@").inspect} can not be used: #{why}."
        end
      end
      private_constant :Address
    end
  end
end
