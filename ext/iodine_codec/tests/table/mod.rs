//! Whole streams of one connection and what they mean, in words: the table behind `requests.rs` and `splits.rs`.
//!
//! An outcome reads `METHOD TARGET VERSION; stays|closes[ continue]; body`, where a length or `chunked` stands before
//! the body's text, and messages are separated by ` / `. A refusal ends it: `refused Why STATUS`. `unfinished` says
//! that the stream stops inside a message.

use iodine_codec::check::Event;
use iodine_codec::http1::BodyLength;

/// What a stream means, in words.
pub fn outcome(events: &[Event]) -> String {
    let mut words = String::new();
    for event in events {
        match event {
            Event::Head { line, framing, .. } => {
                separate(&mut words, " / ");
                words += &line.escape_ascii().to_string();
                words += if framing.keep_alive { "; stays" } else { "; closes" };
                words += if framing.expect_continue { " continue" } else { "" };
                match framing.body {
                    BodyLength::Empty => {}
                    BodyLength::Length(length) => words += &format!("; {length}"),
                    BodyLength::Chunked => words += "; chunked",
                }
            }
            Event::Body(body) => words += &format!(" {}", body.escape_ascii()),
            Event::End => words += ".",
            Event::Refused(why) => {
                separate(&mut words, " / ");
                words += &format!("refused {why:?} {}", why.status());
            }
            Event::Unfinished => {
                separate(&mut words, " / ");
                words += "unfinished";
            }
        }
    }
    words
}

fn separate(words: &mut String, separator: &str) {
    if !words.is_empty() {
        words.push_str(separator);
    }
}

