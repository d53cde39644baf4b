# frozen_string_literal: true

# Settings, concurrency wishes and the environment variables behind them.

require "iodine"
require "open3"
require "rbconfig"

RSpec.describe "settings" do
  # Evaluates code in a Ruby that has just required iodine; yields what `p` printed, and stderr.
  def fresh(code, env = {})
    lib = File.expand_path("../../lib", __dir__)
    unset = %w[PORT THREADS WORKERS WEB_CONCURRENCY RACK_HANDLER RACKUP_HANDLER].to_h { |name| [name, nil] }
    out, err, status = Open3.capture3(unset.merge(env), RbConfig.ruby, "-I#{lib}", "-riodine", "-e", "p((#{code}))")
    raise err unless status.success?

    [out.chomp, err]
  end

  def value(code, env = {})
    fresh(code, env).first
  end

  describe "Iodine::DEFAULT_SETTINGS" do
    it "is one mutable Hash under two names" do
      expect(Iodine::DEFAULT_HTTP_ARGS).to equal(Iodine::DEFAULT_SETTINGS)
      expect(Iodine::DEFAULT_SETTINGS).not_to be_frozen
    end

    it "starts with a port and no address" do
      expect(value("Iodine::DEFAULT_SETTINGS")).to eq({ port: "3000", address: nil }.inspect)
    end

    it "takes the port from PORT, as a String" do
      expect(value("Iodine::DEFAULT_SETTINGS[:port]", "PORT" => "4001")).to eq('"4001"')
      expect(value("Iodine::DEFAULT_SETTINGS[:port]", "PORT" => "")).to eq('"3000"')
      %w[abc 65536 -1].each { |port| expect(value("Iodine::DEFAULT_SETTINGS[:port]", "PORT" => port)).to eq('"3000"') }
    end
  end

  %i[threads workers].each do |name|
    describe "Iodine.#{name}" do
      around do |example|
        before = Iodine.public_send(name)
        example.run
        Iodine.public_send("#{name}=", before)
      end

      it "keeps any Integer as it was given" do
        [7, 0, -2].each do |count|
          Iodine.public_send("#{name}=", count)
          expect(Iodine.public_send(name)).to eq(count)
        end
      end

      it "refuses what is no Integer" do
        { nil => "nil", "3" => "String", 3.0 => "Float", true => "true" }.each do |wrong, named|
          expect { Iodine.public_send("#{name}=", wrong) }
            .to raise_error(TypeError, "wrong argument type #{named} (expected Integer)")
        end
      end
    end
  end

  it "bounds the counts" do
    expect { Iodine.threads = 4096 }.to raise_error(RangeError, "requsted thread count is out of range.")
    expect { Iodine.workers = 512 }.to raise_error(RangeError, "requsted worker process count is out of range.")
    expect(value("Iodine.threads = 4095; Iodine.workers = 511; [Iodine.threads, Iodine.workers]"))
      .to eq("[4095, 511]")
  end

  it "has the verbosity of 0.7" do
    expect(value("Iodine.verbosity")).to eq("4")
    expect(value("[-1, 0, 4096].map { |level| Iodine.verbosity = level; Iodine.verbosity }")).to eq("[-1, 0, 4096]")
    expect { Iodine.verbosity = "4" }.to raise_error(TypeError, "wrong argument type String (expected Integer)")
  end

  it "may be included like any module function" do
    expect(Object.new.extend(Iodine).send(:threads)).to eq(Iodine.threads)
    expect(%i[threads workers verbosity].map { |name| Iodine.method(name).arity }).to eq([0, 0, 0])
    expect(%i[threads= workers= verbosity=].map { |name| Iodine.method(name).arity }).to eq([1, 1, 1])
  end

  describe "the environment, on a plain require (F-50)" do
    counts = "[Iodine.threads, Iodine.workers]"

    it "is 0 and 0 when nothing is said" do
      expect(value(counts)).to eq("[0, 0]")
    end

    it "sets the counts" do
      expect(value(counts, "THREADS" => "3", "WORKERS" => "-1")).to eq("[3, -1]")
    end

    it "prefers WEB_CONCURRENCY" do
      expect(value(counts, "WEB_CONCURRENCY" => "2", "WORKERS" => "5")).to eq("[0, 2]")
      expect(value(counts, "WEB_CONCURRENCY" => "", "WORKERS" => "5")).to eq("[0, 5]")
    end

    it "gives way to the program" do
      expect(value("Iodine.threads = 9; Iodine.threads", "THREADS" => "3")).to eq("9")
    end

    it "counts text as 0, and says so" do
      out, err = fresh(counts, "THREADS" => "many", "WORKERS" => "2")
      expect(out).to eq("[0, 2]")
      expect(err).to eq("WARNING: the environment variable THREADS=many is not a whole number; it counts as 0.\n")
    end

    it "ignores counts out of range, and says so" do
      out, err = fresh(counts, "THREADS" => "5000")
      expect(out).to eq("[0, 0]")
      expect(err).to eq("WARNING: the environment variable THREADS=5000 is ignored: " \
                        "requsted thread count is out of range.\n")
    end

    it "sets timeouts and limits" do
      Iodine::Base::Environment::SETTINGS.each do |name, key|
        expect(value("Iodine::DEFAULT_SETTINGS[:#{key}]", name => "7")).to eq("7")
      end
    end

    it "takes fractions of seconds, and of nothing else" do
      expect(value("Iodine::DEFAULT_SETTINGS[:queue_timeout]", "IODINE_QUEUE_TIMEOUT" => "0.5")).to eq("0.5")
      expect(value("Iodine::DEFAULT_SETTINGS[:ping]", "IODINE_PING" => "0.5")).to eq("0.5")
      out, err = fresh("Iodine::DEFAULT_SETTINGS[:max_queue]", "IODINE_MAX_QUEUE" => "0.5")
      expect(out).to eq("nil")
      expect(err).to include("IODINE_MAX_QUEUE=0.5 is ignored: a whole number of at least 0 is needed")
    end

    it "takes numbers below 0 where they mean something" do
      expect(value("Iodine::DEFAULT_SETTINGS[:max_body]", "IODINE_MAX_BODY" => "-1")).to eq("-1")
      expect(value("Iodine::DEFAULT_SETTINGS[:max_headers]", "IODINE_MAX_HEADERS" => "-1")).to eq("-1")
    end

    it "ignores timeouts that are none, and says so" do
      out, err = fresh("Iodine::DEFAULT_SETTINGS.key?(:head_timeout)", "IODINE_HEAD_TIMEOUT" => "-1")
      expect(out).to eq("false")
      expect(err).to include("WARNING: the environment variable IODINE_HEAD_TIMEOUT=-1 is ignored")
    end
  end

  it "makes iodine the default server of rackup, unless another was chosen" do
    chosen = "%w[RACK_HANDLER RACKUP_HANDLER].map { |name| ENV[name] }"
    expect(value(chosen)).to eq('["iodine", "iodine"]')
    expect(value(chosen, "RACK_HANDLER" => "puma")).to eq('["puma", nil]')
    expect(value(chosen, "RACKUP_HANDLER" => "puma")).to eq('["iodine", "puma"]')
  end

  it "loads neither Rack nor OpenSSL" do
    expect(value("[defined?(::Rack), defined?(::OpenSSL)]")).to eq("[nil, nil]")
  end

  it "has a frozen version" do
    expect(Iodine::VERSION).to match(/\A\d+\.\d+\.\d+/).and be_frozen
  end
end
