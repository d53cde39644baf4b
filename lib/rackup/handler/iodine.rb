# frozen_string_literal: true

# Found by the rackup gem (Rack 3) for `rackup -s iodine` and `Rackup::Handler.get("iodine")`.

require "rackup/handler"
require "iodine"

Iodine::Rack.register_handlers
