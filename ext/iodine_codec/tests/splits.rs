//! However a stream is cut into reads, it means the same; and whatever goes in, nothing panics or leaks out.

mod table;

use iodine_codec::check::{self, Event, TIGHT, trace};
use iodine_codec::http1::{BodyLength, Limits, chunk};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use table::{TABLE, outcome};

/// All cuts in two, all single bytes, under generous and under tight limits; the answer must not change.
fn assert_same_however_cut(stream: &[u8]) {
    for limits in [Limits::default(), TIGHT] {
        let whole = trace([stream], &limits);
        assert_eq!(trace(stream.chunks(1), &limits), whole, "byte by byte: {}", stream.escape_ascii());
        for at in 0..=stream.len() {
            let (first, second) = stream.split_at(at);
            assert_eq!(trace([first, second], &limits), whole, "cut at {at}: {}", stream.escape_ascii());
        }
    }
}

#[test]
fn the_table_cut_anywhere() {
    for (_, stream, _) in TABLE {
        assert_same_however_cut(stream);
    }
}

#[test]
fn pairs_of_the_table_cut_anywhere() {
    let ends = |outcome: &&str| outcome.ends_with('.');
    for (_, first, outcome) in TABLE.iter().filter(|(.., outcome)| ends(outcome)).step_by(3) {
        for (_, second, expected) in
            TABLE.iter().step_by(5).filter(|(_, stream, _)| !stream.starts_with(b"\r"))
        {
            let stream = [*first, *second].concat();
            assert_same_however_cut(&stream);
            let pair = [*outcome, *expected].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            assert_eq!(self::outcome(&trace([&stream[..]], &Limits::default())), pair.join(" / "));
        }
    }
}

#[test]
fn the_table_holds_the_invariants() {
    for (_, stream, _) in TABLE {
        check::head(stream);
        check::chunked(stream);
        check::framing(stream);
        check::response(stream);
    }
}

/// A request as a client would mean it.
#[derive(Clone, Debug)]
struct Meant {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
    close: bool,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunks { chunks: Vec<(Vec<u8>, String)>, trailers: Vec<(String, String)> },
}

impl Meant {
    fn encode(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut line = |name: &str, value: &str| out.extend(format!("{name}:{value}\r\n").into_bytes());
        line("hOST", " example.com:80\t");
        self.headers.iter().for_each(|(name, value)| line(name, value));
        if self.close {
            line("Connection", "x,\tClose");
        }
        match &self.body {
            Body::None => line("A", ""),
            Body::Length(bytes) => line("Content-Length", &bytes.len().to_string()),
            Body::Chunks { .. } => line("transfer-encoding", " Chunked"),
        }
        out.extend(b"\r\n");
        self.body.encode(&mut out);
        out
    }

    fn expected(&self) -> Vec<Event> {
        let body = self.body.bytes();
        let mut headers = vec![("hOST", "example.com:80")];
        headers.extend(self.headers.iter().map(|(name, value)| (&**name, value.trim_matches([' ', '\t']))));
        if self.close {
            headers.push(("Connection", "x,\tClose"));
        }
        let length = body.len().to_string();
        let (last, length) = match &self.body {
            Body::None => (("A", ""), BodyLength::Empty),
            Body::Length(bytes) if bytes.is_empty() => (("Content-Length", "0"), BodyLength::Empty),
            Body::Length(bytes) => (("Content-Length", &*length), BodyLength::Length(bytes.len() as u64)),
            Body::Chunks { .. } => (("transfer-encoding", "Chunked"), BodyLength::Chunked),
        };
        headers.push(last);
        let head = Event::Head {
            line: format!("{} {} HTTP/1.1", self.method, self.target).into_bytes(),
            headers: headers.iter().map(|(name, value)| format!("{name}: {value}").into_bytes()).collect(),
            framing: iodine_codec::http1::Framing {
                body: length,
                keep_alive: !self.close,
                expect_continue: false,
                upgrade: false,
            },
        };
        let body = (!body.is_empty()).then_some(Event::Body(body));
        [Some(head), body, Some(Event::End)].into_iter().flatten().collect()
    }
}

impl Body {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Body::None => {}
            Body::Length(bytes) => out.extend(bytes),
            Body::Chunks { chunks, trailers } => {
                for (bytes, extension) in chunks.iter().filter(|(bytes, _)| !bytes.is_empty()) {
                    out.extend(format!("{:x}{extension}\r\n", bytes.len()).into_bytes());
                    out.extend(bytes);
                    out.extend(b"\r\n");
                }
                out.extend(b"0\r\n");
                trailers
                    .iter()
                    .for_each(|(name, value)| out.extend(format!("{name}:{value}\r\n").into_bytes()));
                out.extend(b"\r\n");
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Body::None => Vec::new(),
            Body::Length(bytes) => bytes.clone(),
            Body::Chunks { chunks, .. } => chunks.iter().flat_map(|(bytes, _)| bytes.clone()).collect(),
        }
    }
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = "X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}";
    let value = "[ \t]{0,2}([!-~\u{e4}\u{20ac}]{1,9}[ \t]){0,5}[!-~]{0,9}[ \t]{0,2}";
    vec((name, value), 0..24)
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = || vec(any::<u8>(), 0..80);
    let extension = select(vec!["", ";a", ";a=b", " ; a = \"b;\\\"\"", " "]).prop_map(str::to_owned);
    let chunks = (vec((bytes(), extension), 0..6), headers());
    prop_oneof![
        Just(Body::None),
        bytes().prop_map(Body::Length),
        chunks.prop_map(|(chunks, trailers)| Body::Chunks { chunks, trailers }),
    ]
}

