# frozen_string_literal: true

# How templates are made and rendered, and what is said about those that can not be.

require "iodine"
require "tmpdir"

RSpec.describe Iodine::Mustache do
  around { |example| Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } } }

  before { File.write("hello.mustache", "Hello, {{name}}!") }

  let(:data) { { name: "Ruby" } }

  it "is made by position or by name, from a file, a text or both" do
    [
      described_class.new("hello.mustache"), described_class.new("hello"), described_class.new("hello", nil),
      described_class.new(filename: "hello"), described_class.new({ filename: "hello" }),
      described_class.new(nil, "Hello, {{name}}!"), described_class.new(template: "Hello, {{name}}!"),
      described_class.new("none", "Hello, {{name}}!"), described_class.new(filename: "none", template: "Hello, {{name}}!")
    ].each { |template| expect(template.render(data)).to eq("Hello, Ruby!") }
  end

  it "renders at once by position or by name" do
    [
      described_class.render("hello", data), described_class.render("hello", data, nil),
      described_class.render(nil, data, "Hello, {{name}}!"), described_class.render("none", data, "Hello, {{name}}!"),
      described_class.render(filename: "hello", data: data),
      described_class.render(template: "Hello, {{name}}!", data: data),
      described_class.render(filename: "none", template: "Hello, {{name}}!", data: data)
    ].each { |text| expect(text).to eq("Hello, Ruby!") }
    expect(described_class.render(template: "Hello!")).to eq("Hello!")
  end

  it "renders nothing of an empty template or file" do
    File.write("empty", "")
    expect([described_class.render(nil, data, ""), described_class.render("empty", data)]).to eq(["", ""])
  end

  it "gives a new String each time" do
    template = described_class.new("hello")
    template.render(data) << "changed"
    expect(template.render(data)).to eq("Hello, Ruby!")
    expect(template.render(name: "you")).to eq("Hello, you!")
  end

  it "gives UTF-8, which goes with other text (F58)" do
    text = described_class.render(nil, { a: "ä" }, "é{{a}}")
    expect(text.encoding).to be(Encoding::UTF_8)
    expect("ü#{text}").to eq("üéä")
  end

  it "keeps its own copy of the text" do
    text = +"Hello, {{name}}!"
    template = described_class.new(nil, text)
    text.replace("changed")
    expect(template.render(data)).to eq("Hello, Ruby!")
  end

  it "takes a template in another encoding" do
    expect(described_class.render(nil, { "ä": "ü".encode("ISO-8859-1") }, "é{{ä}}".encode("UTF-16LE"))).to eq("éü")
  end

  it "can be copied and frozen" do
    copy = described_class.new("hello").dup.freeze
    GC.start
    expect(copy.render(data)).to eq("Hello, Ruby!")
  end

  it "refuses a wrong number of arguments" do
    message = "expecting 1..2 arguments or named arguments."
    expect { described_class.new }.to raise_error(ArgumentError, message)
    expect { described_class.new("a", "b", "c") }.to raise_error(ArgumentError, message)
    message = "expecting 2..3 arguments or named arguments."
    expect { described_class.render }.to raise_error(ArgumentError, message)
    expect { described_class.render("a", 1, "b", 2) }.to raise_error(ArgumentError, message)
  end

  it "refuses neither file nor text" do
    message = "need either template contents or file name."
    [-> { described_class.new(nil) }, -> { described_class.new(nil, nil) }, -> { described_class.new({}) },
     -> { described_class.render(nil, data) }, -> { described_class.render(data: data) }].each do |call|
      expect(&call).to raise_error(ArgumentError, message)
    end
  end

  it "refuses what is no String" do
    [-> { described_class.new(1) }, -> { described_class.new("hello", 1) }, -> { described_class.new(:hello) },
     -> { described_class.new(filename: 1) }, -> { described_class.new("hello", template: "x") },
     -> { described_class.render(1) }, -> { described_class.render("hello") },
     -> { described_class.render(nil, data, 1) }].each { |call| expect(&call).to raise_error(TypeError) }
  end

  it "does not render what was never made" do
    expect { described_class.allocate.render(data) }
      .to raise_error(RuntimeError, "Couldn't build template frome data.")
  end

  mismatch = "Iodine::Mustache template error, closure mismatch."
  too_long = "Iodine::Mustache new delimiter is too long."
  {
    "{{" => mismatch, "{{a}" => mismatch, "{{{a}}" => mismatch, "{{#a}}" => mismatch, "{{/a}}" => mismatch,
    "{{#a}}{{/b}}" => mismatch, "{{! a" => mismatch, "{{= =}}" => mismatch, "{{=a=}}" => mismatch,
    "{{=aaaaa b=}}" => too_long, "{{=a bbbbb=}}" => too_long,
    "{{>}}" => "Iodine::Mustache template file name too long.",
    "{{> }}" => "Iodine::Mustache template name too long.",
    "{{>#{"a" * 8192}}}" => "Iodine::Mustache template name too long.",
    "#{"{{#a}}" * 82}#{"{{/a}}" * 82}" => "Iodine::Mustache element nesting too deep."
  }.each do |text, message|
    it "refuses #{text[0, 30]}" do
      expect { described_class.new(nil, text) }.to raise_error(RuntimeError, message)
    end
  end

  it "refuses a tag without a name, and says no more than that (F51)" do
    ["{{}}", "{{ }}", "{{# }}{{/ }}", "{{{ }}}"].each do |text|
      expect { described_class.render(nil, {}, text) }
        .to raise_error(RuntimeError, "Iodine::Mustache template error, a tag has no name.")
    end
  end

  it "tells in the backtrace where a template is wrong" do
    File.write("outer", "{{>inner}}")
    File.write("inner.mustache", "a\n{{#b}}\nc")
    expect { described_class.new("outer") }
      .to raise_error(RuntimeError) { |error| expect(error.backtrace.first).to eq("inner.mustache:2") }
    expect { described_class.new(nil, "\n\n{{") }
      .to raise_error(RuntimeError) { |error| expect(error.backtrace[0..1]).to match(["(template):3", /#{__FILE__}/]) }
  end

  it "opens 80 sections within each other, and not one more" do
    nest = ->(depth) { "#{"{{#a}}" * depth}x#{"{{/a}}" * depth}" }
    expect(described_class.render(nil, { a: true }, nest.call(80))).to eq("x")
    template = described_class.new(nil, nest.call(81))
    expect { template.render(a: true) }.to raise_error(RuntimeError, "Couldn't build template frome data.")
    expect(template.render(a: false)).to eq("")
  end
end
