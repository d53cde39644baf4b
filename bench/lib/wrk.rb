# frozen_string_literal: true

require_relative "bounded_process"

module Bench
  # HTTP load by wrk, to check our own client by one that we did not write (--client wrk).
  class Wrk
    SECONDS = { "ms" => 0.001, "s" => 1, "m" => 60 }.freeze
    MICROS = { "us" => 1, "ms" => 1e3, "s" => 1e6, "m" => 6e7 }.freeze
    GRACE = 20

    def initialize(settings)
      raise Mistake, "wrk is not installed" unless Machine.program("wrk")

      @settings = settings
    end

    def run(server, workload, seconds)
      said, cpu = BoundedProcess.run(*argv(server, workload, seconds), seconds: seconds + GRACE)
      count, time, unit = said.match(/(\d+) requests in ([\d.]+)(ms|s|m)/)&.captures
      raise "wrk: #{said.strip}" unless count

      errors = errors(said)
      took = time.to_f * SECONDS[unit]
      {
        rate: (count.to_i - errors) / took, count: count.to_i, errors: errors, seconds: took, client_cpu: cpu,
        **latencies(said, workload)
      }
    end

    private

    def argv(server, workload, seconds)
      conns = workload.request.fetch(:conns, @settings.connections)
      headers = workload.request.fetch(:headers, []).flat_map { |header| ["-H", header] }
      url = "http://#{server.address}#{workload.path}"
      ["wrk", "-t1", "-c#{conns}", "-d#{seconds}s", "--latency", *headers, *script(workload), url]
    end

    def errors(said)
      said[/Non-2xx or 3xx responses: (\d+)/, 1].to_i + said[/Socket errors: (.*)/, 1].to_s.scan(/\d+/).sum(&:to_i)
    end

    # wrk does not time pipelined answers.
    def latencies(said, workload)
      workload.request[:pipeline] ? {} : { p50: latency(said, 50), p99: latency(said, 99) }
    end

    def latency(said, percent)
      number, unit = said.match(/^\s+#{percent}%\s+([\d.]+)([a-z]+)/)&.captures
      number.to_f * MICROS.fetch(unit) if number
    end

    def script(workload)
      lua = lua(workload.request) or return []
      path = @settings.scratch.file("wrk.lua")
      File.write(path, lua)
      ["-s", path]
    end

    def lua(request)
      if request[:body]
        <<~LUA
          wrk.method = "POST"
          wrk.headers["Content-Type"] = "application/octet-stream"
          wrk.body = string.rep("x", #{request[:body]})
        LUA
      elsif request[:pipeline]
        <<~LUA
          init = function() batch = string.rep(wrk.format(), #{request[:pipeline]}) end
          request = function() return batch end
        LUA
      end
    end
  end
end
