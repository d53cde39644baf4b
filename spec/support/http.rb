# frozen_string_literal: true

# Talking to a server by raw bytes, so that a spec decides about each of them.

require "socket"

# An answer as it came over the wire.
RawResponse = Struct.new(:status, :reason, :headers, :body) do
  # The values of a header, in order.
  def all(name)
    headers.filter_map { |header, value| value if header == name }
  end

  def [](name)
    all(name).first
  end
end

# One connection. Every read has a deadline.
class RawClient
  GC_STRESS = ENV["IODINE_SPEC_GC_STRESS"] == "1"
  # Far longer than anything takes, on a machine that is busy with other things, too.
  DEADLINE = GC_STRESS ? 50 : 25

  def self.open(port, host: "127.0.0.1", &block)
    closing(new(TCPSocket.new(host, port)), &block)
  end

  def self.open_unix(path, &block)
    closing(new(UNIXSocket.new(path)), &block)
  end

  # Sends bytes on a connection of their own and returns the answers to them, of which there are `count`.
  def self.exchange(port, bytes, count: 1)
    open(port) do |client|
      client.write(bytes)
      Array.new(count) { client.read_response }
    end
  end

  # Sends bytes, in one piece or byte by byte, and returns all that comes until the server closes the connection.
  # With `half_close` the client says that it has no more to ask, so that the server does.
  def self.converse(port, bytes, bytewise: false, half_close: false)
    open(port) do |client|
      begin
        bytewise ? bytes.each_byte { |byte| client.write(byte.chr) } : client.write(bytes)
      rescue Errno::EPIPE, Errno::ECONNRESET
        # It was refused before it was all sent; what was answered can still be read.
      end
      client.finish_writing if half_close
      client.read_all
    end
  end

  def self.closing(client)
    return client unless block_given?

    begin
      yield client
    ensure
      client.close
    end
  end

  attr_reader :socket

  def initialize(socket)
    @socket = socket
    @socket.setsockopt(:TCP, :NODELAY, true) if @socket.is_a?(TCPSocket)
    @buffer = +"".b
  end

  def write(bytes)
    @socket.write(bytes)
    self
  end

  # Sends pieces one by one, each with a moment to arrive. If the server takes two at once after all, the example proves
  # less than it wants to, but does not fail for it.
  def write_pieces(*pieces, pause: 0.01)
    pieces.each_with_index do |piece, index|
      sleep pause if index.positive?
      write(piece)
    end
    self
  end

  # A GET that says no more than it must.
  def get(path = "/", headers = {})
    lines = { "Host" => "localhost" }.merge(headers).map { |name, value| "#{name}: #{value}\r\n" }
    write("GET #{path} HTTP/1.1\r\n#{lines.join}\r\n")
    read_response
  end

  # Reads one answer; `head` says that the request was a HEAD, so that no body follows.
  def read_response(head: false)
    head_text = read_until("\r\n\r\n")
    status_line, *lines = head_text.split("\r\n")
    status = status_line[%r{\AHTTP/1\.1 (\d{3})}, 1].to_i
    headers = lines.map { |line| line.split(": ", 2).then { |name, value| [name, value.to_s] } }
    response = RawResponse.new(status, status_line[13..], headers, nil)
    response.body = head || status < 200 || [204, 304].include?(status) ? "" : read_body(response)
    response
  end

  # A line, with its end.
  def read_line
    read_until("\n")
  end

  # So many bytes.
  def read_exactly(count)
    until @buffer.bytesize >= count
      raise EOFError, "the connection ended after #{@buffer.bytesize} of #{count} bytes" if @ended

      fill
    end
    @buffer.slice!(0, count)
  end

  # Everything up to the end of the connection.
  def read_all
    fill until @ended
    @buffer.slice!(0..).to_s
  end

  # Whether the server closes the connection without sending anything more.
  def closed_by_server?
    read_all.empty?
  rescue Errno::ECONNRESET
    true
  end

  # Whether nothing comes for a while: only for proving an absence.
  def silent?(seconds = 0.1)
    @buffer.empty? && @socket.wait_readable(seconds).nil?
  end

  def finish_writing
    @socket.close_write
    self
  end

  def close
    @socket.close unless @socket.closed?
  end

  private

  def read_body(response)
    if response["transfer-encoding"] == "chunked"
      body = +"".b
      while (size = read_until("\r\n").to_i(16)).positive?
        body << read_exactly(size)
        read_exactly(2)
      end
      read_until("\r\n")
      body
    elsif response["content-length"]
      read_exactly(response["content-length"].to_i)
    else
      read_all
    end
  end

  def read_until(mark)
    until (at = @buffer.index(mark))
      raise EOFError, "the connection ended after #{@buffer.inspect}" if @ended

      fill
    end
    @buffer.slice!(0, at + mark.bytesize)
  end

  def fill
    raise "nothing came within #{DEADLINE} s; so far #{@buffer.inspect}" unless @socket.wait_readable(DEADLINE)

    @buffer << @socket.readpartial(65_536)
  rescue EOFError
    @ended = true
  end
end
