# frozen_string_literal: true

# The smallest useful answer: 16 bytes and two headers (names in lower case, as Rack 3 wants them).
run(proc { |_env| [200, { "content-type" => "text/html", "content-length" => "16" }, ["Hello from Rack!"]] })
