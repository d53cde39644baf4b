//! Lines of the request log, from random pieces: whatever a client sends stays in its field.

use iodine_codec::check;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn template() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(vec![
        "%{client}",
        "%{method}",
        "%{path}",
        "%{query}",
        "%{target}",
        "%{host}",
        "%{referer}",
        "%{user_agent}",
        "%{request_id}",
        "%{header:host}",
        "%{status}",
        "%{time}",
        "%{date}",
        "%{bytes}",
        "%{",
        "}",
        "%%",
        "%",
        " ",
        "\"",
        "'",
        "|",
        "\\",
        "x",
        "7",
        "ä",
        "\t",
        "[",
        "]",
        ": ",
    ]);
    vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Texts of a client that means no good.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(vec![
        &b" "[..],
        b"\"",
        b"'",
        b"|",
        b"\\",
        b"\\x20",
        b"x",
        b"7",
        b"]",
        b"-",
        b"\r\n",
        b"\n",
        b"\x1b[31m",
        b"\0",
        b"\x7f",
        b"\xc3\xa4",
        b"\xc3",
        b"\xa4",
        b"\xc2\x9b",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        b"%{path}",
        b"\t",
    ]);
    prop_oneof![vec(pieces, 0..8).prop_map(|pieces| pieces.concat()), vec(any::<u8>(), 0..16),]
}

proptest! {
    #[test]
    fn what_a_client_sends_stays_in_its_field(template in template(), sent in vec(sent(), 0..8)) {
        check::access_log(&[template, sent.join(&0xff)].join(&b'\n'));
    }
}
