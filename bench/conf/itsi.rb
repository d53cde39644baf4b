# frozen_string_literal: true

# itsi with a rackup file.
workers {w}
threads {t}
ruby_thread_request_backlog_size 4096
preload true
bind "http://127.0.0.1:{port}"
log_level :error
header_read_timeout 60.0
rackup_file "{app}", script_name: "/"
