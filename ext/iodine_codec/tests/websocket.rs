//! Frames in, messages out: the examples of RFC 6455 and RFC 7692, and a table after each section of the Autobahn test
//! suite. Every stream is cut at each of its bytes; the answer must not change.

use iodine_codec::http1::{self, Limits, RequestDecoder};
use iodine_codec::websocket::{
    self, CloseReason, Deflate, DeflateConfig, Deflater, Kind, Receiver, Role, Step, Violation,
};

const LIMIT: usize = 1 << 20;

/// What a receiver tells about a stream that comes in those pieces.
fn steps<'p>(
    role: Role,
    limit: usize,
    deflate: Option<Deflate>,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Step>, Option<Violation>) {
    let mut receiver = Receiver::new(role, limit, deflate);
    let mut steps = Vec::new();
    for mut piece in pieces {
        loop {
            match receiver.decode(piece) {
                Ok((used, Step::NeedMore)) => {
                    assert_eq!(used, piece.len());
                    break;
                }
                Ok((used, step)) => {
                    piece = &piece[used..];
                    steps.push(step);
                }
                Err(violation) => return (steps, Some(violation)),
            }
        }
    }
    (steps, None)
}

/// The same, in words, and the same for every cut in two and byte by byte.
fn told_with(limit: usize, deflate: Option<Deflate>, stream: &[u8]) -> String {
    let whole = steps(Role::Client, limit, deflate, [stream]);
    assert_eq!(whole, steps(Role::Client, limit, deflate, stream.chunks(1)), "byte by byte");
    for at in 0..stream.len().min(1000) {
        let (first, second) = stream.split_at(at);
        assert_eq!(whole, steps(Role::Client, limit, deflate, [first, second]), "cut at {at}");
    }
    let (steps, violation) = whole;
    let told = steps
        .iter()
        .map(step)
        .chain(violation.map(|violation| format!("{violation:?} {}", violation.close_code())));
    told.collect::<Vec<_>>().join(", ")
}

fn step(step: &Step) -> String {
    let text = |bytes: &[u8]| match bytes.len() {
        ..=40 => String::from_utf8_lossy(bytes).into_owned(),
        length => format!("{length} bytes"),
    };
    match step {
        Step::NeedMore => "need more".to_owned(),
        Step::Message { kind: Kind::Text, data } => format!("text {}", text(data)),
        Step::Message { kind: Kind::Binary, data } => format!("binary {}", text(data)),
        Step::Ping(data) => format!("ping {}", text(data)),
        Step::Pong(data) => format!("pong {}", text(data)),
        Step::Close(None) => "close".to_owned(),
        Step::Close(Some(CloseReason { code, reason })) => {
            format!("close {code} {}", text(reason.as_bytes()))
        }
    }
}

fn told(stream: &[u8]) -> String {
    told_with(LIMIT, None, stream)
}

#[test]
fn rfc_6455_5_7_examples() {
    assert_eq!(told(b"\x81\x05Hello"), "text Hello");
    assert_eq!(told(b"\x01\x03Hel\x80\x02lo"), "text Hello");
    assert_eq!(told(b"\x89\x05Hello"), "ping Hello");
    assert_eq!(told(&[b"\x82\x7e\x01\x00", &[7; 256][..]].concat()), "binary 256 bytes");
    assert_eq!(told(&[b"\x82\x7f\0\0\0\0\0\x01\0\0", &[7; 65536][..]].concat()), "binary 65536 bytes");
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let (steps, violation) = steps(Role::Server, LIMIT, None, [&masked[..], &pong]);
    assert_eq!(violation, None);
    let hello = b"Hello".to_vec();
    assert_eq!(steps, [Step::Message { kind: Kind::Text, data: hello.clone() }, Step::Pong(hello)]);
}

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
    DeflateConfig { context_takeover: true, window_bits: 15, level: 6, threshold: 1 };
const NO_TAKEOVER: DeflateConfig = DeflateConfig { context_takeover: false, ..TAKEOVER };

#[test]
fn rfc_7692_7_2_3_examples() {
    let deflated = |config: &DeflateConfig, stream: &[u8]| told_with(LIMIT, Some(agreed("", config)), stream);
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let frame = [&[0xc1, 0x07][..], &hello].concat();
    for config in [TAKEOVER, NO_TAKEOVER] {
        // 7.2.3.1, in one frame and in two
        assert_eq!(deflated(&config, &frame), "text Hello");
        let fragments = [&[0x41, 0x03][..], &hello[..3], &[0x80, 0x04], &hello[3..]].concat();
        assert_eq!(deflated(&config, &fragments), "text Hello");
        // 7.2.3.3: a block without compression
        let stored = [0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(deflated(&config, &stored), "text Hello");
        // 7.2.3.4: a last block, and another stream behind it
        let last = [0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(deflated(&config, &last), "text Hello");
        assert_eq!(
            deflated(&config, &[&last[..], &last, &frame].concat()),
            "text Hello, text Hello, text Hello"
        );
        // 7.2.3.5: two blocks in one message
        let two = [0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(deflated(&config, &two), "text Hello");
        // 7.2.3.6: an empty message
        assert_eq!(deflated(&config, b"\xc1\x01\x00\xc1\x01\x00"), "text , text ");
    }
    // 7.2.3.2: the second message refers to the first.
    let again = [&frame[..], &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00], &frame].concat();
    assert_eq!(deflated(&TAKEOVER, &again), "text Hello, text Hello, text Hello");
    assert_eq!(deflated(&NO_TAKEOVER, &again), "text Hello, BadCompression 1007");
}

#[test]
fn what_is_deflated_is_inflated() {
    for config in [TAKEOVER, NO_TAKEOVER] {
        for (role, mask) in [(Role::Server, None), (Role::Client, Some([1, 2, 3, 4]))] {
            let deflate = agreed("; client_max_window_bits", &config);
            let peer = if role == Role::Server { Role::Client } else { Role::Server };
            let mut deflater = Deflater::new(deflate, role);
            let mut stream = Vec::new();
            let long = "so long that it is worth it, ".repeat(1000);
            let messages = ["", "a", &long, "so long that it is worth it", &long];
            for message in messages {
                deflater.encode_message(&mut stream, Kind::Text, message.as_bytes(), mask);
            }
            assert!(stream.len() < 1000, "{}", stream.len());
            let (steps, violation) = steps(peer, LIMIT, Some(deflate), [&stream[..]]);
            assert_eq!(violation, None);
            let expected =
                messages.map(|text| Step::Message { kind: Kind::Text, data: text.as_bytes().to_vec() });
            assert_eq!(steps, expected);
        }
    }
}
