//! How long clients may take. Deadlines are looked at every fifty milliseconds at the earliest, so nothing here is
//! shorter.

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::{Asked, Client, PATIENCE, Setup, gate, get};

const SHORT: Duration = Duration::from_millis(120);
/// Long enough to be told from `SHORT`, and never waited for.
const LONG: Duration = Duration::from_secs(60);

fn setup() -> Setup {
    Setup::new().http(|http| {
        http.keep_alive = LONG;
        http.head_timeout = LONG;
        http.body_timeout = LONG;
        http.write_timeout = LONG;
    })
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = setup().http(|http| http.keep_alive = SHORT).serve(|_| "x");
    let begun = Instant::now();
    let mut fresh = server.connect();
    let mut used = server.connect_and_send(get("/"), SHORT);
    assert_eq!(used.answer().text(), "x");
    fresh.expect_end();
    used.expect_end();
    assert!(begun.elapsed() >= SHORT);
}

#[test]
fn requests_keep_a_connection_open() {
    let time = SHORT * 2;
    let server = setup().http(|http| http.keep_alive = time).serve(|_| "x");
    let mut asked = Instant::now();
    let mut client = server.connect();
    let mut answers = 0;
    while answers < 6 {
        let before = std::mem::replace(&mut asked, Instant::now());
        if client.send_by(get("/"), before + time) {
            assert_eq!(client.answer().text(), "x");
            answers += 1;
        } else {
            // The machine stood still for longer than a connection is kept.
            (client, answers) = (server.connect(), 0);
        }
        std::thread::sleep(SHORT / 2);
    }
    client.expect_end();
}

#[test]
fn a_connection_is_not_idle_while_the_application_is_at_work() {
    let (open, wait) = gate();
    let server = setup().http(|http| http.keep_alive = SHORT).serve(move |_| {
        wait();
        "x"
    });
    let mut client = server.connect_and_send(get("/"), SHORT);
    client.expect_silence(SHORT * 3);
    let answered = Instant::now();
    // For whoever waits: a client that came too late may have been heard all the same.
    drop(open);
    assert_eq!(client.answer().text(), "x");
    // The time runs from the answer on.
    client.expect_end();
    assert!(answered.elapsed() >= SHORT);
}

#[test]
fn a_head_that_does_not_end_is_refused_even_while_it_grows() {
    let server = setup().http(|http| http.head_timeout = SHORT * 2).serve(|_| "x");
    let begun = Instant::now();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\n");
    let reply = loop {
        let _ = client.try_send("X: y\r\n");
        match client.read_within(Duration::from_millis(20)) {
            Some(bytes) => {
                client.give_back(bytes);
                break client.answer();
            }
            None => assert!(begun.elapsed() < LONG / 6, "no end to it"),
        }
    };
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    assert!(begun.elapsed() >= SHORT * 2);
    client.expect_end();
}

#[test]
fn a_body_that_stops_is_refused() {
    // What came in a hurry is no credit for standing still.
    for sent in [10, 300_000] {
        let server = setup().http(|http| http.body_timeout = SHORT).serve(|_| "x");
        let begun = Instant::now();
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n");
        client.send("b".repeat(sent));
        assert_eq!(client.answer().status, 408, "after {sent} bytes");
        assert!(begun.elapsed() >= SHORT);
        client.expect_end();
    }
}

#[test]
fn a_body_that_drips_is_refused() {
    let server = setup().http(|http| http.body_timeout = SHORT * 2).serve(|_| "x");
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let begun = Instant::now();
    let reply = loop {
        let _ = client.try_send("1\r\nx\r\n");
        match client.read_within(Duration::from_millis(20)) {
            Some(bytes) => {
                client.give_back(bytes);
                break client.answer();
            }
            None => assert!(begun.elapsed() < LONG / 6, "no end to it"),
        }
    };
    assert_eq!(reply.status, 408);
}

/// Sends `piece` so often, after a pause each time. Returns the longest pause that the machine made of these.
fn drip(client: &mut Client, piece: &str, times: usize, pause: Duration) -> Duration {
    let (mut before, mut longest) = (Instant::now(), Duration::ZERO);
    for _ in 0..times {
        std::thread::sleep(pause);
        // After too long a pause nobody may be there.
        let _ = client.try_send(piece);
        let now = Instant::now();
        longest = longest.max(now - before);
        before = now;
    }
    longest
}

#[test]
fn a_slow_body_that_keeps_coming_is_served() {
    let time = SHORT * 2;
    let server =
        setup().http(|http| http.body_timeout = time).serve(|asked: Asked| asked.body.len().to_string());
    loop {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
        // For more than twice the time.
        if drip(&mut client, &"x".repeat(5000), 20, time / 8) < time / 2 {
            return assert_eq!(client.answer().text(), "100000");
        }
    }
}

#[test]
fn a_head_that_stops_behind_a_request_under_way_does_not_cost_that_its_answer() {
    let (open, wait) = gate();
    let (sender, begun) = mpsc::channel();
    let server = setup().http(|http| http.head_timeout = SHORT).serve(move |asked: Asked| {
        if asked.path == "/slow" {
            sender.send(()).unwrap();
            wait();
        }
        asked.path
    });
    for finish in [false, true] {
        let mut client = server.connect();
        client.send(get("/slow") + "GET /part");
        if finish {
            client.finish();
        }
        begun.recv_timeout(PATIENCE).unwrap();
        client.expect_silence(SHORT * 3);
        // Once this is answered, the server has seen for certain that the time of the head is over.
        assert_eq!(server.connect().get("/other").text(), "/other");
        open.send(()).unwrap();
        assert_eq!(client.answer().text(), "/slow");
        client.expect_end();
    }
}

#[test]
fn one_that_does_not_hang_up_behind_a_refusal_is_cut_off() {
    let server = setup().http(|http| http.linger_timeout = Duration::from_millis(300)).serve(|_| "x");
    let mut client = server.connect();
    client.send("BAD\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    client.expect_end();
    // So much is given to it, whatever it goes on to say.
    let begun = Instant::now();
    while client.try_send("noise").is_ok() {
        assert!(begun.elapsed() < LONG / 6, "it may stay for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A client that looks for an answer only when it has sent everything, over a slow line.
#[test]
fn one_that_sends_on_behind_a_refusal_is_heard_out() {
    let server = setup().http(|http| http.limits.body = 10).serve(|_| "x");
    let silence = Duration::from_secs(2);
    loop {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        // For longer than it may be silent.
        if drip(&mut client, "noise", 50, silence / 40) < silence / 2 {
            assert_eq!(client.answer().status, 413);
            return client.expect_end();
        }
    }
}
