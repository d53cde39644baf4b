//! Content codings: what a client accepts of them (RFC 9110 section 12.5.3).

use super::token;

/// A content coding that a file may be there in, beside its plain form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstandard,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All, the densest first: that one is preferred where the client has no preference.
    pub const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstandard, Coding::Gzip];

    /// Its name in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstandard => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the name of a file in this coding ends with.
    pub const fn suffix(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstandard => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    const fn index(self) -> usize {
        match self {
            Coding::Brotli => 0,
            Coding::Zstandard => 1,
            Coding::Gzip => 2,
        }
    }
}

/// What a client accepts, as weights from 0 (not at all) to 1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    coded: [u16; 3],
    plain: Option<u16>,
}

impl Accepted {
    /// Reads all lines of `Accept-Encoding` (F-35). No line at all accepts the plain form only: a client that says
    /// nothing may know nothing.
    pub fn parse<'v>(lines: impl Iterator<Item = &'v [u8]>) -> Accepted {
        let mut coded = [None; 3];
        let mut plain = None;
        let mut others = None;
        for element in lines.flat_map(token::list) {
            let Some((name, weight)) = weighted(element) else { continue };
            let is = |candidate: &str| name.eq_ignore_ascii_case(candidate.as_bytes());
            let slot = match () {
                () if is("br") => &mut coded[0],
                () if is("zstd") => &mut coded[1],
                () if is("gzip") || is("x-gzip") => &mut coded[2],
                () if is("identity") => &mut plain,
                () if is("*") => &mut others,
                () => continue,
            };
            // The more generous of two that contradict each other.
            *slot = (*slot).max(Some(weight));
        }
        // The star stands for what is not named.
        let coded = coded.map(|weight| weight.or(others).unwrap_or(0));
        Accepted { coded, plain: plain.or(others.filter(|weight| *weight == 0)) }
    }

    /// Which of the forms that are there to send; `None` is the plain one. Where nothing that is there is acceptable
    /// the plain form goes out all the same, which section 12.5.3 prefers to a 406.
    pub fn choose(self, is_there: impl Fn(Coding) -> bool) -> Option<Coding> {
        let offered = Coding::ALL.into_iter().filter(|coding| is_there(*coding));
        // The last of equals wins in `max_by_key`.
        let best = offered.rev().max_by_key(|coding| self.weight(*coding))?;
        let weight = self.weight(best);
        // Whoever names a coding means it, unless the plain form is preferred expressly.
        let preferred = weight > 0 && self.plain.is_none_or(|plain| weight >= plain);
        preferred.then_some(best)
    }

    fn weight(self, coding: Coding) -> u16 {
        self.coded.get(coding.index()).copied().unwrap_or(0)
    }
}

/// A coding and its weight in thousandths; `None` if it is malformed.
fn weighted(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.split(|&byte| byte == b';').map(token::trim);
    let name = parts.next().filter(|name| token::is_token(name))?;
    let mut weight = 1000;
    for parameter in parts {
        let value = match parameter {
            [b'q' | b'Q', rest @ ..] => token::trim(rest).strip_prefix(b"=")?,
            _ => return None,
        };
        weight = thousandths(token::trim(value))?;
    }
    Some((name, weight))
}

/// A qvalue (section 12.4.2).
pub(crate) fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, digits) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut fraction = 0u16;
    for place in 0..3 {
        let digit = match digits.get(place).copied().unwrap_or(b'0') {
            digit @ b'0'..=b'9' => u16::from(digit - b'0'),
            _ => return None,
        };
        fraction = fraction.saturating_mul(10).saturating_add(digit);
    }
    match whole {
        b'0' => Some(fraction),
        b'1' if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(lines: &[&str], there: &[Coding]) -> &'static str {
        let accepted = Accepted::parse(lines.iter().map(|line| line.as_bytes()));
        accepted.choose(|coding| there.contains(&coding)).map_or("plain", Coding::name)
    }

    #[test]
    fn f_35_the_best_of_what_is_there_and_accepted() {
        let all = &Coding::ALL;
        for (line, expected) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, deflate, br", "br"),
            ("gzip", "gzip"),
            ("GZIP", "gzip"),
            ("x-gzip", "gzip"),
            ("zstd;q=0.9, gzip", "gzip"),
            ("gzip;q=0.5, zstd;q=0.501", "zstd"),
            ("br;q=0, gzip;q=0.001", "gzip"),
            ("gzip;q=0", "plain"),
            ("gzip; q=0.0", "plain"),
            ("*", "br"),
            ("*;q=0.5, gzip", "gzip"),
            ("br;q=0, *", "zstd"),
            ("*;q=0, gzip", "gzip"),
            ("*;q=0", "plain"),
            ("identity", "plain"),
            ("identity, gzip;q=0.5", "plain"),
            ("identity;q=0.5, gzip", "gzip"),
            ("identity, gzip", "gzip"),
            ("identity;q=0", "plain"),
            ("", "plain"),
            ("deflate", "plain"),
            ("notgzip", "plain"),
            ("gzip;q=2", "plain"),
            ("gzip;q=1.001", "plain"),
            ("gzip;q=0.1234", "plain"),
            ("gzip;q=-1", "plain"),
            ("gzip;level=9", "plain"),
            ("gzip;Q=1", "gzip"),
            ("gzip;q=, br;q=1.000", "br"),
        ] {
            assert_eq!(choice(&[line], all), expected, "{line:?}");
        }
    }

    #[test]
    fn f_35_repeated_lines_are_one_list() {
        assert_eq!(choice(&["br", "gzip"], &[Coding::Gzip]), "gzip");
        assert_eq!(choice(&[], &Coding::ALL), "plain");
    }

    #[test]
    fn what_is_not_there_is_not_chosen() {
        assert_eq!(choice(&["br, gzip;q=0.1"], &[Coding::Gzip]), "gzip");
        assert_eq!(choice(&["br"], &[Coding::Gzip, Coding::Zstandard]), "plain");
        assert_eq!(choice(&["br"], &[]), "plain");
    }
}
