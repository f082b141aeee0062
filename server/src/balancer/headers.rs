//! Headers that are about one connection, and must not go on to the next.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Takes out what is about the connection the headers came by.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in connection(headers) {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// What the `Connection` header names.
fn connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

/// The protocol that the connection is to be upgraded to. Not HTTP/2: that is a way to ask for the
/// same, and what it needs to be told is about one connection.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let to = headers.get(UPGRADE)?;
    let asked = connection(headers).contains(&UPGRADE);
    (asked && !to.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| to.clone())
}

/// Says that the connection is to be upgraded, or that it is.
pub(super) fn set_upgrade(headers: &mut HeaderMap, to: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, to);
}

/// Says that the connection ends with this request.
pub(super) fn set_close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Adds who asked to those who are named already.
pub(super) fn forwarded_for(headers: &mut HeaderMap, client: IpAddr) {
    let mut all: Vec<u8> = Vec::new();
    for earlier in headers.get_all(FORWARDED_FOR) {
        all.extend_from_slice(earlier.as_bytes());
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(client.to_canonical().to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn what_is_about_one_connection_does_not_go_on() {
        let mut given = headers(&[
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("content-type", "text/plain"),
        ]);
        assert_eq!(upgrade(&given), None);
        strip(&mut given);
        assert_eq!(given, headers(&[("content-type", "text/plain")]));
    }

    #[test]
    fn an_upgrade_is_one_when_the_connection_says_so() {
        let given = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(upgrade(&given).unwrap(), "websocket");
        let given = headers(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
        ]);
        assert_eq!(upgrade(&given), None);
    }

    #[test]
    fn the_client_is_added_to_those_it_speaks_for() {
        let mut given = HeaderMap::new();
        forwarded_for(&mut given, "::ffff:127.0.0.9".parse().unwrap());
        assert_eq!(given[FORWARDED_FOR], "127.0.0.9");
        forwarded_for(&mut given, "127.0.0.8".parse().unwrap());
        assert_eq!(given[FORWARDED_FOR], "127.0.0.9, 127.0.0.8");
        assert_eq!(given.len(), 1);
    }
}
