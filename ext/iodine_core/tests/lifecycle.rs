//! What a reactor does beside requests: timers, idleness, links, several workers at one door, and the end.

mod support;

use iodine_codec::link::Frame;
use iodine_core::command::{Command, Timer};
use iodine_core::link::Link;
use iodine_core::sys::Board;
use iodine_core::{HttpConfig, Job, Notice};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use support::{Asked, PATIENCE, Said, Server, Setup, answer, gate, get, local_listener, serve, wait_until};

fn after(time: Duration) -> Command {
    Command::Shutdown(Instant::now() + time)
}

// --- timers --------------------------------------------------------------------------------------------------------

/// What fired: the timer's root, whether for the last time, and when.
type Fired = (u32, bool, Instant);

/// A server whose timers report, and take `busy` to run. Times are counted from before it is made: a timer that comes in the
/// middle of a turn counts from the turn's beginning.
fn with_timers(busy: Duration) -> (Server, mpsc::Receiver<Fired>) {
    let (sender, fired) = mpsc::channel();
    let at_work = AtomicBool::new(false);
    let setup = Setup::new().threads(3).other(move |handle, job| {
        let (id, root, last) = match job {
            Job::Timer { id, root, last } => (id, root, last),
            Job::Forget(_) => return,
            other => panic!("no timer but {other:?}"),
        };
        assert!(!at_work.swap(true, Relaxed), "the timer overlaps itself");
        let _ = sender.send((root, last, Instant::now()));
        std::thread::sleep(busy);
        at_work.store(false, Relaxed);
        if !last {
            handle.send(Command::TimerDone(id));
        }
    });
    (setup.serve(|_| "x"), fired)
}

#[test]
fn a_timer_runs_as_often_as_it_should() {
    let begun = Instant::now();
    let (server, fired) = with_timers(Duration::ZERO);
    let every = Duration::from_millis(15);
    server.handle.send(Command::AddTimer(Timer { root: 7, every, times: Some(3) }));
    for round in 1..=3 {
        let (root, last, at) = fired.recv_timeout(PATIENCE).unwrap();
        assert_eq!((root, last), (7, round == 3));
        assert!(at - begun >= every * round, "round {round} after {:?}", at - begun);
    }
    // Another one, started when this is over, tells that no fourth round was on its way.
    server.handle.send(Command::AddTimer(Timer { root: 8, every: every * 3, times: Some(1) }));
    let (root, last, _) = fired.recv_timeout(PATIENCE).unwrap();
    assert_eq!((root, last), (8, true));
}

#[test]
fn a_timer_keeps_its_rate_though_its_block_takes_time() {
    let every = Duration::from_millis(20);
    // A busy machine may spoil one round, but not each of these.
    let in_time = (0..20).any(|_| {
        let begun = Instant::now();
        let (server, fired) = with_timers(every * 3 / 4);
        server.handle.send(Command::AddTimer(Timer { root: 7, every, times: None }));
        let tenth = fired.iter().nth(9).unwrap().2 - begun;
        assert!(tenth >= every * 10, "{tenth:?}");
        // Counted from the end of each block it would be more than 17 intervals.
        tenth < every * 13
    });
    assert!(in_time);
}

#[test]
fn a_timer_with_a_slow_block_leaves_rounds_out_and_never_overlaps() {
    let begun = Instant::now();
    let (server, fired) = with_timers(Duration::from_millis(25));
    let every = Duration::from_millis(10);
    server.handle.send(Command::AddTimer(Timer { root: 7, every, times: Some(5) }));
    let rounds: Vec<Fired> = (0..5).map(|_| fired.recv_timeout(PATIENCE).unwrap()).collect();
    let last = rounds[4].2 - begun;
    assert!(last >= every * 13, "{last:?}");
}

#[test]
fn a_timer_of_no_time_at_all_still_lets_others_run() {
    let (server, fired) = with_timers(Duration::ZERO);
    server.handle.send(Command::AddTimer(Timer { root: 7, every: Duration::ZERO, times: None }));
    server.handle.send(Command::AddTimer(Timer { root: 8, every: Duration::MAX, times: None }));
    assert_eq!(server.connect().get("/").text(), "x");
    assert!(fired.iter().take(20).all(|(root, ..)| root == 7));
}

