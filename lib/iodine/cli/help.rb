# frozen_string_literal: true

# The help text of the `iodine` command, made from the table of options.

module Iodine
  module Base
    module CLI
      # @api private
      class Help
        EXAMPLES = [
          ["-p 3000", "serves config.ru on port 3000"],
          ["-p 8080 -t 8 -w 4 my_app.ru", "four processes with eight threads each"],
          ["-t 16 -w -1", "a process for almost every core"],
          ["-b ./iodine.sock -pid ./iodine.pid", "on a Unix socket, with a pid file"]
        ].freeze
        PLACEHOLDER = { text: " <>", number: " ##", switch: "" }.freeze
        # Wide enough for all but the longest spellings, which get a line of their own.
        COLUMN = 32
        BOLD = 1
        UNDERLINE = 4

        # @param stream [IO] where it will go: only a terminal gets bold and underlined words
        def initialize(stream)
          @styled = stream.respond_to?(:tty?) && stream.tty? && !ENV.key?("NO_COLOR")
        end

        # @return [String]
        def text
          [heading, usage, *GROUPS.map { |group| group_text(group) }, closing].join("\n")
        end

        private

        def heading
          "#{style("iodine #{Iodine::VERSION}", BOLD)}, a web server for Ruby\n"
        end

        def usage
          width = EXAMPLES.map { |arguments, _| arguments.size }.max
          lines = EXAMPLES.map { |arguments, what| "  iodine #{arguments.ljust(width)}  #{what}\n" }
          "Usage: iodine <options> <filename>\n\n#{lines.join}"
        end

        def group_text(group)
          lines = [style(group.title, UNDERLINE), *group.options.map { |option| option_text(option) }]
          lines << "  #{group.remark}" if group.remark
          lines.join("\n") << "\n"
        end

        def option_text(option)
          spelled = "  #{spellings(option).join(", ")}#{PLACEHOLDER[option.type]}"
          gap = spelled.size < COLUMN ? " " * (COLUMN - spelled.size) : "\n#{" " * COLUMN}"
          "#{style(spelled, BOLD)}#{gap}#{option.note}#{facts(option)}"
        end

        def spellings(option)
          option.names.map { |name| "-#{name}" } + (option.doubled || []).map { |name| "--#{name}" }
        end

        def facts(option)
          facts = []
          facts << "default: #{option.default}" if option.default
          facts << "variable: #{option.environment}" if option.environment
          " (#{facts.join("; ")})" unless facts.empty?
        end

        def closing
          <<~TEXT
            <> stands for text, ## for a whole number. A value may follow its option or be
            joined to it: -p 3000, -p=3000, -p3000. Long names may also be written with two dashes:
            --port 3000, --port=3000. A lone -- ends the options.
            -version prints the version; -h, -help, --help and -? print this text.
          TEXT
        end

        def style(text, code)
          @styled ? "\e[#{code}m#{text}\e[0m" : text
        end
      end
    end
  end
end
