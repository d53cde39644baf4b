//! `idle`: opens connections, tells when all are open, holds them (answering pings) until stdin ends, and then
//! tells how many the server has closed.

use crate::args::{fail, Args};
use crate::fleet::{each_message, Fleet};
use mio::{Events, Token, Waker};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WAKE: Token = Token(usize::MAX);

pub fn run(args: &Args) {
    let count: usize = args.number("conns", 5000);
    let websocket = args.text("kind", "http") == "ws";
    let path = args.text("path", "/");
    let mut fleet = Fleet::new(args.addr());
    let start = Instant::now();
    match websocket {
        true => fleet.upgrade(count, path),
        false => fleet.get(count, path),
    }
    println!(r#"{{"ready":{count},"seconds":{:.3}}}"#, start.elapsed().as_secs_f64());
    std::io::stdout().flush().ok();

    let over = watch_stdin(&fleet);
    let mut events = Events::with_capacity(1024);
    while !over.load(Ordering::SeqCst) {
        fleet.turn(&mut events, Duration::from_secs(5), |connection| {
            if websocket {
                each_message(connection, |_| {});
            }
        });
    }
    let closed = fleet.connections.iter().filter(|connection| connection.closed).count();
    println!(r#"{{"closed":{closed}}}"#);
}

fn watch_stdin(fleet: &Fleet) -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let flag = over.clone();
    let waker = Waker::new(fleet.poll.registry(), WAKE).unwrap_or_else(|e| fail(&format!("waker: {e}")));
    std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        flag.store(true, Ordering::SeqCst);
        waker.wake().ok();
    });
    over
}
