//! Answers that are produced piece by piece: how they are framed, who waits for whom, and what becomes of those that are
//! not completed.

mod support;

use iodine_codec::http1::{ChunkedDecoder, Limits, OpenHead, Piece, ResponseEncoder};
use iodine_core::conn::Hijack;
use iodine_core::producer::{HOLD, Parker};
use iodine_core::{Complaint, Job, Producer, Request, Room};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Said, Server, Setup, answer, get, pattern, wait_until};

/// A server whose jobs the test takes.
fn silent_server() -> Server {
    Setup::new().threads(0).serve(|_| "")
}

fn open_head(request: &Request, headers: &[(&str, &str)]) -> (Vec<u8>, OpenHead) {
    let mut text = Vec::new();
    let mut encoder = ResponseEncoder::new(&mut text, request.facts, 200);
    for (name, value) in headers {
        encoder.header(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let head = encoder.suspend();
    (text, head)
}

fn produce(request: &Request, headers: &[(&str, &str)]) -> Producer {
    let number = request.conn.begin().unwrap();
    let (text, head) = open_head(request, headers);
    request.conn.produce(number, text, head)
}

fn finish(producer: &Producer) -> Option<Job> {
    let produced = producer.finish(Instant::now()).expect("it had an end before");
    assert_eq!(produced.complaint, None);
    producer.conn().flush();
    produced.next
}

fn asked(server: &mut Server, head: &str) -> (Client, Box<Request>) {
    let mut client = server.connect();
    client.send(head);
    let request = server.request();
    (client, request)
}

fn read_until(client: &mut Client, end: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        let more = client.read(1 << 16).unwrap();
        assert!(!more.is_empty(), "{:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&more);
    }
    received
}

/// The body of a chunked answer, which is the last thing on its connection for now.
fn read_chunked(client: &mut Client) -> Vec<u8> {
    let received = read_until(client, b"\r\n0\r\n\r\n");
    let head = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (mut decoder, mut body) = (ChunkedDecoder::new(), Vec::new());
    let mut rest = &received[head + 4..];
    let limits = Limits { body: u64::MAX, ..Limits::default() };
    loop {
        let (used, piece) = decoder.decode(rest, &limits).unwrap();
        rest = &rest[used..];
        match piece {
            Piece::Data(data) => body.extend_from_slice(data),
            Piece::End => return body,
            Piece::NeedMore => panic!("it is not whole"),
        }
    }
}

/// Whether what was produced since then is held back for certain. The machine may have been busy for too long.
fn was_held(begun: Instant) -> bool {
    begun.elapsed() < HOLD
}

#[test]
fn a_body_that_ends_at_once_goes_out_with_its_length() {
    let mut server = silent_server();
    let mut client = loop {
        let (mut client, request) = asked(&mut server, &get("/"));
        let producer = produce(&request, &[("x-a", "b")]);
        let begun = Instant::now();
        assert_eq!(producer.push(b"one "), Room::Enough);
        producer.push(b"two");
        finish(&producer);
        if !was_held(begun) {
            continue;
        }
        let reply = client.answer();
        assert_eq!((reply.header("content-length"), reply.header("transfer-encoding")), (Some("7"), None));
        assert_eq!((reply.header("x-a"), reply.text()), (Some("b"), "one two"));
        break client;
    };
    client.send(get("/"));
    assert_eq!(server.request().head.path(), b"/");
}

#[test]
fn what_was_produced_leaves_without_more_being_produced() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, &get("/"));
    let producer = produce(&request, &[]);
    producer.push(b"first");
    let text = String::from_utf8(read_until(&mut client, b"5\r\nfirst\r\n")).unwrap();
    assert!(text.contains("\r\ntransfer-encoding: chunked\r\n"), "{text}");
    producer.push(b"second");
    assert_eq!(read_until(&mut client, b"second\r\n"), b"6\r\nsecond\r\n");
    finish(&producer);
    assert_eq!(read_until(&mut client, b"\r\n\r\n"), b"0\r\n\r\n");
    client.send(get("/again"));
    assert_eq!(server.request().head.path(), b"/again");
}

