# frozen_string_literal: true

# That memory, descriptors and files do not grow. Measured from outside, on Linux.

require "tmpdir"

# For groups that are about memory.
module Memory
  def self.included(group)
    group.before { skip "only Linux tells" unless File.exist?("/proc/self/fd") }
    group.around do |example|
      Dir.mktmpdir("iodine-spec-memory") do |folder|
        @folder = folder
        example.run
      end
    end
  end

  def start_server(app, **options)
    server = serve(app, threads: 2, **options, env: { "TMPDIR" => @folder }, ready: false,
                        before: "$tasks = 0; Iodine::DEFAULT_SETTINGS[:shutdown_timeout] = 2; Iodine.on_state(:on_start) { say own_port; Iodine.verbosity = 0 }")
    @port = server.wait_for_said(/\d+/).first.to_i
    server
  end

  def descriptors(server)
    Dir.children("/proc/#{server.pid}/fd").size
  end

  # Does something until memory has its shape, then much more of it, and expects that this leaves nothing behind: the
  # least that is in use afterwards, when little is going on, is at most 5 % above the most before. `slack`, in
  # MiB, allows for the blocks that allocators take at any time, and for what Ruby has not collected yet; spread over so
  # many requests, it hides no leak.
  def expect_level(server, little, much, slack: 3)
    yield(little)
    before = three_times { yield(much / 20) && server.rss }.max
    opened = descriptors(server)
    yield(much)
    after = three_times { yield(much / 20) && server.rss }.min
    # The connections of the last moment may be on their way out.
    eventually(25, "descriptors are left: #{descriptors(server)}, were #{opened}") { descriptors(server) <= opened }
    expect(Dir.children(@folder)).to be_empty
    expect(after).to be <= before + [before * 0.05, slack << 20].max, "#{before} bytes became #{after}"
  end

  def three_times(&block)
    Array.new(3, &block)
  end
end
