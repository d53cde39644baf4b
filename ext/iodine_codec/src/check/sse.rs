//! What must hold for event streams.

use crate::sse::{Event, PING, encode_event, encode_message};

/// Event streams: the first byte cuts the rest into an id, a name and data. A client reads what was meant, and nothing else.
pub fn sse(data: &[u8]) {
    let [cut, data @ ..] = data else { return };
    let lines = lines_of(data);
    let mut out = PING.to_vec();
    encode_message(&mut out, data);
    out.extend_from_slice(PING);
    encode_message(&mut out, b"end");
    let message = Received { data: lines.clone(), ..Received::default() };
    let end = Received { data: vec![b"end".to_vec()], ..Received::default() };
    let expected = if data.is_empty() { vec![end.clone()] } else { vec![message, end.clone()] };
    assert_eq!(read(&out), expected, "messages");

    let (name, rest) = data.split_at(data.len().min(usize::from(cut & 15)));
    let (id, data) = rest.split_at(rest.len().min(usize::from(cut >> 4)));
    let event = Event { id: Some(id), event: Some(name), retry_ms: Some(u64::from(*cut)), data };
    let mut out = Vec::new();
    if encode_event(&mut out, &event).is_err() {
        assert!(out.is_empty() && [id, name].concat().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        return;
    }
    let received = Received {
        id: id.to_vec(),
        name: name.to_vec(),
        retry: cut.to_string().into_bytes(),
        data: if data.is_empty() { Vec::new() } else { lines_of(data) },
    };
    assert_eq!(read(&out), [received], "events");
}

/// What a client makes of the lines between two empty ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Received {
    id: Vec<u8>,
    name: Vec<u8>,
    retry: Vec<u8>,
    data: Vec<Vec<u8>>,
}

/// Reads a stream line by line, as the HTML Living Standard says in section 9.2.6.
fn read(stream: &[u8]) -> Vec<Received> {
    let mut events = Vec::new();
    let mut event = Received::default();
    for line in lines_of(stream) {
        if line.is_empty() {
            events.push(std::mem::take(&mut event));
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').expect("every line has a colon");
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match &line[..colon] {
            b"" => {}
            b"id" => event.id = value,
            b"event" => event.name = value,
            b"retry" => event.retry = value,
            b"data" => event.data.push(value),
            other => panic!("an unknown field: {}", other.escape_ascii()),
        }
    }
    assert_eq!(event, Received::default(), "the stream ends with an event");
    events.retain(|event| *event != Received::default());
    events
}

/// The lines of a text; what is behind the last line end is none if it is empty.
fn lines_of(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut bytes = text.iter().peekable();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    bytes.next_if(|next| **next == b'\n');
                }
                lines.push(Vec::new());
            }
            byte => lines.last_mut().expect("there is always a line").push(byte),
        }
    }
    if lines.len() > 1 && lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn events_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"\0",
            b"\x11\n",
            b"\x22abcd",
            b"\x00a\r\nb\rc\n\nd\n",
            b"\x12x12data: y\n",
            b"\x30\0\n\n",
            b"\x01\xff\xfe",
        ] {
            super::sse(data);
        }
    }
}
