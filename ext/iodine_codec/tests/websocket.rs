//! Frames in, messages out: the examples of RFC 6455 and RFC 7692, and a table after each section of the Autobahn test
//! suite. Every stream goes to both ends, and is cut at each of its bytes; the answer must not change.

use iodine_codec::check::websocket::{Trace, trace};
use iodine_codec::http1::{self, Limits, RequestDecoder};
use iodine_codec::websocket::{
    self, CloseReason, Deflate, DeflateConfig, Deflater, Kind, Receiver, Role, Step, Violation,
    encode_message,
};

const LIMIT: usize = 1 << 24;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as its first byte and its payload.
type Frame<'p> = (u8, &'p [u8]);

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn encode(frames: &[Frame<'_>], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::new();
    for (first, payload) in frames {
        let start = out.len();
        encode_message(&mut out, Kind::Binary, payload, mask);
        out[start] = *first;
    }
    out
}

/// What is told of frames, in words.
fn told_with(limit: usize, deflate: Option<Deflate>, frames: &[Frame<'_>]) -> String {
    let of_server = encode(frames, None);
    let trace = however_cut(&of_server, Role::Client, limit, deflate);
    let of_client = encode(frames, Some(MASK));
    assert_eq!(however_cut(&of_client, Role::Server, limit, deflate), trace, "masked");
    let violation = trace.violation.map(|violation| format!("{violation:?} {}", violation.close_code()));
    let open = (!trace.is_idle && violation.is_none() && !matches!(trace.steps.last(), Some(Step::Close(_))))
        .then(|| "open".to_owned());
    trace.steps.iter().map(step).chain(violation).chain(open).collect::<Vec<_>>().join(", ")
}

fn told(frames: &[Frame<'_>]) -> String {
    told_with(LIMIT, None, frames)
}

fn however_cut(stream: &[u8], role: Role, limit: usize, deflate: Option<Deflate>) -> Trace {
    let whole = trace([stream], role, limit, deflate);
    if stream.len() < 100_000 {
        assert_eq!(trace(stream.chunks(1), role, limit, deflate), whole, "byte by byte");
    }
    let cuts = if stream.len() < 5000 { 300 } else { 16 };
    for at in 0..stream.len().min(cuts) {
        let (first, second) = stream.split_at(at);
        assert_eq!(trace([first, second], role, limit, deflate), whole, "cut at {at}");
    }
    assert_eq!(trace(stream.chunks(997), role, limit, deflate), whole, "in pieces of 997");
    whole
}

fn step(step: &Step) -> String {
    let text = |bytes: &[u8]| match bytes.len() {
        ..=40 => String::from_utf8_lossy(bytes).into_owned(),
        length => format!("{length} bytes"),
    };
    let told = match step {
        Step::NeedMore => "need more".to_owned(),
        Step::Message { kind: Kind::Text, data } => format!("text {}", text(data)),
        Step::Message { kind: Kind::Binary, data } => format!("binary {}", text(data)),
        Step::Ping(data) => format!("ping {}", text(data)),
        Step::Pong(data) => format!("pong {}", text(data)),
        Step::Close(None) => "close".to_owned(),
        Step::Close(Some(CloseReason { code, reason })) => {
            format!("close {code} {}", text(reason.as_bytes()))
        }
    };
    told.trim_end().to_owned()
}

// --- RFC 6455 ----------------------------------------------------------------------------------------------------

#[test]
fn rfc_6455_5_7_examples() {
    let told = |role, stream: &[u8]| {
        let trace = however_cut(stream, role, LIMIT, None);
        assert_eq!(trace.violation, None);
        trace.steps.iter().map(step).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(told(Role::Client, b"\x81\x05Hello"), "text Hello");
    assert_eq!(told(Role::Client, b"\x01\x03Hel\x80\x02lo"), "text Hello");
    assert_eq!(told(Role::Client, b"\x89\x05Hello"), "ping Hello");
    assert_eq!(told(Role::Client, &[b"\x82\x7e\x01\x00", &[7; 256][..]].concat()), "binary 256 bytes");
    let large = [b"\x82\x7f\0\0\0\0\0\x01\0\0", &[7; 65536][..]].concat();
    assert_eq!(told(Role::Client, &large), "binary 65536 bytes");
    assert_eq!(told(Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), "text Hello");
    assert_eq!(told(Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), "pong Hello");
}

#[test]
fn f_1_and_f_26_headers_by_the_book() {
    use Violation::*;
    for (role, stream, expected) in [
        // Section 5.1
        (Role::Server, &b"\x81\x05Hello"[..], Unmasked),
        (Role::Server, b"\x81\x00", Unmasked),
        (Role::Server, b"\x88\x00", Unmasked),
        (Role::Client, b"\x81\x80\0\0\0\0", Masked),
        (Role::Client, b"\x89\x81\0\0\0\0a", Masked),
        // Section 5.2: the shortest form, and 63 bits
        (Role::Client, b"\x81\x7e\0\x7d", LengthNotMinimal),
        (Role::Client, b"\x81\x7e\0\0", LengthNotMinimal),
        (Role::Client, b"\x81\x7f\0\0\0\0\0\0\xff\xff", LengthNotMinimal),
        (Role::Server, b"\x81\xfe\0\x7d\0\0\0\0", LengthNotMinimal),
        (Role::Client, b"\x81\x7f\x80\0\0\0\0\0\0\0", LengthOver63Bits),
        (Role::Server, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", LengthOver63Bits),
        (Role::Client, b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", TooBig),
        (Role::Client, b"\x81\x7f\0\0\0\0\x01\0\0\x01", TooBig),
        (Role::Client, b"\x89\x7e\0\x7e", ControlTooLong),
        (Role::Client, b"\x89\x7f\0\0\0\0\0\x01\0\0", ControlTooLong),
    ] {
        let trace = however_cut(stream, role, LIMIT, None);
        assert_eq!((&*trace.steps, trace.violation), (&[][..], Some(expected)), "{}", stream.escape_ascii());
    }
    // What stands before it is told all the same.
    let behind = [&b"\x81\x81\0\0\0\0a"[..], b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"].concat();
    let trace = however_cut(&behind, Role::Server, LIMIT, None);
    assert_eq!((trace.steps.len(), trace.violation), (1, Some(LengthOver63Bits)));
}

// --- the sections of Autobahn ------------------------------------------------------------------------------------

#[test]
fn autobahn_1_framing_and_9_10_sizes() {
    for (opcode, name) in [(TEXT, "text"), (BINARY, "binary")] {
        assert_eq!(told(&[(FIN | opcode, b"")]), name);
        for length in [125, 126, 127, 128, 65535, 65536, 1 << 20] {
            let payload = vec![b'*'; length];
            assert_eq!(told(&[(FIN | opcode, &payload)]), format!("{name} {length} bytes"));
        }
        for (length, size) in [(1 << 16, 64), (1 << 16, 1300), (1 << 20, 1 << 16)] {
            let payload = vec![b'*'; length];
            let mut frames: Vec<Frame<'_>> =
                payload.chunks(size).map(|piece| (CONTINUATION, piece)).collect();
            frames[0].0 = opcode;
            frames.last_mut().unwrap().0 |= FIN;
            assert_eq!(told(&frames), format!("{name} {length} bytes"));
        }
    }
}

#[test]
fn autobahn_2_pings_and_pongs() {
    let long = [0xfe; 126];
    assert_eq!(told(&[(FIN | PING, b"")]), "ping");
    assert_eq!(told(&[(FIN | PING, b"Hello")]), "ping Hello");
    assert_eq!(told(&[(FIN | PING, b"\0\xff\xfe")]), "ping \0\u{fffd}\u{fffd}");
    assert_eq!(told(&[(FIN | PING, &long[..125])]), "ping 125 bytes");
    assert_eq!(told(&[(FIN | PING, &long)]), "ControlTooLong 1002");
    assert_eq!(told(&[(FIN | PONG, b"")]), "pong");
    assert_eq!(told(&[(FIN | PONG, b"unasked"), (FIN | PING, b"x")]), "pong unasked, ping x");
    assert_eq!(told(&[(FIN | PING, &b"x"[..]); 10]), ["ping x"; 10].join(", "));
}

#[test]
fn autobahn_3_reserved_bits() {
    for bits in 1..8 {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let frames = [(FIN | TEXT, &b"a"[..]), (FIN | bits << 4 | opcode, b""), (FIN | PING, b"")];
            assert_eq!(told(&frames), "text a, ReservedBits 1002", "{bits} {opcode}");
        }
        let frames = [(TEXT, &b"a"[..]), (FIN | bits << 4 | CONTINUATION, b"b")];
        assert_eq!(told(&frames), "ReservedBits 1002", "{bits}");
    }
}

#[test]
fn autobahn_4_opcodes() {
    for opcode in (3..8).chain(11..16) {
        for payload in [&b""[..], b"payload"] {
            let frames = [(FIN | TEXT, &b"a"[..]), (FIN | opcode, payload), (FIN | PING, b"")];
            assert_eq!(told(&frames), "text a, ReservedOpcode 1002", "{opcode}");
            assert_eq!(told(&[(opcode, payload)]), "ReservedOpcode 1002", "{opcode}");
        }
    }
}

#[test]
fn autobahn_5_fragmentation() {
    let ping: Frame<'_> = (FIN | PING, b"p");
    let table: &[(&[Frame<'_>], &str)] = &[
        (&[(PING, b"a"), (FIN | CONTINUATION, b"b")], "ControlFragmented 1002"),
        (&[(PONG, b"a"), (FIN | CONTINUATION, b"b")], "ControlFragmented 1002"),
        (&[(CLOSE, b"")], "ControlFragmented 1002"),
        (&[(TEXT, b"a"), (FIN | CONTINUATION, b"b")], "text ab"),
        (&[(BINARY, b"a"), (FIN | CONTINUATION, b"b")], "binary ab"),
        (&[(TEXT, b"a"), ping, (FIN | CONTINUATION, b"b")], "ping p, text ab"),
        (&[(TEXT, b"a"), (FIN | PONG, b"p"), (FIN | CONTINUATION, b"b")], "pong p, text ab"),
        (&[(FIN | CONTINUATION, b"a"), (FIN | TEXT, b"b")], "NothingToContinue 1002"),
        (&[(CONTINUATION, b"a"), (FIN | TEXT, b"b")], "NothingToContinue 1002"),
        (&[(CONTINUATION, b"")], "NothingToContinue 1002"),
        (
            &[(TEXT, b"a"), (FIN | CONTINUATION, b"b"), (CONTINUATION, b"c"), (FIN | TEXT, b"d")],
            "text ab, NothingToContinue 1002",
        ),
        (&[(FIN | TEXT, b"a"), (FIN | CONTINUATION, b"b")], "text a, NothingToContinue 1002"),
        (&[(TEXT, b"a"), (TEXT, b"b")], "MessageInterrupted 1002"),
        (&[(TEXT, b"a"), (FIN | TEXT, b"b")], "MessageInterrupted 1002"),
        (&[(BINARY, b"a"), ping, (FIN | BINARY, b"b")], "ping p, MessageInterrupted 1002"),
        (
            &[
                (TEXT, b"1"),
                (CONTINUATION, b"2"),
                ping,
                (CONTINUATION, b"3"),
                (CONTINUATION, b"4"),
                ping,
                (FIN | CONTINUATION, b"5"),
                (FIN | BINARY, b"6"),
            ],
            "ping p, ping p, text 12345, binary 6",
        ),
        (&[(TEXT, b""), (CONTINUATION, b""), (FIN | CONTINUATION, b"")], "text"),
        (&[(TEXT, b"a"), ping], "ping p, open"),
        (&[(TEXT, b"")], "open"),
    ];
    for (frames, expected) in table {
        assert_eq!(told(frames), *expected, "{frames:?}");
    }
}

const VALID_UTF8: &[&[u8]] = &[
    "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!".as_bytes(),
    "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}".as_bytes(),
    // 6.7, 6.9: the first and the last of each length
    b"\0",
    b"\xc2\x80",
    b"\xe0\xa0\x80",
    b"\xf0\x90\x80\x80",
    b"\x7f",
    b"\xdf\xbf",
    b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
    // 6.11: beside the gaps
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
    // 6.22, 6.23: no characters, but UTF-8
    b"\xef\xbf\xbe",
    b"\xf0\x9f\xbf\xbe",
    b"\xf0\x9f\xbf\xbf",
    b"\xf0\xaf\xbf\xbe",
    b"\xf1\x8f\xbf\xbf",
    b"\xf3\xbf\xbf\xbe",
    b"\xf4\x8f\xbf\xbe",
    b"\xef\xbf\xb9",
];

/// Each ends with the byte that can not be in UTF-8, if it is not only incomplete.
const INVALID_UTF8: &[&[u8]] = &[
    // 6.3
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0",
    // 6.8, 6.10: lengths there are no more
    b"\xf8",
    b"\xfc",
    b"\xf7",
    b"\xfb",
    b"\xfd",
    // 6.11: beyond the last
    b"\xf4\x90",
    b"\xf5",
    // 6.12: continuations of nothing
    b"\x80",
    b"\xbf",
    b"a\x80",
    b"\xc2\x80\xbf",
    // 6.13, 6.15: beginnings that are not gone on with
    b"\xc2 ",
    b"\xdf ",
    b"\xe1 ",
    b"\xef ",
    b"\xf1 ",
    b"\xf4 ",
    b"\xe1\x80\xc2",
    b"\xf1\x80\x80a",
    // 6.16
    b"\xfe",
    b"\xff",
    // 6.17 to 6.19: longer than need be
    b"\xc0",
    b"\xc1",
    b"\xe0\x80",
    b"\xe0\x9f",
    b"\xf0\x80",
    b"\xf0\x8f",
    // 6.20, 6.21: surrogates
    b"\xed\xa0",
    b"\xed\xad",
    b"\xed\xae",
    b"\xed\xaf",
    b"\xed\xb0",
    b"\xed\xbe",
    b"\xed\xbf",
];

/// 6.6, 6.14: they could go on.
const INCOMPLETE_UTF8: &[&[u8]] = &[
    b"\xce",
    b"\xc2",
    b"\xdf",
    b"\xe0\xa0",
    b"\xef\xbf",
    b"\xed\x9f",
    b"\xf0\x90\x80",
    b"\xf4\x8f\xbf",
    b"\xe1\xbd",
];

#[test]
fn autobahn_6_utf8() {
    for text in VALID_UTF8 {
        let text = [text, &b"."[..], text].concat();
        let expected = step(&Step::Message { kind: Kind::Text, data: text.clone() });
        assert_eq!(told(&[(FIN | TEXT, &text)]), expected);
        for at in 0..=text.len() {
            let (first, second) = text.split_at(at);
            assert_eq!(
                told(&[(TEXT, first), (FIN | PING, b""), (FIN | CONTINUATION, second)]),
                format!("ping, {expected}")
            );
        }
        let mut octets: Vec<Frame<'_>> = text.chunks(1).map(|octet| (CONTINUATION, octet)).collect();
        octets[0].0 = TEXT;
        octets.push((FIN | CONTINUATION, b""));
        assert_eq!(told(&octets), expected);
    }
    for text in INVALID_UTF8 {
        let shown = text.escape_ascii();
        // 6.4: it fails as soon as that can be known, whatever would follow.
        assert_eq!(told(&[(TEXT, text)]), "NotUtf8 1007", "{shown}");
        let (start, last) = text.split_at(text.len() - 1);
        assert_eq!(told(&[(TEXT, start), (FIN | PING, b"")]), "ping, open", "{shown}");
        assert_eq!(
            told(&[(TEXT, start), (FIN | PING, b""), (CONTINUATION, last)]),
            "ping, NotUtf8 1007",
            "{shown}"
        );
        assert_eq!(
            told(&[(FIN | BINARY, text), (FIN | TEXT, text)]).split(", ").last(),
            Some("NotUtf8 1007"),
            "{shown}"
        );
        let mut unfinished = encode(&[(FIN | TEXT, &[&b"valid"[..], text, b"never sent"].concat())], None);
        unfinished.truncate(2 + 5 + text.len());
        let trace = however_cut(&unfinished, Role::Client, LIMIT, None);
        assert_eq!(trace.violation, Some(Violation::NotUtf8), "{shown}");
    }
    for text in INCOMPLETE_UTF8 {
        let shown = text.escape_ascii();
        assert_eq!(told(&[(FIN | TEXT, text)]), "NotUtf8 1007", "{shown}");
        assert_eq!(told(&[(TEXT, text)]), "open", "{shown}");
        assert_eq!(told(&[(TEXT, text), (FIN | CONTINUATION, b"")]), "NotUtf8 1007", "{shown}");
    }
}

#[test]
fn autobahn_7_closing() {
    let table: &[(&[Frame<'_>], &str)] = &[
        (&[(FIN | TEXT, b"a"), (FIN | CLOSE, b"")], "text a, close"),
        // 7.1: nothing behind a close is looked at
        (&[(FIN | CLOSE, b""), (FIN | CLOSE, b"")], "close"),
        (&[(FIN | CLOSE, b""), (FIN | PING, b"")], "close"),
        (&[(FIN | CLOSE, b""), (FIN | TEXT, b"a")], "close"),
        (&[(FIN | CLOSE, b""), (0x7f, b"nonsense")], "close"),
        (&[(TEXT, b"a"), (FIN | CLOSE, b""), (FIN | CONTINUATION, b"b")], "close"),
        // 7.3: payloads
        (&[(FIN | CLOSE, b"x")], "CloseTooShort 1002"),
        (&[(FIN | CLOSE, b"\x03\xe8")], "close 1000"),
        (&[(FIN | CLOSE, b"\x03\xe8Hello World!")], "close 1000 Hello World!"),
        (&[(FIN | CLOSE, &[b'\x0f'; 125])], "close 3855 123 bytes"),
        (&[(FIN | CLOSE, &[b'\x0f'; 126])], "ControlTooLong 1002"),
        // 7.5
        (&[(FIN | CLOSE, b"\x03\xe8\xce\xba\xe1\xbd\xed\xa0\x80")], "NotUtf8 1007"),
        (&[(FIN | CLOSE, b"\x03\xe8\xce")], "NotUtf8 1007"),
    ];
    for (frames, expected) in table {
        assert_eq!(told(frames), *expected, "{frames:?}");
    }
    // 7.7, 7.9, 7.13: all codes there are
    for code in 0..=u16::MAX {
        let frame = [&[0x88, 2][..], &code.to_be_bytes()].concat();
        let (expected, is_valid) = match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => {
                (Ok((4, Step::Close(Some(CloseReason { code, reason: String::new() })))), true)
            }
            _ => (Err(Violation::BadCloseCode), false),
        };
        assert_eq!(Receiver::new(Role::Client, 0, None).decode(&frame), expected, "{code}");
        let mut sent = Vec::new();
        websocket::encode_close(&mut sent, Some((code, "")), None);
        assert_eq!(sent == frame, is_valid, "{code}");
    }
}

#[test]
fn autobahn_9_and_f_27_limits() {
    let ten = b"0123456789";
    for opcode in [TEXT, BINARY] {
        let kind = if opcode == TEXT { "text" } else { "binary" };
        let fits = format!("{kind} 0123456789");
        assert_eq!(told_with(10, None, &[(FIN | opcode, ten)]), fits);
        assert_eq!(told_with(9, None, &[(FIN | opcode, ten)]), "TooBig 1009");
        assert_eq!(told_with(10, None, &[(opcode, &ten[..4]), (FIN | CONTINUATION, &ten[4..])]), fits);
        assert_eq!(
            told_with(9, None, &[(opcode, &ten[..4]), (FIN | CONTINUATION, &ten[4..])]),
            "TooBig 1009"
        );
        assert_eq!(told_with(10, None, &[(opcode, ten), (FIN | CONTINUATION, b"")]), fits);
        assert_eq!(told_with(10, None, &[(opcode, ten), (CONTINUATION, b"x")]), "TooBig 1009");
        assert_eq!(told_with(0, None, &[(FIN | opcode, b"")]), kind);
    }
    // Control frames have a limit of their own.
    assert_eq!(
        told_with(0, None, &[(FIN | PING, ten), (FIN | CLOSE, b"\x03\xe8x")]),
        "ping 0123456789, close 1000 x"
    );
}

// --- RFC 7692, and sections 12 and 13 of Autobahn ----------------------------------------------------------------

/// What a server with that config agrees to when a client makes that offer.
fn agreed(offer: &str, config: &DeflateConfig) -> Deflate {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate{offer}\r\n\r\n"
    );
    match RequestDecoder::new().decode(request.as_bytes(), &Limits::default()) {
        Ok((_, http1::Step::Head(request))) => websocket::accept(&request.head, Some(config))
            .expect("a good request")
            .deflate
            .expect("a good offer"),
        other => panic!("{other:?}"),
    }
}

const TAKEOVER: DeflateConfig =
    DeflateConfig { context_takeover: true, window_bits: 15, level: 3, threshold: 1 };
const NO_TAKEOVER: DeflateConfig = DeflateConfig { context_takeover: false, ..TAKEOVER };

/// "Hello" compressed, of section 7.2.3.1.
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
/// The same behind the same, of section 7.2.3.2.
const HELLO_AGAIN: &[u8] = b"\xf2\x00\x11\x00\x00";
/// The same in a last block, of section 7.2.3.4.
const LAST_HELLO: &[u8] = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
const DEFLATED: u8 = FIN | RSV1 | TEXT;

#[test]
fn rfc_7692_7_2_3_examples() {
    for config in [TAKEOVER, NO_TAKEOVER] {
        let told = |frames: &[Frame<'_>]| told_with(LIMIT, Some(agreed("", &config)), frames);
        assert_eq!(told(&[(DEFLATED, HELLO)]), "text Hello");
        assert_eq!(told(&[(RSV1 | TEXT, &HELLO[..3]), (FIN, &HELLO[3..])]), "text Hello");
        assert_eq!(told(&[(DEFLATED, b"\x00\x05\x00\xfa\xffHello\x00")]), "text Hello");
        assert_eq!(told(&[(DEFLATED, LAST_HELLO)]), "text Hello");
        let two_blocks = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
        assert_eq!(told(&[(DEFLATED, two_blocks)]), "text Hello");
        assert_eq!(
            told(&[(DEFLATED, b"\x00"), (DEFLATED, b"\x00"), (DEFLATED, HELLO)]),
            "text, text, text Hello"
        );
    }
    let again: &[Frame<'_>] = &[(DEFLATED, HELLO), (DEFLATED, HELLO_AGAIN), (DEFLATED, HELLO)];
    assert_eq!(told_with(LIMIT, Some(agreed("", &TAKEOVER)), again), "text Hello, text Hello, text Hello");
    assert_eq!(told_with(LIMIT, Some(agreed("", &NO_TAKEOVER)), again), "text Hello, BadCompression 1007");
}

#[test]
fn rfc_7692_6_where_rsv1_may_be() {
    for config in [TAKEOVER, NO_TAKEOVER] {
        let told = |frames: &[Frame<'_>]| told_with(LIMIT, Some(agreed("", &config)), frames);
        let ping: Frame<'_> = (FIN | PING, b"");
        assert_eq!(told(&[(RSV1 | TEXT, HELLO), (FIN | RSV1, b"")]), "ReservedBits 1002");
        assert_eq!(told(&[(FIN | RSV1 | PING, b"")]), "ReservedBits 1002");
        assert_eq!(told(&[(FIN | RSV1 | CLOSE, b"")]), "ReservedBits 1002");
        assert_eq!(told(&[(FIN | RSV1, b"")]), "ReservedBits 1002");
        assert_eq!(told(&[(DEFLATED | 0x20, HELLO)]), "ReservedBits 1002");
        assert_eq!(told(&[(DEFLATED | 0x10, HELLO)]), "ReservedBits 1002");
        // Plain messages may stand between compressed ones, and control frames between fragments.
        let mixed: &[Frame<'_>] = &[
            (FIN | TEXT, b"plain"),
            (RSV1 | BINARY, &HELLO[..2]),
            ping,
            (CONTINUATION, b""),
            (CONTINUATION, &HELLO[2..]),
            (FIN, b""),
            (TEXT, b"pl"),
            (FIN, b"ain"),
            (DEFLATED, LAST_HELLO),
            (DEFLATED, HELLO),
        ];
        assert_eq!(told(mixed), "text plain, ping, binary Hello, text plain, text Hello, text Hello");
    }
}

#[test]
fn what_can_not_be_inflated() {
    let told = |config, frames: &[Frame<'_>]| told_with(1000, Some(agreed("", &config)), frames);
    for config in [TAKEOVER, NO_TAKEOVER] {
        // A block of a reserved type, a length that contradicts itself, a copy from before the beginning.
        for payload in [&b"\x07"[..], b"\x00\x05\x00\xfb\xff", b"\xf2\x00\x11\x00\x00"] {
            assert_eq!(told(config, &[(DEFLATED, payload), (FIN | PING, b"")]), "BadCompression 1007");
            assert_eq!(told(config, &[(RSV1 | TEXT, payload), (FIN | PING, b"")]), "BadCompression 1007");
        }
        // What is wrong first is what counts.
        let not_utf8_then_nonsense = b"\x00\x01\x00\xfe\xff\xff\x07";
        assert_eq!(told(config, &[(DEFLATED, not_utf8_then_nonsense)]), "NotUtf8 1007");
        assert_eq!(
            told(config, &[(DEFLATED, b"\x00\x02\x00\xfd\xffa\xce\x00"), (FIN | PING, b"")]),
            "NotUtf8 1007"
        );
        // Not by the book, but clear.
        assert_eq!(told(config, &[(DEFLATED, b""), (DEFLATED, HELLO)]), "text, text Hello");
        assert_eq!(
            told(config, &[(DEFLATED, &LAST_HELLO[..7]), (DEFLATED, HELLO)]),
            "text Hello, text Hello"
        );
    }
    // Where every message stands alone it is known to be whole.
    assert_eq!(told(NO_TAKEOVER, &[(FIN | RSV1 | BINARY, &HELLO[..4])]), "BadCompression 1007");
    assert_eq!(
        told(NO_TAKEOVER, &[(FIN | RSV1 | BINARY, b"\x00\x0a\x00\xf5\xffHello")]),
        "BadCompression 1007"
    );
    // A stream that ends takes its window along into the next one of the same message, and of the next message.
    let after_end: &[Frame<'_>] = &[(DEFLATED, LAST_HELLO), (DEFLATED, HELLO_AGAIN)];
    assert_eq!(told(TAKEOVER, after_end), "text Hello, text Hello");
    let in_one = [&LAST_HELLO[..7], HELLO_AGAIN].concat();
    assert_eq!(told(NO_TAKEOVER, &[(DEFLATED, &in_one)]), "text HelloHello");
}

/// A message of zeros, compressed as well as can be.
fn bomb(length: usize) -> Vec<u8> {
    let config = DeflateConfig { level: 9, ..NO_TAKEOVER };
    let mut frame = Vec::new();
    Deflater::new(agreed("", &config), Role::Server).encode_message(
        &mut frame,
        Kind::Binary,
        &vec![0; length],
        None,
    );
    frame
}

#[test]
fn what_inflates_to_too_much_is_too_big() {
    let deflate = Some(agreed("", &NO_TAKEOVER));
    let bomb = bomb(2_000_000);
    assert!(bomb.len() < 4000, "{}", bomb.len());
    let outcome = |limit| trace([&bomb[..]], Role::Client, limit, deflate);
    assert_eq!(outcome(1_999_999).violation, Some(Violation::TooBig));
    assert_eq!(outcome(2_000_000).steps.len(), 1);
    for limit in [0, 1, 511, 512, 513, 65_535, 1_000_000] {
        assert_eq!(outcome(limit).violation, Some(Violation::TooBig), "{limit}");
    }
    // Nothing comes out of these blocks, but they go on and on.
    let blocks = [&b"\x00\x00\x00\xff\xff".repeat(300)[..], b"\x00"].concat();
    assert_eq!(told_with(400, deflate, &[(DEFLATED, &blocks)]), "TooBig 1009");
    assert_eq!(told_with(500, deflate, &[(DEFLATED, &blocks)]), "text");
    assert_eq!(told_with(400, deflate, &[(RSV1 | TEXT, &blocks[..800]), (0, &blocks[800..])]), "TooBig 1009");
}

#[test]
fn autobahn_12_13_compression() {
    let text = "The quick brown fox, and 17 others, jumps over the lazy d\u{f6}g. ".repeat(3000);
    let noise: Vec<u8> =
        (0..200_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for offer in [
        "",
        "; server_no_context_takeover",
        "; server_max_window_bits=9",
        "; server_max_window_bits=15",
        "; server_no_context_takeover; server_max_window_bits=9",
        "; client_max_window_bits=8; server_max_window_bits=8",
        "; client_no_context_takeover; client_max_window_bits",
    ] {
        for config in [TAKEOVER, NO_TAKEOVER, DeflateConfig { window_bits: 10, ..TAKEOVER }] {
            let deflate = agreed(offer, &config);
            for (role, peer, mask) in
                [(Role::Server, Role::Client, None), (Role::Client, Role::Server, Some(MASK))]
            {
                let mut deflater = Deflater::new(deflate, role);
                assert_eq!(deflater.is_shareable(), !deflate.context_takeover(role));
                let mut stream = Vec::new();
                let mut expected = Vec::new();
                for length in [0, 1, 16, 64, 1024, 35_000, 100, 16] {
                    let (text, noise) = (&text[..length], &noise[..length]);
                    deflater.encode_message(&mut stream, Kind::Text, text.as_bytes(), mask);
                    expected.push(Step::Message { kind: Kind::Text, data: text.as_bytes().to_vec() });
                    deflater.encode_message(&mut stream, Kind::Binary, noise, mask);
                    expected.push(Step::Message { kind: Kind::Binary, data: noise.to_vec() });
                }
                let told = trace(stream.chunks(1000), peer, LIMIT, Some(deflate));
                assert!(told.steps == expected && told.violation.is_none(), "{offer} {config:?} {role:?}");
            }
        }
    }
}

#[test]
fn messages_are_compressed_where_that_is_worth_it() {
    let frame = |config: &DeflateConfig, message: &[u8]| {
        let mut frame = Vec::new();
        Deflater::new(agreed("", config), Role::Server).encode_message(&mut frame, Kind::Text, message, None);
        frame
    };
    let is_compressed = |frame: &[u8]| frame[0] & RSV1 != 0;
    let config = DeflateConfig::default();
    assert!(!is_compressed(&frame(&config, &[b'a'; 127])));
    assert!(is_compressed(&frame(&config, &[b'a'; 128])));
    assert_eq!(frame(&NO_TAKEOVER, b""), b"\x81\0");
    assert_eq!(frame(&NO_TAKEOVER, b"a"), b"\x81\x01a");
    assert!(!is_compressed(&frame(&DeflateConfig { level: 0, ..config }, &[b'a'; 1000])));

    // The same twice is smaller the second time, and what a plain message between them holds is not referred to.
    let mut deflater = Deflater::new(agreed("", &TAKEOVER), Role::Server);
    let mut lengths = Vec::new();
    let mut stream = Vec::new();
    for message in [
        &b"one, two, three, four, five, six, seven, eight, nine, and so on"[..],
        b"one, two, three, four, five, six, seven, eight, nine, and so on",
        b"\x01\x02\x03\x04",
        b"one, two, three, four, five, six, seven, eight, nine, and so on",
    ] {
        let start = stream.len();
        deflater.encode_message(&mut stream, Kind::Binary, message, None);
        lengths.push(stream.len() - start);
    }
    assert!(lengths[1] < lengths[0], "{lengths:?}");
    let told = trace([&stream[..]], Role::Client, LIMIT, Some(agreed("", &TAKEOVER)));
    assert_eq!((told.steps.len(), told.violation), (4, None));
}
