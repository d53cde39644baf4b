//! Meanings that every version of HTTP shares; nothing here knows how HTTP/1 writes them down.

mod authority;
pub mod coding;
pub mod conditional;
pub mod file_path;
mod file_request;
pub mod forwarded;
pub(crate) mod head;
pub mod media_type;
pub mod range;
pub mod request_id;
pub mod status;
pub mod token;
pub mod trust;

pub use authority::Authority;
pub use coding::Coding;
pub use file_request::{FileMethod, FileRequest};
pub use forwarded::{Forwarded, Scheme};
pub use head::{HeaderSpan, RequestHead, Span};
pub use trust::{BadNetwork, Trust};

/// The version a client speaks. Versions other than these two never get past the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0: connections close unless both sides ask otherwise, and nothing is chunked.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

impl Version {
    /// The version as it is written in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_named() {
        assert!(Version::Http10 < Version::Http11);
        assert_eq!(Version::Http10.as_str(), "HTTP/1.0");
        assert_eq!(Version::Http11.as_str(), "HTTP/1.1");
    }
}
