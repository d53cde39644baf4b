//! What must hold for WebSockets, whatever the peer sends.

use super::inflate::inflate;
use crate::http::RequestHead;
use crate::http1::{self, Limits, RequestDecoder};
use crate::websocket::{
    BadAnswer, ClientHandshake, CloseReason, Deflate, DeflateConfig, Deflater, Kind, Opened, Receiver, Role,
    Step, Violation, accept, encode_close, encode_message, encode_ping, encode_pong, is_asked_for,
    is_close_code,
};

/// What a receiver told about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its steps, except for those that need more.
    pub steps: Vec<Step>,
    /// What ended it.
    pub violation: Option<Violation>,
    /// Whether it ended between messages.
    pub is_idle: bool,
}

/// Runs a receiver over the pieces of a stream. What it tells fits the limit, and so does its memory.
pub fn trace<'i>(
    pieces: impl IntoIterator<Item = &'i [u8]>,
    role: Role,
    limit: usize,
    deflate: Option<Deflate>,
) -> Trace {
    let mut receiver = Receiver::new(role, limit, deflate);
    let mut steps = Vec::new();
    for mut piece in pieces {
        loop {
            match receiver.decode(piece) {
                Ok((used, Step::NeedMore)) => {
                    assert_eq!(used, piece.len(), "what needs more has used what there was");
                    break;
                }
                Ok((used, step)) => {
                    check_step(&step, limit);
                    steps.push(step);
                    piece = piece.get(used..).expect("no more is used than there was");
                }
                Err(violation) => {
                    assert_eq!(receiver.decode(piece), Err(violation), "a violation is final");
                    assert!(matches!(violation.close_code(), 1002 | 1007 | 1009));
                    return Trace { steps, violation: Some(violation), is_idle: false };
                }
            }
        }
    }
    Trace { steps, violation: None, is_idle: receiver.is_idle() }
}

fn check_step(step: &Step, limit: usize) {
    match step {
        Step::NeedMore => {}
        Step::Message { kind, data } => {
            assert!(data.len() <= limit && data.capacity() <= limit + 1, "a message fits the limit");
            assert!(*kind == Kind::Binary || std::str::from_utf8(data).is_ok(), "a text is UTF-8");
        }
        Step::Ping(data) | Step::Pong(data) => assert!(data.len() <= 125),
        Step::Close(None) => {}
        Step::Close(Some(CloseReason { code, reason })) => {
            assert!(is_close_code(*code) && reason.len() <= 123);
        }
    }
}

fn however_cut(stream: &[u8], role: Role, limit: usize, deflate: Option<Deflate>) -> Trace {
    let whole = trace([stream], role, limit, deflate);
    assert_eq!(whole, trace(stream.chunks(1), role, limit, deflate), "byte by byte");
    assert_eq!(whole, trace(stream.chunks(7), role, limit, deflate), "in pieces of seven");
    let (first, second) = stream.split_at(stream.len() / 2);
    assert_eq!(whole, trace([first, b"", second], role, limit, deflate), "in two halves");
    whole
}

/// Frames: however they are cut, they mean the same, which is what a slow second reading says; and what arrived can be
/// sent again.
pub fn websocket_frames(data: &[u8]) {
    for role in [Role::Server, Role::Client] {
        for limit in [20, 100_000] {
            let told = however_cut(data, role, limit, None);
            assert_eq!(told, read_slowly(data, role, limit), "the second reading");
            send_again(&told.steps, role, limit);
        }
    }
}

/// A second reading of whole frames that knows nothing but the rules of RFC 6455 sections 5 and 7.
fn read_slowly(stream: &[u8], role: Role, limit: usize) -> Trace {
    let mut read = Trace { steps: Vec::new(), violation: None, is_idle: true };
    let mut message = None;
    let mut rest = stream;
    while !rest.is_empty() && !matches!(read.steps.last(), Some(Step::Close(_))) {
        read.is_idle = false;
        match read_frame(&mut rest, role, limit, &mut message) {
            Ok(Some(step)) => read.steps.extend(step),
            Ok(None) => return read,
            Err(violation) => {
                read.violation = Some(violation);
                return read;
            }
        }
        read.is_idle = message.is_none() && !matches!(read.steps.last(), Some(Step::Close(_)));
    }
    read
}

