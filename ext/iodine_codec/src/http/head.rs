//! The head of one request: one buffer with the bytes as they came, and where its parts lie in it.
//!
//! A head owns its bytes, so it can be moved to another thread together with the job of answering it.

use super::{Version, token};

/// A part of a head: where it starts and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The span of `part` inside `whole`. The caller took `part` out of `whole`; a slice from elsewhere gives a
    /// span that reads as empty or as other bytes, but never reads outside.
    #[inline]
    pub fn of(whole: &[u8], part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        debug_assert!(start.checked_add(part.len()).is_some_and(|end| end <= whole.len()));
        Span { start: start as u32, len: part.len() as u32 }
    }

    /// The bytes of this span; empty if it does not lie inside `whole`.
    #[inline]
    pub fn of_bytes(self, whole: &[u8]) -> &[u8] {
        let (start, len) = (self.start as usize, self.len as usize);
        whole.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}

/// Where one header line keeps its name and its value.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderSpan {
    /// The name as received.
    pub name: Span,
    /// The value without the blanks around it.
    pub value: Span,
}

/// What the request line says, as spans of the whole head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestLine {
    pub(crate) version: Version,
    /// The length of the line, line end included: where the header lines start.
    pub(crate) len: usize,
    pub(crate) method: Span,
    pub(crate) target: Span,
    /// Empty only for an absolute-form target without a path, which stands for "/".
    pub(crate) path: Span,
    pub(crate) query: Span,
    /// The authority of an absolute-form target, else empty.
    pub(crate) authority: Span,
}

/// The head of a request.
///
/// Invariant: what is in here went through the decoder, so the method is a token, every name is a token, and no value
/// holds a control byte except a tab.
#[derive(Clone, Debug)]
pub struct RequestHead {
    bytes: Vec<u8>,
    headers: Vec<HeaderSpan>,
    line: RequestLine,
}

impl RequestHead {
    pub(crate) fn new(bytes: Vec<u8>, line: RequestLine, headers: Vec<HeaderSpan>) -> RequestHead {
        RequestHead { bytes, headers, line }
    }

    /// The method, in the case it was sent in.
    pub fn method(&self) -> &[u8] {
        self.line.method.of_bytes(&self.bytes)
    }

    /// The path without the query: "*" for the asterisk form, "/" if an absolute-form target had none.
    pub fn path(&self) -> &[u8] {
        match self.line.path.of_bytes(&self.bytes) {
            b"" => b"/",
            path => path,
        }
    }

    /// What follows the first question mark of the target; empty if there is none.
    pub fn query(&self) -> &[u8] {
        self.line.query.of_bytes(&self.bytes)
    }

    /// The whole target as received.
    pub fn target(&self) -> &[u8] {
        self.line.target.of_bytes(&self.bytes)
    }

    /// The version of the request line.
    pub fn version(&self) -> Version {
        self.line.version
    }

