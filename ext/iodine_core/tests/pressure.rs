//! Too much of something: answers that nobody reads, jobs that nobody runs, connections.

mod support;

use iodine_core::Job;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::{Asked, Client, PATIENCE, Said, Setup, answer, gate, get, pattern, serve, wait_until};

const LARGE: usize = 8 * 1024 * 1024;

fn large() -> Vec<u8> {
    let mut bytes = pattern().repeat(LARGE / pattern().len() + 1);
    bytes.truncate(LARGE);
    bytes
}

// --- slow readers --------------------------------------------------------------------------------------------------

#[test]
fn a_large_answer_arrives_whole_and_another_behind_it() {
    let server = serve(|asked: Asked| match asked.path.as_str() {
        "/large" => Said::Bytes(large()),
        _ => asked.path.into(),
    });
    let mut client = server.connect();
    client.send(get("/large") + &get("/small") + &get("/large"));
    assert!(client.answer().body == large());
    assert_eq!(client.answer().text(), "/small");
    assert!(client.answer().body == large());
}

#[test]
fn a_large_answer_to_a_last_request_arrives_whole_before_the_end() {
    let server = serve(|_| Said::Bytes(large()));
    for head in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] {
        let mut clients = [server.connect(), server.connect()];
        for client in &mut clients {
            client.take_little();
            client.send(head);
        }
        for client in &mut clients {
            assert!(client.answer().body == large());
            client.expect_end();
        }
    }
}

