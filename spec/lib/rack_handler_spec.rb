# frozen_string_literal: true

# Iodine::Rack: how other programs find and run iodine.

require "iodine"
require "open3"
require "rbconfig"

RSpec.describe Iodine::Rack do
  it "is loaded" do
    expect(Iodine::Rack::IODINE_RACK_LOADED).to be(true)
  end

  describe ".run" do
    let(:app) { ->(_env) {} }

    before do
      allow(Iodine).to receive(:listen)
      allow(Iodine).to receive(:start)
    end

    it "listens for HTTP, starts and returns true" do
      expect(described_class.run(app)).to be(true)
      expect(Iodine).to have_received(:listen).with({ service: :http, handler: app, port: nil, address: nil }).ordered
      expect(Iodine).to have_received(:start).ordered
    end

    it "takes Port and Host, and ignores the rest" do
      described_class.run(app, Port: 4001, Host: "localhost", Threads: "0:16")
      expect(Iodine).to have_received(:listen)
        .with({ service: :http, handler: app, port: 4001, address: "localhost" })
    end

    it "hands itself to the block before it starts" do
      given = nil
      allow(Iodine).to receive(:start) { expect(given).to equal(described_class) }
      described_class.run(app) { |server| given = server }
      expect(given).to equal(described_class)
    end
  end

  it "stops the server" do
    allow(Iodine).to receive(:stop).and_return(Iodine)
    expect([described_class.shutdown, described_class.stop]).to eq([Iodine, Iodine])
  end

  it "lists its options" do
    expect(described_class.valid_options.keys).to eq(%w[Host=HOST Port=PORT])
  end

  describe "the registries" do
    def ruby(code)
      lib = File.expand_path("../../lib", __dir__)
      Open3.capture2e({ "RACK_HANDLER" => nil, "RACKUP_HANDLER" => nil }, RbConfig.ruby, "-I#{lib}", "-e", code)
           .first.chomp
    end

    { "Rack::Handler" => "rack/handler", "Rackup::Handler" => "rackup/handler" }.each do |registry, file|
      own_file = "#{file}/iodine"
      next if Gem.find_files("#{file}.rb").empty?

      # With the rackup gem, Rack::Handler is only its old name, and asking for it earns a warning.
      quiet = "$VERBOSE = nil; def warn(*, **) = nil;"

      it "lets #{registry} find it by name, whichever is loaded first" do
        ["require '#{file}'", "require '#{file}'; require 'iodine'", "require 'iodine'; require '#{file}'",
         "require '#{own_file}'; require '#{file}'"].each do |order|
          %w[iodine Iodine].each do |name|
            expect(ruby("#{quiet} #{order}; p #{registry}.get('#{name}')")).to eq("Iodine::Rack"), order
          end
        end
      end

      it "is the default of #{registry}" do
        code = "#{quiet} require 'iodine'; require 'rack'; require '#{file}'; p #{registry}.default"
        expect(ruby(code)).to eq("Iodine::Rack")
      end
    end
  end
end
