//! The line written for each answered request: iodine's own, two that many tools read, JSON, and templates of the user.
//!
//! No byte of the client can leave its field: what could pass for something else is escaped, as `\xHH` in text and as JSON
//! says in JSON. A line is one line in any case.

mod escape;
mod template;

pub use template::{BadFormat, Template};

use crate::date::{self, Stamp};
use crate::http::{RequestHead, Scheme, Version};
use std::time::Duration;
use template::Field;

/// What a line can tell of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The client's address, or the path of the Unix socket that it came by.
    pub client: &'a str,
    /// The head of the request; `None` when there was none that could be understood.
    pub head: Option<&'a RequestHead>,
    /// How the client asked.
    pub scheme: Scheme,
    /// The request's id, where requests have one.
    pub request_id: Option<&'a [u8]>,
    /// The second of the answer.
    pub dates: &'a Dates,
    /// Microseconds behind it.
    pub micros_of_second: u32,
    /// The status of the answer.
    pub status: u16,
    /// The bytes of body sent.
    pub bytes: u64,
    /// From the request's head to the answer.
    pub duration: Duration,
}

/// The texts of a second. They cost more than the rest of a line, so a second's are made once.
#[derive(Clone, Copy, Debug)]
pub struct Dates {
    /// The second, since 1970.
    pub second: i64,
    http: Stamp,
    clf: Stamp,
    iso: Stamp,
}

impl Dates {
    /// Those of a second since 1970.
    pub fn new(second: i64) -> Dates {
        Dates { second, http: date::http(second), clf: date::clf(second), iso: date::iso(second) }
    }
}

/// How a line is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `ADDR - - [DATE] "METHOD PATH VERSION" STATUS BYTES TIME`, as in iodine 0.7.
    #[default]
    Iodine,
    /// An object for each line.
    Json,
    /// By a template. `common` and `combined` are such, too.
    Template(Template),
}

/// The Common Log Format.
const COMMON: &str = r#"%{client} - - [%{date}] "%{method} %{target} %{version}" %{status} %{size}"#;
/// The same, with what browsers tell of themselves.
const COMBINED: &str = concat!(
    r#"%{client} - - [%{date}] "%{method} %{target} %{version}" %{status} %{size}"#,
    r#" "%{referer}" "%{user_agent}""#
);

impl Format {
    /// The format of this name, or the one that a template describes.
    pub fn parse(text: &str) -> Result<Format, BadFormat> {
        Ok(match text {
            "iodine" => Format::Iodine,
            "json" => Format::Json,
            "common" => Format::Template(Template::parse(COMMON)?),
            "combined" => Format::Template(Template::parse(COMBINED)?),
            _ if text.contains('%') => Format::Template(Template::parse(text)?),
            _ => {
                return Err(BadFormat(format!(
                    "{text:?} is no log format; known are iodine, common, combined, json, and templates such as \
                     \"%{{client}} %{{path}}\""
                )));
            }
        })
    }

    /// Whether a line is not complete without the request's id.
    pub fn wants_request_id(&self) -> bool {
        matches!(self, Format::Template(template) if template.has(&Field::RequestId))
    }

    /// Appends a line, its end included.
    pub fn write(&self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        match self {
            Format::Iodine => write_iodine(out, entry),
            Format::Json => write_json(out, entry),
            Format::Template(template) => {
                template.write(out, entry);
                out.push(b'\n');
            }
        }
    }
}

impl Entry<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.head?.header(name)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }

    /// `2026-11-23T06:53:47.123456Z` (RFC 3339).
    fn write_time(&self, out: &mut Vec<u8>) {
        let mut fraction = *b".000000Z";
        let mut left = self.micros_of_second;
        for digit in fraction.iter_mut().take(7).skip(1).rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        out.extend_from_slice(&self.dates.iso);
        out.extend_from_slice(&fraction);
    }
}

fn write_iodine(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let (method, path, version) = match entry.head {
        Some(head) => (head.method(), head.path(), head.version()),
        None => (&b"-"[..], &b"-"[..], Version::Http11),
    };
    escape::quoted(out, entry.client.as_bytes(), 0);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(&entry.dates.http);
    out.extend_from_slice(b"] \"");
    escape::quoted(out, method, 0);
    out.push(b' ');
    escape::quoted(out, path, b' ');
    out.push(b' ');
    out.extend_from_slice(version.as_str().as_bytes());
    out.extend_from_slice(b"\" ");
    number(out, u64::from(entry.status));
    match entry.bytes {
        0 => out.extend_from_slice(b" -- "),
        bytes => {
            out.push(b' ');
            number(out, bytes);
            out.extend_from_slice(b"b ");
        }
    }
    number(out, entry.millis());
    out.extend_from_slice(b"ms\r\n");
}

