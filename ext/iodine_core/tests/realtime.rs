//! Real-time connections over loopback. The tests take the jobs themselves, so that they decide what is under way when.

mod support;

use iodine_codec::websocket::{Kind, Role, encode_close, encode_message, encode_ping};
use iodine_core::command::Command;
use iodine_core::config::RealtimeConfig;
use iodine_core::hub::{Format, Listener as Hears, Message, Subscription};
use iodine_core::outgoing::{Outgoing, Target};
use iodine_core::realtime::{
    Event, Handler, Payload, Protocol, SlowConsumer, Upgrade, Wants, Writer, Written,
};
use iodine_core::{BindSpec, ConnHandle, HttpConfig, Job, Listener, Notice, Service};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Server, Setup, get, wait_until};

const MASK: Option<[u8; 4]> = Some([7, 1, 2, 3]);
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
const ASK: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

fn upgrade(protocol: Protocol) -> Upgrade {
    Upgrade {
        protocol,
        role: Role::Server,
        handler: Handler::Object(1),
        wants: Wants { messages: true, drained: false, timeouts: false },
        timeout: Duration::ZERO,
        deflate: None,
    }
}

fn text(payload: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_message(&mut frame, Kind::Text, payload.as_bytes(), MASK);
    frame
}

/// A connection that has left HTTP, and what the client sent right behind its request.
fn switched(server: &mut Server, upgrade: Upgrade, behind: &[u8]) -> (Client, ConnHandle) {
    let mut client = server.connect();
    client.send([ASK.as_bytes(), behind].concat());
    let request = server.request();
    let conn = request.conn.clone();
    let number = conn.begin().unwrap();
    assert!(conn.upgrade(number, SWITCH.to_vec(), upgrade));
    conn.flush();
    assert_eq!(client.exactly(SWITCH.len()), SWITCH);
    (client, conn)
}

/// The events that wait, told in a word each; the connection is ready for more.
fn events(conn: &ConnHandle) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        told.extend(conn.take_events().into_iter().map(|event| match event {
            Event::Message { data, .. } => String::from_utf8(data).unwrap(),
            Event::Published { message, .. } => format!("published {}", message.data.escape_ascii()),
            Event::Closed(_) => "closed".into(),
            other => format!("{other:?}").to_lowercase(),
        }));
        if !conn.finish_events(Instant::now()) {
            return told;
        }
    }
}

/// Takes events until there were so many, as one who is still at work. Returns how many there were.
fn take(conn: &ConnHandle, count: usize) -> usize {
    let mut taken = 0;
    wait_until("the events", || {
        taken += conn.take_events().len();
        (taken >= count).then_some(taken)
    })
}

/// Waits for a job, which must be one of this connection, and tells its events.
fn next_events(server: &mut Server, conn: &ConnHandle) -> Vec<String> {
    match server.job() {
        Job::Events(of) => assert!(Arc::ptr_eq(&of, conn)),
        other => panic!("no events but {other:?}"),
    }
    events(conn)
}

/// All events up to the end.
fn events_to_the_end(server: &mut Server, conn: &ConnHandle) -> Vec<String> {
    let mut told = Vec::new();
    while told.last().map(String::as_str) != Some("closed") {
        told.extend(next_events(server, conn));
    }
    told
}

fn server(realtime: RealtimeConfig) -> Server {
    let service =
        |port| Service { realtime: realtime.clone(), ..Service::http(0, HttpConfig::default(), port) };
    let spec = BindSpec::Tcp { host: Some("127.0.0.1".into()), port: 0 };
    let listener = Arc::new(Listener::bind(&spec, service).unwrap().remove(0));
    Setup::new().threads(0).listener(&listener).serve(|_| "x")
}

#[test]
fn frames_behind_the_handshake_wait_for_the_switch() {
    let mut server = server(RealtimeConfig::default());
    let frames = [text("one"), text("two")].concat();
    let (mut client, conn) = switched(&mut server, upgrade(Protocol::WebSocket), &frames);
    // The thread that has upgraded runs the first events.
    let mut told = events(&conn);
    while told.len() < 3 {
        told.extend(next_events(&mut server, &conn));
    }
    assert_eq!(told, ["open", "one", "two"]);
    assert_eq!(conn.write(Kind::Text, Payload::Copied(b"back"), Writer::Anyone), Written::Queued);
    assert_eq!(client.exactly(6), b"\x81\x04back");
}