#[test]
fn a_timer_that_is_cancelled_gives_back_its_block_and_does_not_fire_again() {
    let (sender, jobs) = mpsc::channel();
    let setup = Setup::new().threads(1).other(move |_, job| sender.send(job).unwrap());
    let server = setup.serve(|_| "x");
    let send = |command| server.handle.send(command);
    let next = || jobs.recv_timeout(PATIENCE).unwrap();
    let hour = Duration::from_secs(3600);
    send(Command::AddTimer(Timer { root: 7, every: hour, times: Some(1) }));
    send(Command::CancelTimer(7));
    assert!(matches!(next(), Job::Forget(7)));
    // One at work is done with when its block has run.
    send(Command::AddTimer(Timer { root: 8, every: Duration::ZERO, times: None }));
    let Job::Timer { id, root: 8, last: false } = next() else { panic!() };
    send(Command::CancelTimer(8));
    send(Command::CancelTimer(8));
    send(Command::TimerDone(id));
    assert!(matches!(next(), Job::Forget(8)));
    // Unknown ones do no harm, nor does the time of one that was cancelled.
    send(Command::CancelTimer(9));
    loop {
        let (begun, every) = (Instant::now(), Duration::from_millis(30));
        send(Command::AddTimer(Timer { root: 8, every, times: Some(1) }));
        send(Command::CancelTimer(8));
        let in_time = begun.elapsed() < every;
        match next() {
            Job::Forget(8) => break,
            // It was cancelled too late.
            Job::Timer { root: 8, last: true, .. } if !in_time => {}
            other => panic!("{other:?}"),
        }
    }
    send(Command::AddTimer(Timer { root: 8, every: Duration::from_millis(60), times: Some(1) }));
    assert!(matches!(next(), Job::Timer { root: 8, last: true, .. }));
    assert!(jobs.try_recv().is_err());
}

#[test]
fn timers_end_with_the_server_and_give_back_their_blocks() {
    let (sender, jobs) = mpsc::channel();
    let setup = Setup::new().threads(1).other(move |_, job| sender.send(job).unwrap());
    let server = setup.serve(|_| "x");
    let hour = Duration::from_secs(3600);
    server.handle.send(Command::AddTimer(Timer { root: 7, every: hour, times: None }));
    server.handle.send(Command::AddTimer(Timer { root: 8, every: Duration::ZERO, times: None }));
    // This one is at work when the end comes, so that it is given back when that is done.
    let Job::Timer { id, root: 8, last: false } = jobs.recv_timeout(PATIENCE).unwrap() else { panic!() };
    server.handle.send(after(PATIENCE * 10));
    assert!(matches!(jobs.recv_timeout(PATIENCE), Ok(Job::Forget(7))));
    server.handle.send(Command::TimerDone(id));
    assert!(matches!(jobs.recv_timeout(PATIENCE), Ok(Job::Forget(8))));
    server.handle.send(Command::AddTimer(Timer { root: 9, every: hour, times: None }));
    assert!(matches!(jobs.recv_timeout(PATIENCE), Ok(Job::Forget(9))));
}

// --- idleness ------------------------------------------------------------------------------------------------------

