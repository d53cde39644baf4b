//! Why a request was refused, and the one function that says which status that earns.

use std::fmt;

/// The reason a request was refused. The connection closes after the answer: what follows on the wire can no longer
/// be trusted to start a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // `reason` tells each in a sentence
pub enum Rejection {
    NotARequest,
    RequestLineTooLong,
    BadRequestLine,
    BadTarget,
    FragmentInTarget,
    BadVersion,
    UnsupportedVersion,
    ConnectRefused,
    HeaderLineTooLong,
    HeadTooLarge,
    TooManyHeaders,
    BareLineFeed,
    BadHeaderName,
    BadHeaderValue,
    HostMissing,
    HostRepeated,
    BadHost,
    BadContentLength,
    ContentLengthRepeated,
    LengthAndCoding,
    CodingOnHttp10,
    BadCoding,
    UnsupportedCoding,
    BodyTooLarge,
    ExpectationFailed,
    BadChunkSize,
    BadChunkExtension,
    ChunkLineTooLong,
    ChunkOverhead,
    BadChunkEnd,
    BadTrailer,
    TrailersTooLarge,
}

impl Rejection {
    /// The status that answers the refused request.
    pub const fn status(self) -> u16 {
        use Rejection::*;
        match self {
            NotARequest | BadRequestLine | BadTarget | FragmentInTarget | BadVersion => 400,
            BareLineFeed | BadHeaderName | BadHeaderValue | HostMissing | HostRepeated | BadHost => 400,
            BadContentLength | ContentLengthRepeated | LengthAndCoding | CodingOnHttp10 | BadCoding => 400,
            BadChunkSize | BadChunkExtension | ChunkLineTooLong | ChunkOverhead | BadChunkEnd
            | BadTrailer => 400,
            BodyTooLarge => 413,
            RequestLineTooLong => 414,
            ExpectationFailed => 417,
            HeaderLineTooLong | HeadTooLarge | TooManyHeaders | TrailersTooLarge => 431,
            ConnectRefused | UnsupportedCoding => 501,
            UnsupportedVersion => 505,
        }
    }

    /// One sentence for the log.
    pub const fn reason(self) -> &'static str {
        use Rejection::*;
        match self {
            NotARequest => "the first byte cannot start a request",
            RequestLineTooLong => "the request line is too long",
            BadRequestLine => "the request line is not METHOD TARGET VERSION",
            BadTarget => "the request target is invalid",
            FragmentInTarget => "the request target holds a fragment",
            BadVersion => "the request line does not end with an HTTP version",
            UnsupportedVersion => "the HTTP version is neither 1.0 nor 1.1",
            ConnectRefused => "CONNECT is for proxies",
            HeaderLineTooLong => "a header line is too long",
            HeadTooLarge => "the request head is too large",
            TooManyHeaders => "the request has too many header lines",
            BareLineFeed => "a line ends with a bare line feed",
            BadHeaderName => "a header line has no valid name",
            BadHeaderValue => "a header value holds a control byte",
            HostMissing => "an HTTP/1.1 request needs a Host line",
            HostRepeated => "the request has several Host lines",
            BadHost => "the Host line or the authority of the target is invalid",
            BadContentLength => "the Content-Length is not a number",
            ContentLengthRepeated => "the request has several Content-Length lines",
            LengthAndCoding => "the request has both Content-Length and Transfer-Encoding",
            CodingOnHttp10 => "an HTTP/1.0 request has a Transfer-Encoding",
            BadCoding => "the Transfer-Encoding is invalid",
            UnsupportedCoding => "the only transfer coding supported is chunked",
            BodyTooLarge => "the request body is too large",
            ExpectationFailed => "the only expectation supported is 100-continue",
            BadChunkSize => "a chunk size is invalid",
            BadChunkExtension => "a chunk extension is invalid",
            ChunkLineTooLong => "a chunk size line is too long",
            ChunkOverhead => "the chunk extensions outweigh the body",
            BadChunkEnd => "a chunk is not followed by a line end",
            BadTrailer => "a trailer line is invalid",
            TrailersTooLarge => "the trailer section is too large",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_40_each_kind_earns_its_status() {
        for (rejection, status) in [
            (Rejection::NotARequest, 400),
            (Rejection::BadChunkSize, 400),
            (Rejection::BodyTooLarge, 413),
            (Rejection::RequestLineTooLong, 414), // RFC 9110 section 15.5.15
            (Rejection::ExpectationFailed, 417),
            (Rejection::HeadTooLarge, 431),      // RFC 6585 section 5
            (Rejection::UnsupportedCoding, 501), // RFC 9112 section 6.1
            (Rejection::UnsupportedVersion, 505),
        ] {
            assert_eq!(rejection.status(), status);
            assert_eq!(rejection.to_string(), rejection.reason());
        }
    }
}
