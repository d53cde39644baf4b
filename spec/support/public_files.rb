# frozen_string_literal: true

# A folder of static files for the examples of a group, and requests for them.

require "fileutils"
require "tmpdir"
require "zlib"

# For groups that serve files. Files are as old as an hour unless told, so that they are believed at once.
module PublicFiles
  OLD = 3600

  # Makes a folder `public` in a folder of its own, with these files, and removes it after the group.
  def public_files(files)
    top = Dir.mktmpdir("iodine-public")
    folder = File.join(top, "public")
    FileUtils.mkdir_p(folder)
    files.each { |name, content| PublicFiles.put(File.join(folder, name), content) }
    after(:context) { FileUtils.remove_entry(top) }
    folder
  end

  def self.put(path, content, age: OLD)
    FileUtils.mkdir_p(File.dirname(path))
    File.binwrite(path, content)
    time = Time.at(Time.now.to_i - age)
    File.utime(time, time, path)
  end

  # Requests, over a connection of their own.
  module Requests
    # Headers may be given as they are, or as a Hash; several values are several lines.
    def fetch(path, headers = {}, verb: "GET", port: nil, client: nil, **more)
      headers = { "Host" => "localhost", **headers, **more }
      return RawClient.open(port || server.port) { |fresh| fetch(path, headers, verb: verb, client: fresh) } unless client

      lines = headers.flat_map { |name, values| [*values].map { |value| "#{name}: #{value}\r\n" } }
      client.write("#{verb} #{path} HTTP/1.1\r\n#{lines.join}\r\n").read_response(head: verb == "HEAD")
    end
  end
end

RSpec.configure do |config|
  config.extend PublicFiles
  config.include PublicFiles::Requests
end
