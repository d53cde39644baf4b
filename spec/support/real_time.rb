# frozen_string_literal: true

# Real-time connections to a server that runs {Asking::APP}: the handshake carries the Ruby source of the handler, and plain
# requests look at what became of it.

require_relative "http"
require_relative "websocket_client"

# For groups whose server has {SETUP} before it starts.
module RealTime
  # In every server: `on(on_open: ->(client) {})` is a handler with these callbacks, `$told` is what they tell.
  SETUP = <<~RUBY
    def tell(*words, to: $told) = to << (words.size == 1 ? words.first : words)

    # The code of an example begins: what is left of the one before it tells this one nothing.
    def example(name)
      $told = Queue.new unless $example == name
      $example = name
    end
    $told = Queue.new

    # A handler with these callbacks.
    def on(**callbacks)
      queue = $told
      handler = Object.new
      handler.define_singleton_method(:tell) { |*words| super(*words, to: queue) }
      callbacks.each { |name, body| handler.define_singleton_method(name, &body) }
      handler
    end

    # Sends back what it hears.
    def echo(**more) = on(on_message: ->(client, data) { client.write(data) }, **more)

    # What was told so far.
    def told = Array.new($told.size) { $told.pop }
  RUBY

  # A line of the handshake that has the application upgrade to what `code` returns.
  def upgrade_line(code, answer: "[200, {}, []]", key: "rack.upgrade")
    code_line("env['#{key}'] = begin\n#{code}\nend\n#{answer}")
  end

  # A line that has the application run `code`.
  def code_line(code)
    "X-Code: #{["# encoding: utf-8\nexample(#{RSpec.current_example.id.inspect})\n#{code}"].pack("m0")}\r\n"
  end

  # A WebSocket whose handler is what `code` returns; closed with the example, or behind the block.
  def web_socket(code = "echo", port: server.port, answer: "[200, {}, []]", lines: "", **request)
    socket = WebSocketClient.open(port)
    (@sockets ||= []) << socket
    socket.shake_hands(lines: upgrade_line(code, answer: answer) + lines, **request)
    raise "refused: #{socket.answer}" unless socket.answer.status == 101
    return socket unless block_given?

    begin
      yield socket
    ensure
      socket.close
    end
  end

  # A stream of server-sent events, whose head is read. Lines come by `read_line`.
  def event_stream(code, port: server.port, lines: "Accept: text/event-stream\r\n", version: "1.1", answer: "[200, {}, []]")
    stream = EventStream.open(port)
    (@sockets ||= []) << stream
    stream.write("GET / HTTP/#{version}\r\nHost: localhost\r\n#{lines}#{upgrade_line(code, answer: answer)}\r\n").read_head
  end

  # Waits until the handlers have told so many things, and returns them.
  def told(count = 1)
    eventually(25, "no #{count} things were told") { value_of("$told.size") >= count }
    value_of("told")
  end

  def self.included(group)
    group.after { @sockets&.each(&:close) }
  end
end

# A response that has no end.
class EventStream < RawClient
  attr_reader :answer

  def read_head
    status, *lines = read_until("\r\n\r\n").split("\r\n")
    headers = lines.map { |line| line.split(": ", 2).then { |name, value| [name, value.to_s] } }
    @answer = RawResponse.new(status[%r{\AHTTP/1\.1 (\d{3})}, 1].to_i, status[13..], headers, nil)
    self
  end

  # The lines of the next event.
  def read_event
    read_until("\r\n\r\n").split("\r\n", -1)[0..-3]
  end
end
