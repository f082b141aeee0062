//! What the server is called, and which pages may talk to it.
//!
//! A page on another site can send requests to this address, and by changing what its own name
//! resolves to it can read the answers too. The browser says the name that it used in `Host`, and the
//! page's own site in `Origin`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, header};
use skytower_api_client::wire::Problem;

use crate::config::Config;

/// Our own clients send it. A page of another site cannot, without a permission that nobody is given.
pub const CLIENT: HeaderName = HeaderName::from_static("x-skytower-client");

/// What a server is called. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Own(Arc<Names>);

#[derive(Debug)]
struct Names {
    listens: SocketAddr,
    hosts: Vec<String>,
    tls: bool,
}

/// The part of an address that names a host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Address(IpAddr),
    Word(String),
}

impl Name {
    fn is_loopback(&self) -> bool {
        match self {
            Name::Address(address) => address.is_loopback(),
            Name::Word(word) => word == "localhost",
        }
    }

    fn is_address(&self, address: IpAddr) -> bool {
        *self == Name::Address(address.to_canonical())
    }
}

impl Own {
    /// A server that listens there, as it was told.
    pub fn new(listens: SocketAddr, config: &Config) -> Self {
        let hosts = config.hosts.iter().map(|host| host.to_ascii_lowercase());
        Self(Arc::new(Names {
            listens,
            hosts: hosts.collect(),
            tls: config.tls.is_some(),
        }))
    }

    /// Its address, for those on the same machine.
    pub fn url(&self) -> String {
        let Names {
            listens,
            hosts,
            tls,
        } = &*self.0;
        match hosts.first().filter(|_| *tls) {
            // What the certificate says: another name would be refused.
            Some(host) if host.contains(':') => format!("https://[{host}]:{}", listens.port()),
            Some(host) => format!("https://{host}:{}", listens.port()),
            None => {
                let scheme = if *tls { "https" } else { "http" };
                let reached = match listens.ip() {
                    IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    address => address,
                };
                format!("{scheme}://{}", SocketAddr::new(reached, listens.port()))
            }
        }
    }

    /// Connections are encrypted by the server itself.
    pub fn encrypts(&self) -> bool {
        self.0.tls
    }

    /// May a request with these headers be answered. `here` is the server's end of the connection;
    /// `secure` says that the client's end is encrypted, by the server or a proxy.
    pub fn check(&self, headers: &HeaderMap, here: IpAddr, secure: bool) -> Result<(), Problem> {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = host
            .and_then(authority)
            .filter(|(name, _)| self.answers_to(name, here))
            .ok_or_else(|| self.wrong_host())?;
        let scheme = if secure { "https" } else { "http" };
        for origin in headers.get_all(header::ORIGIN) {
            let own = origin
                .to_str()
                .ok()
                .and_then(|origin| origin.strip_prefix(scheme)?.strip_prefix("://"))
                .and_then(authority)
                .is_some_and(|origin| same(&origin, &host, secure));
            if !own {
                return Err(Problem::new(
                    "foreign_origin",
                    403,
                    "pages of other sites may not talk to this server",
                ));
            }
        }
        Ok(())
    }

    fn answers_to(&self, name: &Name, here: IpAddr) -> bool {
        let Names { listens, hosts, .. } = &*self.0;
        let loopback = listens.ip().to_canonical().is_loopback();
        let listed = |host: &String| match name {
            Name::Word(word) => word == host,
            Name::Address(address) => host.parse() == Ok(*address),
        };
        name.is_loopback()
            || name.is_address(here)
            || hosts.iter().any(listed)
            || (hosts.is_empty() && !loopback)
    }

    fn wrong_host(&self) -> Problem {
        let Names { listens, hosts, .. } = &*self.0;
        let (sentence, hint) = if hosts.is_empty() && listens.ip().to_canonical().is_loopback() {
            (
                "this server answers to 127.0.0.1, [::1] and localhost only",
                "name what else it is called in `hosts` of its configuration file",
            )
        } else {
            (
                "this server does not answer to that name",
                "use the name that it was given, or add this one to `hosts` in its configuration file",
            )
        };
        Problem::new("wrong_host", 421, sentence).hint(hint)
    }
}

/// A cookie counts as credentials only where no page of another site can have had it sent along: from
/// our own pages, and from our own clients. The origin, when there is one, was checked before.
pub fn cookies_count(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key(CLIENT)
}

/// Headers of which there may be one: two would be read one way here and another way in a proxy.
pub fn check_single(headers: &HeaderMap) -> Result<(), Problem> {
    let single = [
        header::HOST,
        header::AUTHORIZATION,
        header::SEC_WEBSOCKET_KEY,
    ];
    for name in single {
        if headers.get_all(&name).iter().nth(1).is_some() {
            let sentence = format!("the header `{name}` was sent more than once");
            return Err(Problem::new("duplicate_header", 400, sentence));
        }
    }
    Ok(())
}

/// `name`, `name:port` or `[address]:port`.
fn authority(written: &str) -> Option<(Name, Option<u16>)> {
    let (name, port) = match written.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (written, ""),
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let name = if let Some(inner) = name.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        Name::Address(IpAddr::V6(address).to_canonical())
    } else if let Ok(address) = name.parse::<Ipv4Addr>() {
        Name::Address(address.into())
    } else {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        Name::Word(name.to_ascii_lowercase())
    };
    Some((name, port))
}

