# frozen_string_literal: true

# What a machine without the right tools is told, and how NO_SSL=1 reaches cargo.

require "fileutils"
require "open3"
require "rbconfig"
require "tmpdir"
require_relative "../../ext/preflight/preflight"

RSpec.describe Preflight do
  around { |example| Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } } }

  def env(**changes)
    ENV.to_h.merge("NO_SSL" => nil, "FIO_FORCE_MALLOC" => nil, **changes.transform_keys(&:to_s)).compact
  end

  # A machine of the given system.
  def os(*lines)
    File.write("os-release", "#{lines.join("\n")}\n")
    "os-release"
  end

  # What is said on a machine with everything but for these changes.
  def complaint(release = %w[ID=debian VERSION_CODENAME=trixie], env:, host_os: "linux-gnu", **machine)
    described_class.new(env: env, host_os: host_os, os_release: os(*release), **machine).complaint
  end

  it "has nothing to say where the extension can be built" do
    expect(complaint(env: env)).to be_nil
  end

  it "tells in one sentence that cargo is missing" do
    expect(complaint(env: env(CARGO: "/nowhere/cargo", CARGO_HOME: "/nowhere"))).to eq(
      "iodine cannot be built without Rust 1.85 or newer (found no cargo and rustc that run): use " \
      "`apt-get install cargo rustc` (Debian, Ubuntu); where a system's Rust is too old, https://rustup.rs has a " \
      "newer one."
    )
  end

  it "says which Rust there is when it is too old, and knows where Debian 12 has a newer one" do
    File.write("rustc", "#!/bin/sh\necho 'rustc 1.63.0 (built from a source tarball)'\n", perm: 0o755)
    said = complaint(%w[ID=debian VERSION_CODENAME=bookworm], env: env(RUSTC: File.expand_path("rustc")))
    expect(said).to include("(this one is 1.63)", "`apt-get install cargo-web rustc-web`")
  end

  it "says so when rustup's folder is not in PATH" do
    FileUtils.mkdir_p("home/.cargo/bin")
    FileUtils.touch("home/.cargo/bin/cargo")
    home = File.expand_path("home")
    expect(complaint(env: env(PATH: "/nowhere", HOME: home, CARGO_HOME: nil, CARGO: nil, RUSTC: nil)))
      .to include("there is one in #{home}/.cargo/bin, which is not in PATH")
  end

  it "tells in one sentence that libclang is missing" do
    bare = env(LLVM_CONFIG_PATH: "/nowhere", LIBCLANG_PATH: nil, LD_LIBRARY_PATH: nil, DYLD_LIBRARY_PATH: nil)
    expect(complaint(env: bare, libclang_folders: [])).to eq(
      "iodine cannot be built without libclang: use `apt-get install libclang-dev` (Debian, Ubuntu)."
    )
  end

  it "finds libclang where LIBCLANG_PATH says" do
    FileUtils.touch("libclang-99.so.1")
    expect(complaint(env: env(LIBCLANG_PATH: Dir.pwd, LLVM_CONFIG_PATH: "/nowhere"), libclang_folders: [])).to be_nil
  end

  it "tells in one sentence that OpenSSL's headers are missing, and what does without" do
    expect(complaint(env: env(PKG_CONFIG: "/nowhere", OPENSSL_DIR: nil, OPENSSL_INCLUDE_DIR: nil))).to eq(
      "iodine cannot be built without the header files of OpenSSL (as pkg-config tells them): use " \
      "`apt-get install libssl-dev pkg-config` (Debian, Ubuntu); NO_SSL=1 builds without TLS and needs no OpenSSL."
    )
  end

  it "does not ask for OpenSSL with NO_SSL=1" do
    expect(complaint(env: env(NO_SSL: "1", PKG_CONFIG: "/nowhere", OPENSSL_DIR: nil))).to be_nil
  end

  it "still tells it in one sentence when nothing is there, for every system it knows" do
    said = complaint(["ID=plan9"], env: { "PATH" => "" }, libclang_folders: [])
    expect(said).to include("(Debian, Ubuntu), ", "(Fedora), ", "(Alpine) or ", "(macOS)").and end_with(".")
    expect(said.lines.size).to eq(1)
  end

  {
    "ID=fedora" => "dnf install make",
    "ID=alpine" => "apk add build-base",
    "ID=ubuntu\nID_LIKE=debian" => "apt-get install build-essential",
    "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"" => "dnf install make"
  }.each do |release, command|
    it "knows what to do where #{release.tr("\n", " ")}" do
      expect(complaint([release], env: env(MAKE: "/nowhere"))).to include("without make: use `#{command}`")
    end
  end

  it "knows what to do on macOS" do
    said = complaint(env: env(MAKE: "/nowhere", CARGO: "/nowhere"), host_os: "darwin23")
    expect(said).to include("use `xcode-select --install` and `brew install rust` (macOS)")
  end

  # As RubyGems runs it, in a copy of what the gem has.
  describe "extconf.rb" do
    let(:root) { File.expand_path("../..", __dir__) }

    before do
      Gem::Specification.load(File.join(root, "iodine.gemspec")).files.each do |file|
        FileUtils.mkdir_p(File.dirname(file))
        FileUtils.cp(File.join(root, file), file)
      end
    end

    def extconf(**changes)
      Open3.capture2e(env(**changes), RbConfig.ruby, "extconf.rb", chdir: "ext/preflight", unsetenv_others: true)
    end

    # The crates that cargo would build in this copy, from the lock file as it is.
    def crates
      command = %w[cargo tree --locked --offline --package iodine --edges normal,build --prefix none]
      output, status = Open3.capture2e(*command)
      expect(status).to be_success, output
      output.lines.map { |line| line[/\S+/] }.uniq
    end

    it "leaves the manifest as it is" do
      before = File.read("ext/iodine/Cargo.toml")
      output, status = extconf
      expect(status).to be_success, output
      expect(File.read("ext/iodine/Cargo.toml")).to eq(before)
      expect(crates).to include("openssl", "mimalloc")
    end

    it "takes TLS out of the manifest with NO_SSL=1, and the lock file still holds" do
      expect(extconf(NO_SSL: "1").last).to be_success
      expect(File.read("ext/iodine/Cargo.toml")).to include("default = [\"mimalloc\"] # set by ext/preflight\n")
      expect(crates).to include("mimalloc")
      expect(crates).not_to include("openssl", "openssl-sys")
    end

    it "leaves out the allocator with FIO_FORCE_MALLOC=1" do
      expect(extconf(FIO_FORCE_MALLOC: "1").last).to be_success
      expect(crates).not_to include("mimalloc")
    end

    it "writes a Makefile that does nothing" do
      extconf
      output, status = Open3.capture2e("make clean && make && make install", chdir: "ext/preflight")
      expect(status).to be_success, output
    end

    it "ends with the sentence and a failure, but tries all the same when it is told to" do
      output, status = extconf(CARGO: "/nowhere/cargo")
      expect(status.exitstatus).to eq(1)
      expect(output.lines.size).to eq(1)
      expect(output).to start_with("iodine cannot be built without Rust")

      expect(extconf(CARGO: "/nowhere/cargo", IODINE_SKIP_PREFLIGHT: "1").last).to be_success
    end
  end
end
