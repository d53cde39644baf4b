# frozen_string_literal: true

# A bit of everything that touches Ruby values of raw connections, clients and timers. With IODINE_SPEC_GC_STRESS=1 the
# server collects garbage at every allocation meanwhile.

require_relative "../support/talking"

RSpec.describe "raw connections under GC.stress", :gc_stress do
  include Talking

  serve_for_all(Asking::APP, threads: 2, before: Talking::RECORDER)

  it "are opened, spoken on, handed over and closed" do
    port = listen_raw("Recorder.new(name + rand.to_s, on_message: ->(client, data) { client.handler = Recorder.new(name + 'b', " \
                      "on_message: ->(c, d) { c.write(d * 3); c.write('x' * 70_000); c.close }); client.write(data.dup << '!') })")
    2.times do
      RawClient.open(port) do |client|
        client.write("one")
        expect(client.read_exactly(4)).to eq("one!")
        client.write("two")
        expect(client.read_all.bytesize).to eq(70_009)
      end
    end
  end

  it "are made and attached, with blocks that nobody else keeps" do
    listener = PeerServer.tcp
    name = fresh_name
    connect("Recorder.new(name, on_open: ->(client) { client.subscribe(name) { |channel, text| client.write(channel + text) } }, " \
            "on_message: ->(client, data) { Iodine.publish(name, data) })", "url: 'tcp://127.0.0.1:#{listener.port}'", name: name)
    peer = listener.accept
    wait_until_told(name, "on_open")
    peer.write("text")
    expect(peer.read_exactly(name.bytesize + 4)).to eq("#{name}text")
    peer.close
    wait_until_told(name, "on_close")
    expect(value_of("a, b = UNIXSocket.pair; Iodine.attach_fd(a.fileno, Class.new { def on_message(c, d) = c.write(d * 2) }.new); a.close; " \
                    "b.write('ab'); b.readpartial(4).tap { b.close }")).to eq("abab")
  ensure
    listener.close
  end

  it "have timers that run, and some that are cancelled" do
    name = fresh_name
    told = value_of("name = #{name.inspect}; timers = Array.new(5) { |number| Iodine.run_after(100_000) { say name, 'never' } }; " \
                    "Iodine.run_after(1) { Iodine.run { say name, 'ran' } }; timers.map { |timer| Iodine.cancel(timer) }")
    expect(told).to eq([true] * 5)
    wait_until_told(name, "ran")
  end
end
