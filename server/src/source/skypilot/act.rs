//! Actions as calls to a SkyPilot API server.
//!
//! The rules are those of SkyPilot 0.14.1 (`sky/server/requests/payloads.py`). A null often means
//! *all* there (`/api/cancel request_ids`, `/jobs/cancel job_ids`, `service_names`) or *the latest*
//! (`/cancel job_ids`): ids and names are always explicit here, `all` is always false, and nothing is
//! ever purged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use skytower_api_client::action::ActionSpec;
use skytower_api_client::text::strip_escapes;
use skytower_api_client::wire::Problem;
use skytower_api_client::{Entity, EpochMs, Text};
use uuid::Uuid;

use super::client::{CallError, Client, Identity, escape};
use crate::source::{Found, Handover, HandoverError, HandoverResult};

/// In the body's `env_vars`: SkyPilot keeps it and shows it to whoever sent it, so that a call whose
/// answer was lost can be told from an equal one.
const MARK: &str = "SKYTOWER_HANDOVER";

/// The most of a request's log that is read for its sentence, in bytes.
const LOG_LIMIT: usize = 64 * 1024;

/// How far SkyPilot's clock may be behind this machine's, in milliseconds.
const CLOCK_SKEW_MS: i64 = 30_000;

/// The columns of `/api/status` that a lookup needs.
const LOOKUP_FIELDS: &[&str] = &[
    "request_id",
    "name",
    "request_body",
    "status",
    "user_id",
    "cluster_name",
    "created_at",
];

/// One POST. The client adds the identity (`SKYPILOT_USER_ID`, `SKYPILOT_USER`).
#[derive(Clone, Debug, PartialEq)]
struct Call {
    /// Where to.
    path: &'static str,
    /// SkyPilot's name for such a request, in `/api/status`.
    name: &'static str,
    /// The JSON body.
    body: Value,
    /// What the body says beyond the envelope: equal calls ask for the same.
    asked: Map<String, Value>,
}

/// The targets divided into calls: managed jobs by workspace (SkyPilot cancels only in the active
/// one), jobs of clusters by cluster, API requests together; everything else one by one, so that each
/// has a result of its own.
pub(super) fn plan(action: &'static ActionSpec, targets: &[Arc<Entity>]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, target) in targets.iter().enumerate() {
        let group = match &**target {
            Entity::Job(job) => job.workspace.as_deref().unwrap_or_default().to_owned(),
            Entity::ClusterJob(job) => job.cluster_key.to_string(),
            Entity::Request(_) => String::new(),
            _ => format!("{i:06}"),
        };
        groups.entry(group).or_default().push(i);
    }
    debug_assert!(targets.iter().all(|target| target.kind() == action.kind));
    groups.into_values().collect()
}

