# frozen_string_literal: true

# That memory, descriptors and files do not grow with what has been served. Measured from outside, on Linux.

require_relative "../support/memory"

RSpec.describe "a server that has served much", :slow, timeout: 300 do
  include Memory

  app = <<~RUBY
    ->(env) do
      case env["PATH_INFO"]
      when "/post" then [200, {}, [env["rack.input"].read.bytesize.to_s]]
      when "/large" then [200, { "content-type" => "text/plain" }, ["x" * 100_000]]
      when "/each" then [200, {}, %w[some parts].each_entry]
      when "/stream" then [200, {}, ->(stream) { stream << "some" << "parts"; stream.close }]
      when "/forgotten" then [200, {}, ->(stream) { stream << "some" }]
      when "/collect" then GC.start && [200, {}, []]
      when "/raise" then raise "oh"
      when "/task" then Iodine.run { $tasks += 1 } and Iodine.run_after(1) { $tasks += 1 } and [200, {}, []]
      else [200, { "x-header" => env["HTTP_X_OTHER"].to_s }, ["hello"]]
      end
    end
  RUBY

  # Sends `total` of these requests on several connections, so many at a time. All answers must be of one length, so that
  # nothing but bytes has to be counted; or else they are `parsed`.
  def flood(request, total, connections: 4, depth: 32, parsed: false)
    one = request.sub("Host:", "Connection: close\r\nHost:")
    size = RawClient.open(@port) { |client| client.write(one).read_all.bytesize } - "connection: close\r\n".bytesize
    batch = request * depth
    Array.new(connections) do
      Thread.new do
        RawClient.open(@port) do |client|
          (total / connections / depth).times do
            next client.write(batch) && depth.times { client.read_response } if parsed

            answers = client.write(batch).socket.read(size * depth)
            raise "#{answers.to_s.bytesize} bytes instead of #{size * depth}" unless answers&.bytesize == size * depth
          end
        end
      end
    end.each(&:join)
  end

  # Whether they are chunked depends on how busy the machine is.
  produced = ["bodies that are run", "callable bodies"]

  {
    "plain requests" => ["GET / HTTP/1.1\r\nHost: localhost\r\nX-Other: some\r\n\r\n", 40_000, 200_000, 0],
    "requests with bodies" => ["POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n#{"b" * 2000}", 100_000, 100_000, 3],
    "chunked bodies" => ["POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n#{"b" * 1000}\r\n0\r\n\r\n", 100_000, 100_000, 3],
    "large answers" => ["GET /large HTTP/1.1\r\nHost: x\r\n\r\n", 10_000, 20_000, 32],
    "bodies that are run" => ["GET /each HTTP/1.1\r\nHost: x\r\n\r\n", 20_000, 30_000, 3],
    "callable bodies" => ["GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", 20_000, 30_000, 3],
    "exceptions" => ["GET /raise HTTP/1.1\r\nHost: x\r\n\r\n", 60_000, 60_000, 3],
    "tasks and timers" => ["GET /task HTTP/1.1\r\nHost: x\r\n\r\n", 30_000, 60_000, 3]
  }.each do |kind, (request, little, much, slack)|
    it "is as it was before #{much} #{kind}" do
      server = start_server(app)
      expect_level(server, little, much, slack: slack) { |count| flood(request, count, parsed: produced.include?(kind)) }
    end
  end

  it "is as it was before 3000 streams that the application forgot" do
    server = start_server(app)
    forget = lambda do |count|
      Array.new(16) do
        Thread.new do
          (count / 16).times do
            RawClient.open(@port) { |client| client.write("GET /forgotten HTTP/1.1\r\nHost: x\r\n\r\n").read_line }
          rescue EOFError
            # The collector was quicker than the head.
          end
        end
      end.each(&:join)
      # The collector ends them; some may yet be seen on a stack.
      eventually(20) { RawClient.open(@port) { |client| client.get("/collect") } && descriptors(server) < 100 }
      server.rss
    end
    before = forget.call(1600)
    expect(forget.call(3000)).to be <= before + (8 << 20)
  end

  it "is as it was before uploads that went to files" do
    server = start_server(app)
    request = "POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\n\r\n#{"b" * 700_000}"
    # What the application has read is garbage, and lies where the allocator likes; 600 of them have 420 MB.
    expect_level(server, 200, 600, slack: 48) { |count| flood(request, count, connections: 2, depth: 1) }
  end

  it "is as it was before 20000 connections, however they ended" do
    server = start_server(app)
    endings = [
      ->(client) { client.get },
      ->(client) { client.get("/", "Connection" => "close") },
      ->(client) { client },
      ->(client) { client.write("GET / HTTP/1.1\r\nHo") },
      ->(client) { client.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nabc") },
      ->(client) { client.write("nonsense\r\n\r\n").read_response },
      ->(client) { client.write("GET /each HTTP/1.1\r\nHost: x\r\n\r\n" * 4) },
      ->(client) { client.socket.setsockopt(Socket::SOL_SOCKET, Socket::SO_LINGER, [1, 0].pack("ii")) && client.get }
    ]
    expect_level(server, 8000, 20_000) do |count|
      # Each source address has its own ports, of which those just used have to rest.
      Array.new(4) do |number|
        Thread.new do
          (count / 4).times do |round|
            client = RawClient.new(TCPSocket.new("127.0.0.1", @port, "127.0.0.#{2 + number + (4 * (round % 8))}"))
            endings[round % endings.size].call(client)
            client.close
          end
        end
      end.each(&:join)
    end
  end

  it "is as it was before 2000 connections were open at once, again and again" do
    server = start_server(app)
    expect_level(server, 2000, 2000) do
      clients = Array.new(2000) { |number| RawClient.new(TCPSocket.new("127.0.0.1", @port, "127.0.0.#{2 + (number % 8)}")) }
      clients.each(&:get)
      clients.each(&:close)
    end
  end

  it "holds on to no application, timer or task when it has been stopped" do
    server = start_script(<<~RUBY)
      require "iodine"
      require "objspace"
      Iodine.workers = 1
      Iodine.threads = 2
      Ballast = Class.new
      20.times do
        app, timer, task = Array.new(3) { Ballast.new }
        Iodine.listen(service: :http, port: 0, address: "127.0.0.1", handler: ->(_env) { [200, {}, [app.inspect]] })
        Iodine.run_every(60_000) { timer }
        Iodine.run_every(1) { timer }
        Iodine.run { Thread.new { fetch; task; Iodine.stop } }
        Iodine.start
      end
      # Some may yet be seen on the stack.
      GC.start
      say ObjectSpace.each_object(Ballast).count <= 6
    RUBY
    expect(server.wait.exitstatus).to eq(0)
    expect(server.said).to eq(["true"])
  end
end
