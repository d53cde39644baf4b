//! Mustache templates: compiled once into a flat list of instructions, rendered many times.
//!
//! - [`compile`] reads a template and, through a [`Loader`], its partials.
//! - [`Template::render`] runs it over a [`Scope`], which knows what values are.
//! - [`escape`] makes text safe for HTML.
//!
//! Neither the compiler nor the renderer recurses, and both have bounds: [`MAX_SECTIONS_IN_TEMPLATE`], [`MAX_SECTIONS`] and
//! [`MAX_PARTIALS`]. How values answer to names is the scope's affair; where names are looked for is decided here.
//! Templates follow the specification at <https://github.com/mustache/spec> (1.1); `docs/mustache.md` tells the differences.

mod compile;
mod escape;
mod output;
mod render;
mod tag;
mod template;

pub use compile::{Failure, Fault, Loaded, Loader, compile};
pub use escape::escape;
pub use output::{Output, Sink};
pub use render::{Halt, Scope, Shape};
pub use template::{Key, Template};

/// Sections that may lie within each other in one template.
pub const MAX_SECTIONS_IN_TEMPLATE: usize = 81;

/// Sections that may be open at once while a template renders, those around and in its partials included.
pub const MAX_SECTIONS: usize = 80;

/// Partials that may be open at once while a template renders.
pub const MAX_PARTIALS: usize = 80;

/// The longest delimiter, in bytes.
pub const MAX_DELIMITER: usize = 4;
