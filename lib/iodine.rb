# frozen_string_literal: true

# Loads iodine: this file only requires. What each file does is said at its head.

require "stringio"
require "socket"

require "iodine/version"
require "iodine/extension"
require "iodine/concurrency"
require "iodine/limits"
require "iodine/settings"
require "iodine/report"
require "iodine/finished"
require "iodine/state"
require "iodine/switches"
require "iodine/public_folder"
require "iodine/proxies"
require "iodine/request_log"
require "iodine/real_time"
require "iodine/listen"
require "iodine/task"
require "iodine/engine"
require "iodine/pubsub"
require "iodine/connect"
require "iodine/redis"
require "iodine/signals"
require "iodine/fork_guard"
require "iodine/server"
require "iodine/cluster"
require "iodine/compat"
require "iodine/orm"
require "iodine/pid_file"
require "iodine/mustache"
require "iodine/rack"
require "iodine/rack_utils"
require "iodine/json"
require "iodine/cli"

# The executable sets this constant before it requires iodine; so may a script that wants the flags.
Iodine::Base::CLI.parse if defined?(IODINE_PARSE_CLI) && IODINE_PARSE_CLI
