# frozen_string_literal: true

# Pages for errors that the server itself answers with (F-36).

require_relative "../support/public_files"

RSpec.describe "pages for errors" do
  folder = public_files("500.html" => "<p>it broke</p>", "400.html" => "<p>bad</p>", "404.html" => "<p>gone</p>",
                        "403.html" => "<p>no</p>", "413.html" => "<p>big</p>", "414.html" => "x" * 40_000)
  app = <<~RUBY
    ->(env) do
      case env["PATH_INFO"]
      when "/raise" then raise "broken"
      when "/404" then [404, text, ["of the application"]]
      when "/missing" then [200, { "x-sendfile" => "/no/such/file" }, []]
      else [200, text, ["app"]]
      end
    end
  RUBY

  serve_for_all(app, options: "public: #{folder.inspect}, max_body: 1")

  it "have the status of the error, and no cache keeps them" do
    response = fetch("/raise")
    expect([response.status, response["content-type"], response["cache-control"], response.body])
      .to eq([500, "text/html", "no-store", "<p>it broke</p>"])
    expect(%w[etag last-modified accept-ranges].map { |name| response[name] }).to eq([nil, nil, nil])
  end

  it "stay what they are whatever else is asked (F-36)" do
    tag = fetch("/500.html")["etag"]
    [{ "Range" => "bytes=1-3" }, { "If-None-Match" => tag }, { "If-None-Match" => "*" }, { "If-Match" => '"x"' }].each do |headers|
      response = fetch("/raise", headers)
      expect([response.status, response.body]).to eq([500, "<p>it broke</p>"]), headers.inspect
    end
    expect(fetch("/raise", verb: "OPTIONS").status).to eq(500)
    head = fetch("/raise", verb: "HEAD")
    expect([head.status, head["content-length"], head.body]).to eq([500, "15", ""])
  end

  # In 0.7 a `403.html` had the server recurse until it died.
  %w[PUT DELETE PATCH COPY LINK].each do |verb|
    it("F-03: #{verb} gets the 500 that it caused") { expect(fetch("/raise", verb: verb).body).to eq("<p>it broke</p>") }
  end

  it "are sent for requests that can not be understood, or are too large" do
    expect(RawClient.exchange(server.port, "GET / HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n").first.body).to eq("<p>bad</p>")
    expect(fetch("/", "Content-Length" => "9999999", verb: "POST").body).to eq("<p>big</p>")
  end

  it "replace no answer of the application" do
    expect(fetch("/404").body).to eq("of the application")
  end

  it "are sent for a file that the application named and that is missing" do
    response = fetch("/missing")
    expect([response.status, response.body]).to eq([404, "<p>gone</p>"])
  end

  it "are left out when they are too long" do
    response = RawClient.exchange(server.port, "GET /#{"x" * 9000} HTTP/1.1\r\nHost: x\r\n\r\n").first
    expect([response.status, response.body]).to eq([414, "414 URI Too Long"])
  end

  it "are files like any other when they are asked for" do
    response = fetch("/404.html")
    expect([response.status, response.body]).to eq([200, "<p>gone</p>"])
  end

  it "one says 403 for a file that may not be read" do
    PublicFiles.put("#{folder}/locked.txt", "x")
    File.chmod(0, "#{folder}/locked.txt")
    File.chmod(0o755, File.dirname(folder))
    nobody = serve(app, options: "public: #{folder.inspect}",
                        before: "Process::UID.change_privilege(65_534) if Process.uid.zero?")
    response = nil
    expect(nobody.log_after(/locked/) { response = fetch("/locked.txt", port: nobody.port) })
      .to match(%r{^ERROR: can not open the file #{folder}/locked\.txt: })
    expect([response.status, response.body]).to eq([403, "<p>no</p>"])
  end
end
