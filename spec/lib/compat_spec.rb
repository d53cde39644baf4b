# frozen_string_literal: true

# Deprecated names: exact warnings, and what they stand for.

require "iodine"

RSpec.describe "deprecated names" do
  # The blocks go nowhere: registered state events cannot be taken back.
  before { allow(Iodine).to receive(:on_state) { |_event, &block| block } }

  {
    before_fork: :before_fork,
    after_fork: :after_fork,
    after_fork_in_worker: :enter_child,
    after_fork_in_master: :enter_master,
    on_shutdown: :on_finish
  }.each do |name, event|
    it "warns about Iodine.#{name} and registers :#{event}" do
      block = proc {}
      expect { expect(Iodine.public_send(name, &block)).to equal(block) }
        .to output("Iodine.#{name} is deprecated, use Iodine.on_state(:#{event}).\n").to_stderr
      expect(Iodine).to have_received(:on_state).with(event)
      expect(Iodine.method(name).arity).to eq(0)
    end
  end

  {
    after_fork: :after_fork,
    on_worker_boot: :after_fork,
    before_fork: :before_fork,
    on_worker_fork: :before_fork,
    after_fork_in_worker: :enter_child,
    after_fork_in_master: :enter_master
  }.each do |name, event|
    it "warns about a top-level #{name} and registers :#{event}" do
      block = proc {}
      expect { expect(Object.new.send(name, :ignored, &block)).to equal(block) }
        .to output("#{name} is deprecated, use Iodine.on_state(:#{event}).\n").to_stderr
      expect(Iodine).to have_received(:on_state).with(event)
      expect(Object.private_method_defined?(name)).to be(true)
    end
  end

  it "leaves names alone that someone else has defined" do
    mine = Class.new do
      def before_fork
        :mine
      end

      private

      def after_fork
        :private_mine
      end
    end
    bare = Class.new(BasicObject)
    [mine, bare].each { |owner| Iodine::Base::Compat.define_top_level(owner) }
    expect(mine.new.before_fork).to eq(:mine)
    expect(mine.new.send(:after_fork)).to eq(:private_mine)
    expect(bare.private_method_defined?(:after_fork)).to be(true)
  end

  describe "Iodine.listen2http" do
    before { allow(Iodine).to receive(:listen) { |settings, &block| settings[:handler] || block } }

    it "warns and listens for HTTP, leaving the caller's Hash alone" do
      settings = { handler: :app, port: 4001 }.freeze
      expect { expect(Iodine.listen2http(settings)).to eq(:app) }
        .to output("Iodine.listen2http is deprecated, use Iodine.listen(service: :http).\n").to_stderr
      expect(Iodine).to have_received(:listen).with({ handler: :app, port: 4001, service: :http })
    end

    it "passes the block on" do
      block = proc {}
      expect { expect(Iodine.listen2http({}, &block)).to equal(block) }.to output.to_stderr
    end

    it "needs a Hash" do
      expect { Iodine.listen2http }.to raise_error(ArgumentError)
    end
  end
end
