//! The server's door: REST and the watching websocket.
//!
//! A connection is taken by [`serve`] and is a stranger ([`strangers`]) until somebody has signed in
//! on it. Every request passes [`door`] (from where, to what name), [`guard`] (who), then its handler;
//! errors of any kind are problem documents.

mod accounts;
pub mod address;
mod audit;
mod door;
mod guard;
mod lists;
pub mod logs;
mod meters;
mod pace;
pub mod problem;
pub mod proxy;
pub mod requests;
mod serve;
mod socket;
mod status;
mod strangers;
mod tls;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use skytower_api_client::rest::path;
use skytower_api_client::wire::Problem;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use address::Own;
pub(crate) use meters::Meters;
use problem::Failure;
pub(crate) use serve::{Doors, serve};
pub(crate) use strangers::Strangers;
pub(crate) use tls::Tls;
pub use tls::TlsError;

use crate::admission::Admission;
use crate::attention::Attention;
use crate::config::Config;
use crate::hub::Hub;
use crate::source::Source;

/// The largest body of a request, in bytes: a task file of half of it fits, however it is quoted.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// The largest head of a request, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;

/// What every handler can reach. Cheap to clone: it is done several times for each request.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// What there is to reach.
pub struct Parts {
    /// The state of everything that is watched.
    pub hub: Arc<Hub>,
    /// What is watched.
    pub sources: Arc<[Arc<dyn Source>]>,
    /// Everything that changes something.
    pub requests: Arc<crate::requests::Requests>,
    /// Who did what.
    pub audit: Arc<crate::audit::Audit>,
    /// The logs that are being read.
    pub logs: Arc<crate::logs::Logs>,
    /// What the server was told when it started.
    pub config: Arc<Config>,
    /// The server ends.
    pub stop: CancellationToken,
    pub(crate) admission: Arc<Admission>,
    pub(crate) own: Own,
    pub(crate) attention: Arc<Attention>,
    pub(crate) meters: Arc<Meters>,
    /// Held by every open websocket: the server ends when all are dropped.
    pub(crate) open: mpsc::Sender<()>,
}

impl AppState {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Parts {
    /// The source of that name: the first part of a key.
    pub fn source(&self, name: &str) -> Option<&Arc<dyn Source>> {
        self.sources.iter().find(|source| **source.name() == *name)
    }
}

/// Everything that is served.
pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route(path::HEALTH, get(status::health))
        .route("/metrics", get(status::metrics))
        .route(path::STATUS, get(status::status))
        .route(path::WATCH, get(watch::open))
        .route(path::REQUESTS, post(requests::create).get(lists::requests))
        .route(
            "/api/v1/requests/{id}",
            get(requests::show).delete(requests::cancel),
        )
        .merge(accounts::routes())
        .route(path::AUDIT, get(audit::list))
        .route(path::AUDIT_VERIFY, get(audit::verify))
        .route("/api/v1/{kind}", get(lists::list))
        .route("/api/v1/{kind}/{key}", get(lists::detail))
        .route("/api/v1/{kind}/{key}/logs", get(logs::read))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(state.clone(), guard::admit))
        .layer(from_fn_with_state(state.clone(), door::pass))
        .with_state(state)
}

async fn unknown_path(uri: Uri) -> Failure {
    Failure(
        Problem::new(
            "not_found",
            404,
            format!("there is nothing at {}", uri.path()),
        )
        .hint("the lists are at /api/v1/clusters, /api/v1/jobs, /api/v1/services, …"),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    Failure(Problem::new(
        "method_not_allowed",
        405,
        format!("{} does not understand {method}", uri.path()),
    ))
}
