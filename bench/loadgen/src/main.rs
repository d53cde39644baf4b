//! Load for `bench/run.rb`, and a minimal server. Every command prints one JSON object on a line of stdout
//! (`idle` prints two); what goes wrong is said on stderr with exit code 2.
//!
//!   loadgen http      --addr A [--path /] [--conns 64] [--pipeline 1] [--duration 5] [--requests N]
//!                     [--method GET] [--body-bytes N] [--headers "A: b\nC: d"]
//!   loadgen echo      --addr A [--path /echo] [--conns 64] [--size 100] [--pipeline 1] [--duration 5] [--messages N]
//!   loadgen broadcast --addr A [--path /sub] [--pub-path /pub] [--conns 1000] [--size 100]
//!                     [--window 4 | --rate R] [--duration 5]
//!   loadgen idle      --addr A [--path /] [--kind http|ws] [--conns 5000]      (until stdin ends)
//!   loadgen serve     --addr A                                                 (until killed)

mod accept_key;
mod answer;
mod args;
mod broadcast;
mod connection;
mod echo;
mod fleet;
mod frame;
mod histogram;
mod http;
mod idle;
mod serve;

fn main() {
    let argv: Vec<String> = std::env::args().skip(1).collect();
    let Some(command) = argv.first() else { args::fail("which command?") };
    let args = args::Args::parse(&argv[1..]);
    match command.as_str() {
        "http" => http::run(&args),
        "echo" => echo::run(&args),
        "broadcast" => broadcast::run(&args),
        "idle" => idle::run(&args),
        "serve" => serve::run(&args),
        other => args::fail(&format!("unknown command {other:?}")),
    }
}
