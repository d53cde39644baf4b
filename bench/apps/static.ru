# frozen_string_literal: true

# Static files by Rack alone, for servers without a static file service of their own.
require "rack"
files = defined?(Rack::Files) ? Rack::Files : Rack::File
run files.new(ENV.fetch("BENCH_PUBLIC"))
