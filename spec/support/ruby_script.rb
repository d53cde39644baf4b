# frozen_string_literal: true

require "open3"

# Runs a script in a Ruby of its own, for what can not be undone in this one.
module RubyScript
  # What the script, which has iodine, prints; on both streams. Fails if it fails.
  def output_of(script, *flags)
    lib = File.expand_path("../../lib", __dir__)
    # What comes by standard input is taken to be written in the locale's encoding, unless it says otherwise.
    script = "# encoding: utf-8\n#{script}"
    env = script.include?("GC.auto_compact") ? ServerProcess::KEEPS_HEAP_PAGES : {}
    output, status = Open3.capture2e(env, RbConfig.ruby, *flags, "-I#{lib}", "-riodine", "-", stdin_data: script)
    raise "the script failed:\n#{output}" unless status.success?

    output
  end

  # Random numbers, and a word that tells how to have them again.
  def self.random
    seed = Integer(ENV.fetch("IODINE_SPEC_SEED", Random.new_seed % 1_000_000))
    [Random.new(seed), "again with IODINE_SPEC_SEED=#{seed}"]
  end
end
