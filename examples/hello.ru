# frozen_string_literal: true

# The smallest application: sixteen bytes for everyone.
#
#   iodine examples/hello.ru        (in a checkout: bin/serve examples/hello.ru)
#   curl http://localhost:3000/

HEADERS = { "content-type" => "text/plain; charset=utf-8" }.freeze

run ->(_env) { [200, HEADERS, ["Hello from Ruby\n"]] }
