# frozen_string_literal: true

require_relative "answer_check"

module Bench
  # Takes one sample of one server under one workload: starts it, checks an answer, measures, stops it. The kinds
  # are in measurements/; each says what its sample means by the columns of its table.
  class Measurement
    # title: its column's head; text: what stands there for a server, from an Outcome and the server's Result.
    Column = Struct.new(:title, :text)

    def self.column(title, digits = nil, &figure)
      Column.new(title, ->(outcome, result) { Text.number(figure.call(outcome, result), digits) })
    end

    # A column with the median of a figure of the samples.
    def self.median_column(title, key, digits = nil) = column(title, digits) { |_, result| result.median(key) }

    def self.ratio_column(outcome)
      Column.new("x #{outcome.baseline} (min-max)", ->(_, result) { Text.spread(outcome.ratios(result, :rate)) })
    end

    # What of a sample is told while the run goes on.
    def self.headline(sample) = sample

    # How many rounds are worth it.
    def self.rounds(settings) = settings.rounds

    def initialize(server, workload, settings)
      @server = server
      @workload = workload
      @settings = settings
    end

    # A Hash of figures.
    def sample
      @server.start(@workload)
      AnswerCheck.new(@server, @workload).run if @workload.http?
      measure
    ensure
      @server.stop
    end

    private

    def tree = @server.tree
    def loadgen = @settings.loadgen
  end
end
