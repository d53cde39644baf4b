# frozen_string_literal: true

# The last "extension" of the gem: it sweeps up. RubyGems 3.3 leaves cargo's whole target folder, some 300 MB, in the
# folder for compiled extensions; newer ones do this themselves.

require "fileutils"

gem_folder = File.expand_path("../..", __dir__)
target = File.join(File.expand_path("../..", gem_folder), "extensions", Gem::Platform.local.to_s,
                   Gem.extension_api_version, File.basename(gem_folder))
# Cargo keeps this file in its target folders. The library itself has been copied under lib/ by now.
library = File.join(gem_folder, "lib", "iodine.#{RbConfig::CONFIG["DLEXT"]}")
if File.exist?(File.join(target, ".rustc_info.json")) && File.exist?(library)
  FileUtils.rm_rf([File.join(target, "release"), File.join(target, ".rustc_info.json")])
end

# RubyGems goes on to run `make clean`, `make` and `make install`.
File.write("Makefile", "all clean install:\n\t@:\n.PHONY: all clean install\n")
