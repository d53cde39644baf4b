# frozen_string_literal: true

# Iodine::Rack::Utils and Iodine::Base::MonkeyPatch::RackUtils as 0.7 had them, without its faults, and Rack::Utils after
# Iodine.patch_rack.

require "iodine"
require_relative "../support/ruby_script"

RSpec.describe Iodine::Rack::Utils do
  include RubyScript

  bad_escapes = ["%", "a%2", "%zz", "%%41", "100%", "%+1"]

  {
    decode_url: { "a+b%20c" => "a b c", "%C3%A9" => "é", "%00" => "\0", "" => "", "plain" => "plain", "%2b%2B" => "++", "+" => " " },
    decode_path: { "a+b%20c" => "a+b c", "%C3%A9" => "é", "%00" => "\0", "" => "", "plain" => "plain", "%2b" => "+" }
  }.each do |name, table|
    kind = name == :decode_url ? "URL" : "URL path"

    describe ".#{name}" do
      table.each do |text, decoded|
        it "decodes #{text.dump}" do
          result = described_class.public_send(name, text.freeze)
          expect([result, result.encoding, result.frozen?]).to eq([decoded.b, Encoding::BINARY, false])
          expect(result).not_to equal(text)
        end

        it "decodes #{text.dump} in place" do
          own = text.dup
          expect(described_class.public_send("#{name}!", own)).to equal(own)
          expect(own.b).to eq(decoded.b)
        end
      end

      it "refuses malformed escapes, and changes nothing" do
        bad_escapes.each do |text|
          expect { described_class.public_send(name, text) }
            .to raise_error(RuntimeError, "Malformed #{kind} string - couldn't decode.")
          own = "%41#{text}"
          message = "Malformed #{kind} string - couldn't decode (String might have been partially altered)."
          expect { described_class.public_send("#{name}!", own) }.to raise_error(RuntimeError, message)
          expect(own).to eq("%41#{text}")
        end
      end

      it "wants a String" do
        [nil, 1, :a].each do |other|
          [name, "#{name}!"].each { |method| expect { described_class.public_send(method, other) }.to raise_error(TypeError) }
        end
      end

      it "F-60: leaves Strings alone that are shared or frozen" do
        text = "x%20" * 20
        copy = text.dup
        part = text[0, 40]
        expect(described_class.public_send("#{name}!", copy)).to eq("x " * 20)
        expect([text, part]).to eq(["x%20" * 20, "x%20" * 10])
        frozen = ("y%20" * 20).freeze
        expect { described_class.public_send("#{name}!", frozen) }.to raise_error(FrozenError)
        expect(frozen).to eq("y%20" * 20)
        symbol = :"a%20b%20c%20d%20e%20f%20g%20h%20i"
        described_class.public_send("#{name}!", symbol.to_s)
        expect(symbol.to_s).to eq("a%20b%20c%20d%20e%20f%20g%20h%20i")
      end
    end
  end

  describe "dates" do
    moments = [1_500_000_000, 1_500_000_000.9, "1500000000", Time.at(1_500_000_000), Time.at(1_500_000_000, in: "+05:30")]

    it "are in UTC, whatever tells the time" do
      moments.each do |time|
        dates = %i[time2str rfc2109 rfc2822].map { |name| described_class.public_send(name, time) }
        expect(dates).to eq(["Fri, 14 Jul 2017 02:40:00 GMT", "Fri, 14-Jul-2017 02:40:00 GMT", "Fri, 14 Jul 2017 02:40:00 -0000"])
        expect(dates.map(&:encoding).uniq).to eq([Encoding::BINARY])
      end
    end

    it "F-59: know the epoch, and days of one digit" do
      [0, Time.at(0), "0"].each do |time|
        expect(%i[time2str rfc2109 rfc2822].map { |name| described_class.public_send(name, time) })
          .to eq(["Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01-Jan-1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 -0000"])
      end
    end

    it "go back before it, and far ahead" do
      expect(described_class.time2str(-1)).to eq("Wed, 31 Dec 1969 23:59:59 GMT")
      expect(described_class.time2str(253_402_300_800)).to eq("Sat, 01 Jan 10000 00:00:00 GMT")
      expect { described_class.time2str(2**80) }.to raise_error(RangeError)
    end

    it "are of now when nothing is said" do
      require "time"
      now = Time.now.to_i
      dates = [described_class.time2str, *%i[time2str rfc2109 rfc2822].map { |name| described_class.public_send(name, nil) }]
      expect(dates.map { |date| Time.parse(date).to_i }).to all(be_between(now, Time.now.to_i))
    end

    it "agree with Ruby's" do
      require "time"
      random, again = RubyScript.random
      300.times do
        time = Time.at(random.rand(-60_000_000_000..250_000_000_000)).utc
        expect(described_class.time2str(time)).to eq(time.httpdate), again
        expect(described_class.rfc2822(time)).to eq(time.rfc2822), again
        expect(described_class.rfc2109(time)).to eq(time.strftime("%a, %d-%b-%Y %H:%M:%S GMT")), again
      end
    end

    it "want something with to_i" do
      expect { described_class.rfc2822(Object.new) }.to raise_error(NoMethodError)
      expect { described_class.time2str(1, 2) }.to raise_error(ArgumentError)
    end
  end

  # In a process of its own: where so many specs are loaded each collection takes long, above all one that moves what it can.
  it "survives GC.stress", :gc_stress do
    expect(output_of(<<~'RUBY')).to eq("true\n")
      GC.auto_compact = true if ENV["IODINE_SPEC_AUTO_COMPACT"] == "1"
      utils = Iodine::Rack::Utils
      GC.stress = true
      results = [utils.decode_url("a+%C3%A9" * 30), utils.decode_path!(+"%41" * 30), utils.rfc2822(Time.at(0)),
                 (utils.decode_url("%") rescue $!.message)]
      GC.stress = false
      p(results == ["a é".b * 30, "A" * 30, "Thu, 01 Jan 1970 00:00:00 -0000", "Malformed URL string - couldn't decode."])
    RUBY
  end
