//! What proxies say, from random pieces: a client can not pass for another, and headers mean the same however cut.

use iodine_codec::check;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces of header lines that somebody who means no good could put together.
fn almost_forwarded() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(vec![
        "X-Forwarded-For: ",
        "x-forwarded-for:",
        "X-Forwarded-Proto: ",
        "X-Forwarded-Host: ",
        "X-Forwarded-Port: ",
        "Forwarded: ",
        "\r\n",
        "\r\n",
        "192.0.2.1",
        "10.0.0.1",
        "::1",
        "[2001:db8::1]:80",
        "unix:",
        "unknown",
        "_x",
        "for=",
        "for=192.0.2.1",
        "for=10.0.0.1",
        "proto=https",
        "host=",
        ",",
        ", ",
        ";",
        "\"",
        "\\",
        "=",
        "443",
        "https",
        "a.example:8443",
    ]);
    vec(pieces, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

fn almost_proxy_header() -> impl Strategy<Value = Vec<u8>> {
    let text = select(vec![
        "PROXY ",
        "TCP4",
        "TCP6",
        "UNKNOWN",
        " ",
        "192.0.2.1",
        "::1",
        "80",
        "65536",
        "\r\n",
        "\r",
        "\n",
        "GET",
    ]);
    let line = vec(text, 0..12).prop_map(|pieces| pieces.concat().into_bytes());
    let binary = (select(vec![0x20u8, 0x21, 0x22, 0x11]), any::<u8>(), 0u16..400, vec(any::<u8>(), 0..420))
        .prop_map(|(command, kind, length, rest)| {
            [b"\r\n\r\n\0\r\nQUIT\n", &[command, kind % 0x34][..], &length.to_be_bytes(), &rest].concat()
        });
    prop_oneof![
        line.clone().prop_map(|line| [b"PROXY ", &line[..]].concat()),
        line,
        binary,
        vec(any::<u8>(), 0..40)
    ]
}

proptest! {
    #[test]
    fn a_client_can_not_pass_for_another(lines in almost_forwarded()) {
        check::forwarded(&lines);
    }

    #[test]
    fn headers_mean_the_same_however_cut(header in almost_proxy_header()) {
        check::proxy_header(&header);
    }
}
