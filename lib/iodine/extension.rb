# frozen_string_literal: true

# Loads the compiled extension. `rake compile` and newer RubyGems put it at iodine/iodine,
# RubyGems 3.3 at the top of the library folder, hence the two names.

begin
  require "iodine/iodine"
rescue LoadError => not_below
  begin
    require "iodine.so"
  rescue LoadError => not_on_top
    # A library that exists but does not load has a reason of its own, which must not be hidden.
    broken = [not_below, not_on_top].find { |error| !error.message.start_with?("cannot load such file") }
    raise broken if broken

    reason = "iodine's native extension is not built: run rake compile (in a checkout) " \
             "or reinstall the gem (gem pristine iodine)."
    raise LoadError, reason, cause: nil
  end
end
