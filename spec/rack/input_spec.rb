# frozen_string_literal: true

# rack.input: the interface of Rack 2 and Rack 3, for bodies in memory and in a file. Where StringIO knows the answer,
# it is asked.

require "stringio"

RSpec.describe "rack.input" do
  serve_for_all(Asking::APP)

  lines = "first\n\nthird \xC3\xA4\r\nlast without an end".b
  # Lines that end on either side of where a reader of blocks would cut, and one that is longer than a block.
  long = [8190, 8191, 8192, 8193, 3, 20_000, 16_384, 0].map { |size| "#{"x" * size}\n" }.join
  bodies = {
    "a short body" => lines,
    "one byte" => "x",
    "a body of lines in memory" => long * 3,
    "a body in a file" => ("#{long}#{lines}\n" * 12)[0, 700_000].b
  }

  # What the code, which knows `io`, comes to on the server.
  def on_server(code, body, headers: "Content-Length: #{body.bytesize}\r\n")
    value_of("io = env['rack.input']\n#{code}", verb: "POST", body: body, headers: headers)
  end

  # Long Strings as their size and hash, so that a failure can be read.
  def shortened(values)
    Array(values).map { |value| value.is_a?(String) && value.bytesize > 100 ? [value.bytesize, value.b.hash] : value }
  end

  def on_string_io(code, body)
    io = StringIO.new(body.b)
    io.set_encoding(Encoding::BINARY)
    eval(code, binding, __FILE__, __LINE__) # rubocop:disable Security/Eval -- it is ours
  end

  bodies.each do |what, body|
    describe "with #{what}" do
      {
        "reads all, and then nothing" => "[io.read, io.read, io.read(nil), io.read(1), io.read(0)]",
        "reads piece by piece" => "pieces = []; while (piece = io.read(4_001)); pieces << piece; end; pieces",
        "reads exactly to the end" => "[io.read(#{body.bytesize}).bytesize, io.read(1), io.read]",
        "reads nothing where nothing is asked for" => "[io.read(0), io.read(3), io.read(0)]",
        "reads more than there is" => "[io.read(10_000_000), io.read(10_000_000)]",
        "reads into a buffer" => <<~RUBY,
          buffer = +"what was there before"
          results = [io.read(4, buffer).equal?(buffer), buffer.dup, io.read(nil, buffer).equal?(buffer), buffer.dup]
          results + [io.read(nil, buffer), buffer.dup]
        RUBY
        "F-65: empties the buffer at the end" => <<~RUBY,
          io.read
          buffer = +"keep"
          [io.read(3, buffer), buffer]
        RUBY
        "takes nil for no buffer" => "[io.read(2, nil), io.read(nil, nil)]",
        "gets line by line" => "lines = []; while (line = io.gets); lines << line; end; lines + [io.gets]",
        "gets what is left after a read" => "[io.read(3), io.gets, io.gets, io.read(1), io.read]",
        "gets up to another separator" => "[io.gets('th'), io.gets('x' * 30), io.gets(\"\\n\\n\")]",
        "gets everything" => "[io.gets(nil), io.gets(nil)]",
        "gets no more than asked for" =>
          "[io.gets(3), io.gets(100), io.gets(\"\\n\", 2), io.gets(nil, 5), io.gets(-1)]",
        "gets paragraphs" => "[io.gets(''), io.gets(''), io.gets('')]",
        "rewinds" => "[io.read, io.rewind, io.read, io.rewind, io.gets, io.rewind, io.read(2)]",
        "yields each line" => "lines = []; io.each { |line| lines << line }; lines",
        "knows its size and its end" => "[io.size, io.eof?, io.read(1), io.eof?, io.read && io.eof?, io.size]"
      }.each do |does, code|
        it(does) { expect(shortened(on_server(code, body))).to eq(shortened(on_string_io(code, body))) }
      end

      it "gives binary Strings that are the caller's own" do
        code = <<~RUBY
          pieces = [io.read(1), io.gets || +"".b, io.read, io.read(0)]
          io.rewind
          io.each { |line| pieces << line }
          pieces.each { |piece| piece << "changed" }
          io.rewind
          [pieces.map(&:encoding).uniq, io.read]
        RUBY
        expect(on_server(code, body)).to eq([[Encoding::BINARY], body.b])
      end

      it "yields each line from the start, and returns itself" do
        code = "io.read(1); lines = []; result = io.each { |line| lines << line }; [lines.join, result.equal?(io)]"
        expect(on_server(code, body)).to eq([body.b, true])
      end

      it "can be left in the middle of each" do
        expect(on_server("io.each { |line| break line }", body)).to eq(body.b.lines.first)
        expect(on_server("(io.each { raise 'x' } rescue 1); io.rewind; io.read.bytesize", body)).to eq(body.bytesize)
        expect(on_server("io.each { io.rewind; break }; io.read.bytesize", body)).to eq(body.bytesize)
      end

      it "is empty once it is closed" do
        code = "[io.closed?, io.close, io.closed?, io.close, io.read, io.read(1), io.gets, io.rewind, io.size, io.eof?]"
        expect(on_server(code, body)).to eq([false, nil, true, nil, "", nil, nil, 0, 0, true])
      end

      it "raises what IO raises" do
        {
          "io.read(-1)" => "RangeError", "io.read('x')" => "TypeError", "io.read(1, 2)" => "TypeError",
          "io.read(1, 'frozen'.freeze)" => "FrozenError", "io.read(1, +'', 3)" => "ArgumentError",
          "io.each" => "LocalJumpError", "io.gets(1, 2, 3)" => "ArgumentError"
        }.each do |code, error|
          expect(on_server("begin; #{code}; rescue Exception => e; e.class.name; end", body)).to eq(error), code
        end
      end
    end
  end

  it "has the same for a chunked body" do
    chunks = lines.each_char.map { |char| "#{char.bytesize.to_s(16)}\r\n".b << char << "\r\n" }.join << "0\r\n\r\n"
    code = "io = env['rack.input']; [io.gets, io.size, io.read, io.rewind, io.read(3)]"
    told = value_of(code, verb: "POST", headers: "Transfer-Encoding: chunked\r\n", body: chunks)
    expect(told).to eq(["first\n", lines.bytesize, lines.delete_prefix("first\n"), 0, "fir"])
  end

  describe "without a body" do
    it "is at its end" do
      calls = "[io.read, io.read(nil), io.read(3), io.read(0), io.gets, io.rewind, io.size, io.eof?]"
      expect(value_of("io = env['rack.input']; #{calls}")).to eq(["", "", nil, "", nil, 0, 0, true])
    end

    it "F-65: empties a buffer" do
      code = "b = +'keep'; c = +'keep'; [env['rack.input'].read(3, b), b, env['rack.input'].read(nil, c), c]"
      expect(value_of(code)).to eq([nil, "", "", ""])
    end

    it "yields nothing" do
      expect(value_of("env['rack.input'].each { raise }.equal?(env['rack.input'])")).to be(true)
    end

    it "is not closed for others when one request closes it" do
      value_of("env['rack.input'].close")
      expect(value_of("[env['rack.input'].closed?, env['rack.input'].read]")).to eq([false, ""])
    end
  end

  it "can be read after the request, and from another thread, when it is in memory" do
    value_of("$kept = env['rack.input']; nil", verb: "POST", headers: "Content-Length: 4\r\n", body: "kept")
    expect(value_of("GC.start; Thread.new { $kept.read }.value")).to eq("kept")
  end

  it "is closed behind the request when it is in a file" do
    value_of("$kept = env['rack.input']; nil", verb: "POST", headers: "Content-Length: 600000\r\n", body: "x" * 600_000)
    expect(value_of("[$kept.closed?, $kept.read, $kept.read(1), $kept.gets]")).to eq([true, "", nil, nil])
  end

  it "serves Rack's own parsers" do
    code = "require 'rack'; request = Rack::Request.new(env)\n"
    form = "a=1&b[]=%C3%A4&b[]=3"
    headers = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: #{form.bytesize}\r\n"
    expect(value_of("#{code}request.POST", verb: "POST", headers: headers, body: form))
      .to eq("a" => "1", "b" => %w[ä 3])

    part = "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\n\r\n" \
           "#{"\0\r\n" * 300_000}\r\n--B--\r\n"
    headers = "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: #{part.bytesize}\r\n"
    expect(value_of("#{code}file = request.POST['f']; [file[:filename], file[:tempfile].size]", verb: "POST",
                    headers: headers, body: part)).to eq(["x.bin", 900_000])
  end

  describe "under Rack::Lint" do
    serve_for_all(Asking::APP, lint: true)

    bodies.each do |what, body|
      it "is read with #{what}" do
        code = "[io.gets, io.read(2), io.read(2, +''), io.read, io.each { |line| line }.class.name]"
        expect(on_server(code, body).first).to eq(body.b.lines.first)
        expect(on_server("lines = []; io.each { |line| lines << line }; lines.join", body)).to eq(body.b)
      end
    end

    it "is read without a body" do
      expect(value_of("io = env['rack.input']; [io.gets, io.read, io.read(1)]")).to eq([nil, "", nil])
    end
  end
end
