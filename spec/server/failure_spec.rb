# frozen_string_literal: true

# What only a broken machine does to a server: here the examples break it.

RSpec.describe "failures of the system" do
  # Ruby source: has the reactor's poller stand for something that can not be waited for. The descriptor of the poller
  # is the one that watches sockets.
  break_poller = <<~RUBY
    pollers = Dir.children("/proc/self/fd").select do |fd|
      next unless (File.readlink("/proc/self/fd/\#{fd}") rescue "").include?("eventpoll")

      watched = File.read("/proc/self/fdinfo/\#{fd}").scan(/tfd:\\s*(\\d+)/).flatten
      watched.any? { |other| (File.readlink("/proc/self/fd/\#{other}") rescue "").start_with?("socket:") }
    end
    pollers.each { |fd| IO.for_fd(fd.to_i, autoclose: false).reopen(File::NULL) }
    say "broken", pollers.size
  RUBY
  app = <<~RUBY
    lambda do |env|
      if env["PATH_INFO"] == "/break"
        #{break_poller}
      end
      [200, text, [Process.pid.to_s]]
    end
  RUBY

  # That the client leaves wakes whoever waits already.
  def break_reactor(server)
    RawClient.open(server.port) do |client|
      client.write("GET /break HTTP/1.1\r\nHost: x\r\n\r\n")
      server.wait_for_said(/broken [12]/)
    end
  end

  describe "of the reactor", if: File.exist?("/proc/self/fdinfo") do
    it "end the process with status 1, and do not leave it hanging" do
      server = serve(app, before: "%i[start_shutdown on_finish].each { |event| Iodine.on_state(event) { say event } }; " \
                                  "at_exit { say :at_exit }")
      break_reactor(server)
      expect(server.wait.exitstatus).to eq(1)
      expect(server.said).to match([/\Abroken [12]\z/, "start_shutdown", "on_finish", "at_exit"])
      expect(server.log).to match(/^FATAL: the reactor can not wait: /)
      expect(server.log).to match(/^FATAL: \(#{server.pid}\) can not go on serving\.$/)
      expect(server.log).not_to include("start returned")
    end

    it "end a worker, which is replaced" do
      server = serve(app, workers: 2)
      break_reactor(server)
      server.wait_for_log(/^ERROR: Child worker \(\d+\) crashed\. Respawning worker\.$/)
      server.wait_for_log(/INFO: \d+ is running\./, times: 3)
      expect(RawClient.open(server.port, &:get).status).to eq(200)
    end
  end

  describe "to accept" do
    filling = <<~RUBY
      kept = []
      lambda do |env|
        case env["PATH_INFO"]
        when "/fill"
          begin
            loop { kept << File.open(File::NULL) }
          rescue Errno::EMFILE
            say "full"
          end
        when "/free" then kept.each(&:close).clear
        end
        [200, text, []]
      end
    RUBY

    it "are said once, not ten times a second, and end" do
      server = serve(filling, before: "Process.setrlimit(:NOFILE, 100, 100)", options: "reserved_descriptors: 1")
      RawClient.open(server.port) do |client|
        expect(client.get("/fill").status).to eq(200)
        RawClient.open(server.port) do |waiting|
          waiting.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
          server.wait_for_log(/^ERROR: can not accept connections: /)
          # Several tries, each of which fails.
          expect(waiting).to be_silent(0.5)
          expect(server.log.scan("can not accept").size).to eq(1)
          expect(client.get("/free").status).to eq(200)
          expect(waiting.read_response.status).to eq(200)
        end
      end
    end
  end
end
