# frozen_string_literal: true

# WebSockets by the rack.upgrade API: /echo, /sub (a subscriber), /subblock (one whose deliveries each run a Ruby
# block) and /pub (the publisher).
CHANNEL = "all"

module Echo
  def self.on_message(client, data) = client.write(data)
end

module Sub
  def self.on_open(client) = client.subscribe(CHANNEL)
  def self.on_message(_client, _data) = nil
end

module SubBlock
  def self.on_open(client) = client.subscribe(CHANNEL) { |_channel, message| client.write(message) }
  def self.on_message(_client, _data) = nil
end

module Pub
  # agoo publishes from its module, not from the client.
  def self.on_message(client, data) = (defined?(Agoo) ? Agoo : client).publish(CHANNEL, data)
end

HANDLERS = { "/echo" => Echo, "/sub" => Sub, "/subblock" => SubBlock, "/pub" => Pub }.freeze

run(proc do |env|
  if env["rack.upgrade?"] == :websocket
    env["rack.upgrade"] = HANDLERS.fetch(env["PATH_INFO"])
    [200, {}, []]
  else
    [200, { "content-type" => "text/plain", "content-length" => "2" }, ["ws"]]
  end
end)
