//! Finds the end of a head, judging each line by its size and its end as soon as it is complete.
//!
//! Lines are judged in order and only once they are complete, or once they are too long to become complete. That is
//! why the way a head was cut into reads cannot change the verdict.

use super::{Limits, Rejection, request_line};
use crate::http::head::RequestLine;

/// How far a head has been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    /// Where the line begins that is not complete yet.
    line_start: usize,
    /// What the request line says, once it is complete.
    request_line: Option<RequestLine>,
    /// Complete header lines.
    headers: usize,
}

/// A head whose blank line was found.
pub(super) struct Found {
    /// The length of the head, blank line included.
    pub(super) len: usize,
    /// Where the header lines start.
    pub(super) headers_start: usize,
    pub(super) request_line: RequestLine,
    pub(super) headers: usize,
}

impl HeadScan {
    /// Goes on from `seen`, the number of bytes scanned before. `head` holds the head from its first byte.
    pub(super) fn resume(
        &mut self,
        head: &[u8],
        seen: usize,
        limits: &Limits,
    ) -> Result<Option<Found>, Rejection> {
        let mut from = seen;
        while let Some(length) = line_end(head.get(from..).unwrap_or_default()) {
            let end = from.saturating_add(length);
            self.judge_size(end, limits)?;
            if let Some(found) = self.judge_line(head, end, limits)? {
                return Ok(Some(found));
            }
            self.line_start = end;
            from = end;
        }
        self.judge_size(head.len(), limits)?;
        Ok(None)
    }

    /// Refuses at the first byte over a limit. Which limit that is depends on the bytes alone.
    fn judge_size(&self, end: usize, limits: &Limits) -> Result<(), Rejection> {
        let line_limit = self.line_start.saturating_add(limits.line);
        let head_limit = limits.head.min(MAX_HEAD);
        if end <= line_limit.min(head_limit) {
            Ok(())
        } else if self.request_line.is_none() {
            Err(Rejection::RequestLineTooLong)
        } else if line_limit < head_limit {
            Err(Rejection::HeaderLineTooLong)
        } else {
            Err(Rejection::HeadTooLarge)
        }
    }

    fn judge_line(&mut self, head: &[u8], end: usize, limits: &Limits) -> Result<Option<Found>, Rejection> {
        let line = head.get(self.line_start..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r\n").ok_or(Rejection::BareLineFeed)?;
        let Some(request_line) = self.request_line else {
            self.request_line = Some(request_line::parse(line)?);
            return Ok(None);
        };
        if line.is_empty() {
            let headers_start = request_line.len;
            return Ok(Some(Found { len: end, headers_start, request_line, headers: self.headers }));
        }
        self.headers = self.headers.saturating_add(1);
        if self.headers > limits.headers {
            return Err(Rejection::TooManyHeaders);
        }
        Ok(None)
    }
}

/// The number of bytes up to and including the next line feed.
#[inline]
fn line_end(rest: &[u8]) -> Option<usize> {
    // The blank line that ends most heads is not worth a search.
    if rest.starts_with(b"\r\n") {
        return Some(2);
    }
    memchr::memchr(b'\n', rest)?.checked_add(1)
}

/// What a span can reach, whatever the limits say.
const MAX_HEAD: usize = u32::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { line: 20, head: 50, headers: 3, body: 0 };

    fn scanned(head: &str) -> Result<Option<usize>, Rejection> {
        let found = HeadScan::default().resume(head.as_bytes(), 0, &LIMITS);
        found.map(|found| found.map(|found| found.len))
    }

    #[test]
    fn heads_end_at_their_blank_line() {
        assert_eq!(scanned("GET / HTTP/1.1\r\n\r\nrest"), Ok(Some(18)));
        assert_eq!(scanned("GET / HTTP/1.1\r\nA: b\r\n\r\n"), Ok(Some(24)));
        for unfinished in ["G", "GET / HTTP/1.1\r", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n\r"] {
            assert_eq!(scanned(unfinished), Ok(None), "{unfinished:?}");
        }
    }

    #[test]
    fn lines_end_with_cr_and_lf() {
        for head in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nA: b\n", "GET / HTTP/1.1\r\n\n"] {
            assert_eq!(scanned(head), Err(Rejection::BareLineFeed), "{head:?}");
        }
    }

    #[test]
    fn limits_are_inclusive_and_judged_at_the_first_byte_too_many() {
        let line = "GET /12345 HTTP/1.1\r\n"; // 21 bytes
        assert_eq!(scanned("GET /1234 HTTP/1.1\r\n"), Ok(None));
        assert_eq!(scanned(line), Err(Rejection::RequestLineTooLong));
        assert_eq!(scanned(line.trim_end()), Ok(None));
        assert_eq!(scanned("GET /1234567890123456"), Err(Rejection::RequestLineTooLong));

        let start = "GET / HTTP/1.1\r\n";
        assert_eq!(scanned(&format!("{start}A: 345678901234567\r\n")), Ok(None));
        assert_eq!(scanned(&format!("{start}A: 3456789012345678\r\n")), Err(Rejection::HeaderLineTooLong));
        assert_eq!(scanned(&format!("{start}A: 3456789012345678901")), Err(Rejection::HeaderLineTooLong));

        let long = format!("{start}A: 4567890123\r\nB: 4567890123\r\n"); // 46 bytes
        assert_eq!(scanned(&format!("{long}C:\r\n")), Ok(None));
        assert_eq!(scanned(&format!("{long}C: d")), Ok(None));
        assert_eq!(scanned(&format!("{long}C: d\r\n\r\n")), Err(Rejection::HeadTooLarge));
        assert_eq!(scanned(&format!("{start}A:\r\nB:\r\nC:\r\n\r\n")), Ok(Some(30)));
        assert_eq!(scanned(&format!("{start}A:\r\nB:\r\nC:\r\nD:\r\n")), Err(Rejection::TooManyHeaders));
    }
}
