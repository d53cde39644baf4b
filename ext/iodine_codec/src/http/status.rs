//! Status codes: their reason phrases, their status lines, and which of them never have a body.

/// The reason phrase of a status, or "" if it has none we know (RFC 9110 section 15.1 lets any code be used).
pub fn reason(code: u16) -> &'static str {
    match line(code) {
        // "HTTP/1.1 200 OK\r\n": 13 bytes before the reason, two behind it.
        Some(line) => line.get(13..line.len().saturating_sub(2)).unwrap_or_default(),
        None => "",
    }
}

/// The whole status line of a known status, line end included.
pub fn line(code: u16) -> Option<&'static str> {
    known_line(code)
}

/// Appends the status line of any status from 100 to 999. Other numbers cannot be written down
/// (RFC 9110 section 15) and become a 500.
#[inline]
pub fn write_line(out: &mut Vec<u8>, code: u16) {
    match line(code) {
        Some(line) => out.extend_from_slice(line.as_bytes()),
        None => write_unknown(out, code),
    }
}

/// True for the statuses that never have a body: 1xx, 204 and 304 (RFC 9112 section 6.3).
#[inline]
pub const fn forbids_body(code: u16) -> bool {
    matches!(code, 100..=199 | 204 | 304)
}

fn write_unknown(out: &mut Vec<u8>, code: u16) {
    if !(100..=999).contains(&code) {
        return write_line(out, 500);
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    // The blank stays even without a reason (RFC 9112 section 4).
    out.extend_from_slice(b" \r\n");
}

macro_rules! status_lines {
    ($($code:literal $reason:literal)*) => {
        fn known_line(code: u16) -> Option<&'static str> {
            match code {
                $($code => Some(concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n")),)*
                _ => None,
            }
        }

        #[cfg(test)]
        const KNOWN: &[(u16, &str)] = &[$(($code, $reason),)*];
    };
}

// The IANA registry, with the well-known names for the few entries it lists as unused.
status_lines! {
    100 "Continue"
    101 "Switching Protocols"
    102 "Processing"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    203 "Non-Authoritative Information"
    204 "No Content"
    205 "Reset Content"
    206 "Partial Content"
    207 "Multi-Status"
    208 "Already Reported"
    226 "IM Used"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    305 "Use Proxy"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Payload Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    416 "Range Not Satisfiable"
    417 "Expectation Failed"
    418 "I'm a teapot"
    421 "Misdirected Request"
    422 "Unprocessable Entity"
    423 "Locked"
    424 "Failed Dependency"
    425 "Too Early"
    426 "Upgrade Required"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    451 "Unavailable For Legal Reasons"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
    506 "Variant Also Negotiates"
    507 "Insufficient Storage"
    508 "Loop Detected"
    509 "Bandwidth Limit Exceeded"
    510 "Not Extended"
    511 "Network Authentication Required"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(code: u16) -> String {
        let mut out = Vec::new();
        write_line(&mut out, code);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_known_status_has_its_line() {
        for &(code, text) in KNOWN {
            assert_eq!(reason(code), text);
            assert_eq!(written(code), format!("HTTP/1.1 {code} {text}\r\n"));
        }
    }

    #[test]
    fn f_25_statuses_without_a_reason_keep_their_number() {
        assert_eq!(written(418), "HTTP/1.1 418 I'm a teapot\r\n");
        assert_eq!(written(451), "HTTP/1.1 451 Unavailable For Legal Reasons\r\n");
        for code in [299, 499, 599, 999] {
            assert_eq!(written(code), format!("HTTP/1.1 {code} \r\n"));
            assert_eq!(reason(code), "");
        }
    }

    #[test]
    fn numbers_that_are_no_status_become_a_500() {
        for code in [0, 1, 99, 1000, u16::MAX] {
            assert_eq!(written(code), "HTTP/1.1 500 Internal Server Error\r\n");
        }
    }

    #[test]
    fn rfc_9112_6_3_statuses_without_a_body() {
        let without: Vec<u16> = (100..1000).filter(|&code| forbids_body(code)).collect();
        let expected: Vec<u16> = (100..200).chain([204, 304]).collect();
        assert_eq!(without, expected);
    }
}
