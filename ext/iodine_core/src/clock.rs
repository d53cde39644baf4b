//! The `Date` header, formatted at most once a second by each thread that asks.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of an HTTP date (RFC 9110 section 5.6.7).
pub const DATE_LEN: usize = 29;

struct Cached {
    second: u64,
    text: [u8; DATE_LEN],
}

thread_local! {
    static DATE: RefCell<Cached> = const { RefCell::new(Cached { second: u64::MAX, text: [0; DATE_LEN] }) };
}

/// The time of day as an HTTP date, such as `Mon, 23 Nov 2026 06:53:47 GMT`.
pub fn http_date() -> [u8; DATE_LEN] {
    let second = unix_seconds();
    DATE.with_borrow_mut(|cached| {
        if cached.second != second {
            cached.second = second;
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            if let Ok(bytes) = text.as_bytes().try_into() {
                cached.text = bytes;
            }
        }
        cached.text
    })
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_date_that_parses_to_now() {
        let text = http_date();
        let parsed = httpdate::parse_http_date(std::str::from_utf8(&text).unwrap()).unwrap();
        assert!(SystemTime::now().duration_since(parsed).unwrap() < Duration::from_secs(5));
    }
}
