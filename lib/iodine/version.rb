# frozen_string_literal: true

# The gem's version. Required by the gemspec, so it must not load anything.

module Iodine
  # The version of this gem.
  VERSION = "0.8.0"
end
