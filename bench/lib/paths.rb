# frozen_string_literal: true

# Where things lie: this folder, the repository around it.
module Bench
  HERE = File.expand_path("..", __dir__)
  ROOT = File.expand_path("..", HERE)

  # Ends the command with a sentence on what is wrong.
  class Mistake < StandardError; end
end
