# frozen_string_literal: true

# The concurrency formula against iodine 0.7's results, and the number of cores.

require "iodine"
require "tmpdir"

RSpec.describe Iodine::Base::Concurrency do
  # threads, workers => workers x threads on 1, 2, 4, 8 and 16 cores
  table = {
    [0, 0] => %w[1x1 2x2 3x4 7x8 7x8],
    [-1, -1] => %w[1x1 2x2 3x3 7x7 15x15],
    [2, -2] => %w[1x2 1x2 1x2 3x2 7x2],
    [-2, 4] => %w[4x1 4x1 4x1 4x3 4x7],
    [0, -1] => %w[1x1 2x1 3x1 7x1 15x1],
    [-1, 0] => %w[1x1 1x2 1x3 1x7 1x15],
    [0, -2] => %w[1x2 1x2 1x2 3x2 7x2],
    [-2, 0] => %w[2x1 2x1 2x1 2x3 2x7],
    [4, -1] => %w[1x4 2x4 3x4 7x4 15x4],
    # without negatives the machine does not matter
    [4, 0] => %w[1x4 1x4 1x4 1x4 1x4],
    [0, 3] => %w[3x1 3x1 3x1 3x1 3x1],
    [16, 4] => %w[4x16 4x16 4x16 4x16 4x16]
  }

  table.each do |(threads, workers), results|
    [1, 2, 4, 8, 16].zip(results).each do |cores, result|
      it "makes #{result} of -t #{threads} -w #{workers} on #{cores} cores" do
        expect(described_class.resolve(threads, workers, cores).first(2).join("x")).to eq(result)
      end
    end
  end

  it "never comes down to nothing" do
    expect(described_class.resolve(-100, -100, 2)).to eq([1, 1, false])
  end

  it "tells that it capped the cores, only when it chose by itself" do
    expect(described_class.resolve(0, 0, 16).last).to be(true)
    expect(described_class.resolve(0, 0, 8).last).to be(false)
    expect(described_class.resolve(-1, -1, 16).last).to be(false)
  end

  describe ".decide" do
    around do |example|
      before = [described_class.threads, described_class.workers]
      example.run
      described_class.threads, described_class.workers = before
    end

    it "uses the settings and warns when it caps" do
      described_class.threads = described_class.workers = 0
      allow(described_class).to receive(:cores).and_return(16)
      log = []
      allow(Iodine::Base).to receive(:log) { |*line| log << line }
      expect(described_class.decide).to eq([7, 8])
      expect(log.first.first).to eq(3)
      expect(log.first.last).to start_with("Detected 16 cores. Capping auto-detection of cores to 8.\n")
    end
  end

  describe ".cores" do
    it "is a number of cores" do
      expect(described_class.cores).to be_between(1, Etc.nprocessors)
    end

    it "honours a container's quota" do
      allow(Etc).to receive(:nprocessors).and_return(64)
      allow(described_class).to receive(:cgroup_quota).and_return(3)
      expect(described_class.cores).to eq(3)
    end
  end

  describe ".cgroup_quota" do
    def quota(files)
      Dir.mktmpdir do |root|
        files.each do |name, text|
          Dir.mkdir(File.join(root, "cpu")) if name.start_with?("cpu/") && !File.exist?(File.join(root, "cpu"))
          File.write(File.join(root, name), text)
        end
        described_class.cgroup_quota(root)
      end
    end

    it "reads version 2, rounding up" do
      expect(quota("cpu.max" => "150000 100000\n")).to eq(2)
      expect(quota("cpu.max" => "max 100000\n")).to be_nil
    end

    it "reads version 1" do
      expect(quota("cpu/cpu.cfs_quota_us" => "50000\n", "cpu/cpu.cfs_period_us" => "100000\n")).to eq(1)
      expect(quota("cpu/cpu.cfs_quota_us" => "-1\n", "cpu/cpu.cfs_period_us" => "100000\n")).to be_nil
    end

    it "is nil elsewhere" do
      expect(quota({})).to be_nil
    end
  end
end
