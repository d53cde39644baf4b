# frozen_string_literal: true

# unicorn without its log and with a backlog for 64 clients at once.
require "logger"
worker_processes {w}
listen "127.0.0.1:{port}", backlog: 1024, tcp_nodelay: true
logger Logger.new(File::NULL)
timeout 60
