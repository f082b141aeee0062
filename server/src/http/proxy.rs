//! What a proxy that stands before the server says, and when that is believed.
//!
//! Anybody can write these headers. They are believed on connections from the proxy's own addresses
//! alone, the name of a person only with the proxy's secret beside it, and from anybody else they are
//! taken away before a handler sees them.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use skytower_api_client::wire::Problem;

use crate::config::{Config, ProxyConfig};
use crate::home::TokenHash;

/// Whose requests a proxy passes on; it adds each client at the end.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How the client speaks to the proxy.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Where a proxy proves that it is the one.
pub const SECRET: &str = "x-skytower-proxy-secret";

/// What proxies say about their clients, by the beginnings of the names.
const SAID_BY_PROXIES: [&str; 8] = [
    "x-forwarded-",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-auth-request-",
    "x-remote-",
    "remote-user",
    "x-skytower-proxy-",
];

/// Is this the address of a proxy that is believed.
pub fn is_trusted(peer: IpAddr, config: Option<&ProxyConfig>) -> bool {
    config.is_some_and(|config| config.addresses.iter().any(|all| all.contains(peer)))
}

/// Somebody has gone past the proxy although it alone encrypts: what is sent so can be read on the way.
/// Not so on this machine, nor where that was asked for by name.
pub fn is_passed_by(peer: IpAddr, config: &Config) -> bool {
    config.proxy.is_some()
        && config.tls.is_none()
        && !config.plain_http
        && !peer.to_canonical().is_loopback()
        && !is_trusted(peer, config.proxy.as_ref())
}

/// Whose request it is: the last one in the chain of proxies that is none of ours.
pub fn client_address(
    peer: SocketAddr,
    headers: &HeaderMap,
    config: Option<&ProxyConfig>,
) -> IpAddr {
    let mut client = peer.ip().to_canonical();
    if !is_trusted(client, config) {
        return client;
    }
    let lines: Vec<_> = headers.get_all(&FORWARDED_FOR).iter().collect();
    let hops = lines.iter().rev().flat_map(|line| {
        let line = line.to_str().unwrap_or_default();
        line.rsplit(',').map(str::trim)
    });
    for hop in hops {
        // What nobody can read was not written by a proxy of ours: whoever passed it on asks.
        let Some(address) = hop_address(hop) else {
            break;
        };
        client = address;
        if !is_trusted(client, config) {
            break;
        }
    }
    client
}

/// `address`, `address:port` or `[address]:port`.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = bare
        .unwrap_or(hop)
        .parse()
        .or_else(|_| hop.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Does the proxy say that its client's connection is encrypted.
pub fn is_secure(peer: IpAddr, headers: &HeaderMap, config: Option<&ProxyConfig>) -> bool {
    let mut said = headers.get_all(&FORWARDED_PROTO).iter();
    is_trusted(peer, config)
        && said
            .next()
            .is_some_and(|how| how.as_bytes().eq_ignore_ascii_case(b"https"))
        && said.next().is_none()
}

/// The person that the proxy has signed in. None where nobody was named by somebody who may. A name
/// that the proxy does vouch for and that cannot be one is refused: going on with what else the request
/// carries would make it somebody else's.
pub fn identity<'a>(
    peer: SocketAddr,
    headers: &'a HeaderMap,
    config: Option<&ProxyConfig>,
) -> Option<Result<&'a str, Problem>> {
    let config = config.filter(|config| is_trusted(peer.ip(), Some(config)))?;
    let (header, secret) = (config.user_header.as_deref()?, config.secret.as_ref()?);
    let mut names = headers.get_all(header).iter();
    let name = names.next()?;
    let mut shown = headers.get_all(SECRET).iter();
    let proof = shown.next().and_then(|proof| proof.to_str().ok())?;
    if shown.next().is_some() || !TokenHash::of(secret.expose()).is(proof) {
        return None;
    }
    // Not only visible characters: `to_str` lets the tab through, and nothing else that is none.
    let plain = name.to_str().ok().filter(|name| {
        !name.is_empty() && name.trim() == *name && !name.contains(char::is_control)
    });
    match plain {
        Some(name) if names.next().is_none() => Some(Ok(name)),
        _ => Some(Err(Problem::new(
            "bad_identity",
            400,
            format!("the proxy has to name one person in `{header}`, in plain ASCII"),
        ))),
    }
}

