//! Requests over REST: everything that changes something.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use skytower_api_client::entity::Request;
use skytower_api_client::rest::NewRequest;
use skytower_api_client::wire::Problem;
use uuid::Uuid;

use super::AppState;
use super::problem::{Failure, JsonBody, Parameters};
use crate::guest::Guest;
use crate::requests::Answer;

/// The longest that one call waits for the end of a request.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// `POST /api/v1/requests`, header `Idempotency-Key`: 202 when it is on disk, 200 for a dry run.
pub(crate) async fn create(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    JsonBody(new): JsonBody<NewRequest>,
) -> Result<Response, Failure> {
    let key = headers
        .get("idempotency-key")
        .map(|value| {
            value.to_str().map(str::to_owned).map_err(|_| {
                Problem::new("invalid_request", 422, "an Idempotency-Key is plain ASCII")
            })
        })
        .transpose()?;
    Ok(
        match state.requests.accept(&guest.asker()?, &new, key).await? {
            Answer::Accepted(row) => (StatusCode::ACCEPTED, Json(row)).into_response(),
            Answer::DryRun(row) => Json(row).into_response(),
        },
    )
}

/// The parameters of [`show`].
#[derive(Debug, Deserialize)]
pub(crate) struct Wait {
    wait: Option<String>,
}

/// `GET /api/v1/requests/{id}?wait=30s`: answers when it has ended, or when the wait is over.
pub(crate) async fn show(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(id): Path<String>,
    Parameters(Wait { wait }): Parameters<Wait>,
) -> Result<Json<Request>, Failure> {
    let wait = match wait {
        None => Duration::ZERO,
        Some(written) => humantime::parse_duration(&written).map_err(|_| {
            Problem::new(
                "bad_parameter",
                400,
                format!("`{written}` is not a span of time"),
            )
            .hint("write it as `30s` or `1m`")
        })?,
    };
    let id = parse(&id)?;
    let get = async |wait| state.requests.get(&guest.caller()?, id, wait).await;
    let row = get(wait.min(WAIT_MAX)).await?;
    if wait.is_zero() {
        return Ok(Json(row));
    }
    // The rights to it may have ended while it was waited for.
    Ok(Json(get(Duration::ZERO).await?))
}

/// `DELETE /api/v1/requests/{id}`: withdraws what was not handed over yet.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(id): Path<String>,
) -> Result<Json<Request>, Failure> {
    Ok(Json(
        state
            .requests
            .withdraw(&guest.asker()?, parse(&id)?)
            .await?,
    ))
}

/// A request's id, or the key of its row.
fn parse(id: &str) -> Result<Uuid, Failure> {
    let bare = id.rsplit('/').next().unwrap_or(id);
    Uuid::parse_str(bare).map_err(|_| {
        let detail = format!("there is no request `{id}`");
        Failure(
            Problem::new("not_found", 404, detail).hint("the id stands in the answer to the POST"),
        )
    })
}