#[test]
fn idleness_is_told_once_each_time_that_it_is_asked_for() {
    let (sender, idle) = mpsc::channel();
    let setup = Setup::new().other(move |_, job| {
        assert!(matches!(job, Job::Idle));
        sender.send(Instant::now()).unwrap();
    });
    let quiet = Duration::from_millis(20);
    let mut begun = Instant::now();
    let server = setup.serve(|_| "x");
    let mut client = server.connect();
    for _ in 0..2 {
        server.handle.send(Command::WantIdle);
        assert_eq!(client.get("/").text(), "x");
        let answered = Instant::now();
        let told = idle.recv_timeout(PATIENCE).unwrap();
        assert!(told - begun >= quiet, "after {:?}", told - begun);
        // Unless it was quiet between the two.
        assert!(told >= answered || answered - begun >= quiet);
        begun = Instant::now();
    }
    assert_eq!(client.get("/").text(), "x");
    assert!(idle.recv_timeout(Duration::from_millis(100)).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_reactor_sleeps() {
    let mut servers: Vec<Server> = (0..2).map(|_| serve(|_| "x")).collect();
    let mut clients = Vec::new();
    for server in &servers {
        for _ in 0..10 {
            let mut client = server.connect();
            assert_eq!(client.get("/").text(), "x");
            clients.push(client);
        }
    }
    // What the last answer stirred up may take a moment to settle.
    let quiet = |server: &Server| {
        let before = server.sleeps();
        std::thread::sleep(Duration::from_millis(300));
        server.sleeps() == before
    };
    let server = servers.pop().unwrap();
    // Again: one that slept must not wake without a cause. A busy machine may keep a thread from its sleep meanwhile.
    assert!((0..10).any(|_| quiet(&server) && quiet(&server)), "it never sleeps for long");
}

// --- links ---------------------------------------------------------------------------------------------------------

#[test]
fn master_and_worker_hear_of_each_other() {
    let (masters, workers) = Link::pair().unwrap();
    let master = serve(|_| "x");
    let worker = Setup::new().link(workers).serve(|_| "x");
    master.handle.send(Command::Adopt { slot: 3, link: Box::new(masters) });
    worker.handle.send(Command::Ready);
    assert_eq!(master.notice(), Notice::WorkerReady(3));
    master.handle.send(Command::StopWorker(3));
    assert_eq!(worker.notice(), Notice::StopAsked);
    drop(worker);
    assert_eq!(master.notice(), Notice::WorkerGone(3));
    // Nobody is there to be asked, and another may take the place.
    master.handle.send(Command::StopWorker(3));
    let (masters, mut workers) = Link::pair().unwrap();
    workers.say(&Frame::Ready);
    assert!(workers.flush());
    master.handle.send(Command::Adopt { slot: 3, link: Box::new(masters) });
    assert_eq!(master.notice(), Notice::WorkerReady(3));
    drop(workers);
    assert_eq!(master.notice(), Notice::WorkerGone(3));
}

#[test]
fn a_worker_notices_that_its_master_is_gone() {
    let (mut masters, workers) = Link::pair().unwrap();
    let worker = Setup::new().link(workers).serve(|_| "x");
    let mut client = worker.connect();
    masters.say(&Frame::Stop);
    assert!(masters.flush());
    drop(masters);
    assert_eq!((worker.notice(), worker.notice()), (Notice::StopAsked, Notice::MasterGone));
    assert_eq!(client.get("/").text(), "x");
}

// --- the end -------------------------------------------------------------------------------------------------------

#[test]
fn a_server_without_connections_is_drained_at_once() {
    let server = serve(|_| "x");
    server.handle.send(after(PATIENCE * 10));
    assert_eq!(server.notice(), Notice::Drained);
}

/// In a rush the server does not see a connection before its first bytes.
#[test]
fn who_has_connected_in_a_rush_has_a_last_chance_too() {
    let last_chance = Duration::from_millis(250);
    loop {
        let server = serve(|asked: Asked| asked.path);
        let _rush: Vec<_> = (0..100).map(|_| server.connect()).collect();
        // Whoever connected before this one has been accepted when it is answered.
        let mut used = server.connect();
        assert_eq!(used.get("/1").text(), "/1");
        // Long enough to have no last chance any more, so that its end tells of the beginning of ours.
        std::thread::sleep(last_chance * 6 / 5);
        let mut unseen = server.connect();
        let until = Instant::now() + last_chance;
        server.handle.send(after(PATIENCE * 10));
        used.expect_end();
        // The machine may let it pass.
        if unseen.send_by(get("/2"), until) {
            assert_eq!(unseen.answer().text(), "/2");
            return assert_eq!(server.notice(), Notice::Drained);
        }
    }
}

#[test]
fn what_is_idle_is_closed_and_what_is_under_way_is_finished() {
    let (open, wait) = gate();
    let (sender, begun) = mpsc::channel();
    let server = serve(move |asked: Asked| {
        if asked.path == "/slow" {
            sender.send(()).unwrap();
            wait();
        }
        asked.path
    });
    let mut fresh = server.connect();
    let mut used = server.connect();
    assert_eq!(used.get("/1").text(), "/1");
    let mut slow = server.connect();
    slow.send(get("/slow") + &get("/behind"));
    let mut partial = server.connect();
    partial.send("GET /part");
    begun.recv_timeout(PATIENCE).unwrap();
    server.handle.send(after(PATIENCE * 10));
    fresh.expect_end();
    used.expect_end();
    partial.send("ial HTTP/1.1\r\nHost: x\r\n\r\n");
    let reply = partial.answer();
    assert_eq!((reply.text(), reply.header("connection")), ("/partial", Some("close")));
    partial.expect_end();
    open.send(()).unwrap();
    assert_eq!(slow.answer().text(), "/slow");
    // Asked for before the end, so it may be served; the connection closes in any case.
    let _ = slow.read(1000);
    slow.expect_cut();
    assert_eq!(server.notice(), Notice::Drained);
}

#[test]
fn an_answer_that_was_begun_before_the_end_does_not_keep_its_connection_open() {
    let mut server = Setup::new().threads(0).serve(|_| "x");
    let mut client = server.connect();
    client.send(get("/"));
    let request = server.request();
    // Made and not yet written when the end comes.
    assert!(answer(&request, "x".into()).is_none());
    server.handle.send(after(PATIENCE * 10));
    wait_until("the end to begin", || server.handle.is_draining().then_some(()));
    request.conn.flush();
    let reply = client.answer();
    assert_eq!((reply.text(), reply.header("connection")), ("x", None));
    client.expect_end();
    server.rest();
    assert_eq!(server.notice(), Notice::Drained);
}

#[test]
fn a_connection_that_waits_for_room_in_the_queue_does_not_delay_the_end() {
    let setup = Setup::new().threads(0).reactor(|reactor| reactor.max_jobs = 1);
    let mut server = setup.serve(|_| "x");
    let mut first = server.connect();
    first.send(get("/1"));
    wait_until("the job", || (server.handle.jobs().waiting() == 1).then_some(()));
    // The queue is full: this one adds a request, and is not read beyond it.
    let mut second = server.connect();
    second.send(get("/2") + &get("/3"));
    wait_until("the job", || (server.handle.jobs().waiting() == 2).then_some(()));
    server.handle.send(after(PATIENCE * 10));
    wait_until("the end to begin", || server.handle.is_draining().then_some(()));
    for _ in 0..2 {
        let request = server.request();
        let path = String::from_utf8(request.head.path().to_vec()).unwrap();
        assert!(answer(&request, path.into()).is_none());
        request.conn.flush();
    }
    assert_eq!(first.answer().text(), "/1");
    assert_eq!(second.answer().text(), "/2");
    first.expect_end();
    second.expect_end();
    server.rest();
    assert_eq!(server.notice(), Notice::Drained);
}

#[test]
fn the_end_waits_for_what_still_runs() {
    let (open, wait) = gate();
    let (began, has_begun) = mpsc::channel();
    let server = Setup::new().threads(1).serve(move |_| {
        began.send(()).unwrap();
        wait();
        "x"
    });
    let mut client = server.connect();
    client.send(get("/"));
    has_begun.recv_timeout(PATIENCE).unwrap();
    drop(client);
    server.handle.send(after(PATIENCE * 10));
    wait_until("the end to begin", || server.handle.is_draining().then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(server.handle.notices().take(), None);
    open.send(()).unwrap();
    assert_eq!(server.notice(), Notice::Drained);
}

#[test]
fn the_end_comes_when_its_time_has_come() {
    let mut server = Setup::new().threads(0).serve(|_| "x");
    let mut client = server.connect();
    client.send(get("/"));
    let request = server.request();
    let begun = Instant::now();
    let time = Duration::from_millis(100);
    server.handle.send(after(time));
    client.expect_cut();
    assert!(begun.elapsed() >= time);
    assert_eq!(server.notice(), Notice::DrainTimedOut);
    assert!(answer(&request, "late".into()).is_none());
    assert!(!request.conn.is_open());
}

#[test]
fn a_second_request_to_end_brings_it_forward() {
    let mut server = Setup::new().threads(0).serve(|_| "x");
    let mut client = server.connect();
    client.send(get("/"));
    let _request = server.request();
    server.handle.send(after(PATIENCE * 10));
    server.handle.send(after(Duration::ZERO));
    client.expect_cut();
    assert_eq!(server.notice(), Notice::DrainTimedOut);
}

#[test]
fn connections_do_not_outlive_the_reactor() {
    let mut server = Setup::new().threads(0).serve(|_| "x");
    let mut idle = server.connect();
    idle.send("GET /part");
    let mut busy = server.connect();
    // The second waits in the lane of its own connection.
    busy.send(get("/1") + &get("/2"));
    let request = server.request();
    drop(server);
    idle.expect_cut();
    drop(request);
    busy.expect_cut();
}

#[test]
fn nobody_is_served_after_the_end() {
    let server = serve(|asked: Asked| asked.path);
    server.handle.send(after(PATIENCE * 10));
    assert_eq!(server.notice(), Notice::Drained);
    let mut late = server.connect();
    late.send(get("/late"));
    server.handle.send(Command::Listen(local_listener(&HttpConfig::default())));
    late.expect_silence(Duration::from_millis(100));
}

#[test]
fn what_the_kernel_has_accepted_is_served_before_the_end() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let server = serve(move |asked: Asked| {
        count.fetch_add(1, Relaxed);
        Said::Text(asked.path)
    });
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            client.send(get("/"));
            client
        })
        .collect();
    server.handle.send(after(PATIENCE * 10));
    for client in &mut clients {
        assert_eq!(client.answer().text(), "/");
        client.expect_end();
    }
    assert_eq!(served.load(Relaxed), 20);
    assert_eq!(server.notice(), Notice::Drained);
}