    /// All header lines in the order they came, Host and the hop-by-hop ones included. Names are as received, values
    /// are without the blanks around them.
    #[inline]
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.headers
            .iter()
            .map(|header| (header.name.of_bytes(&self.bytes), header.value.of_bytes(&self.bytes)))
    }

    /// The value of the first header line of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Puts one header line in the place of all those of this name. The value holds no control byte.
    pub(crate) fn set_header(&mut self, name: &str, value: &[u8]) {
        debug_assert!(!value.iter().any(u8::is_ascii_control));
        let bytes = &self.bytes;
        self.headers.retain(|header| !header.name.of_bytes(bytes).eq_ignore_ascii_case(name.as_bytes()));
        let [name, value] = [name.as_bytes(), value].map(|part| {
            // A head that could not be addressed any more would have been refused.
            let start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(part);
            Span { start, len: part.len() as u32 }
        });
        self.headers.push(HeaderSpan { name, value });
    }

    /// The number of header lines.
    pub fn header_count(&self) -> usize {
        self.headers.len()
    }

    /// The host and port the client wants to reach. The authority of an absolute-form target wins over the Host line
    /// (RFC 9112 section 3.2.2). `None` only for HTTP/1.0.
    pub fn host(&self) -> Option<&[u8]> {
        match self.line.authority.of_bytes(&self.bytes) {
            b"" => self.header("host"),
            authority => Some(authority),
        }
    }

    /// The protocols that the client would switch to, as it names them (RFC 9110 section 7.8). None for HTTP/1.0, nor
    /// without the option `upgrade` in `Connection`.
    pub fn upgrades(&self) -> impl Iterator<Item = &[u8]> {
        let lines = |name: &'static [u8]| {
            self.headers()
                .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
                .flat_map(|(_, value)| token::list(value))
        };
        let meant = self.version() >= Version::Http11
            && lines(b"connection").any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        lines(b"upgrade").filter(move |protocol| meant && !protocol.is_empty())
    }

    /// True if the answer must not have a body because of the method.
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Limits, RequestDecoder, Step};

    fn head(text: &str) -> RequestHead {
        match RequestDecoder::new().decode(text.as_bytes(), &Limits::default()) {
            Ok((_, Step::Head(request))) => request.head,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_are_found() {
        let head =
            head("GET /a?b=c HTTP/1.1\r\nX_A: 1\r\nHost: h:1\r\nx-a:\t 2 \t\r\nX-A: 3\r\nEmpty:\r\n\r\n");
        assert_eq!(head.method(), b"GET");
        assert_eq!(head.target(), b"/a?b=c");
        assert_eq!(head.path(), b"/a");
        assert_eq!(head.query(), b"b=c");
        assert_eq!(head.version(), Version::Http11);
        assert_eq!(head.host(), Some(&b"h:1"[..]));
        assert_eq!(head.header("X-a"), Some(&b"2"[..]));
        assert_eq!(head.header("empty"), Some(&b""[..]));
        assert_eq!(head.header("nothing"), None);
        assert_eq!(head.header_count(), 5);
        assert!(!head.is_head());
        // F-18: names stay as they came, so that the mapping can tell X_A from X-A.
        let names: Vec<&[u8]> = head.headers().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"X_A"[..], b"Host", b"x-a", b"X-A", b"Empty"]);
    }

    #[test]
    fn a_header_takes_the_place_of_others() {
        let mut head = head("GET /a HTTP/1.1\r\nX-Id: 1\r\nHost: h\r\nx-id: 2\r\n\r\n");
        head.set_header("x-iD", b"three");
        head.set_header("new", b"");
        let lines: Vec<_> = head.headers().collect();
        assert_eq!(lines, [(&b"Host"[..], &b"h"[..]), (b"x-iD", b"three"), (b"new", b"")]);
        assert_eq!((head.target(), head.host()), (&b"/a"[..], Some(&b"h"[..])));
    }

    #[test]
    fn rfc_9112_3_2_2_the_authority_of_the_target_wins() {
        let head = head("HEAD http://Other:81 HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(head.host(), Some(&b"Other:81"[..]));
        assert_eq!(head.path(), b"/");
        assert_eq!(head.query(), b"");
        assert!(head.is_head());
    }

    #[test]
    fn http_1_0_may_have_no_host() {
        let head = head("OPTIONS * HTTP/1.0\r\n\r\n");
        assert_eq!(head.host(), None);
        assert_eq!(head.path(), b"*");
        assert_eq!(head.headers().count(), 0);
    }

    #[test]
    fn rfc_9110_7_8_upgrades_are_listed_when_the_connection_says_so() {
        let upgrades = |text: &str| -> Vec<String> {
            head(text).upgrades().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        };
        let start = "GET / HTTP/1.1\r\nHost: h\r\n";
        assert_eq!(
            upgrades(&format!(
                "{start}Upgrade: websocket, a/1\r\nConnection: keep-alive, Upgrade\r\nupgrade: ,b\r\n\r\n"
            )),
            ["websocket", "a/1", "b"]
        );
        assert!(upgrades(&format!("{start}Upgrade: websocket\r\nConnection: close\r\n\r\n")).is_empty());
        assert!(upgrades("GET / HTTP/1.0\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n").is_empty());
    }

    #[test]
    fn spans_never_read_outside() {
        let whole = b"0123456789";
        assert_eq!(Span::of(whole, &whole[3..5]).of_bytes(whole), b"34");
        assert_eq!(Span::of(whole, &whole[10..]).of_bytes(whole), b"");
        assert_eq!(Span { start: 3, len: u32::MAX }.of_bytes(whole), b"");
        assert_eq!(Span { start: 11, len: 0 }.of_bytes(whole), b"");
    }
}
