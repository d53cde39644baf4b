# frozen_string_literal: true

# A Sinatra application, in all ways of serving it.

require_relative "support/application"

RSpec.describe "a Sinatra application" do
  extend Application

  files = {
    "Gemfile" => gemfile("sinatra"),
    "config.ru" => "require_relative 'app'\nrun App\n",
    "public/static.txt" => "from a file",
    "app.rb" => <<~'RUBY'
      require "sinatra/base"
      require "json"

      class App < Sinatra::Base
        enable :sessions
        set :session_secret, "0123456789abcdef" * 8
        set :environment, :production
        set :root, __dir__

        get("/") { "hello from #{Process.pid}" }
        get("/json/:id") { content_type(:json) && { id: params["id"].to_i, q: params["q"] }.to_json }
        post("/form") { params.map { |name, value| "#{name}=#{value}" }.sort.join("&") }
        post("/upload") { "#{params["file"]["filename"]} #{params["file"]["tempfile"].read.sum}" }
        post("/raw") { request.body.read.bytesize.to_s }
        get("/login/:name") { session["name"] = params["name"] and redirect "/me" }
        get("/me") { session["name"].to_s }
        get("/stream") { stream { |out| 3.times { |number| out << "part #{number}\n" } } }
        get("/file") { send_file File.join(settings.root, "public/static.txt") }
        get("/raise") { raise "oh" }
        get("/halt") { halt 418, { "x-tea" => "yes" }, "teapot" }
        get("/url") { url("/there") }
        delete("/thing/:id") { status(204) }
      end
    RUBY
  }

  shared_examples "served" do
    it "routes, with parameters" do
      expect(get("/").body).to match(/\Ahello from \d+\z/)
      answer = get("/json/7?q=a%20b+c")
      expect([answer["content-type"], answer.body]).to eq(["application/json", '{"id":7,"q":"a b c"}'])
      expect(get("/nowhere").code).to eq("404")
    end

    it "takes forms, uploads and raw bodies" do
      expect(post_form("/form", "b" => "2 3", "a" => "ä").body).to eq("a=ä&b=2 3".b)
      data = "\x00\xffline\r\n".b * 100_000
      expect(upload("/upload", "file", "name.bin", data).body).to eq("name.bin #{data.sum}")
      expect(request(:Post, "/raw", data).body).to eq(data.bytesize.to_s)
    end

    it "keeps a session in a cookie, redirects, and knows its own address" do
      answer = get("/login/ann")
      expect([answer.code, answer["location"]]).to eq(["302", "http://127.0.0.1:#{port}/me"]).or eq(["303", "http://127.0.0.1:#{port}/me"])
      expect(get("/me", "cookie" => answer["set-cookie"][/\A[^;]+/]).body).to eq("ann")
      expect(get("/me").body).to eq("")
      expect(get("/url").body).to eq("http://127.0.0.1:#{port}/there")
      expect(get("/url", "x-forwarded-proto" => "https", "x-forwarded-host" => "shop.example").body).to eq("https://shop.example/there")
    end

    it "streams, sends files, and answers HEAD and DELETE" do
      expect(get("/stream").body).to eq("part 0\npart 1\npart 2\n")
      answer = get("/file")
      expect([answer.body, answer["content-type"]]).to match(["from a file", %r{\Atext/plain}])
      expect(get("/static.txt").body).to eq("from a file")
      head = request(:Head, "/file")
      expect([head.body, head["content-length"]]).to eq([nil, "11"])
      expect(request(:Delete, "/thing/3").code).to eq("204")
    end

    it "shows its errors" do
      expect(get("/raise").code).to eq("500")
      answer = get("/halt")
      expect([answer.code, answer["x-tea"], answer.body]).to eq(%w[418 yes teapot])
      expect(get("/").code).to eq("200")
    end

    it "serves many at once" do
      bodies = Array.new(4) { Thread.new { Array.new(25) { |number| get("/json/#{number}").body } } }.map(&:value)
      expect(bodies).to all(eq(Array.new(25) { |number| %({"id":#{number},"q":null}) }))
    end
  end

  describe "by bundle exec iodine, in one process" do
    serve_application(files, "bundle", "exec", "iodine", "-p", "0", "-b", "127.0.0.1", "-w", "1", "-t", "4")
    include_examples "served"
  end

  describe "by bundle exec iodine, in a cluster" do
    serve_application(files, "bundle", "exec", "iodine", "-p", "0", "-b", "127.0.0.1", "-w", "2", "-t", "4")
    include_examples "served"
  end

  describe "by bundle exec rackup -s iodine" do
    serve_application(files, "bundle", "exec", "rackup", "-s", "iodine", "-p", "0", "-o", "127.0.0.1", "-E", "production",
                      env: { "WORKERS" => "1", "THREADS" => "2" })
    include_examples "served"
  end
end
