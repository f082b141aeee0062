//! Addresses that belong together: `10.0.0.0/8`, or one alone.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// What was written is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as 10.0.0.1 or 10.0.0.0/8")]
pub struct NotANetwork;

impl Network {
    /// Is `address` in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, unused: u32| (a ^ b).checked_shr(unused).unwrap_or(0) == 0;
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => same(
                mine.to_bits().into(),
                other.to_bits().into(),
                32 - u32::from(self.prefix),
            ),
            (IpAddr::V6(mine), IpAddr::V6(other)) => same(
                mine.to_bits(),
                other.to_bits(),
                128 - u32::from(self.prefix),
            ),
            _ => false,
        }
    }

    /// It holds every address of its kind.
    pub(super) fn is_everybody(&self) -> bool {
        self.prefix == 0
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(written: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match written.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (written, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        // A mapped address has the prefix of another length: which one was meant is anybody's guess.
        if prefix.is_some() && address.to_canonical() != address {
            return Err(NotANetwork);
        }
        let address = address.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                prefix.parse().map_err(|_| NotANetwork)?
            }
            Some(_) => return Err(NotANetwork),
        };
        if prefix > most {
            return Err(NotANetwork);
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(written: String) -> Result<Self, NotANetwork> {
        written.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "fe80::1", true),
        ];
        for (network, address, inside) in cases {
            let network: Network = network.parse().unwrap();
            let address = address.parse().unwrap();
            assert_eq!(network.contains(address), inside, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for written in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "::1/129",
            "::ffff:10.0.0.0/104",
            "10.0.0/8",
            "localhost",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(written.parse::<Network>(), Err(NotANetwork), "{written}");
        }
        let network: Network = "fd00::1/8".parse().unwrap();
        assert_eq!(network.to_string().parse(), Ok(network));
    }
}
