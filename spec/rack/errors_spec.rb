# frozen_string_literal: true

# Applications that fail, in every way that Ruby has: the client gets a 500, the log the reason, and the server goes on.

RSpec.describe "failures of the application" do
  serve_for_all(Asking::APP, threads: 2)

  # The code fails, on a connection that can be used afterwards.
  def expect_500(code, reason)
    added = server.log_after(reason) do
      RawClient.open(server.port) do |client|
        response = ask(code, client: client)
        expect([response.status, response.reason, response["content-type"], response.body])
          .to eq([500, "Internal Server Error", "text/plain", "500 Internal Server Error"])
        expect(response["connection"]).to be_nil
        expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
      end
    end
    expect(added).to match(/^ERROR: Iodine caught an unprotected exception/)
    added
  end

  {
    "raise 'on purpose'" => /- RuntimeError: on purpose$/,
    "raise ArgumentError" => /- ArgumentError: ArgumentError$/,
    "raise Exception, 'bare'" => /- Exception: bare$/,
    "raise NoMemoryError" => /- NoMemoryError: /,
    "raise NotImplementedError" => /- NotImplementedError: /,
    "raise Interrupt" => /- Interrupt: /,
    "raise SignalException, 'TERM'" => /- SignalException: SIGTERM$/,
    "raise SecurityError.new('frozen').freeze" => /- SecurityError: frozen$/,
    "exit" => /- SystemExit: exit$/,
    "exit(false)" => /- SystemExit: exit$/,
    "abort 'aborted'" => /- SystemExit: aborted$/,
    "throw :nowhere" => /- UncaughtThrowError: uncaught throw :nowhere$/,
    "raise StopIteration" => /- StopIteration: /,
    "Fiber.yield" => /- FiberError: /,
    "def self.deeper = deeper\ndeeper" => /- SystemStackError: stack level too deep$/,
    "eval('1 +')" => /- SyntaxError: /,
    "require 'no/such/library'" => /- LoadError: cannot load such file/,
    "undefined_name" => /- NameError: undefined local variable/,
    "require 'timeout'; Timeout.timeout(0.05) { sleep }" => /- Timeout::Error: execution expired$/,
    "Thread.new { Thread.current.report_on_exception = false; raise 'elsewhere' }.join" => /- RuntimeError: elsewhere$/,
    "Thread.current.raise('at myself')" => /- RuntimeError: at myself$/
  }.each do |code, reason|
    it(code.lines.last) { expect_500(code, reason) }
  end

  it "are logged with where they happened" do
    # Not any two lines: what an example before this one has raised may be written only now.
    added = server.log_after(/some_file\.rb:42.*\n/) { ask("eval(%q(raise 'x'), binding, 'some_file.rb', 42)") }
    expect(added).to match(/- RuntimeError: x\nsome_file\.rb:42:in /)
    expect(added.scan("some_file.rb:42").size).to eq(1)
  end

  # F-07: each of these brought 0.7 down.
  describe "whose exception is a nuisance itself" do
    {
      "def message = raise('in message')" => /- Nuisance/,
      "def message = nil" => /- Nuisance/,
      "def message = 42" => /- Nuisance: 42$/,
      "def message = exit" => /- Nuisance/,
      "def message = throw(:nowhere)" => /- Nuisance/,
      "def message = message" => /- Nuisance/,
      "def message = Object.new.tap { |object| object.singleton_class.undef_method(:to_s) }" => /- Nuisance/,
      "def message = \"bin\\xFF\\xC3\\xA4\\0\\e[1m\".b" => /- Nuisance/,
      "def message = \"\\xFF\" + 'x' * 100_000" => /- Nuisance/,
      "def message = 'utf-16'.encode('UTF-16LE')" => /- Nuisance/,
      "def to_s = raise('in to_s')" => /- Nuisance/,
      "def inspect = raise('in inspect')" => /- Nuisance/,
      "def full_message(*) = raise('in full_message')" => /- Nuisance/,
      "def detailed_message(*, **) = raise('in detailed_message')" => /- Nuisance/,
      "def backtrace = raise('in backtrace')" => /- Nuisance.*\nNo backtrace available\.$/,
      "def backtrace = nil" => /- Nuisance.*\nNo backtrace available\.$/,
      "def backtrace = 'text'" => /- Nuisance/,
      "def backtrace = [nil, 1, \"a\\0b\\xFF\"]" => /- Nuisance/,
      "def backtrace_locations = raise('in locations')" => /- Nuisance/,
      "def self.name = raise('in name')" => /caught an unprotected exception/,
      "def self.to_s = raise('in class to_s')" => /caught an unprotected exception/,
      "def class = raise('in class')" => /caught an unprotected exception/,
      "def respond_to?(*) = raise('in respond_to?')" => /caught an unprotected exception/,
      "def is_a?(*) = raise('in is_a?')" => /- Nuisance/,
      "def ==(*) = raise('in ==')" => /- Nuisance/,
      "def method_missing(*) = raise" => /caught an unprotected exception/
    }.each do |definition, reason|
      it definition do
        name = reason.source.include?("Nuisance") ? "Object.const_set(:Nuisance, klass)" : "klass"
        expect_500(<<~RUBY, reason)
          Object.send(:remove_const, :Nuisance) if defined?(Nuisance)
          klass = Class.new(StandardError) do
            #{definition}
          end
          raise #{name}.new("nuisance")
        RUBY
      end
    end

    it "and whose back-trace has a NUL" do
      trace = "[\"a\\0b\", \"\\xFF\"]"
      expect_500("error = RuntimeError.new('x'); error.set_backtrace(#{trace}); raise error", /RuntimeError: x/)
    end

    it "and whose cause is itself a nuisance" do
      cause = "Class.new(StandardError) { def message = raise }"
      expect_500("begin; raise #{cause}; rescue StandardError; raise 'outer'; end", /outer/)
    end
  end

  # Wherever the server asks the body something.
  describe "in the methods of a body" do
    {
      "respond_to? that raises (F-07)" => "def respond_to?(*) = raise('in respond_to?')\ndef each = yield('a')",
      "each that raises" => "def each = raise('in each')",
      "each that exits" => "def each = exit",
      "each that throws" => "def each = throw(:nowhere)",
      "each that overflows" => "def each = each"
    }.each do |what, definition|
      it(what) do
        expect_500("[200, text, Class.new { #{definition} }.new]", /caught an unprotected exception/)
      end
    end

    it "close that raises, after the answer is made" do
      %w[raise('in\ close') exit throw(:nowhere) close].each do |fails|
        code = "[200, text, Class.new { def each = yield('a'); def close = #{fails} }.new]"
        server.log_after(/caught an unprotected exception/) { expect(ask(code).body).to eq("a") }
      end
    end
  end

  describe "that end their thread" do
    ["Thread.current.kill", "Thread.exit", "Thread.current.kill; sleep",
     "[200, text, Class.new { def each = Thread.exit }.new]",
     "begin; Thread.exit; ensure; raise 'in ensure' if false; end"].each do |code|
      it "cost one answer each: #{code}" do
        RawClient.open(server.port) do |client|
          5.times do
            expect(ask(code, client: client).status).to eq(500)
            expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
          end
        end
      end
    end

    it "cost nothing when the answer is made already" do
      code = "[200, text, Class.new { def each = yield('a'); def close = Thread.exit }.new]"
      5.times { expect(ask(code).body).to eq("a") }
      expect(ask("[200, text, ['next']]").body).to eq("next")
    end

    it "leave as many threads as before" do
      10.times { ask("Thread.exit") }
      eventually { value_of("Thread.list.count { |thread| thread.name == 'iodine-app' && thread.alive? }") == 2 }
    end

    it "may come from another thread" do
      code = "me = Thread.current; Thread.new { me.%s }.join; sleep 10; [200, text, ['survived']]"
      expect(ask(format(code, "kill")).status).to eq(500)
      expect_500(format(code, "raise(IOError, 'from outside')"), /IOError: from outside/)
    end

    it "do not lose what else is asked meanwhile" do
      clients = Array.new(12) { RawClient.open(server.port) }
      clients.each_with_index do |client, index|
        client.write(request_for(index.even? ? "Thread.exit" : "sleep 0.01; [200, text, ['#{index}']]"))
      end
      statuses = clients.map { |client| client.read_response.status }
      expect(statuses).to eq([500, 200] * 6)
      clients.each(&:close)
    end
  end

  it "close the connection where the client wants it" do
    RawClient.open(server.port) do |client|
      response = ask("raise 'x'", client: client, headers: "Connection: close\r\n")
      expect([response.status, response["connection"]]).to eq([500, "close"])
      expect(client).to be_closed_by_server
    end
  end

  it "do not keep the request's body from being read" do
    RawClient.open(server.port) do |client|
      headers = "Content-Length: 700000\r\n"
      response = ask("raise 'x'", client: client, verb: "POST", headers: headers, body: "x" * 700_000)
      expect(response.status).to eq(500)
      expect(ask("[200, text, ['next']]", client: client).body).to eq("next")
    end
  end

  it "may be that it can not be called at all" do
    server = serve("Object.new")
    response = RawClient.open(server.port, &:get)
    expect(response.status).to eq(500)
    server.wait_for_log(/NoMethodError: undefined method `?'?call'/)
  end
end
