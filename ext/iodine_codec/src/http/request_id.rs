//! The id of a request, by which its traces in the logs of proxies, server and application are found together.

use super::RequestHead;

/// The header that carries it, in requests and in answers.
pub const HEADER: &str = "x-request-id";
/// Bytes of an id that is taken from a proxy, at most.
pub const LONGEST: usize = 128;

/// An id made here.
pub type RequestId = [u8; 32];

/// The id that a proxy has given the request: there must be one, of at most [`LONGEST`] letters, digits and `-_.:@+/=`.
pub fn given(head: &RequestHead) -> Option<&[u8]> {
    let mut ids =
        head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(HEADER.as_bytes())).map(|(_, id)| id);
    match (ids.next(), ids.next()) {
        (Some(id), None) if is_sane(id) => Some(id),
        _ => None,
    }
}

fn is_sane(id: &[u8]) -> bool {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:@+/=".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(is_safe)
}

/// Gives the request this id, whatever it had. From then on its header is what everybody reads.
pub fn assign(head: &mut RequestHead, id: &RequestId) {
    head.set_header(HEADER, id);
}

/// The id that [`assign`] or a proxy has given.
pub fn of(head: &RequestHead) -> Option<&[u8]> {
    head.header(HEADER)
}

/// Ids without end: no two of a sequence are the same, and those of other sequences have another beginning.
#[derive(Clone, Debug)]
pub struct Sequence {
    beginning: u64,
    next: u64,
}

impl Sequence {
    /// A sequence from 16 random bytes, which no other process may have.
    pub fn new(seed: [u8; 16]) -> Sequence {
        let number = u128::from_le_bytes(seed);
        Sequence { beginning: (number >> 64) as u64, next: number as u64 }
    }

    /// The next id: 32 hexadecimal digits.
    pub fn next_id(&mut self) -> RequestId {
        self.next = self.next.wrapping_add(1);
        let mut id = RequestId::default();
        let number = (u128::from(self.beginning) << 64) | u128::from(spread(self.next));
        for (index, digit) in id.iter_mut().rev().enumerate() {
            let nibble = (number >> (4 * index)) as usize & 15;
            *digit = *b"0123456789abcdef".get(nibble).unwrap_or(&b'0');
        }
        id
    }
}

/// Each number becomes another one, so that ids that follow each other do not look alike (the finisher of SplitMix64, in
/// which each step can be undone).
const fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Tells the client the id: a line behind the status line of `answer`, unless the application has written one already.
/// The head of the answer may be open, and its body may follow.
pub fn announce(answer: &mut Vec<u8>, id: &[u8]) {
    let mut at = end_of_line(answer);
    let behind_status = at;
    while let Some(line) = answer.get(at..).filter(|rest| !rest.is_empty() && !rest.starts_with(b"\r\n")) {
        let name = line.get(..HEADER.len()).unwrap_or_default();
        if name.eq_ignore_ascii_case(HEADER.as_bytes()) && line.get(HEADER.len()) == Some(&b':') {
            return;
        }
        at = at.saturating_add(end_of_line(line));
    }
    let line = HEADER.bytes().chain(*b": ").chain(id.iter().copied()).chain(*b"\r\n");
    answer.splice(behind_status..behind_status, line);
}

fn end_of_line(text: &[u8]) -> usize {
    memchr::memchr(b'\n', text).map_or(text.len(), |at| at.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Limits, RequestDecoder, Step};
    use std::collections::HashSet;

    fn head(lines: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        match RequestDecoder::new().decode(text.as_bytes(), &Limits::default()) {
            Ok((_, Step::Head(request))) => request.head,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_sane_id_is_taken() {
        let longest = "a".repeat(LONGEST);
        for id in ["1", "6f1b-4C_2", "7F000001:1F90_00:1+2/3=", "a@b.example", &longest] {
            assert_eq!(given(&head(&format!("X-Request-ID: {id}\r\n"))), Some(id.as_bytes()), "{id}");
        }
        let longer = "a".repeat(LONGEST + 1);
        for id in ["", "a b", "a\"b", "a\\b", "a,b", "\u{e4}", "%0a", "{}", "a\tb", &longer] {
            assert_eq!(given(&head(&format!("X-Request-ID: {id}\r\n"))), None, "{id}");
        }
        assert_eq!(given(&head("")), None);
        assert_eq!(given(&head("X-Request-ID: a\r\nx-request-id: b\r\n")), None);
        assert_eq!(given(&head("X_Request_ID: a\r\n")), None);
    }

    #[test]
    fn an_id_takes_the_place_of_what_was_there() {
        let mut head = head("X-Request-ID: a b\r\nAccept: */*\r\nx-request-id: c\r\n");
        let id = Sequence::new([7; 16]).next_id();
        assign(&mut head, &id);
        assert_eq!(of(&head), Some(&id[..]));
        assert_eq!(given(&head), Some(&id[..]));
        assert_eq!(head.header_count(), 3);
    }

    #[test]
    fn ids_are_unique() {
        let mut seen = HashSet::new();
        for seed in 0..4 {
            let mut ids = Sequence::new([seed; 16]);
            assert!((0..10_000).all(|_| seen.insert(ids.next_id())));
        }
        assert!(seen.iter().all(|id| id.iter().all(u8::is_ascii_hexdigit)));
        let mut last = Sequence::new([255; 16]);
        assert_ne!(last.next_id(), last.next_id());
    }

    #[test]
    fn an_answer_tells_its_id_once() {
        for (answer, told) in [
            (
                "HTTP/1.1 200 OK\r\n\r\nx-request-id: b",
                "HTTP/1.1 200 OK\r\nx-request-id: a\r\n\r\nx-request-id: b",
            ),
            ("HTTP/1.1 200 OK\r\na: b\r\n", "HTTP/1.1 200 OK\r\nx-request-id: a\r\na: b\r\n"),
            (
                "HTTP/1.1 200 OK\r\na: b\r\nx-request-id: c\r\n",
                "HTTP/1.1 200 OK\r\na: b\r\nx-request-id: c\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\nx-request-idea: c\r\n\r\n",
                "HTTP/1.1 200 OK\r\nx-request-id: a\r\nx-request-idea: c\r\n\r\n",
            ),
        ] {
            let mut text = answer.as_bytes().to_vec();
            announce(&mut text, b"a");
            assert_eq!(String::from_utf8(text).unwrap(), told);
        }
    }
}
