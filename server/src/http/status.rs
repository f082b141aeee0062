//! What the server says about itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::json;
use skytower_api_client::policy::View;
use skytower_api_client::rest::Health;
use skytower_api_client::wire::{PROTOCOL, Problem, Role};
use skytower_api_client::{Kind, Phase, Text};

use super::AppState;
use super::problem::Failure;
use crate::guest::Guest;
use crate::server::{COMMIT, VERSION};

/// `GET /api/health`
pub(crate) async fn health(
    State(state): State<AppState>,
    guest: Option<Extension<Guest>>,
) -> Json<Health> {
    let mut health = Health {
        status: Text::from("needs_auth"),
        service: Text::from("skytower"),
        version: Text::from(VERSION),
        commit: Text::from(COMMIT),
        api_version: PROTOCOL,
        sign_in: state.admission.ways(),
        ..Health::default()
    };
    if let Some(Ok(caller)) = guest.map(|Extension(guest)| guest.caller()) {
        health.status = Text::from("healthy");
        health.epoch = Some(state.hub.epoch().clone());
        health.revision = Some(state.hub.revision());
        health.clients = Some(*state.hub.watchers().borrow() as u64);
        health.pid = Some(std::process::id());
        health.user = Some(caller);
    }
    Json(health)
}

/// `GET /api/v1/status`: the server and what it watches, as `skytower api status -o json` prints it.
pub(crate) async fn status(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
) -> Result<Json<serde_json::Value>, Failure> {
    let (sources, counts, revision) = state.hub.read(|table| {
        let view = View::of(&guest.caller()?, &[]);
        let mut counts = BTreeMap::<Text, BTreeMap<Kind, u64>>::new();
        for row in Kind::ALL.iter().flat_map(|kind| table.rows(*kind)) {
            if row.phase() != Phase::Gone && view.sees(row) {
                let of_source = counts.entry(row.source().clone()).or_default();
                *of_source.entry(row.kind()).or_default() += 1;
            }
        }
        let sources = table.rows(Kind::Source).filter(|row| view.sees(row));
        let sources: Vec<_> = sources.cloned().collect();
        Ok::<_, Problem>((sources, counts, table.revision()))
    })?;
    Ok(Json(json!({
        "server": {
            "url": state.own.url(),
            "pid": std::process::id(),
            "status": "healthy",
            "version": VERSION,
            "commit": COMMIT,
            "epoch": state.hub.epoch(),
            "revision": revision,
            "clients": *state.hub.watchers().borrow(),
        },
        "sources": sources,
        "counts": counts,
    })))
}

/// `GET /metrics`: Prometheus' text format. Counts of all that there is, so not for everybody; the only
/// names in it are those of the sources.
pub(crate) async fn metrics(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
) -> Result<impl IntoResponse, Failure> {
    if !guest.measures() && guest.caller()?.role != Role::Admin {
        let sentence = "the measurements count what everybody has, and are for administrators";
        let problem = Problem::new("forbidden", 403, sentence);
        return Err(Failure(problem.hint(
            "GET /api/v1/status counts what you may see; a token of the scope `metrics` reads these, and nothing else",
        )));
    }
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let (frames, bytes, stuck) = state.meters.read();
    let rows: Vec<_> = state.hub.read(|table| {
        let of = |kind: &Kind| (format!("{{kind=\"{kind}\"}}"), table.len(*kind) as u64);
        Kind::ALL.iter().map(of).collect()
    });
    let calls: Vec<_> = state
        .sources
        .iter()
        .filter_map(|source| {
            let calls = source.upstream_calls()?;
            Some((format!("{{source=\"{}\"}}", source.name()), calls))
        })
        .collect();
    let gauge = "gauge";
    let counter = "counter";
    family(
        "skytower_revision",
        gauge,
        "The present revision of the state.",
        &one(state.hub.revision()),
    );
    family("skytower_rows", gauge, "Rows, by kind.", &rows);
    family(
        "skytower_watchers",
        gauge,
        "Clients that watch.",
        &one(*state.hub.watchers().borrow() as u64),
    );
    family(
        "skytower_frames_sent_total",
        counter,
        "Messages sent to watching clients.",
        &one(frames),
    );
    family(
        "skytower_bytes_sent_total",
        counter,
        "Their bytes.",
        &one(bytes),
    );
    family(
        "skytower_encodes_total",
        counter,
        "Messages encoded; each is shared by all clients of a view.",
        &one(state.hub.encodes()),
    );
    family(
        "skytower_stuck_clients_total",
        counter,
        "Clients closed because they did not read.",
        &one(stuck),
    );
    if let Some(team) = state.admission.team() {
        family(
            "skytower_password_hashes_total",
            counter,
            "Passwords hashed or checked at full cost.",
            &one(team.passwords().argon2_runs()),
        );
    }
    family(
        "skytower_upstream_calls_total",
        counter,
        "Calls made to what is watched.",
        &calls,
    );
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out))
}
