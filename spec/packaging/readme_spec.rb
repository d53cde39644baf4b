# frozen_string_literal: true

# The README against the program.

require "iodine"

RSpec.describe "README.md" do
  readme = File.read(File.expand_path("../../README.md", __dir__))

  Iodine::Base::CLI::OPTIONS.each do |option|
    it "tells of -#{option.name} and its other names" do
      rows = readme.lines.select { |line| line.start_with?("| `-") }
      expect(rows.join).to include("`-#{option.name}`")
      others = option.missing ? [] : option.names.drop(1)
      row = rows.find { |line| line.include?("`-#{option.name}`") }
      expect(row).to include(*others.map { |name| "`-#{name}`" }) if others.any?
    end
  end

  it "names only files that exist" do
    links = readme.scan(/\]\(([^)#]+)\)/).flatten.reject { |link| link.include?("://") }
    expect(links).to all(satisfy("exist") { |link| File.exist?(File.expand_path("../../#{link}", __dir__)) })
  end
end
