//! Request bodies: whole whatever their size, their framing and the way they were cut, in memory or in a file.

mod support;

use std::fmt::Write as _;
use std::hash::Hasher;
use support::{Asked, Client, Setup, get, pattern, serve};

const KIB: usize = 1024;
/// Around what the reactor reads at a time, reads directly, sets aside at first and keeps in memory.
const SIZES: [usize; 16] = [
    1,
    2 * KIB,
    16 * KIB - 1,
    16 * KIB,
    16 * KIB + 1,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    100 * KIB,
    128 * KIB,
    300 * KIB,
    512 * KIB - 1,
    512 * KIB,
    512 * KIB + 1,
    1024 * KIB,
    3 * 1024 * KIB,
];

/// Bytes that tell when some are lost, doubled or moved.
fn body_of(size: usize) -> Vec<u8> {
    let mut body = pattern().repeat(size / pattern().len() + 1);
    body.truncate(size);
    body
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Says how long the body was, whether it lay in a file, and what was in it.
fn describe(asked: Asked) -> String {
    format!("{} {} {} {}", asked.path, asked.body.len(), asked.spilled, sum(&asked.body))
}

fn expected(path: &str, body: &[u8], spilled: bool) -> String {
    format!("{path} {} {spilled} {}", body.len(), sum(body))
}

fn post(path: &str, length: usize) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

fn chunked(path: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut head = std::mem::take(&mut request).into_bytes();
    for chunk in body.chunks(size) {
        write!(request, "{:x}\r\n", chunk.len()).unwrap();
        head.extend_from_slice(std::mem::take(&mut request).as_bytes());
        head.extend_from_slice(chunk);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"0\r\n\r\n");
    head
}

fn send_in_pieces(client: &mut Client, bytes: &[u8], size: usize) {
    bytes.chunks(size).for_each(|piece| client.send(piece));
}

#[test]
fn bodies_of_a_known_length_arrive_whole() {
    let server = serve(describe);
    for size in SIZES {
        let body = body_of(size);
        let expected = expected("/", &body, size > 512 * KIB);
        let mut client = server.connect();
        // In one piece with the head, in pieces, and with a request behind it each time.
        for piece in [usize::MAX, 10_000, 64 * KIB] {
            let request = [post("/", size), body.clone(), get("/next").into_bytes()].concat();
            send_in_pieces(&mut client, &request, piece.min(request.len()));
            assert_eq!(client.answer().text(), expected, "{size} bytes in pieces of {piece}");
            assert_eq!(client.answer().text(), format!("/next 0 false {}", sum(b"")));
        }
    }
}

/// The leave to send tells that the reactor has read the head and nothing else, so that the body, and what follows it in
/// the same segment, is all that it finds next.
#[test]
fn a_body_that_begins_with_a_read_of_its_own_is_read_no_further_than_its_end() {
    let server = serve(describe);
    for size in SIZES {
        let body = body_of(size);
        let mut client = server.connect();
        for last in [1, 2 * KIB, size] {
            let head = String::from_utf8(post("/", size)).unwrap();
            client.send(head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"));
            assert_eq!(client.answer().status, 100);
            let (begin, end) = body.split_at(size.saturating_sub(last));
            client.send(begin);
            let next = b"POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
            client.send([end, next].concat());
            assert_eq!(client.answer().text(), expected("/", &body, size > 512 * KIB), "{size}, {last}");
            assert_eq!(client.answer().text(), expected("/next", b"abc", false), "{size}, {last}");
        }
    }
}

#[test]
fn chunked_bodies_arrive_whole() {
    let server = serve(describe);
    for size in SIZES {
        let body = body_of(size);
        let mut client = server.connect();
        for chunk in [1000, 64 * KIB, 300 * KIB] {
            client.send([chunked("/", &body, chunk), get("/next").into_bytes()].concat());
            assert_eq!(client.answer().text(), expected("/", &body, size > 512 * KIB), "{size}, {chunk}");
            assert_eq!(client.answer().text(), expected("/next", b"", false));
        }
    }
}

#[test]
fn what_fits_no_memory_goes_to_a_file() {
    for memory in [0, 1, 1000] {
        let setup = Setup::new().http(|http| http.body_memory = memory);
        let server = setup.serve(describe);
        let mut client = server.connect();
        for size in [0, 1, 2, 999, 1000, 1001, 70_000] {
            let body = body_of(size);
            let expected = expected("/", &body, size > memory);
            client.send([post("/", size), body.clone()].concat());
            assert_eq!(client.answer().text(), expected, "{size} bytes, {memory} of memory");
            client.send(chunked("/", &body, 700));
            assert_eq!(client.answer().text(), expected, "{size} bytes in chunks, {memory} of memory");
        }
    }
}

#[test]
fn many_clients_send_bodies_at_once() {
    let server = Setup::new().threads(3).serve(describe);
    let address = server.address();
    let clients: Vec<_> = (0..6)
        .map(|index| {
            std::thread::spawn(move || {
                let mut client = Client::tcp(address);
                for round in 0..6 {
                    let body = body_of(200_000 * round + 7777 * index);
                    let request = match (round + index) % 2 {
                        0 => [post("/", body.len()), body.clone()].concat(),
                        _ => chunked("/", &body, 50_000),
                    };
                    send_in_pieces(&mut client, &request, 30_011);
                    assert_eq!(client.answer().text(), expected("/", &body, body.len() > 512 * KIB));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// However a stream of requests is cut, the application sees the same.
#[test]
fn the_cuts_between_segments_do_not_matter() {
    let server = serve(describe);
    let mut stream = Vec::new();
    let mut answers = Vec::new();
    for index in 0..40 {
        let body = body_of(index * index * 40);
        let path = format!("/{index}");
        match index % 3 {
            0 => {
                stream.extend_from_slice(get(&path).as_bytes());
                answers.push(expected(&path, b"", false));
                continue;
            }
            1 => stream.extend_from_slice(&[post(&path, body.len()), body.clone()].concat()),
            _ => stream.extend_from_slice(&chunked(&path, &body, 900)),
        }
        answers.push(expected(&path, &body, false));
    }
    let mut random = 88_172_645_463_325_252_u64;
    for most in [150, 3000, 100_000] {
        let mut client = server.connect();
        let mut rest = stream.as_slice();

        while !rest.is_empty() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (piece, after) = rest.split_at((1 + random as usize % most).min(rest.len()));
            client.send(piece);
            rest = after;
        }
        for answer in &answers {
            assert_eq!(client.answer().text(), *answer);
        }
    }
}
