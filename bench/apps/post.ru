# frozen_string_literal: true

# Reads the whole request body and answers its size.
run(proc do |env|
  size = env["rack.input"].read.to_s.bytesize.to_s
  [200, { "content-type" => "text/plain", "content-length" => size.bytesize.to_s }, [size]]
end)