fn same(a: &(Name, Option<u16>), b: &(Name, Option<u16>), secure: bool) -> bool {
    let usual = if secure { 443 } else { 80 };
    a.0 == b.0 && a.1.unwrap_or(usual) == b.1.unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsConfig;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    fn own(listens: &str, hosts: &[&str], tls: bool) -> Own {
        let config = Config {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            tls: tls.then(TlsConfig::default),
            ..Config::default()
        };
        Own::new(listens.parse().unwrap(), &config)
    }

    fn status(own: &Own, host: &str, origin: Option<&str>, secure: bool) -> Option<u16> {
        let mut pairs = vec![(header::HOST, host)];
        pairs.extend(origin.map(|origin| (header::ORIGIN, origin)));
        let here = "10.0.0.5".parse().unwrap();
        let checked = own.check(&headers(&pairs), here, secure);
        checked.err().map(|problem| problem.status)
    }

    #[test]
    fn on_loopback_only_loopback_names_are_answered() {
        let own = own("127.0.0.1:46590", &[], false);
        for host in [
            "127.0.0.1:46590",
            "localhost:46590",
            "LOCALHOST",
            "[::1]:46590",
            "127.0.0.1",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(status(&own, host, None, false), None, "{host}");
        }
        for host in [
            "evil.example:46590",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:1@evil",
            "localhost:99999",
            "10.0.0.1",
            "[::1",
            "::1",
            "127.1",
            "2130706433",
            "",
        ] {
            assert_eq!(status(&own, host, None, false), Some(421), "{host}");
        }
        let none = own.check(&HeaderMap::new(), Ipv4Addr::LOCALHOST.into(), false);
        assert_eq!(none.unwrap_err().status, 421);
    }

    #[test]
    fn elsewhere_any_name_is_answered_until_names_are_listed() {
        let open = own("0.0.0.0:46590", &[], true);
        for host in [
            "tower.example.com",
            "10.0.0.5:46590",
            "10.9.9.9",
            "localhost",
        ] {
            assert_eq!(status(&open, host, None, true), None, "{host}");
        }
        for host in ["", "a/b", "a b", "a@b"] {
            assert_eq!(status(&open, host, None, true), Some(421), "{host}");
        }
        let named = own("0.0.0.0:46590", &["Tower.example.com", "fd00::1"], true);
        for host in [
            "tower.example.com",
            "TOWER.example.com:46590",
            "[fd00::1]:1",
            "10.0.0.5",
            "localhost",
        ] {
            assert_eq!(status(&named, host, None, true), None, "{host}");
        }
        for host in ["evil.example", "tower.example.com.evil.example", "10.9.9.9"] {
            assert_eq!(status(&named, host, None, true), Some(421), "{host}");
        }
        let behind = own("127.0.0.1:46590", &["tower.example.com"], false);
        assert_eq!(status(&behind, "tower.example.com", None, true), None);
        assert_eq!(status(&behind, "evil.example", None, true), Some(421));
    }

    #[test]
    fn only_our_own_pages_may_ask() {
        let host = "127.0.0.1:46590";
        let local = own(host, &[], false);
        assert_eq!(
            status(&local, host, Some("http://127.0.0.1:46590"), false),
            None
        );
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:46591",
            "https://127.0.0.1:46590",
            "http://127.0.0.1:46590.evil.example",
            "http://localhost:46590",
            "http://127.0.0.1:46590/",
            "http://a@127.0.0.1:46590",
            "",
        ] {
            let asked = status(&local, host, Some(origin), false);
            assert_eq!(asked, Some(403), "{origin}");
        }
        let named = own("0.0.0.0:443", &["tower.example.com"], true);
        for (host, origin, wanted) in [
            ("tower.example.com", "https://tower.example.com", None),
            ("tower.example.com:443", "https://tower.example.com", None),
            ("tower.example.com", "https://Tower.Example.com:443", None),
            ("tower.example.com", "http://tower.example.com", Some(403)),
            (
                "tower.example.com",
                "https://tower.example.com:80",
                Some(403),
            ),
            ("tower.example.com", "https://tower.example.co", Some(403)),
        ] {
            assert_eq!(status(&named, host, Some(origin), true), wanted, "{origin}");
        }
        let two = headers(&[
            (header::HOST, host),
            (header::ORIGIN, "http://127.0.0.1:46590"),
        ]);
        let mut two = two;
        two.append(header::ORIGIN, "http://evil.example".parse().unwrap());
        assert!(
            local
                .check(&two, Ipv4Addr::LOCALHOST.into(), false)
                .is_err()
        );
    }

    #[test]
    fn a_cookie_counts_from_our_own_pages_and_clients() {
        assert!(!cookies_count(&HeaderMap::new()));
        assert!(cookies_count(&headers(&[(CLIENT, "1")])));
        assert!(cookies_count(&headers(&[(header::ORIGIN, "https://own")])));
    }

    #[test]
    fn what_decides_is_sent_once() {
        for name in [
            header::HOST,
            header::AUTHORIZATION,
            header::SEC_WEBSOCKET_KEY,
        ] {
            let mut twice = headers(&[(name.clone(), "a")]);
            assert!(check_single(&twice).is_ok());
            twice.append(name.clone(), "a".parse().unwrap());
            assert_eq!(check_single(&twice).unwrap_err().status, 400, "{name}");
        }
    }

    #[test]
    fn the_own_address_is_one_that_can_be_reached() {
        for (listens, hosts, tls, url) in [
            ("127.0.0.1:1", &[][..], false, "http://127.0.0.1:1"),
            ("[::1]:1", &[], true, "https://[::1]:1"),
            ("0.0.0.0:1", &[], false, "http://127.0.0.1:1"),
            ("[::]:1", &[], false, "http://[::1]:1"),
            ("0.0.0.0:1", &["a.b"], true, "https://a.b:1"),
            ("0.0.0.0:1", &["fd00::1"], true, "https://[fd00::1]:1"),
            ("127.0.0.1:1", &["a.b"], false, "http://127.0.0.1:1"),
        ] {
            assert_eq!(own(listens, hosts, tls).url(), url);
        }
    }
}
