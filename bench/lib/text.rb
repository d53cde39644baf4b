# frozen_string_literal: true

module Bench
  # Figures as people read them.
  module Text
    module_function

    # About three significant digits, thousands apart: 12,345  87.6  1.23
    def number(value, digits = nil)
      return "-" if value.nil?

      whole, fraction = format("%.#{digits || digits_of(value)}f", value).split(".")
      [whole.gsub(/(\d)(?=(\d{3})+\z)/, '\1,'), fraction].compact.join(".")
    end

    # "1.23 (1.10-1.40)": the median of several figures, their least and their greatest.
    def spread(values)
      return "-" if values.empty?

      format("%<median>s (%<least>s-%<most>s)", median: number(median(values), 2),
                                                least: number(values.min, 2), most: number(values.max, 2))
    end

    def row(cells) = "| #{cells.map { |cell| cell.to_s.gsub('|', '/').gsub(/\s+/, ' ') }.join(' | ')} |"

    def median(values)
      sorted = values.sort
      middle = sorted.size / 2
      return sorted[middle] if sorted.size.odd?

      (sorted[middle - 1] + sorted[middle]) / 2.0 unless sorted.empty?
    end

    def digits_of(value)
      return 0 if value.is_a?(Integer) || value.abs >= 100

      value.abs >= 10 ? 1 : 2
    end
    private_class_method :digits_of
  end
end