// --- several workers at one door -----------------------------------------------------------------------------------

fn workers(count: usize) -> Vec<Server> {
    let listener = local_listener(&HttpConfig::default());
    let board = Board::new(count).unwrap();
    (0..count)
        .map(|slot| {
            board.set(slot, 0);
            let setup =
                Setup::new().listener(&listener).reactor(|reactor| reactor.place = Some((board, slot)));
            setup.serve(move |_| slot.to_string())
        })
        .collect()
}

fn shares(clients: &mut [support::Client], count: usize) -> Vec<usize> {
    let mut shares = vec![0; count];
    for client in clients {
        shares[client.get("/").text().parse::<usize>().unwrap()] += 1;
    }
    shares
}

/// Expects two workers to share 64 connections. Who has too many takes another one only after the other left it for two
/// milliseconds, so that a busy machine may spoil a round, but not a quick one, nor each of these.
fn expect_fair_shares(connect: impl Fn(&Server) -> Vec<support::Client>) {
    let fair = (0..20).any(|_| {
        let servers = workers(2);
        let begun = Instant::now();
        let shares = shares(&mut connect(&servers[0]), 2);
        let fair = shares.iter().all(|share| *share >= 24);
        assert!(fair || begun.elapsed() >= Duration::from_millis(30), "{shares:?}");
        fair
    });
    assert!(fair);
}

#[test]
fn connections_that_come_at_once_are_shared() {
    expect_fair_shares(|server| {
        let address = server.address();
        // The kernel accepts them all before either worker is awake.
        let streams: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
        streams.into_iter().map(support::Client::of).collect()
    });
}

#[test]
fn connections_that_come_one_by_one_are_shared() {
    expect_fair_shares(|server| {
        let asked = || {
            let mut client = server.connect();
            client.get("/");
            client
        };
        (0..64).map(|_| asked()).collect()
    });
}

#[test]
fn a_worker_that_ends_leaves_its_share_to_the_others() {
    let mut servers = workers(3);
    let mut clients: Vec<_> = (0..12).map(|_| servers[0].connect()).collect();
    shares(&mut clients, 3);
    let ended = servers.pop().unwrap();
    ended.handle.send(after(PATIENCE * 10));
    assert_eq!(ended.notice(), Notice::Drained);
    let mut clients: Vec<_> = (0..24).map(|_| servers[0].connect()).collect();
    let shares = shares(&mut clients, 3);
    assert_eq!(shares[2], 0);
    drop(ended);
}
