//! Who may come in: those with the token.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use skytower_api_client::Text;
use skytower_api_client::rest::path;
use skytower_api_client::wire::Problem;

use super::problem::Failure;
use super::strangers::Peer;
use super::{AppState, proxy};
use crate::guest::Guest;

/// Stands before every handler. Handlers find who asks (`Extension<Guest>`) when somebody is signed in.
pub(crate) async fn admit(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    match signed_in(request.headers(), &state) {
        Some(true) => {
            let peer = request.extensions().get::<Peer>();
            if let Some(Err(problem)) = peer.map(|peer| peer.known(&Text::from("local"))) {
                return Failure(problem).into_response();
            }
            let address = peer.map(|peer| {
                let before = state.config.proxy.as_ref();
                proxy::client_address(peer.address(), request.headers(), before)
            });
            let guest = Guest::new(state.local.clone(), Text::from("local"), address);
            request.extensions_mut().insert(guest);
        }
        // Health says who answers to whoever asks, without credentials; a wrong token is always told.
        None if request.uri().path() == path::HEALTH => {}
        _ => {
            let problem = Problem::new(
                "not_signed_in",
                401,
                "this skytower server wants its token, and none or another one was given",
            )
            .hint("the token is in the file `token` in the server's state folder");
            return Failure(problem).into_response();
        }
    }
    next.run(request).await
}

/// None: no credentials at all.
fn signed_in(headers: &HeaderMap, state: &AppState) -> Option<bool> {
    let value = headers.get(header::AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    Some(token.is_some_and(|token| state.token.is(token)))
}
