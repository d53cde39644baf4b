# frozen_string_literal: true

# The pid file: where it is, who writes it, who removes it.

require "iodine"
require "tmpdir"

RSpec.describe Iodine::Base::PidFile do
  let(:log) { [] }

  before { allow(Iodine::Base).to receive(:log) { |*line| log << line } }

  around do |example|
    Dir.mktmpdir { |folder| Dir.chdir(folder) { example.run } }
  end

  it "is written as a line and removed again" do
    file = described_class.new("x.pid")
    file.write
    expect(File.binread("x.pid")).to eq("#{Process.pid}\r\n")
    file.remove
    expect(File.exist?("x.pid")).to be(false)
    file.remove
    expect(log).to be_empty
  end

  it "stays where it is when the working directory changes" do
    file = described_class.new("x.pid")
    folder = Dir.pwd
    Dir.mkdir("elsewhere")
    Dir.chdir("elsewhere") { file.write }
    expect(File.exist?(File.join(folder, "x.pid"))).to be(true)
  end

  it "is iodine.pid in a folder that is named with a slash" do
    Dir.mkdir("run")
    expect(described_class.new("run/").path).to eq(File.join(Dir.pwd, "run", "iodine.pid"))
  end

  it "may not be a folder" do
    Dir.mkdir("run")
    expect { described_class.new("run") }
      .to raise_error(RuntimeError, "pid filename shold point to a valid file name (not a folder)!")
  end

  it "is removed only by the process that wrote it (F-57)" do
    file = described_class.new("x.pid")
    file.write
    child = fork do
      file.remove
      exit!(0)
    end
    Process.wait(child)
    expect(File.exist?("x.pid")).to be(true)
    file.remove
    expect(File.exist?("x.pid")).to be(false)
  end

  it "is left to another server that has taken it over" do
    file = described_class.new("x.pid")
    file.write
    File.write("x.pid", "1\r\n")
    file.remove
    expect(File.read("x.pid")).to eq("1\r\n")
  end

  it "says so when it replaces that of a living process" do
    File.write("x.pid", "#{Process.ppid}\n")
    described_class.new("x.pid").write
    expect(log.map(&:first)).to eq([3])
    expect(log.first.last).to include("process #{Process.ppid}, which is still running")
    expect(File.read("x.pid").to_i).to eq(Process.pid)
  end

  it "quietly replaces one that a dead process or anything else has left" do
    dead = fork { exit!(0) }
    Process.wait(dead)
    ["#{dead}\r\n", "", "\xFF\x00rubbish", "0", "-1", "9" * 60].each do |left|
      File.binwrite("x.pid", left)
      described_class.new("x.pid").write
      expect(File.read("x.pid").to_i).to eq(Process.pid)
    end
    expect(log).to be_empty
  end

  it "only logs when it cannot be written" do
    described_class.new("missing/x.pid").write
    expect(log.map(&:first)).to eq([2])
    expect(log.first.last).to include("missing/x.pid")
  end

  it "follows the server's events" do
    hooks = {}
    allow(Iodine).to receive(:on_state) { |event, &block| hooks[event] = block }
    described_class.new("x.pid").follow_server
    hooks.fetch(:pre_start).call
    expect(File.exist?("x.pid")).to be(true)
    hooks.fetch(:on_finish).call
    expect(File.exist?("x.pid")).to be(false)
  end
end
