# frozen_string_literal: true

# A cluster each of whose processes does what an example tells it to: {Asking} beyond one process.

require_relative "real_time"

# For groups whose server has {SETUP} before it starts.
module ClusterAsking
  # In every server: the root runs code that is published to it.
  SETUP = <<~RUBY
    #{RealTime::SETUP}
    Iodine.subscribe("code for the root") { |_, code| eval(code) if Iodine.master? }

    # Says what it hears, and where: "root", or the pid of the worker.
    def hears(channel, as: channel, **options)
      Iodine.subscribe(channel, **options) { |name, message| say(as, *(name unless as == name), message, "in", where) }
    end

    def where = Iodine.master? ? "root" : Process.pid
  RUBY

  # A kept connection to each worker: pid => client.
  def workers(count = 2, of: server)
    (@workers ||= {})[of] ||= begin
      clients = Hash.new { |hash, pid| hash[pid] = [] }
      # New connections go to whoever has fewest: none is closed before there is one of each.
      eventually(25, "#{count} workers did not answer") do
        client = RawClient.open(of.port)
        clients[ask("[200, text, [Process.pid.to_s]]", client: client).body.to_i] << client
        clients.size >= count
      end
      clients.transform_values { |first, *others| others.each(&:close) && first }
    end
  end

  # The value of `code` in the worker with that place among {#workers}.
  def in_worker(place, code, of: server)
    value_of(code, client: workers(of: of).values.fetch(place))
  end

  # Has the root run `code`, which says what comes of it.
  def in_root(code, of: server)
    value_of("Iodine.publish('code for the root', #{code.dump}, Iodine::PubSub::PUBLISH2ROOT)", client: workers(of: of).values.first)
  end

  # A WebSocket that is kept by the worker with that place.
  def web_socket_of(place, code, of: server)
    wanted = workers(of: of).keys.fetch(place)
    others = []
    eventually(25, "no connection came to #{wanted}") do
      socket = web_socket("#{code}.tap { |handler| handler.define_singleton_method(:where) { |c| c.write(Process.pid.to_s) }
        opened = handler.respond_to?(:on_open) && handler.method(:on_open)
        handler.define_singleton_method(:on_open) { |c| where(c); opened.call(c) if opened } }", port: of.port)
      next socket if socket.read_message.to_i == wanted

      others << socket
      nil
    end
  ensure
    others&.each(&:close)
  end

  # What was said that begins with that word, without it.
  def heard(as, of: server)
    of.said.filter_map { |line| line.delete_prefix("#{as} ") if line.start_with?("#{as} ") }
  end

  def self.included(group)
    group.after { @workers&.each_value { |clients| clients.each_value(&:close) } }
  end
end
