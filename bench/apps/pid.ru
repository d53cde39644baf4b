# frozen_string_literal: true

# Tells which process answers: what `spread` counts connections by.
run(proc do |_env|
  pid = Process.pid.to_s
  [200, { "content-type" => "text/plain", "content-length" => pid.bytesize.to_s }, [pid]]
end)
