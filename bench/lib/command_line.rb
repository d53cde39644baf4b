# frozen_string_literal: true

require "shellwords"
require_relative "paths"

module Bench
  # A server's command from servers.txt, with its placeholders replaced.
  class CommandLine
    ASSIGNMENT = /\A([A-Za-z_]\w*)=(.*)\z/m

    # values: the placeholders' names and what they stand for.
    def initialize(template, values, scratch, owner)
      @values = values
      @scratch = scratch
      @owner = owner
      @argv = Shellwords.split(template).map { |word| expand(word) }
      @env = {}
      while (assignment = @argv.first&.match(ASSIGNMENT))
        @env.store(*assignment.captures)
        @argv.shift
      end
    end

    attr_reader :argv, :env

    private

    def expand(text)
      text.gsub(/\{render:([^}]+)\}/) { render(Regexp.last_match(1)) }
          .gsub(/\{env:(\w+)\}/) { ENV.fetch(Regexp.last_match(1)) }
          .gsub(/\{(#{@values.keys.join('|')})\}/) { @values[Regexp.last_match(1)].to_s }
    end

    # The path of a copy of a configuration file, with the placeholders in it replaced.
    def render(file)
      target = @scratch.file("#{@owner}-#{File.basename(file)}")
      File.write(target, expand(File.read(File.expand_path(file, HERE))))
      target
    end
  end
end
