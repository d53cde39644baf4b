# frozen_string_literal: true

# The gem as a stranger gets it: built, installed into an empty folder by RubyGems, serving from there.

require "fileutils"
require "open3"
require "rbconfig"
require "tmpdir"

RSpec.describe "the gem", :slow do
  root = File.expand_path("../..", __dir__)
  # Nothing of the checkout and nothing of bundler reaches the installed gem. Optimising would only cost time here.
  clean = { "RUBYOPT" => nil, "RUBYLIB" => nil, "BUNDLE_GEMFILE" => nil, "NO_SSL" => nil, "FIO_FORCE_MALLOC" => nil,
            "PORT" => nil, "CARGO_PROFILE_RELEASE_LTO" => "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS" => "16",
            "CARGO_PROFILE_RELEASE_OPT_LEVEL" => "1" }

  define_method(:run!) do |*command, **options|
    output, status = Open3.capture2e(clean, *command, **options)
    raise "#{command.join(" ")}\n#{output}" unless status.success?

    output
  end

  before(:context) do
    @folder = Dir.mktmpdir("iodine-gem")
    package = File.join(@folder, "iodine.gem")
    run!(RbConfig.ruby, "-S", "gem", "build", "iodine.gemspec", "--output", package, chdir: root)
    @home = File.join(@folder, "home")
    run!(RbConfig.ruby, "-S", "gem", "install", "--local", "--no-document", "--install-dir", @home, package)
  end

  after(:context) { FileUtils.rm_rf(@folder) }

  # Rack is found where it always was, iodine in the new folder.
  let(:env) { clean.merge("GEM_HOME" => @home, "GEM_PATH" => [@home, *Gem.path].join(File::PATH_SEPARATOR)) }

  it "serves a request from the folder it was installed into" do
    File.write("#{@folder}/config.ru", <<~RUBY)
      run ->(env) { [200, {}, [env["PATH_INFO"], "\n", *$LOADED_FEATURES.grep(/iodine\\.(so|bundle)\\z/)]] }
    RUBY
    port = FreePort.take
    words = ["#{@home}/bin/iodine", "-b", "127.0.0.1", "-p", port.to_s, "-t", "1", "-w", "1", "config.ru"]
    # The command of the installed gem, by its own executable; without the checkout's lib folder.
    server = start_script("exec(#{env}, *#{words})", chdir: @folder).wait_until_ready

    response = RawClient.open(server.port) { |client| client.get("/greeting") }
    expect(response.status).to eq(200)
    path, library = response.body.lines(chomp: true)
    expect(path).to eq("/greeting")
    expect(File.realpath(library)).to start_with(File.realpath(@home))

    server.signal(:TERM)
    expect(server.wait).to be_success
  end

  it "leaves no pile of build products behind" do
    files = Dir.glob("#{@home}/**/*", File::FNM_DOTMATCH).select { |path| File.file?(path) }
    expect(files.sum { |path| File.size(path) }).to be < 40 * 1024 * 1024
  end
end
