//! Server-sent events: the stream that browsers read as an `EventSource` (HTML Living Standard, section 9.2).

use crate::http::{RequestHead, coding, token};
use std::fmt;

/// A comment, which says nothing and keeps the connection from looking dead.
pub const PING: &[u8] = b": ping\n\n";

/// The media type of the stream.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// Whether a request asks for a stream: a GET whose `Accept` has `text/event-stream`, anywhere in its list and with a
/// weight other than 0 (RFC 9110 section 12.5.1), or whose `Upgrade` names `sse`, as it could for iodine 0.7.
pub fn is_asked_for(head: &RequestHead) -> bool {
    head.method() == b"GET"
        && head.headers().any(|(name, value)| match () {
            () if name.eq_ignore_ascii_case(b"accept") => {
                token::split_unquoted(value, b',').any(is_event_stream)
            }
            () if name.eq_ignore_ascii_case(b"upgrade") => {
                token::list(value).any(|protocol| protocol.eq_ignore_ascii_case(b"sse"))
            }
            () => false,
        })
}

fn is_event_stream(range: &[u8]) -> bool {
    let mut parts = token::split_unquoted(range, b';');
    let is_stream = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()));
    is_stream && !parts.any(is_zero_weight)
}

fn is_zero_weight(parameter: &[u8]) -> bool {
    let [b'q' | b'Q', rest @ ..] = parameter else { return false };
    let weight = token::trim(rest).strip_prefix(b"=").map(token::trim);
    weight.and_then(coding::thousandths) == Some(0)
}

/// One event and what comes with it. What is `None` is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'e> {
    /// What the client tells as `Last-Event-ID` when it comes back. An empty one makes it forget.
    pub id: Option<&'e [u8]>,
    /// The event's name, which is `message` unless told.
    pub event: Option<&'e [u8]>,
    /// After how many milliseconds the client comes back when the connection breaks.
    pub retry_ms: Option<u64>,
    /// The data, of as many lines as it has. Without any the client gets no event, but takes `id` and `retry_ms` in.
    pub data: &'e [u8],
}

/// What of an event can not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventError {
    /// The id holds a line break, or a NUL, for which browsers would ignore it.
    Id,
    /// The name holds a line break or a NUL.
    Event,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EventError::Id => "the id of an event holds a line break or a NUL",
            EventError::Event => "the name of an event holds a line break or a NUL",
        })
    }
}

impl std::error::Error for EventError {}

