# frozen_string_literal: true

# A small Rails application, in all ways of serving it.

require_relative "support/application"

RSpec.describe "a Rails application" do
  extend Application

  files = {
    "Gemfile" => gemfile("rails"),
    "config.ru" => "require_relative 'config/environment'\nrun Rails.application\n",
    "config/environment.rb" => "require_relative 'application'\nRails.application.initialize!\n",
    "log/.keep" => "",
    "tmp/.keep" => "",
    "public/static.txt" => "from a file",
    "bin/rails" => <<~RUBY,
      APP_PATH = File.expand_path("../config/application", __dir__)
      require "logger" # older versions of Rails forget it
      require "rails/commands"
    RUBY
    "config/application.rb" => <<~'RUBY'
      require "logger"
      require "rails"
      require "action_controller/railtie"

      class Small < Rails::Application
        config.root = File.expand_path("..", __dir__)
        config.eager_load = true
        config.cache_classes = true
        config.consider_all_requests_local = false
        config.hosts.clear
        config.secret_key_base = "0123456789abcdef" * 4
        config.session_store :cookie_store, key: "_small"
        config.public_file_server.enabled = true
        config.logger = ActiveSupport::Logger.new($stderr, level: :error)
        routes.append do
          root to: "things#root"
          resources :things, only: %i[show create destroy]
          %i[login me raises].each { |name| get name, to: "things##{name}" }
          get "stream", to: "streams#show"
          get "slow", to: "streams#slow"
          get "endless", to: "streams#endless"
          get "left", to: "streams#left"
          post "upload", to: "things#upload"
        end
      end

      class ThingsController < ActionController::Base
        def root = render(plain: "hello from #{Process.pid}")
        def show = render(json: { id: params[:id].to_i, q: params[:q] })
        def create = render(json: params.require(:thing).permit(:name, :size), status: :created)
        def destroy = head(:no_content)
        def me = render(plain: session[:name].to_s)
        def raises = raise("oh")
        def upload = render(plain: "#{params[:file].original_filename} #{params[:file].read.sum}")

        def login
          session[:name] = params[:name]
          redirect_to("/me")
        end
      end

      class StreamsController < ActionController::Base
        include ActionController::Live

        def show
          response.headers["Content-Type"] = "text/plain"
          3.times { |number| response.stream.write("part #{number}\n") }
        ensure
          response.stream.close
        end

        # The second part waits for the query to come again on another connection.
        def slow
          return GATES.fetch(params[:gate]).push(nil) && head(:no_content) if params[:open]

          unbuffered
          response.stream.write("first\n")
          GATES.fetch(params[:gate]).pop
          response.stream.write("second\n")
        ensure
          response.stream.close
        end

        # Not made as they are asked for: two threads would make two.
        GATES = { "a" => Queue.new }.freeze

        # Rack::ETag gathers a body to the end, unless there is a validator already.
        def unbuffered = response.headers["Last-Modified"] = Time.now.httpdate

        def endless
          unbuffered
          loop { response.stream.write("x" * 10_000) }
        rescue ActionController::Live::ClientDisconnected
          self.class.left = true
        ensure
          response.stream.close
        end

        class << self
          attr_accessor :left
        end

        def left = render(plain: self.class.left.inspect)
      end
    RUBY
  }

  shared_examples "served" do
    it "routes, with parameters" do
      expect(get("/").body).to match(/\Ahello from \d+\z/)
      answer = get("/things/7?q=a%20b+c")
      expect([answer["content-type"], answer.body]).to eq(["application/json; charset=utf-8", '{"id":7,"q":"a b c"}'])
      expect(get("/nowhere").code).to eq("404")
    end

    it "takes forms, JSON and uploads" do
      answer = post_form("/things", "thing[name]" => "b 3", "thing[size]" => "7", "thing[evil]" => "x")
      expect([answer.code, answer.body]).to eq(["201", '{"name":"b 3","size":"7"}'])
      answer = request(:Post, "/things", '{"thing":{"name":"b","size":9}}', "content-type" => "application/json")
      expect(answer.body).to eq('{"name":"b","size":9}')
      data = "\x00\xffline\r\n".b * 100_000
      expect(upload("/upload", "file", "name.bin", data).body).to eq("name.bin #{data.sum}")
    end

    it "keeps a session in a cookie and redirects" do
      answer = get("/login?name=ann")
      expect([answer.code, answer["location"]]).to eq(["302", "http://127.0.0.1:#{port}/me"])
      expect(get("/me", "cookie" => answer["set-cookie"][/\A[^;]+/]).body).to eq("ann")
      expect(get("/me").body).to eq("")
      expect(get("/login", "x-forwarded-proto" => "https", "x-forwarded-host" => "shop.example")["location"])
        .to eq("https://shop.example/me")
    end

    it "streams from a thread of its own, sends files, and answers HEAD and DELETE" do
      expect(get("/stream").body).to eq("part 0\npart 1\npart 2\n")
      expect(get("/static.txt").body).to eq("from a file")
      head = request(:Head, "/things/1")
      expect([head.code, head.body]).to eq(["200", nil])
      expect(request(:Delete, "/things/3").code).to eq("204")
    end

    it "shows its errors, and says so when something is not modified" do
      expect(get("/raises").code).to eq("500")
      answer = get("/")
      again = get("/", "if-none-match" => answer["etag"])
      # Another worker has another body, because its pid is in it.
      expect([again.code, again.body]).to eq(["304", nil]).or match(["200", /\Ahello from \d+\z/])
      expect(again.body).to be_nil.or satisfy { |body| body != answer.body }
    end

    it "serves many at once" do
      bodies = Array.new(4) { Thread.new { Array.new(10) { |number| get("/things/#{number}").body } } }.map(&:value)
      expect(bodies).to all(eq(Array.new(10) { |number| %({"id":#{number},"q":null}) }))
    end
  end

  production = { "RAILS_ENV" => "production", "RACK_ENV" => "production" }

  describe "by bundle exec iodine, in one process" do
    serve_application(files, "bundle", "exec", "iodine", "-p", "0", "-b", "127.0.0.1", "-w", "1", "-t", "4", env: production)
    include_examples "served"

    it "streams from ActionController::Live as it goes" do
      RawClient.open(port) do |client|
        client.write("GET /slow?gate=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        nil until client.read_line == "\r\n"
        expect(client.read_exactly(11)).to eq("6\r\nfirst\n\r\n")
        expect(get("/slow?gate=a&open=1").code).to eq("204")
        expect(client.read_exactly(17)).to eq("7\r\nsecond\n\r\n0\r\n\r\n")
      end
    end

    it "tells ActionController::Live when the client leaves" do
      RawClient.open(port) do |client|
        client.write("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.read_line
      end
      eventually { get("/left").body == "true" }
    end
  end

  describe "by bundle exec iodine, in a cluster" do
    serve_application(files, "bundle", "exec", "iodine", "-p", "0", "-b", "127.0.0.1", "-w", "2", "-t", "4", env: production)
    include_examples "served"
  end

  describe "by bundle exec rackup -s iodine" do
    serve_application(files, "bundle", "exec", "rackup", "-s", "iodine", "-p", "0", "-o", "127.0.0.1", "-E", "production",
                      env: { "WORKERS" => "1", "THREADS" => "2", **production })
    include_examples "served"
  end

  describe "by rails server -u iodine" do
    serve_application(files, "bundle", "exec", "ruby", "bin/rails", "server", "-u", "iodine", "-p", "0", "-b", "127.0.0.1",
                      env: { "WORKERS" => "1", "THREADS" => "2", **production })
    include_examples "served"
  end
end
