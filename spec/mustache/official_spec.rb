# frozen_string_literal: true

# The official specification, example by example. Those that we render differently stand here one by one.

require "iodine"
require "json"
require "tmpdir"

RSpec.describe Iodine::Mustache, "and the official specification" do
  specification = JSON.parse(File.read(File.join(__dir__, "official", "specification.json")))

  # We escape more bytes than the specification asks for; a browser shows the same.
  escaped_more = {
    "delimiters: Pair Behavior" => "(Hey&#33;)",
    "delimiters: Special Characters" => "(It&#32;worked&#33;)",
    "delimiters: Sections" =>
      "[\n  I&#32;got&#32;interpolated&#46;\n  |data|\n\n  {{data}}\n  I&#32;got&#32;interpolated&#46;\n]\n",
    "delimiters: Inverted Sections" =>
      "[\n  I&#32;got&#32;interpolated&#46;\n  |data|\n\n  {{data}}\n  I&#32;got&#32;interpolated&#46;\n]\n",
    "interpolation: HTML Escaping" => "These characters should be HTML escaped: &amp;&#32;&quot;&#32;&lt;&#32;&gt;\n",
    "interpolation: Basic Decimal Interpolation" => "\"1&#46;21 jiggawatts!\"",
    "interpolation: Interpolation - Surrounding Whitespace" => "| &#45;&#45;&#45; |",
    "interpolation: Interpolation - Standalone" => "  &#45;&#45;&#45;\n",
    "interpolation: Interpolation With Padding" => "|&#45;&#45;&#45;|",
    "partials: Inline Indentation" => "  &#124;  >\n>\n",
    "sections: Implicit Iterator - Decimal" => "\"(1&#46;1)(2&#46;2)(3&#46;3)(4&#46;4)(5&#46;5)\""
  }.freeze

  # As in 0.7: a missing partial is an error, and values of several lines are indented with their partial.
  otherwise = {
    "partials: Failed Lookup" => LoadError,
    "partials: Standalone Indentation" => "\\\n |\n <\n ->a b<\n ->c\n |\n/\n"
  }.freeze

  def render(example)
    Dir.mktmpdir do |folder|
      example.fetch("partials", nil)&.each { |name, text| File.write("#{folder}/#{name}.mustache", text) }
      described_class.render("#{folder}/example", example["data"], example["template"])
    end
  end

  specification.each do |part, examples|
    examples.each do |example|
      name = "#{part}: #{example["name"]}"
      expected = otherwise.fetch(name) { escaped_more.fetch(name, example["expected"]) }
      it "renders #{name}#{" differently" if expected != example["expected"]}" do
        next expect { render(example) }.to(raise_error(expected)) if expected.is_a?(Class)

        expect(render(example)).to eq(expected)
      end
    end
  end

  it "differs from it in no other example" do
    names = specification.flat_map { |part, examples| examples.map { |example| "#{part}: #{example["name"]}" } }
    expect(names.size).to eq(115)
    expect(names).to include(*escaped_more.keys, *otherwise.keys)
    expect([escaped_more.size, otherwise.size]).to eq([11, 2])
  end
end
