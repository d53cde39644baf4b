//! Connections that come by way of others: PROXY headers, and whose word is taken for who the client is.

mod support;

use iodine_codec::http::Trust;
use iodine_core::Peer;
use iodine_core::command::Command;
use std::time::{Duration, Instant};
use support::{Asked, Said, Setup, answer, get};

const SHORT: Duration = Duration::from_millis(120);
const LONG: Duration = Duration::from_secs(60);
const LINE: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";

/// A server that wants PROXY headers.
fn setup() -> Setup {
    Setup::new().http(|http| http.proxy_protocol = true)
}

fn echo(asked: Asked) -> String {
    format!("{} {}", asked.conn.peer_text(), asked.path)
}

fn binary(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, kind][..], &length, block].concat()
}

fn binary_v4() -> Vec<u8> {
    binary(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb, 4, 0, 1, 0])
}

#[test]
fn a_connection_stands_for_its_client_for_as_long_as_it_lasts() {
    let server = setup().serve(echo);
    for (header, client) in [
        (LINE.as_bytes().to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.9 ::1 1 2\r\n".to_vec(), "192.0.2.9"),
        (binary_v4(), "192.0.2.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary(0x20, 0, &[]), "127.0.0.1"),
        (binary(0x21, 0x31, &[b'x'; 216]), "127.0.0.1"),
    ] {
        let mut connection = server.connect();
        connection.send([&header[..], get("/one").as_bytes()].concat());
        assert_eq!(connection.answer().text(), format!("{client} /one"));
        assert_eq!(connection.get("/two").text(), format!("{client} /two"));
    }
}

#[test]
fn a_header_may_come_in_pieces() {
    let server = setup().serve(echo);
    for header in [LINE.as_bytes().to_vec(), binary_v4()] {
        let mut connection = server.connect();
        for byte in header.iter().chain(get("/bytes").as_bytes()) {
            connection.send([*byte]);
        }
        assert_eq!(connection.answer().text(), "192.0.2.1 /bytes");
        for at in [1, 6, 12, 16, 20, header.len()] {
            let mut connection = server.connect();
            let (first, second) = header.split_at(at);
            connection.send(first);
            connection.expect_silence(Duration::from_millis(5));
            connection.send([second, get("/cut").as_bytes()].concat());
            assert_eq!(connection.answer().text(), "192.0.2.1 /cut");
        }
    }
}

#[test]
fn a_unix_socket_takes_them_too_and_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = setup().unix(folder.path().join("s.sock")).serve(|asked: Asked| {
        let is_unix = matches!(asked.conn.peer(), Peer::Unix(_));
        format!("{} {is_unix}", asked.conn.peer_text())
    });
    let mut connection = server.connect();
    connection.send(LINE.to_owned() + &get("/"));
    assert_eq!(connection.answer().text(), "192.0.2.1 true");
}

#[test]
fn what_does_not_begin_as_it_must_is_closed_without_an_answer() {
    let server = setup().serve(echo);
    for start in [
        get("/").as_bytes().to_vec(),
        b"PROXY TCP4 nonsense\r\n".to_vec(),
        binary(0x11, 0x11, &[0; 12]),
        vec![0x16, 3, 1],
        b"PROXY UNKNOWN ".repeat(20),
    ] {
        let mut connection = server.connect();
        connection.send(start);
        assert_eq!(connection.read_until_cut(), b"");
    }
    let mut connection = server.connect();
    connection.send("PROXY TCP4 192");
    connection.finish();
    assert_eq!(connection.read_until_cut(), b"");
}

#[test]
fn a_header_has_as_long_as_a_head() {
    let server = setup().http(|http| (http.head_timeout, http.keep_alive) = (SHORT, LONG)).serve(echo);
    let begun = Instant::now();
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send("PROXY ");
    silent.expect_cut();
    slow.expect_cut();
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < LONG);
    // Behind it the connection is an idle one.
    let mut idle = server.connect_and_send(LINE, SHORT);
    idle.expect_silence(SHORT * 3);
    assert_eq!(idle.get("/").text(), "192.0.2.1 /");
}

#[test]
fn one_that_has_said_nothing_does_not_hold_up_the_end() {
    let server = setup().http(|http| http.head_timeout = LONG).serve(echo);
    let mut silent = server.connect();
    let mut begun = server.connect();
    begun.send("PROXY ");
    // Both are known to the server when a third has its answer.
    let mut third = server.connect();
    third.send(LINE.to_owned() + &get("/"));
    assert_eq!(third.answer().status, 200);
    drop(third);
    server.handle.send(Command::Shutdown(Instant::now() + LONG));
    let asked = Instant::now();
    silent.expect_cut();
    begun.expect_cut();
    assert!(asked.elapsed() < LONG / 2);
    server.notice();
}

#[test]
fn trusted_peers_name_the_client_of_each_request() {
    let trust = |list: &str| Trust::parse(list.split(' ')).unwrap();
    let chain = "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.1\r\n";
    for (trusted, expected) in [
        ("127.0.0.1 10.0.0.0/8", "192.0.2.1"),
        ("127.0.0.1", "10.0.0.1"),
        ("10.0.0.0/8", "127.0.0.1"),
        ("unix", "127.0.0.1"),
        ("all", "6.6.6.6"),
    ] {
        let mut server = Setup::new().threads(0).http(|http| http.trust = trust(trusted)).serve(|_| "x");
        let mut connection = server.connect();
        for (lines, client) in [(chain, expected), ("", "127.0.0.1")] {
            connection.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n"));
            let request = server.request();
            assert_eq!(request.conn.client(&request.head), client, "{trusted}");
            request.conn.begin();
            answer(&request, Said::from("x"));
            request.conn.flush();
            connection.answer();
        }
    }
}

#[test]
fn whom_a_proxy_header_names_is_who_must_be_trusted() {
    let lines = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    for (trusted, expected) in [("192.0.2.1", "203.0.113.7"), ("127.0.0.1", "192.0.2.1")] {
        let trust = Trust::parse([trusted]).unwrap();
        let mut server = setup().threads(0).http(|http| http.trust = trust).serve(|_| "x");
        let mut connection = server.connect();
        connection.send(LINE.to_owned() + lines);
        let request = server.request();
        assert_eq!(request.conn.client(&request.head), expected);
    }
}

#[test]
fn peers_of_a_unix_socket_may_be_trusted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, trusted) in [("a", "unix"), ("b", "::1")] {
        let path = folder.path().join(name);
        let trust = Trust::parse([trusted]).unwrap();
        let mut server =
            Setup::new().threads(0).http(|http| http.trust = trust).unix(path.clone()).serve(|_| "x");
        let mut connection = server.connect();
        connection.send("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
        let request = server.request();
        let expected = if trusted == "unix" { "192.0.2.1" } else { path.to_str().unwrap() };
        assert_eq!(request.conn.client(&request.head), expected);
    }
}
