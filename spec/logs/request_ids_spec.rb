# frozen_string_literal: true

# Ids of requests: whose word is taken, who is told, and that no two requests share one.

require "json"
require "tmpdir"

RSpec.describe "ids of requests" do
  app = <<~RUBY
    lambda do |env|
      id = env["HTTP_X_REQUEST_ID"].inspect
      case env["PATH_INFO"]
      when "/own" then next [200, text.merge("X-Request-Id" => "own"), [id]]
      when "/each" then next [200, text, Enumerator.new { |body| 2.times { body << id } }]
      when "/stream" then next [200, text, ->(stream) { stream.write(id); stream.close }]
      when "/raise" then raise "on purpose"
      when "/many" then next [200, text, [env.count { |key, _| key.match?(/request.id/i) }.to_s]]
      end
      [200, text, [id]]
    end
  RUBY
  made = /\A\h{32}\z/

  def id_in(server, headers = {}, path = "/")
    RawClient.open(server.port) { |client| client.get(path, headers) }.body
  end

  describe "where nobody wants them" do
    serve_for_all(app)

    it "are what the client says, or missing, and not in answers" do
      expect(id_in(server)).to eq("nil")
      expect(id_in(server, "X-Request-Id" => "a b")).to eq('"a b"')
      expect(RawClient.open(server.port, &:get)["x-request-id"]).to be_nil
    end
  end

  describe "by request_id: true" do
    serve_for_all(app, options: "request_id: true, log_format: :json")

    it "are made, and reach the application and the log" do
      ids = Array.new(2) { JSON.parse(id_in(server)) }
      expect(ids.uniq).to match([made, made])
      ids.each { |id| server.wait_for_log(/"request_id":"#{id}","status":200/) }
    end

    it "take the place of what clients say, whatever they say" do
      ["evil", "a b", "\xFF".b, "x" * 300].each { |said| expect(JSON.parse(id_in(server, "X-Request-Id" => said))).to match(made) }
      answer = RawClient.exchange(server.port, "GET / HTTP/1.1\r\nHost: x\r\nX-REQUEST-ID: a\r\nx-request-id: b\r\n\r\n")
      expect(JSON.parse(answer.first.body)).to match(made)
      expect(id_in(server, { "X-Request-Id" => "a", "X_Request_Id" => "b" }, "/many")).to eq("1")
    end

    it "are not in answers" do
      expect(RawClient.open(server.port, &:get)["x-request-id"]).to be_nil
    end
  end

  describe "of trusted proxies" do
    serve_for_all(app, options: "request_id_response: true, trusted_proxies: '127.0.0.1', log_format: '%{request_id} %{status}', max_body: 1")

    it "are taken, and told to the client" do
      server.log_after(%r{^7F00:1_a-b\.c@d\+e/f= 200$}) do
        answer = RawClient.open(server.port) { |client| client.get("/", "X-Request-Id" => "7F00:1_a-b.c@d+e/f=") }
        expect([answer.body, answer["x-request-id"]]).to eq(['"7F00:1_a-b.c@d+e/f="', "7F00:1_a-b.c@d+e/f="])
      end
    end

    it "are replaced when they are not in order" do
      ["", "a b", "a\"", "x" * 129, "\xC3\xA4".b].each do |said|
        answer = RawClient.open(server.port) { |client| client.get("/", "X-Request-Id" => said) }
        expect(answer.all("x-request-id")).to match([made])
        expect(JSON.parse(answer.body)).to eq(answer["x-request-id"])
      end
    end

    it "are in streamed answers, failures and refusals, too" do
      headers = { "X-Request-Id" => "given" }
      %w[/each /stream /raise].each do |path|
        answer = RawClient.open(server.port) { |client| client.get(path, headers) }
        expect(answer.all("x-request-id")).to eq(["given"]), path
      end
      refused = "POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: given\r\nContent-Length: 9999999\r\n\r\n"
      added = server.log_after(/^given 413\n/) { expect(RawClient.exchange(server.port, refused).first["x-request-id"]).to eq("given") }
      expect(added).to match(/ refused with 413: /)
      expect(RawClient.exchange(server.port, "BAD\r\n\r\n").first["x-request-id"]).to be_nil
    end

    it "give way to what the application answers" do
      answer = RawClient.open(server.port) { |client| client.get("/own", "X-Request-Id" => "given") }
      expect([answer.all("x-request-id"), answer.body]).to eq([["own"], '"given"'])
    end
  end

  it "are there for a template that names them" do
    server = serve(app, options: "log_format: '%{request_id}'")
    added = server.log_after(/\n/) { @id = JSON.parse(id_in(server)) }
    expect(added).to eq("#{@id}\n")
  end

  it "are told for static files, and for what is none" do
    Dir.mktmpdir do |folder|
      File.write(File.join(folder, "a.txt"), "abc")
      server = serve("false", options: "public: #{folder.inspect}, request_id_response: true, log_format: '%{request_id} %{path} %{bytes}'")
      added = server.log_after(/nothing/) do
        @ids = %w[/a.txt /nothing].map { |path| RawClient.open(server.port) { |client| client.get(path)["x-request-id"] } }
      end
      expect(@ids).to all(match(made))
      expect(added).to eq("#{@ids[0]} /a.txt 3\n#{@ids[1]} /nothing 13\n")
    end
  end

  it "are unique over connections, workers and workers that follow" do
    server = serve(app, workers: 2, options: "request_id: true")
    ids = []
    collect = lambda do
      8.times { RawClient.open(server.port) { |client| 50.times { ids << client.get.body } } }
    end
    collect.call
    server.signal(:USR1)
    server.wait_for_log(/cleanup complete/, times: 2)
    collect.call
    expect(ids.uniq.size).to eq(800)
    # Each worker has a beginning of its own, and a fork shares it with nobody.
    expect(ids.map { |id| id[1, 16] }.uniq.size).to be_between(2, 4)
  end
end