#[test]
fn one_job_serves_all_events_that_came_before_it() {
    let mut server = server(RealtimeConfig::default());
    let (mut client, conn) = switched(&mut server, upgrade(Protocol::WebSocket), b"");
    for index in 0..10 {
        client.send(text(&index.to_string()));
    }
    // They all came while the first events were under way, so there was no job.
    assert_eq!(take(&conn, 11), 11);
    assert_eq!(server.handle.jobs().waiting(), 0);
    assert!(!conn.finish_events(Instant::now()));
    client.send(text("later"));
    assert_eq!(next_events(&mut server, &conn), ["later"]);
}

#[test]
fn a_ping_is_answered_and_a_close_completed_without_the_application() {
    let mut server = server(RealtimeConfig::default());
    let (mut client, conn) = switched(&mut server, upgrade(Protocol::WebSocket), b"");
    assert_eq!(events(&conn), ["open"]);
    let mut frames = Vec::new();
    encode_ping(&mut frames, b"?", MASK);
    client.send(&frames);
    assert_eq!(client.exactly(3), b"\x8a\x01?");
    frames.clear();
    encode_close(&mut frames, Some((4000, "enough")), MASK);
    client.send(&frames);
    assert_eq!(client.exactly(4), b"\x88\x02\x0f\xa0");
    client.expect_cut();
    assert_eq!(next_events(&mut server, &conn), ["closed"]);
    assert_eq!(
        conn.peer_close().map(|(code, reason)| (code, reason.to_string())),
        Some((4000, "enough".into()))
    );
    assert_eq!(conn.write(Kind::Text, Payload::Copied(b"x"), Writer::Anyone), Written::Closed);
}

#[test]
fn who_breaks_the_rules_is_told_by_a_code() {
    let mut server = server(RealtimeConfig { max_message: 10, ..RealtimeConfig::default() });
    for (bytes, code) in [
        (text("eleven byte"), 1009u16),
        (b"\x81\x00".to_vec(), 1002),
        (b"\x81\x81\0\0\0\0\xff".to_vec(), 1007),
    ] {
        let (mut client, conn) = switched(&mut server, upgrade(Protocol::WebSocket), b"");
        assert_eq!(events(&conn), ["open"]);
        client.send(bytes);
        let frame = client.exactly(4);
        assert_eq!((frame[0], &frame[2..]), (0x88, &code.to_be_bytes()[..]));
        assert_eq!(events_to_the_end(&mut server, &conn), ["closed"]);
    }
}

#[test]
fn a_missing_pong_ends_it() {
    let mut server = server(RealtimeConfig::default());
    let soon = Upgrade { timeout: Duration::from_millis(60), ..upgrade(Protocol::WebSocket) };
    let (mut client, conn) = switched(&mut server, soon, b"");
    let mut told = events(&conn);
    assert_eq!(client.exactly(2), b"\x89\x00");
    client.expect_cut();
    // A busy machine may tell of both at once.
    if told.len() < 2 {
        told.extend(next_events(&mut server, &conn));
    }
    assert_eq!(told, ["open", "closed"]);
}

#[test]
fn a_raw_peer_that_has_said_all_is_still_answered() {
    let mut server = server(RealtimeConfig::default());
    let (mut client, conn) = switched(&mut server, upgrade(Protocol::Raw), b"");
    client.send("last words");
    client.finish();
    assert_eq!(take(&conn, 2), 2);
    assert_eq!(conn.write(Kind::Binary, Payload::Copied(b"heard"), Writer::Anyone), Written::Queued);
    assert!(!conn.finish_events(Instant::now()));
    conn.flush();
    assert_eq!(client.exactly(5), b"heard");
    client.expect_cut();
    assert_eq!(events_to_the_end(&mut server, &conn), ["closed"]);
}

