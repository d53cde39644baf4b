# frozen_string_literal: true

# What Iodine.patch_rack puts into Rack::Utils beside Rack's own methods.
#
#   ruby -Ilib bench/ruby/rack_utils.rb [seconds for each case, way and round, default 0.3]

require "rack"
require "iodine"
require_relative "comparison"

# Rack's own methods go on by another name.
NAMES = %i[unescape unescape_path rfc2822].freeze
NAMES.each { |name| Rack::Utils.singleton_class.alias_method("own_#{name}", name) }
Iodine.patch_rack

# A method a hundred times: a call from a lambda costs as much as some of them.
def hundred(name)
  eval("->(argument) { index = 0; index += 1 while index < 100 && (@last = Rack::Utils.#{name}(argument)); @last }",
       binding, __FILE__, __LINE__ - 1)
end

comparison = RubyComparison.new("rack #{Rack.release}", Float(ARGV.fetch(0, 0.3)), "hundreds of calls")
compare = lambda do |what, name, argument|
  ours = hundred(name)
  theirs = hundred("own_#{name}")
  comparison.measure("#{name}, #{what}", 5, -> { ours.call(argument) }, -> { theirs.call(argument) })
end
compare.call("a short value", :unescape, "Jane+Doe%2C+caf%C3%A9")
compare.call("a word without escapes", :unescape, "username")
compare.call("300 bytes", :unescape, "The+quick+brown+fox%2C+" * 13)
compare.call("20 KB", :unescape, "caf%C3%A9+" * 2_000)
compare.call("a path", :unescape_path, "/files/annual%20report/2026%E2%80%932027.pdf")
compare.call("UTC", :rfc2822, Time.at(1_500_000_000).utc)
compare.call("local time", :rfc2822, Time.at(1_500_000_000, in: "+02:00"))
