# frozen_string_literal: true

require_relative "lib/iodine/version"

Gem::Specification.new do |spec|
  spec.name = "iodine"
  spec.version = Iodine::VERSION
  spec.summary = "A fast Rack server for Ruby, in Rust."
  spec.description = "An HTTP server for Rack applications (Rails, Sinatra, Hanami and friends) with threads and " \
                     "processes, written in Rust. Takes the place of iodine 0.7: same constants, same flags."
  spec.authors = ["The iodine authors"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 3.1"
  # Its cargo builder came with 3.3.11.
  spec.required_rubygems_version = ">= 3.3.11"
  spec.metadata = { "rubygems_mfa_required" => "true" }

  # No git: the gem is also built from an unpacked archive. Cargo.lock is packed because RubyGems builds with --locked.
  spec.files = Dir.glob(%w[
    Cargo.toml Cargo.lock
    ext/*/Cargo.toml ext/**/*.rs ext/preflight/*.rb ext/sweep/*.rb
    lib/**/*.rb exe/iodine
    docs/**/*.md CHANGELOG.md LICENSE.txt README.md
  ], base: __dir__)
  spec.bindir = "exe"
  spec.executables = ["iodine"]
  spec.require_paths = ["lib"]
  # In this order: look for what cargo will need, build, sweep up.
  spec.extensions = ["ext/preflight/extconf.rb", "ext/iodine/Cargo.toml", "ext/sweep/extconf.rb"]
  # No dependency: Rack is the application's choice.
end