/// `None` for an incomplete frame, `Some(None)` for one that leaves its message open.
fn read_frame(
    rest: &mut &[u8],
    role: Role,
    limit: usize,
    message: &mut Option<(Kind, Vec<u8>)>,
) -> Result<Option<Option<Step>>, Violation> {
    let &[first, second, ref after @ ..] = *rest else { return Ok(None) };
    let wide = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let masks = if second & 0x80 != 0 { 4 } else { 0 };
    let Some((header, payload)) = after.split_at_checked(wide + masks) else { return Ok(None) };
    let (length, mask) = header.split_at(wide);
    let length = match wide {
        0 => u64::from(second & 0x7f),
        _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let (opcode, is_final) = (first & 0x0f, first & 0x80 != 0);
    let is_control = opcode & 8 != 0;
    let broken = [
        (matches!(opcode, 3..=7 | 11..), Violation::ReservedOpcode),
        (first & 0x70 != 0, Violation::ReservedBits),
        (role == Role::Server && masks == 0, Violation::Unmasked),
        (role == Role::Client && masks > 0, Violation::Masked),
        (length > i64::MAX as u64, Violation::LengthOver63Bits),
        (wide == 2 && length < 126 || wide == 8 && length < 65536, Violation::LengthNotMinimal),
        (is_control && length > 125, Violation::ControlTooLong),
        (is_control && !is_final, Violation::ControlFragmented),
        (matches!(opcode, 1 | 2) && message.is_some(), Violation::MessageInterrupted),
        (opcode == 0 && message.is_none(), Violation::NothingToContinue),
    ];
    if let Some((_, violation)) = broken.into_iter().find(|(is_broken, _)| *is_broken) {
        return Err(violation);
    }
    let came = payload.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    let is_whole = came as u64 == length;
    let mut data = payload[..came].to_vec();
    if !mask.is_empty() {
        data.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    *rest = &payload[came..];
    if is_control {
        return if is_whole { read_control(opcode, data).map(|step| Some(Some(step))) } else { Ok(None) };
    }
    let kind = if opcode == 1 { Kind::Text } else { Kind::Binary };
    let (kind, mut text) = message.take().unwrap_or((kind, Vec::new()));
    if text.len() as u64 + length > limit as u64 {
        return Err(Violation::TooBig);
    }
    text.extend_from_slice(&data);
    let utf8 = std::str::from_utf8(&text);
    let is_wrong = utf8.is_err_and(|error| error.error_len().is_some() || is_whole && is_final);
    if kind == Kind::Text && is_wrong {
        return Err(Violation::NotUtf8);
    }
    if is_whole && is_final {
        return Ok(Some(Some(Step::Message { kind, data: text })));
    }
    *message = Some((kind, text));
    Ok(is_whole.then_some(None))
}

fn read_control(opcode: u8, data: Vec<u8>) -> Result<Step, Violation> {
    match (opcode, &*data) {
        (9, _) => Ok(Step::Ping(data)),
        (10, _) => Ok(Step::Pong(data)),
        (_, []) => Ok(Step::Close(None)),
        (_, [_]) => Err(Violation::CloseTooShort),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::BadCloseCode);
            }
            let reason = String::from_utf8(reason.to_vec()).map_err(|_| Violation::NotUtf8)?;
            Ok(Step::Close(Some(CloseReason { code, reason })))
        }
    }
}

/// Encodes what a peer told, as that peer would, and receives it again.
fn send_again(steps: &[Step], role: Role, limit: usize) {
    let mask = (role == Role::Server).then_some([0x11, 0x22, 0x44, 0x88]);
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::NeedMore => {}
            Step::Message { kind, data } => encode_message(&mut out, *kind, data, mask),
            Step::Ping(data) => encode_ping(&mut out, data, mask),
            Step::Pong(data) => encode_pong(&mut out, data, mask),
            Step::Close(None) => encode_close(&mut out, None, mask),
            Step::Close(Some(reason)) => encode_close(&mut out, Some((reason.code, &reason.reason)), mask),
        }
    }
    let again = trace([&out[..]], role, limit, None);
    assert_eq!((&*again.steps, again.violation), (steps, None), "round trip");
}

/// Compression: the first byte chooses the agreement. The rest is received as compressed messages, in whatever fragments
/// with the same outcome; and sent as messages, which arrive, and refer no farther back than was agreed on.
pub fn websocket_deflate(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    let config = DeflateConfig {
        context_takeover: choice & 0x80 != 0,
        window_bits: 8 + (choice & 7),
        level: (choice >> 3 & 7) * 9 / 7,
        threshold: 1,
    };
    // What is announced as longer than the limit is refused as a whole, but not in fragments.
    inflates(data.get(..2000).unwrap_or(data), &config);
    match choice & 0x40 {
        0 => deflates(data, &config, Role::Server, None),
        _ => deflates(data, &config, Role::Client, Some([0x11, 0x22, 0x44, 0x88])),
    }
}

