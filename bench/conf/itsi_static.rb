# frozen_string_literal: true

# itsi serving static files itself.
workers {w}
threads {t}
bind "http://127.0.0.1:{port}"
log_level :error
location "*" do
  static_assets root_dir: "{public}", max_file_size_in_memory: 2 * 1024 * 1024, not_found_behavior: { error: "not_found" }
end
