# frozen_string_literal: true

# Found by Rack 2 for `rackup -s iodine` and `Rack::Handler.get("iodine")`.

begin
  require "rack/handler" unless defined?(::Rackup::Handler)
rescue LoadError
  # Rack 3 without the rackup gem has no registry: `Iodine::Rack.run` still works.
end
require "iodine"

Iodine::Rack.register_handlers
