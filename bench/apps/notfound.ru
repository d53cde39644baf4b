# frozen_string_literal: true

# Stands behind a server's own service of static files: the app must not be reached.
run(proc { |_env| [404, { "content-type" => "text/plain", "content-length" => "3" }, ["app"]] })
