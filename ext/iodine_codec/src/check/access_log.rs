//! What must hold for the lines of the request log.

use super::Tree;
use crate::access_log::{Dates, Entry, Format, Template};
use crate::http::head::RequestLine;
use crate::http::{HeaderSpan, RequestHead, Scheme, Span, Version, request_id};
use crate::json::Rules;
use std::time::Duration;

/// Lines: `data` is a template, and behind the first line feed the parts of a request between bytes of 0xff, whatever bytes
/// they are made of. A line is one line, and whoever reads it finds in each field what the client sent, and nothing else.
pub fn access_log(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (template, rest) = data.split_at(end);
    let mut parts = rest.get(1..).unwrap_or_default().split(|&byte| byte == 0xff);
    let [method, path, query, host, referer, agent] =
        std::array::from_fn(|_| parts.next().unwrap_or_default());
    let head = head_of(method, path, query, &[("host", host), ("Referer", referer), ("user-agent", agent)]);
    let dates = Dates::new(1_500_000_000);
    let client = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let mut entry = Entry {
        client: &client,
        head: Some(&head),
        scheme: Scheme::Http,
        request_id: Some(host),
        dates: &dates,
        micros_of_second: 1_002,
        status: 200,
        bytes: data.len() as u64,
        duration: Duration::from_micros(4_711),
    };
    for head in [entry.head, None] {
        entry.head = head;
        check_json(&written(&Format::Json, &entry), &entry);
        let line = written(&Format::Iodine, &entry);
        check_text(line.strip_suffix(b"\r").expect("iodine's lines end with CRLF"));
        assert_eq!(line.iter().filter(|&&byte| byte == b'"').count(), 2);
        for name in ["common", "combined"] {
            let format = Format::parse(name).expect("a known format");
            check_template(&format, &entry);
        }
        let template = String::from_utf8_lossy(template);
        if let Ok(format @ Format::Template(_)) = Format::parse(&template) {
            check_template(&format, &entry);
        }
    }
    check_id(host);
}

/// A head of parts that no decoder would let pass.
fn head_of(method: &[u8], path: &[u8], query: &[u8], headers: &[(&str, &[u8])]) -> RequestHead {
    let mut bytes = Vec::new();
    let mut add = |part: &[u8]| {
        let start = bytes.len();
        bytes.extend_from_slice(part);
        start..bytes.len()
    };
    let line = [add(method), add(path), add(query)];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (add(name.as_bytes()), add(value))).collect();
    let span = |range: std::ops::Range<usize>| Span::of(&bytes, bytes.get(range).unwrap_or_default());
    let [method, path, query] = line.map(span);
    let line =
        RequestLine { version: Version::Http10, method, path, query, target: path, ..RequestLine::default() };
    let headers = headers
        .into_iter()
        .map(|(name, value)| HeaderSpan { name: span(name), value: span(value) })
        .collect();
    RequestHead::new(bytes.clone(), line, headers)
}

/// The line without its line feed, of which there is one.
fn written(format: &Format, entry: &Entry<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    format.write(&mut out, entry);
    let line = out.strip_prefix(b"before").and_then(|line| line.strip_suffix(b"\n"));
    let line = line.expect("a line is appended, and ends").to_vec();
    assert!(!line.contains(&b'\n'), "a line is one line");
    line
}

fn check_text(line: &[u8]) {
    assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "a line is printable ASCII");
}

/// Reads a line as somebody who knows the template does: each field up to the byte that ends it.
fn check_template(format: &Format, entry: &Entry<'_>) {
    let Format::Template(template) = format else { return };
    let line = written(format, entry);
    let own = Template::own_text(template);
    if own.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        check_text(&line);
    }
    let mut rest = &line[..];
    for (before, stop, sent) in template.pieces(entry) {
        rest = rest.strip_prefix(before.as_bytes()).expect("the template's own text stays");
        let field = match stop {
            0 => return,
            b'\n' => rest,
            stop => rest.split(|&byte| byte == stop).next().unwrap_or_default(),
        };
        rest = rest.get(field.len()..).unwrap_or_default();
        let expected = if sent.is_empty() { b"-".to_vec() } else { sent };
        assert_eq!(unescaped(field), expected, "a field holds what was sent, and no more");
    }
}

fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&byte, rest)) = text.split_first() {
        text = rest;
        match byte {
            b'\\' => {
                let digits = text.strip_prefix(b"x").and_then(|text| text.get(..2)).expect("an escape");
                let digits = std::str::from_utf8(digits).expect("digits");
                out.push(u8::from_str_radix(digits, 16).expect("digits"));
                text = text.get(3..).unwrap_or_default();
            }
            b'"' => panic!("a quote within a field"),
            byte => out.push(byte),
        }
    }
    out
}

fn check_json(line: &[u8], entry: &Entry<'_>) {
    assert!(std::str::from_utf8(line).is_ok(), "JSON is UTF-8");
    let Ok(Tree::Object(pairs)) = Tree::parse(line, &Rules::STRICT) else { panic!("a line is an object") };
    let known = |value: Option<&[u8]>| match value {
        Some(bytes) => Tree::Text(String::from_utf8_lossy(bytes).into_owned().into_bytes()),
        None => Tree::Null,
    };
    let head = entry.head;
    let expected = [
        ("time", known(Some(b"2017-07-14T02:40:00.001002Z"))),
        ("client", known(Some(entry.client.as_bytes()))),
        ("method", known(head.map(RequestHead::method))),
        ("scheme", known(head.map(|_| &b"http"[..]))),
        ("host", known(head.and_then(RequestHead::host))),
        ("path", known(head.map(RequestHead::path))),
        ("query", known(head.map(RequestHead::query))),
        ("version", known(head.map(|_| &b"HTTP/1.0"[..]))),
        ("referer", known(head.and_then(|head| head.header("referer")))),
        ("user_agent", known(head.and_then(|head| head.header("user-agent")))),
        ("request_id", known(entry.request_id)),
        ("status", Tree::Integer(200)),
        ("bytes", Tree::Integer(entry.bytes as i64)),
        ("duration_us", Tree::Integer(4_711)),
    ];
    let expected = expected.map(|(key, value)| (Tree::Text(key.as_bytes().to_vec()), value));
    assert_eq!(pairs, expected);
}

/// An id that is taken from somebody needs no escapes anywhere.
fn check_id(id: &[u8]) {
    let head = head_of(b"GET", b"/", b"", &[("X-Request-Id", id)]);
    if let Some(id) = request_id::given(&head) {
        assert!(id.iter().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>'%&;,".contains(byte)));
        assert!((1..=request_id::LONGEST).contains(&id.len()));
    }
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    answer.extend_from_slice(id);
    let before = answer.clone();
    request_id::announce(&mut answer, b"an-id");
    let told = [b"HTTP/1.1 200 OK\r\nx-request-id: an-id\r\n", id].concat();
    assert!(answer == told || answer == before);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_what_was_sent() {
        for data in [
            &b""[..],
            b"%{client} %{path}?%{query} %{status}\nGET\xff/a b?c\xffd=\"e\"\xffhost\xffreferer\xff\x1b[1m\xff::1",
            b"'%{user_agent}'|%{referer}|%{header:host}\n\xff\xff\xff|'\xff||\\x7C\xff''",
            b"%{host}%{path}x%{method}\\%{target}\nx\xffx\\\xff\xff\xffx",
            "%{path}ä%{query}%%%{host}\na\u{e4}%\u{a5}b%\u{e4}".as_bytes(),
            b"%{host}-%{query}-%{version}-%{scheme}\n",
            b"[%{time}] %{duration_ms}ms %{duration_us}us\n",
            b"%{\n\r\n\xff\0\xff\xc3\xff\xed\xa0\x80\xff\xf0\x9f",
        ] {
            access_log(data);
        }
    }
}
