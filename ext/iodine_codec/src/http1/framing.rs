//! Where a request ends and what follows it: every decision about message framing in one place (RFC 9112 section 6).

use super::{Limits, Rejection};
use crate::http::{Authority, RequestHead, Version, token};

/// How the rest of the message and of the connection go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The length of the body.
    pub body: BodyLength,
    /// True if the client lets another request follow on the connection.
    pub keep_alive: bool,
    /// True if the client waits for a 100 before it sends the body.
    pub expect_continue: bool,
    /// True if the client may speak something else behind this request (RFC 9110 section 7.8).
    pub upgrade: bool,
}

/// The length of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body; also for a declared length of 0.
    Empty,
    /// A declared length, never 0.
    Length(u64),
    /// The body tells its own length.
    Chunked,
}

/// Decides the framing of a request from its head, or refuses it.
pub fn frame(head: &RequestHead, limits: &Limits) -> Result<Framing, Rejection> {
    let mut fields = Fields::default();
    for (name, value) in head.headers() {
        fields.note(name, value)?;
    }
    fields.decide(head.version(), limits)
}

/// What the header lines say that matter to the framing.
#[derive(Default)]
struct Fields<'h> {
    host: Option<&'h [u8]>,
    content_length: Option<&'h [u8]>,
    coding: Coding,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    expect_continue: bool,
    expect_other: bool,
}

/// What all Transfer-Encoding lines together, read as one list, end in.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Absent,
    /// `chunked` alone.
    Chunked,
    /// Other codings, and no `chunked` behind them.
    Other,
    /// Other codings, then `chunked`.
    OtherThenChunked,
    /// Something behind `chunked`, or no token.
    Bad,
}

impl<'h> Fields<'h> {
    #[inline]
    fn note(&mut self, name: &[u8], value: &'h [u8]) -> Result<(), Rejection> {
        let is = |candidate: &[u8]| name.eq_ignore_ascii_case(candidate);
        match name.len() {
            4 if is(b"host") => self.note_host(value),
            6 if is(b"expect") => self.note_expect(value),
            7 if is(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            10 if is(b"connection") => self.note_connection(value),
            14 if is(b"content-length") => self.note_content_length(value),
            17 if is(b"transfer-encoding") => self.note_transfer_encoding(value),
            _ => Ok(()),
        }
    }

    /// RFC 9112 section 3.2: several Host lines, or an invalid one, earn a 400. So does an empty one: a URL of
    /// ours without a host is invalid (RFC 9110 section 4.2.1).
    fn note_host(&mut self, value: &'h [u8]) -> Result<(), Rejection> {
        if self.host.replace(value).is_some() {
            return Err(Rejection::HostRepeated);
        }
        Authority::parse(value).map(|_| ()).ok_or(Rejection::BadHost)
    }

    fn note_expect(&mut self, value: &[u8]) -> Result<(), Rejection> {
        for expectation in token::list(value).filter(|element| !element.is_empty()) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expect_continue = true;
            } else {
                self.expect_other = true;
            }
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), Rejection> {
        for option in token::list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        Ok(())
    }

    /// RFC 9112 section 6.3 would let equal repetitions pass; a sender that repeats itself is not one to trust.
    fn note_content_length(&mut self, value: &'h [u8]) -> Result<(), Rejection> {
        match self.content_length.replace(value) {
            Some(_) => Err(Rejection::ContentLengthRepeated),
            None => Ok(()),
        }
    }

    fn note_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Rejection> {
        self.coding = token::list(value).fold(self.coding, Coding::followed_by);
        Ok(())
    }

    fn decide(self, version: Version, limits: &Limits) -> Result<Framing, Rejection> {
        if self.host.is_none() && version >= Version::Http11 {
            return Err(Rejection::HostMissing);
        }
        let body = self.body(version, limits)?;
        // An HTTP/1.0 client does not know expectations (RFC 9110 section 10.1.1).
        let expects = version >= Version::Http11;
        if expects && self.expect_other {
            return Err(Rejection::ExpectationFailed);
        }
        Ok(Framing {
            body,
            keep_alive: self.persists(version),
            // Without a body there is nothing to wait for.
            expect_continue: expects && self.expect_continue && body != BodyLength::Empty,
            upgrade: self.upgrade && version >= Version::Http11,
        })
    }

    /// RFC 9112 section 6.3.
    fn body(&self, version: Version, limits: &Limits) -> Result<BodyLength, Rejection> {
        match (self.content_length, self.coding) {
            (None, Coding::Absent) => Ok(BodyLength::Empty),
            (Some(_), coding) if coding != Coding::Absent => Err(Rejection::LengthAndCoding),
            (Some(text), _) => content_length(text, limits),
            (None, _) if version < Version::Http11 => Err(Rejection::CodingOnHttp10),
            (None, Coding::Chunked) => Ok(BodyLength::Chunked),
            (None, Coding::OtherThenChunked) => Err(Rejection::UnsupportedCoding),
            (None, _) => Err(Rejection::BadCoding),
        }
    }

