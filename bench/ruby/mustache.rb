# frozen_string_literal: true

# Iodine::Mustache beside the `mustache` gem (Debian: apt-get install ruby-mustache): a list of products, each with three
# values, rendered over and over by a template that was compiled before. Both get the same template and the same data, in
# turns, and are measured in CPU time of this process.
#
#   ruby bench/ruby/mustache.rb [seconds for each measurement, default 1]
#
# Without the gem only our own figures are shown.

$LOAD_PATH.unshift(File.expand_path("../../lib", __dir__))
require "iodine"

begin
  require "mustache"
  require "mustache/version"
rescue LoadError
  warn "mustache.rb: there is no mustache gem to compare with (apt-get install ruby-mustache)"
end

module MustacheBench
  ROUNDS = 5
  SIZES = [1, 10, 100, 1_000].freeze

  TEMPLATE = <<~HTML
    <ul class="products">
    {{#products}}
      <li>
        <img src="/images/{{image}}" class="small">
        <a class="name" href={{url}}>
          {{external_index}}
        </a>
      </li>
    {{/products}}
    </ul>
  HTML
  UNESCAPED = TEMPLATE.gsub(/\{\{(\w+)\}\}/, '{{{\1}}}').freeze

  module_function

  def data(size)
    { products: Array.new(size) { { external_index: "product", url: "/products/7", image: "products/product.jpg" } } }
  end

  def run(seconds)
    puts "ruby #{RUBY_VERSION}: renderings per CPU-second, median of #{ROUNDS} rounds in turns", ""
    puts "| list | values | iodine | mustache#{" #{gem_version}" if rival?} | ratio (min-max) |", "|---:|---|---:|---:|---:|"
    SIZES.each do |size|
      { "escaped" => TEMPLATE, "unescaped" => UNESCAPED }.each { |name, template| row(name, template, size, seconds) }
    end
  end

  def row(name, template, size, seconds)
    data = data(size)
    renderers = renderers(template)
    check(renderers, data)
    rounds = Array.new(ROUNDS) { renderers.map { |renderer| rate(renderer, data, seconds) } }
    ours, theirs = rounds.transpose.map { |rates| rates.sort[ROUNDS / 2] }
    ratios = rounds.map { |our, their| our / their }.sort if rival?
    compared = ratios ? [theirs.round, format("%.1f (%.1f-%.1f)", ratios[ROUNDS / 2], ratios.first, ratios.last)] : %w[- -]
    puts "| #{size} | #{name} | #{ours.round} | #{compared.join(" | ")} |"
  end

  def renderers(template)
    ours = Iodine::Mustache.new(nil, template)
    return [ours] unless rival?

    theirs = ::Mustache.new
    theirs.template = template
    theirs.render(data(1))
    [ours, theirs]
  end

  # They may escape differently, but it has to be the same text.
  def check(renderers, data)
    texts = renderers.map { |renderer| unescape(renderer.render(data)) }
    abort("mustache.rb: the two do not render the same") if texts.uniq.size > 1
  end

  def unescape(text) = text.gsub(/&#(\d+);/) { Regexp.last_match(1).to_i.chr }

  # Renderings per CPU-second of this process.
  def rate(renderer, data, seconds)
    batch = [1_000 / data[:products].size, 1].max
    batch.times { renderer.render(data) }
    GC.start
    count = 0
    start = cpu
    while cpu - start < seconds
      batch.times { renderer.render(data) }
      count += batch
    end
    count / (cpu - start)
  end

  def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)

  def rival? = defined?(::Mustache)

  def gem_version = ::Mustache::VERSION
end

MustacheBench.run(Float(ARGV.fetch(0, 1.0)))
