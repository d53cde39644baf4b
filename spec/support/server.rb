# frozen_string_literal: true

# A real server in a child process. It is ready when its log says so, listens on a port of its own choosing, and its
# log is shown when an example fails.

require "rbconfig"
require "tempfile"

# One server process. Everything that is read from its log is a public message of it.
class ServerProcess
  ROOT = File.expand_path("../..", __dir__)
  # No setting of the machine at hand gets in.
  UNSET = %w[PORT THREADS WORKERS WEB_CONCURRENCY RACK_HANDLER RACKUP_HANDLER RACK_ENV].to_h { |name| [name, nil] }
  # Ruby before 3.3 looks at one word too many of every stack once it has compacted, and crashes when that is left from an
  # earlier call and names an object of a heap page that was given back (ruby/ruby#7081). So servers keep their pages.
  KEEPS_HEAP_PAGES = RUBY_VERSION < "3.3" ? { "RUBY_GC_HEAP_FREE_SLOTS_MAX_RATIO" => "1.0" } : {}

  attr_reader :pid, :status

  def initialize(script, env: {}, chdir: nil)
    @log = Tempfile.new("iodine-spec-log")
    @script = Tempfile.new(["iodine-spec", ".rb"])
    @script.write(script)
    @script.close
    options = { in: File::NULL, out: [@log.path, "a"], err: [@log.path, "a"], pgroup: true }
    options[:chdir] = chdir if chdir
    @pid = Process.spawn(UNSET.merge(KEEPS_HEAP_PAGES, env), RbConfig.ruby, "-I#{ROOT}/lib", "-r#{__dir__}/child", @script.path, **options)
  end

  def log
    File.binread(@log.path).force_encoding(Encoding::UTF_8).scrub
  end

  # What the log says since the block began, once it matches. The log is written a moment later than what it tells of, so
  # this may begin with lines of the example before.
  def log_after(pattern, seconds: 25)
    before = log.bytesize
    yield
    text = nil
    eventually(seconds, "the log had no new #{pattern.inspect}") do
      text = log.byteslice(before..)
      text.match?(pattern)
    end
    text
  end

  # What the script said by `say`, line by line.
  def said
    log.scan(/^> (.*)\n/).flatten
  end

  # Waits until the script has said that, and returns all that it said.
  def wait_for_said(line, times: 1, seconds: 25)
    wait_for_log(/^> #{line.is_a?(Regexp) ? line : Regexp.escape(line)}\n/, times: times, seconds: seconds)
    said
  end

  # Waits until the log has that many lines that match.
  def wait_for_log(pattern, times: 1, seconds: 25)
    eventually(seconds, "the log had no #{pattern.inspect}") do
      raise "the server ended:\n#{log}" unless alive? || log.scan(pattern).size >= times

      log.scan(pattern).size >= times
    end
    log
  end

  def port
    @port ||= wait_for_log(/Listening on port \d+/)[/Listening on port (\d+)/, 1].to_i
  end

  # Ready: every worker takes requests.
  def wait_until_ready(workers: 1)
    workers == 1 ? wait_for_log(/\* Press \^C/) : wait_for_log(/INFO: \d+ is running\./, times: workers)
    self
  end

  # Pids of the workers that said they run, oldest first.
  def worker_pids
    log.scan(/INFO: (\d+) is running\./).flatten.map(&:to_i)
  end

  def signal(name, to = pid)
    Process.kill(name, to)
  end

  def alive?
    return false if @status

    waited, status = Process.waitpid2(pid, Process::WNOHANG)
    @status = status if waited
    @status.nil?
  end

  # Waits for its end and returns its Process::Status.
  def wait(seconds = 25)
    eventually(seconds, "the server did not end") { !alive? }
    @status
  end

  # TERM, and KILL when that does not help, to this process and to whatever it left in its group.
  def stop
    signal(:TERM) if alive?
    wait
  rescue RuntimeError
    kill_group
    wait
  ensure
    kill_group
  end

  def rss
    File.read("/proc/#{pid}/status")[/^VmRSS:\s+(\d+)/, 1].to_i * 1024
  end

  private

  def kill_group
    Process.kill(:KILL, -pid)
  rescue Errno::ESRCH, Errno::EPERM
    nil
  end
end

# Starting servers from examples.
module ServerSupport
  # Serves `app`, Ruby source whose value is a Rack application; in it, `text` is the headers of a plain answer.
  # `before` is source that runs before `Iodine.start`, with `options` (source, too) for `listen`; `lint` puts
  # Rack::Lint around the application.
  def serve(app, ready: true, workers: 1, env: {}, **script)
    server = start_script(server_script(app, workers: workers, **script), env: env)
    ready ? server.wait_until_ready(workers: workers) : server
  end

  # Runs any script as a server process; it is ended with the example.
  def start_script(script, **options)
    server = ServerProcess.new(script, **options)
    (@servers ||= []) << server
    server
  end

  private

  def server_script(app, workers:, threads: 1, options: "", before: "", address: "127.0.0.1", lint: false)
    <<~RUBY
      require "iodine"
      Iodine.workers = #{workers}
      Iodine.threads = #{threads}
      $stdout.sync = true
      def text = { "content-type" => "text/plain" }
      app = begin
        #{app}
      end
      #{"require 'rack'; require 'uri'; app = Rack::Lint.new(app)" if lint && !gc_stress?}
      #{before}
      Iodine.listen(service: :http, port: 0, address: #{address.inspect}, handler: app, #{options})
      #{"Iodine.on_state(:on_start) { GC.stress = true }" if gc_stress?}
      Iodine.start
      puts "start returned"
    RUBY
  end

  # Whether the server is to collect garbage at every allocation. Rack::Lint is left out then: it allocates so much that
  # nothing would be answered in time.
  def gc_stress?
    tagged = RSpec.current_example || self.class
    RawClient::GC_STRESS && tagged.metadata[:gc_stress]
  end
end

# One server for all examples of a group, which is quicker than one for each. They know it as `server`, and each fails
# when it did not survive.
module SharedServer
  # Takes what {ServerSupport#serve} takes.
  def serve_for_all(app, **options)
    before(:context) do
      @shared_server = serve(app, **options)
      @servers = nil
    end

    after(:context) { [*@shared_server, *@servers].each(&:stop) }

    attr_reader :shared_server
    alias_method :server, :shared_server
  end
end
