# frozen_string_literal: true

# What names mean, and what becomes of values.

require "iodine"
require "ostruct"
require "set"

RSpec.describe Iodine::Mustache, "values" do
  def render(template, data) = described_class.render(nil, data, template)

  # An exception must end in the log, not here.
  def logged(pattern, &block) = expect(&block).to(output(pattern).to_stderr_from_any_process)

  describe "names" do
    it "are Symbols before Strings before methods of a Hash" do
      expect(render("{{a}}{{b}}{{size}}", { a: 1, "a" => 2, "b" => 3 })).to eq("133")
      expect(render("{{size}}", { size: "L" })).to eq("L")
      expect(render("{{size}}", { "size" => "M" })).to eq("M")
    end

    it "go on outside when they are nil, and end when they are false" do
      expect(render("{{#in}}{{a}}{{/in}}", { a: 1, in: { a: nil } })).to eq("1")
      expect(render("{{#in}}{{a}}{{/in}}", { a: 1, in: { a: nil, "a" => 2 } })).to eq("1")
      expect(render("{{#in}}[{{a}}]{{/in}}", { a: 1, in: { a: false } })).to eq("[]")
      expect(render("{{#in}}[{{size}}]{{/in}}", { size: 7, in: { size: nil } })).to eq("[7]")
    end

    it "are looked for in every context, from the inside" do
      expect(render("{{#a}}{{#b}}{{x}}{{y}}{{z}}{{/b}}{{/a}}", { z: 3, a: { y: 2, z: 0, b: { x: 1 } } })).to eq("120")
    end

    it "know nothing of default values and default procs" do
      called = false
      expect(render("[{{nope}}]", Hash.new { called = true })).to eq("[]")
      expect(render("[{{nope}}]", Hash.new("default"))).to eq("[]")
      expect(called).to be(false)
    end

    it "may be of any script (F53), or no text at all" do
      expect(render("{{é}}{{名前}}", { "é" => 1, "名前": 2 })).to eq("12")
      expect(render("{{\xff}}".b, { "\xff" => 1 })).to eq("1")
    end

    it "with dots are looked for as a whole, then by their head, then by the rest, then by segments" do
      expect(render("{{a.b.c}}", { "a.b.c": 1, a: { b: { c: 2 } } })).to eq("1")
      expect(render("{{a.b.c}}", { a: { "b.c" => 3, b: { c: 2 } } })).to eq("3")
      expect(render("{{a.b.c}}", { a: { b: { c: 2 } } })).to eq("2")
      expect(render("{{#in}}{{a.b}}{{/in}}", { a: { b: 1 }, in: { a: { b: 2 } } })).to eq("2")
      expect(render("[{{#in}}{{a.b}}{{/in}}]", { a: { b: 1 }, in: { a: {} } })).to eq("[]")
      expect(render("{{a.upcase.reverse}} {{a.class.to_s}}", { a: "abc" })).to eq("CBA String")
    end

    it "do not index Arrays, nor Hashes by number" do
      expect(render("[{{a.0}}{{0}}]", { a: [1], 0 => 2 })).to eq("[]")
    end

    it "are no methods of what is not there (F57)" do
      expect(render("[{{nope.class.to_s}}{{a.to_s.size}}{{a.inspect}}]", { a: nil })).to eq("[]")
    end

    it "leave no Symbols behind" do
      before = Symbol.all_symbols.size
      1_000.times { |number| render("{{never_seen_before_#{number}}}{{n#{number}.o#{number}}}", { a: 1 }) }
      GC.start
      expect(Symbol.all_symbols.size).to be < before + 500
    end
  end

  describe "methods" do
    let(:type) do
      Class.new do
        attr_accessor :title

        def initialize(title) = @title = title
        def needs(argument) = argument
        def fails = raise("on purpose")
        def self_titled = "#{title}!"

        protected def hidden = 1

        private def secret = 1
      end
    end

    it "of objects are called" do
      expect(render("{{#list}}{{title}} {{self_titled}},{{/list}}", { list: [type.new("a"), type.new("b")] }))
        .to eq("a a&#33;,b b&#33;,")
      expect(render("{{title}}", type.new("root"))).to eq("root")
      expect(render("{{o.title}} {{s.name}} {{e.name}}",
                    { o: type.new("x"), s: Struct.new(:name).new("y"), e: OpenStruct.new(name: "z") })).to eq("x y z")
    end

    it "are found by respond_to_missing? too" do
      ghost = Class.new do
        def respond_to_missing?(name, _all) = name.end_with?("_ghost")
        def method_missing(name) = "boo #{name.size}"
      end
      expect(render("{{{a.never_used_ghost}}} [{{{a.never_used_guest}}}]", { a: ghost.new })).to eq("boo 16 []")
    end

    it "that are private or protected are not" do
      expect(render("[{{a.secret}}{{a.hidden}}{{a.puts}}{{a.exit}}{{exit}}]", { a: type.new("x") })).to eq("[]")
    end

    it "that need an argument are logged, and render nothing" do
      logged(/ArgumentError/) { expect(render("[{{a.needs}}]", { a: type.new("x") })).to eq("[]") }
    end

    it "of a Hash that need an argument are passed over" do
      expect(render("{{#in}}{{key}}{{/in}}", { key: "outer", in: { a: 1 } })).to eq("outer")
    end

    it "that raise are logged, and render nothing" do
      logged(/RuntimeError: on purpose/) do
        expect(render("[{{a.fails}}{{#a.fails}}x{{/a.fails}}{{^a.fails}}-{{/a.fails}}]", { a: type.new("x") })).to eq("[-]")
      end
    end

    it "that change what they belong to are not called (F57)" do
      data = { a: [3, 1, 2], b: +"text", c: { d: 1 }, e: Set[1] }
      render("{{a.clear}}{{a.pop}}{{a.shift}}{{a.sort!}}{{b.clear}}{{b.upcase!}}{{c.shift}}{{c.clear}}{{clear}}{{e.clear}}" \
             "{{a.freeze}}{{b.freeze}}{{c.compare_by_identity}}{{shift}}{{#a}}{{a.clear}}{{/a}}", data)
      expect(data).to eq({ a: [3, 1, 2], b: "text", c: { d: 1 }, e: Set[1] })
      expect(data.values.map(&:frozen?)).to eq([false] * 4)
      expect(data[:c]).not_to be_compare_by_identity
      expect { render("{{a.display}}", data) }.not_to output.to_stdout_from_any_process
      own = Class.new { def clear = "of the object's own" }.new
      expect(render("{{{a.clear}}}", { a: own })).to eq("of the object's own")
    end

    it "of nil are not called, though nil may be an element" do
      expect(render("{{#a}}[{{to_i}}{{.}}]{{/a}}", { a: [nil] })).to eq("[]")
    end
  end

  describe "rendered" do
    it "are text, or what to_s makes of them" do
      data = { nil: nil, no: false, yes: true, text: "a b", number: -12, big: 2**80, float: 1.5, symbol: :x, list: [1, "a"],
               hash: { a: 1 }, range: (1..3), set: Set[1] }
      expect(render("[{{{nil}}}{{{no}}}]", data)).to eq("[]")
      expect(render("{{yes}}{{{yes}}}", data)).to eq("truetrue") # F54: once for each tag
      %i[text number big float symbol list hash range set].each do |name|
        expect(render("{{{#{name}}}}", data)).to eq(data[name].to_s)
      end
      expect(render("{{a}}", { a: Class.new { def to_s = "<x>" }.new })).to eq("&lt;x&gt;")
      expect(render("{{a}} {{b}}", { a: 4_611_686_018_427_387_903, b: -4_611_686_018_427_387_904 }))
        .to eq("4611686018427387903 &#45;4611686018427387904")
    end

    it "are called if they can be" do
      callable = Class.new { def call = "called" }.new
      expect(render("{{a}} {{b}} {{c}}", { a: -> { "<" }, b: callable, c: 5.method(:succ) })).to eq("&lt; called 6")
      count = 0
      expect(render("{{a}}{{a}}{{a}}", { a: -> { count += 1 } })).to eq("123")
      logged(/ArgumentError/) { expect(render("[{{a}}]", { a: ->(text) { text } })).to eq("[]") }
    end

    it "are escaped by the table of 0.7, or not at all" do
      text = (0..127).map(&:chr).join.delete("\x7f")
      named = { '"' => "&quot;", "&" => "&amp;", "'" => "&apos;", "<" => "&lt;", ">" => "&gt;" }
      expected = text.gsub(/[^0-9A-Za-z{}~]/) { |char| named.fetch(char) { "&##{char.ord};" } }
      ["{{a}}", "{{:a}}", "{{<a}}", "{{ a }}"].each { |tag| expect(render(tag, { a: text })).to eq(expected) }
      ["{{{a}}}", "{{&a}}", "{{{ a }}}", "{{& a }}"].each { |tag| expect(render(tag, { a: text })).to eq(text) }
      expect(render("{{a}}", { a: "\x7fé€𝄞" })).to eq("\x7fé€𝄞")
      expect(render("{{a}}", { a: "\xff\x80".b }).b).to eq("\xff\x80".b)
    end

    it "are converted from other encodings; what can not be is logged" do
      data = { latin: "ü".encode("ISO-8859-1"), wide: "ü€".encode("UTF-16LE"), bad: (+"\xff\xff").force_encoding("EUC-JP") }
      expect(render("{{latin}}{{wide}}", data)).to eq("üü€")
      logged(/InvalidByteSequenceError/) { expect(render("[{{bad}}]", data)).to eq("[]") }
    end

    it "survive a to_s that fails or is none" do
      data = { a: Class.new { def to_s = raise("no text") }.new, b: Class.new { def to_s = 1 }.new, c: BasicObject.new }
      logged(/no text/) { expect(render("[{{a}}]", data)).to eq("[]") }
      expect(render("{{b}}", data)).to start_with("&#35;&lt;")
      logged(/NoMethodError/) { expect(render("[{{c}}]", data)).to eq("[]") }
    end

    it "may be long, and hold NUL bytes (F52, F56)" do
      [65_535, 65_536, 65_537].each { |length| expect(render("y" * length, {})).to eq("y" * length) }
      expect(render("a\0b{{a}}", { a: "\0" })).to eq("a\0b&#0;")
      expect(render("{{{a}}}", { a: "x" * 1_000_000 }).size).to eq(1_000_000)
    end
  end

  describe "sections" do
    {
      nil => 0, false => 0, [] => 0, true => 1, 0 => 1, "" => 1, "x" => 1, 1.5 => 1, :a => 1, {} => 1, { a: 1 } => 1,
      (1..3) => 1, Set[1, 2] => 1, [1] => 1, [nil, false, 3] => 3, [[], []] => 2
    }.each do |value, times|
      it "over #{value.inspect} render #{times} times, inverted #{times.zero? ? 1 : 0}" do
        expect(render("{{#a}}x{{/a}}", { a: value })).to eq("x" * times)
        expect(render("{{^a}}x{{/a}}", { a: value })).to eq(times.zero? ? "x" : "")
      end
    end

    it "over what is missing render inverted" do
      expect(render("{{#a}}x{{/a}}{{^a}}y{{/a}}", {})).to eq("y")
    end

    it "over Arrays have each element as context" do
      expect(render("{{#a}}<{{.}}>{{/a}}", { a: [1, "b", nil, false, :c] })).to eq("<1><b><><><c>")
      expect(render("{{#a}}{{#.}}{{.}}{{/.}};{{/a}}", { a: [[1, 2], [], [3]] })).to eq("12;;3;")
      expect(render("{{#a}}{{b}}{{c}} {{/a}}", { a: [{ b: 1 }, { "b" => 2, c: 3 }], c: 9 })).to eq("19 23 ")
    end

    it "over other values leave the context alone" do
      expect(render("{{#a}}[{{.}}{{size}}]{{/a}}", { a: "text" })).to eq("[1]")
    end

    it "over lambdas give them the text, and take what they say" do
      asked = []
      data = { name: "x", a: ->(text) { asked << text; "<#{text}>" } }
      expect(render("{{#a}} {{name}} {{/a}}{{#a}}{{/a}}{{^a}}no{{/a}}", data)).to eq("< {{name}} ><>")
      expect(asked).to eq([" {{name}} ", nil])
      expect(render("{{#a}}é{{/a}}", { a: :encoding.to_proc })).to eq("UTF-8")
      expect(render("[{{#a}}x{{/a}}]", { a: ->(_) {} })).to eq("[]")
      logged(/ZeroDivisionError/) { expect(render("[{{#a}}x{{/a}}]", { a: ->(_) { 1 / 0 } })).to eq("[]") }
    end
  end
end
