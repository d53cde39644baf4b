//! Requests and answers: their order, what stays open and what closes, and what is refused.

mod support;

use iodine_core::command::Command;
use iodine_core::conn::Flushed;
use iodine_core::conn::Hijack;
use iodine_core::{ConnId, Notice};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::{Asked, Client, Said, Server, Setup, answer, gate, get, serve, wait_until};

/// Says which path was asked for.
fn echo(asked: Asked) -> String {
    format!("{} {}", asked.method, asked.path)
}

#[test]
fn answers_one_request_after_the_other_on_one_connection() {
    let ids = Arc::new(Mutex::new(HashSet::new()));
    let seen = ids.clone();
    let server = serve(move |asked| {
        seen.lock().unwrap().insert(asked.conn.id());
        echo(asked)
    });
    let mut client = server.connect();
    for path in ["/one", "/two", "/three"] {
        let reply = client.get(path);
        assert_eq!((reply.status, reply.text()), (200, format!("GET {path}").as_str()));
        assert!(reply.head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!((reply.header("connection"), reply.header("date").map(str::len)), (None, Some(29)));
    }
    assert_eq!(ids.lock().unwrap().len(), 1);
}

#[test]
fn a_unix_socket_serves_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let server = Setup::new().unix(folder.path().join("s.sock")).serve(echo);
    let mut client = server.connect();
    assert_eq!(client.get("/one").text(), "GET /one");
    client.send("POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answer().text(), "POST /two");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = serve(echo);
    let mut client = server.connect();
    for byte in get("/slow").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer().text(), "GET /slow");
}

