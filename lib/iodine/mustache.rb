# frozen_string_literal: true

# Documents Iodine::Mustache, which the extension defines.

module Iodine
  # A Mustache template: compiled once, rendered many times, by several threads at once if need be.
  #
  #     template = Iodine::Mustache.new(nil, "{{#users}}<li>{{name}}</li>{{/users}}")
  #     template.render(users: [{ name: "Ann & Bob" }]) # => "<li>Ann&#32;&amp;&#32;Bob</li>"
  #
  # The rules of lookup, escaping, sections, partials and white space are in docs/mustache.md.
  #
  # @!method initialize(filename, template = nil)
  #   Compiles a template and all its partials; files are not looked at again. Both arguments may also be given by name.
  #   @example
  #     Iodine::Mustache.new("views/page")                              # views/page or views/page.mustache
  #     Iodine::Mustache.new(filename: "views/page", template: "{{>menu}}") # a text whose partials are in views/
  #   @param filename [String, nil] the template's file, below 8192 bytes; with a `template`, only its folder counts
  #   @param template [String, nil] the template's text
  #   @raise [ArgumentError] unless there is a file's name or a text
  #   @raise [TypeError] if either is no String
  #   @raise [LoadError] if the file or a partial is not found; its `path` is the name that was looked for
  #   @raise [RuntimeError] if the template is wrong; the first line of the backtrace is the place, as in `views/page:12`
  #
  # @!method render(data)
  #   What `data` may raise ends in the log and renders as nothing, but for what is no StandardError or ScriptError.
  #   @param data [Hash, Object] what the names in the template mean
  #   @return [String] a new String in UTF-8
  #   @raise [RuntimeError] if more than 80 sections or more than 80 partials are open at once, as when a partial includes
  #     itself for ever
  #
  # @!method self.render(filename, data, template = nil)
  #   Compiles and renders at once. All arguments may also be given by name.
  #   @example
  #     Iodine::Mustache.render("views/page", { name: "Ann" })
  #     Iodine::Mustache.render(template: "Hello, {{name}}!", data: { name: "Ann" }) # => "Hello, Ann!"
  #   @param (see #initialize)
  #   @param data (see #render)
  #   @return (see #render)
  #   @raise (see #initialize)
  class Mustache
  end
end
