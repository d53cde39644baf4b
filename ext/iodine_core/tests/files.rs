//! Static files by the reactor: in their place among the answers of the application, and without it.

mod support;

use iodine_core::command::Command;
use iodine_core::static_files::{Rule, StaticConfig, StaticFiles};
use iodine_core::{HttpConfig, Notice};
use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};
use support::{Asked, Said, Server, Setup, answer, get, pattern};
use tempfile::TempDir;

const LARGE: usize = 8 * 1024 * 1024;
/// For so long a file counts as just changed for certain. The machine may stand still for longer.
const YOUNG: Duration = Duration::from_millis(900);
/// How long what is known of other files is believed.
const BELIEVED: Duration = Duration::from_secs(1);

fn large() -> Vec<u8> {
    let mut bytes = pattern().repeat(LARGE / pattern().len() + 1);
    bytes.truncate(LARGE);
    bytes
}

/// A folder of files that were changed a while ago, so that they are believed.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| write(folder.path(), name, content, 100));
    folder
}

fn write(folder: &Path, name: &str, content: &[u8], seconds_ago: u64) {
    fs::write(folder.join(name), content).unwrap();
    let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds_ago)).unwrap();
}

fn files(folder: &TempDir) -> impl FnOnce(&mut HttpConfig) {
    let config = StaticConfig {
        folder: folder.path().into(),
        hidden: false,
        links_out: false,
        rules: vec![Rule::new("*.css", vec![("cache-control".into(), "no-cache".into())])],
    };
    let files = Arc::new(StaticFiles::new(config));
    move |http| http.files = Some(files)
}

fn serve(folder: &TempDir) -> Server {
    Setup::new().http(files(folder)).serve(|asked: Asked| format!("app {}", asked.path))
}

#[test]
fn files_are_served_and_everything_else_reaches_the_application() {
    let large = large();
    let folder = folder(&[("a.txt", b"a"), ("index.html", b"i"), ("style.css", b"c"), ("large", &large)]);
    let server = serve(&folder);
    let mut client = server.connect();
    let reply = client.get("/a.txt?x=y");
    assert_eq!((reply.text(), reply.header("content-type")), ("a", Some("text/plain")));
    assert_eq!(reply.header("cache-control"), Some("max-age=3600"));
    assert_eq!(client.get("/style.css").header("cache-control"), Some("no-cache"));
    assert_eq!(client.get("/").text(), "i");
    assert_eq!(client.get("/b.txt").text(), "app /b.txt");
    assert!(client.get("/large").body == large);
    client.send("PUT /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer().text(), "app /a.txt");
    client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer().text(), "a");
    client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.answer().text(), "app /a.txt");
}

#[test]
fn pipelined_answers_keep_their_order() {
    let large = large();
    let folder = folder(&[("a.txt", b"file"), ("large", &large)]);
    let server = serve(&folder);
    let mut client = server.connect();
    let wanted = ["/1", "/a.txt", "/a.txt", "/2", "/3", "/large", "/a.txt", "/4", "/large"];
    for _ in 0..20 {
        client.send(wanted.map(get).concat());
        for path in wanted {
            let reply = client.answer();
            match path {
                "/a.txt" => assert_eq!(reply.text(), "file"),
                "/large" => assert!(reply.body == large),
                _ => assert_eq!(reply.text(), format!("app {path}")),
            }
        }
    }
}

#[test]
fn a_file_waits_for_the_answer_before_it() {
    let folder = folder(&[("a.txt", b"file")]);
    let mut server = Setup::new().threads(0).http(files(&folder)).serve(|_| "");
    let mut client = server.connect();
    client.send(get("/slow") + &get("/a.txt") + &get("/next"));
    let request = server.request();
    client.expect_silence(Duration::from_millis(50));
    assert!(answer(&request, Said::from("slow")).is_none());
    request.conn.flush();
    assert_eq!(client.answer().text(), "slow");
    assert_eq!(client.answer().text(), "file");
    let request = server.request();
    assert_eq!(request.head.path(), b"/next");
    answer(&request, Said::from("next"));
    request.conn.flush();
    assert_eq!(client.answer().text(), "next");
}

