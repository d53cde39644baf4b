//! The bytes of HTTP/1.0 and HTTP/1.1 (RFC 9112): requests in, responses out.

pub mod chunk;
mod chunked;
mod decoder;
mod framing;
mod head_scan;
mod limits;
mod rejection;
mod request_line;
mod response;

pub use chunked::{ChunkedDecoder, Piece};
pub use decoder::{Request, RequestDecoder, Step};
pub use framing::{BodyLength, Framing, frame};
pub use limits::Limits;
pub use rejection::Rejection;
pub use response::{
    BodySize, Finished, HeaderError, OpenHead, RequestFacts, ResponseEncoder, prepare_line, simple_response,
};