/// Takes away what only a proxy may say; from a proxy, what another server might have read as the same
/// header.
pub fn strip(headers: &mut HeaderMap, peer: IpAddr, config: Option<&ProxyConfig>) {
    let trusted = is_trusted(peer, config);
    let user = config.and_then(|config| config.user_header.as_deref());
    let user = user.map(str::to_ascii_lowercase);
    let spoofed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let plain = name.as_str().replace('_', "-");
            let said_by_proxies = SAID_BY_PROXIES.iter().any(|said| plain.starts_with(said))
                || user.as_deref() == Some(&*plain);
            said_by_proxies && (!trusted || plain != name.as_str())
        })
        .cloned()
        .collect();
    for name in spoofed {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsConfig;
    use skytower_api_client::credentials::Secret;

    const USER: &str = "x-auth-request-email";

    fn config() -> ProxyConfig {
        ProxyConfig {
            addresses: vec!["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            secret: Some(Secret::new("s3cret")),
            user_header: Some("X-Auth-Request-Email".to_owned()),
            ..ProxyConfig::default()
        }
    }

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, axum::http::HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn at(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    #[test]
    fn case_34_the_client_is_the_last_that_is_no_proxy_of_ours() {
        let cases: [(&str, &[&str], &str); 12] = [
            // From anybody else nothing is believed.
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            // What the client wrote itself stands to the left.
            ("127.0.0.1", &["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            (
                "127.0.0.1",
                &["1.2.3.4, 198.51.100.7, 10.0.0.9"],
                "198.51.100.7",
            ),
            (
                "127.0.0.1",
                &["1.2.3.4", "198.51.100.7,10.0.0.9"],
                "198.51.100.7",
            ),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            (
                "127.0.0.1",
                &["[2001:db8::1]:443, 10.0.0.2:80"],
                "2001:db8::1",
            ),
            ("127.0.0.1", &["198.51.100.7, rubbish"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, , 10.0.0.2"], "10.0.0.2"),
        ];
        for (peer, lines, client) in cases {
            let pairs: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-for", line.as_bytes()))
                .collect();
            let found = client_address(at(peer), &headers(&pairs), Some(&config()));
            assert_eq!(found.to_string(), client, "{peer} {lines:?}");
        }
        let spoofed = headers(&[("x-forwarded-for", b"1.2.3.4")]);
        assert_eq!(
            client_address(at("127.0.0.1"), &spoofed, None).to_string(),
            "127.0.0.1"
        );
    }

    #[test]
    fn case_34_a_person_is_named_by_the_proxy_with_its_secret_alone() {
        let config = config();
        let named = |peer: &str, pairs: &[(&str, &[u8])]| {
            let headers = headers(pairs);
            identity(at(peer), &headers, Some(&config))
                .map(|found| found.map(str::to_owned).map_err(|problem| problem.status))
        };
        let secret: (&str, &[u8]) = (SECRET, b"s3cret");
        let alice: (&str, &[u8]) = (USER, b"alice@example.com");
        assert_eq!(
            named("127.0.0.1", &[alice, secret]),
            Some(Ok("alice@example.com".to_owned()))
        );
        for (peer, pairs) in [
            ("192.0.2.1", &[alice, secret][..]),
            ("127.0.0.1", &[alice]),
            ("127.0.0.1", &[alice, (SECRET, b"wrong")]),
            ("127.0.0.1", &[alice, (SECRET, b"")]),
            ("127.0.0.1", &[alice, secret, secret]),
            ("127.0.0.1", &[secret]),
            (
                "127.0.0.1",
                &[secret, ("x-forwarded-user", b"alice@example.com")],
            ),
            (
                "127.0.0.1",
                &[secret, ("x_auth_request_email", b"alice@example.com")],
            ),
        ] {
            assert_eq!(named(peer, pairs), None, "{peer} {pairs:?}");
        }
        for name in [
            &b""[..],
            b" alice@example.com",
            b"alice@example.com ",
            b"alice\t@example.com",
            "аlice@example.com".as_bytes(),
            b"alice\xff@example.com",
        ] {
            assert_eq!(
                named("127.0.0.1", &[(USER, name), secret]),
                Some(Err(400)),
                "{name:?}"
            );
        }
        assert_eq!(named("127.0.0.1", &[alice, alice, secret]), Some(Err(400)));
        let quiet = ProxyConfig {
            secret: None,
            ..config.clone()
        };
        let both = headers(&[alice, secret]);
        assert!(identity(at("127.0.0.1"), &both, Some(&quiet)).is_none());
        assert!(identity(at("127.0.0.1"), &both, None).is_none());
    }

    #[test]
    fn case_34_from_anybody_else_nothing_of_it_is_left() {
        let all = [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-user",
            "x-forwarded-proto",
            "x-real-ip",
            "x-auth-request-email",
            "x-skytower-proxy-secret",
            "x_forwarded_for",
            "x-auth_request-email",
        ];
        let pairs: Vec<_> = all
            .iter()
            .chain(&["accept", "x-skytower-client"])
            .map(|name| (*name, &b"x"[..]))
            .collect();
        let left = |peer: &str, config: Option<&ProxyConfig>| {
            let mut headers = headers(&pairs);
            strip(&mut headers, peer.parse().unwrap(), config);
            headers.len()
        };
        assert_eq!(left("192.0.2.1", Some(&config())), 2);
        assert_eq!(left("127.0.0.1", None), 2);
        // From the proxy, the spellings alone that it would not have written.
        assert_eq!(left("127.0.0.1", Some(&config())), pairs.len() - 2);
        let own = ProxyConfig {
            user_header: Some("X-Who".to_owned()),
            ..config()
        };
        let mut headers = headers(&[("x-who", b"x"), ("x_who", b"x")]);
        strip(&mut headers, "192.0.2.1".parse().unwrap(), Some(&own));
        assert!(headers.is_empty());
    }

    #[test]
    fn who_goes_past_the_proxy_is_told_from_who_may() {
        let behind = Config {
            proxy: Some(config()),
            ..Config::default()
        };
        let passed_by = |peer: &str, config: &Config| is_passed_by(peer.parse().unwrap(), config);
        assert!(passed_by("192.0.2.1", &behind) && passed_by("::ffff:192.0.2.1", &behind));
        for peer in [
            "127.0.0.1",
            "127.0.0.9",
            "::1",
            "::ffff:127.0.0.1",
            "10.1.2.3",
        ] {
            assert!(!passed_by(peer, &behind), "{peer}");
        }
        for open in [
            Config {
                plain_http: true,
                ..behind.clone()
            },
            Config {
                tls: Some(TlsConfig::default()),
                ..behind.clone()
            },
            Config::default(),
        ] {
            assert!(!passed_by("192.0.2.1", &open));
        }
    }

    #[test]
    fn only_the_proxy_says_that_the_way_is_encrypted() {
        let peer = |address: &str| address.parse().unwrap();
        let said = |lines: &[&str]| {
            let pairs: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-proto", line.as_bytes()))
                .collect();
            headers(&pairs)
        };
        let config = config();
        assert!(is_secure(
            peer("127.0.0.1"),
            &said(&["https"]),
            Some(&config)
        ));
        assert!(!is_secure(
            peer("192.0.2.1"),
            &said(&["https"]),
            Some(&config)
        ));
        for lines in [&[][..], &["http"], &["https", "https"], &["https, http"]] {
            assert!(
                !is_secure(peer("127.0.0.1"), &said(lines), Some(&config)),
                "{lines:?}"
            );
        }
    }
}
