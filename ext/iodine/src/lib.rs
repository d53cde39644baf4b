//! The Ruby extension `iodine`: the only crate that knows Ruby.
//!
//! `api/` defines the primitives that `lib/` builds on, `rack/` turns requests into Rack calls and results into bytes,
//! `app_thread` runs the jobs. Three small files hold what is dangerous: `gvl` (leaving and entering), `roots` (values
//! kept alive), `fork` (what a forked child must not touch).

#![allow(missing_docs, reason = "the only public item is the Init function, which a macro makes")]

mod allocator;
mod api;
mod app_thread;
mod fork;
mod gvl;
mod json;
mod mustache;
mod process;
mod rack;
mod realtime;
mod roots;
mod timers;

/// Defines everything; Ruby calls it when it loads the library.
#[magnus::init]
fn init(ruby: &magnus::Ruby) -> Result<(), magnus::Error> {
    roots::init();
    rack::init(ruby)?;
    realtime::init(ruby)?;
    mustache::init(ruby)?;
    api::init(ruby)
}
