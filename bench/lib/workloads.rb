# frozen_string_literal: true

require_relative "workload"

# All workloads, as a table. The goals are what our own server has to reach; "puma" in them is the Puma 5.6 that
# Debian 12 packages, "raw" the load generator's own server, one thread without Ruby.
module Bench
  HELLO = { length: 16, text: "Hello from Rack!" }.freeze
  BROWSER = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5", "Accept-Encoding: gzip, deflate",
    "Referer: http://127.0.0.1/previous/page",
    "Cookie: _visitor=BAh7CEkiD3Nlc3Npb25faWQGOgZFVEkiJTk0ZGYxM2Q; theme=dark; locale=en",
    "Upgrade-Insecure-Requests: 1", "Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin", "Cache-Control: max-age=0"
  ].freeze

  WORK = ->(limit) { Goal.at_least(:work_vs_puma, limit, "work/CPU-s ? x puma") }
  RATE = ->(limit) { Goal.at_least(:rate_vs_puma, limit, "per s ? x puma") }
  CPU = ->(limit) { Goal.at_most(:cpu_vs_puma, limit, "CPU ? x puma") }
  CEILING = ->(limit) { Goal.at_least(:work_vs_raw, limit, "work/CPU-s ? x raw") }
  EACH = ->(limit) { Goal.at_most(:rss, limit, "RSS bytes ?") }

  # shape: workers x threads. The rest goes to the request.
  def self.workload(name, group, kind, app, shape, about, goals = [], **request)
    workers, threads = shape.split("x").map { |number| Integer(number) }
    Workload.new(name: name, group: group, kind: kind, app: app, workers: workers, threads: threads,
                 about: "#{about}, #{shape}", goals: goals, request: request)
  end
  private_class_method :workload

  WORKLOADS = [
    workload("hello-1x1", :http, :load, "hello.ru", "1x1", "hello", [WORK[8], RATE[1]], **HELLO),
    workload("hello-1x4", :http, :load, "hello.ru", "1x4", "hello", [WORK[9], RATE[1]], **HELLO),
    workload("hello-2x2", :http, :load, "hello.ru", "2x2", "hello", [WORK[6.5], RATE[1]], **HELLO),
    workload("pipeline-1x1", :http, :load, "hello.ru", "1x1", "hello, pipelined 16 deep", [WORK[9], RATE[1]], pipeline: 16, **HELLO),
    workload("headers-1x1", :http, :load, "hello.ru", "1x1", "hello with a browser's 11 request headers", [WORK[5], RATE[1]], headers: BROWSER, **HELLO),
    workload("close-1x1", :http, :load, "hello.ru", "1x1", "hello, a new connection for each request", [WORK[4], RATE[1]], headers: ["Connection: close"], **HELLO),
    workload("sinatra-2x4", :http, :load, "sinatra.ru", "2x4", "a Sinatra route rendering JSON", [CPU[0.6], RATE[1]], path: "/users/42"),
    workload("post-1x4", :http, :load, "post.ru", "1x4", "a POST of 64 KiB, read by the app", [WORK[2.5], RATE[1]], body: 65_536, text: "65536"),
    workload("big-1x4", :http, :load, "big.ru", "1x4", "a body of 1 MiB from the app", [RATE[1]], length: 1 << 20, conns: 32),
    # The rate is bound by the sleeping, in all servers alike: what is left of the difference to puma is noise.
    workload("slow-1x16", :http, :load, "slow.ru", "1x16", "an app that sleeps 10 ms (ideal: 1600/s)",
             [Goal.at_least(:rate, 1520, "per s ?"), RATE[0.98]], text: "slow"),

    workload("spread", :checks, :spread, "pid.ru", "2x2", "how 64 keep-alive connections spread over two workers",
             [Goal.at_most(:burst, 40, "burst ?"), Goal.at_most(:one_by_one, 40, "one by one ?")]),
    *%w[1x1 1x4].flat_map do |shape|
      goals = [Goal.at_most(:reads, 1.05, "reads ?"), Goal.at_most(:writes, 1.05, "writes ?"), Goal.at_most(:others, 0.1, "others ?")]
      [workload("syscalls-#{shape}", :checks, :syscalls, "hello.ru", shape, "system calls per hello (strace -c -f)", goals, **HELLO),
       workload("calls-#{shape}", :checks, :tracepoints, "hello.ru", shape, "system calls per hello, at full speed (perf stat)", goals, **HELLO)]
    end,
    workload("memory-hello", :checks, :memory, "hello.ru", "1x4", "memory after 200,000 requests",
             [Goal.at_most(:growth, 5, "growth ? %"), Goal.at_most(:files, 0, "temp files ?")], warm: 20_000, requests: 200_000, **HELLO),
    workload("memory-upload", :checks, :memory, "post.ru", "1x4", "memory after 1,000 uploads of 4 MiB",
             [Goal.at_most(:files, 0, "temp files ?")], warm: 100, requests: 1_000, body: 4 << 20, conns: 8, text: (4 << 20).to_s),
    workload("idle-http", :checks, :idle, "hello.ru", "1x1", "idle keep-alive connections (5,000 unless --idle-conns)",
             [Goal.at_most(:rss, 2000, "RSS bytes ?"), Goal.at_most(:cores, 0, "idle CPU ?")], **HELLO),
    workload("instr-hello", :checks, :instructions, "hello.ru", "1x1", "instructions per hello (user space, callgrind)",
             [Goal.at_most(:rate, 22_000, "instructions ?")], **HELLO),

    workload("static-1k", :static, :load, "notfound.ru", "1x1", "a static file of 1 KiB by the server", path: "/1k.txt", length: 1024),
    workload("static-1m", :static, :load, "notfound.ru", "1x1", "a static file of 1 MiB by the server", path: "/1m.bin", length: 1 << 20, conns: 32),

    workload("ws-echo-1x1", :websocket, :echo, "ws.ru", "1x1", "WebSocket echo, 100 bytes", [CEILING[0.85]], websocket: true),
    workload("ws-echo-2x2", :websocket, :echo, "ws.ru", "2x2", "WebSocket echo, 100 bytes", [CEILING[0.7]], websocket: true),
    workload("ws-cast-1x1", :websocket, :broadcast, "ws.ru", "1x1", "pub/sub to 1000 clients, closed loop of 4 messages", [CEILING[0.7]], websocket: true, window: 4),
    workload("ws-cast-2x1", :websocket, :broadcast, "ws.ru", "2x1", "pub/sub to 1000 clients, closed loop of 4 messages", [CEILING[0.7]], websocket: true, window: 4),
    workload("ws-castblock-1x1", :websocket, :broadcast, "ws.ru", "1x1", "as ws-cast-1x1, each delivery by a Ruby block", [CEILING[0.6]], websocket: true, window: 4, path: "/subblock"),
    workload("ws-lat-1x1", :websocket, :broadcast, "ws.ru", "1x1", "pub/sub to 1000 clients, 50 messages/s", websocket: true, rate: 50),
    workload("ws-lat-2x1", :websocket, :broadcast, "ws.ru", "2x1", "pub/sub to 1000 clients, 50 messages/s", websocket: true, rate: 50),
    workload("idle-ws", :websocket, :idle, "ws.ru", "1x1", "idle WebSocket connections without a subscription", [EACH[5000]], websocket: true, path: "/echo"),
    workload("idle-wssub", :websocket, :idle, "ws.ru", "1x1", "idle WebSocket connections with a subscription each", [EACH[6000]], websocket: true, path: "/sub"),
    workload("instr-ws", :websocket, :instructions, "ws.ru", "1x1", "instructions per WebSocket echo (user space, callgrind)", websocket: true, path: "/echo")
  ].freeze
end