/// The keys are always the same and in this order, but for the request's id, which is there when there is one. What is not
/// known is null.
fn write_json(out: &mut Vec<u8>, entry: &Entry<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    entry.write_time(out);
    write_member(out, b"\",\"client\":", Some(entry.client.as_bytes()));
    write_member(out, b",\"method\":", entry.head.map(RequestHead::method));
    write_member(out, b",\"scheme\":", entry.head.map(|_| entry.scheme.as_str().as_bytes()));
    write_member(out, b",\"host\":", entry.head.and_then(RequestHead::host));
    write_member(out, b",\"path\":", entry.head.map(RequestHead::path));
    write_member(out, b",\"query\":", entry.head.map(RequestHead::query));
    write_member(out, b",\"version\":", entry.head.map(|head| head.version().as_str().as_bytes()));
    write_member(out, b",\"referer\":", entry.header("referer"));
    write_member(out, b",\"user_agent\":", entry.header("user-agent"));
    if entry.request_id.is_some() {
        write_member(out, b",\"request_id\":", entry.request_id);
    }
    out.extend_from_slice(b",\"status\":");
    number(out, u64::from(entry.status));
    out.extend_from_slice(b",\"bytes\":");
    number(out, entry.bytes);
    out.extend_from_slice(b",\"duration_us\":");
    number(out, entry.micros());
    out.extend_from_slice(b"}\n");
}