fn request(close: bool) -> impl Strategy<Value = Meant> {
    let method = "[A-Z]{1,9}|[a-z!#$%&'*+.^_`|~-]{1,9}";
    let target = "(http://[a-z.]{1,9}(:[0-9]{0,4})?)?/[!-\"$->@-~]{0,30}(\\?[!-\"$-~]{0,30})?";
    (method, target, headers(), body())
        .prop_filter("CONNECT has no body to speak of", |(method, ..)| method != "CONNECT")
        .prop_map(move |(method, target, headers, body)| Meant { method, target, headers, body, close })
}

/// Bytes that look enough like HTTP to get past the first checks.
fn almost_http() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /a?b HTTP/1.1\r\nHost: x\r\n",
        b"PUT http://h/ HTTP/1.0\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"Host: [::1]:80\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: ",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"A: b\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b";",
        b"=",
        b",",
        b"\"",
        b"\\",
        b"\0",
        b"\x7f",
        b"\xff",
        b"0\r\n",
        b"0\r\n\r\n",
        b"3\r\nabc\r\n",
        b"3;x=\"y\"\r\n",
        b"abc",
        b"ffffffffffffffff",
        b"chunked",
        b"gzip",
        b"1",
        b"#",
        b"?",
        b"HTTP/2.0",
        b"close",
    ];
    let word = prop_oneof![
        8 => select(words).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(word, 0..14).prop_map(|words| words.concat())
}

/// Cuts the stream at the given places.
fn cut<'s>(stream: &'s [u8], at: &[Index]) -> Vec<&'s [u8]> {
    let mut at: Vec<usize> = at.iter().map(|index| index.index(stream.len() + 1)).collect();
    at.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for to in at {
        pieces.push(&stream[from..to]);
        from = to;
    }
    pieces.push(&stream[from..]);
    pieces
}

proptest! {
    #[test]
    fn what_was_meant_is_what_arrives(
        requests in vec(request(false), 0..3),
        last in request(true),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let requests: Vec<Meant> = requests.into_iter().chain([last]).collect();
        let stream: Vec<u8> = requests.iter().flat_map(Meant::encode).collect();
        let expected: Vec<Event> = requests.iter().flat_map(Meant::expected).collect();
        prop_assert_eq!(&trace([&stream[..]], &Limits::default()), &expected);
        prop_assert_eq!(&trace(cut(&stream, &cuts), &Limits::default()), &expected);
        prop_assert_eq!(&trace(stream.chunks(1), &Limits::default()), &expected);
    }

    #[test]
    fn almost_http_means_the_same_however_cut(stream in almost_http(), cuts in vec(any::<Index>(), 0..6)) {
        for limits in [Limits::default(), TIGHT] {
            prop_assert_eq!(trace(cut(&stream, &cuts), &limits), trace([&stream[..]], &limits));
        }
        check::head(&stream);
        check::chunked(&stream);
        check::framing(&stream);
        check::response(&stream);
    }

    #[test]
    fn no_bytes_at_all_break_an_invariant(stream in vec(any::<u8>(), 0..200)) {
        check::head(&stream);
        check::chunked(&stream);
        check::framing(&stream);
        check::response(&stream);
    }

    #[test]
    fn chunks_survive_the_round_trip(pieces in vec(vec(any::<u8>(), 0..300), 0..8), cuts in vec(any::<Index>(), 0..8)) {
        let mut stream = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        pieces.iter().for_each(|piece| chunk::encode(&mut stream, piece));
        chunk::end(&mut stream);
        let bodies: Vec<Event> = trace(cut(&stream, &cuts), &Limits::default());
        let body = pieces.concat();
        let expected = (!body.is_empty()).then_some(Event::Body(body));
        prop_assert_eq!(&bodies[1..], &expected.into_iter().chain([Event::End]).collect::<Vec<_>>()[..]);
    }

    #[test]
    fn no_header_of_an_application_splits_a_response(
        name in prop_oneof!["[A-Za-z-]{1,20}", vec(any::<char>(), 0..8).prop_map(String::from_iter)],
        value in prop_oneof!["[ -~\t]{0,60}", "[ -~\r\n\0\t]{0,20}", vec(any::<char>(), 0..60).prop_map(String::from_iter)],
    ) {
        check::response(format!("{name}={value}").as_bytes());
        for asked in 0..64 {
            check::answer([&[asked, 0, 0, 5][..], name.as_bytes(), b"=", value.as_bytes()].concat().as_slice());
        }
    }
}
