# frozen_string_literal: true

# Names that other servers and older versions of iodine use for state events. Each warns and then does
# what its modern spelling does.

module Iodine
  module Base
    # @api private
    module Compat
      MODULE_NAMES = {
        before_fork: :before_fork,
        after_fork: :after_fork,
        after_fork_in_worker: :enter_child,
        after_fork_in_master: :enter_master,
        on_shutdown: :on_finish
      }.freeze

      # Puma's and Thin's configuration words, which applications call at the top level.
      TOP_LEVEL_NAMES = {
        after_fork: :after_fork,
        on_worker_boot: :after_fork,
        before_fork: :before_fork,
        on_worker_fork: :before_fork,
        after_fork_in_worker: :enter_child,
        after_fork_in_master: :enter_master
      }.freeze

      class << self
        # Not through the :deprecated category: Ruby hides that one unless asked to show it.
        def warn_about(name, event)
          Kernel.warn "#{name} is deprecated, use Iodine.on_state(:#{event})."
        end

        # Private methods on Object, as a bare `after_fork { }` in a config file needs them. Whoever
        # defined one first keeps it.
        def define_top_level(owner = Object)
          TOP_LEVEL_NAMES.each do |name, event|
            next if owner.method_defined?(name) || owner.private_method_defined?(name)

            owner.define_method(name) do |*_, &block|
              Compat.warn_about(name, event)
              Iodine.on_state(event, &block)
            end
            owner.send(:private, name)
          end
        end
      end
    end
  end

  # @!method self.before_fork
  #   @deprecated use {Iodine.on_state}(:before_fork)
  # @!method self.after_fork
  #   @deprecated use {Iodine.on_state}(:after_fork)
  # @!method self.after_fork_in_worker
  #   @deprecated use {Iodine.on_state}(:enter_child)
  # @!method self.after_fork_in_master
  #   @deprecated use {Iodine.on_state}(:enter_master)
  # @!method self.on_shutdown
  #   @deprecated use {Iodine.on_state}(:on_finish)
  Base::Compat::MODULE_NAMES.each do |name, event|
    define_method(name) do |&block|
      Base::Compat.warn_about("Iodine.#{name}", event)
      Iodine.on_state(event, &block)
    end
    module_function name
  end

  module_function

  # Listens for HTTP.
  #
  # @deprecated use {Iodine.listen}(service: :http)
  # @param settings [Hash] as for {Iodine.listen}; left as it is
  # @return [Object] the handler
  # @raise [ArgumentError] without an argument
  def listen2http(settings, &block)
    Kernel.warn "Iodine.listen2http is deprecated, use Iodine.listen(service: :http)."
    settings = settings.merge(service: :http) if settings.is_a?(Hash)
    Iodine.listen(settings, &block)
  end

  Base::Compat.define_top_level
end
