//! How much of a request we are willing to hold.

/// The bounds of one request. Every bound is inclusive: a line of exactly `line` bytes passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line, and of each header or trailer line, line end included.
    pub line: usize,
    /// Bytes of the whole head, and again of the whole trailer section.
    pub head: usize,
    /// Number of header lines, and again of trailer lines.
    pub headers: usize,
    /// Bytes of the decoded body.
    pub body: u64,
}

impl Default for Limits {
    /// What iodine 0.7 allowed.
    fn default() -> Limits {
        Limits { line: 8192, head: 32 * 1024, headers: 128, body: 50 * 1024 * 1024 }
    }
}
