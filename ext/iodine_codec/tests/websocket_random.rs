//! Random streams and messages: however they are cut they mean the same, and what is sent arrives.

use iodine_codec::check;
use iodine_codec::check::websocket::trace;
use iodine_codec::websocket::{
    Kind, Role, Step, encode_close, encode_message, encode_ping, encode_pong, frame_length,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What one side means to say.
#[derive(Clone, Debug)]
enum Meant {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl Meant {
    fn encode(&self, out: &mut Vec<u8>, mask: Option<[u8; 4]>) {
        let start = out.len();
        let payload = match self {
            Meant::Text(text) => {
                encode_message(out, Kind::Text, text.as_bytes(), mask);
                text.len()
            }
            Meant::Binary(data) => {
                encode_message(out, Kind::Binary, data, mask);
                data.len()
            }
            Meant::Ping(data) => {
                encode_ping(out, data, mask);
                data.len()
            }
            Meant::Pong(data) => {
                encode_pong(out, data, mask);
                data.len()
            }
        };
        assert_eq!(out.len() - start, frame_length(payload, mask.is_some()));
    }

    fn expected(&self) -> Step {
        match self.clone() {
            Meant::Text(text) => Step::Message { kind: Kind::Text, data: text.into_bytes() },
            Meant::Binary(data) => Step::Message { kind: Kind::Binary, data },
            Meant::Ping(data) => Step::Ping(data),
            Meant::Pong(data) => Step::Pong(data),
        }
    }
}

fn meant() -> impl Strategy<Value = Meant> {
    prop_oneof![
        vec(any::<char>(), 0..60).prop_map(|text| Meant::Text(String::from_iter(text))),
        vec(any::<u8>(), 0..300).prop_map(Meant::Binary),
        vec(any::<u8>(), 0..126).prop_map(Meant::Ping),
        vec(any::<u8>(), 0..126).prop_map(Meant::Pong),
    ]
}

/// Frames that are nearly right.
fn almost_frames() -> impl Strategy<Value = Vec<u8>> {
    let first = select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88, 0xc1, 0x83, 0x09]);
    let payload = prop_oneof![
        vec(any::<u8>(), 0..8),
        vec(any::<char>(), 0..8).prop_map(|text| String::from_iter(text).into_bytes()),
        (990u16..1020, "[a-z\u{e4}]{0,3}").prop_map(|(code, text)| [
            &code.to_be_bytes()[..],
            text.as_bytes()
        ]
        .concat()),
        vec(any::<u8>(), 120..130),
    ];
    let frame =
        (first, payload, any::<bool>(), any::<[u8; 4]>()).prop_map(|(first, payload, masked, mask)| {
            let mut out = Vec::new();
            encode_message(&mut out, Kind::Binary, &payload, masked.then_some(mask));
            out[0] = first;
            out
        });
    (vec(frame, 0..6), vec(any::<u8>(), 0..3)).prop_map(|(frames, rest)| [frames.concat(), rest].concat())
}

proptest! {
    #[test]
    fn what_was_meant_is_what_arrives(messages in vec(meant(), 0..6), mask in any::<[u8; 4]>(), reason in "[a-z\u{20ac}]{0,60}") {
        for (role, mask) in [(Role::Server, Some(mask)), (Role::Client, None)] {
            let mut stream = Vec::new();
            messages.iter().for_each(|message| message.encode(&mut stream, mask));
            let mut expected: Vec<Step> = messages.iter().map(Meant::expected).collect();
            prop_assert!(trace([&stream[..]], role, 1000, None).is_idle);
            encode_close(&mut stream, Some((1000, &reason)), mask);
            let whole = trace([&stream[..]], role, 1000, None);
            match whole.steps.last() {
                Some(Step::Close(Some(close))) => prop_assert!(reason.starts_with(&close.reason)),
                other => prop_assert!(false, "{other:?}"),
            }
            expected.extend(whole.steps.last().cloned());
            prop_assert_eq!(&whole.steps, &expected);
            for at in 0..stream.len() {
                let (first, second) = stream.split_at(at);
                prop_assert_eq!(&trace([first, second], role, 1000, None), &whole);
            }
        }
    }

    #[test]
    fn almost_frames_mean_the_same_however_cut(stream in almost_frames()) {
        check::websocket_frames(&stream);
    }

    #[test]
    fn no_bytes_at_all_break_an_invariant(data in vec(any::<u8>(), 0..120)) {
        check::websocket_frames(&data);
        check::websocket_deflate(&data);
        check::websocket_handshake(&data);
        check::sse(&data);
    }

    #[test]
    fn lines_are_read_as_they_were_meant(data in "[a-c:\r\n \0]{0,40}") {
        check::sse(data.as_bytes());
    }

    #[test]
    fn repetitive_messages_survive_compression(choice in any::<u8>(), words in vec("[a-c]{1,6}", 0..300)) {
        check::websocket_deflate(&[&[choice][..], words.concat().as_bytes()].concat());
    }

    #[test]
    fn almost_handshakes_get_a_verdict(pieces in vec(select(vec![
        "permessage-deflate", "client_max_window_bits", "server_max_window_bits", "=8", "=15", "=\"10\"", ";", "; ", ",",
        "client_no_context_takeover", "server_no_context_takeover", "\r\n", "Upgrade: websocket", "Sec-WebSocket-Protocol: ",
        "Sec-WebSocket-Extensions: ", "chat", "superchat", "Sec-WebSocket-Version: ", "13", "\"", "=", "HTTP/1.1 101 x\r\n",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]), 0..12)) {
        check::websocket_handshake(pieces.concat().as_bytes());
    }
}
