//! Hub and links together: a master and two workers in one process, with a socketpair between each two that know each other.

mod support;

use iodine_codec::link::{Frame, Scope};
use iodine_core::command::{Command, Handle};
use iodine_core::hub::{Keeper, Listener, Message, Subscription};
use iodine_core::link::Link;
use iodine_core::{Job, Notice, Root};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Server, Setup, wait_until};

/// A block that nobody has to keep.
struct Block;

impl Keeper for Block {
    fn root(&self) -> Root {
        0
    }
}

/// What one process has heard, and has been told of channels.
#[derive(Clone, Default)]
struct Ears {
    heard: Arc<Mutex<Vec<String>>>,
    channels: Arc<Mutex<Vec<String>>>,
}

impl Ears {
    fn hear(&self, subscription: &Subscription) {
        loop {
            for message in subscription.take_waiting() {
                self.heard.lock().unwrap().push(String::from_utf8_lossy(&message.data).into_owned());
            }
            if !subscription.finish_waiting() {
                return;
            }
        }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

struct Process {
    server: Server,
    ears: Ears,
}

impl Process {
    fn new(link: Option<Link>) -> Process {
        let ears = Ears::default();
        let own = ears.clone();
        let setup = Setup::new().threads(1).other(move |_, job| match job {
            Job::Deliver(subscription) => own.hear(&subscription),
            Job::Channel { name, pattern, heard } => {
                let text =
                    format!("{}{} {heard}", name.escape_ascii(), if pattern { " pattern" } else { "" });
                own.channels.lock().unwrap().push(text);
            }
            other => panic!("no job for this test: {other:?}"),
        });
        let setup = match link {
            Some(link) => setup.link(link),
            None => setup,
        };
        Process { server: setup.serve(|_| "x"), ears }
    }

    fn subscribe(&self, name: &str, pattern: bool) -> Arc<Subscription> {
        let subscription = Subscription::new(name.as_bytes(), pattern, Listener::process(Box::new(Block)));
        self.server.handle.send(Command::Subscribe(subscription.clone()));
        subscription
    }

    fn publish(&self, scope: Scope, channel: &str, data: &str) {
        publish(&self.server.handle, scope, channel, data);
    }

    fn tell_of(&self, name: &str, heard: bool) {
        self.server.handle.send(Command::Channel { name: name.as_bytes().into(), pattern: false, heard });
    }
}

fn publish(handle: &Handle, scope: Scope, channel: &str, data: &str) {
    let message = Message { channel: channel.as_bytes().into(), data: data.as_bytes().into() };
    handle.send(Command::Publish(scope, Arc::new(message)));
}

/// A master, and workers that have said that they serve.
fn cluster(size: usize) -> (Process, Vec<Process>) {
    let master = Process::new(None);
    let workers = (0..size)
        .map(|slot| {
            let (ours, theirs) = Link::pair().unwrap();
            let worker = Process::new(Some(theirs));
            master.server.handle.send(Command::Adopt { slot, link: Box::new(ours) });
            worker.server.handle.send(Command::Ready);
            assert_eq!(master.server.notice(), Notice::WorkerReady(slot));
            worker
        })
        .collect();
    (master, workers)
}

#[test]
fn each_scope_reaches_those_that_it_names_once() {
    let (master, workers) = cluster(2);
    let all = [&master, &workers[0], &workers[1]];
    for process in all {
        process.subscribe("c", false);
    }
    let scopes = [
        ("cluster", Scope::Cluster),
        ("process", Scope::Process),
        ("siblings", Scope::Siblings),
        ("root", Scope::Root),
    ];
    for (publisher, process) in all.iter().enumerate() {
        for (name, scope) in scopes {
            process.publish(scope, "c", &format!("{publisher} {name}"));
        }
        // What comes behind them tells that nothing is missing.
        process.publish(Scope::Cluster, "c", &format!("{publisher} end"));
        for listener in all {
            wait_until("the end", || {
                listener.ears.heard().contains(&format!("{publisher} end")).then_some(())
            });
        }
    }
    for (place, listener) in all.iter().enumerate() {
        for publisher in 0..3 {
            let mine = place == publisher;
            let expected: Vec<_> = [
                ("cluster", true),
                ("process", mine),
                ("siblings", !mine),
                ("root", place == 0),
                ("end", true),
            ]
            .into_iter()
            .filter(|(_, hears)| *hears)
            .map(|(name, _)| format!("{publisher} {name}"))
            .collect();
            let heard = listener.ears.heard();
            let heard: Vec<_> =
                heard.into_iter().filter(|text| text.starts_with(&publisher.to_string())).collect();
            assert_eq!(heard, expected, "in {place}, of {publisher}");
        }
    }
}

#[test]
fn order_is_kept_for_each_publisher_however_much_it_is() {
    const COUNT: usize = 20_000;
    let (master, workers) = cluster(2);
    let all = [&master, &workers[0], &workers[1]];
    for process in all {
        process.subscribe("*", true);
    }
    std::thread::scope(|scope| {
        for (publisher, process) in all.iter().enumerate() {
            let handle = process.server.handle.clone();
            scope.spawn(move || {
                for number in 0..COUNT {
                    publish(&handle, Scope::Cluster, "c", &format!("{publisher} {number}"));
                }
            });
        }
    });
    for listener in all {
        wait_until("all of them", || (listener.ears.heard.lock().unwrap().len() >= 3 * COUNT).then_some(()));
        let heard = listener.ears.heard();
        for publisher in 0..3 {
            let start = format!("{publisher} ");
            let numbers = heard.iter().filter_map(|text| text.strip_prefix(&start)?.parse::<usize>().ok());
            assert!(numbers.eq(0..COUNT), "publisher {publisher}");
        }
    }
}

#[test]
fn a_worker_that_vanishes_takes_its_channels_along_and_nothing_else() {
    let (master, mut workers) = cluster(2);
    let channels = || master.ears.channels.lock().unwrap().clone();
    master.subscribe("c", false);
    workers[0].subscribe("c", false);
    for worker in &workers {
        worker.tell_of("shared", true);
        worker.tell_of("shared", true);
    }
    workers[1].tell_of("lonely", true);
    wait_until("channels", || (channels().len() == 3).then_some(()));
    // The end of the stream is all that is heard of it.
    drop(workers.pop());
    assert_eq!(master.server.notice(), Notice::WorkerGone(1));
    wait_until("their end", || (channels().len() == 5).then_some(()));
    let mut told = channels().split_off(3);
    told.sort();
    assert_eq!(told, ["lonely false", "shared false"]);
    workers[0].publish(Scope::Cluster, "c", "still here");
    for listener in [&master, &workers[0]] {
        wait_until("the message", || (listener.ears.heard() == ["still here"]).then_some(()));
    }
    // Another one in its place hears what is published from then on.
    let (ours, theirs) = Link::pair().unwrap();
    let fresh = Process::new(Some(theirs));
    fresh.subscribe("c", false);
    master.server.handle.send(Command::Adopt { slot: 1, link: Box::new(ours) });
    fresh.server.handle.send(Command::Ready);
    assert_eq!(master.server.notice(), Notice::WorkerReady(1));
    workers[0].publish(Scope::Siblings, "c", "welcome");
    wait_until("the message", || (fresh.ears.heard() == ["welcome"]).then_some(()));
}

#[test]
fn a_worker_says_what_it_has_to_before_it_ends() {
    let big = "x".repeat(3_000_000);
    let master = loop {
        let (master, mut workers) = cluster(1);
        master.subscribe("c", false);
        for _ in 0..5 {
            workers[0].publish(Scope::Cluster, "c", &big);
        }
        workers[0].publish(Scope::Cluster, "c", "last words");
        let begun = Instant::now();
        drop(workers.pop());
        // It tries for so long, and the machine may stand still meanwhile.
        if begun.elapsed() < Duration::from_secs(1) {
            break master;
        }
    };
    wait_until("the last words", || master.ears.heard().last().filter(|text| *text == "last words").cloned());
    assert_eq!(master.ears.heard().len(), 6);
}

#[test]
fn a_subscription_that_has_ended_hears_nothing_and_a_master_that_is_gone_is_told_of() {
    let (master, workers) = cluster(1);
    let subscription = workers[0].subscribe("c", false);
    workers[0].subscribe("d", false);
    master.publish(Scope::Cluster, "c", "one");
    wait_until("one", || (workers[0].ears.heard() == ["one"]).then_some(()));
    subscription.end();
    workers[0].server.handle.send(Command::Unsubscribe(subscription));
    master.publish(Scope::Cluster, "c", "two");
    master.publish(Scope::Cluster, "d", "three");
    wait_until("three", || (workers[0].ears.heard() == ["one", "three"]).then_some(()));
    drop(master);
    assert_eq!(workers[0].server.notice(), Notice::MasterGone);
    // Alone it goes on.
    workers[0].publish(Scope::Cluster, "d", "four");
    wait_until("four", || (workers[0].ears.heard() == ["one", "three", "four"]).then_some(()));
}

#[test]
fn a_subscription_hears_what_was_published_elsewhere_after_it() {
    let (mut theirs, ours) = Link::pair().unwrap();
    let worker = Process::new(Some(ours));
    let frame = |channel: &str| -> Arc<[u8]> {
        let (channel, data) = (channel.as_bytes(), channel.as_bytes());
        Frame::Publish { scope: Scope::Cluster, channel, data }.to_vec().into()
    };
    let noise = frame("noise");
    for round in 0..200 {
        // The worker is in the middle of this when it is told of the subscription.
        (0..3000).for_each(|_| theirs.relay(&noise, Instant::now()));
        theirs.flush();
        let name = format!("c{round}");
        worker.subscribe(&name, false);
        theirs.relay(&frame(&name), Instant::now());
        wait_until("the message", || {
            theirs.flush();
            worker.ears.heard().contains(&name).then_some(())
        });
    }
}
