# frozen_string_literal: true

# Where templates and partials are found.

require "iodine"
require "fileutils"
require "tmpdir"

RSpec.describe Iodine::Mustache, "files" do
  around { |example| Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } } }

  def write(files)
    files.each do |name, text|
      FileUtils.mkdir_p(File.dirname(name))
      File.write(name, text)
    end
  end

  def render(name, template = nil, data = {}) = described_class.render(name, data, template)

  it "are named with or without .mustache, the bare name first" do
    write("both" => "bare", "both.mustache" => "full", "one.mustache" => "one")
    expect(%w[both both.mustache one one.mustache].map { |name| render(name) }).to eq(%w[bare full one one])
  end

  it "may have absolute names" do
    write("views/a" => "{{>#{Dir.pwd}/parts/b}}", "parts/b.mustache" => "b {{>c}}", "parts/c" => "c")
    expect(render(File.join(Dir.pwd, "views/a"))).to eq("b c")
  end

  it "are looked for beside the template that names them, then beside those that include it" do
    write("views/page" => "{{>parts/list}}", "views/parts/list" => "list {{>item}} {{>foot}}",
          "views/parts/item" => "near", "views/item" => "far", "views/foot" => "foot", "foot" => "too far")
    expect(render("views/page")).to eq("list near foot")
  end

  it "are looked for in the working directory only if the including template has no directory" do
    write("views/page" => "{{>part}}", "page" => "{{>part}}", "part" => "here")
    expect(render("page")).to eq("here")
    expect { render("views/page") }.to raise_error(LoadError)
    expect(render(nil, "{{>part}}")).to eq("here")
    expect(render("page", "text {{>part}}")).to eq("text here")
    expect { render("views/page", "{{>part}}") }.to raise_error(LoadError)
  end

  it "of a text lie beside the file that it says to be" do
    write("views/part" => "part")
    expect(render("views/none", "{{>part}}")).to eq("part")
  end

  it "may be the text itself" do
    data = { n: 1, below: { n: 2, below: { n: 3, below: false } } }
    write("views/node.mustache" => "the file")
    [["views/node.mustache", "views/node.mustache"], ["views/node.mustache", "node"], %w[node node]].each do |name, partial|
      expect(render(name, "{{n}}{{#below}}{{>#{partial}}}{{/below}}", data)).to eq("123")
    end
  end

  it "may include themselves while the data lasts" do
    write("node" => "{{n}}{{#below}}({{>node}}){{/below}}")
    expect(render("node", nil, { n: 1, below: [{ n: 2, below: [] }, { n: 3, below: [{ n: 4, below: false }] }] }))
      .to eq("1(2)(3(4))")
  end

  it "may not include themselves for ever" do
    write("loop" => "{{>loop}}", "a" => "{{>b}}", "b" => "{{>a}}{{>a}}", "deep/loop" => "{{>../deep/loop}}")
    %w[loop a deep/loop].each do |name|
      template = described_class.new(name)
      expect { template.render({}) }.to raise_error(RuntimeError, "Couldn't build template frome data.")
    end
  end

  it "are found anew for each of those that include them" do
    write("page" => "{{>a/one}} {{>b/one}}", "a/one" => "{{>../common/x}}", "b/one" => "{{>../common/x}}",
          "common/x" => "{{>y}}", "a/y" => "from a", "b/y" => "from b")
    expect(render("page")).to eq("from a from b")
  end

  it "are read once, when the template is made" do
    write("page" => "{{>part}}", "part" => "before")
    template = described_class.new("page")
    write("part" => "after")
    expect(template.render({})).to eq("before")
  end

  it "begin with the usual delimiters and see every context" do
    write("part" => "{{a}}<%a%>{{b}}")
    expect(render(nil, "{{=<% %>=}}<%#inner%><%>part%><%/inner%>", { a: 1, inner: { b: 2 } })).to eq("1<%a%>2")
  end

  it "are indented as their tag is, wherever that is (F55)" do
    write("part" => "a\n{{b}}\n")
    expect(render(nil, "  {{>part}}\n{{>part}}\n\t{{>part}}\n-", { b: "b" })).to eq("  a\n  b\na\nb\n\ta\n\tb\n-")
    expect(render(nil, "  {{>part}}\n", { b: "1\n2" })).to eq("  a\n  1\n  2\n")
    expect(render(nil, "{{>part}}\n", { b: "1\n2" })).to eq("a\n1&#10;2\n")
  end

  it "that are missing are a LoadError, which knows their name" do
    Dir.mkdir("folder")
    ["none", "folder", "none/none", "a\0b"].each do |name|
      error = satisfy("tell the name") { |raised| raised.path == name }
      message = "Iodine::Mustache template not found."
      expect { described_class.new(name) }.to(raise_error(LoadError, message) { |raised| expect(raised).to error })
      expect { described_class.new(nil, "{{#a}}{{>#{name}}}{{/a}}") }
        .to(raise_error(LoadError, message) { |raised| expect(raised).to error })
    end
  end

  it "have names of 1 to 8191 bytes" do
    expect { described_class.new("") }.to raise_error(RuntimeError, "Iodine::Mustache template file name too long.")
    expect { described_class.new("a" * 8192) }.to raise_error(RuntimeError, "Iodine::Mustache template name too long.")
    expect { described_class.new("a" * 8191) }.to raise_error(LoadError)
  end

  it "are no pipes, which could keep a process waiting" do
    File.mkfifo("pipe")
    expect { described_class.new("pipe") }.to raise_error(LoadError)
  end
end