/// What is agreed on with a peer that wants the same.
pub fn deflate(config: &DeflateConfig) -> Deflate {
    Deflate::new(config)
}

fn inflates(data: &[u8], config: &DeflateConfig) {
    let deflate = Some(deflate(config));
    for (kind, limit) in [(0x41, 1000), (0x42, 100_000)] {
        let mut stream = Vec::new();
        for _ in 0..2 {
            compressed_frame(&mut stream, kind | 0x80, data);
        }
        let whole = however_cut(&stream, Role::Client, limit, deflate);

        let mut fragments = Vec::new();
        for _ in 0..2 {
            let mut opcode = kind;
            for piece in data.chunks(5) {
                compressed_frame(&mut fragments, opcode, piece);
                fragments.extend_from_slice(b"\x89\x00");
                opcode = 0;
            }
            compressed_frame(&mut fragments, opcode | 0x80, b"");
        }
        let mut told = however_cut(&fragments, Role::Client, limit, deflate);
        told.steps.retain(|step| *step != Step::Ping(Vec::new()));
        assert_eq!(told, whole, "in fragments");

        if let (Some(Step::Message { data: inflated, .. }), false) =
            (whole.steps.first(), config.context_takeover)
        {
            let mut expected = Vec::new();
            let with_tail = [data, &[0, 0, 0xff, 0xff]].concat();
            // A stream that is ended, with nothing behind it, takes no tail.
            let read = inflate(&with_tail, 1 << 15, &mut expected).or_else(|| {
                expected.clear();
                inflate(data, 1 << 15, &mut expected)
            });
            assert_eq!((read, inflated), (Some(()), &expected), "the second reading");
        }
    }
}

fn compressed_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let start = out.len();
    encode_message(out, Kind::Binary, payload, None);
    out[start] = first;
}

fn deflates(data: &[u8], config: &DeflateConfig, role: Role, mask: Option<[u8; 4]>) {
    let deflate = deflate(config);
    let peer = if role == Role::Server { Role::Client } else { Role::Server };
    let mut deflater = Deflater::new(deflate, role);
    let mut receiver = Receiver::new(peer, data.len(), Some(deflate));
    let mut history = Vec::new();
    for message in [data].into_iter().chain(data.chunks(300)).chain([data]) {
        let mut frame = b"before".to_vec();
        deflater.encode_message(&mut frame, Kind::Binary, message, mask);
        let frame = frame.strip_prefix(b"before").expect("what was there stays");
        let received = receiver.decode(frame);
        let expected = Step::Message { kind: Kind::Binary, data: message.to_vec() };
        assert_eq!(received, Ok((frame.len(), expected)), "round trip");
        let is_compressed = frame.first().is_some_and(|first| first & 0x40 != 0);
        if is_compressed && mask.is_none() {
            if !config.context_takeover {
                history.clear();
            }
            let header = if frame[1] == 126 { 4 } else { 2 };
            let payload = [&frame[header..], &[0, 0, 0xff, 0xff]].concat();
            let start = history.len();
            assert_eq!(inflate(&payload, 1 << config.window_bits, &mut history), Some(()), "the window");
            assert_eq!(history.get(start..), Some(message));
        }
    }
}

/// Handshakes: `data` is the header section of a request, the answer of a server, and a header of an application.
pub fn websocket_handshake(data: &[u8]) {
    as_request(data);
    as_answer(data);
    as_header(data);
}

fn as_request(data: &[u8]) {
    let config = DeflateConfig::default();
    for lines in [&b""[..], ASKING] {
        let input = [b"GET / HTTP/1.1\r\nHost: x\r\n", lines, data, b"\r\n\r\n"].concat();
        let Some(head) = head_of(&input) else { continue };
        let accepted = accept(&head, Some(&config));
        let plain = accept(&head, None);
        assert_eq!(
            plain.as_ref().err(),
            accepted.as_ref().err(),
            "compression changes nothing of the verdict"
        );
        let Ok(accepted) = accepted else { continue };
        assert!(is_asked_for(&head) && accepted.accept_key.len() == 28);
        assert_eq!(accepted.deflate.is_some(), accepted.extensions().is_some());
        if let Some(value) = accepted.extensions() {
            assert!(
                value.starts_with(
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
                )
            );
            assert!(value.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "it is one header");
        }
    }
}

const ASKING: &[u8] =
    b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: ";

