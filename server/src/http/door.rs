//! What every request passes first, whoever sends it, and what every answer carries.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use skytower_api_client::rest::path;
use skytower_api_client::wire::Problem;

use super::problem::Failure;
use super::strangers::Peer;
use super::{AppState, address, proxy};
use crate::audit::{Entry, Outcome};

/// Nothing that is answered is a page: it is not to be guessed into one, framed, or kept by others.
const ON_EVERYTHING: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
];

/// Stands before everything else.
pub(crate) async fn pass(
    State(state): State<AppState>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let checked = check_way(&state, &request, &peer)
        .and_then(|()| check(&state, request.headers_mut(), &peer));
    let (mut response, over) = match checked {
        Ok(()) => (next.run(request).await, false),
        Err(problem) => {
            if problem.code == "foreign_origin" {
                let entry = Entry::stranger(Some(peer.address().ip()), "connect", Outcome::Refused);
                state.audit.note(entry.detail("a page of another site"));
            }
            (Failure(problem).into_response(), true)
        }
    };
    let headers = response.headers_mut();
    for (name, value) in ON_EVERYTHING {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Whoever nobody knows gets one answer: the place is for the next one.
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !upgraded && (over || peer.is_stranger()) {
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the server lives may be asked from anywhere, as an orchestrator does; nothing else goes past
/// the proxy that encrypts.
fn check_way(state: &AppState, request: &Request, peer: &Peer) -> Result<(), Problem> {
    let secret = |name| request.headers().contains_key(name);
    let harmless = request.uri().path() == path::HEALTH
        && !secret(header::AUTHORIZATION)
        && !secret(header::COOKIE);
    if harmless || !proxy::is_passed_by(peer.address().ip(), &state.config) {
        return Ok(());
    }
    let sentence = "this server is reached through the proxy before it, which encrypts";
    Err(Problem::new("past_the_proxy", 403, sentence).hint(
        "use the proxy's address; what you sent now could be read on the way: if it was a password, \
         change it",
    ))
}

fn check(state: &AppState, headers: &mut HeaderMap, peer: &Peer) -> Result<(), Problem> {
    let (from, here) = (peer.address().ip(), peer.here().ip());
    let before = state.config.proxy.as_ref();
    let secure = state.own.encrypts() || proxy::is_secure(from, headers, before);
    proxy::strip(headers, from, before);
    address::check_single(headers)?;
    state.own.check(headers, here, secure)?;
    // A proxy on the way may have read another length than this server, and sent somebody else's
    // request as part of this one.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let sentence = "the length of the body has to be told beforehand";
        return Err(Problem::new("length_required", 411, sentence)
            .hint("send it with a Content-Length, not in chunks"));
    }
    Ok(())
}
