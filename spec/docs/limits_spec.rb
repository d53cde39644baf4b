# frozen_string_literal: true

# docs/limits.md against the program: what the table says of a setting is what the program does with it.

require "iodine"

RSpec.describe "docs/limits.md" do
  text = File.read(File.expand_path("../../docs/limits.md", __dir__))
  rows = text.lines.map { |line| line.split("|").map(&:strip) }.select { |cells| cells[5].to_s.start_with?("`IODINE_") }
  table = rows.to_h do |_, setting, unit, default, flag, variable, over, status|
    [setting[/\A`(\w+)`/, 1].to_sym,
     { unit: unit, default: default, flag: flag.delete("`"), variable: variable.delete("`"), over: over,
       status: status, of_process: setting.end_with?("*") }]
  end
  units = { seconds: "seconds", mib: "MiB", kib: "KiB", count: "count" }
  scale = { "MiB" => 1024 * 1024, "KiB" => 1024 }
  # What has no default in the native part.
  others = { shutdown_timeout: Iodine::Base::Limits::SHUTDOWN_TIMEOUT, max_msg: 256 * 1024, ping: 40 }

  it "names every setting, once" do
    expect(rows.size).to eq(table.size)
    expect(table.keys).to match_array(Iodine::Base::Limits::ALL.keys)
    expect(table.keys).to match_array(Iodine::Base::Environment::SETTINGS.values)
    expect(table.keys).to include(*Iodine::Base.usual_limits.keys)
  end

  table.each do |key, row|
    describe key.to_s do
      option = Iodine::Base::CLI::OPTIONS.find { |candidate| candidate.setting == key }

      it "has this unit" do
        expect(row[:unit]).to eq(units.fetch(Iodine::Base::Limits::ALL.fetch(key)))
        expect(row[:of_process]).to eq(Iodine::Base::Limits::OF_PROCESS.include?(key))
      end

      it "has this default, also in the help text" do
        usual = Iodine::Base.usual_limits.merge(others).fetch(key)
        expect(row[:default]).to eq(usual ? (usual / scale.fetch(row[:unit], 1)).to_i.to_s : "off")
        expect(option.default).to eq(row[:default])
      end

      it "has this flag" do
        expect("-#{option.name}").to eq(row[:flag])
        typed = Iodine::Base::CLI::Parser.parse([row[:flag], "7"]).values
        expect(typed).to eq(option.name => 7)
        expect(option.fractions ? true : false).to eq(row[:unit] == "seconds")
      end

      it "has this variable" do
        expect(Iodine::Base::Environment::SETTINGS[row[:variable]]).to eq(key)
        expect(option.environment).to eq(row[:variable])
      end

      it "can be given to listen, and refuses or reports nonsense" do
        asked = { service: :http, port: 0, address: "127.0.0.1", handler: :none, key => Object }
        if Iodine::Base::Limits::FORGIVING.include?(key)
          said = nil
          allow(Iodine::Base).to receive(:log) { |_level, line| said ||= line }
          Iodine.listen(asked)
          expect(said).to start_with("#{key}: Object is ignored: it must be ")
        else
          expect { Iodine.listen(asked) }.to raise_error(ArgumentError, /\A#{key} must be .*, not Object\z/)
        end
      ensure
        Iodine::Base::Listening.close
      end
    end
  end

  it "tells the statuses of the refusals that there are" do
    told = table.values.flat_map { |row| row[:status].scan(/\d{3}/) }.uniq
    expect(told).to contain_exactly("408", "413", "414", "431", "503")
  end
end
