# frozen_string_literal: true

# Loads what all specs share.
#
# IODINE_SPEC_AUTO_COMPACT=1 runs everything, the servers too, with GC.auto_compact; IODINE_SPEC_GC_STRESS=1 puts the
# servers of the examples tagged :gc_stress under GC.stress.

require "timeout"
require_relative "support/free_port"
require_relative "support/http"
require_relative "support/load"
require_relative "support/server"
require_relative "support/asking"
require_relative "support/real_time"

GC.auto_compact = true if ENV["IODINE_SPEC_AUTO_COMPACT"] == "1"
# This process has read it (see ServerProcess::KEEPS_HEAP_PAGES); a script under -w would say that it did.
ENV.delete("RUBY_GC_HEAP_FREE_SLOTS_MAX_RATIO")

# Waits for the block to be truthy and returns its value; fails at the deadline. There is no other way to wait here.
def eventually(seconds = 25, what = "it did not happen")
  limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
  until (value = yield)
    raise "#{what} within #{seconds} s" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > limit

    sleep 0.01
  end
  value
end

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.expect_with(:rspec) { |expectations| expectations.syntax = :expect }
  config.mock_with(:rspec) { |mocks| mocks.verify_partial_doubles = true }
  config.include ServerSupport
  config.include Asking
  config.include RealTime, :real_time
  config.extend SharedServer
  config.around { |example| Timeout.timeout(example.metadata.fetch(:timeout, 60)) { example.run } }
  config.after do |example|
    Load.stop_all
    @servers&.each(&:stop)
    survived = @shared_server.nil? || @shared_server.alive?
    if example.exception || !survived
      logs = [*@servers, *@shared_server].map(&:log)
      logs.each { |log| warn "--- log of the server:\n#{log[-20_000..] || log}" }
    end
    raise "the server did not survive" unless survived
  end
end
