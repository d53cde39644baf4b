# frozen_string_literal: true

# Raw connections: the same behaviour whoever has made them, over TCP, Unix sockets and TLS.

require_relative "../support/talking"

RSpec.shared_examples "a raw connection" do
  # A connection whose handler does that; both its Recorder's name and the example's end.
  def talk(does = "", handler: "Recorder.new(name, #{does})")
    name = fresh_name
    peer = open_pair(handler, name)
    yield peer, name
  ensure
    peer&.close
  end

  it "is opened first of all, with no env, and says what it is" do
    talk do |_peer, name|
      wait_until_told(name, "on_open")
      expect(told(name)).to eq(["on_open"])
      facts = of_client(name, "[client.protocol, client.env, client.open?, client.pending, client.timeout, client.pubsub?, " \
                              "client.handler.class.name]")
      expect(facts).to eq([:raw, nil, true, 0, usual_timeout, true, "Recorder"])
    end
  end

  it "may be written to when it is opened, and gets bytes as they are" do
    talk('on_open: ->(client) { say name, client.write("caf\u00e9\xff\0"), client.write("") }') do |peer, name|
      expect(peer.read_exactly(7)).to eq("caf\u00e9\xFF\0".b)
      wait_until_told(name, "true true")
    end
  end

  it "delivers what comes, whatever it is, in order, as binary Strings that are the application's to change" do
    sum = "on_message: ->(client, data) { say name, data.encoding, data.frozen?; client.write(data << '!') }"
    talk(sum) do |peer, name|
      peer.write("caf\u00e9\xff\0")
      expect(peer.read_exactly(8)).to eq("caf\u00e9\xFF\0!".b)
      expect(told(name)).to include("ASCII-8BIT false")
    end
  end

  it "carries much in both directions at once" do
    talk("on_message: ->(client, data) { client.write(data) }") do |peer, _name|
      bytes = Random.new(7).bytes(3_000_000)
      writer = Thread.new { peer.write(bytes) }
      expect(peer.read_exactly(bytes.bytesize) == bytes).to be(true)
      writer.join
    end
  end

  it "calls on_drained behind on_open, and again when what was written has left" do
    talk("on_drained: ->(client) { say name, client.pending }, on_message: ->(client, _) { client.write('x') }") do |peer, name|
      wait_until_told(name, "0")
      expect(told(name)).to eq(["on_open", "on_drained", "0"])
      peer.write("a")
      peer.read_exactly(1)
      wait_until_told(name, "on_drained", times: 2)
    end
  end

  it "is closed behind all that was written" do
    talk('on_message: ->(client, _) { client.write("x" * 2_000_000); client.write("end"); client.close; ' \
         "say name, client.open?, client.write('late').inspect }") do |peer, name|
      peer.write("go")
      wait_until_told(name, "false nil")
      expect(peer.read_all == "#{"x" * 2_000_000}end").to be(true)
      wait_until_told(name, "on_close")
      expect(told(name).last).to eq("on_close")
    end
  end

  it "ends with on_close, once and last, whoever ends it; its object answers on" do
    closing = "on_close: ->(client) { say name, client.open?, client.pending, client.write('x').inspect, client.protocol, " \
              "client.handler.class }"
    talk(closing) do |peer, name|
      wait_until_told(name, "on_open")
      peer.close
      wait_until_told(name, "false -1 nil raw Recorder")
      dead = "5000.times { break if client.protocol.nil?; sleep 0.005 }; " \
             "[client.write('x'), client.close, client.open?, client.pending, client.protocol, client.timeout, client.env, " \
             "client.handler, client.subscribe('x'), client.unsubscribe('x'), client.publish('x', 'y')]"
      expect(of_client(name, dead)).to eq([nil, nil, false, -1, nil, nil, nil, nil, nil, nil, true])
      expect(told(name).count("on_close")).to eq(1)
    end
  end

  it "hears what the peer has sent with its end, and then the end" do
    talk do |peer, name|
      peer.write("last words")
      peer.close
      wait_until_told(name, "on_close")
      expect(told(name)).to eq(["on_open", 'on_message "last words"', "on_close"])
    end
  end

  it "writes what the last bytes of a peer lead to that says it has no more" do
    skip "TLS 1.3 of Ruby's OpenSSL can not be half closed" if tls?
    talk('on_message: ->(client, data) { sleep 0.05; client.write(data * 100_000) }') do |peer, name|
      peer.write("0123456789").finish_writing
      expect(peer.read_all == "0123456789" * 100_000).to be(true)
      wait_until_told(name, "on_close")
    end
  end

  it "changes its handler when told to: the old one's end, the new one's beginning, and all that comes" do
    does = "on_message: ->(client, _) { say name, 'before'; client.handler = Recorder.new(name + 'b', " \
           "on_message: ->(client, data) { client.write(data.upcase) }); say name, 'after' }"
    talk(does) do |peer, name|
      peer.write("switch")
      wait_until_told(name, "after")
      expect(server.said.grep(/\A#{name}b? /)).to eq(["on_open", 'on_message "switch"', "before", "on_close"].map { |word| "#{name} #{word}" } +
                                                     ["#{name}b on_open", "#{name} after"])
      peer.write("hi")
      expect(peer.read_exactly(2)).to eq("HI")
      peer.close
      wait_until_told("#{name}b", "on_close")
      expect(told(name).count("on_close")).to eq(1)
    end
  end

  it "is closed by a handler of nil" do
    talk("on_message: ->(client, _) { say name, (client.handler = nil).inspect }") do |peer, name|
      peer.write("x")
      expect(peer.read_all).to eq("")
      wait_until_told(name, "on_close")
    end
  end

  it "survives what its callbacks raise" do
    does = "on_open: ->(_) { raise 'in on_open of ' + name }, on_message: ->(client, data) { client.write(data); exit(3) }"
    talk(does) do |peer, name|
      2.times do
        peer.write("x")
        expect(peer.read_exactly(1)).to eq("x")
      end
      server.wait_for_log(/unprotected exception - RuntimeError: in on_open of #{name}\n/)
    end
  end

  it "tells its peer what is published to a channel that it subscribes to, byte by byte" do
    talk("on_open: ->(client) { client.subscribe(name); client.write('.') }") do |peer, name|
      peer.read_exactly(1)
      value_of("Iodine.publish(#{name.inspect}, \"\\xFF\\0x\".b)")
      expect(peer.read_exactly(3)).to eq("\xFF\0x".b)
    end
  end

  it "is no longer read from while its peer does not read the replies" do
    talk("on_message: ->(client, data) { client.write(data) }") do |peer, _name|
      sent = 0
      chunk = "x" * 65_536
      # Buffers of the two sockets, what may wait to be written, and no more.
      while peer.socket.to_io.wait_writable(0.15)
        written = peer.socket.write_nonblock(chunk, exception: false)
        break unless written.is_a?(Integer)

        sent += written
        raise "#{sent} bytes were taken" if sent > 100_000_000
      end
      expect(peer.read_exactly(sent).bytesize).to eq(sent)
    end
  end

  it "keeps what a peer that reads slowly has not read" do
    # More than the buffers of two sockets ever hold, and less than `max_backlog`.
    does = "on_message: ->(client, _) { say name, Array.new(500) { |i| client.write(i.to_s.rjust(100_000)) }.all?, client.pending.positive? }"
    talk(does) do |peer, name|
      peer.write("x")
      wait_until_told(name, "true true")
      expect(Array.new(500) { peer.read_exactly(100_000).to_i }).to eq((0..499).to_a)
    end
  end

  it "is written to from any thread, in the order of each" do
    does = "on_message: ->(client, _) { Array.new(4) { |n| Thread.new { 100.times { |i| client.write([n, i].pack('CC')) } } }.each(&:join) }"
    talk(does) do |peer, _name|
      peer.write("x")
      numbers = peer.read_exactly(800).unpack("C*").each_slice(2).group_by(&:first)
      expect(numbers.transform_values { |pairs| pairs.map(&:last) }).to eq((0..3).to_h { |n| [n, (0..99).to_a] })
    end
  end

  it "takes what is no String with a warning, and refuses what has no text" do
    does = "on_message: ->(client, _) { client.write(:symbol); say name, (client.write rescue $!.class), (client.write(1, 2) rescue $!.class) }"
    talk(does) do |peer, name|
      peer.write("x")
      expect(peer.read_exactly(6)).to eq("symbol")
      wait_until_told(name, "ArgumentError ArgumentError")
      server.wait_for_log(/`Iodine::Connection#write` was called with a non-String object/)
    end
  end

  it "has its app thread replaced when that is killed in a callback, and goes on" do
    does = "on_message: ->(client, data) { Thread.current.kill if data == 'k'; client.write(data) }"
    talk(does) do |peer, _name|
      peer.write("k")
      server.log # nothing is to be seen of it
      eventually do
        peer.write("a")
        peer.read_exactly(1)
      end
      peer.close
    end
  end

  it "is not there for a child that a callback forks" do
    does = "on_message: ->(client, _) { pid = fork { client.write('child'); exit!(client.open? ? 1 : 0) }; " \
           "client.write(Process.wait2(pid).last.exitstatus.to_s) }"
    talk(does) do |peer, _name|
      2.times do
        peer.write("x")
        expect(peer.read_exactly(1)).to eq("0")
      end
    end
  end
end

RSpec.describe "raw connections" do
  include Talking

  serve_for_all(Asking::APP, threads: 6, before: Talking::RECORDER)

  before(:context) do
    @authority = TestAuthority.new
    @identity = @authority.issue("DNS:localhost")
  end

  after(:context) { @authority.remove }

  # How a connection comes about whose handler is the value of that source; the example's end of it.
  def open_as(kind, handler, name)
    case kind
    when :tcp then RawClient.open(listen_raw(handler, name: name))
    when :unix then RawClient.open_unix(listen_raw(handler, name: name, unix: socket_for(name)))
    when :tcp_client then made(PeerServer.tcp, handler, name) { |server| "url: 'tcp://127.0.0.1:#{server.port}'" }
    when :upgraded then upgraded(handler, name)
    when :unix_client then made(PeerServer.unix(socket_for(name)), handler, name) { "url: 'unix://#{socket_for(name)}'" }
    when :tls_client
      made(TlsPeerServer.new(@identity), handler, name) do |server|
        "url: 'tls://localhost:#{server.port}', tls: { trust: #{@authority.path.inspect} }"
      end
    end
  end

  def upgraded(handler, name)
    client = RawClient.open(server.port)
    client.write(request_for("name = #{name.inspect}; env['upgrade.tcp'] = (#{handler}); [200, {}, []]"))
    client.read_response(head: true)
    client
  end

  def socket_for(name)
    File.join(@authority.folder, name)
  end

  # The listening socket is there for as long as it takes to be connected to once.
  def made(listener, handler, name)
    connect(handler, yield(listener), name: name)
    listener.accept
  ensure
    listener.close
  end

  kinds = { tcp: "accepted over TCP", unix: "accepted on a Unix socket", upgraded: "upgraded from HTTP",
            tcp_client: "made by a client over TCP", unix_client: "made by a client to a Unix socket",
            tls_client: "made by a client with TLS" }

  kinds.each do |kind, words|
    describe words do
      define_method(:open_pair) { |handler, name| open_as(kind, handler, name) }
      define_method(:tls?) { kind == :tls_client }
      # An HTTP connection might have stayed idle for so long.
      define_method(:usual_timeout) { kind == :upgraded ? 40 : 0 }

      it_behaves_like "a raw connection"
    end
  end

  # All of them at the same time, because it takes theirs.
  describe "that are silent" do
    # For each kind a connection whose handler does that.
    def talk_by_all(does)
      KINDS.map do |kind|
        name = fresh_name
        [name, open_as(kind, "Recorder.new(name, #{does})", name)]
      end
    end

    before { stub_const("KINDS", kinds.keys) }

    it "have ping called again and again, once per timeout, or are closed without one (F31), or stay for ever with 0" do
      began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      soon = "on_open: ->(client) { client.timeout = 1 }"
      # By itself, at once: a word of the example might come too late.
      stay = "client.timeout.zero? || (client.timeout = 0; client.write('0'))"
      forever = talk_by_all("#{soon}, on_drained: ->(client) { #{stay} }")
      pinged = talk_by_all("#{soon}, ping: ->(client) { client.write('?') }")
      closed = talk_by_all(soon)
      # Who has a ping callback decides what becomes of it.
      pinged.each { |_name, peer| expect(peer.read_exactly(2)).to eq("??") }
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - began).to be >= 1.9
      closed.each do |name, peer|
        expect(peer.read_all).to eq("")
        wait_until_told(name, "on_close")
      end
      forever.each do |name, peer|
        expect(peer.read_exactly(1)).to eq("0")
        expect([peer.silent?(0), told(name).include?("on_close")]).to eq([true, false])
      end
      expect(of_client(pinged.first.first, "client.timeout")).to eq(1)
      [*pinged, *closed, *forever].each { |_name, peer| peer.close }
    end

    it "are left alone while the application writes, and while it is at work" do
      # The server may stand still for a while between two of these.
      writing = talk_by_all("on_message: ->(client, _) { client.timeout = 3; Thread.new { 18.times { client.write('.'); sleep 0.2 } } }")
      working = talk_by_all("on_message: ->(client, _) { client.timeout = 1; sleep(1.3); client.write('!') }")
      [*writing, *working].each { |_name, peer| peer.write("x") }
      writing.each { |_name, peer| expect(peer.read_exactly(18)).to eq("." * 18) }
      working.each { |_name, peer| expect(peer.read_exactly(1)).to eq("!") }
      [*writing, *working].each { |_name, peer| peer.close }
    end
  end
end
