//! Agreeing on permessage-deflate (RFC 7692 section 7.1).

use super::Role;
use super::extensions::Extension;
use std::fmt::Write;

/// What we want of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateConfig {
    /// Whether messages may refer to those before them. It makes small ones smaller, and costs memory for each
    /// connection: 370 KiB for what we send and 47 KiB for what we receive, from the first compressed message on. Without
    /// it connections carry no state, and one compressed frame may go to many of them. Off.
    pub context_takeover: bool,
    /// The sizes of both windows are at most two to this power: 8 to 15. 15.
    pub window_bits: u8,
    /// From 0 (no compression) to 9. 3.
    pub level: u8,
    /// Messages shorter than this are sent as they are. 128.
    pub threshold: usize,
}

impl Default for DeflateConfig {
    fn default() -> DeflateConfig {
        DeflateConfig { context_takeover: false, window_bits: 15, level: 3, threshold: 128 }
    }
}

/// What both sides agreed on, and what we add to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deflate {
    server: Direction,
    client: Direction,
    pub(super) level: u8,
    pub(super) threshold: usize,
}

/// How one side compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Direction {
    pub(super) context_takeover: bool,
    /// 8 to 15.
    pub(super) window_bits: u8,
}

impl Direction {
    /// The window as zlib's compressor takes it, which has none of 8 bits. Where 8 is agreed on 9 does: it never looks back
    /// as far as its window reaches, but 262 bytes less, which leaves 250.
    pub(super) fn zlib_window_bits(self) -> u8 {
        self.window_bits.clamp(9, 15)
    }
}

impl Deflate {
    /// How the end of that role compresses what it sends.
    pub(super) fn sent_by(self, role: Role) -> Direction {
        match role {
            Role::Server => self.server,
            Role::Client => self.client,
        }
    }

    /// Whether the messages that the end of that role sends may refer to those before them. Where they may not, one
    /// compressed frame can go to all connections which agreed on the same (RFC 7692 section 7.1.1).
    pub fn context_takeover(self, role: Role) -> bool {
        self.sent_by(role).context_takeover
    }

    /// The window of what the end of that role sends, as a power of two (RFC 7692 section 7.1.2). What was compressed with
    /// a smaller one can be read with a larger one.
    pub fn window_bits(self, role: Role) -> u8 {
        self.sent_by(role).window_bits
    }

    /// What is agreed on where the other side has no wishes of its own.
    pub(crate) fn new(config: &DeflateConfig) -> Deflate {
        let direction = Direction {
            context_takeover: config.context_takeover,
            window_bits: config.window_bits.clamp(8, 15),
        };
        Deflate {
            server: direction,
            client: direction,
            level: config.level.min(9),
            threshold: config.threshold,
        }
    }
}

const NAME: &str = "permessage-deflate";

/// The parameters of an offer or of an answer to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// In an offer it may stand without a value, which says that the client knows it.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// `None` for what section 7.1 wants to be declined: parameters that are unknown, repeated, or of a wrong value.
    fn read(extension: &Extension<'_>) -> Option<Parameters> {
        let mut read = Parameters::default();
        for (name, value) in &extension.parameters {
            let fresh = match (*name, value) {
                (b"server_no_context_takeover", None) => set(&mut read.server_no_context_takeover),
                (b"client_no_context_takeover", None) => set(&mut read.client_no_context_takeover),
                (b"server_max_window_bits", Some(value)) => {
                    read.server_max_window_bits.replace(window_bits(value)?).is_none()
                }
                (b"client_max_window_bits", value) => {
                    let bits = match value {
                        Some(value) => Some(window_bits(value)?),
                        None => None,
                    };
                    read.client_max_window_bits.replace(bits).is_none()
                }
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(read)
    }
}

fn set(flag: &mut bool) -> bool {
    !std::mem::replace(flag, true)
}

/// From 8 to 15, without leading zeros.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + (digit - b'0')),
        _ => None,
    }
}

