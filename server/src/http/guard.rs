//! Who may come in, as [`crate::admission`] says.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use skytower_api_client::rest::path;

use super::problem::Failure;
use super::strangers::Peer;
use super::{AppState, address, proxy};
use crate::admission::{Brought, not_signed_in};

/// Stands before every handler. Handlers find who asks (`Extension<Guest>`) when somebody is signed in.
pub(crate) async fn admit(
    State(state): State<AppState>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let admitted = {
        let headers = request.headers();
        let before = state.config.proxy.as_ref();
        let vouched = match proxy::identity(peer.address(), headers, before).transpose() {
            Ok(vouched) => vouched,
            Err(problem) => return Failure(problem).into_response(),
        };
        let brought = Brought {
            authorization: text(headers, &header::AUTHORIZATION),
            cookie: text(headers, &header::COOKIE).filter(|_| address::cookies_count(headers)),
            vouched,
            path: request.uri().path(),
            address: Some(proxy::client_address(peer.address(), headers, before)),
        };
        state.admission.admit(&brought).await
    };
    match admitted {
        Ok(Some(guest)) => {
            if let Err(problem) = guest.counted_as().and_then(|user| peer.known(&user)) {
                return Failure(problem).into_response();
            }
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
