# frozen_string_literal: true

# Where the chat will be. Real-time connections (WebSocket and SSE) are not part of this version yet, so for now this is
# a page that says hello, shows what the server made of the request, and counts the visits to its process.
#
#   iodine examples/chat.ru         (in a checkout: bin/serve)

require "cgi"

# One page, for any path.
class HelloPage
  HEADERS = { "content-type" => "text/html; charset=utf-8", "cache-control" => "no-store" }.freeze

  def initialize
    @visits = 0
    @lock = Mutex.new
  end

  # Several threads may come here at once.
  def call(env)
    visit = @lock.synchronize { @visits += 1 }
    [200, HEADERS, [page(env, visit)]]
  end

  private

  def page(env, visit)
    <<~HTML
      <!doctype html>
      <html lang="en">
      <meta charset="utf-8">
      <title>iodine</title>
      <style>body { font: 1.1rem/1.6 sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }</style>
      <h1>Hello!</h1>
      <p>iodine is serving this page. You asked for <code>#{CGI.escapeHTML(env["PATH_INFO"])}</code> from
      #{CGI.escapeHTML(env["REMOTE_ADDR"].to_s)}; this is visit #{visit} to process #{Process.pid}.</p>
      <p>The chat comes with real-time connections, in a later version.</p>
      </html>
    HTML
  end
end

run HelloPage.new
