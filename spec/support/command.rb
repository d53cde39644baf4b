# frozen_string_literal: true

# Any command that serves, as a server process: `iodine`, rackup, rails.

require_relative "server"

# See ServerProcess, whose script this goes without.
class CommandProcess < ServerProcess
  def initialize(*words, env: {}, chdir: nil) # rubocop:disable Lint/MissingSuper -- it starts something else
    @log = Tempfile.new("iodine-spec-log")
    @pid = Process.spawn(UNSET.merge(env), *words, in: File::NULL, out: [@log.path, "a"], err: [@log.path, "a"], pgroup: true,
                                                   chdir: chdir || Dir.pwd)
  end
end