#[test]
fn a_head_alone_leaves_when_it_is_announced_or_begun() {
    let mut server = silent_server();
    let acts: [fn(&Producer) -> Room; 2] = [Producer::announce, Producer::begin];
    for act in acts {
        let (mut client, request) = asked(&mut server, &get("/"));
        let producer = produce(&request, &[]);
        act(&producer);
        read_until(&mut client, b"\r\n\r\n");
        finish(&producer);
        assert_eq!(read_until(&mut client, b"\r\n\r\n"), b"0\r\n\r\n");
    }
}

#[test]
fn a_declared_length_is_kept_to() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, &get("/"));
    let producer = produce(&request, &[("content-length", "6")]);
    producer.push(b"abc");
    producer.begin();
    producer.push(b"defghi");
    let produced = producer.finish(Instant::now()).unwrap();
    assert_eq!((produced.length, produced.sent, produced.complaint), (9, 6, Some(Complaint::TooLong)));
    producer.conn().flush();
    let reply = client.answer();
    assert_eq!((reply.header("content-length"), reply.text()), (Some("6"), "abcdef"));
    client.send(get("/"));
    drop(server.request());
}

#[test]
fn chunks_of_the_application_have_no_declared_length() {
    let mut server = silent_server();
    for (early, framing) in [(true, "transfer-encoding: chunked"), (false, "content-length: 3")] {
        let mut client = loop {
            let (client, request) = asked(&mut server, &get("/"));
            let producer = produce(&request, &[("content-length", "6"), ("transfer-encoding", "chunked")]);
            let begun = Instant::now();
            if early {
                producer.begin();
            }
            producer.push(b"abc");
            finish(&producer);
            if early || was_held(begun) {
                break client;
            }
        };
        let end: &[u8] = if early { b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n" } else { b"\r\n\r\nabc" };
        let text = String::from_utf8(read_until(&mut client, end)).unwrap();
        let is_framing = |line: &&str| line.starts_with("content-length") || line.starts_with("transfer-");
        assert_eq!(text.lines().filter(is_framing).collect::<Vec<_>>(), [framing]);
    }
}

#[test]
fn a_body_shorter_than_declared_breaks_the_connection_off() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, &get("/"));
    let producer = produce(&request, &[("content-length", "6")]);
    producer.begin();
    producer.push(b"abc");
    let produced = producer.finish(Instant::now()).unwrap();
    assert_eq!(produced.complaint, Some(Complaint::TooShort));
    assert_ended(&mut client, b"abc");
}