/// The call of a handover; a problem when its targets cannot be named safely.
fn call(handover: &Handover) -> Result<Call, Problem> {
    let refuse = |detail: String| Problem::new("refused", 422, detail);
    let targets = &handover.targets;
    let Some(first) = targets.first() else {
        return Err(refuse(
            "there is nothing to do: no target is left".to_owned(),
        ));
    };
    if let Some(cluster) = first.as_cluster()
        && cluster.controller
    {
        return Err(refuse(format!(
            "{} is a SkyPilot controller: jobs and services depend on it",
            cluster.name
        )));
    }
    let name_of = |row: &Entity| exact(row.name());
    let cluster_name = match &**first {
        Entity::ClusterJob(job) => Some(exact(&job.cluster)?),
        Entity::Cluster(cluster) => Some(exact(&cluster.name)?),
        _ => None,
    };
    let (path, name, asked) = match handover.action.id {
        "cluster.stop" => ("/stop", "sky.stop", stop_or_down(cluster_name.as_deref())),
        "cluster.down" => ("/down", "sky.down", stop_or_down(cluster_name.as_deref())),
        "cluster.start" => (
            "/start",
            "sky.start",
            json!({
                "cluster_name": cluster_name, "idle_minutes_to_autostop": null, "wait_for": null,
                "retry_until_up": false, "down": false, "force": false,
            }),
        ),
        "cluster.autostop" => {
            let idle_minutes = handover.options.idle_minutes.map_or(-1, i64::from);
            (
                "/autostop",
                "sky.autostop",
                json!({
                    "cluster_name": cluster_name, "idle_minutes": idle_minutes, "wait_for": null,
                    "down": handover.options.down && idle_minutes >= 0,
                }),
            )
        }
        "cluster_job.cancel" => {
            let ids: Vec<i64> = targets
                .iter()
                .filter_map(|row| row.as_cluster_job())
                .map(|job| job.job_id)
                .collect();
            let same = targets
                .iter()
                .filter_map(|row| row.as_cluster_job())
                .all(|job| Some(job.cluster.as_str()) == cluster_name.as_deref());
            if ids.len() != targets.len() || !same {
                return Err(refuse("these are not jobs of one cluster".to_owned()));
            }
            (
                "/cancel",
                "sky.cancel",
                json!({ "cluster_name": cluster_name, "job_ids": ids, "all": false, "all_users": false }),
            )
        }
        "job.cancel" => {
            let mut ids: Vec<i64> = targets
                .iter()
                .filter_map(|row| row.as_job())
                .map(|job| job.job_id)
                .collect();
            ids.sort_unstable();
            ids.dedup();
            if ids.is_empty() {
                return Err(refuse("these are no managed jobs".to_owned()));
            }
            (
                "/jobs/cancel",
                "sky.jobs.cancel",
                json!({ "job_ids": ids, "all": false, "all_users": false }),
            )
        }
        "service.down" => (
            "/serve/down",
            "sky.serve.down",
            json!({ "service_names": names(targets, name_of)?, "all": false, "purge": false }),
        ),
        "pool.down" => (
            "/jobs/pool_down",
            "sky.jobs.pool_down",
            json!({ "pool_names": names(targets, name_of)?, "all": false, "purge": false }),
        ),
        "replica.terminate" => {
            let Some(replica) = first.as_replica().filter(|_| targets.len() == 1) else {
                return Err(refuse("replicas are terminated one by one".to_owned()));
            };
            (
                "/serve/terminate-replica",
                "sky.serve.terminate_replica",
                json!({
                    "service_name": exact(&replica.service)?, "replica_id": replica.replica_id,
                    "purge": false,
                }),
            )
        }
        "request.cancel" => {
            let ids: Vec<&str> = targets
                .iter()
                .filter_map(|row| row.as_request())
                .map(|request| request.request_id.as_str())
                // A prefix would cancel whatever begins with it.
                .filter(|id| Uuid::parse_str(id).is_ok())
                .collect();
            if ids.len() != targets.len() {
                return Err(refuse(
                    "a request is cancelled by its full id only".to_owned(),
                ));
            }
            // With ids, `user_id` only narrows: null so that an administrator can cancel another's.
            (
                "/api/cancel",
                "sky.api_cancel",
                json!({ "request_ids": ids, "user_id": null }),
            )
        }
        other => return Err(refuse(format!("SkyPilot has no `{other}`"))),
    };
    let Value::Object(asked) = asked else {
        return Err(refuse("the call could not be made up".to_owned()));
    };
    let mut body = asked.clone();
    // The client adds the identity that SkyPilot asks for.
    body.insert("env_vars".to_owned(), json!({ MARK: handover.id }));
    if let Some(workspace) = first.workspace().filter(|workspace| !workspace.is_empty()) {
        body.insert(
            "override_skypilot_config".to_owned(),
            json!({ "active_workspace": workspace }),
        );
    }
    Ok(Call {
        path,
        name,
        body: Value::Object(body),
        asked,
    })
}

fn stop_or_down(cluster_name: Option<&str>) -> Value {
    json!({ "cluster_name": cluster_name, "purge": false, "graceful": false, "graceful_timeout": null })
}

fn names(
    targets: &[Arc<Entity>],
    name_of: impl Fn(&Entity) -> Result<String, Problem>,
) -> Result<Vec<String>, Problem> {
    targets.iter().map(|row| name_of(row)).collect()
}

/// A name that means one thing only: SkyPilot takes globs in most places.
fn exact(name: &Text) -> Result<String, Problem> {
    if name.is_empty() || name.contains(['*', '?', '[', ']', '\u{fffd}']) {
        let detail = format!("`{name}` cannot be named to SkyPilot without meaning others too");
        return Err(Problem::new("refused", 422, detail));
    }
    Ok(name.to_string())
}

/// Where a call is looked up: answers of `/api/status?all_status=true` (fields: [`LOOKUP_FIELDS`]).
struct Listings {
    /// What whoever made the call is shown. Who does not administer is shown the own requests alone.
    senders: Vec<Value>,
    /// Who that is at SkyPilot, as far as it is known.
    sender: Option<String>,
    /// What the source's own credentials are shown after that, where a caller made the call.
    sources: Option<Vec<Value>>,
}

