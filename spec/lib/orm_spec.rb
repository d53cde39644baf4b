# frozen_string_literal: true

# Database connections around forks, with stand-ins for the libraries.

require "iodine"

RSpec.describe Iodine::Base::ORM do
  let(:calls) { [] }

  def around_fork
    described_class.before_fork
    calls << :fork
    described_class.after_fork
  end

  def active_record(version)
    calls = self.calls
    noting = ->(name) { Class.new { define_method(:disconnect!) { calls << name } }.new }
    base = Class.new do
      define_singleton_method(:connection) { noting.call(:connection) }
      define_singleton_method(:connection_pool) { noting.call(:pool) }
      define_singleton_method(:establish_connection) { calls << :establish }
    end
    stub_const("ActiveRecord", Module.new)
    ActiveRecord.define_singleton_method(:version) { Gem::Version.new(version) } if version
    stub_const("ActiveRecord::Base", base)
  end

  it "does nothing without either library" do
    hide_const("ActiveRecord")
    hide_const("Sequel")
    around_fork
    expect(calls).to eq([:fork])
  end

  ["5.1.7", "4.2", nil].each do |version|
    it "reconnects ActiveRecord #{version || "of unknown version"}" do
      active_record(version)
      around_fork
      expect(calls).to eq(%i[connection pool fork establish])
    end
  end

  %w[5.2 6.1.7 8.0].each do |version|
    it "leaves ActiveRecord #{version} alone" do
      active_record(version)
      around_fork
      expect(calls).to eq([:fork])
    end
  end

  it "does not load ActiveRecord::Base just to look at it" do
    stub_const("ActiveRecord", Module.new { def self.version = Gem::Version.new("7.0") })
    ActiveRecord.autoload(:Base, "/nowhere/active_record/base.rb")
    expect { around_fork }.not_to raise_error
  end

  it "disconnects every Sequel database before the fork, even if one refuses" do
    broken = Object.new.tap { |db| db.define_singleton_method(:disconnect) { raise IOError, "gone" } }
    sound = Object.new.tap { |db| calls = self.calls; db.define_singleton_method(:disconnect) { calls << :sequel } }
    stub_const("Sequel", Module.new)
    stub_const("Sequel::DATABASES", [broken, sound])
    log = []
    allow(Iodine::Base).to receive(:log) { |*line| log << line }
    around_fork
    expect(calls).to eq(%i[sequel fork])
    expect(log).to eq([[3, "Sequel connections around a fork: IOError: gone"]])
  end
end