end

RSpec.describe Iodine::Base::MonkeyPatch::RackUtils do
  it "has the methods on itself and for those that include it" do
    including = Class.new { include Iodine::Base::MonkeyPatch::RackUtils }.new
    [described_class, including].each do |owner|
      expect([owner.unescape("a+%C3%A9"), owner.unescape_path("a+%C3%A9")]).to eq(["a é", "a+é".b])
      expect(owner.rfc2109(0)).to eq("Thu, 01-Jan-1970 00:00:00 GMT")
      expect(owner.rfc2822(0)).to eq("Thu, 01 Jan 1970 00:00:00 -0000")
    end
  end

  it "gives the encoding that is asked for" do
    { [] => "UTF-8", [nil] => "UTF-8", [Encoding::BINARY] => "ASCII-8BIT", ["".encode("EUC-JP")] => "EUC-JP" }.each do |wanted, name|
      expect(described_class.unescape("%41", *wanted).encoding.name).to eq(name)
    end
    expect { described_class.unescape("a", 1) }.to raise_error(TypeError)
    [[], ["a", nil, nil]].each { |wrong| expect { described_class.unescape(*wrong) }.to raise_error(ArgumentError) }
    expect { described_class.unescape("%") }.to raise_error(RuntimeError, "Malformed URL string - couldn't decode.")
  end
end

RSpec.describe "Iodine.patch_rack" do
  include RubyScript

  it "leaves results and errors as they were" do
    _, again = RubyScript.random
    expect(output_of(<<~'RUBY', "-w").lines.last(2).join).to eq("[:unescape, :unescape_path, :rfc2109, :rfc2822]\n[]\n"), again
      require "rack"
      require "time"
      random = Random.new(Integer(ENV.fetch("IODINE_SPEC_SEED", Random.new_seed % 1_000_000)))
      puts "seed #{random.seed}"
      texts = ["", "a", "a+b", "%20", "%C3%A9", "%c3%a9+x", "%", "%4", "%zz", "100%", "%%41", "%ff", "é+%C3%A9", "\xFF%41".b, "%00", "+", "%2B"]
      pieces = ["%", "+", "4", "1", "f", "%41", "%C3%A9", "%ff", "é", " ", "z"]
      300.times { texts << Array.new(random.rand(10)) { pieces.sample(random: random) }.join }
      texts.concat(texts.map(&:b), texts.map { |text| text.b.force_encoding("US-ASCII") }, texts.map { |text| text.dup.freeze })
      texts << "\xFF%41" << "\xC3%41+" << nil << 5
      times = Array.new(200) { Time.at(random.rand(-60_000_000_000..250_000_000_000)).utc } << Time.at(0).utc
      local = times.map { |time| time.getlocal(["+02:00", "-03:30", "+00:00", "+14:00"].sample(random: random)) }
      calls = texts.flat_map { |text| [[:unescape, text], [:unescape_path, text], [:unescape, text, Encoding::BINARY], [:unescape, text, "UTF-8"]] }
      calls << [:unescape, "a", "no such encoding"] << [:unescape, "a", nil] << [:unescape] << [:unescape_path]
      calls.concat(times.map { |time| [:rfc2822, time] }, local.map { |time| [:rfc2822, time] })
      calls.concat(times.map { |time| [:rfc2109, time] }) if Rack::Utils.respond_to?(:rfc2109)
      outcome = lambda do |(name, *arguments)|
        text = Rack::Utils.public_send(name, *arguments)
        [text, text.ascii_only? || text.encoding, text.frozen?]
      rescue ArgumentError, TypeError, NoMethodError => error
        # What is no String is refused in words of one's own.
        arguments.all?(String) ? error.class : :refused
      end
      before = calls.map(&outcome)
      p Iodine.patch_rack
      p calls.zip(before, calls.map(&outcome)).reject { |_, old, new| old == new }.first(5)
    RUBY
  end

  it "has malformed requests answered with 400" do
    expect(output_of(<<~'RUBY')).to eq("[\"a b\", 400]\n")
      require "rack"
      Iodine.patch_rack
      query = ->(text) { Rack::Request.new(Rack::MockRequest.env_for("/", "QUERY_STRING" => text)).params["x"] }
      malformed = begin
        query["x=%zz"]
      rescue ArgumentError, Rack::QueryParser::InvalidParameterError
        400
      end
      p [query["x=a+b"], malformed]
    RUBY
  end
end
