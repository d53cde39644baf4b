# frozen_string_literal: true

# Iodine::JSON as 0.7 had it, without its faults, and as JSON.parse after Iodine.patch_json.

require "iodine"
require "json"
require_relative "../support/ruby_script"

RSpec.describe Iodine::JSON do
  include RubyScript

  def parse(text, *options) = described_class.parse(text, *options)

  # So that NaN equals NaN, -0.0 does not equal 0.0, and 1 is not 1.0.
  def self.exact(value) = [value.inspect, value.class]

  malformed = ["Malformed JSON format.", Iodine::JSON::ParserError]

  describe "what 0.7 took" do
    {
      "{}" => {}, "[]" => [], "null" => nil, "true" => true, '""' => "", "5" => 5, "-5" => -5,
      '{"a":[1,2.5,"x",null,true,false,{"b":{}}]}' => { "a" => [1, 2.5, "x", nil, true, false, { "b" => {} }] },
      "[1,]" => [1], "[,]" => [], "{,}" => {}, "[1,,2]" => [1, 2], "[1 2]" => [1, 2], '{"a":1 "b":2,}' => { "a" => 1, "b" => 2 },
      '{"a":}' => { "a" => nil }, '{"a":1,"a":2}' => { "a" => 2 },
      "# c\n1" => 1, "// c\n1" => 1, "/* c */1" => 1, "[1, # c\n2]" => [1, 2], "[1] // c" => [1],
      "0x1F" => 31, "x1F" => 31, "0b101" => 5,
      ".5" => 0.5, "5." => 5.0, "1e5" => 100_000.0, "1e999" => Float::INFINITY, "NaN" => Float::NAN, "nan" => Float::NAN,
      "Infinity" => Float::INFINITY, "inf" => Float::INFINITY, "Null" => nil,
      "\"a\nb\0\"" => "a\nb\0", '"\x41\12\q"' => "A\nq"
    }.each do |text, value|
      it("takes #{text.dump}") { expect(self.class.exact(parse(text))).to eq(self.class.exact(value)) }
    end
  end

  describe "what 0.7 refused" do
    ["", " ", "'a'", "{a: 1}", "+5", "NULL", "True", "\uFEFF1", "1_000", "[", "{", '{"a"', '{"a":', '"', '"\\', "[1", "tru",
     "{1:2}", "]", "/* c", "# 1"].each do |text|
      it "refuses #{text.dump}" do
        expect { parse(text) }.to raise_error(EncodingError, "Malformed JSON format.")
      end
    end
  end

  describe "what 0.7 got wrong" do
    {
      "F-47: false" => ["false", false], "F-47: a negative infinity" => ["[-Infinity]", [-Float::INFINITY]],
      "F-48: adjacent escapes" => ['"\u00e9\u00ea\u0041\u0042"', "éêAB"], "F-48: surrogates" => ['"\ud83d\ude00"', "😀"],
      "F-48: half a pair" => ['"\ud83d"', "\uFFFD"], "F-49: keys" => ['{"é":"ü"}', { "é" => "ü" }],
      "F-50: big integers" => ["[9223372036854775808,-9223372036854775809]", [2**63, -(2**63) - 1]],
      "F-50: bigger integers" => ["-#{"7" * 300}", -("7" * 300).to_i], "F-50: wide integers" => [(2**128).to_s, 2**128],
      "F-50: hexadecimal ones" => ["0xFFFFFFFFFFFFFFFF", (2**64) - 1],
      "F-50: bigger hexadecimal ones" => ["-0x1#{"0" * 60}", -(16**60)]
    }.each do |what, (text, value)|
      it(what) { expect(self.class.exact(parse(text))).to eq(self.class.exact(value)) }
    end

    it "F-49: Strings are UTF-8, keys are frozen and values are not" do
      hash = parse('{"é":"ü","a":"b"}'.b)
      expect([*hash.keys, *hash.values].map(&:encoding).uniq).to eq([Encoding::UTF_8])
      expect(hash.keys).to all(be_frozen)
      expect(hash.values.map(&:frozen?)).to eq([false, false])
      expect(hash.keys.last).to equal(parse('{"a":1}').keys.first)
    end

    it "F-49: names can be Symbols" do
      expect(parse('{"é":{"b c":[{"":1}]}}', symbolize_names: true)).to eq({ é: { "b c": [{ "": 1 }] } })
      expect(parse('{"a":1}')).to eq({ "a" => 1 })
      expect(parse('{"a":1}', symbolize_names: 1)).to eq({ "a" => 1 })
    end

    it "F-50: nesting goes to 100 levels" do
      [["[", "]"], ['{"a":', "}"]].each do |open, close|
        nested = ->(depth) { "#{open * (depth - 1)}[]#{close * (depth - 1)}" }
        expect { parse(nested[100]) }.not_to raise_error
        expect { parse(nested[101]) }.to raise_error(EncodingError)
        expect { parse(open * 500_000) }.to raise_error(EncodingError)
      end
    end

    it "F-50: there is one document in a text, and 010 is none" do
      ["1 2", "[1]]", '{"a":1}x', "010", "-017", "08"].each do |text|
        expect { parse(text) }.to raise_error(*malformed.reverse)
      end
    end

    it "what does not end, ends" do
      ["[", "{\"a\":[1,{\"b\":\"\\u00", "[1,2,/*", "//", "\"\\", "[#", "\"\\ud83d\\u", "-", "0x", "[,,,", "nul"].each do |text|
        [text, text * 20_000].each { |hostile| expect { parse(hostile) }.to raise_error(EncodingError) }
      end
    end
  end

  describe "text" do
    it "is refused when it is not UTF-8" do
      ["\"\xFF\"", "\"\xC3\"", "\"\xED\xA0\x80\"", "{\"\xC0\x80\":1}"].each do |text|
        [text, text.b].each { |source| expect { parse(source) }.to raise_error(EncodingError) }
      end
    end

    it "is converted from other encodings" do
      expect(parse('["é€"]'.encode("UTF-16LE"))).to eq(["é€"])
      expect(parse('["é"]'.encode("ISO-8859-1"))).to eq(["é"])
      expect { parse("[\"\xFF\xFF\"]".dup.force_encoding("EUC-JP")) }.to raise_error(EncodingError)
    end

    it "keeps bytes that were meant as such" do
      expect([parse('"\xff\x00"'), parse('"\xff"').encoding]).to eq(["\xFF\0".b, Encoding::BINARY])
      expect([parse('"\xc3\xa9"'), parse('"\xc3\xa9"').encoding]).to eq(["é", Encoding::UTF_8])
      expect(parse('{"\xff":1}')).to eq({ "\xFF".b => 1 })
    end

    it "is not changed, and may be frozen" do
      text = '{"a":"b\u00e9"}'
      expect { parse(text.dup.freeze) }.not_to raise_error
      expect(text).to eq('{"a":"b\u00e9"}')
    end
  end

  describe "options" do
    it "choose the depth" do
      expect { parse("[[]]", max_nesting: 1) }.to raise_error(EncodingError)
      expect(parse("[[]]", max_nesting: 2)).to eq([[]])
      [0, nil, false, -1, 2**70].each { |none| expect(parse("[" * 500 + "]" * 500, max_nesting: none).flatten).to eq([]) }
      expect { parse("[]", max_nesting: "1") }.to raise_error(TypeError, "wrong argument type String (expected Integer)")
    end

    it "choose what is taken" do
      expect { parse("[NaN]", allow_nan: false) }.to raise_error(EncodingError)
      ["[1,]", "# \n1", ".5", "NaN", '"\q"', "\"\n\"", '"\ud83d"'].each do |text|
        expect { parse(text, strict: true) }.to raise_error(EncodingError)
        expect { parse(text, strict: false) }.not_to raise_error
      end
    end

    it "that are not there yet are warned of" do
      %i[create_additions object_class array_class].each do |name|
        expect { expect(parse("{}", name => Hash)).to eq({}) }.to output("Iodine::JSON ignores the option #{name}.\n").to_stderr
        expect { parse("{}", name => nil) }.not_to output.to_stderr
      end
    end
  end

  it "wants a String and perhaps a Hash" do
    {
      [] => "function requires at least one argument.", [1, 2, 3] => "function requires supports up to two arguments.",
      [nil] => "wrong argument type nil (expected String)", [:a] => "wrong argument type Symbol (expected String)",
      ["1", nil] => "wrong argument type nil (expected Hash)", ["1", 2] => "wrong argument type Integer (expected Hash)"
    }.each { |arguments, message| expect { described_class.parse(*arguments) }.to raise_error(TypeError, message) }
  end

  it "has parse! do the same" do
    expect(described_class.parse!('{"a":1,}', symbolize_names: true)).to eq({ a: 1 })
    expect { described_class.parse!("[") }.to raise_error(*malformed.reverse)
  end

  it "tells what is wrong, and where" do
    parse("[1, tru]")
  rescue described_class::ParserError => error
    expect([error.message, error.reason, error.offset]).to eq(["Malformed JSON format.", "a value is missing", 4])
    expect(error.detailed_message).to include("Malformed JSON format.", "(a value is missing, at byte 4)") if RUBY_VERSION >= "3.2"
  else
    raise "it was taken"
  end

  describe "in memory" do
    text = JSON.generate(Array.new(6) do |i|
      { "id" => i, "name" => "n\u00e9#{i}" * 8, "k#{i}" => [i * 1.5, 2**80, -(2**200), nil], "#{"long" * 20}#{i}" => { "d" => "x\n" } }
    end)
    expected = JSON.parse(text)

    # In a process of its own: where so many specs are loaded each collection takes long, above all one that moves what it can.
    it "survives GC.stress", :gc_stress do
      expect(output_of(<<~RUBY)).to eq("true\n")
        require "json"
        GC.auto_compact = true if ENV["IODINE_SPEC_AUTO_COMPACT"] == "1"
        text = #{text.dump}
        expected = [JSON.parse(text), JSON.parse(text, symbolize_names: true), text.bytesize]
        GC.stress = true
        results = [Iodine::JSON.parse(text), Iodine::JSON.parse(text, symbolize_names: true),
                   (Iodine::JSON.parse(text + "]") rescue $!.offset)]
        GC.stress = false
        p(results == expected)
      RUBY
    end

    it "survives compaction" do
      was = GC.auto_compact
      GC.auto_compact = true
      results = Array.new(3) { parse(text).tap { GC.start } }
      GC.compact
      expect(results + [parse(text)]).to all(eq(expected))
    ensure
      GC.auto_compact = was
    end

    it "has no end of keys" do
      keys = Array.new(5_000) { |i| "key#{i}#{"x" * (i % 50)}" }
      hash = parse(JSON.generate(keys.to_h { |key| [key, key] }))
      expect(hash).to eq(keys.to_h { |key| [key, key] })
      expect(parse(JSON.generate(hash), symbolize_names: true).keys).to eq(keys.map(&:to_sym))
    end
  end

  # Random values and random damage, beside the json gem.
  describe "beside Ruby's json" do
    random, again = RubyScript.random
    word = -> { Array.new(random.rand(0..12)) { ["a", "é", "€", "😀", "\n", "\"", "\\", "\0", "/", "z"].sample(random: random) }.join }
    number = lambda do
      [random.rand(-100..100), random.rand(-2**70..2**70), random.rand, random.rand(-1e300..1e300), random.rand * 1e-310,
       10**random.rand(0..40), random.rand(2**64).to_s(10).to_i].sample(random: random)
    end
    value = lambda do |depth|
      case random.rand(depth.zero? ? 3 : 5)
      when 0 then word[]
      when 1 then number[]
      when 2 then [nil, true, false].sample(random: random)
      when 3 then Array.new(random.rand(5)) { value[depth - 1] }
      else Array.new(random.rand(12)) { [word[], value[depth - 1]] }.to_h
      end
    end

    it "reads the same" do
      200.times do
        data = value[4]
        text = [JSON.method(:generate), JSON.method(:pretty_generate)].sample(random: random)
                                                                      .call(data, ascii_only: random.rand(2).zero?)
        [{}, { strict: true }].each { |options| expect(parse(text, options)).to eq(data), again }
        expect(self.class.exact(parse(text))).to eq(self.class.exact(JSON.parse(text))), again
      end
    end

    it "takes strictly nothing that json refuses" do
      1_000.times do
        text = JSON.generate(value[3])
        random.rand(1..3).times { text[random.rand(text.size), random.rand(2)] = '[]{}",:0-.eE\\ntu '[random.rand(17)] }
        strict = parse(text, strict: true) rescue next
        expect(self.class.exact(strict)).to eq(self.class.exact(JSON.parse(text))), "#{again}: #{text}"
      end
    end
  end