/// The connection ends before the answer does, behind `last` at the latest.
fn assert_ended(client: &mut Client, last: &[u8]) {
    let mut received = Vec::new();
    loop {
        match client.read(1 << 16) {
            Ok(more) if more.is_empty() => break,
            Ok(more) => received.extend_from_slice(&more),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    let text = String::from_utf8_lossy(&received);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).as_bytes();
    assert!(last.starts_with(body), "{text}");
    assert!(!text.contains("\r\n0\r\n"), "{text}");
}

/// Answers a first request with many bytes, while the client reads nothing; the second one fails.
fn fail_behind_a_large_answer(
    server: &mut Server,
    declared: &[(&str, &str)],
    fail: impl FnOnce(Producer),
) -> Client {
    let (client, first) = asked(server, &(get("/large") + &get("/fails") + &get("/never")));
    client.take_little();
    first.conn.begin().unwrap();
    let Some(second) = answer(&first, Said::Bytes(large())) else { panic!("no second request") };
    let producer = produce(&second, declared);
    // From here on the client may be given up.
    first.conn.flush();
    producer.push(b"abc");
    producer.begin();
    fail(producer);
    client
}

fn large() -> Vec<u8> {
    pattern().repeat(128)
}

#[test]
fn the_answers_before_one_that_fails_are_not_lost() {
    let mut server = silent_server();
    let too_short = |producer: Producer| {
        let produced = producer.finish(Instant::now()).unwrap();
        assert_eq!(produced.complaint, Some(Complaint::TooShort));
    };
    let aborted = |producer: Producer| producer.abort();
    type Case = (&'static [(&'static str, &'static str)], fn(Producer), &'static [u8]);
    let cases: [Case; 4] = [
        (&[], aborted, b"3\r\nabc\r\n"),
        (&[], drop, b"3\r\nabc\r\n"),
        (&[("content-length", "6")], aborted, b"abc"),
        (&[("content-length", "6")], too_short, b"abc"),
    ];
    for (declared, fail, last) in cases {
        let mut client = fail_behind_a_large_answer(&mut server, declared, fail);
        assert!(client.answer().body == large());
        let rest = client.read_until_cut();
        assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", rest.escape_ascii());
        assert!(rest.ends_with(&[b"\r\n\r\n", last].concat()), "{}", rest.escape_ascii());
    }
}

#[test]
fn an_answer_that_fails_does_not_wait_for_a_client_that_does_not_read() {
    let setup = Setup::new().threads(0).http(|http| http.write_timeout = Duration::from_millis(100));
    let mut server = setup.serve(|_| "");
    let mut conn = None;
    let _client = fail_behind_a_large_answer(&mut server, &[], |producer| {
        conn = Some(producer.conn().clone());
        producer.abort();
    });
    wait_until("the end of it", || (!conn.as_ref()?.is_open()).then_some(()));
}

#[test]
fn rfc_9112_6_3_http_1_0_gets_a_body_that_ends_with_the_connection() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let producer = produce(&request, &[]);
    producer.push(b"some");
    producer.begin();
    producer.push(b" more");
    finish(&producer);
    let received = String::from_utf8(read_until(&mut client, b"some more")).unwrap();
    assert!(!received.contains("chunked") && received.contains("connection: close"), "{received}");
    client.expect_end();
}

#[test]
fn an_http_1_0_body_that_breaks_off_does_not_end_as_a_whole_one_does() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, "GET / HTTP/1.0\r\n\r\n");
    let producer = produce(&request, &[]);
    producer.push(b"some");
    producer.begin();
    read_until(&mut client, b"some");
    producer.abort();
    assert_eq!(client.read(10).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_lost_producer_breaks_the_connection_off() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, &get("/"));
    let producer = produce(&request, &[]);
    producer.push(b"abc");
    producer.begin();
    drop(producer);
    assert_ended(&mut client, b"3\r\nabc\r\n");
}

#[test]
fn a_held_answer_can_be_taken_back_for_another() {
    let mut server = silent_server();
    loop {
        let (mut client, request) = asked(&mut server, &get("/"));
        let producer = produce(&request, &[]);
        let begun = Instant::now();
        producer.push(b"abc");
        if producer.take_back() {
            assert!(answer(&request, "other".into()).is_none());
            request.conn.flush();
            assert_eq!(client.answer().text(), "other");
            return;
        }
        assert!(!was_held(begun));
        producer.abort();
        assert_ended(&mut client, b"3\r\nabc\r\n");
    }
}

#[test]
fn a_producer_waits_for_its_client_and_no_longer() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, &get("/"));
    client.take_little();
    let producer = produce(&request, &[]);
    let total = 16 * 1024 * 1024;
    let thread = std::thread::spawn(move || {
        let (mut sent, mut waits) = (0, 0);
        while sent < total {
            let piece = &pattern()[..pattern().len().min(total - sent)];
            sent += piece.len();
            if producer.push(piece) == Room::Full {
                waits += 1;
                while producer.wait(&Parker::new()) == Room::Full {}
            }
        }
        finish(&producer);
        waits
    });
    let body = read_chunked(&mut client);
    assert!(thread.join().unwrap() > 0, "it never waited");
    assert!(body.chunks(pattern().len()).all(|piece| pattern().starts_with(piece)));
    assert_eq!(body.len(), total);
}

