# frozen_string_literal: true

require "net/http"

module Bench
  # One request before the load: a wrong answer must not count as a fast one.
  class AnswerCheck
    PATIENCE = 20

    def initialize(server, workload)
      @server = server
      @expected = workload.request
      @path = workload.path
    end

    def run
      answer = ask
      raise "answered #{answer.code}" unless answer.code == "200"

      body = answer.body.to_s
      length, text = @expected.values_at(:length, :text)
      raise "answered #{body.bytesize} bytes, not #{length}" if length && body.bytesize != length
      raise "answered #{body[0, 80].inspect}" if text && body != text
    end

    private

    def ask
      http = Net::HTTP.new("127.0.0.1", @server.port, nil)
      http.open_timeout = http.read_timeout = PATIENCE
      http.request(request)
    end

    def request
      return Net::HTTP::Get.new(@path) unless @expected[:body]

      post = Net::HTTP::Post.new(@path, "content-type" => "application/octet-stream")
      post.body = "x" * @expected[:body]
      post
    end
  end
end