/// What a server agrees to: the first of the offers that it understands, and the header value that says so.
pub(super) fn answer(offers: &[Extension<'_>], config: &DeflateConfig) -> Option<(Deflate, String)> {
    offers
        .iter()
        .filter(|offer| is_deflate(offer))
        .find_map(Parameters::read)
        .map(|offer| agree(offer, config))
}

fn is_deflate(extension: &Extension<'_>) -> bool {
    extension.name == NAME.as_bytes()
}

fn agree(offer: Parameters, config: &DeflateConfig) -> (Deflate, String) {
    let mut agreed = Deflate::new(config);
    agreed.server.context_takeover &= !offer.server_no_context_takeover;
    // Said by the client it is a hint, said by the server it binds the client (section 7.1.1.2).
    agreed.client.context_takeover &= !offer.client_no_context_takeover;
    agreed.server.window_bits = agreed.server.window_bits.min(offer.server_max_window_bits.unwrap_or(15));
    // A client that does not name it can not be told how large its window may be (section 7.1.2.2).
    agreed.client.window_bits = match offer.client_max_window_bits {
        Some(bits) => agreed.client.window_bits.min(bits.unwrap_or(15)),
        None => 15,
    };
    let mut value = NAME.to_owned();
    say_no_takeover(&mut value, agreed);
    if agreed.server.window_bits < 15 || offer.server_max_window_bits.is_some() {
        say(&mut value, "server_max_window_bits", agreed.server.window_bits);
    }
    if agreed.client.window_bits < 15 {
        say(&mut value, "client_max_window_bits", agreed.client.window_bits);
    }
    (agreed, value)
}

/// What a client offers.
pub(super) fn offer(config: &DeflateConfig) -> String {
    let wanted = Deflate::new(config);
    let mut value = NAME.to_owned();
    say_no_takeover(&mut value, wanted);
    if wanted.server.window_bits < 15 {
        say(&mut value, "server_max_window_bits", wanted.server.window_bits);
    }
    match wanted.client.window_bits {
        15 => value.push_str("; client_max_window_bits"),
        bits => say(&mut value, "client_max_window_bits", bits),
    }
    value
}

/// What a client agreed to, if the server's answer fits the [`offer`]. Where the server grants less than was asked
/// for, and we can live with it, we do: its messages may refer to older ones, or take a larger window.
pub(super) fn accepted(answer: &Extension<'_>, config: &DeflateConfig) -> Option<Deflate> {
    let granted = Parameters::read(answer).filter(|_| is_deflate(answer))?;
    let mut agreed = Deflate::new(config);
    agreed.server.context_takeover = !granted.server_no_context_takeover;
    agreed.client.context_takeover &= !granted.client_no_context_takeover;
    let server_bits = granted.server_max_window_bits;
    if server_bits.is_some_and(|bits| bits > agreed.server.window_bits) {
        return None;
    }
    agreed.server.window_bits = server_bits.unwrap_or(15);
    match granted.client_max_window_bits {
        Some(Some(bits)) if bits <= agreed.client.window_bits => agreed.client.window_bits = bits,
        None => {}
        Some(_) => return None,
    }
    Some(agreed)
}

fn say_no_takeover(value: &mut String, agreed: Deflate) {
    if !agreed.server.context_takeover {
        value.push_str("; server_no_context_takeover");
    }
    if !agreed.client.context_takeover {
        value.push_str("; client_no_context_takeover");
    }
}

fn say(value: &mut String, name: &str, bits: u8) {
    let written = write!(value, "; {name}={bits}");
    debug_assert!(written.is_ok(), "a String takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::super::extensions;
    use super::*;

    const TAKEOVER: DeflateConfig =
        DeflateConfig { context_takeover: true, window_bits: 15, level: 3, threshold: 128 };
    const SMALL: DeflateConfig =
        DeflateConfig { context_takeover: true, window_bits: 10, level: 3, threshold: 128 };

    fn server(offers: &str, config: &DeflateConfig) -> String {
        let offers = extensions::parse(offers.as_bytes()).expect("well-formed");
        let Some((_, value)) = answer(&offers, config) else { return "declined".to_owned() };
        let value = value.strip_prefix("permessage-deflate").expect("its name");
        value.replace("_context_takeover", "").replace("_max_window_bits", "").replace("; ", " ")
    }

    #[test]
    fn rfc_7692_7_1_offers_and_answers() {
        let none = " server_no client_no";
        for (offers, config, expected) in [
            ("permessage-deflate", DeflateConfig::default(), none),
            ("permessage-deflate; client_max_window_bits", DeflateConfig::default(), none),
            ("permessage-deflate; client_max_window_bits", TAKEOVER, ""),
            ("permessage-deflate; server_no_context_takeover", TAKEOVER, " server_no"),
            ("permessage-deflate; client_no_context_takeover", TAKEOVER, " client_no"),
            ("permessage-deflate; server_max_window_bits=10", TAKEOVER, " server=10"),
            ("permessage-deflate; server_max_window_bits=15", TAKEOVER, " server=15"),
            ("permessage-deflate; server_max_window_bits=\"8\"", TAKEOVER, " server=8"),
            ("permessage-deflate; client_max_window_bits=9", TAKEOVER, " client=9"),
            ("permessage-deflate; client_max_window_bits=15", TAKEOVER, ""),
            ("permessage-deflate", SMALL, " server=10"),
            ("permessage-deflate; client_max_window_bits", SMALL, " server=10 client=10"),
            (
                "permessage-deflate; client_max_window_bits=9; server_max_window_bits=12",
                SMALL,
                " server=10 client=9",
            ),
            // Section 7.1.3: the first that is understood.
            ("permessage-deflate; x, permessage-deflate; server_max_window_bits=11", TAKEOVER, " server=11"),
            (
                "foo, permessage-deflate; server_max_window_bits=11, permessage-deflate",
                TAKEOVER,
                " server=11",
            ),
            ("foo", TAKEOVER, "declined"),
            ("", TAKEOVER, "declined"),
            ("Permessage-Deflate", TAKEOVER, "declined"),
            ("x-webkit-deflate-frame", TAKEOVER, "declined"),
            ("permessage-deflate; unknown", TAKEOVER, "declined"),
            ("permessage-deflate; server_no_context_takeover=1", TAKEOVER, "declined"),
            ("permessage-deflate; client_no_context_takeover=true", TAKEOVER, "declined"),
            (
                "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
                TAKEOVER,
                "declined",
            ),
            ("permessage-deflate; server_max_window_bits", TAKEOVER, "declined"),
            ("permessage-deflate; server_max_window_bits=7", TAKEOVER, "declined"),
            ("permessage-deflate; server_max_window_bits=16", TAKEOVER, "declined"),
            ("permessage-deflate; server_max_window_bits=08", TAKEOVER, "declined"),
            ("permessage-deflate; server_max_window_bits=+9", TAKEOVER, "declined"),
            ("permessage-deflate; client_max_window_bits=100", TAKEOVER, "declined"),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits", TAKEOVER, "declined"),
            ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", TAKEOVER, "declined"),
        ] {
            assert_eq!(server(offers, &config), expected, "{offers:?}");
        }
    }

    #[test]
    fn what_a_client_offers_a_server_accepts() {
        for config in [DeflateConfig::default(), TAKEOVER, SMALL] {
            for other in [DeflateConfig::default(), TAKEOVER, SMALL] {
                let offer = offer(&config);
                let offers = extensions::parse(offer.as_bytes()).expect("an offer is well-formed");
                let (ours, value) = answer(&offers, &other).expect("the offer is understood");
                let answers = extensions::parse(value.as_bytes()).expect("an answer is well-formed");
                let theirs = accepted(&answers[0], &config).expect("the answer fits the offer");
                assert_eq!((ours.server, ours.client), (theirs.server, theirs.client), "{offer} and {value}");
                assert_eq!(
                    ours.context_takeover(Role::Server),
                    config.context_takeover && other.context_takeover
                );
                assert_eq!(ours.window_bits(Role::Client), config.window_bits.min(other.window_bits));
            }
        }
        assert_eq!(
            offer(&DeflateConfig::default()),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
        );
    }

    #[test]
    fn rfc_7692_7_1_answers_that_fit_no_offer() {
        let fits = |value: &str, config: &DeflateConfig| {
            let answers = extensions::parse(value.as_bytes()).expect("well-formed");
            accepted(&answers[0], config).is_some()
        };
        for (value, expected) in [
            ("permessage-deflate", true),
            ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", true),
            ("permessage-deflate; server_max_window_bits=10", true),
            ("permessage-deflate; server_max_window_bits=11", false),
            ("permessage-deflate; client_max_window_bits=8", true),
            ("permessage-deflate; client_max_window_bits=11", false),
            ("permessage-deflate; client_max_window_bits", false),
            ("permessage-deflate; server_max_window_bits", false),
            ("permessage-deflate; x", false),
            ("foo", false),
        ] {
            assert_eq!(fits(value, &SMALL), expected, "{value:?}");
        }
    }

    #[test]
    fn settings_out_of_range_become_the_nearest() {
        let config = DeflateConfig { window_bits: 40, level: 40, ..TAKEOVER };
        assert_eq!(Deflate::new(&config).window_bits(Role::Server), 15);
        assert_eq!(Deflate::new(&config).level, 9);
        assert_eq!(Deflate::new(&DeflateConfig { window_bits: 0, ..TAKEOVER }).window_bits(Role::Client), 8);
    }
}
