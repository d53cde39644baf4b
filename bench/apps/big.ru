# frozen_string_literal: true

# A body of 1 MiB from the app.
BODY = ("x" * (1024 * 1024)).freeze
run(proc { |_env| [200, { "content-type" => "text/plain", "content-length" => BODY.bytesize.to_s }, [BODY]] })