#[test]
fn the_client_s_wish_to_close_is_heeded() {
    let server = serve(echo);
    for (head, closes) in [
        ("GET / HTTP/1.0\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", false),
    ] {
        let mut client = server.connect();
        client.send(head);
        let reply = client.answer();
        assert_eq!(reply.header("connection") == Some("close"), closes, "{head:?}");
        match closes {
            true => client.expect_end(),
            false => assert_eq!(client.get("/again").text(), "GET /again"),
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_one_at_a_time() {
    const REQUESTS: usize = 300;
    let at_work: Mutex<HashSet<ConnId>> = Mutex::default();
    let server = Setup::new().threads(4).serve(move |asked| {
        let id = asked.conn.id();
        assert!(at_work.lock().unwrap().insert(id), "two requests of one connection at once");
        if asked.path.ends_with('7') {
            std::thread::sleep(Duration::from_micros(300));
        }
        at_work.lock().unwrap().remove(&id);
        echo(asked)
    });
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = server.connect();
            std::thread::spawn(move || {
                client.send((0..REQUESTS).map(|index| get(&format!("/{index}"))).collect::<String>());
                for index in 0..REQUESTS {
                    assert_eq!(client.answer().text(), format!("GET /{index}"));
                }
                assert_eq!(client.get("/more").text(), "GET /more");
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn a_request_that_waits_in_its_lane_does_not_hold_up_other_connections() {
    let (open, wait) = gate();
    let server = serve(move |asked| {
        if asked.path == "/held" {
            wait();
        }
        echo(asked)
    });
    let mut first = server.connect();
    first.send(get("/held") + &get("/behind"));
    let mut second = server.connect();
    for _ in 0..10 {
        assert_eq!(second.get("/other").text(), "GET /other");
    }
    open.send(()).unwrap();
    assert_eq!((first.answer().text(), first.answer().text()), ("GET /held", "GET /behind"));
}

#[test]
fn one_that_pipelines_without_end_is_read_no_further_than_it_is_answered() {
    let mut server = Setup::new().threads(0).serve(echo);
    let mut client = server.connect();
    client.send(get("/x").repeat(100));
    let mut request = server.request();
    // The first, and those that wait in its lane.
    let mut count = 1;
    while let Some(next) = answer(&request, "x".into()) {
        request = next;
        count += 1;
    }
    assert!(count < 100, "all {count} of them were taken");
    request.conn.flush();
    // That they are answered lets the rest in.
    while count < 100 {
        let mut next = Some(server.request());
        while let Some(request) = next {
            count += 1;
            next = answer(&request, "x".into());
            request.conn.flush();
        }
    }
    (0..100).for_each(|_| assert_eq!(client.answer().status, 200));
}

#[test]
fn what_was_asked_before_a_half_close_is_answered() {
    let server = serve(|asked: Asked| {
        std::thread::sleep(Duration::from_millis(5));
        echo(asked)
    });
    let mut client = server.connect();
    client.send(get("/1") + &get("/2") + &get("/3"));
    client.finish();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.answer().text(), format!("GET {path}"));
    }
    client.expect_end();
}

#[test]
fn a_half_close_ends_what_is_idle_or_incomplete() {
    let server = serve(echo);
    for sent in ["", "GET / HT", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"] {
        let mut client = server.connect();
        client.send(sent);
        client.finish();
        client.expect_end();
    }
    let mut client = server.connect();
    client.send(get("/whole") + "GET /part HTT");
    client.finish();
    assert_eq!(client.answer().text(), "GET /whole");
    client.expect_end();
}

#[test]
fn a_client_that_leaves_at_once_has_still_asked() {
    let folder = tempfile::tempdir().unwrap();
    for setup in [Setup::new(), Setup::new().unix(folder.path().join("s.sock"))] {
        let (sender, asked) = mpsc::channel();
        let server = setup.serve(move |asked: Asked| {
            sender.send(asked.path).unwrap();
            "nobody reads this"
        });
        let mut client = server.connect();
        client.send(get("/bye"));
        drop(client);
        assert_eq!(asked.recv_timeout(support::PATIENCE).unwrap(), "/bye");
    }
}

// --- Expect: 100-continue (RFC 9110 section 10.1.1) -----------------------------------------------------------------

const EXPECTING: &str = "POST /body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[test]
fn a_client_that_waits_for_leave_gets_it() {
    let server = serve(|asked: Asked| String::from_utf8(asked.body).unwrap());
    let mut client = server.connect();
    client.send(EXPECTING);
    let leave = client.answer();
    assert_eq!(leave.head, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    assert_eq!(client.answer().text(), "body");
    client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("2\r\nok\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn a_client_that_did_not_wait_needs_no_leave() {
    let server = serve(|asked: Asked| String::from_utf8(asked.body).unwrap());
    let mut client = server.connect();
    client.send(EXPECTING.to_owned() + "bo");
    client.send("dy");
    assert_eq!(client.answer().text(), "body");
}

#[test]
fn leave_is_given_behind_the_answers_before_it() {
    // The answer before it takes longer than the body may, which only begins to count with the leave.
    let slow = Duration::from_millis(500);
    let body_timeout = slow * 4 / 5;
    let setup = Setup::new().http(|http| http.body_timeout = body_timeout);
    let server = setup.serve(move |asked: Asked| {
        if asked.path == "/slow" {
            std::thread::sleep(slow);
        }
        echo(asked)
    });
    loop {
        let begun = Instant::now();
        let mut client = server.connect();
        client.send(get("/slow") + EXPECTING);
        assert_eq!(client.answer().text(), "GET /slow");
        assert_eq!(client.answer().status, 100);
        std::thread::sleep(slow / 4);
        // The machine may make it too late.
        if client.send_by("body", begun + slow + body_timeout) {
            return assert_eq!(client.answer().text(), "POST /body");
        }
    }
}

// --- refusals ------------------------------------------------------------------------------------------------------

#[test]
fn a_bad_request_is_refused_and_ends_the_connection() {
    let server = serve(echo);
    for (sent, status) in [
        ("\0", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense", 400),
    ] {
        let mut client = server.connect();
        client.send(sent);
        let reply = client.answer();
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{sent:?}");
        client.expect_end();
    }
}

#[test]
fn a_refusal_comes_behind_the_answers_before_it() {
    let server = serve(|asked: Asked| {
        std::thread::sleep(Duration::from_millis(20));
        echo(asked)
    });
    let mut client = server.connect();
    client.send(get("/1") + &get("/2") + "BAD\r\n\r\n" + &get("/3"));
    assert_eq!((client.answer().text(), client.answer().text()), ("GET /1", "GET /2"));
    assert_eq!(client.answer().status, 400);
    client.expect_end();
}

#[test]
fn a_client_that_goes_on_sending_sees_the_refusal() {
    let setup = Setup::new().http(|http| http.limits.body = 1000);
    let server = setup.serve(echo);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
    // All of it is taken, though none of it is wanted: a reset could overtake the answer.
    client.send(vec![b'x'; 4_000_000]);
    assert_eq!(client.answer().status, 413);
    client.expect_end();
}

#[test]
fn a_refusal_in_the_middle_of_a_body_tells_so() {
    let setup = Setup::new().http(|http| http.limits.body = 1000);
    let server = setup.serve(echo);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n");
    client.send(vec![b'x'; 1000]);
    client.send("\r\n1\r\nx\r\n");
    assert_eq!(client.answer().status, 413);
    client.expect_end();
}

// --- closing -------------------------------------------------------------------------------------------------------

#[test]
fn nothing_is_served_behind_an_answer_that_closes() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let server = serve(move |asked: Asked| {
        counted.fetch_add(1, Relaxed);
        Said::Last(echo(asked))
    });
    let mut client = server.connect();
    client.send(get("/last") + &get("/never").repeat(50));
    let reply = client.answer();
    assert_eq!((reply.text(), reply.header("connection")), ("GET /last", Some("close")));
    client.expect_end();
    assert_eq!(count.load(Relaxed), 1);
}

#[test]
fn nor_is_what_comes_while_that_answer_waits_to_be_written() {
    let mut server = Setup::new().threads(0).serve(echo);
    let mut client = server.connect();
    client.send(get("/last"));
    let last = server.request();
    assert!(answer(&last, Said::Last("last".into())).is_none());
    client.send(get("/never"));
    // What another client asks later arrives later.
    let mut other = server.connect();
    other.send(get("/other"));
    assert_eq!(server.request().head.path(), b"/other");
    last.conn.flush();
    assert_eq!(client.answer().text(), "last");
    client.expect_end();
    assert_eq!(server.handle.jobs().waiting(), 0);
}

#[test]
fn the_answer_reaches_a_client_that_is_still_sending_when_the_application_closes() {
    // More than the client takes unread, so that some of it is lost if the server resets the connection.
    let length = 2_000_000;
    let server = serve(move |_| Said::Last("x".repeat(length)));
    for _ in 0..5 {
        let mut client = server.connect();
        client.take_little();
        client.send(get("/last"));
        let begun = client.read(1).unwrap();
        client.send(get("/never").repeat(20));
        client.give_back(begun);
        assert_eq!(client.answer().body.len(), length);
        client.expect_end();
    }
}

#[test]
fn a_request_that_closes_may_be_followed_by_noise() {
    let server = serve(|asked: Asked| {
        std::thread::sleep(Duration::from_millis(20));
        echo(asked)
    });
    let mut client = server.connect();
    client.send("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\r\n");
    client.send("noise");
    assert_eq!(client.answer().text(), "GET /a");
    client.expect_end();
}

#[test]
fn an_aborted_connection_is_cut_and_its_answer_goes_nowhere() {
    let mut server = Setup::new().threads(0).serve(echo);
    let mut client = server.connect();
    client.send(get("/1") + &get("/2"));
    let request = server.request();
    assert!(request.conn.begin().is_some());
    request.conn.abort();
    client.expect_cut();
    assert!(!request.conn.is_open());
    assert!(answer(&request, "late".into()).is_none());
    assert_eq!(request.conn.flush(), Flushed::Closed);
    assert!(request.conn.begin().is_none());
    // The place of the dead may be another's by now: nothing said of the one concerns the other.
    let mut other = server.connect();
    other.send(get("/other"));
    let living = server.request();
    request.conn.abort();
    assert!(answer(&living, "well".into()).is_none());
    living.conn.flush();
    assert_eq!(other.answer().text(), "well");
}

#[test]
fn connections_come_and_go_while_others_are_served() {
    let server = Setup::new().threads(4).serve(|asked: Asked| match asked.path.as_str() {
        "/last" => Said::Last(echo(asked)),
        "/cut" => {
            asked.conn.abort();
            Said::Nothing
        }
        _ => echo(asked).into(),
    });
    let address = server.address();
    let clients: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                for index in 0..60 {
                    let mut client = Client::tcp(address);
                    match (index + thread) % 4 {
                        0 => assert_eq!(client.get("/last").text(), "GET /last"),
                        1 => client.send("GET /part"),
                        2 => {
                            client.send(get("/cut"));
                            client.expect_cut();
                        }
                        _ => {
                            assert_eq!(client.get("/1").text(), "GET /1");
                            assert_eq!(client.get("/2").text(), "GET /2");
                        }
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // Nothing is left of any of them.
    server.handle.send(Command::Shutdown(Instant::now() + support::PATIENCE * 10));
    assert_eq!(server.notice(), Notice::Drained);
}

// --- rack.hijack ---------------------------------------------------------------------------------------------------

fn hijacking() -> Server {
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;
    Setup::new().reactor(|reactor| reactor.max_connections = 1).serve(|asked: Asked| {
        if asked.path != "/take" {
            return echo(asked).into();
        }
        let mut head = b"taken".to_vec();
        let Hijack::Given(fd) = asked.conn.hijack(asked.number, &mut head) else { panic!("not given") };
        assert!(asked.conn.is_hijacked() && !asked.conn.is_open());
        assert_eq!(asked.conn.hijack(asked.number, &mut head), Hijack::TooLate);
        // SAFETY: the descriptor was just given to us.
        let mut stream = unsafe { std::net::TcpStream::from_raw_fd(fd) };
        std::thread::spawn(move || {
            stream.set_nonblocking(false).unwrap();
            stream.write_all(b" over\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        Said::Nothing
    })
}

#[test]
fn a_hijacked_socket_is_the_application_s_alone() {
    let server = hijacking();
    let mut client = server.connect();
    assert_eq!(client.get("/1").text(), "GET /1");
    client.send(get("/take"));
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"\r\n\r\n") {
        greeting.extend(client.read(100).unwrap());
    }
    assert_eq!(greeting, b"taken over\r\n\r\n");
    // The reactor has forgotten it: there is room for another, though one is the most.
    let mut other = wait_until("room", || {
        let mut other = server.connect();
        (other.get("/2").status == 200).then_some(other)
    });
    client.send("hello");
    assert_eq!(other.get("/3").text(), "GET /3");
    client.finish();
    assert_eq!(client.read(100).unwrap(), b"HELLO");
    client.expect_end();
}

#[test]
fn a_hijack_is_for_the_request_at_work_only() {
    let mut server = Setup::new().threads(0).serve(echo);
    let mut client = server.connect();
    client.send(get("/1") + &get("/2"));
    let first = server.request();
    let number = first.conn.begin().unwrap();
    let second = answer(&first, "1".into()).unwrap();
    assert_eq!(first.conn.hijack(number, &mut Vec::new()), Hijack::TooLate);
    assert!(second.conn.begin().is_some());
    assert_eq!(first.conn.hijack(number, &mut Vec::new()), Hijack::TooLate);
    answer(&second, "2".into());
    second.conn.flush();
    assert_eq!((client.answer().text(), client.answer().text()), ("1", "2"));
}
