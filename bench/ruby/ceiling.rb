# frozen_string_literal: true

# The ceiling that Ruby itself sets: what a request costs when a server does no more than the Rack contract asks for.
# No socket and no parsing; an env is copied from a template, the request's strings are cut out of one buffer, the
# app is called and its answer walked over. What a server needs beyond that is its own doing.
#
#   ruby bench/ruby/ceiling.rb [seconds for each case, default 1]
#   ruby --yjit bench/ruby/ceiling.rb

module Ceiling
  REPEATS = 5
  BATCH = 1_000

  APP = proc { |_env| [200, { "content-type" => "text/html", "content-length" => "16" }, ["Hello from Rack!"]] }

  # What a server knows before the request comes.
  TEMPLATE = {
    "rack.version" => [1, 3], "rack.errors" => $stderr, "rack.input" => nil, "rack.logger" => nil,
    "rack.multithread" => true, "rack.multiprocess" => false, "rack.run_once" => false, "rack.hijack?" => true,
    "rack.url_scheme" => "http", "SCRIPT_NAME" => "", "SERVER_SOFTWARE" => "ceiling", "SERVER_PROTOCOL" => "HTTP/1.1",
    "GATEWAY_INTERFACE" => "CGI/1.2", "SERVER_NAME" => "", "SERVER_PORT" => "", "REQUEST_METHOD" => "GET",
    "PATH_INFO" => "", "QUERY_STRING" => "", "HTTP_HOST" => ""
  }.freeze

  WIRE = <<~HTTP.gsub("\n", "\r\n").b.freeze
    GET /users/42?x=1 HTTP/1.1
    Host: 127.0.0.1:4200
    User-Agent: bench/1.0
    Accept: text/html
    Accept-Encoding: gzip
    Accept-Language: en
    Cookie: a=b; c=d
    X-Request-Id: 1234567890abcdef

  HTTP

  # Where each of the request's strings lies in WIRE: [key, offset, length].
  CUTS = {
    "PATH_INFO" => "/users/42", "QUERY_STRING" => "x=1", "HTTP_HOST" => "127.0.0.1:4200", "HTTP_VERSION" => "HTTP/1.1",
    "HTTP_USER_AGENT" => "bench/1.0", "HTTP_ACCEPT" => "text/html", "HTTP_ACCEPT_ENCODING" => "gzip",
    "HTTP_ACCEPT_LANGUAGE" => "en", "HTTP_COOKIE" => "a=b; c=d", "HTTP_X_REQUEST_ID" => "1234567890abcdef",
    "SERVER_NAME" => "127.0.0.1", "SERVER_PORT" => "4200"
  }.map { |key, value| [key, WIRE.index(value), value.bytesize].freeze }.freeze
  FEW_CUTS = CUTS.first(3).freeze

  module_function

  def env(cuts, base = TEMPLATE.dup)
    cuts.each { |key, offset, length| base[key] = WIRE.byteslice(offset, length) }
    base
  end

  # Touches everything in a response that a server has to write.
  def walk(response)
    status, headers, body = response
    bytes = status
    headers.each { |name, value| bytes += name.bytesize + value.bytesize }
    body.each { |part| bytes += part.bytesize }
    body.close if body.respond_to?(:close)
    bytes
  end

  SHARED_ENV = env(CUTS)
  CASES = {
    "the app alone" => -> { APP.call(SHARED_ENV) },
    "the app, its answer walked over" => -> { walk(APP.call(SHARED_ENV)) },
    "a copied env, the app, the walk" => -> { walk(APP.call(TEMPLATE.dup)) },
    "a copied env with 3 strings, the app, the walk" => -> { walk(APP.call(env(FEW_CUTS))) },
    "a copied env with 12 strings, the app, the walk" => -> { walk(APP.call(env(CUTS))) },
    "an empty env with 12 strings, the app, the walk" => -> { walk(APP.call(env(CUTS, {}))) },
    "a copied env with 12 strings and nothing else" => -> { env(CUTS) }
  }.freeze

  def run(seconds)
    puts "ruby #{RUBY_VERSION}#{' with YJIT' if yjit?}: calls per CPU-second, median of #{REPEATS}", ""
    puts "| case | calls/s | us/call |", "|---|---:|---:|"
    CASES.each do |name, work|
      rate = Array.new(REPEATS) { rate(seconds, work) }.sort[REPEATS / 2]
      puts format("| %<name>s | %<rate>d | %<cost>.2f |", name: name, rate: rate, cost: 1e6 / rate)
    end
  end

  # Calls per CPU-second of this process.
  def rate(seconds, work)
    (2 * BATCH).times { work.call }
    GC.start
    calls = 0
    start = cpu
    while cpu - start < seconds
      BATCH.times { work.call }
      calls += BATCH
    end
    calls / (cpu - start)
  end

  def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)

  def yjit? = defined?(RubyVM::YJIT) && RubyVM::YJIT.respond_to?(:enabled?) && RubyVM::YJIT.enabled?
end

Ceiling.run(Float(ARGV.fetch(0, 1.0)))