#[test]
fn a_file_that_is_gone_when_its_turn_comes_is_for_the_application() {
    let folder = folder(&[]);
    let mut server = Setup::new().threads(0).http(files(&folder)).serve(|_| "");
    let (_client, request) = loop {
        // Changed just now: it is looked for each time.
        let begun = Instant::now();
        fs::write(folder.path().join("young.txt"), "file").unwrap();
        let mut client = server.connect();
        client.send(get("/slow") + &get("/young.txt"));
        let request = server.request();
        if begun.elapsed() < YOUNG {
            break (client, request);
        }
        std::thread::sleep(BELIEVED);
    };
    fs::remove_file(folder.path().join("young.txt")).unwrap();
    answer(&request, Said::from("slow"));
    request.conn.flush();
    let request = server.request();
    assert_eq!(request.head.path(), b"/young.txt");
}

#[test]
fn no_application_is_needed() {
    let folder = folder(&[("a.txt", b"file"), ("404.html", b"not here")]);
    let mut setup = Setup::new().threads(0).http(files(&folder));
    setup.http.files_only = true;
    let server = setup.serve(|_| "");
    let mut client = server.connect();
    assert_eq!(client.get("/a.txt").text(), "file");
    let reply = client.get("/b");
    assert_eq!((reply.status, reply.text()), (404, "not here"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    client.send("POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer().status, 404);
    assert_eq!(client.get("/404.html").status, 200);
}

#[test]
fn the_connection_ends_where_the_client_or_the_version_says() {
    let large = large();
    let folder = folder(&[("a.txt", b"file"), ("large", &large)]);
    let server = serve(&folder);
    for path in ["/a.txt", "/large"] {
        for head in [
            format!("GET {path} HTTP/1.0\r\n\r\n"),
            get(path).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
        ] {
            let mut client = server.connect();
            client.send(head);
            let reply = client.answer();
            assert_eq!(reply.header("connection"), Some("close"));
            assert!(reply.body == if path == "/large" { &large[..] } else { b"file" });
            client.expect_end();
        }
    }
    // What follows is not served, and does not cost the answer (RFC 9112 section 9.6).
    let mut client = server.connect();
    client.send(get("/a.txt").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n") + &get("/a.txt"));
    assert_eq!(client.answer().text(), "file");
    client.expect_end();
    // Half closed.
    let mut client = server.connect();
    client.send(get("/1") + &get("/large") + &get("/a.txt"));
    client.finish();
    assert_eq!(client.answer().text(), "app /1");
    assert!(client.answer().body == large);
    assert_eq!(client.answer().text(), "file");
    client.expect_end();
}

#[test]
fn a_server_that_ends_finishes_a_file_and_says_so() {
    let large = large();
    let folder = folder(&[("large", &large)]);
    let server = serve(&folder);
    let mut client = server.connect();
    client.take_little();
    client.send(get("/large"));
    let first = client.read(1).unwrap();
    server.handle.send(Command::Shutdown(Instant::now() + support::PATIENCE));
    client.give_back(first);
    assert!(client.answer().body == large);
    client.expect_end();
    assert!(matches!(server.notice(), Notice::Drained));
}

#[test]
fn one_who_does_not_read_stops_the_pipeline_and_is_given_up_in_time() {
    let large = large();
    let folder = folder(&[("large", &large), ("a.txt", b"file")]);
    let (sender, conns) = mpsc::channel();
    let setup =
        Setup::new().http(files(&folder)).http(|http| http.write_timeout = Duration::from_millis(150));
    let server = setup.serve(move |asked: Asked| {
        sender.send(asked.conn.clone()).unwrap();
        "app"
    });
    let mut client = server.connect();
    client.take_little();
    client.send(get("/app") + &(get("/large") + &get("/a.txt")).repeat(200));
    let conn = conns.recv_timeout(support::PATIENCE).unwrap();
    support::wait_until("the end of it", || (!conn.is_open()).then_some(()));
    client.expect_cut();
    assert_eq!(server.connect().get("/a.txt").text(), "file");
}

#[test]
fn a_flood_of_pipelined_requests_is_answered_in_full() {
    let folder = folder(&[("a.txt", &[b'x'; 1000])]);
    let server = serve(&folder);
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(get("/a.txt").repeat(2000));
        for _ in 0..2000 {
            assert_eq!(client.answer().body.len(), 1000);
        }
    }
}

#[test]
fn a_file_that_shrinks_breaks_the_connection_off() {
    let large = large();
    let folder = folder(&[("large", &large)]);
    let server = serve(&folder);
    let mut client = server.connect();
    client.take_little();
    client.send(get("/large") + &get("/app"));
    let first = client.read(1).unwrap();
    fs::File::options().write(true).open(folder.path().join("large")).unwrap().set_len(10_000).unwrap();
    client.give_back(first);
    let received = client.read_until_cut();
    assert!(received.len() < LARGE);
    let body = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    // What the kernel had taken of the part that is gone it may send as zeros: those are the file's own pages.
    assert_eq!(received[body..body + 4096], large[..4096]);
}

#[test]
fn a_file_that_is_replaced_goes_out_as_it_was() {
    let large = large();
    let folder = folder(&[("large", &large)]);
    let server = serve(&folder);
    let mut client = server.connect();
    client.take_little();
    client.send(get("/large"));
    let first = client.read(1).unwrap();
    write(folder.path(), "new", b"another", 50);
    fs::rename(folder.path().join("new"), folder.path().join("large")).unwrap();
    client.give_back(first);
    assert!(client.answer().body == large);
    let fresh = support::wait_until("the new file", || {
        let reply = server.connect().get("/large");
        (reply.body.len() < LARGE).then_some(reply)
    });
    assert_eq!(fresh.text(), "another");
}

#[test]
fn what_has_just_changed_is_looked_at_each_time() {
    let folder = folder(&[]);
    let server = serve(&folder);
    let mut client = server.connect();
    for round in 0..10 {
        let begun = Instant::now();
        fs::write(folder.path().join("a.txt"), format!("round {round}")).unwrap();
        assert_eq!(client.get("/a.txt").text(), format!("round {round}"));
        if begun.elapsed() >= YOUNG {
            std::thread::sleep(BELIEVED);
        }
    }
    fs::remove_file(folder.path().join("a.txt")).unwrap();
    assert_eq!(client.get("/a.txt").text(), "app /a.txt");
}

#[test]
fn encoded_forms_count_while_they_are_no_older() {
    let folder = folder(&[("a.css", b"plain"), ("a.css.gz", b"gzip"), ("b.js.br", b"brotli")]);
    write(folder.path(), "a.css.br", b"stale", 200);
    let server = serve(&folder);
    let mut client = server.connect();
    let mut ask = |path: &str, accept: &str| {
        client.send(get(path).replace("\r\n\r\n", &format!("\r\nAccept-Encoding: {accept}\r\n\r\n")));
        client.answer()
    };
    let reply = ask("/a.css", "gzip, br");
    assert_eq!((reply.text(), reply.header("content-encoding")), ("gzip", Some("gzip")));
    assert_eq!(
        (reply.header("vary"), reply.header("content-type")),
        (Some("accept-encoding"), Some("text/css"))
    );
    let plain = ask("/a.css", "br");
    assert_eq!((plain.text(), plain.header("vary")), ("plain", Some("accept-encoding")));
    assert_ne!(plain.header("etag"), reply.header("etag"));
    // As in 0.7, the plain file need not be there.
    assert_eq!(ask("/b.js", "br").text(), "brotli");
    assert_eq!(ask("/b.js", "gzip").text(), "app /b.js");
    assert_eq!(ask("/a.css.gz", "gzip").header("content-encoding"), None);
}

#[test]
fn thousands_of_files_leave_few_descriptors_open() {
    let count = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let folder = folder(&[]);
    let content = vec![b'x'; 40_000];
    (0..600).for_each(|index| write(folder.path(), &format!("{index}.bin"), &content, 100));
    let server = serve(&folder);
    let mut client = server.connect();
    let before = count();
    for _ in 0..2 {
        (0..600).for_each(|index| assert_eq!(client.get(&format!("/{index}.bin")).body.len(), 40_000));
    }
    // Other tests of this process have theirs, too.
    assert!(count() < before + 256 + 150, "{} after {before}", count());
}
