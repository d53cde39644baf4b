# frozen_string_literal: true

# Leaving HTTP for a protocol of the application's own: `upgrade.tcp`, and `rack.upgrade` where nobody asked for a WebSocket.

require_relative "../support/talking"

RSpec.describe "upgrades to raw connections" do
  include Talking

  serve_for_all(Asking::APP, threads: 4, before: Talking::RECORDER)

  # A connection that is upgraded by the value of `code`, which knows `name`, and the head of the answer.
  def upgrade(code, name: fresh_name, headers: "", behind: "", **request)
    RawClient.open(server.port) do |client|
      client.write(request_for("name = #{name.inspect}\n#{code}", headers: headers, **request).b + behind)
      yield client, client.read_response(head: true), name
    end
  end

  echo = "Recorder.new(name, on_message: ->(client, data) { client.write(data.upcase) })"

  it "send the answer first, whatever its status below 300, and are raw from then on" do
    { "101" => [101, "Upgrade: echo\r\nConnection: Upgrade\r\n"], "200" => [200, ""], "0" => [200, ""], "-1" => [200, ""],
      "299" => [299, ""] }.each do |status, (sent, headers)|
      upgrade("env['upgrade.tcp'] = #{echo}; [#{status}, { 'x-mine' => '1', 'Upgrade' => 'echo' }, ['never sent']]",
              headers: headers) do |client, answer, name|
        expect([status, answer.status, answer["x-mine"], answer["upgrade"]]).to eq([status, sent, "1", "echo"])
        expect(answer["connection"]).to eq("Upgrade") if sent == 101
        client.write("GET / HTTP/1.1\r\n\r\n")
        expect(client.read_exactly(18)).to eq("GET / HTTP/1.1\r\n\r\n")
        expect(of_client(name, "[client.protocol, client.env, client.timeout]")).to eq([:raw, nil, 40])
      end
    end
  end

  it "also by rack.upgrade, on a request that asks for neither a WebSocket nor SSE" do
    upgrade("env['rack.upgrade'] = #{echo}; [200, {}, []]") do |client, answer, name|
      expect(answer.status).to eq(200)
      client.write("raw")
      expect(client.read_exactly(3)).to eq("RAW")
      expect(told(name)).to eq(["on_open", 'on_message "raw"'])
    end
  end

  it "also by upgrade.tcp in the place of an entry that was deleted" do
    ["", "Connection: Upgrade\r\nUpgrade: echo\r\n"].each do |headers|
      ["env.delete('HTTP_X_CODE')", "env.delete('HTTP_X_CODE'); 9.times { |n| env[n] = n; env.delete(n) }",
       "env.replace('HTTP_HOST' => 'x')"].each do |code|
        upgrade("#{code}; env['upgrade.tcp'] = #{echo}; [101, {}, []]", headers: headers) do |client, answer, _name|
          expect(answer.status).to eq(101)
          client.write("raw")
          expect(client.read_exactly(3)).to eq("RAW")
        end
      end
    end
  end

  it "hear what came behind the request in the same packet" do
    %w[upgrade.tcp rack.upgrade].each do |key|
      headers = "Connection: Upgrade\r\nUpgrade: echo\r\n"
      upgrade("env['#{key}'] = #{echo}; [101, {}, []]", headers: headers, behind: "early") do |client, _answer, name|
        expect(client.read_exactly(5)).to eq("EARLY")
        expect(told(name)).to eq(["on_open", 'on_message "early"'])
      end
    end
  end

  it "read the body of the request before" do
    upgrade("said = env['rack.input'].read; env['upgrade.tcp'] = Recorder.new(name, on_open: ->(client) { client.write(said) }); [200, {}, []]",
            verb: "POST", headers: "Content-Length: 4\r\n", body: "body") do |client, _answer, _name|
      expect(client.read_exactly(4)).to eq("body")
    end
  end

  it "do not happen for an answer of 300 and more, nor for nil" do
    ["env['upgrade.tcp'] = #{echo}; [403, text, ['no']]", "env['rack.upgrade'] = #{echo}; [302, text, ['no']]",
     "env['upgrade.tcp'] = nil; [200, text, ['no']]"].each do |code|
      RawClient.open(server.port) do |client|
        answer = ask("name = 'never'\n#{code}", client: client)
        expect([code, answer.body]).to eq([code, "no"])
        expect(ask("[200, text, ['still HTTP']]", client: client).body).to eq("still HTTP")
      end
    end
    expect(told("never")).to eq([])
  end

  it "prefer a hijack, then upgrade.tcp, then rack.upgrade" do
    upgrade("env['upgrade.tcp'] = Recorder.new(name + 't'); env['rack.upgrade'] = Recorder.new(name + 'r'); [200, {}, []]") do |_, _, name|
      wait_until_told("#{name}t", "on_open")
      expect(told("#{name}r")).to eq([])
    end
    websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    upgrade("env['upgrade.tcp'] = #{echo}; env['rack.upgrade'] = Recorder.new(name + 'r'); [101, {}, []]", headers: websocket) do |client, answer, _|
      expect([answer.status, answer["sec-websocket-accept"]]).to eq([101, nil])
      client.write("tcp")
      expect(client.read_exactly(3)).to eq("TCP")
    end
    name = fresh_name
    RawClient.open(server.port) do |client|
      client.write(request_for("env['upgrade.tcp'] = Recorder.new(#{name.inspect}); io = env['rack.hijack'].call; io.write('mine'); io.close; [200, {}, []]"))
      expect(client.read_all).to eq("mine")
    end
    expect(told(name)).to eq([])
  end

  it "close the body that is not sent" do
    body = "Class.new { define_method(:each) { |&_| raise 'never' }; define_method(:close) { say name, 'body closed' } }.new"
    upgrade("env['upgrade.tcp'] = #{echo}; [200, {}, #{body}]") do |client, _answer, name|
      wait_until_told(name, "body closed")
      client.write("x")
      expect(client.read_exactly(1)).to eq("X")
    end
  end

  it "take handlers that hear nothing" do
    upgrade("env['upgrade.tcp'] = 5; [200, {}, []]") do |client, answer, _|
      expect(answer.status).to eq(200)
      client.write("nobody")
      expect(client).to be_silent(0.05)
    end
  end
end
