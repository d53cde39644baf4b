# frozen_string_literal: true

module Bench
  # What a figure of our own server shall be. The figures are those that Outcome#figure knows.
  Goal = Struct.new(:figure, :bound, :limit, :label) do
    def self.at_least(figure, limit, label) = new(figure, :>=, limit, label)
    def self.at_most(figure, limit, label) = new(figure, :<=, limit, label)

    def met?(value) = value.public_send(bound, limit)

    # What is wanted: "work/CPU-s >= 9 x puma".
    def to_s = label.sub("?", "#{bound} #{limit.is_a?(Integer) ? Text.number(limit) : limit}")

    # What is wanted and what came of it.
    def verdict(value)
      return "#{self} (not measured)" if value.nil?

      "#{self}: #{Text.number(value)} #{met?(value) ? 'met' : 'MISSED'}"
    end
  end
end
