//! The request line: method, target, version (RFC 9112 section 3).

use super::Rejection;
use crate::http::head::RequestLine;
use crate::http::{Authority, Span, Version, token};

/// Judges a complete request line, given without its line end. Spans count from the start of the line, which is
/// the start of the head.
pub(super) fn parse(line: &[u8]) -> Result<RequestLine, Rejection> {
    let (method, rest) = split_method(line)?;
    let (target, rest) = split_target(rest)?;
    let version = version(rest)?;
    let target = Target::parse(method, target)?;
    Ok(RequestLine {
        version,
        len: line.len().saturating_add(2),
        method: Span::of(line, method),
        target: Span::of(line, target.whole),
        path: Span::of(line, target.path),
        query: target.query.map(|query| Span::of(line, query)).unwrap_or_default(),
        authority: target.authority.map(|authority| Span::of(line, authority)).unwrap_or_default(),
    })
}

/// The method is any token, its case is kept (RFC 9110 section 9.1).
fn split_method(line: &[u8]) -> Result<(&[u8], &[u8]), Rejection> {
    let end = line.iter().position(|&byte| !token::is_tchar(byte)).ok_or(Rejection::BadRequestLine)?;
    match line.split_at_checked(end) {
        Some((method, [b' ', rest @ ..])) if !method.is_empty() => Ok((method, rest)),
        _ => Err(Rejection::BadRequestLine),
    }
}

/// Takes the target up to the next blank.
fn split_target(rest: &[u8]) -> Result<(&[u8], &[u8]), Rejection> {
    let end = rest.iter().position(|&byte| !TARGET[usize::from(byte)]);
    let (target, rest) = rest.split_at_checked(end.unwrap_or(rest.len())).ok_or(Rejection::BadRequestLine)?;
    match rest {
        [b'#', ..] => Err(Rejection::FragmentInTarget),
        [b' ', version @ ..] if !target.is_empty() => Ok((target, version)),
        [b' ', ..] | [] => Err(Rejection::BadRequestLine),
        _ => Err(Rejection::BadTarget),
    }
}

/// RFC 9112 section 2.3: the name is case-sensitive and each number is one digit. The preface of HTTP/2 reads as
/// version 2.0.
fn version(text: &[u8]) -> Result<Version, Rejection> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Rejection::UnsupportedVersion)
        }
        _ => Err(Rejection::BadVersion),
    }
}

/// The four forms of a target (RFC 9112 section 3.2), taken apart.
struct Target<'a> {
    whole: &'a [u8],
    path: &'a [u8],
    query: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    fn parse(method: &[u8], whole: &'a [u8]) -> Result<Target<'a>, Rejection> {
        if method == b"CONNECT" {
            return Err(Rejection::ConnectRefused);
        }
        match whole {
            [b'/', ..] => Ok(Target::split_query(whole, whole)),
            b"*" if method == b"OPTIONS" => Ok(Target { whole, path: whole, query: None, authority: None }),
            _ => Target::parse_absolute(whole),
        }
    }

    /// `http://authority/path?query`, the scheme in any case.
    fn parse_absolute(whole: &'a [u8]) -> Result<Target<'a>, Rejection> {
        let rest = after_scheme(whole).ok_or(Rejection::BadTarget)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(Rejection::BadTarget)?;
        Authority::parse(authority).ok_or(Rejection::BadHost)?;
        let target = Target::split_query(whole, rest);
        Ok(Target { authority: Some(authority), ..target })
    }

    fn split_query(whole: &'a [u8], rest: &'a [u8]) -> Target<'a> {
        let (path, query) = match memchr::memchr(b'?', rest).and_then(|at| rest.split_at_checked(at)) {
            Some((path, query)) => (path, query.strip_prefix(b"?")),
            None => (rest, None),
        };
        Target { whole, path, query, authority: None }
    }
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}

