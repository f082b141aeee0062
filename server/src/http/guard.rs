//! Who may come in: loopback names, our own pages, and those with the token.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use skytower_api_client::rest::path;
use skytower_api_client::wire::{CLIENT_HEADER, Problem};

use super::AppState;
use super::problem::Failure;
use super::serve::Peer;
use crate::admission::{Brought, not_signed_in};

/// Stands before every handler. Handlers find who asks (`Extension<Guest>`) when somebody is signed in.
pub(crate) async fn admit(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = check_address(request.headers(), state.port) {
        return Failure(problem).into_response();
    }
    let admitted = {
        let headers = request.headers();
        let peer = request.extensions().get::<Peer>();
        let brought = Brought {
            authorization: text(headers, &header::AUTHORIZATION),
            cookie: text(headers, &header::COOKIE).filter(|_| {
                headers.contains_key(CLIENT_HEADER) || headers.contains_key(header::ORIGIN)
            }),
            vouched: None,
            path: request.uri().path(),
            address: peer.map(|peer| peer.0.ip()),
        };
        state.admission.admit(&brought).await
    };
    match admitted {
        Ok(Some(guest)) => {
            request.extensions_mut().insert(guest);
        }
        // Health says who answers to whoever asks, without credentials; wrong ones are always told.
        Ok(None) if request.uri().path() == path::HEALTH => {}
        Ok(None) => return Failure(not_signed_in()).into_response(),
        Err(problem) => return Failure(problem).into_response(),
    }
    next.run(request).await
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A page on another site can send requests to this address, and by changing what its own name
/// resolves to it can read the answers too. Neither carries a loopback name of ours.
fn check_address(headers: &HeaderMap, port: u16) -> Result<(), Problem> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    if !is_loopback(host) {
        return Err(Problem::new(
            "wrong_host",
            421,
            "this server answers to 127.0.0.1, [::1] and localhost only",
        ));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let own = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_some_and(|host| is_loopback(host) && port_of(host) == Some(port));
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

fn split(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

fn is_loopback(host: &str) -> bool {
    let (name, port) = split(host);
    let digits = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.to_ascii_lowercase();
    digits
        && (name == "localhost"
            || name == "[::1]"
            || name
                .parse::<std::net::Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback()))
}

fn port_of(host: &str) -> Option<u16> {
    split(host).1.map_or(Some(80), |port| port.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, origin: Option<&str>) -> Option<u16> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check_address(&headers, 46590)
            .err()
            .map(|problem| problem.status)
    }

    #[test]
    fn only_loopback_names_are_answered() {
        for host in [
            "127.0.0.1:46590",
            "localhost:46590",
            "LOCALHOST",
            "[::1]:46590",
            "127.0.0.1",
        ] {
            assert_eq!(check(Some(host), None), None, "{host}");
        }
        for host in [
            "evil.example:46590",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:1@evil",
            "10.0.0.1",
            "",
        ] {
            assert_eq!(check(Some(host), None), Some(421), "{host}");
        }
        assert_eq!(check(None, None), Some(421));
    }

    #[test]
    fn only_our_own_pages_may_ask() {
        let host = Some("127.0.0.1:46590");
        assert_eq!(check(host, Some("http://127.0.0.1:46590")), None);
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:46591",
            "https://127.0.0.1:46590",
            "http://127.0.0.1:46590.evil.example",
        ] {
            assert_eq!(check(host, Some(origin)), Some(403), "{origin}");
        }
    }
}
