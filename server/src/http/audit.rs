//! The audit over REST, for administrators.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use skytower_api_client::column::Context;
use skytower_api_client::rest::{AuditQuery, AuditVerdict, ListQuery, Page};
use skytower_api_client::wire::{Caller, Problem, Role};
use skytower_api_client::{Entity, EpochMs, Kind, Text};

use super::problem::{Failure, Parameters};
use super::{AppState, lists};
use crate::guest::Guest;
use crate::store::StoreError;

/// `GET /api/v1/audit`: the newest entries as a list like any other, or with `?before=` the ones before
/// that, from the database.
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Parameters(wanted): Parameters<AuditQuery>,
) -> Result<Json<Page>, Failure> {
    let caller = administrator(&guest)?;
    let Some(before) = wanted.before else {
        let wanted = ListQuery {
            q: wanted.q,
            sort: wanted.sort,
            limit: wanted.limit,
            cursor: wanted.cursor,
        };
        return lists::page(&state, &guest, Kind::Audit, &wanted).map(Json);
    };
    let query = lists::query(wanted.q.as_deref(), Kind::Audit)?;
    let context = Context {
        now: EpochMs::now(),
        caller,
        ..Context::default()
    };
    let limit = wanted
        .limit
        .unwrap_or(lists::LIMIT)
        .clamp(1, lists::LIMIT_MAX);
    let entries = state
        .audit
        .before(before, wanted.since, limit, move |entry| {
            query.matches(&Entity::from(entry.clone()), &context)
        })
        .await
        .map_err(|error| unreadable(&error))?;
    Ok(Json(Page {
        rows: entries
            .rows
            .into_iter()
            .map(|entry| Arc::new(entry.into()))
            .collect(),
        revision: state.hub.revision(),
        next: entries.next.map(|next| Text::from(next.to_string())),
    }))
}

/// `GET /api/v1/audit/verify`: is every entry as it was written.
pub(crate) async fn verify(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
) -> Result<Json<AuditVerdict>, Failure> {
    administrator(&guest)?;
    let verdict = state.audit.verify().await;
    Ok(Json(verdict.map_err(|error| unreadable(&error))?))
}

fn administrator(guest: &Guest) -> Result<Caller, Problem> {
    let caller = guest.caller()?;
    if caller.role == Role::Admin {
        return Ok(caller);
    }
    let detail = format!(
        "the audit is for administrators, and your role is {}",
        caller.role.word()
    );
    Err(Problem::new("forbidden", 403, detail)
        .hint("what you asked for yourself is in the list of requests"))
}

fn unreadable(error: &StoreError) -> Problem {
    tracing::error!(%error, "the audit cannot be read");
    Problem::new("audit_unavailable", 503, error.to_string())
        .hint("see to the disk of the skytower server and try again")
}