/// `before` ends with the key.
fn write_member(out: &mut Vec<u8>, before: &[u8], value: Option<&[u8]>) {
    out.extend_from_slice(before);
    match value {
        Some(value) => escape::json(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Limits, RequestDecoder, Step};

    const REQUEST: &str = "GET /cl?a=b HTTP/1.1\r\nHost: x.example:80\r\nReferer: http://r/?\"\r\n\
                           User-Agent: Browser 1.0 (\\)\r\nX-Request-Id: raw\r\nAccept: */*\r\n\r\n";

    fn head(text: &str) -> RequestHead {
        match RequestDecoder::new().decode(text.as_bytes(), &Limits::default()) {
            Ok((_, Step::Head(request))) => request.head,
            other => panic!("{other:?}"),
        }
    }

    fn written(format: &str, request: &str, change: impl FnOnce(&mut Entry<'_>)) -> String {
        let (head, dates) = (head(request), Dates::new(1_795_416_827));
        let mut entry = Entry {
            client: "127.0.0.1",
            head: Some(&head),
            scheme: Scheme::Https,
            request_id: None,
            dates: &dates,
            micros_of_second: 42,
            status: 200,
            bytes: 3,
            duration: Duration::from_micros(1_999),
        };
        change(&mut entry);
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(&mut out, &entry);
        String::from_utf8(out).unwrap()
    }

    fn line(format: &str) -> String {
        written(format, REQUEST, |_| ())
    }

    #[test]
    fn the_line_reads_as_in_iodine_0_7() {
        let expected = "127.0.0.1 - - [Mon, 23 Nov 2026 06:53:47 GMT] \"GET /cl HTTP/1.1\" 200 3b 1ms\r\n";
        assert_eq!(line("iodine"), expected);
    }

    #[test]
    fn no_bytes_are_two_dashes_or_one() {
        let none = |entry: &mut Entry<'_>| (entry.bytes, entry.duration) = (0, Duration::from_millis(12));
        assert!(written("iodine", REQUEST, none).ends_with("\" 200 -- 12ms\r\n"));
        assert!(written("common", REQUEST, none).ends_with("\" 200 -\n"));
        assert_eq!(written("%{bytes} %{size} %{duration_us}", REQUEST, none), "0 - 12000\n");
        let most = |entry: &mut Entry<'_>| (entry.bytes, entry.duration) = (u64::MAX, Duration::MAX);
        assert!(
            written("iodine", REQUEST, most).ends_with(" 18446744073709551615b 18446744073709551615ms\r\n")
        );
    }

    #[test]
    fn lines_that_many_tools_read() {
        let common = "127.0.0.1 - - [23/Nov/2026:06:53:47 +0000] \"GET /cl?a=b HTTP/1.1\" 200 3";
        assert_eq!(line("common"), format!("{common}\n"));
        assert_eq!(line("combined"), format!("{common} \"http://r/?\\x22\" \"Browser 1.0 (\\x5C)\"\n"));
        let plain = "HEAD / HTTP/1.0\r\nReferer:\r\n\r\n";
        assert!(written("combined", plain, |_| ()).ends_with("\"HEAD / HTTP/1.0\" 200 3 \"-\" \"-\"\n"));
    }

    #[test]
    fn json() {
        let expected = concat!(
            r#"{"time":"2026-11-23T06:53:47.000042Z","client":"127.0.0.1","method":"GET","scheme":"https","#,
            r#""host":"x.example:80","path":"/cl","query":"a=b","version":"HTTP/1.1","referer":"http://r/?\"","#,
            r#""user_agent":"Browser 1.0 (\\)","status":200,"bytes":3,"duration_us":1999}"#
        );
        assert_eq!(line("json"), format!("{expected}\n"));
        let named = written("json", REQUEST, |entry| entry.request_id = Some(b"id"));
        assert!(named.contains(r#","request_id":"id","status":"#));
    }

    #[test]
    fn templates() {
        for (template, expected) in [
            ("%{client}", "127.0.0.1"),
            ("%{time}", "2026-11-23T06:53:47.000042Z"),
            ("[%{date}] %{http_date}", "[23/Nov/2026:06:53:47 +0000] Mon, 23 Nov 2026 06:53:47 GMT"),
            ("%{method} %{scheme}://%{host}%{path}?%{query}", "GET https://x.example:80/cl?a=b"),
            ("%{target} %{version} %{status}", "/cl?a=b HTTP/1.1 200"),
            ("%{bytes}/%{size}", "3/3"),
            ("%{duration_us}us %{duration_ms}ms", "1999us 1ms"),
            ("%{request_id} %{header:x-request-id}", "- raw"),
            ("%{header:accept} %{header:nothing}", "*/* -"),
            ("%{user_agent} %{referer}", "Browser\\x201.0\\x20(\\x5C) http://r/?\\x22"),
            ("100%% ä\t%{user_agent}", "100% ä\tBrowser 1.0 (\\x5C)"),
        ] {
            assert_eq!(line(template), format!("{expected}\n"), "{template}");
        }
    }

    #[test]
    fn what_is_not_known() {
        let nothing = |entry: &mut Entry<'_>| (entry.head, entry.status) = (None, 400);
        let date = "[Mon, 23 Nov 2026 06:53:47 GMT]";
        let iodine = format!("127.0.0.1 - - {date} \"- - HTTP/1.1\" 400 3b 1ms\r\n");
        assert_eq!(written("iodine", REQUEST, nothing), iodine);
        assert!(written("combined", REQUEST, nothing).contains("] \"- - -\" 400 3 \"-\" \"-\""));
        assert_eq!(written("%{scheme}%{host}%{query}%{header:accept}", REQUEST, nothing), "----\n");
        let json = written("json", REQUEST, nothing);
        assert!(
            json.contains(
                r#""method":null,"scheme":null,"host":null,"path":null,"query":null,"version":null"#
            )
        );
    }

    #[test]
    fn f_17_nothing_escapes_its_field() {
        let client = |entry: &mut Entry<'_>| entry.client = "/tmp/a\nb\"";
        assert!(written("iodine", REQUEST, client).starts_with("/tmp/a\\x0Ab\\x22 - - ["));
        assert!(written("json", REQUEST, client).contains(r#""client":"/tmp/a\u000Ab\"","#));
        let path = "GET /\"\\\u{e4} HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(written("iodine", path, |_| ()).contains(r#""GET /\x22\x5C\xC3\xA4 HTTP/1.1""#));
        assert!(written("json", path, |_| ()).contains(r#""path":"/\"\\ä","#));
    }

    #[test]
    fn names_of_formats() {
        assert_eq!(Format::parse("iodine"), Ok(Format::Iodine));
        let refused = Format::parse("combinde").unwrap_err().to_string();
        assert!(
            refused.starts_with("\"combinde\" is no log format; known are iodine, common, "),
            "{refused}"
        );
        assert!(Format::parse("").is_err());
        assert!(Format::parse("%{request_id}").unwrap().wants_request_id());
        assert!(
            !["json", "iodine", "combined"]
                .iter()
                .any(|name| Format::parse(name).unwrap().wants_request_id())
        );
    }
}
