//! Every stream of the table, decoded in one piece, means what the table says; and the limits of a head.

mod table;

use iodine_codec::check::trace;
use iodine_codec::http1::Limits;
use table::{TABLE, outcome};

#[test]
fn the_table() {
    for (about, stream, expected) in TABLE {
        assert_eq!(outcome(&trace([*stream], &Limits::default())), *expected, "{about}");
    }
}

fn of(stream: &str) -> String {
    outcome(&trace([stream.as_bytes()], &Limits::default()))
}

/// F-32 and F-40: one answer, with the status that names the limit.
#[test]
fn f_40_limits_of_a_head() {
    let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(bytes - 16));
    assert!(of(&line(8192)).ends_with("; stays."));
    assert_eq!(of(&line(8193)), "refused RequestLineTooLong 414");
    assert_eq!(of(&"A".repeat(8193)), "refused RequestLineTooLong 414");
    assert_eq!(of(&"A".repeat(8192)), "unfinished");

    let header = |bytes: usize| format!("A: {}\r\n", "b".repeat(bytes - 5));
    let head = |headers: &str| of(&format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
    assert_eq!(head(&header(8192)), "GET / HTTP/1.1; stays.");
    assert_eq!(head(&header(8193)), "refused HeaderLineTooLong 431");
    assert_eq!(head(&header(9000)), "refused HeaderLineTooLong 431");

    // 16 bytes of request line, 9 of Host, 2 of blank line
    let rest = 32 * 1024 - 16 - 9 - 2 - 3 * 8192;
    let headers = header(8192).repeat(3);
    assert_eq!(head(&(headers.clone() + &header(rest))), "GET / HTTP/1.1; stays.");
    assert_eq!(head(&(headers + &header(rest + 1))), "refused HeadTooLarge 431");

    assert_eq!(head(&"A: b\r\n".repeat(127)), "GET / HTTP/1.1; stays.");
    assert_eq!(head(&"A: b\r\n".repeat(128)), "refused TooManyHeaders 431");
}