/// Looks a call up.
fn found(handover: &Handover, listings: &Listings) -> Result<Found, Problem> {
    let call = call(handover)?;
    let created = |row: &Value| EpochMs::from_seconds(row["created_at"].as_f64().unwrap_or(0.0));
    let since = EpochMs(handover.tried_at.0 - CLOCK_SKEW_MS);
    let mut unmarked = None;
    let mut hidden = false;
    let others = |row: &Value| {
        let (sender, user) = (listings.sender.as_deref(), row["user_id"].as_str());
        sender.is_some() && user.is_some() && sender != user
    };
    let another_self = |row: &Value| {
        let ids = &handover.caller.ids;
        others(row) && ids.iter().any(|id| row["user_id"] == **id)
    };
    // A call that was made before callers' credentials were used was made with the source's.
    let by_source = listings.sources.iter().flatten().map(|row| (row, false));
    let by_sender = listings.senders.iter().map(|row| (row, true));
    for (row, by_sender) in by_sender.chain(by_source) {
        if row["name"] != call.name || created(row) < since {
            continue;
        }
        let Some(id) = row["request_id"].as_str() else {
            continue;
        };
        let body: Value = row["request_body"]
            .as_str()
            .and_then(|raw| serde_json::from_str(raw).ok())
            .unwrap_or(Value::Null);
        let Some(body) = body.as_object() else {
            // Everybody is shown the bodies of the own requests, and nobody else's.
            hidden |= another_self(row) || by_sender && !others(row);
            continue;
        };
        match body.get("env_vars").and_then(|vars| vars.get(MARK)) {
            Some(mark) if *mark == json!(handover.id) => return Ok(Found::Accepted(id.into())),
            Some(_) => {}
            // A server that drops what it does not know: the same was asked, by the same.
            None => {
                let same = |(key, value): (&String, &Value)| body.get(key) == Some(value);
                if by_sender && !others(row) && call.asked.iter().all(same) {
                    unmarked = Some(Found::Accepted(id.into()));
                }
            }
        }
    }
    // Requests are forgotten when SkyPilot starts; its daemons' requests are made at that moment. A caller
    // is shown neither those nor anything else that is old.
    let rows = listings.sources.as_ref().unwrap_or(&listings.senders);
    let daemon = |row: &&Value| row["user_id"] == "skypilot-system";
    let started = rows.iter().filter(daemon).map(created).min();
    let oldest = rows.iter().map(created).min();
    let restarted = started
        .or(oldest)
        .is_none_or(|began| began > handover.tried_at);
    Ok(match unmarked {
        Some(found) => found,
        None if hidden || restarted => Found::CannotTell,
        None => Found::NotThere,
    })
}

/// The result of these is null whatever happened: what SkyPilot did is only in the request's log.
fn speaks_in_its_log(request_name: &str) -> bool {
    [
        "sky.jobs.cancel",
        "sky.serve.down",
        "sky.jobs.pool_down",
        "sky.serve.terminate_replica",
        "sky.cancel",
    ]
    .contains(&request_name)
}

/// Sentences by which SkyPilot says in the log of a succeeded request that it did not do it.
const DECLINED: &[&str] = &[
    "No job to cancel",
    "No service to terminate",
    "No pool to terminate",
    "not in the active workspace",
    "Skipping its termination",
    "non-terminal jobs",
    "nonterminal jobs",
    "to forcefully terminate",
];

/// What a succeeded request's log says.
fn read_log(log: &str) -> HandoverResult {
    let plain = strip_escapes(log);
    let progress = |line: &&str| {
        !line.is_empty()
            && !line.starts_with("Waiting for '")
            && !line.starts_with('<')
            && !line.starts_with("D ")
            && !line.contains("Cancelling managed jobs")
    };
    // A spinner rewrites its line: what counts is what stands there in the end.
    let lines = plain.lines().map(|line| {
        line.rsplit('\r')
            .find(|part| !part.trim().is_empty())
            .unwrap_or_default()
            .trim()
    });
    let said: Vec<&str> = lines.filter(progress).collect();
    let declined = said
        .iter()
        .any(|line| DECLINED.iter().any(|sentence| line.contains(sentence)));
    // Some of several were taken: what was not done is told by the state.
    let some = said.iter().any(|line| line.contains("scheduled to be"));
    let tail = &said[said.len().saturating_sub(3)..];
    HandoverResult {
        succeeded: !declined || some,
        message: (!tail.is_empty()).then(|| Text::from(tail.join(" "))),
    }
}

/// How long one look at a list of requests or at a result may take; a result is asked for again.
const PATIENCE: Duration = Duration::from_mins(1);

/// What makes a handover's calls: the caller's credentials, or the source's own.
fn voice(client: &Client, handover: &Handover) -> Result<Client, Problem> {
    let Some(credentials) = &handover.credentials else {
        return Ok(client.clone());
    };
    let caller = &handover.caller;
    let identity = Identity {
        id: caller.ids.first().unwrap_or(&caller.name).clone(),
        name: caller.name.clone(),
    };
    client.as_caller(credentials, identity)
}

/// What went wrong, for whoever's credentials were used.
fn problem(error: &CallError, handover: &Handover) -> Problem {
    if handover.credentials.is_some() {
        error.problem_for_caller()
    } else {
        error.problem()
    }
}

