# frozen_string_literal: true

# The first "extension" of the gem. It builds nothing: RubyGems runs it before it hands ext/iodine to cargo, so that a
# missing tool ends in one sentence rather than in pages of a compiler's output. See preflight.rb.

require_relative "preflight"

preflight = Preflight.new
complaint = preflight.complaint
# The way out for a machine whose tools lie where the preflight does not think of looking.
abort(complaint) if complaint && ENV["IODINE_SKIP_PREFLIGHT"].to_s.empty?

preflight.write_features(File.expand_path("../iodine/Cargo.toml", __dir__))

# RubyGems goes on to run `make clean`, `make` and `make install`.
File.write("Makefile", "all clean install:\n\t@:\n.PHONY: all clean install\n")