end

RSpec.describe "Iodine.patch_json" do
  include RubyScript

  it "leaves results and errors as they were" do
    expect(output_of(<<~'RUBY', "-w")).to eq("[:parse, :parse!]\n[[:patched], []]\n")
      require "json"
      def outcome(name, *arguments)
        value = JSON.public_send(name, *arguments)
        [value.inspect, value.is_a?(String) && value.encoding, value.frozen?]
      rescue Exception => error
        [error.class, error.message]
      end
      texts = ['{"a":[1,2.5,-0.0,"\u00e9",null]}', "[1,]", "[NaN]", "", "nul", "/* c */ [1]", "[" * 100 + "]" * 100, "[" * 101 + "]" * 101,
               '{"json_class":"Range","a":[1,2,false]}', "\"\xFF\"", '"\ud83d"', "\"\n\"", "010", "[1] 2", "1" * 20_000, nil, 5, :a,
               '["é"]'.encode("UTF-16LE"), '["é"]'.b, '"x"'.freeze, "1e3", "-", '{"a":1,"a":2}', "\uFEFF[1]", "2.", "1e999"]
      options = [[], [nil], [{}], [{ symbolize_names: true }], [{ max_nesting: 1 }], [{ max_nesting: false }], [{ allow_nan: true }],
                 [{ create_additions: false }], [{ create_additions: true }], [{ object_class: Struct.new(:a) }], [{ freeze: true }],
                 [{ decimal_class: nil }], [{ quirks_mode: true }], [{ unknown: 1 }], [{ "symbolize_names" => true }],
                 [{ array_class: Class.new(Array) }], [1]]
      calls = %i[parse parse! load].product(texts, options)
      $VERBOSE = nil
      quiet = ->(&block) { was = $stderr; $stderr = File.open(File::NULL, "w"); block.call.tap { $stderr = was } }
      all = -> { quiet.call { calls.map { |name, text, given| outcome(name, text, *given.map(&:dup)) } } }
      before = all.call
      $VERBOSE = true
      p Iodine.patch_json
      $VERBOSE = nil
      same = ->(one) { one.map { |part| part.is_a?(String) ? part.gsub(/0x\h+/, "") : part } }
      differing = calls.zip(before, all.call).reject { |_, old, new| same[old] == same[new] }
      patched = JSON.method(:parse).owner.inspect.include?("JSONPatch") ? [:patched] : []
      p [patched, differing.first(3).map { |difference| difference.inspect[0, 300] }]
    RUBY
  end
end