/// Makes a call and returns SkyPilot's request id.
pub(super) async fn submit(client: &Client, handover: &Handover) -> Result<Text, HandoverError> {
    let call = call(handover).map_err(HandoverError::Refused)?;
    let client = voice(client, handover).map_err(HandoverError::Refused)?;
    client.submit(call.path, call.body).await.map_err(|error| {
        let problem = problem(&error, handover);
        if error.may_be_sent_again() {
            HandoverError::NotAccepted(problem)
        } else if error.is_certainly_not_accepted()
            && !matches!(error, CallError::VersionMismatch(_))
        {
            HandoverError::Refused(problem)
        } else {
            // Everything else leaves it open whether the request was made.
            HandoverError::Uncertain(problem)
        }
    })
}

/// Looks up what became of a call whose answer was lost.
pub(super) async fn find(client: &Client, handover: &Handover) -> Result<Found, Problem> {
    let of_sender = |error: CallError| problem(&error, handover);
    let sender = voice(client, handover)?;
    let mut listings = Listings {
        senders: requests(&sender).await.map_err(of_sender)?,
        sender: None,
        sources: None,
    };
    if handover.credentials.is_some() {
        listings.sender = user_id(&sender).await.map_err(of_sender)?;
        // In this order: a restart in between is seen.
        let sources = requests(client).await.map_err(|error| error.problem())?;
        listings.sources = Some(sources);
    }
    found(handover, &listings)
}

/// All requests that SkyPilot shows to whoever asks.
async fn requests(client: &Client) -> Result<Vec<Value>, CallError> {
    let fields: Vec<String> = LOOKUP_FIELDS
        .iter()
        .map(|field| format!("&fields={field}"))
        .collect();
    let path = format!("/api/status?all_status=true{}", fields.concat());
    let listing = client.get(&path, PATIENCE).await?;
    serde_json::from_str(listing.get()).map_err(|_| CallError::Malformed {
        path: "/api/status".into(),
        reason: "it is not a list".into(),
    })
}

/// Who SkyPilot says that somebody is.
async fn user_id(client: &Client) -> Result<Option<String>, CallError> {
    let answer = client.get("/users/role", PATIENCE).await?;
    let answer: Value = serde_json::from_str(answer.get()).unwrap_or(Value::Null);
    let id = answer["id"].as_str().filter(|id| !id.is_empty());
    Ok(id.map(str::to_owned))
}

/// Waits until SkyPilot's request has ended.
pub(super) async fn result(
    client: &Client,
    handover: &Handover,
    upstream: &Text,
) -> Result<HandoverResult, Problem> {
    // Who does not administer is shown the results of the own requests alone.
    let client = &voice(client, handover)?;
    let failed = |message: Text| HandoverResult {
        succeeded: false,
        message: Some(message),
    };
    loop {
        match client.result(upstream, PATIENCE).await {
            Ok(_) => break,
            // It takes its time: a start or a stop with hooks may take many minutes.
            Err(CallError::Deadline { .. }) => {}
            Err(CallError::Failed { message, .. }) => return Ok(failed(message)),
            Err(CallError::Cancelled) => {
                return Ok(failed("somebody cancelled the request at SkyPilot".into()));
            }
            // Forgotten by a restart: whoever asks goes by the status.
            Err(CallError::NotFound(message)) => {
                return Err(Problem::new("not_found", 404, message));
            }
            Err(error) => return Err(problem(&error, handover)),
        }
    }
    let said = match request_name(client, upstream).await {
        Some(name) if speaks_in_its_log(&name) => log(client, upstream).await,
        _ => None,
    };
    Ok(said.map_or(
        HandoverResult {
            succeeded: true,
            message: None,
        },
        |log| read_log(&log),
    ))
}

async fn request_name(client: &Client, upstream: &Text) -> Option<String> {
    let path = format!("/api/status?request_ids={}", escape(upstream));
    let listing = client.get(&path, PATIENCE).await.ok()?;
    let listing: Value = serde_json::from_str(listing.get()).ok()?;
    listing[0]["name"].as_str().map(str::to_owned)
}

/// The log of an ended request. Without it the state alone has to tell.
async fn log(client: &Client, upstream: &Text) -> Option<String> {
    let path = format!(
        "/api/stream?request_id={}&follow=false&format=plain",
        escape(upstream)
    );
    let read = async {
        let (_, flow) = client.get_stream(&path).await.ok()?;
        let mut flow = std::pin::pin!(flow);
        let mut log = Vec::new();
        while let Some(Ok(piece)) = flow.next().await {
            log.extend_from_slice(&piece);
            // What was done is said at the end.
            let excess = log.len().saturating_sub(LOG_LIMIT);
            log.drain(..excess);
        }
        Some(String::from_utf8_lossy(&log).into_owned())
    };
    tokio::time::timeout(PATIENCE, read).await.ok().flatten()
}

#[cfg(test)]
mod tests;