fn head_of(input: &[u8]) -> Option<RequestHead> {
    match RequestDecoder::new().decode(input, &Limits::default()) {
        Ok((_, http1::Step::Head(request))) => Some(request.head),
        _ => None,
    }
}

fn as_answer(data: &[u8]) {
    let mut handshake = ClientHandshake::new(*b"the sample nonce", Some(&DeflateConfig::default()));
    let protocols = (b"Sec-WebSocket-Protocol".to_vec(), b"chat, superchat".to_vec());
    handshake.request(b"x", b"/", &[protocols]).expect("a good request");
    let input = [ANSWER, data, b"\r\n\r\n"].concat();
    for answer in [data, &input] {
        let whole = handshake.read(answer);
        if let Ok(Some(Opened { used, protocol, .. })) = &whole {
            assert!(*used <= answer.len());
            assert!(
                protocol.as_ref().is_none_or(|protocol| [&b"chat"[..], b"superchat"].contains(&&**protocol))
            );
        }
        assert_eq!(whole, in_pieces(&handshake, answer), "what comes in pieces means the same");
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn in_pieces(handshake: &ClientHandshake, answer: &[u8]) -> Result<Option<Opened>, BadAnswer> {
    let mut lengths = (0..answer.len()).step_by(3).chain([answer.len()]);
    lengths.find_map(|length| handshake.read(&answer[..length]).transpose()).transpose()
}

fn as_header(data: &[u8]) {
    let (name, value) = data.split_at(data.iter().position(|&byte| byte == b'=').unwrap_or(data.len()));
    let value = value.get(1..).unwrap_or_default();
    for headers in [&[][..], &[(name.to_vec(), value.to_vec())]] {
        for (host, target) in [(&b"x"[..], &b"/"[..]), (data, b"/"), (b"x", data)] {
            let mut handshake = ClientHandshake::new([0; 16], None);
            let Ok(request) = handshake.request(host, target, headers) else { continue };
            // Some requests that a client may send are too long, or otherwise too much, for our own server.
            let limits = Limits { line: usize::MAX, head: usize::MAX, ..Limits::default() };
            let decoded = RequestDecoder::new().decode(&request, &limits);
            let Ok((used, http1::Step::Head(decoded))) = decoded else {
                panic!("refused what a client sends")
            };
            assert_eq!(used, request.len(), "it is one request");
            assert_eq!(decoded.head.target(), target);
            assert!(is_asked_for(&decoded.head) && accept(&decoded.head, None).is_ok());
            let replaces_host = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"host")).count();
            assert_eq!(decoded.head.header_count(), 5 + headers.len() - replaces_host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"\x81\x05Hello\x89\x00",
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x8a\x80\0\0\0\0",
            b"\x01\x03Hel\x89\x01x\x80\x02lo\x88\x05\x03\xe8bye\x81",
            b"\x81\x02\xc3",
            b"\x81\x04\xf4\x90\x80\x80",
            b"\x81\x7e\x00\x7d",
            b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\x02\x0f123456789012345\x80\x06123456",
            b"\x80\x00",
            b"\x88\x01x",
        ] {
            websocket_frames(data);
        }
    }

    #[test]
    fn compressed_messages_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"\x87",
            b"\x1f\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"\x9f\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"\x9f\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            b"\x18\xf3\x48\xcd\xc9\xc9\x07\x00",
            b"\x98\x00\x05\x00\xfa\xffHello\x00",
            b"\x1c\xff\xff\xff",
        ] {
            websocket_deflate(data);
        }
        let mut text = b"a window of 256 bytes sees only so much of this. ".repeat(40);
        for choice in 0..=255 {
            text[0] = choice;
            websocket_deflate(&text);
        }
        // No two of these are alike, so nothing shrinks.
        let noise: Vec<u8> =
            (0..2000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for choice in [0x18, 0x98, 0x1f, 0x9f] {
            websocket_deflate(&[&[choice][..], &noise].concat());
        }
    }

    #[test]
    fn handshakes_of_every_kind_pass() {
        for data in [
            &b""[..],
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; server_max_window_bits=8, permessage-deflate",
            b"a;",
            b"x\r\nSec-WebSocket-Version: 12",
            b"Upgrade: websocket\r\nConnection: upgrade",
            b"Sec-WebSocket-Protocol: chat",
            b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"Sec-WebSocket-Protocol=a, b",
            b"Host=a.example:8080",
            b"X=a\r\nb: c",
        ] {
            websocket_handshake(data);
        }
    }
}
