# frozen_string_literal: true

# The words of a command line: every option in every form, and every way to get one wrong.

require "iodine"

RSpec.describe Iodine::Base::CLI::Parser do
  def parse(*words)
    described_class.parse(words)
  end

  def values(*words)
    parse(*words).values
  end

  # iodine 0.7's flags: the first name of the option, its type, and all of its spellings.
  flags = {
    "bind" => [:text, %w[-bind -b -address]],
    "port" => [:number, %w[-port -p]],
    "threads" => [:number, %w[-threads -t]],
    "workers" => [:number, %w[-workers -w]],
    "public" => [:text, %w[-public -www]],
    "keep-alive" => [:number, %w[-keep-alive -k -tout]],
    "log" => [:switch, %w[-log -v]],
    "max-body" => [:number, %w[-max-body -maxbd]],
    "max-header" => [:number, %w[-max-header -maxhd]],
    "max-msg" => [:number, %w[-max-msg -maxms]],
    "ping" => [:number, %w[-ping]],
    "tls" => [:switch, %w[-tls]],
    "tls-cert" => [:text, %w[-tls-cert -cert]],
    "tls-key" => [:text, %w[-tls-key -key]],
    "tls-pass" => [:text, %w[-tls-pass -tls-password]],
    "redis" => [:text, %w[-redis -r]],
    "redis-ping" => [:number, %w[-redis-ping -rp]],
    "config" => [:text, %w[-config -C]],
    "pid" => [:text, %w[-pid -pidfile]],
    "verbosity" => [:number, %w[-verbosity -V]],
    "warmup" => [:switch, %w[-warmup --preload]],
    # new in 0.8
    "public-hidden" => [:switch, %w[-public-hidden]],
    "public-symlinks" => [:switch, %w[-public-symlinks]],
    "sendfile-roots" => [:text, %w[-sendfile-roots]],
    "trusted-proxies" => [:text, %w[-trusted-proxies]],
    "proxy-protocol" => [:switch, %w[-proxy-protocol]],
    "underscore-headers" => [:switch, %w[-underscore-headers]],
    "log-format" => [:text, %w[-log-format]],
    "log-to" => [:text, %w[-log-to]],
    "request-id" => [:switch, %w[-request-id]],
    "request-id-response" => [:switch, %w[-request-id-response]],
    "head-timeout" => [:number, %w[-head-timeout]],
    "body-timeout" => [:number, %w[-body-timeout]],
    "write-timeout" => [:number, %w[-write-timeout]],
    "shutdown-timeout" => [:number, %w[-shutdown-timeout]],
    "max-line" => [:number, %w[-max-line]],
    "early-hints" => [:switch, %w[-early-hints]],
    "max-header-count" => [:number, %w[-max-header-count]],
    "max-clients" => [:number, %w[-max-clients]],
    "linger-timeout" => [:number, %w[-linger-timeout]],
    "body-memory" => [:number, %w[-body-memory]],
    "reserved-descriptors" => [:number, %w[-reserved-descriptors]],
    "max-jobs" => [:number, %w[-max-jobs]],
    "max-queue" => [:number, %w[-max-queue]],
    "queue-timeout" => [:number, %w[-queue-timeout]],
    "max-backlog" => [:number, %w[-max-backlog]],
    "slow-clients" => [:text, %w[-slow-clients]],
    "deflate" => [:switch, %w[-deflate]]
  }

  it "knows these options and no others" do
    expect(Iodine::Base::CLI::OPTIONS.map(&:name)).to match_array(flags.keys)
  end

  flags.each do |name, (type, spellings)|
    spellings.each do |spelling|
      it "reads #{spelling} as -#{name}" do
        if type == :switch
          expect(values(spelling)).to eq(name => true)
        else
          typed, value = type == :number ? ["12", 12] : %w[./x-y ./x-y]
          [[spelling, typed], ["#{spelling}=#{typed}"], ["#{spelling}#{typed}"]].each do |words|
            expect(values(*words)).to eq(name => value), words.inspect
          end
        end
      end

      next if spelling.size < 4 # -p has no --p, nor -rp an --rp

      it "reads -#{spelling} in GNU's way" do
        long = spelling.start_with?("--") ? spelling : "-#{spelling}"
        if type == :switch
          expect(values(long)).to eq(name => true)
        else
          typed, value = type == :number ? ["12", 12] : %w[./x-y ./x-y]
          expect(values(long, typed)).to eq(name => value)
          expect(values("#{long}=#{typed}")).to eq(name => value)
          expect { values("#{long}#{typed}") }.to raise_error(Iodine::Base::CLI::BadOption, /is not an option/)
        end
      end
    end
  end

  {
    %w[-p4001 -w1 -t-2] => { "port" => 4001, "workers" => 1, "threads" => -2 },
    %w[-w -1 -t -2] => { "workers" => -1, "threads" => -2 },
    %w[-port4001] => { "port" => 4001 },
    %w[-tout5] => { "keep-alive" => 5 },
    %w[-wwwpublic] => { "public" => "public" },
    %w[-rp10] => { "redis-ping" => 10 },
    %w[-key-alive] => { "tls-key" => "-alive" },
    %w[-bodyguard] => { "bind" => "odyguard" },
    %w[-b -odd] => { "bind" => "-odd" },
    %w[-b=-v] => { "bind" => "-v" },
    %w[-C=a=b] => { "config" => "a=b" },
    %w[-max-header16 -max-header-count16] => { "max-header" => 16, "max-header-count" => 16 },
    %w[-p 1 -p 2] => { "port" => 2 },
    %w[-p 0x0FAA] => { "port" => 4010 },
    %w[-p 0080] => { "port" => 80 },
    %w[-queue-timeout 0.25 -k2.5] => { "queue-timeout" => 0.25, "keep-alive" => 2.5 },
    ["-p="] => {},
    ["-p", "", "-b", ""] => {}
  }.each do |words, result|
    it "reads #{words.join(" ")}" do
      expect(values(*words)).to eq(result)
    end
  end

  it "keeps the files apart" do
    expect(parse("a.ru", "-p", "1", "b.ru", "-", "--", "-p", "--port").files).to eq(%w[a.ru b.ru - -p --port])
  end

  it "does not consume the words" do
    words = %w[-p 4001 x.ru].freeze
    described_class.parse(words)
    expect(words).to eq(%w[-p 4001 x.ru])
  end

  %w[-h -help --help -? -H -Help --HELP].each do |word|
    it("takes #{word} as a call for help") { expect(parse("-p", "1", word, "-nonsense").help).to be(true) }
  end

  %w[-version --version].each do |word|
    it("takes #{word} as the question for the version") { expect(parse(word).version).to be(true) }
  end

  {
    %w[-p abc] => '-port needs a whole number, not "abc"',
    %w[-p] => "-port needs a value",
    %w[-t 1.5] => '-threads needs a whole number, not "1.5"',
    %w[-preload] => '-port needs a whole number, not "reload" (read from -preload)',
    %w[-max-headers] => '-max-header needs a whole number, not "s" (read from -max-headers)',
    %w[-log=1] => '-log takes no value, but -log=1 gives it "1"',
    %w[-vv] => '-log takes no value, but -vv gives it "v"',
    %w[--log=] => '-log takes no value, but --log= gives it ""',
    %w[-www -v] => "-public needs a value, but -v follows",
    %w[-www --port 1] => "-public needs a value, but --port follows",
    %w[-p 70000] => "-port must be between 0 and 65535, not 70000",
    %w[-p -1] => "-port must be between 0 and 65535, not -1",
    %w[-head-timeout -1] => "-head-timeout must be at least 0, not -1",
    %w[-queue-timeout x] => '-queue-timeout needs a number, not "x"',
    %w[-queue-timeout -0.5] => "-queue-timeout must be at least 0, not -0.5",
    %w[-max-queue 0.5] => '-max-queue needs a whole number, not "0.5"',
    %w[-x] => "-x is not an option",
    %w[--p 1] => "--p is not an option",
    %w[--prot 3000] => "--prot is not an option; did you mean -port?"
  }.each do |words, reason|
    it "refuses #{words.join(" ")}" do
      expect { parse(*words) }.to raise_error(Iodine::Base::CLI::BadOption, reason)
    end
  end
end
