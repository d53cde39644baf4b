# frozen_string_literal: true

require_relative "goal"

module Bench
  # One thing to measure: a rackup file, a number of workers and threads, and how it is asked.
  #
  # kind:: which measurement (Measurement::KINDS)
  # group:: http (what a plain run measures), checks, static or websocket
  # request:: for HTTP: path, headers, body (bytes), pipeline (depth), conns; for the answer: length, text
  Workload = Struct.new(:name, :group, :kind, :app, :workers, :threads, :about, :goals, :request, keyword_init: true) do
    def path = request.fetch(:path, "/")

    # Is the server asked over plain HTTP, so that its answer can be checked first?
    def http? = !request.fetch(:websocket, false)

    def match?(pattern) = pattern == "all" || pattern == group.to_s || File.fnmatch(pattern, name)
  end
end
