//! More than the application can do: requests that are answered with a 503 instead of waiting.

mod support;

use iodine_core::HttpConfig;
use iodine_core::command::Command;
use iodine_core::listener::Address;
use iodine_core::overload::refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use support::{Asked, Client, Server, Setup, answer, gate, get, local_listener, wait_until};

/// A server without app threads and with so many jobs waiting.
fn crowded(most: usize, waiting: usize) -> (Server, Vec<Client>) {
    let setup = Setup::new().threads(0).http(|http| http.max_queue = Some(most));
    let server = setup.serve(|_| "x");
    let mut clients = Vec::new();
    for count in 0..waiting {
        let mut client = server.connect();
        client.send(get("/waiting"));
        clients.push(client);
        wait_until("the job", || (server.handle.jobs().waiting() > count).then_some(()));
    }
    (server, clients)
}

fn expect_503(client: &mut Client) {
    let refused = client.answer();
    assert_eq!((refused.status, refused.text()), (503, "503 Service Unavailable"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("content-type"), Some("text/plain"));
}

#[test]
fn a_request_that_comes_while_too_many_wait_is_told_to_come_again() {
    let (mut server, mut clients) = crowded(2, 3);
    let mut late = server.connect();
    for _ in 0..3 {
        late.send(get("/late"));
        expect_503(&mut late);
    }
    assert_eq!(server.handle.jobs().waiting(), 3);
    for client in &mut clients {
        let request = server.request();
        assert!(refusal(&request, Instant::now).is_none(), "there was room when it came");
        answer(&request, "x".into());
        request.conn.flush();
        assert_eq!(client.answer().text(), "x");
    }
    // The connection is as good as any.
    late.send(get("/late"));
    let request = server.request();
    assert!(refusal(&request, Instant::now).is_none());
    answer(&request, "in time".into());
    request.conn.flush();
    assert_eq!(late.answer().text(), "in time");
}

#[test]
fn as_many_as_allowed_wait() {
    let (server, _clients) = crowded(2, 2);
    let mut third = server.connect();
    third.send(get("/"));
    wait_until("the job", || (server.handle.jobs().waiting() == 3).then_some(()));
}

#[test]
fn a_refused_request_keeps_its_place_in_the_lane() {
    let (mut server, _clients) = crowded(2, 2);
    let mut client = server.connect();
    client.send(get("/1"));
    wait_until("the job", || (server.handle.jobs().waiting() == 3).then_some(()));
    client.send(get("/2"));
    // Another connection is refused at once, this one waits: what is before it is not answered yet.
    let mut other = server.connect();
    other.send(get("/other"));
    expect_503(&mut other);
    let first = (0..3).map(|_| server.request()).last().unwrap();
    let second = answer(&first, "1".into()).expect("the second is in the lane");
    let refused = refusal(&second, Instant::now).expect("it came when too many waited");
    assert!(second.conn.answer(refused.answer, Instant::now()).is_none());
    second.conn.flush();
    assert_eq!(client.answer().text(), "1");
    expect_503(&mut client);
}

#[test]
fn refused_requests_of_one_connection_are_answered_in_order_and_before_its_end() {
    let (server, _clients) = crowded(1, 2);
    let mut client = server.connect();
    let last = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.send(get("/").repeat(500) + last);
    (0..501).for_each(|_| expect_503(&mut client));
    client.expect_end();
}

#[test]
fn one_that_does_not_read_its_refusals_is_read_no_further() {
    const MANY: usize = 60_000;
    let (server, _clients) = crowded(1, 2);
    let mut client = server.connect();
    client.take_little();
    let mut sender = client.sender();
    let sending = std::thread::spawn(move || sender.send(get("/").repeat(MANY)));
    (0..MANY).for_each(|_| expect_503(&mut client));
    sending.join().unwrap();
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    let (server, _clients) = crowded(1, 2);
    let mut client = server.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(client.read(4096).unwrap()).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 ") && text.ends_with("\r\n\r\n"), "{text}");
    client.expect_end();
}

#[test]
fn a_client_that_asks_for_leave_to_send_is_refused_before_it_does() {
    let (server, _clients) = crowded(1, 2);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    expect_503(&mut client);
    client.expect_end();
}

#[test]
fn a_request_that_has_waited_too_long_is_not_run() {
    let (open, wait) = gate();
    let limit = Duration::from_millis(200);
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let setup = Setup::new().threads(1).http(|http| http.queue_timeout = Some(limit));
    let server = setup.serve(move |asked: Asked| {
        counted.fetch_add(1, Relaxed);
        if asked.path == "/gate" {
            wait();
        }
        asked.path
    });
    // By a door at which nobody waits for too long.
    let door = local_listener(&HttpConfig::default());
    let Address::Tcp(address) = *door.address() else { panic!("not TCP") };
    server.handle.send(Command::Listen(door));
    let mut first = Client::tcp(address);
    first.send(get("/gate"));
    wait_until("the first", || (runs.load(Relaxed) == 1).then_some(()));
    let mut late = server.connect();
    late.send(get("/a") + &get("/b"));
    wait_until("the job", || (server.handle.jobs().waiting() == 1).then_some(()));
    // What is waited for here is the time itself.
    std::thread::sleep(limit + limit / 2);
    open.send(()).unwrap();
    assert_eq!(first.answer().text(), "/gate");
    expect_503(&mut late);
    expect_503(&mut late);
    assert_eq!(runs.load(Relaxed), 1);
}

#[test]
fn nothing_is_refused_unless_asked_for() {
    let mut server = Setup::new().threads(0).serve(|_| "x");
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for (count, client) in clients.iter_mut().enumerate() {
        client.send(get("/"));
        wait_until("the job", || (server.handle.jobs().waiting() > count).then_some(()));
    }
    let request = server.request();
    assert!(refusal(&request, || Instant::now() + Duration::from_secs(3600)).is_none());
}