/// What comes next; `None` where the connection is cut.
fn read_some(client: &mut Client) -> Option<Vec<u8>> {
    match client.read(1024 * 1024) {
        Ok(bytes) => Some(bytes).filter(|bytes| !bytes.is_empty()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_slow_reader_gets_it_all_however_long_that_takes() {
    let write_timeout = Duration::from_millis(200);
    let setup = Setup::new().http(|http| http.write_timeout = write_timeout);
    let server = setup.serve(|_| Said::Bytes(large()));
    let reply = loop {
        let mut client = server.connect();
        client.take_little();
        client.send(get("/"));
        let begun = Instant::now();
        let (mut before, mut longest) = (begun, Duration::ZERO);
        let mut received = Vec::new();
        while received.len() < LARGE {
            let Some(bytes) = read_some(&mut client) else { break };
            received.extend_from_slice(&bytes);
            std::thread::sleep(Duration::from_millis(20));
            let now = Instant::now();
            longest = longest.max(now - before);
            before = now;
        }
        if received.len() >= LARGE {
            assert!(begun.elapsed() > write_timeout * 2);
            client.give_back(received);
            break client.answer();
        }
        // The machine may have made it slower than it wanted to be.
        assert!(longest >= write_timeout / 2, "cut after {} bytes", received.len());
    };
    assert!(reply.body == large());
}

#[test]
fn one_that_reads_nothing_is_cut_off() {
    let (sender, conns) = mpsc::channel();
    let setup = Setup::new().http(|http| http.write_timeout = Duration::from_millis(150));
    let server = setup.serve(move |asked: Asked| {
        sender.send(asked.conn.clone()).unwrap();
        Said::Bytes(large())
    });
    let mut client = server.connect();
    client.take_little();
    client.send(get("/"));
    let conn = conns.recv_timeout(PATIENCE).unwrap();
    wait_until("the end of it", || (!conn.is_open()).then_some(()));
    client.expect_cut();
}

/// What it read in a hurry at first is no credit for standing still afterwards.
#[test]
fn one_that_stops_reading_is_cut_off() {
    let (sender, conns) = mpsc::channel();
    let write_timeout = Duration::from_millis(150);
    let setup = Setup::new().http(|http| http.write_timeout = write_timeout);
    let server = setup.serve(move |asked: Asked| {
        sender.send(asked.conn.clone()).unwrap();
        Said::Bytes([large(), large()].concat())
    });
    let (mut client, conn) = loop {
        let begun = Instant::now();
        let mut client = server.connect();
        client.take_little();
        client.send(get("/"));
        let conn = conns.recv_timeout(PATIENCE).unwrap();
        let mut count = 0;
        while count < LARGE {
            let Some(bytes) = read_some(&mut client) else { break };
            count += bytes.len();
        }
        if count >= LARGE {
            break (client, conn);
        }
        // The machine may have kept it from reading.
        assert!(begun.elapsed() >= write_timeout, "cut after {count} bytes");
    };
    wait_until("the end of it", || (!conn.is_open()).then_some(()));
    client.expect_cut();
}

#[test]
fn one_that_asks_without_reading_is_read_no_further() {
    const SIZE: usize = 512 * 1024;
    const REQUESTS: usize = 150;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let server = serve(move |asked: Asked| {
        if asked.path == "/other" {
            return Said::Text("x".into());
        }
        counted.fetch_add(1, Relaxed);
        Said::Bytes(vec![b'x'; SIZE])
    });
    let mut client = server.connect();
    client.take_little();
    client.send(get("/").repeat(REQUESTS));
    // Others are served meanwhile, which tells that there was time enough.
    let mut other = server.connect();
    (0..50).for_each(|_| assert_eq!(other.get("/other").status, 200));
    let answers = asked.load(Relaxed);
    assert!(answers <= 64, "{answers} answers for one that does not read");
    (0..REQUESTS).for_each(|_| assert_eq!(client.answer().body.len(), SIZE));
    assert_eq!(asked.load(Relaxed), REQUESTS);
}

#[test]
fn a_refusal_behind_a_large_answer_arrives() {
    let server = serve(|_| Said::Bytes(large()));
    let mut client = server.connect();
    client.send(get("/") + "BAD\r\n\r\n" + &"noise".repeat(1000));
    assert!(client.answer().body == large());
    assert_eq!(client.answer().status, 400);
    client.expect_end();
}

#[test]
fn one_that_breaks_off_in_the_middle_of_an_answer_is_forgotten() {
    let (sender, conns) = mpsc::channel();
    let server = serve(move |asked: Asked| {
        sender.send(asked.conn.clone()).unwrap();
        Said::Bytes(large())
    });
    let mut client = server.connect();
    client.send(get("/"));
    client.read(1000).unwrap();
    let conn = conns.recv_timeout(PATIENCE).unwrap();
    drop(client);
    wait_until("the end of it", || (!conn.is_open()).then_some(()));
}

// --- many jobs -----------------------------------------------------------------------------------------------------

#[test]
fn a_full_queue_delays_and_loses_nothing() {
    for max_jobs in [1, 2, 5] {
        let (open, wait) = gate();
        let setup = Setup::new().threads(1).reactor(|reactor| reactor.max_jobs = max_jobs);
        let server = setup.serve(move |asked: Asked| {
            if asked.path == "/gate" {
                wait();
            }
            asked.path
        });
        let mut first = server.connect();
        first.send(get("/gate"));
        let mut clients = Vec::new();
        for count in 0..20 {
            let mut client = server.connect();
            client.send(get("/0"));
            wait_until("the job", || (server.handle.jobs().waiting() > count).then_some(()));
            client.send((1..40).map(|index| get(&format!("/{index}"))).collect::<String>());
            clients.push(client);
        }
        open.send(()).unwrap();
        for client in &mut clients {
            for index in 0..40 {
                assert_eq!(client.answer().text(), format!("/{index}"), "at most {max_jobs} jobs");
            }
        }
    }
}

#[test]
fn a_full_queue_is_fed_no_further() {
    let most = 4;
    let mut server = Setup::new().threads(0).reactor(|reactor| reactor.max_jobs = most).serve(|_| "x");
    let mut clients = Vec::new();
    for count in 0..most {
        let mut client = server.connect();
        client.send(get("/"));
        clients.push(client);
        wait_until("the job", || (server.handle.jobs().waiting() > count).then_some(()));
    }
    // These find it full: each adds its first request, and is then read no more.
    for count in 0..3 {
        let mut client = server.connect();
        client.send(get("/") + "GET /part");
        clients.push(client);
        wait_until("the job", || (server.handle.jobs().waiting() > most + count).then_some(()));
    }
    for _ in 0..most + 3 {
        let request = server.request();
        assert!(answer(&request, "x".into()).is_none());
        request.conn.flush();
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "x");
    }
    for client in &mut clients[most..] {
        client.send(" HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for _ in 0..3 {
        let request = server.request();
        assert!(answer(&request, "y".into()).is_none());
        request.conn.flush();
    }
    for client in &mut clients[most..] {
        assert_eq!(client.answer().text(), "y");
    }
}

#[test]
fn a_job_behind_a_slow_one_gets_another_thread() {
    let (open, wait) = gate();
    let server = Setup::new().threads(4).serve(move |asked: Asked| {
        if asked.path == "/held" {
            wait();
        }
        asked.path
    });
    let mut slow = server.connect();
    let mut quick = server.connect();
    assert_eq!(quick.get("/1").text(), "/1");
    slow.send(get("/held"));
    for _ in 0..100 {
        assert_eq!(quick.get("/2").text(), "/2");
    }
    open.send(()).unwrap();
    assert_eq!(slow.answer().text(), "/held");
}

#[test]
fn a_task_that_a_busy_thread_leaves_to_others_is_run() {
    let (sender, done) = mpsc::channel();
    let setup = Setup::new().threads(2).other(move |_, job| {
        assert!(matches!(job, Job::Task(5)));
        sender.send(()).unwrap();
    });
    let done = Mutex::new(done);
    let server = setup.serve(move |asked: Asked| {
        let handle = asked.conn.handle();
        handle.jobs().push(Job::Task(5));
        handle.wake();
        // Only the other thread can do it.
        done.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        "done"
    });
    for _ in 0..20 {
        assert_eq!(server.connect().get("/").text(), "done");
    }
}

// --- many connections ----------------------------------------------------------------------------------------------

#[test]
fn one_connection_too_many_is_told_to_come_again() {
    let setup = Setup::new().reactor(|reactor| reactor.max_connections = 2);
    let server = setup.serve(|asked: Asked| asked.path);
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!((first.get("/1").text(), second.get("/2").text()), ("/1", "/2"));
    for _ in 0..3 {
        let mut third = server.connect();
        let refused = third.answer();
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        third.expect_end();
    }
    assert_eq!(first.get("/3").text(), "/3");
    drop(second);
    let again = || {
        let mut client = server.connect();
        client.try_send(get("/4")).ok()?;
        let reply = client.answer();
        (reply.status == 200).then_some(reply)
    };
    assert_eq!(wait_until("room", again).text(), "/4");
}

#[test]
fn a_connection_that_is_closed_makes_room_at_once() {
    let setup = Setup::new().reactor(|reactor| reactor.max_connections = 1);
    let server = setup.serve(|asked: Asked| asked.path);
    for _ in 0..50 {
        let mut client = server.connect();
        client.send("GET /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().status, 200);
        client.expect_end();
    }
}

#[test]
fn descriptors_are_kept_free_for_the_application() {
    let setup = Setup::new().reactor(|reactor| reactor.reserved_descriptors = 1 << 40);
    let server = setup.serve(|asked: Asked| asked.path);
    assert_eq!(server.connect().answer().status, 503);
}
