//! Dates as protocols write them. The time is an argument: seconds since 1970, before it negative.

use std::ops::Deref;

const DAYS: [[u8; 3]; 7] = [*b"Sun", *b"Mon", *b"Tue", *b"Wed", *b"Thu", *b"Fri", *b"Sat"];
const MONTHS: [[u8; 3]; 12] = [
    *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct", *b"Nov",
    *b"Dec",
];
const DAY_SECONDS: i64 = 86_400;

/// `Fri, 14 Jul 2017 02:40:00 GMT`: the date of HTTP (RFC 9110 section 5.6.7).
pub fn http(seconds: i64) -> Stamp {
    Parts::new(seconds).stamp(b' ', Zone::Gmt)
}

/// `Fri, 14 Jul 2017 02:40:00 -0000`: the date of mail (RFC 2822 section 3.3). With an offset from UTC, in minutes, the
/// clock of that place and its offset; `None` is UTC.
pub fn rfc2822(seconds: i64, offset: Option<i32>) -> Stamp {
    match offset {
        None => Parts::new(seconds).stamp(b' ', Zone::Unknown),
        Some(minutes) => {
            let local = seconds.saturating_add(i64::from(minutes) * 60);
            Parts::new(local).stamp(b' ', Zone::Offset(minutes))
        }
    }
}

/// `Fri, 14-Jul-2017 02:40:00 GMT`: the date of cookies (RFC 2109 section 10.1.2).
pub fn rfc2109(seconds: i64) -> Stamp {
    Parts::new(seconds).stamp(b'-', Zone::Gmt)
}

/// `14/Jul/2017:02:40:00 +0000`: the date of the Common Log Format.
pub fn clf(seconds: i64) -> Stamp {
    let parts = Parts::new(seconds);
    let mut out = Stamp::EMPTY;
    out.two_digits(parts.day);
    out.put(b"/");
    out.put(parts.month_name());
    out.put(b"/");
    out.year(parts.year);
    out.put(b":");
    out.clock(parts.second);
    out.put(b" +0000");
    out
}

/// `2017-07-14T02:40:00`: date and time of ISO 8601, without a zone.
pub fn iso(seconds: i64) -> Stamp {
    let parts = Parts::new(seconds);
    let mut out = Stamp::EMPTY;
    out.year(parts.year);
    out.put(b"-");
    out.two_digits(parts.month as u32 + 1);
    out.put(b"-");
    out.two_digits(parts.day);
    out.put(b"T");
    out.clock(parts.second);
    out
}

/// The text of a date, ASCII.
#[derive(Clone, Copy)]
pub struct Stamp {
    text: [u8; Self::CAPACITY],
    length: usize,
}

impl Stamp {
    /// Enough for a year of twelve digits and its sign.
    const CAPACITY: usize = 48;
    const EMPTY: Stamp = Stamp { text: [0; Stamp::CAPACITY], length: 0 };
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.escape_ascii().fmt(f)
    }
}

impl Deref for Stamp {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

impl Stamp {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        let end = self.length + N;
        // It always fits.
        if let Some(place) = self.text.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
    }

