# frozen_string_literal: true

# docs/logs.md against the program: its settings, and its fields.

require "iodine"

RSpec.describe "docs/logs.md" do
  text = File.read(File.expand_path("../../docs/logs.md", __dir__))
  rows = text.lines.map { |line| line.split("|").map(&:strip) }
  settings = rows.select { |cells| cells[1].to_s.match?(/\A`\w+:`\z/) }
  fields = rows.filter_map { |cells| cells[1].to_s[/\A`%\{(.+)\}`\z/, 1] }

  it "names every setting, its flag and its variable" do
    expect(settings.map { |row| row[1][/\w+/].to_sym }).to eq(Iodine::Base::RequestLog::SETTINGS)
    settings.each do |_, keyword, _, flag, variable|
      key = keyword[/\w+/].to_sym
      option = Iodine::Base::CLI::OPTIONS.find { |candidate| candidate.setting == key }
      expect(flag).to eq(option.names.map { |name| "`-#{name}`" }.join(", "))
      variable = variable[/IODINE_\w+/]
      expect(option.environment).to eq(variable)
      known = Iodine::Base::Environment::TEXTS.merge(Iodine::Base::Environment::SWITCHES)
      expect(known[variable]).to eq(key)
    end
  end

  it "names every field, and no other" do
    expect { Iodine.listen(service: :http, port: 0, handler: :none, log_format: "%{no}") }
      .to raise_error(ArgumentError) { |error| @known = error.message[/known are (.*)/, 1].split(/, | and /) }
    expect(fields).to eq(@known)
  end
end
