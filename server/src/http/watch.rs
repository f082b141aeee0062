//! The watching websocket.

use axum::extract::State;
use skytower_api_client::wire::Problem;

use super::AppState;
use super::problem::Failure;

pub(crate) async fn open(State(_): State<AppState>) -> Failure {
    Failure(Problem::new("not_implemented", 501, "soon"))
}