/// Appends data as one event; nothing if it is empty.
///
/// Lines end with CR, LF or both, and one such end at the very end is dropped. Whether the data is UTF-8 is for the caller
/// to know.
pub fn encode_message(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write_data(out, data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends an event; nothing if there is nothing in it, or if it is refused.
pub fn encode_event(out: &mut Vec<u8>, event: &Event<'_>) -> Result<(), EventError> {
    let Event { id, event: name, retry_ms, data } = *event;
    if id.is_some_and(breaks) {
        return Err(EventError::Id);
    }
    if name.is_some_and(breaks) {
        return Err(EventError::Event);
    }
    let start = out.len();
    if let Some(id) = id {
        write_field(out, b"id: ", id);
    }
    if let Some(name) = name {
        write_field(out, b"event: ", name);
    }
    if let Some(retry) = retry_ms {
        write_field(out, b"retry: ", itoa::Buffer::new().format(retry).as_bytes());
    }
    if !data.is_empty() {
        write_data(out, data);
    }
    if out.len() > start {
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

fn breaks(text: &[u8]) -> bool {
    memchr::memchr3(b'\r', b'\n', 0, text).is_some()
}

fn write_data(out: &mut Vec<u8>, mut data: &[u8]) {
    out.reserve(data.len().saturating_add(16));
    loop {
        let end = memchr::memchr2(b'\r', b'\n', data).unwrap_or(data.len());
        let (line, rest) = data.split_at_checked(end).unwrap_or_default();
        write_field(out, b"data: ", line);
        data = match rest {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => rest,
        };
        if data.is_empty() {
            break;
        }
    }
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Limits, RequestDecoder, Step};

    fn message(data: &str) -> String {
        let mut out = Vec::new();
        encode_message(&mut out, data.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_split_as_in_0_7() {
        for (data, expected) in [
            ("", ""),
            ("a", "data: a\r\n\r\n"),
            ("a\nb", "data: a\r\ndata: b\r\n\r\n"),
            ("a\rb\r\nc", "data: a\r\ndata: b\r\ndata: c\r\n\r\n"),
            ("trail\n", "data: trail\r\n\r\n"),
            ("trail\r\n", "data: trail\r\n\r\n"),
            ("trail\n\n", "data: trail\r\ndata: \r\n\r\n"),
            ("trail\n\r", "data: trail\r\ndata: \r\n\r\n"),
            ("\nlead", "data: \r\ndata: lead\r\n\r\n"),
            ("\n", "data: \r\n\r\n"),
            ("id: 5", "data: id: 5\r\n\r\n"),
            (" a: b", "data:  a: b\r\n\r\n"),
        ] {
            assert_eq!(message(data), expected, "{data:?}");
        }
        let mut out = b"before ".to_vec();
        encode_message(&mut out, b"\xff\n\0");
        assert_eq!(out, b"before data: \xff\r\ndata: \0\r\n\r\n");
    }

    #[test]
    fn f_37_events_have_an_id_a_name_and_a_time() {
        let encode = |event: &Event<'_>| {
            let mut out = Vec::new();
            encode_event(&mut out, event).map(|()| String::from_utf8(out).unwrap())
        };
        let all = Event { id: Some(b"7"), event: Some(b"tick"), retry_ms: Some(2500), data: b"a\nb" };
        assert_eq!(
            encode(&all).unwrap(),
            "id: 7\r\nevent: tick\r\nretry: 2500\r\ndata: a\r\ndata: b\r\n\r\n"
        );
        assert_eq!(encode(&Event::default()).unwrap(), "");
        assert_eq!(encode(&Event { id: Some(b""), ..Event::default() }).unwrap(), "id: \r\n\r\n");
        assert_eq!(encode(&Event { data: b"x", ..Event::default() }).unwrap(), message("x"));
        for bad in [&b"a\nb"[..], b"a\rb", b"\0"] {
            assert_eq!(encode(&Event { id: Some(bad), ..all }), Err(EventError::Id));
            assert_eq!(encode(&Event { event: Some(bad), ..all }), Err(EventError::Event));
        }
    }

    #[test]
    fn f_34_a_stream_is_asked_for_anywhere_in_the_list() {
        let asked = |method: &str, lines: &str| {
            let text = format!("{method} / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
            match RequestDecoder::new().decode(text.as_bytes(), &Limits::default()) {
                Ok((_, Step::Head(request))) => is_asked_for(&request.head),
                other => panic!("{other:?}"),
            }
        };
        for (lines, expected) in [
            ("Accept: text/event-stream", true),
            ("Accept: Text/Event-Stream", true),
            ("Accept: text/event-stream, */*", true),
            ("Accept: text/html;q=0.5 , text/event-stream;charset=utf-8;q=0.1", true),
            ("Accept: text/html\r\naccept: text/event-stream ; q=1.0", true),
            ("Accept: a/b;c=\"d,\\\"\", text/event-stream", true),
            ("Accept: text/event-stream;q=nonsense", true),
            ("Accept: text/event-stream;q=0, text/event-stream", true),
            ("Accept: text/event-stream;q=0", false),
            ("Accept: text/event-stream; Q = 0.000", false),
            ("Accept: a/b;c=\", text/event-stream\"", false),
            ("Accept: text/event-streams", false),
            ("Accept: text/*", false),
            ("Accept: */*", false),
            ("Accept-Language: text/event-stream", false),
            ("Upgrade: sse", true),
            ("Upgrade: h2c, SSE", true),
            ("Upgrade: ssee", false),
        ] {
            assert_eq!(asked("GET", lines), expected, "{lines:?}");
        }
        for method in ["HEAD", "POST", "get"] {
            assert!(!asked(method, "Accept: text/event-stream"), "{method}");
        }
    }
}
