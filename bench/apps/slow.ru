# frozen_string_literal: true

# An app that waits: with T threads the ideal is T / 0.01 requests a second.
run(proc do |_env|
  sleep 0.01
  [200, { "content-type" => "text/plain", "content-length" => "4" }, ["slow"]]
end)
