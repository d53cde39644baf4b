# frozen_string_literal: true

# What must be on the machine before cargo can build the extension, and which cargo features the environment asks for.
# RubyGems runs this through extconf.rb before the crate is built; the Rakefile and bin/setup ask it the same questions.
# It needs no gem and no mkmf, so that it can speak on a machine where nothing else works.

require "open3"
require "rbconfig"
require "shellwords"

# The questions to ask of a machine before the extension is built on it.
class Preflight
  OLDEST_RUST = [1, 85].freeze

  # The default cargo features, each with the environment variable that leaves it out.
  FEATURES = { "tls" => "NO_SSL", "mimalloc" => "FIO_FORCE_MALLOC" }.freeze

  # The one line of ext/iodine/Cargo.toml that may be rewritten.
  FEATURE_LINE = %r{^default = \[.*\] # set by ext/preflight$}

  # What a tool is called for people, and the packages that bring it.
  TOOLS = {
    rust: ["Rust #{OLDEST_RUST.join(".")} or newer",
           { debian: "cargo rustc", bookworm: "cargo-web rustc-web", fedora: "cargo rust", alpine: "cargo rust",
             macos: "rust" }],
    compiler: ["a C compiler", { debian: "build-essential", fedora: "gcc", alpine: "build-base", macos: :xcode }],
    make: ["make", { debian: "build-essential", fedora: "make", alpine: "build-base", macos: :xcode }],
    ruby_headers: ["the header files of Ruby",
                   { debian: "ruby-dev", fedora: "ruby-devel", alpine: "ruby-dev", macos: "ruby" }],
    libclang: ["libclang", { debian: "libclang-dev", fedora: "clang-devel", alpine: "clang-dev", macos: :xcode }],
    openssl: ["the header files of OpenSSL (as pkg-config tells them)",
              { debian: "libssl-dev pkg-config", fedora: "openssl-devel pkgconf-pkg-config",
                alpine: "openssl-dev pkgconf", macos: "openssl@3 pkg-config" }]
  }.freeze

  # The package command of a system, and who will know it by that name.
  SYSTEMS = {
    debian: ["apt-get install", "Debian, Ubuntu"],
    fedora: ["dnf install", "Fedora"],
    alpine: ["apk add", "Alpine"],
    macos: ["brew install", "macOS"]
  }.freeze

  # Where libclang lies; the loader that bindgen uses looks in the same places.
  LIBCLANG_FOLDERS = %w[
    /usr/lib/llvm*/lib /usr/lib* /usr/lib*/* /usr/lib*/*/* /usr/lib*/llvm*/lib*
    /usr/local/lib* /usr/local/lib*/* /usr/local/lib*/*/* /usr/local/llvm*/lib*
    /opt/homebrew/opt/llvm*/lib /usr/local/opt/llvm*/lib /opt/local/libexec/llvm-*/lib
    /Library/Developer/CommandLineTools/usr/lib
    /Applications/Xcode*.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib
  ].freeze

  # All arguments are there for the specs, which ask for machines other than their own.
  def initialize(env: ENV.to_h, host_os: RbConfig::CONFIG["host_os"], os_release: "/etc/os-release",
                 libclang_folders: LIBCLANG_FOLDERS)
    @env = env
    @host_os = host_os
    @os_release = File.readable?(os_release) ? File.read(os_release) : ""
    @libclang_folders = libclang_folders
  end

  # The features to build with.
  def features
    FEATURES.reject { |_feature, variable| set?(variable) }.keys
  end

  # The same as arguments of cargo, for a manifest that has all of them as its default.
  def cargo_arguments
    features == FEATURES.keys ? [] : ["--no-default-features", "--features", features.join(",")]
  end

  # The same, written into an unpacked manifest: there is no way to tell RubyGems' cargo builder that all its versions
  # understand. Features are no part of Cargo.lock, so `--locked` goes on to hold.
  def write_features(manifest)
    text = File.read(manifest)
    raise "#{manifest}: no default features to set" unless text.match?(FEATURE_LINE)

    wanted = text.sub(FEATURE_LINE, "default = [#{features.map(&:dump).join(", ")}] # set by ext/preflight")
    File.write(manifest, wanted) unless wanted == text
  end

  # One sentence that says what is missing and what to install, or nil when all is there.
  def complaint
    tools = missing
    return if tools.empty?

    names = tools.map { |tool| tool == :rust ? "#{TOOLS[:rust].first} (#{rust_trouble})" : TOOLS.fetch(tool).first }
    "iodine cannot be built without #{list(names, "and")}: use #{remedy(tools)}#{hints(tools)}."
  end

  # The keys of TOOLS that are not on this machine.
  def missing
    there = { rust: rust?, compiler: compiler?, make: make?, ruby_headers: ruby_headers?, libclang: libclang?,
              openssl: !features.include?("tls") || openssl? }
    there.reject { |_tool, found| found }.keys
  end

  private

  def set?(variable)
    !["", "0", "false", "no"].include?(@env[variable].to_s.downcase)
  end

  def rust?
    [rust_version("CARGO"), rust_version("RUSTC")].all? { |version| version && (version <=> OLDEST_RUST) >= 0 }
  end

  # [1, 85], or nil when there is no such program.
  def rust_version(variable)
    output_of(@env[variable] || variable.downcase, "--version").to_s[/ (\d+\.\d+)/, 1]&.split(".")&.map(&:to_i)
  end

  # The usual reasons for having no Rust are a package that is too old, and a PATH that does not know of rustup.
  def rust_trouble
    version = [rust_version("CARGO"), rust_version("RUSTC")].compact.min
    return "this one is #{version.join(".")}" if version && (version <=> OLDEST_RUST).negative?

    folder = File.join(@env["CARGO_HOME"] || File.join(@env["HOME"].to_s, ".cargo"), "bin")
    return "found no cargo and rustc that run" unless File.exist?(File.join(folder, "cargo")) && !paths.include?(folder)

    "there is one in #{folder}, which is not in PATH"
  end

  # RubyGems links with the compiler that Ruby was built with.
  def compiler?
    [@env["CC"], RbConfig::CONFIG["CC"]].compact.any? { |line| program?(line.shellsplit.first.to_s) }
  end

  def make?
    program?(@env["MAKE"] || @env["make"] || "make")
  end

  def ruby_headers?
    File.exist?(File.join(RbConfig::CONFIG["rubyhdrdir"].to_s, "ruby.h"))
  end

  def libclang?
    told = [@env["LIBCLANG_PATH"], output_of(@env["LLVM_CONFIG_PATH"] || "llvm-config", "--libdir")]
    searched = @env.values_at("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH").compact.flat_map { |paths| paths.split(":") }
    [*told.compact, *searched].any? { |path| libclang_at?(path) } ||
      @libclang_folders.any? { |pattern| Dir.glob(pattern).any? { |folder| libclang_at?(folder) } }
  end

  # LIBCLANG_PATH may name the file itself.
  def libclang_at?(path)
    return File.basename(path).start_with?("libclang") if File.file?(path)

    Dir.glob("libclang{,-*}.{so,so.*,dylib}", base: path).any?
  end

  # As the crate openssl-sys does it: variables, Homebrew's and MacPorts' folders on macOS, pkg-config.
  def openssl?
    folder = @env["OPENSSL_INCLUDE_DIR"] || (@env["OPENSSL_DIR"] && File.join(@env["OPENSSL_DIR"], "include"))
    return File.exist?(File.join(folder, "openssl/ssl.h")) if folder
    return true if output_of(@env["PKG_CONFIG"] || "pkg-config", "--modversion", "openssl")

    system_name == :macos &&
      Dir.glob("{/opt/homebrew/opt/openssl@*,/usr/local/opt/openssl@*,/opt/local,/opt/pkg}/include/openssl").any?
  end

  # What a program prints, or nil when it is not there or fails.
  def output_of(*command)
    output, status = Open3.capture2(@env, *command, err: File::NULL, unsetenv_others: true)
    output.strip if status.success?
  rescue SystemCallError
    nil
  end

  def program?(name)
    return File.executable?(name) if name.include?("/")

    paths.map { |folder| File.join(folder, name) }.any? { |path| File.file?(path) && File.executable?(path) }
  end

  def paths
    @env["PATH"].to_s.split(":")
  end

  # The command for this system, or for all of them where it is not one we know.
  def remedy(tools)
    systems = SYSTEMS.key?(system_name) ? [system_name] : SYSTEMS.keys
    list(systems.map { |system| "#{install_command(system, tools)} (#{SYSTEMS.fetch(system).last})" }, "or")
  end

  def install_command(system, tools)
    sources = tools.map { |tool| package_of(tool, system) }
    commands = []
    commands << "`xcode-select --install`" if sources.delete(:xcode)
    commands << "`#{SYSTEMS.fetch(system).first} #{sources.flat_map(&:split).uniq.join(" ")}`" if sources.any?
    commands.join(" and ")
  end

  # Debian 12 has a Rust that is new enough under other names only.
  def package_of(tool, system)
    packages = TOOLS.fetch(tool).last
    bookworm = system == :debian && @os_release.include?("VERSION_CODENAME=bookworm")
    (packages[:bookworm] if bookworm) || packages.fetch(system)
  end

  def hints(tools)
    hints = ""
    hints += "; where a system's Rust is too old, https://rustup.rs has a newer one" if tools.include?(:rust)
    hints += "; NO_SSL=1 builds without TLS and needs no OpenSSL" if tools.include?(:openssl)
    hints
  end

  def list(words, joiner)
    words.size < 2 ? words.join : "#{words[..-2].join(", ")} #{joiner} #{words.last}"
  end

  # A key of SYSTEMS, or nil for a system whose package names are not known here.
  def system_name
    return :macos if @host_os.include?("darwin")

    ids = @os_release.scan(/^ID(?:_LIKE)?="?([^"\n]*)/).flatten.flat_map(&:split)
    { "debian" => :debian, "ubuntu" => :debian, "fedora" => :fedora, "rhel" => :fedora, "alpine" => :alpine }
      .values_at(*ids).compact.first
  end
end
