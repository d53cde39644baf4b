# frozen_string_literal: true

# An application in a folder of its own, with a Gemfile of its own, served by a command for all examples of a group.

require "net/http"
require "tmpdir"
require_relative "../../support/command"

# For groups of examples.
module Application
  # For the examples themselves.
  module Requests
    def port
      @server.port
    end

    def get(path, headers = {})
      request(:Get, path, nil, headers)
    end

    def request(verb, path, body = nil, headers = {})
      Net::HTTP.start("127.0.0.1", port, open_timeout: 10, read_timeout: 20) do |http|
        # Named or not, some body always has a type.
        headers = { "content-type" => "application/octet-stream" }.merge(headers) if body
        http.request(Net::HTTP.const_get(verb).new(path, headers).tap { |message| message.body = body if body })
      end
    end

    def post_form(path, fields)
      request(:Post, path, URI.encode_www_form(fields), "content-type" => "application/x-www-form-urlencoded")
    end

    def upload(path, field, filename, data)
      body = "--mark\r\nContent-Disposition: form-data; name=\"#{field}\"; filename=\"#{filename}\"\r\n" \
             "Content-Type: application/octet-stream\r\n\r\n".b + data + "\r\n--mark--\r\n"
      request(:Post, path, body, "content-type" => "multipart/form-data; boundary=mark")
    end
  end

  # From Rack 3 on, rackup is a gem of its own.
  def gemfile(*gems)
    gems.unshift("rack")
    gems << "rackup" if Gem::Specification.any? { |gem| gem.name == "rackup" }
    ["source 'https://rubygems.org'", "gem 'iodine', path: '#{ServerProcess::ROOT}'", *gems.map { |name| "gem '#{name}'" }].join("\n")
  end

  # Serves the application of these files by this command, which must end well by INT.
  def serve_application(files, *words, env: {})
    include Requests

    before(:context) do
      @folder = Dir.mktmpdir("iodine-spec-app")
      files.each do |name, content|
        path = File.join(@folder, name)
        FileUtils.mkdir_p(File.dirname(path))
        File.write(path, content)
      end
      # Where `bundle install` puts commands is not for specs to write to.
      env = { "BUNDLE_GEMFILE" => File.join(@folder, "Gemfile"), "PATH" => "#{ServerProcess::ROOT}/exe:#{ENV.fetch("PATH")}", **env }
      @server = CommandProcess.new(RbConfig.ruby, "-S", *words, chdir: @folder, env: env)
      @server.wait_for_log(/\* Press \^C/, seconds: 60)
    rescue RuntimeError
      # Above all when a gem is missing.
      warn "--- log of #{words.join(" ")}:\n#{@server&.log}"
      raise
    end

    after(:context) do
      @server&.signal(:INT) if @server&.alive?
      expect(@server.wait.exitstatus).to eq(0)
    ensure
      @server&.stop
      FileUtils.rm_rf(@folder) if @folder
    end

    after { |example| warn "--- log of #{words.join(" ")}:\n#{@server.log}" if example.exception }
  end
end