    /// RFC 9112 section 9.3. Close wins over everything.
    fn persists(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version >= Version::Http11)
    }
}

impl Coding {
    /// RFC 9112 section 6.1: chunked is applied once, and last. Parameters are refused: no coding we know has any.
    fn followed_by(self, element: &[u8]) -> Coding {
        let chunked = element.eq_ignore_ascii_case(b"chunked");
        match self {
            Coding::Absent if chunked => Coding::Chunked,
            Coding::Other if chunked => Coding::OtherThenChunked,
            Coding::Absent | Coding::Other if token::is_token(element) => Coding::Other,
            _ => Coding::Bad,
        }
    }
}

/// RFC 9110 section 8.6: digits and nothing else. A number beyond 64 bits is a number still, and too large.
fn content_length(text: &[u8], limits: &Limits) -> Result<BodyLength, Rejection> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Rejection::BadContentLength);
    }
    match token::decimal(text) {
        Some(0) => Ok(BodyLength::Empty),
        Some(length) if length <= limits.body => Ok(BodyLength::Length(length)),
        _ => Err(Rejection::BodyTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{RequestDecoder, Step};

    const LIMITS: Limits = Limits { line: 8192, head: 32768, headers: 128, body: 1000 };

    fn framed(version: &str, lines: &[&str]) -> Result<Framing, Rejection> {
        let head = format!("POST / HTTP/{version}\r\n{}\r\n\r\n", lines.join("\r\n"));
        match RequestDecoder::new().decode(head.as_bytes(), &LIMITS)? {
            (_, Step::Head(request)) => Ok(request.framing),
            other => panic!("{other:?}"),
        }
    }

    fn body(lines: &[&str]) -> Result<BodyLength, Rejection> {
        framed("1.1", &[&["Host: x"], lines].concat()).map(|framing| framing.body)
    }

    #[test]
    fn rfc_9112_3_2_host() {
        use Rejection::*;
        for (lines, expected) in [
            (&["A: b"][..], Err(HostMissing)),
            (&["Host: a", "Host: a"], Err(HostRepeated)),
            (&["Host: a", "host: b"], Err(HostRepeated)),
            (&["Host:"], Err(BadHost)),
            (&["Host: a b"], Err(BadHost)),
            (&["Host: a, b"], Err(BadHost)),
            (&["Host: user@a"], Err(BadHost)),
            (&["Host: http://a"], Err(BadHost)),
            (&["Host: a:port"], Err(BadHost)),
            (&["Host: [::1]:4001"], Ok(())), // F-24
            (&["HOST:\ta:80 "], Ok(())),
        ] {
            assert_eq!(framed("1.1", lines).map(|_| ()), expected, "{lines:?}");
        }
        // F-39: HTTP/1.0 does not need one, but what it says must be said once and well.
        assert!(framed("1.0", &["A: b"]).is_ok());
        assert_eq!(framed("1.0", &["Host: a", "Host: a"]), Err(HostRepeated));
        assert_eq!(framed("1.0", &["Host: a b"]), Err(BadHost));
    }

    #[test]
    fn f_10_content_length_is_digits_once() {
        use Rejection::*;
        for (value, expected) in [
            ("0", Ok(BodyLength::Empty)),
            ("000", Ok(BodyLength::Empty)),
            ("2", Ok(BodyLength::Length(2))),
            ("002", Ok(BodyLength::Length(2))),
            ("0000000000000000000000000000002", Ok(BodyLength::Length(2))),
            ("  7\t", Ok(BodyLength::Length(7))),
            ("1000", Ok(BodyLength::Length(1000))),
            ("1001", Err(BodyTooLarge)),
            ("18446744073709551615", Err(BodyTooLarge)),
            ("18446744073709551616", Err(BodyTooLarge)),
            ("99999999999999999999999999", Err(BodyTooLarge)),
            ("", Err(BadContentLength)),
            ("-2", Err(BadContentLength)),
            ("-5", Err(BadContentLength)),
            ("--2", Err(BadContentLength)),
            ("+2", Err(BadContentLength)),
            ("2x", Err(BadContentLength)),
            ("2 5", Err(BadContentLength)),
            ("2, 5", Err(BadContentLength)),
            ("2, 2", Err(BadContentLength)),
            ("2,", Err(BadContentLength)),
            ("0x2", Err(BadContentLength)),
            ("abc", Err(BadContentLength)),
            ("1e2", Err(BadContentLength)),
            ("\u{662}", Err(BadContentLength)),
        ] {
            assert_eq!(body(&[&format!("Content-Length: {value}")]), expected, "{value:?}");
        }
        assert_eq!(body(&["Content-Length: 2", "Content-Length: 2"]), Err(ContentLengthRepeated));
        assert_eq!(body(&["Content-Length: 2", "content-length: 3"]), Err(ContentLengthRepeated));
    }

    #[test]
    fn f_09_both_length_and_coding_are_refused_in_either_order() {
        for length in ["0", "4", "x"] {
            let length = format!("Content-Length: {length}");
            for coding in ["Transfer-Encoding: chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding:"]
            {
                assert_eq!(body(&[&length, coding]), Err(Rejection::LengthAndCoding));
                assert_eq!(body(&[coding, &length]), Err(Rejection::LengthAndCoding));
            }
        }
    }

    #[test]
    fn f_11_f_12_only_chunked_alone_is_chunked() {
        use Rejection::*;
        for (values, expected) in [
            (&["chunked"][..], Ok(BodyLength::Chunked)),
            (&["CHUNKED"], Ok(BodyLength::Chunked)),
            (&["chunked\t"], Ok(BodyLength::Chunked)), // trailing blanks are not part of a value
            (&["gzip, chunked"], Err(UnsupportedCoding)),
            (&["gzip", "chunked"], Err(UnsupportedCoding)),
            (&["identity, chunked"], Err(UnsupportedCoding)),
            (&["xchunked, chunked"], Err(UnsupportedCoding)),
            (&["xchunked"], Err(BadCoding)),
            (&["chunkedx"], Err(BadCoding)),
            (&["gzip"], Err(BadCoding)),
            (&["identity"], Err(BadCoding)),
            (&["x"], Err(BadCoding)),
            (&["chunked, chunked"], Err(BadCoding)),
            (&["chunked", "chunked"], Err(BadCoding)),
            (&["gzip, chunked, chunked"], Err(BadCoding)),
            (&["chunked, gzip"], Err(BadCoding)),
            (&["chunked", "gzip"], Err(BadCoding)),
            (&["chunked, identity"], Err(BadCoding)),
            (&["chunked;x"], Err(BadCoding)),
            (&["chunked;a=b"], Err(BadCoding)),
            (&["chunked,"], Err(BadCoding)),
            (&[",chunked"], Err(BadCoding)),
            (&["chunked", ""], Err(BadCoding)),
            (&[""], Err(BadCoding)),
            (&["\"chunked\""], Err(BadCoding)),
            (&["chun ked"], Err(BadCoding)),
            (&["\u{b}chunked"], Err(BadHeaderValue)),
        ] {
            let lines: Vec<String> =
                values.iter().map(|value| format!("Transfer-Encoding: {value}")).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(body(&lines), expected, "{values:?}");
        }
        // RFC 9112 section 6.1: a 1.0 message with a coding is faulty.
        assert_eq!(framed("1.0", &["Transfer-Encoding: chunked"]), Err(CodingOnHttp10));
    }

    #[test]
    fn f_38_persistence_reads_all_connection_lines_as_one_list() {
        for (values, on_10, on_11) in [
            (&[][..], false, true),
            (&["keep-alive"], true, true),
            (&["Keep-Alive"], true, true),
            (&["close"], false, false),
            (&["CLOSE"], false, false),
            (&["close, keep-alive"], false, false),
            (&["keep-alive", "close"], false, false),
            (&["close", "keep-alive"], false, false),
            (&["Upgrade, keep-alive"], true, true),
            (&["Upgrade"], false, true),
            (&["TE"], false, true),
            (&["TE, close"], false, false),
            (&[",,close,"], false, false),
            (&["closed"], false, true),
            (&[""], false, true),
            (&["k"], false, true),
        ] {
            let mut lines = vec!["Host: x".to_owned()];
            lines.extend(values.iter().map(|value| format!("Connection: {value}")));
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(framed("1.0", &lines).unwrap().keep_alive, on_10, "1.0 {values:?}");
            assert_eq!(framed("1.1", &lines).unwrap().keep_alive, on_11, "1.1 {values:?}");
        }
    }

    #[test]
    fn rfc_9110_10_1_1_expectations() {
        let expects = |version: &str, expect: &str, length: &str| {
            let lines = ["Host: x", &format!("Expect: {expect}"), &format!("Content-Length: {length}")];
            framed(version, &lines).map(|framing| framing.expect_continue)
        };
        assert_eq!(expects("1.1", "100-continue", "5"), Ok(true));
        assert_eq!(expects("1.1", "100-Continue", "5"), Ok(true));
        assert_eq!(expects("1.1", "100-continue", "0"), Ok(false));
        assert_eq!(expects("1.1", "", "5"), Ok(false));
        assert_eq!(expects("1.1", "something", "5"), Err(Rejection::ExpectationFailed));
        assert_eq!(expects("1.1", "100-continue, x", "5"), Err(Rejection::ExpectationFailed));
        assert_eq!(expects("1.0", "100-continue", "5"), Ok(false));
        assert_eq!(expects("1.0", "something", "5"), Ok(false));
    }
}
