//! Who is believed when they say on whose behalf they speak: addresses and networks (CIDR, RFC 4632).

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The bits of an IPv6 address before the IPv4 address that is mapped into it (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// The proxies that are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nobody is a proxy.
    #[default]
    Nobody,
    /// Everybody is believed.
    Everybody,
    /// Those on the list.
    Listed {
        /// Addresses are networks of one.
        networks: Vec<IpNet>,
        /// Whether the peers of Unix sockets are on it.
        unix: bool,
    },
}

/// What is neither an address nor a network nor `unix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadNetwork(pub String);

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither an IP address nor a network such as 10.0.0.0/8", self.0)
    }
}

impl std::error::Error for BadNetwork {}

impl Trust {
    /// Reads a list of addresses, networks (`10.0.0.0/8`, `fd00::/8`) and the word `unix`; the word `all` in it is
    /// everybody. An empty list is nobody.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Trust, BadNetwork> {
        let (mut networks, mut unix, mut all) = (Vec::new(), false, false);
        for entry in entries {
            match entry.trim() {
                "unix" => unix = true,
                "all" => all = true,
                text => networks.push(network(text).ok_or_else(|| BadNetwork(entry.to_owned()))?),
            }
        }
        Ok(match () {
            () if all => Trust::Everybody,
            () if unix || !networks.is_empty() => Trust::Listed { networks, unix },
            () => Trust::Nobody,
        })
    }

    /// Whether the proxy at `address` is believed; `None` is the peer of a Unix socket. An IPv4 address that is mapped
    /// into IPv6 is an IPv4 address.
    pub fn covers(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Trust::Nobody, _) => false,
            (Trust::Everybody, _) => true,
            (Trust::Listed { unix, .. }, None) => *unix,
            (Trust::Listed { networks, .. }, Some(address)) => {
                let address = address.to_canonical();
                networks.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn network(text: &str) -> Option<IpNet> {
    let network = match text.contains('/') {
        true => text.parse().ok()?,
        false => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    Some(match network {
        IpNet::V6(network) => unmapped(network).map_or(network.into(), IpNet::V4),
        IpNet::V4(_) => network,
    })
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn unmapped(network: Ipv6Net) -> Option<Ipv4Net> {
    let address: Ipv6Addr = network.network();
    let bits = network.prefix_len().checked_sub(MAPPED)?;
    Ipv4Net::new(address.to_ipv4_mapped()?, bits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(list: &str, address: &str) -> bool {
        let address = (address != "unix").then(|| address.parse().unwrap());
        Trust::parse(list.split_whitespace()).unwrap().covers(address)
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (list, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.1", "9.255.255.255"), // bits of the host do not matter
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("0.0.0.0/0", "203.0.113.7", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.7"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("::1 unix 10.0.0.0/8", "unix", "9.0.0.1"),
            ("::1 unix 10.0.0.0/8", "10.0.0.1", "::2"),
            ("10.0.0.0/8", "10.0.0.1", "unix"),
        ] {
            assert!(covers(list, inside), "{list}: {inside}");
            assert!(!covers(list, outside), "{list}: {outside}");
        }
    }

    #[test]
    fn nobody_and_everybody() {
        for address in ["127.0.0.1", "::1", "unix"] {
            assert!(!covers("", address));
            assert!(covers("all", address));
            assert!(covers("::1 all", address));
        }
        assert_eq!(Trust::default(), Trust::Nobody);
        assert_eq!(Trust::parse([]), Ok(Trust::Nobody));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/8/8",
            "::/129",
            "10.0.0.0/-1",
            "010.0.0.1",
            "fe80::1%eth0",
            "[::1]",
            "127.0.0.1:80",
            "ALL",
        ] {
            assert_eq!(Trust::parse(["::1", text]), Err(BadNetwork(text.into())), "{text}");
        }
        assert_eq!(
            BadNetwork("x".into()).to_string(),
            "\"x\" is neither an IP address nor a network such as 10.0.0.0/8"
        );
    }
}
