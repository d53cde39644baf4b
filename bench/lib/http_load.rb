# frozen_string_literal: true

module Bench
  # HTTP load by our own client. `run` of each client gives the same figures: rate, count, errors, seconds,
  # client_cpu and, in microseconds, p50 and p99.
  class HttpLoad
    def initialize(settings)
      @settings = settings
    end

    # requests: ends the run after so many, if that is before the seconds are over.
    def run(server, workload, seconds, requests: nil, conns: nil)
      options = { conns: conns || connections(workload), **asked(workload), requests: requests }.compact
      run = @settings.loadgen.run("http", server, seconds, **options)
      reply = run.reply
      {
        rate: reply[:rps], count: reply[:requests], errors: reply[:bad], seconds: reply[:seconds],
        p50: reply[:p50_us], p99: reply[:p99_us], client_cpu: run.cpu
      }
    end

    private

    def connections(workload) = workload.request.fetch(:conns, @settings.connections)

    def asked(workload)
      request = workload.request
      {
        path: workload.path, pipeline: request.fetch(:pipeline, 1), body_bytes: request.fetch(:body, 0),
        headers: request.fetch(:headers, []).join("\n")
      }
    end
  end
end
