# frozen_string_literal: true

# Serves a rackup file by agoo with a chosen number of Ruby threads, which agoo's own command does not offer.
require "agoo"
require "rack"

port, app_file, workers, threads, public_dir = ARGV
SILENT = %i[INFO DEBUG connect request response eval push].to_h { |state| [state, false] }.freeze
Agoo::Log.configure(dir: "", console: false, classic: true, colorize: false, states: SILENT)

options = { worker_count: Integer(workers), bind: ["http://127.0.0.1:#{port}"] }
# No thread of its own: the app runs on the thread that calls start, agoo's fastest mode.
options[:thread_count] = Integer(threads) == 1 ? 0 : Integer(threads)
options[:root_first] = true if public_dir
Agoo::Server.init(0, public_dir || "/nonexistent", **options)

app = Rack::Builder.parse_file(app_file)
app = app.first if app.is_a?(Array) # Rack 2 returns the options, too
Agoo::Server.handle(nil, "**", app)
Agoo::Server.start
sleep