#[test]
fn a_waiting_producer_hears_that_its_client_has_gone_or_somebody_calls_it() {
    let mut server = silent_server();
    let (client, request) = asked(&mut server, &get("/"));
    let producer = produce(&request, &[]);
    producer.begin();
    let fill = |producer: &Producer| while producer.push(pattern()) == Room::Enough {};
    fill(&producer);
    let parker = Parker::new();
    parker.unparker().unpark();
    // With luck the system had room for what waited.
    while producer.wait(&parker) != Room::Full {
        fill(&producer);
        parker.unparker().unpark();
    }
    let thread = std::thread::spawn(move || {
        while producer.push(pattern()) != Room::Gone {
            producer.wait(&Parker::new());
        }
        (producer.is_open(), producer.finish(Instant::now()).is_none())
    });
    drop(client);
    assert_eq!(thread.join().unwrap(), (false, true));
}

#[test]
fn a_producer_stalled_by_its_client_runs_into_the_write_timeout() {
    let setup = Setup::new().threads(0).http(|http| http.write_timeout = Duration::from_millis(100));
    let mut server = setup.serve(|_| "");
    let (client, request) = asked(&mut server, &get("/"));
    client.take_little();
    let producer = produce(&request, &[]);
    let begun = Instant::now();
    while producer.push(pattern()) != Room::Gone {
        producer.wait(&Parker::new());
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn pipelined_requests_wait_for_the_end_of_a_stream() {
    let mut server = silent_server();
    let (mut client, request) = asked(&mut server, &(get("/stream") + &get("/next")));
    let producer = produce(&request, &[]);
    producer.push(b"abc");
    producer.begin();
    read_until(&mut client, b"abc\r\n");
    assert_eq!(server.handle.jobs().waiting(), 0);
    let Some(Job::Request(next)) = finish(&producer) else { panic!("the next request is not there") };
    assert!(answer(&next, "next".into()).is_none());
    next.conn.flush();
    assert!(read_until(&mut client, b"next").starts_with(b"0\r\n\r\nHTTP/1.1 200"));
}

#[test]
fn a_hijack_comes_too_late_for_a_stream() {
    let mut server = silent_server();
    let (_client, request) = asked(&mut server, &get("/"));
    let number = request.conn.begin().unwrap();
    let (text, head) = open_head(&request, &[]);
    let producer = request.conn.produce(number, text, head);
    assert_eq!(request.conn.hijack(number, &mut Vec::new()), Hijack::TooLate);
    finish(&producer);
}

#[test]
fn many_slow_streams_need_no_thread_each() {
    let mut server = silent_server();
    let mut streams: Vec<(Client, Producer)> = (0..200)
        .map(|_| {
            let (client, request) = asked(&mut server, &get("/"));
            let producer = produce(&request, &[]);
            producer.begin();
            (client, producer)
        })
        .collect();
    for round in 0..3 {
        for (_, producer) in &streams {
            producer.push(format!("event {round}\n").as_bytes());
        }
        for (client, _) in &mut streams {
            read_until(client, format!("event {round}\n\r\n").as_bytes());
        }
    }
    for (_, producer) in &streams {
        finish(producer);
    }
    wait_until("all to be idle", || (server.handle.jobs().waiting() == 0).then_some(()));
}

#[test]
fn large_pieces_are_lent_and_framed() {
    let mut server = silent_server();
    let two = (2 * pattern().len()).to_string();
    for declared in [&[][..], &[("content-length", two.as_str())]] {
        let (mut client, request) = asked(&mut server, &get("/"));
        let producer = produce(&request, declared);
        producer.push_borrowed(Box::new(pattern().to_vec()));
        producer.push_borrowed(Box::new(pattern().to_vec()));
        finish(&producer);
        let body = if declared.is_empty() { read_chunked(&mut client) } else { client.answer().body };
        assert!(body == [pattern(), pattern()].concat());
    }
}
