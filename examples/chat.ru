# frozen_string_literal: true

# A chat: whoever opens the page may speak, and all who have it open hear it at once. Browsers come by WebSocket; where
# none gets through they listen to an EventSource and speak by POST (the page does so from the start as /?events).
#
#   iodine examples/chat.ru         (in a checkout: bin/serve)

require "json"
require "uri"

module Chat
  ROOM = "chat"
  PAGE = File.read(File.expand_path("chat.html", __dir__))
  # The page brings all it needs along, and talks to nobody else.
  POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; " \
           "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
  HTML = { "content-type" => "text/html; charset=utf-8", "content-security-policy" => POLICY }.freeze
  LONGEST_NAME = 24
  LONGEST_TEXT = 2000

  # Someone who has the page open: the callbacks of one connection.
  class Guest
    def initialize(name)
      @name = name
    end

    # Whatever is published to the room is written to the client, without a call of ours.
    def on_open(client)
      client.subscribe(ROOM)
      Chat.tell(:joined, @name)
    end

    # WebSockets only: an EventSource can not speak.
    def on_message(_client, text)
      Chat.say(@name, text)
    end

    def on_close(_client)
      Chat.tell(:left, @name)
    end
  end

  class << self
    def call(env)
      case env["PATH_INFO"]
      when "/" then [200, HTML, [PAGE]]
      when "/chat" then welcome(env, :websocket)
      when "/events" then welcome(env, :sse)
      when "/say" then hear(env)
      else [404, {}, []]
      end
    end

    def say(name, text)
      text = clean(text, LONGEST_TEXT)
      tell(:said, name, text) unless text.empty?
    end

    # Everybody hears this, whichever way they listen, and whichever worker they are connected to.
    def tell(what, name, text = nil)
      Iodine.publish(ROOM, JSON.generate(what: what, name: name, text: text, at: Time.now.to_i))
    end

    private

    # The server answers the handshake; from here on the guest's callbacks are called.
    def welcome(env, protocol)
      return [426, { "upgrade" => "websocket" }, []] unless env["rack.upgrade?"] == protocol

      env["rack.upgrade"] = Guest.new(name_in(env["QUERY_STRING"]))
      [200, {}, []]
    end

    def hear(env)
      return [405, { "allow" => "POST" }, []] unless env["REQUEST_METHOD"] == "POST"

      say(name_in(env["QUERY_STRING"]), env["rack.input"].read(LONGEST_TEXT * 4))
      [204, {}, []]
    end

    def name_in(query)
      name = clean(URI.decode_www_form(query).to_h["name"], LONGEST_NAME)
      name.empty? ? "somebody" : name
    rescue ArgumentError
      "somebody"
    end

    # What people send may be anything.
    def clean(text, longest)
      text.to_s.dup.force_encoding(Encoding::UTF_8).scrub.strip[0, longest]
    end
  end
end

run Chat
