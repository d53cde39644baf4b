# frozen_string_literal: true

# Iodine::JSON beside the json gem that comes with Ruby.
#
#   ruby -Ilib bench/ruby/json.rb [seconds for each case, way and round, default 0.3]

require "json"
require "iodine"
require_relative "comparison"

random = Random.new(42)
word = -> { Array.new(random.rand(3..9)) { random.rand(97..122).chr }.join }

user = lambda do |id|
  { "id" => id, "name" => "#{word[].capitalize} #{word[].capitalize}", "email" => "#{word[]}@example.com",
    "active" => id.even?, "score" => random.rand.round(4), "tags" => Array.new(3) { word[] }, "manager" => nil,
    "address" => { "street" => "#{word[]} #{id}", "city" => word[].capitalize, "zip" => format("%05d", id) } }
end
many = []
many << user[many.size] until JSON.generate(many).bytesize > 1_000_000

documents = {
  "a login, 60 bytes" => '{"email":"someone@example.com","password":"correct horse"}',
  "a small API body, 240 bytes" => JSON.generate(user[1]),
  "a small API body, indented" => JSON.pretty_generate(user[1]),
  "a JSON-RPC call, 90 bytes" => '{"jsonrpc":"2.0","method":"subtract","params":{"minuend":42,"subtrahend":23},"id":3}',
  "1 MB, an array of objects" => JSON.generate(many),
  "1 MB, indented" => JSON.pretty_generate(many.first(many.size * 7 / 10)),
  "integers" => JSON.generate(Array.new(50_000) { random.rand(1_000_000) }),
  "coordinates" => JSON.generate(Array.new(20_000) { [random.rand(-180.0..180.0).round(6), random.rand(-90.0..90.0).round(6)] }),
  "floats of 17 digits" => JSON.generate(Array.new(30_000) { random.rand }),
  "big integers" => JSON.generate(Array.new(10_000) { random.rand(2**100) }),
  "text with escapes" => JSON.generate(Array.new(2_000) { "#{word[]}\n\"#{word[]}\"\t\\ \u20ac" * 8 }, ascii_only: true),
  "long text" => JSON.generate(Array.new(100) { "#{word[]} " * 1_500 })
}

comparison = RubyComparison.new("json #{JSON::VERSION}", Float(ARGV.fetch(0, 0.3)))
documents.each do |name, text|
  comparison.measure(name, 1.3, -> { Iodine::JSON.parse(text) }, -> { JSON.parse(text) })
end
text = documents["a small API body, 240 bytes"]
symbols = { symbolize_names: true }
comparison.measure("a small API body, Symbols", 1.3, -> { Iodine::JSON.parse(text, symbols) }, -> { JSON.parse(text, symbols) })

original = JSON.method(:parse).unbind
original = original.bind(JSON)
Iodine.patch_json
comparison.measure("a small API body, patch_json", 1.3, -> { JSON.parse(text) }, -> { original.call(text) })
