# frozen_string_literal: true

# Conditional requests and ranges for static files (RFC 9110 sections 13 and 14).

require_relative "../support/public_files"
require "time"

RSpec.describe "static files" do
  content = "0123456789"
  large = Random.new(2).bytes(200_000)
  folder = public_files("a.txt" => content, "large.bin" => large, "empty.txt" => "", "b.txt" => content)
  app = '->(_env) { [200, text, ["app"]] }'

  serve_for_all(app, options: "public: #{folder.inspect}")

  let(:tag) { fetch("/a.txt")["etag"] }
  let(:time) { File.mtime("#{folder}/a.txt") }

  def status(headers = {}, path = "/a.txt", **more)
    fetch(path, headers, **more).status
  end

  describe "known to the client (F-34)" do
    it "are not sent again" do
      response = fetch("/a.txt", "If-None-Match" => tag)
      expect([response.status, response.body, response["etag"], response["cache-control"]])
        .to eq([304, "", tag, "max-age=3600"])
      expect(response["content-type"]).to be_nil
      expect(response["content-length"]).to be_nil
      expect(status({ "If-None-Match" => tag }, verb: "HEAD")).to eq(304)
    end

    it "by a list, a weak tag, a star, or several lines" do
      [%("x", #{tag}), "W/#{tag}", "*", [%("x"), tag]].each { |value| expect(status("If-None-Match" => value)).to eq(304) }
      [tag.delete('"'), '"x"', 'W/"x"', ""].each { |value| expect(status("If-None-Match" => value)).to eq(200) }
    end

    it "by their date, which counts less than a tag" do
      expect(status("If-Modified-Since" => time.httpdate)).to eq(304)
      expect(status("If-Modified-Since" => (time + 1).httpdate)).to eq(304)
      expect(status("If-Modified-Since" => (time - 1).httpdate)).to eq(200)
      expect(status("If-Modified-Since" => "yesterday")).to eq(200)
      expect(status("If-Modified-Since" => time.httpdate, "If-None-Match" => '"x"')).to eq(200)
    end

    it "or meant by it, else 412" do
      expect(status("If-Match" => tag)).to eq(200)
      expect(status("If-Match" => "*")).to eq(200)
      expect(status("If-Match" => '"x"')).to eq(412)
      expect(status("If-Match" => "W/#{tag}")).to eq(412)
      expect(status("If-Unmodified-Since" => time.httpdate)).to eq(200)
      expect(status("If-Unmodified-Since" => (time - 1).httpdate)).to eq(412)
    end
  end

  describe "tags" do
    it "tell one byte and one second more from what was (the false 304 of F-34)" do
      path = "#{folder}/changing.txt"
      PublicFiles.put(path, content, age: 5000)
      before = fetch("/changing.txt")["etag"]
      PublicFiles.put(path, "#{content}+", age: 4999)
      after = eventually { fetch("/changing.txt").then { |response| response if response.body != content } }
      expect(after["etag"]).not_to eq(before)
      expect(status({ "If-None-Match" => before }, "/changing.txt")).to eq(200)
    end

    it "are the same in every worker, and after a restart" do
      cluster = serve(app, workers: 2, options: "public: #{folder.inspect}")
      tags = Array.new(20) { RawClient.open(cluster.port) { |client| client.get("/a.txt")["etag"] } }
      expect(tags.uniq).to eq([tag])
    end

    it "are weak while the next change might not show (RFC 9110 section 8.8.1)" do
      PublicFiles.put("#{folder}/young.txt", "young")
      now = Time.now
      File.utime(now, now, "#{folder}/young.txt")
      first = fetch("/young.txt")["etag"]
      strong = eventually { fetch("/young.txt")["etag"].then { |tag| tag unless tag.start_with?("W/") } }
      expect(strong).to eq(first.delete_prefix("W/"))
      expect(status({ "If-None-Match" => first }, "/young.txt")).to eq(304)
    end
  end

  describe "in part (F-19)" do
    def part(range, path = "/a.txt", more = {})
      response = fetch(path, { "Range" => range }.merge(more))
      [response.status, response["content-range"], response.body]
    end

    {
      "bytes=0-0" => ["0-0", "0"], "bytes=2-4" => ["2-4", "234"], "bytes=7-" => ["7-9", "789"], "bytes=-3" => ["7-9", "789"],
      "bytes=0-99" => ["0-9", content], "bytes=-99" => ["0-9", content], "bytes=9-9" => ["9-9", "9"],
      "bytes=0-4,2-6" => ["0-6", "0123456"], "BYTES=1-1" => ["1-1", "1"]
    }.each do |range, (place, bytes)|
      it(range) { expect(part(range)).to eq([206, "bytes #{place}/10", bytes]) }
    end

    ["bytes=4-2", "bytes=x-1", "bytes=", "lines=1-2", "bytes=1", "0-1"].each do |range|
      it("#{range} is ignored") { expect(part(range)).to eq([200, nil, content]) }
    end

    ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"].each do |range|
      it "#{range} is a 416" do
        expect(part(range)).to eq([416, "bytes */10", "416 Range Not Satisfiable"])
      end
    end

    it "a large file, too" do
      expect(part("bytes=100000-199999", "/large.bin").last == large[100_000..]).to be(true)
      expect(part("bytes=-1", "/large.bin")).to eq([206, "bytes 199999-199999/200000", large[-1]])
      expect(part("bytes=0-", "/empty.txt")).to eq([416, "bytes */0", "416 Range Not Satisfiable"])
    end

    it "the connection goes on behind it" do
      RawClient.open(server.port) do |client|
        %w[bytes=0-99 bytes=-3 bytes=4-2 bytes=99- bytes=0-0,5-5].each do |range|
          expect(fetch("/a.txt", { "Range" => range }, client: client).status).to be_between(200, 416)
        end
        expect(client.get("/a.txt").body).to eq(content)
      end
    end

    # What a multipart body holds: pairs of range and bytes.
    def parts(response)
      boundary = response["content-type"][%r{\Amultipart/byteranges; boundary=(\w+)\z}, 1]
      pieces = response.body.split("\r\n--#{boundary}")
      expect([pieces.first, pieces.last]).to eq(["", "--\r\n"])
      pieces[1..-2].map do |piece|
        head, bytes = piece.split("\r\n\r\n", 2)
        expect(head).to match(/\A\r\ncontent-type: /)
        [head[/^content-range: bytes (.*)/, 1].strip, bytes]
      end
    end

    it "or several parts" do
      response = fetch("/a.txt", "Range" => "bytes=8-9, 0-1,-4")
      expect(response.status).to eq(206)
      expect(response["content-range"]).to be_nil
      expect(parts(response)).to eq([["0-1/10", "01"], ["6-9/10", "6789"]])
      response = fetch("/a.txt", "Range" => "bytes=8-9, 0-1")
      expect(parts(response)).to eq([["8-9/10", "89"], ["0-1/10", "01"]])
    end

    it "several parts of a large file" do
      response = fetch("/large.bin", "Range" => "bytes=0-9,50000-149999,-1")
      expect(parts(response) == [["0-9/200000", large[0, 10]], ["50000-149999/200000", large[50_000, 100_000]],
                                 ["199999-199999/200000", large[-1]]]).to be(true)
    end

    it "a flood of ranges costs no more than the file" do
      overlapping = Array.new(30) { |from| "#{from}-" }.join(",")
      expect(part("bytes=#{overlapping}", "/large.bin").first(2)).to eq([206, "bytes 0-199999/200000"])
      many = Array.new(500) { |from| "#{from * 2}-#{from * 2}" }.join(",")
      expect(part("bytes=#{many}", "/large.bin").first(2)).to eq([200, nil])
    end

    it "F-20: only of the file that If-Range means" do
      expect(part("bytes=2-4", "/a.txt", { "If-Range" => tag }).first).to eq(206)
      expect(part("bytes=2-4", "/a.txt", { "If-Range" => time.httpdate }).first).to eq(206)
      ['"x"', "W/#{tag}", (time + 1).httpdate, "x"].each do |value|
        expect(part("bytes=2-4", "/a.txt", { "If-Range" => value })).to eq([200, nil, content]), value
      end
    end

    it "not for HEAD, nor when the header is repeated" do
      expect(status({ "Range" => "bytes=0-0" }, verb: "HEAD")).to eq(200)
      expect(status("Range" => %w[bytes=0-0 bytes=1-1])).to eq(200)
    end
  end
end
