# frozen_string_literal: true

# Templates whose data does its worst: it collects garbage, moves it, changes, raises, throws, kills and waits.

require "iodine"
require "timeout"

RSpec.describe Iodine::Mustache, "safety" do
  # A template and its data: here, and in processes whose collector is busy.
  made = <<~'RUBY'
    TEXT = <<~MUSTACHE
      {{title}} {{{missing}}}
      {{#people}}
        {{name}} {{email.upcase}} {{#tags}}{{.}},{{/tags}}{{^tags}}none{{/tags}} {{title}} {{shout}}
      {{/people}}
      {{#loud}}some {{raw}} text{{/loud}}
    MUSTACHE

    def data
      person = Struct.new(:name, :email, :tags, :shout)
      { "title" => "People #{1 + 1}",
        people: Array.new(5) do |n|
          [{ name: "a#{n}", email: "x#{n}", tags: [n.to_s * 3, n.to_f], shout: -> { "#{n}!" } },
           person.new("b#{n}", "y#{n}", [], :"shout_#{n}")]
        end.flatten(1),
        loud: ->(text) { text.upcase * 2 } }
    end
  RUBY
  class_eval(made)

  let(:template) { described_class.new(nil, self.class::TEXT) }
  let!(:expected) { template.render(data) }

  # Has a process of its own render, and say "right" each time that this comes to what it should. The collector of this one
  # goes through all that the specs have loaded, which is a matter of half a minute on a busy machine.
  define_method(:right_in_a_process) do |code|
    process = start_script(<<~RUBY)
      # encoding: utf-8
      require "iodine"
      GC.auto_compact = false if GC.respond_to?(:auto_compact=)
      #{made}
      TEMPLATE = Iodine::Mustache.new(nil, TEXT)
      EXPECTED = #{expected.dump}.force_encoding("UTF-8")
      def render(data, text) = Iodine::Mustache.render(nil, data, text)
      def compare(text, expected = EXPECTED) = say(text == expected ? "right" : "wrong: \#{text.inspect}")
      #{code}
    RUBY
    expect(process.wait(50)).to be_success, process.log
    process.said
  end

  it "renders right under GC.stress", :gc_stress do
    expect(right_in_a_process(<<~'RUBY')).to eq(%w[right right])
      GC.stress = true
      first = TEMPLATE.render(data)
      other = { list: [{ a: { b: 1.5 } }, :x, 2**70], c: "c" }
      second = render(other, "{{#list}}{{a.b}} {{c}} {{#a}}{{b}}{{/a}};{{/list}}")
      GC.stress = false
      compare(first)
      compare(second, "1&#46;5 c 1&#46;5; c ; c ;")
    RUBY
  end

  it "renders right while memory is compacted", :gc_stress do
    skip "this Ruby can not compact" unless GC.respond_to?(:compact)

    expect(right_in_a_process(<<~'RUBY')).to eq(["right"] * 21)
      moving = { people: Array.new(50) { |n| { name: -> { GC.compact && "n#{n}" }, email: "e", tags: ["t#{n}"] } } }
      text = render(moving, "{{#people}}{{name}}{{#tags}}{{.}}{{/tags}}{{email}} {{/people}}")
      compare(text, Array.new(50) { |n| "n#{n}t#{n}e " }.join)
      GC.auto_compact = true
      20.times do
        GC.start
        compare(TEMPLATE.render(data))
      end
    RUBY
  end

  it "keeps nothing alive but its names" do
    templates = Array.new(50) { |n| described_class.new(nil, "{{some_name_#{n}}}") }
    GC.start
    GC.compact if GC.respond_to?(:compact)
    expect(templates.map.with_index { |one, n| one.render("some_name_#{n}": n) }).to eq((0...50).map(&:to_s))
  end

  it "serves several threads with one template" do
    threads = Array.new(8) do |number|
      Thread.new do
        Array.new(50) do |turn|
          name = lambda do
            Thread.pass
            "#{number}/#{turn}"
          end
          template.render(title: "t", people: [{ name: name, email: "", tags: [] }])[/\d+&#47;\d+/]
        end
      end
    end
    expect(threads.map(&:value)).to eq(Array.new(8) { |number| Array.new(50) { |turn| "#{number}&#47;#{turn}" } })
  end

  it "renders within a rendering" do
    data = { n: 1 }
    data[:again] = -> { (data[:n] += 1) < 20 ? described_class.render(nil, data, "<{{{again}}}>") : "end" }
    expect(described_class.render(nil, data, "{{{again}}}")).to eq("#{"<" * 18}end#{">" * 18}")
  end

  it "survives data that changes meanwhile" do
    list = Array.new(10) { |n| { n: n } }
    cut = { list: list, cut: -> { list.clear && "" } }
    expect(described_class.render(nil, cut, "{{#list}}{{n}}{{cut}}{{/list}}")).to eq("0")
    grown = [1]
    grow = { list: grown, grow: -> { grown << 1 && "" } }
    expect(described_class.render(nil, grow, "{{#list}}{{.}}{{grow}}{{/list}}")).to eq("1")
    hash = { a: 1, b: 2 }
    hash[:gone] = -> { hash.clear && "" }
    expect(described_class.render(nil, hash, "{{a}}{{gone}}[{{a}}{{b}}]")).to eq("1[]")
    text = +"long " * 1000
    change = Class.new { define_method(:to_s) { text.replace("short") } }.new
    expect(described_class.render(nil, { text: text, change: change }, "{{{change}}} {{{text}}}")).to eq("short short")
  end

  it "passes on what is no ordinary exception, and renders on afterwards" do
    render = ->(value) { described_class.render(nil, { list: [1, 2], bad: value }, "{{#list}}{{bad}}{{/list}}") }
    expect(catch(:out) { render.call(-> { throw :out, :thrown }) }).to eq(:thrown)
    expect { render.call(-> { exit 3 }) }.to raise_error(SystemExit)
    expect { render.call(-> { raise Interrupt }) }.to raise_error(Interrupt)
    expect { render.call(-> { raise NoMemoryError }) }.to raise_error(NoMemoryError)
    thread = Thread.new { render.call(-> { Thread.current.kill }) }
    expect(thread.value).to be_nil
    expect(template.render(data)).to eq(expected)
  end

  it "can be interrupted by a timeout or a kill, though it never calls anything" do
    list = Array.new(10) { nil }
    12.times { list = Array.new(10, list) }
    endless = described_class.new(nil, "#{"{{#l}}" + "{{#.}}" * 12}x#{"{{/.}}" * 12}{{/l}}")
    expect { Timeout.timeout(0.2) { endless.render(l: list) } }.to raise_error(Timeout::Error)
    thread = Thread.new { endless.render(l: list) }
    thread.kill
    expect(thread.join(30)).to eq(thread)
  end

  it "does not grow with what it renders" do
    resident = -> { File.read("/proc/self/statm").split[1].to_i * 4096 }
    skip "no /proc" unless File.exist?("/proc/self/statm")
    leaving = { a: "x" * 100_000, b: -> { throw :out } }
    turn = -> { 200.times { catch(:out) { described_class.render(nil, leaving, "{{a}}{{b}}") } } }
    2.times { turn.call }
    GC.start
    before = resident.call
    3.times { turn.call }
    GC.start
    expect(resident.call - before).to be < 20_000_000
  end
end
