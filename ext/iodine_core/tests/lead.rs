//! Who turns the reactor: an app thread while jobs are instant, the standby while it is busy or jobs are not.

mod support;

use iodine_core::Job;
use iodine_core::queue::{AppThread, Taken};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;
use support::*;

/// Asks until a thread answers that turns the reactor, as the application says, or does not.
fn ask_until(client: &mut Client, path: &str, leads: bool) {
    wait_until("who leads", || (client.get(path).text() == leads.to_string()).then_some(()));
}

/// Runs a test that would wait for ever if it failed.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if is_done.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("it takes too long");
    }
    thread.join().unwrap();
}

/// An app thread, and a server that it has the lead of.
fn leader() -> (Server, Client, AppThread) {
    let mut server = Setup::new().threads(0).serve(|_| "unused");
    let mut thread = server.app_thread();
    let mut client = server.connect();
    while !thread.leads() {
        client.send(get("/"));
        let (Taken::Job(Job::Request(request)), _) = thread.wait(|| {}) else { panic!("no request") };
        answer(&request, "x".into());
        request.conn.flush();
        assert_eq!(client.answer().text(), "x");
    }
    (server, client, thread)
}

#[test]
fn an_app_thread_leads_while_jobs_are_instant() {
    let server = serve(|asked| {
        if asked.path == "/slow" {
            std::thread::sleep(Duration::from_millis(2));
        }
        asked.leads.to_string()
    });
    let mut client = server.connect();
    ask_until(&mut client, "/", true);
    ask_until(&mut client, "/slow", false);
    ask_until(&mut client, "/", true);
}

#[test]
fn the_standby_leads_while_the_app_thread_is_held_up() {
    let (open, wait) = gate();
    let server = Setup::new().threads(1).serve(move |asked| {
        if asked.path == "/wait" {
            wait();
        }
        asked.leads.to_string()
    });
    let mut client = server.connect();
    for _ in 0..3 {
        ask_until(&mut client, "/", true);
        client.send(get("/wait"));
        // That takes no application.
        let mut other = server.connect();
        other.send("nonsense\r\n\r\n");
        assert_eq!(other.answer().status, 400);
        open.send(()).unwrap();
        client.answer();
    }
}

/// Whether it has the lead or not.
#[test]
fn the_standby_runs_errands() {
    static RUN: AtomicU32 = AtomicU32::new(0);
    in_time(|| {
        let (server, client, thread) = leader();
        let lead = server.lead();
        let run = |times| {
            lead.send_standby(|| {
                RUN.fetch_add(1, SeqCst);
            });
            wait_until("the errand", || (RUN.load(SeqCst) == times).then_some(()));
        };
        (1..4).for_each(run);
        drop(thread);
        (4..7).for_each(run);
        drop((client, server));
    });
}

#[test]
fn a_thread_that_ends_leaves_the_lead() {
    in_time(|| {
        let (server, mut client, thread) = leader();
        drop(thread);
        client.send("nonsense\r\n\r\n");
        assert_eq!(client.answer().status, 400);
        drop(server);
    });
}

#[test]
fn a_job_reaches_a_thread_that_sleeps_in_the_lead() {
    in_time(|| {
        let (server, _client, mut thread) = leader();
        let handle = server.handle.clone();
        for number in 0..1_000 {
            let jobs = handle.jobs().clone();
            let pushing = std::thread::spawn(move || jobs.push(Job::Task(number)));
            let (Taken::Job(Job::Task(task)), _) = thread.wait(|| {}) else { panic!("no task") };
            assert_eq!(task, number);
            pushing.join().unwrap();
        }
        drop(thread);
    });
}

#[test]
fn an_interrupt_reaches_a_thread_that_sleeps_in_the_lead() {
    in_time(|| {
        let (server, mut client, mut thread) = leader();
        for _ in 0..1_000 {
            let interrupter = thread.interrupter();
            let interrupting = std::thread::spawn(move || interrupter.interrupt());
            assert!(matches!(thread.wait(|| {}).0, Taken::Interrupted));
            interrupting.join().unwrap();
        }
        client.send("nonsense\r\n\r\n");
        assert_eq!(client.answer().status, 400);
        drop(thread);
        drop(server);
    });
}

#[test]
fn the_end_of_jobs_reaches_a_thread_that_sleeps_in_the_lead() {
    in_time(|| {
        let (server, _client, mut thread) = leader();
        let jobs = server.handle.jobs().clone();
        let ending = std::thread::spawn(move || jobs.end());
        assert!(matches!(thread.wait(|| {}).0, Taken::Ended));
        ending.join().unwrap();
        drop(thread);
    });
}