    #[inline]
    fn two_digits(&mut self, value: u32) {
        self.put(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
    }

    /// Hours, minutes and seconds of a day's second.
    #[inline]
    fn clock(&mut self, second: u32) {
        self.two_digits(second / 3600);
        self.put(b":");
        self.two_digits(second / 60 % 60);
        self.put(b":");
        self.two_digits(second % 60);
    }

    /// Four digits, and as many more as it takes.
    fn year(&mut self, year: i64) {
        if let Ok(year @ 0..=9999) = u32::try_from(year) {
            self.two_digits(year / 100);
            self.two_digits(year % 100);
            return;
        }
        if year < 0 {
            self.put(b"-");
        }
        let mut digits = 4;
        while digits < 18 && year.unsigned_abs() >= 10u64.pow(digits) {
            digits += 1;
        }
        for place in (0..digits).rev() {
            self.put(&[b'0' + (year.unsigned_abs() / 10u64.pow(place) % 10) as u8]);
        }
    }
}

/// What stands behind the clock.
#[derive(Clone, Copy)]
enum Zone {
    Gmt,
    /// `-0000`: the time is in UTC, and where it was taken is not known (RFC 2822 section 3.3).
    Unknown,
    /// Minutes east of Greenwich.
    Offset(i32),
}

/// A moment in the proleptic Gregorian calendar.
struct Parts {
    year: i64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u32,
    /// From Sunday.
    weekday: usize,
    second: u32,
}

impl Parts {
    fn new(seconds: i64) -> Parts {
        let days = seconds.div_euclid(DAY_SECONDS);
        let second = seconds.rem_euclid(DAY_SECONDS) as u32;
        // 1 January 1970 was a Thursday.
        let weekday = (days + 4).rem_euclid(7) as usize;
        // Years are counted from March on, so that the leap day is the last one; 400 of them have 146,097 days.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months from March on have 153 days in each five of them.
        let march_month = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * march_month + 2) / 5 + 1) as u32;
        let month = ((march_month + 2) % 12) as usize;
        let year = era * 400 + year_of_era + i64::from(month < 2);
        Parts { year, month, day, weekday, second }
    }

    #[inline]
    fn month_name(&self) -> &'static [u8; 3] {
        MONTHS.get(self.month).unwrap_or(&MONTHS[0])
    }

    #[inline]
    fn stamp(&self, between: u8, zone: Zone) -> Stamp {
        let mut out = Stamp::EMPTY;
        out.put(DAYS.get(self.weekday).unwrap_or(&DAYS[0]));
        out.put(b", ");
        out.two_digits(self.day);
        out.put(&[between]);
        out.put(self.month_name());
        out.put(&[between]);
        out.year(self.year);
        out.put(b" ");
        out.clock(self.second);
        match zone {
            Zone::Gmt => out.put(b" GMT"),
            Zone::Unknown => out.put(b" -0000"),
            Zone::Offset(minutes) => {
                out.put(if minutes < 0 { b" -" } else { b" +" });
                out.two_digits(minutes.unsigned_abs() / 60);
                out.two_digits(minutes.unsigned_abs() % 60);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stamp: Stamp) -> String {
        String::from_utf8(stamp.to_vec()).expect("a date is ASCII")
    }

    #[test]
    fn dates_of_each_kind() {
        assert_eq!(text(http(1_500_000_000)), "Fri, 14 Jul 2017 02:40:00 GMT");
        assert_eq!(text(rfc2822(1_500_000_000, None)), "Fri, 14 Jul 2017 02:40:00 -0000");
        assert_eq!(text(rfc2822(1_500_000_000, Some(0))), "Fri, 14 Jul 2017 02:40:00 +0000");
        assert_eq!(text(rfc2822(1_500_000_000, Some(330))), "Fri, 14 Jul 2017 08:10:00 +0530");
        assert_eq!(text(rfc2822(1_500_000_000, Some(-210))), "Thu, 13 Jul 2017 23:10:00 -0330");
        assert_eq!(text(rfc2109(1_500_000_000)), "Fri, 14-Jul-2017 02:40:00 GMT");
        assert_eq!(text(clf(1_500_000_000)), "14/Jul/2017:02:40:00 +0000");
        assert_eq!(text(iso(1_500_000_000)), "2017-07-14T02:40:00");
    }

    #[test]
    fn the_calendar() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (253_402_300_800, "Sat, 01 Jan 10000 00:00:00 GMT"),
            (-62_135_596_800, "Mon, 01 Jan 0001 00:00:00 GMT"),
            (-62_167_219_200, "Sat, 01 Jan 0000 00:00:00 GMT"),
            (-62_167_219_201, "Fri, 31 Dec -0001 23:59:59 GMT"),
        ] {
            assert_eq!(text(http(seconds)), expected, "{seconds}");
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(text(http(extreme)).ends_with(" GMT"));
            assert!(text(rfc2822(extreme, Some(i32::MIN))).len() > 30);
        }
    }
}
