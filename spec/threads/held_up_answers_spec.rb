# frozen_string_literal: true

# An answer that is ready goes out, whatever its thread does next.

require "tmpdir"

RSpec.describe "an answer that is ready" do
  # /slow ends when a file appears, which the example makes when it has read the other answer.
  let(:gate) { File.join(Dir.mktmpdir, "open") }
  let(:app) do
    <<~RUBY
      lambda do |env|
        sleep 0.005 until env["PATH_INFO"] != "/slow" || File.exist?(#{gate.inspect})
        [200, {}, [env["PATH_INFO"]]]
      end
    RUBY
  end
  let(:both) { %w[/quick /slow].map { |path| "GET #{path} HTTP/1.1\r\nHost: x\r\n\r\n" } }

  [1, 4].each do |threads|
    { "at first" => 0, "after many quick requests" => 1000 }.each do |name, before|
      it "does not wait for a slow one pipelined behind it, #{name}, with #{threads} threads" do
        server = serve(app, threads: threads)
        RawClient.open(server.port) do |client|
          before.times { client.get("/quick") }
          client.write(both.join)
          expect(client.read_response.body).to eq("/quick")
          File.write(gate, "")
          expect(client.read_response.body).to eq("/slow")
        end
      end

      # A single thread may have met the slow one first.
      next if threads == 1

      it "does not wait for a slow one of another connection, #{name}, with #{threads} threads" do
        server = serve(app, threads: threads)
        RawClient.open(server.port) do |quick|
          RawClient.open(server.port) do |slow|
            before.times { quick.get("/quick") }
            # At the same time, as far as that goes.
            [[quick, both[0]], [slow, both[1]]].each { |client, request| client.write(request) }
            expect(quick.read_response.body).to eq("/quick")
            File.write(gate, "")
            expect(slow.read_response.body).to eq("/slow")
          end
        end
      end
    end
  end
end
