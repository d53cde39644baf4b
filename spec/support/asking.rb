# frozen_string_literal: true

# An application that does what each request tells it to: the request carries Ruby source, whose value is the answer. So
# an example has both sides of it in one place.
module Asking
  # The code knows the `env`, and `text` as in {ServerSupport#serve}.
  APP = '->(env) { eval(env.fetch("HTTP_X_CODE").unpack1("m")) }'

  # A request that has the application run `code`.
  def request_for(code, verb: "GET", path: "/", version: "1.1", headers: "", body: "")
    code = ["# encoding: utf-8\n#{code}"].pack("m0")
    "#{verb} #{path} HTTP/#{version}\r\nHost: localhost\r\nX-Code: #{code}\r\n#{headers}\r\n".b << body.b
  end

  # Has the application run `code` and returns its answer, over `client` or a connection of its own.
  def ask(code, client: nil, verb: "GET", **request)
    return RawClient.open(server.port) { |fresh| ask(code, client: fresh, verb: verb, **request) } unless client

    client.write(request_for(code, verb: verb, **request)).read_response(head: verb == "HEAD")
  end

  # The value of `code`, as far as Marshal can carry it.
  def value_of(code, **request)
    response = ask("[200, text, [Marshal.dump(begin\n#{code}\nend)]]", **request)
    raise "#{response.status}: #{response.body}" unless response.status == 200

    Marshal.load(response.body)
  end
end