#[test]
fn who_does_not_read_is_closed_or_loses_messages() {
    for slow_consumer in [SlowConsumer::Close, SlowConsumer::Drop] {
        let config = RealtimeConfig { max_backlog: 1 << 20, slow_consumer, ..RealtimeConfig::default() };
        let mut server = server(config);
        let (client, conn) = switched(&mut server, upgrade(Protocol::WebSocket), b"");
        client.take_little();
        assert_eq!(events(&conn), ["open"]);
        let message = vec![b'x'; 64 * 1024];
        let refused = (0..4096).find_map(|_| {
            let written = conn.write(Kind::Binary, Payload::Copied(&message), Writer::Anyone);
            (written != Written::Queued).then_some(written)
        });
        assert_eq!(refused, Some(Written::Refused), "memory does not grow without bound");
        match slow_consumer {
            SlowConsumer::Drop => assert!(conn.is_writable()),
            SlowConsumer::Close => assert!(!conn.is_writable()),
        }
        drop(client);
        assert_eq!(events_to_the_end(&mut server, &conn), ["closed"]);
    }
}

#[test]
fn who_pings_without_reading_is_read_no_further() {
    const PINGS: usize = 200_000;
    const PONG: usize = 127;
    let mut server = server(RealtimeConfig::default());
    let (mut client, conn) = switched(&mut server, upgrade(Protocol::WebSocket), b"");
    assert_eq!(events(&conn), ["open"]);
    client.take_little();
    let mut frames = Vec::new();
    (0..1000).for_each(|_| encode_ping(&mut frames, &[b'p'; PONG - 2], MASK));
    let mut sender = client.sender();
    let sending = std::thread::spawn(move || {
        (0..PINGS / 1000).for_each(|_| sender.send(&frames));
        sender.send(text("heard"));
    });
    wait_until("the first of many pongs", || (conn.pending_writes()? * PONG >= 256 * 1024).then_some(()));
    // Another one is answered meanwhile, which tells that there was time enough.
    let (mut other, quick) = switched(&mut server, upgrade(Protocol::WebSocket), b"");
    assert_eq!(events(&quick), ["open"]);
    for _ in 0..50 {
        let mut ping = Vec::new();
        encode_ping(&mut ping, b"?", MASK);
        other.send(ping);
        assert_eq!(other.exactly(3), b"\x8a\x01?");
    }
    let waiting = conn.pending_writes().unwrap() * PONG;
    assert!(waiting <= 512 * 1024, "{waiting} bytes of pongs for one that does not read");
    for _ in 0..PINGS {
        assert_eq!(client.exactly(PONG)[..2], *b"\x8a\x7d");
    }
    sending.join().unwrap();
    assert_eq!(next_events(&mut server, &conn), ["heard"]);
}

/// An application thread subscribes as fast as it can while the client leaves.
#[test]
fn no_subscription_outlives_its_connection() {
    for _ in 0..20 {
        let mut server = server(RealtimeConfig::default());
        let (client, conn) = switched(&mut server, upgrade(Protocol::Raw), b"");
        assert_eq!(events(&conn), ["open"]);
        let (sender, begun) = std::sync::mpsc::channel();
        let subscriber = {
            let conn = conn.clone();
            std::thread::spawn(move || {
                let mut added = Vec::new();
                loop {
                    let hears = Hears::Peer { conn: conn.clone(), format: Format::Text };
                    let name = added.len().to_string();
                    let subscription = Subscription::new(name.as_bytes(), false, hears);
                    if conn.add_subscription(&subscription).is_err() {
                        return added;
                    }
                    added.push(subscription);
                    // Whoever waits no longer has left.
                    let _ = sender.send(());
                }
            })
        };
        assert!(begun.iter().nth(500).is_some());
        drop(client);
        let added = subscriber.join().unwrap();
        assert_eq!(added.iter().filter(|subscription| subscription.is_live()).count(), 0);
    }
}