/// What it is about, the stream, and its outcome.
pub type Row = (&'static str, &'static [u8], &'static str);

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    // RFC 9112 section 3: request lines
    ("nothing", b"", ""),
    ("a request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1; stays."),
    ("two in a row", b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /1 HTTP/1.1; stays. / GET /2 HTTP/1.1; closes."),
    ("any token is a method", b"FOO-BAR /x HTTP/1.1\r\nHost: x\r\n\r\n", "FOO-BAR /x HTTP/1.1; stays."),
    ("empty lines before", b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1; stays. / GET / HTTP/1.1; stays."),
    ("too many empty lines", b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n", "refused NotARequest 400"),
    ("only empty lines", b"\r\n\r\n\r", ""),
    ("a bare LF before", b"\nGET / HTTP/1.1\r\n", "refused NotARequest 400"),
    ("a bare CR before", b"\rGET / HTTP/1.1\r\n", "refused NotARequest 400"),
    ("a blank before", b" GET / HTTP/1.1\r\n", "refused NotARequest 400"),
    ("NUL before", b"\0GET / HTTP/1.1\r\n", "refused NotARequest 400"),
    ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "refused NotARequest 400"),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused UnsupportedVersion 505"),
    ("a method that looks like a response", b"HTTP/1.1 200 OK\r\n\r\n", "refused BadRequestLine 400"),
    ("a method that starts like one", b"HTTPS / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTPS / HTTP/1.1; stays."),
    ("F-40 one word", b"BAD\r\n", "refused BadRequestLine 400"),
    ("F-40 HTTP/0.9", b"GET /\r\n", "refused BadRequestLine 400"),
    ("F-40 tabs", b"GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", "refused BadRequestLine 400"),
    ("two blanks", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadRequestLine 400"),
    ("no token", b"G@T(x) / HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadRequestLine 400"),
    ("F-39 HTTP/2.0", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "refused UnsupportedVersion 505"),
    ("F-39 HTTP/9.9", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", "refused UnsupportedVersion 505"),
    ("F-39 FOOBAR", b"GET / FOOBAR\r\nHost: x\r\n\r\n", "refused BadVersion 400"),
    ("F-39 1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0; closes."),
    ("1.0 that stays", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / HTTP/1.0; stays."),
    ("F-02 no slash", b"GET -private/secret.txt HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadTarget 400"),
    ("a fragment", b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", "refused FragmentInTarget 400"),
    ("NUL in the target", b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadTarget 400"),
    ("high bytes in the target", b"GET /\xc3\xa4\xff HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\\xc3\\xa4\\xff HTTP/1.1; stays."),
    ("absolute form", b"GET http://h:1/x?q HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://h:1/x?q HTTP/1.1; stays."),
    ("absolute form in capitals", b"GET HTTP://h HTTP/1.1\r\nHost: x\r\n\r\n", "GET HTTP://h HTTP/1.1; stays."),
    ("absolute form without Host", b"GET http://h/ HTTP/1.1\r\n\r\n", "refused HostMissing 400"),
    ("user information", b"GET http://u@h/ HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadHost 400"),
    ("asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS * HTTP/1.1; stays."),
    ("asterisk for GET", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadTarget 400"),
    ("CONNECT", b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "refused ConnectRefused 501"),
    ("half a request line", b"GET / HT", "unfinished"),
    // RFC 9112 sections 2.2 and 5: header lines
    ("half a head", b"GET / HTTP/1.1\r\nHost: x\r\n", "unfinished"),
    ("F-06 cut in the last line end", b"GET / HTTP/1.1\r\nHost: x\r\n\r", "unfinished"),
    ("F-17 LF after the request line", b"GET / HTTP/1.1\nHost: x\r\n\r\n", "refused BareLineFeed 400"),
    ("F-17 LF after a header", b"GET / HTTP/1.1\r\nHost: x\n\r\n", "refused BareLineFeed 400"),
    ("F-17 LF as the blank line", b"GET / HTTP/1.1\r\nHost: x\r\n\n", "refused BareLineFeed 400"),
    ("F-17 bare CR in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", "refused BadHeaderValue 400"),
    ("F-17 CR CR LF", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n", "refused BadHeaderValue 400"),
    ("F-17 CR CR LF as the blank line", b"GET / HTTP/1.1\r\nHost: x\r\n\r\r\n\r\n", "refused BadHeaderValue 400"),
    ("F-17 bare CR in the request line", b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", "refused BadVersion 400"),
    ("F-17 NUL in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", "refused BadHeaderValue 400"),
    ("F-17 ESC in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: \x1b[1m\r\n\r\n", "refused BadHeaderValue 400"),
    ("F-17 DEL in a value", b"GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n", "refused BadHeaderValue 400"),
    ("F-17 obs-fold", b"GET / HTTP/1.1\r\nHost: x\r\nX: 1\r\n two: 3\r\n\r\n", "refused BadHeaderName 400"),
    ("F-17 obs-fold with a tab", b"GET / HTTP/1.1\r\nHost: x\r\nX: 1\r\n\ttwo\r\n\r\n", "refused BadHeaderName 400"),
    ("a blank before the first header", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", "refused BadHeaderName 400"),
    ("a blank before the colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", "refused BadHeaderName 400"),
    ("a tab before the colon", b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n", "refused BadHeaderName 400"),
    ("a blank in a name", b"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", "refused BadHeaderName 400"),
    ("no colon", b"GET / HTTP/1.1\r\nHost: x\r\nAbc\r\n\r\n", "refused BadHeaderName 400"),
    ("no name", b"GET / HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n", "refused BadHeaderName 400"),
    ("a control byte in a name", b"GET / HTTP/1.1\r\nHost: x\r\nA\x01: c\r\n\r\n", "refused BadHeaderName 400"),
    ("a high byte in a name", b"GET / HTTP/1.1\r\nHost: x\r\nA\xff: c\r\n\r\n", "refused BadHeaderName 400"),
    ("an empty value, high bytes, tabs", b"GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB: \t\xff\tb \t\r\n\r\n", "GET / HTTP/1.1; stays."),
    ("no Host", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "refused HostMissing 400"),
    ("no headers at all", b"GET / HTTP/1.1\r\n\r\n", "refused HostMissing 400"),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "refused HostRepeated 400"),
    ("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "refused BadHost 400"),
    ("F-24 an IPv6 Host", b"GET / HTTP/1.1\r\nHost: [::1]:4001\r\n\r\n", "GET / HTTP/1.1; stays."),
    ("F-18 names of the server", b"GET / HTTP/1.1\r\nHost: x\r\nVersion: evil\r\nX_A: 1\r\n\r\n", "GET / HTTP/1.1; stays."),
    ("F-01 a repeated Upgrade", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n", "GET / HTTP/1.1; stays."),
    ("F-38 two Connection lines", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1; closes."),
    ("F-38 a list", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, keep-alive\r\n\r\n", "GET / HTTP/1.1; stays."),
    // RFC 9112 section 6: bodies
    ("F-05 two of the same size", b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a HTTP/1.1; stays. / GET /b HTTP/1.1; stays. / GET /c HTTP/1.1; stays."),
    ("F-06 a body behind the head", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcdGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1; stays; 4 abcd. / GET / HTTP/1.1; stays."),
    ("a body of line ends", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n", "POST / HTTP/1.1; stays; 4 \\r\\n\\r\\n."),
    ("half a body", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab", "POST / HTTP/1.1; stays; 4 ab / unfinished"),
    ("a body on GET", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "GET / HTTP/1.1; stays; 2 hi."),
    ("a length of 0", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "POST / HTTP/1.1; stays."),
    ("leading zeros", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 002\r\n\r\nhi", "POST / HTTP/1.1; stays; 2 hi."),
    ("a 1.0 body", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "POST / HTTP/1.0; closes; 2 hi."),
    ("F-09 CL, then TE", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\nGET /smug HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n",
        "refused LengthAndCoding 400"),
    ("F-09 TE, then CL", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "refused LengthAndCoding 400"),
    ("F-10 negative", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nGET /smug HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadContentLength 400"),
    ("F-10 a list", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 5\r\n\r\nhello", "refused BadContentLength 400"),
    ("F-10 a sign", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\nhi", "refused BadContentLength 400"),
    ("F-10 junk behind", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2x\r\n\r\nhi", "refused BadContentLength 400"),
    ("F-10 empty", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nhi", "refused BadContentLength 400"),
    ("repeated and equal", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "refused ContentLengthRepeated 400"),
    ("repeated and different", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", "refused ContentLengthRepeated 400"),
    ("too large", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 52428801\r\n\r\n", "refused BodyTooLarge 413"),
    ("huge", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", "refused BodyTooLarge 413"),
    ("F-11 xchunked", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /smug", "refused LengthAndCoding 400"),
    ("F-11 xchunked alone", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "refused BadCoding 400"),
    ("F-11 twice", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "refused BadCoding 400"),
    ("F-12 a tab behind", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\nGET /smug HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1; stays; chunked. / GET /smug HTTP/1.1; stays."),
    ("F-12 a tab behind, no chunks", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\t\r\n\r\nGET /smug HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1; stays; chunked / refused BadChunkSize 400"),
    ("F-12 parameters", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;x\r\n\r\nGET /smug HTTP/1.1\r\nHost: x\r\n\r\n", "refused BadCoding 400"),
    ("F-12 chunked is not last", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "refused BadCoding 400"),
    ("another coding", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "refused UnsupportedCoding 501"),
    ("chunked in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused CodingOnHttp10 400"),
    ("F-44 a wait", b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\nhi", "POST / HTTP/1.1; stays continue; 2 hi."),
    ("a 1.0 wait", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", "POST / HTTP/1.0; closes; 2 hi."),
    ("another expectation", b"POST / HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 2\r\n\r\nhi", "refused ExpectationFailed 417"),
    // RFC 9112 section 7.1: chunks
    ("chunks", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1; stays; chunked hello!. / GET / HTTP/1.1; stays."),
    ("F-28 no chunks", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST / HTTP/1.1; stays; chunked."),
    ("half a chunk", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "POST / HTTP/1.1; stays; chunked hel / unfinished"),
    ("F-13 trailers are no headers", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: evil\r\nCookie: a=b\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1; stays; chunked. / GET / HTTP/1.1; stays."),
    ("a bad trailer", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost : evil\r\n\r\n", "POST / HTTP/1.1; stays; chunked / refused BadTrailer 400"),
    ("F-15 the top bit", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff0\r\nhi", "POST / HTTP/1.1; stays; chunked / refused BodyTooLarge 413"),
    ("17 digits", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000002\r\nhi", "POST / HTTP/1.1; stays; chunked / refused BadChunkSize 400"),
    ("a sign", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\n", "POST / HTTP/1.1; stays; chunked / refused BadChunkSize 400"),
    ("0x", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n", "POST / HTTP/1.1; stays; chunked / refused BadChunkSize 400"),
    ("LF behind the size", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n", "POST / HTTP/1.1; stays; chunked / refused BadChunkSize 400"),
    ("no line end behind the data", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi0\r\n\r\n", "POST / HTTP/1.1; stays; chunked hi / refused BadChunkEnd 400"),
    ("F-45 extensions", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y;z=\"a;\\\"\"\r\nhello\r\n0;e\r\n\r\n", "POST / HTTP/1.1; stays; chunked hello."),
    ("F-45 blanks behind the size", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "POST / HTTP/1.1; stays; chunked hello."),
    ("LF in an extension", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;x\nhello\r\n0\r\n\r\n", "POST / HTTP/1.1; stays; chunked / refused BadChunkExtension 400"),
];
