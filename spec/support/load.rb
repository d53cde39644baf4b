# frozen_string_literal: true

# Clients that send request after request, and keep count, while an example does something to the server.

require "socket"

# A request that did not get its answer.
Failure = Struct.new(:client, :pid, :error)

# Applications under load answer with the pid of their process.
class Load
  # A server that ends closes what was idle for a quarter of a second (LAST_CHANCE in reactor/conn.rs): a client that stands
  # still for about as long before it asks, with this process or the whole machine, may have to ask again. That is no fault.
  PAUSE = 0.2

  @running = []

  class << self
    attr_reader :running

    # Ends the clients of an example that has failed, too: those of a server that is gone would fail ever on.
    def stop_all
      running.dup.each(&:stop)
    end
  end

  # @param kept clients that keep their connection as long as the server lets them
  # @param fresh clients that open a new one for each request
  def initialize(port, kept: 0, fresh: 0)
    @port = port
    @going = true
    @lock = Mutex.new
    @answered = Hash.new { |counts, client| counts[client] = Hash.new(0) }
    @failures = []
    @retried = 0
    @threads = Array.new(kept) { |number| Thread.new { run("kept #{number}", keep: true) } } +
               Array.new(fresh) { |number| Thread.new { run("fresh #{number}", keep: false) } }
    Load.running << self
  end

  # For each client, how many answers it had from which process.
  def answered
    @lock.synchronize { @answered.to_h { |client, counts| [client, counts.dup] } }
  end

  # What went wrong so far.
  def failures
    @lock.synchronize { @failures.dup }
  end

  # How often a connection was found closed by whoever wanted to ask again on it.
  def retried
    @lock.synchronize { @retried }
  end

  def total
    answered.sum { |_, counts| counts.values.sum }
  end

  # Waits until each client has had so many more answers.
  def wait_for_answers(count, seconds: 25)
    before = answered
    eventually(seconds, "the clients had no #{count} more answers; failures: #{failures}") do
      now = answered
      now.size == @threads.size &&
        now.all? { |client, counts| counts.values.sum - before.fetch(client, {}).values.sum >= count }
    end
    self
  end

  # Ends the clients.
  def stop
    @going = false
    @threads.each { |thread| thread.join(15) || thread.kill }
    Load.running.delete(self)
    self
  end

  private

  def run(name, keep:)
    connection = pid = shown = nil
    while @going
      begin
        reused = !connection.nil?
        paused = nil
        # When it last showed itself: before it connects, or by its last request.
        shown = clock unless reused
        connection ||= RawClient.open(@port)
        connection.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        paused = clock - shown
        shown = clock
        answer = connection.read_response
        pid = answer.body.to_i
        raise "status #{answer.status}" unless answer.status == 200 && pid.positive?

        @lock.synchronize { @answered[name][pid] += 1 }
        connection = hang_up(connection) unless keep && answer["connection"] != "close"
      rescue StandardError => error
        # A connection that was idle may be closed while a request is on its way; the client then asks again on a new one
        # (RFC 9112 section 9.3.1).
        unless untouched?(error) && (paused || (clock - shown)) > PAUSE
          @lock.synchronize { reused && untouched?(error) ? @retried += 1 : @failures << Failure.new(name, pid, error) }
        end
        connection = hang_up(connection)
      end
    end
    hang_up(connection)
  end

  def untouched?(error)
    [Errno::ECONNRESET, Errno::EPIPE].include?(error.class) || (error.is_a?(EOFError) && error.message.end_with?('after ""'))
  end

  def clock
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def hang_up(connection)
    connection&.close
    nil
  end
end
