//! Rack: an HTTP request becomes an env, the application's answer becomes bytes.

mod body;
mod call;
mod early_hints;
mod env;
mod finished;
mod hijack;
mod input;
mod keys;
mod places;
mod response;
pub mod send_file;
mod stream;
mod upgrade;

pub use body::{LENT_FROM, lend};
pub use call::{Answered, Outcome, answer_request, report_error};
pub use finished::Callbacks;

use magnus::{Error, Module, RModule, Ruby};

/// Defines the classes and makes the constants of the request path.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let iodine = ruby.define_module("Iodine")?;
    let base: RModule = iodine.define_module("Base")?;
    input::init(ruby, base)?;
    hijack::init(ruby, base)?;
    early_hints::init(ruby, base)?;
    stream::init(ruby, iodine, base)?;
    keys::init();
    upgrade::names::init();
    send_file::init();
    env::init(ruby)
}
