# frozen_string_literal: true

# Messages in all their forms, and connections of our own making. With IODINE_SPEC_GC_STRESS=1 the server collects garbage at
# every allocation meanwhile; collector_spec.rb has the rest.

RSpec.describe "connections under GC.stress", :gc_stress, :real_time, timeout: 300 do
  serve_for_all(Asking::APP, threads: 2, before: RealTime::SETUP, options: "deflate: true")

  it "echo text, binary and fragments, and tell of their end" do
    web_socket("echo(on_close: ->(c) { tell(c.close_code, c.close_reason, c.env['PATH_INFO']) })", path: "/some") do |socket|
      2.times do
        expect(socket.text("gr\u00fc\u00dfe").read_message).to eq("gr\u00fc\u00dfe")
        expect(socket.frame(:binary, "\x00\xFF" * 5000).read_message).to eq("\x00\xFF".b * 5000)
        expect(socket.text("x" * 50_000).read_message).to eq("x" * 50_000)
        expect(socket.text("one ", final: false).frame(:continuation, "two").read_message).to eq("one two")
      end
      socket.say_goodbye(4000, "bye")
    end
    expect(told).to eq([[4000, "bye", "/some"]])
  end

  it "echo compressed" do
    web_socket(deflate: "permessage-deflate") do |socket|
      2.times { expect(socket.compressed("again and " * 100).read_message).to eq("again and " * 100) }
    end
  end

  it "are made by the server, too" do
    value_of(<<~RUBY)
      port = own_port
      example("client")
      Iodine.connect(url: "tcp://127.0.0.1:\#{port}", handler: on(
        on_open: ->(c) { c.write("GET /none HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n") },
        on_message: ->(_, data) { tell(data[0, 12]) }, on_close: ->(_) { tell(:closed) }
      ))
      nil
    RUBY
    expect(told(2)).to eq(["HTTP/1.1 500", :closed])
  end
end
