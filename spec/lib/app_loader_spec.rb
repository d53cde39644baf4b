# frozen_string_literal: true

# Which application the `iodine` command finds, and the steps around it.

require "iodine"
require "iodine/launcher"
require "tmpdir"

RSpec.describe Iodine::Base::AppLoader do
  let(:log) { [] }

  before { allow(Iodine::Base).to receive(:log) { |*line| log << line } }

  around do |example|
    Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } }
  end

  def rackup(path, answer)
    File.write(path, "run ->(env) { [200, {}, [#{answer.inspect}]] }\n")
  end

  def answer(app)
    app.call({}).last.first
  end

  it "loads config.ru when nothing is named" do
    rackup("config.ru", "default")
    expect(answer(described_class.load)).to eq("default")
  end

  it "loads the file that is named, with or without its suffix, relative or absolute" do
    Dir.mkdir("dir")
    rackup("dir/my.ru", "mine")
    ["dir/my.ru", "dir/my", "./dir/my", File.expand_path("dir/my.ru")].each do |name|
      expect(answer(described_class.load(name))).to eq("mine")
    end
  end

  it "loads a folder's config.ru" do
    Dir.mkdir("dir")
    rackup("dir/config.ru", "in the folder")
    expect(answer(described_class.load("dir"))).to eq("in the folder")
  end

  it "loads the constant that a Ruby file is named after" do
    File.write("loader_spec_app.rb", "LoaderSpecApp = ->(env) { [200, {}, ['a constant']] }\n")
    ["loader_spec_app.rb", "loader_spec_app", "./loader_spec_app"].each do |name|
      expect(answer(described_class.load(name))).to eq("a constant")
    end
  end

  it "takes a constant that is already there" do
    stub_const("LoaderSpecModule", Module.new)
    stub_const("LoaderSpecModule::App", ->(_env) { [200, {}, ["by name"]] })
    expect(answer(described_class.load("LoaderSpecModule::App"))).to eq("by name")
  end

  it "takes what parse_file returns, bare (Rack 3) or with options (Rack 2)" do
    rackup("config.ru", "x")
    app = ->(_env) {}
    described_class.load
    [app, [app, {}]].each do |result|
      allow(Iodine::Base::Rack::Builder).to receive(:parse_file).and_return(result)
      expect(described_class.load).to equal(app)
    end
  end

  it "falls back to config.ru, and says so" do
    rackup("config.ru", "default")
    expect(answer(described_class.load("nowhere.ru"))).to eq("default")
    expect(log).to eq([[3, "Couldn't find nowhere.ru, testing for config.ru."]])
  end

  it "raises when there is nothing" do
    expect { described_class.load }.to raise_error(described_class::NotFound, /there is no config\.ru in/)
    expect { described_class.load("x.ru") }.to raise_error(described_class::NotFound, /neither x\.ru nor a config\.ru/)
  end

  it "makes do without an application when there are static files" do
    expect(described_class.load(static: true).call({})).to eq([404, {}, ["Not Found!"]])
    expect(log.map(&:first)).to eq([3])
  end

  it "lets the application's own errors out" do
    File.write("config.ru", "raise IOError, 'mine'\n")
    expect { described_class.load }.to raise_error(IOError, "mine")
    File.write("config.ru", "use Rack::Lint\n")
    expect { described_class.load }.to raise_error(RuntimeError, /run/)
  end

  describe Iodine::Base::Launcher do
    before do
      allow(Iodine).to receive(:listen)
      allow(Iodine).to receive(:start)
      rackup("config.ru", "app")
    end

    def exit_with(status)
      raise_error(SystemExit) { |exit| expect(exit.status).to eq(status) }
    end

    it "runs the configuration file, then loads the application, then serves it" do
      File.write("launch_conf.rb", "$launcher_spec = [:config]\n")
      File.write("config.ru", "$launcher_spec << :app; run ->(env) {}\n")
      settings = { conf_: "launch_conf.rb" }
      described_class.run(settings)
      expect($launcher_spec).to eq(%i[config app])
      expect(settings).to be_empty
      expect(Iodine).to have_received(:listen).with(service: :http, handler: instance_of(Proc)).ordered
      expect(Iodine).to have_received(:start).ordered
    end

    it "finds configuration files without their suffix, in folders, and with any suffix" do
      Dir.mkdir("config")
      %w[config/one.rb config/two.rb config/three.conf].each { |path| File.write(path, "($conf ||= []) << __FILE__") }
      $conf = nil
      ["config/one", "./config/two", "config/three.conf"].each { |name| described_class.run({ conf_: name }) }
      expect($conf.map { |path| File.basename(path) }).to eq(%w[one.rb two.rb three.conf])
    end

    it "gives up on a configuration file that is missing, but not silently on one that fails" do
      expect { expect { described_class.run({ conf_: "none.rb" }) }.to exit_with(1) }
        .to output(/cannot find the configuration file none\.rb/).to_stderr
      File.write("failing.rb", "require 'surely/not/there'\n")
      expect { described_class.run({ conf_: "failing.rb" }) }.to raise_error(LoadError, %r{surely/not/there})
    end

    it "exits with 1 and the reason when there is no application (F-59)" do
      File.delete("config.ru")
      expect { expect { described_class.run({}) }.to exit_with(1) }
        .to output(/\Aiodine: there is no config\.ru in/).to_stderr
    end

    it "requests / once per worker when it shall warm up (F-49)" do
      hooks = []
      allow(Iodine).to receive(:on_state) { |event, &block| hooks << [event, block] }
      File.write("config.ru", "run ->(env) { ($warm ||= []) << env['PATH_INFO']; [200, {}, []] }\n")
      $warm = nil
      described_class.run({ warmup_: true })
      expect(hooks.map(&:first)).to eq([:on_start])
      hooks.each { |_, block| block.call }
      expect($warm).to eq(["/"])
    end

    it "survives a warm-up that fails" do
      described_class.warm_up(->(_env) { raise NotImplementedError, "not yet" })
      described_class.warm_up(->(_env) { [503, {}, []] })
      expect(log).to eq([[2, "warm-up: GET / failed: NotImplementedError: not yet"],
                         [3, "warm-up: GET / was answered with status 503."]])
    end
  end
end
