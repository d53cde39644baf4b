//! Passes Ruby's own compiler and linker settings on to this crate.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Whoever does not say which allocator to link gets the one of the features; Ruby's flags come from rb-sys.
    let _ = rb_sys_env::activate()?;
    Ok(())
}