#[test]
fn a_published_message_reaches_those_who_subscribed_before_it() {
    let mut server = server(RealtimeConfig::default());
    let mut peers: Vec<_> = [Protocol::WebSocket, Protocol::Sse, Protocol::Raw]
        .into_iter()
        .map(|protocol| {
            let (client, conn) = switched(&mut server, upgrade(protocol), b"");
            assert_eq!(events(&conn), ["open"]);
            (client, conn)
        })
        .collect();
    let publish = |data: &[u8]| {
        let message = Arc::new(Message { channel: (*b"news").into(), data: data.into() });
        server.handle.send(Command::Publish(iodine_codec::link::Scope::Cluster, message));
    };
    publish(b"early");
    let mut subscriptions = Vec::new();
    for (_, conn) in &peers {
        let hears = Hears::Peer { conn: conn.clone(), format: Format::Text };
        let subscription = Subscription::new(b"n?ws", true, hears);
        assert!(conn.add_subscription(&subscription).unwrap().is_none());
        server.handle.send(Command::Subscribe(subscription.clone()));
        subscriptions.push(subscription);
    }
    publish(b"hi");
    publish(b"\xff");
    let expected: [&[u8]; 3] = [b"\x81\x02hi\x82\x01\xff", b"data: hi\r\n\r\ndata: \xff\r\n\r\n", b"hi\xff"];
    for ((client, _), expected) in peers.iter_mut().zip(expected) {
        assert_eq!(client.exactly(expected.len()), expected);
    }
    // The end of a connection is the end of its subscriptions.
    let (client, conn) = peers.remove(0);
    drop(client);
    assert_eq!(events_to_the_end(&mut server, &conn), ["closed"]);
    assert!(!subscriptions[0].is_live() && subscriptions[1].is_live());
}

fn outgoing(targets: Vec<Target>) -> Outgoing {
    Outgoing {
        targets,
        service: Arc::new(Service::http(0, HttpConfig::default(), None)),
        upgrade: Upgrade { role: Role::Client, handler: Handler::Given(7), ..upgrade(Protocol::Raw) },
        tls: None,
        handshake: None,
        timeout: PATIENCE,
    }
}

#[test]
fn the_next_address_is_tried_and_a_failure_told_by_the_end_alone() {
    let mut server = server(RealtimeConfig::default());
    // Nobody listens, and nobody else is given the port.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let refusing = Target::Tcp(held.local_addr().unwrap().as_socket().unwrap());
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = Target::Tcp(listening.local_addr().unwrap());
    server.handle.send(Command::Connect(Box::new(outgoing(vec![refusing.clone(), open]))));
    let mut peer = Client::of(listening.accept().unwrap().0);
    let Job::Events(conn) = server.job() else { panic!("no events") };
    assert_eq!(conn.handler(), Some(Handler::Given(7)));
    assert_eq!(events(&conn), ["open"]);
    assert_eq!(conn.write(Kind::Binary, Payload::Copied(b"hello"), Writer::Anyone), Written::Queued);
    assert_eq!(peer.exactly(5), b"hello");

    server.handle.send(Command::Connect(Box::new(outgoing(vec![refusing]))));
    let Job::Events(conn) = server.job() else { panic!("no events") };
    assert_eq!(events(&conn), ["closed"]);
}

#[test]
fn the_end_of_the_server_is_told_before_the_end_of_the_connection() {
    let mut server = server(RealtimeConfig::default());
    let (mut client, conn) = switched(&mut server, upgrade(Protocol::WebSocket), b"");
    assert_eq!(events(&conn), ["open"]);
    server.handle.send(Command::Shutdown(Instant::now() + PATIENCE));
    assert_eq!(next_events(&mut server, &conn), ["shutdown"]);
    conn.close(1001, "", Writer::Anyone);
    assert_eq!(client.exactly(4), b"\x88\x02\x03\xe9");
    let mut reply = Vec::new();
    encode_close(&mut reply, Some((1001, "")), MASK);
    client.send(reply);
    assert_eq!(events_to_the_end(&mut server, &conn), ["closed"]);
    server.rest();
    assert_eq!(server.notice(), Notice::Drained);
}

#[test]
fn a_plain_request_behind_a_refused_upgrade_is_answered() {
    let mut server = server(RealtimeConfig::default());
    let mut client = server.connect();
    client.send(format!("{ASK}{}", get("/next")));
    let first = server.request();
    first.conn.begin().unwrap();
    assert!(support::answer(&first, "no".into()).is_none());
    first.conn.flush();
    assert_eq!(client.answer().text(), "no");
    let second = server.request();
    assert_eq!(second.head.path(), b"/next");
}