/// True for the bytes a target is made of. High bytes, and the visible bytes that RFC 3986 wants escaped, pass as they
/// did in iodine 0.7: browsers and curl send them, and none of them can end the target.
const TARGET: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        table[byte] = false;
        byte += 1;
    }
    table[0x7f] = false;
    table[b'#' as usize] = false;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, path, query, authority and version of a line, or why it is refused.
    fn parsed(line: &str) -> Result<[String; 5], Rejection> {
        let bytes = line.as_bytes();
        parse(bytes).map(|parsed| {
            let text = |span: Span| String::from_utf8(span.of_bytes(bytes).to_vec()).unwrap();
            assert_eq!(parsed.len, line.len() + 2);
            let version = parsed.version.as_str().to_owned();
            [text(parsed.method), text(parsed.path), text(parsed.query), text(parsed.authority), version]
        })
    }

    #[test]
    fn rfc_9112_3_accepted() {
        for (line, expected) in [
            ("GET / HTTP/1.1", ["GET", "/", "", "", "HTTP/1.1"]),
            ("GET / HTTP/1.0", ["GET", "/", "", "", "HTTP/1.0"]),
            ("get /a/b%20c HTTP/1.1", ["get", "/a/b%20c", "", "", "HTTP/1.1"]),
            ("M-SEARCH /?a=b?c HTTP/1.1", ["M-SEARCH", "/", "a=b?c", "", "HTTP/1.1"]),
            ("!#$%&'*+-.^_`|~9 /x? HTTP/1.1", ["!#$%&'*+-.^_`|~9", "/x", "", "", "HTTP/1.1"]),
            ("HTTPS /x HTTP/1.1", ["HTTPS", "/x", "", "", "HTTP/1.1"]), // iodine 0.7 took it for a response
            ("GET //x//y HTTP/1.1", ["GET", "//x//y", "", "", "HTTP/1.1"]),
            ("GET /http://x/ HTTP/1.1", ["GET", "/http://x/", "", "", "HTTP/1.1"]),
            ("GET /\u{e4}|{}\"<>^` HTTP/1.1", ["GET", "/\u{e4}|{}\"<>^`", "", "", "HTTP/1.1"]),
            // RFC 9112 section 3.2.2, absolute form
            ("GET http://h:81/x?q HTTP/1.1", ["GET", "/x", "q", "h:81", "HTTP/1.1"]),
            ("GET HTTPS://h HTTP/1.1", ["GET", "", "", "h", "HTTP/1.1"]),
            ("GET http://h?x=/1 HTTP/1.1", ["GET", "", "x=/1", "h", "HTTP/1.1"]),
            ("GET http://[::1]:80/ HTTP/1.1", ["GET", "/", "", "[::1]:80", "HTTP/1.1"]),
            // RFC 9112 section 3.2.4, asterisk form
            ("OPTIONS * HTTP/1.1", ["OPTIONS", "*", "", "", "HTTP/1.1"]),
            ("OPTIONS /x HTTP/1.1", ["OPTIONS", "/x", "", "", "HTTP/1.1"]),
        ] {
            assert_eq!(parsed(line), Ok(expected.map(str::to_owned)), "{line}");
        }
    }

    #[test]
    fn rfc_9112_3_refused() {
        use Rejection::*;
        for (line, expected) in [
            // F-40: all of these were closed without an answer
            ("BAD", BadRequestLine),
            ("GET", BadRequestLine),
            ("GET ", BadRequestLine),
            ("GET /", BadRequestLine), // HTTP/0.9
            ("GET  / HTTP/1.1", BadRequestLine),
            ("GET / ", BadVersion),
            ("GET /  HTTP/1.1", BadVersion),
            ("GET / HTTP/1.1 ", BadVersion),
            ("GET / x HTTP/1.1", BadVersion),
            ("GET\t/\tHTTP/1.1", BadRequestLine),
            ("GET /\tHTTP/1.1", BadTarget),
            ("G@T(x) / HTTP/1.1", BadRequestLine),
            ("GET:/ HTTP/1.1", BadRequestLine),
            // F-39
            ("GET / FOOBAR", BadVersion),
            ("GET / http/1.1", BadVersion),
            ("GET / HTTP/11", BadVersion),
            ("GET / HTTP/1.10", BadVersion),
            ("GET / HTTP/1,1", BadVersion),
            ("GET / HTTP/x.1", BadVersion),
            ("GET / HTTP/1.2", UnsupportedVersion),
            ("GET / HTTP/0.9", UnsupportedVersion),
            ("GET / HTTP/2.0", UnsupportedVersion),
            ("GET / HTTP/9.9", UnsupportedVersion),
            ("PRI * HTTP/2.0", UnsupportedVersion), // the preface of HTTP/2
            // targets
            ("GET /#fragment HTTP/1.1", FragmentInTarget),
            ("GET -private/secret.txt HTTP/1.1", BadTarget), // F-02
            ("GET * HTTP/1.1", BadTarget),
            ("OPTIONS ** HTTP/1.1", BadTarget),
            ("GET ?x HTTP/1.1", BadTarget),
            ("GET x HTTP/1.1", BadTarget),
            ("GET ftp://h/ HTTP/1.1", BadTarget),
            ("GET http:/h/ HTTP/1.1", BadTarget),
            ("GET /a\0b HTTP/1.1", BadTarget),
            ("GET /a\rb HTTP/1.1", BadTarget),
            ("GET /a\x7f HTTP/1.1", BadTarget),
            ("GET http:// HTTP/1.1", BadHost),
            ("GET http:///x HTTP/1.1", BadHost),
            ("GET http://user@h/ HTTP/1.1", BadHost),
            ("GET http://h:x/ HTTP/1.1", BadHost),
            ("GET http://[::1/ HTTP/1.1", BadHost),
            // RFC 9110 section 9.3.6
            ("CONNECT example.com:80 HTTP/1.1", ConnectRefused),
            ("CONNECT / HTTP/1.1", ConnectRefused),
        ] {
            assert_eq!(parsed(line), Err(expected), "{line:?}");
        }
    }
}
