//! A SkyPilot API server in this process, for tests and measurements: it holds a state that the test
//! changes, keeps SkyPilot's manners (submit, then `/api/get`; values as JSON in strings; failures as
//! HTTP 500 with a typed error; both version headers) and counts what it is asked.
//!
//! ```ignore
//! let fake = FakeSkyPilot::start().await;
//! fake.with(|state| state.clusters.push(cluster("dev", "hash-1", "alice")));
//! fake.fail("/jobs/queue/v2", Some(Failure::Request { kind: "ClusterNotUpError", message: "no controller" }));
//! fake.begin("sky.launch", "dev", "alice");   // somebody else's request, to be ended by `fake.end`
//! fake.go_down(); fake.come_up().await;       // an outage: connections are refused
//! fake.restart();                             // it forgets its requests
//! assert_eq!(fake.calls("/status"), 3);
//! ```
//!
//! With `state.people` it keeps SkyPilot's manners about who asks, too: passwords, service accounts'
//! tokens, session cookies, roles, private workspaces, results and requests shown to their owners alone,
//! and no questions to whoever comes from its own machine unless the call was forwarded.
//!
//! `/down`, `/stop`, `/start`, `/autostop`, `/cancel`, `/jobs/cancel`, `/serve/down`,
//! `/serve/terminate-replica`, `/jobs/pool_down` and `/api/cancel` take effect at once; with
//! `state.hold_actions` they stay `RUNNING`, without effect, until `fake.release(rid)`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by several test programs"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use skytower_api_client::credentials::{Credentials, Secret};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What opens every cluster to whoever has it.
pub const SSH_PRIVATE_KEY: &str =
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEtb2YtdGhlLWZha2U\n";

/// What changes something, which viewers may not.
const MUTATIONS: &[&str] = &[
    "/down",
    "/stop",
    "/start",
    "/autostop",
    "/cancel",
    "/jobs/cancel",
    "/serve/down",
    "/serve/terminate-replica",
    "/jobs/pool_down",
    "/api/cancel",
];

/// How an endpoint misbehaves.
#[derive(Clone, Debug)]
pub enum Failure {
    /// This status and body instead of an answer; the call is not accepted.
    Http(u16, &'static str),
    /// The request is accepted and fails with this error.
    Request {
        kind: &'static str,
        message: &'static str,
    },
    /// The request is accepted and carried out, and the connection breaks before the answer.
    LostAfter,
    /// The connection breaks; nothing was accepted.
    LostBefore,
    /// No answer, ever.
    Hang,
    /// The request succeeds with this text as its value, whether it is JSON or not.
    Value(String),
}

/// Somebody who can sign in.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: String,
    pub name: String,
    pub role: &'static str,
    pub password: Option<String>,
    pub token: Option<String>,
    pub cookie: Option<String>,
    /// Private workspaces that let them in.
    pub member_of: Vec<&'static str>,
}

/// Somebody with a password: `secret-of-NAME`.
pub fn person(id: &str, name: &str, role: &'static str) -> Person {
    Person {
        id: id.to_owned(),
        name: name.to_owned(),
        role,
        password: Some(format!("secret-of-{name}")),
        token: None,
        cookie: None,
        member_of: vec![],
    }
}

/// A service account with a token: `sky_NAME`.
pub fn service_account(id: &str, name: &str, role: &'static str) -> Person {
    Person {
        password: None,
        token: Some(format!("sky_{name}")),
        ..person(id, name, role)
    }
}

/// How whoever made a call said who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub path: String,
    pub authorization: Option<String>,
    pub cookie: Option<String>,
    pub forwarded: bool,
}

/// What the server holds. Lists are SkyPilot's records.
pub struct World {
    pub clusters: Vec<Value>,
    pub jobs: Vec<Value>,
    pub services: Vec<Value>,
    pub pools: Vec<Value>,
    pub users: Vec<Value>,
    pub workspaces: Value,
    pub enabled_clouds: Vec<&'static str>,
    pub slurm_nodes: Vec<Value>,
    /// By cluster name.
    pub queues: BTreeMap<String, Vec<Value>>,
    /// By cluster hash; they outlive the cluster.
    pub cluster_events: BTreeMap<String, Vec<Value>>,
    /// By job id.
    pub job_events: BTreeMap<i64, Vec<Value>>,
    /// What `/api/status` lists, oldest first.
    pub requests: Vec<Value>,
    /// `/users/role`.
    pub role: Value,
    /// `/api/health`'s status.
    pub health: &'static str,
    pub version: &'static str,
    /// None: a server that is too old to say.
    pub api_version: Option<u32>,
    /// Who can sign in; nobody has to when there is nobody.
    pub people: Vec<Person>,
    /// Every call, those that were refused among them.
    pub signed: Vec<Signed>,
    /// The `Authorization` header without which nobody gets in.
    pub authorization: Option<String>,
    pub failures: BTreeMap<String, Failure>,
    pub delays: BTreeMap<String, Duration>,
    /// Actions wait for `release`.
    pub hold_actions: bool,
    /// Every call that was made, without reads of results: path and body.
    pub heard: Vec<(String, Value)>,
    /// Text of `/logs`-like streams, by path.
    pub streams: BTreeMap<String, Vec<&'static [u8]>>,
    held: BTreeMap<String, (String, Value)>,
    outcomes: BTreeMap<String, Outcome>,
    owners: BTreeMap<String, String>,
    calls: BTreeMap<String, u64>,
    next: u64,
    offline: bool,
}

#[derive(Clone)]
enum Outcome {
    Pending,
    Value(String),
    Failed(String, String),
    Cancelled,
}

impl Default for World {
    fn default() -> Self {
        Self {
            clusters: vec![],
            jobs: vec![],
            services: vec![],
            pools: vec![],
            users: vec![json!({"id": "a11ce000", "name": "alice", "role": "user"})],
            workspaces: json!({"default": {"writable": true, "read_only": false}}),
            enabled_clouds: vec![],
            slurm_nodes: vec![],
            queues: BTreeMap::new(),
            cluster_events: BTreeMap::new(),
            job_events: BTreeMap::new(),
            requests: vec![],
            role: json!({"id": "ad000000", "name": "admin", "role": "admin"}),
            health: "healthy",
            version: "0.14.1",
            api_version: Some(62),
            people: vec![],
            signed: vec![],
            authorization: None,
            failures: BTreeMap::new(),
            delays: BTreeMap::new(),
            hold_actions: false,
            heard: vec![],
            streams: BTreeMap::new(),
            held: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            owners: BTreeMap::new(),
            calls: BTreeMap::new(),
            next: 0,
            offline: false,
        }
    }
}

struct Shared {
    world: Mutex<World>,
    changed: Notify,
}

/// The server. It ends when this is dropped.
pub struct FakeSkyPilot {
    pub url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for FakeSkyPilot {
    fn drop(&mut self) {
        self.go_down();
    }
}

impl FakeSkyPilot {
    /// Starts on a free port of loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            world: Mutex::default(),
            changed: Notify::new(),
        });
        let fake = Self {
            url: format!("http://{address}"),
            address,
            shared,
            task: Mutex::default(),
        };
        fake.serve(listener);
        fake
    }

    fn serve(&self, listener: TcpListener) {
        let router = Router::new()
            .fallback(answer)
            .with_state(self.shared.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        *self.task.lock().unwrap() = Some(task);
    }

    /// Reads or changes the state.
    pub fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.shared.world.lock().unwrap());
        self.shared.changed.notify_waiters();
        result
    }

    /// Makes an endpoint misbehave until told otherwise.
    pub fn fail(&self, path: &str, failure: Option<Failure>) {
        self.with(|world| match failure {
            Some(failure) => world.failures.insert(path.to_owned(), failure),
            None => world.failures.remove(path),
        });
    }

    /// Makes an endpoint slow.
    pub fn delay(&self, path: &str, delay: Duration) {
        self.with(|world| world.delays.insert(path.to_owned(), delay));
    }

    /// Refuses connections from now on.
    pub fn go_down(&self) {
        self.with(|world| world.offline = true);
        if let Some(task) = self.task.lock().unwrap().take() {
            task.abort();
        }
    }

    /// Accepts connections again, on the same port.
    pub async fn come_up(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.with(|world| world.offline = false);
        self.serve(listener);
    }

    /// As a restarted server: every request is forgotten.
    pub fn restart(&self) {
        self.with(|world| {
            world.requests.clear();
            world.outcomes.clear();
            world.held.clear();
        });
    }

    /// How often a path was called.
    pub fn calls(&self, path: &str) -> u64 {
        self.with(|world| world.calls.get(path).copied().unwrap_or_default())
    }

    /// How often anything was called.
    pub fn all_calls(&self) -> u64 {
        self.with(|world| world.calls.values().sum())
    }

    /// Somebody's request begins.
    pub fn begin(&self, name: &str, cluster: &str, user: &str) -> String {
        self.with(|world| {
            let rid = world.rid();
            world.list(&rid, name, "RUNNING", user, Some(cluster), &Value::Null);
            rid
        })
    }

    /// It ends.
    pub fn end(&self, rid: &str, status: &str) {
        self.with(|world| world.finish(rid, status));
    }

    /// Lets an action that was held take effect and succeed.
    pub fn release(&self, rid: &str) {
        self.with(|world| {
            let (path, body) = world.held.remove(rid).expect("a held action");
            let value = world.act(&path, &body);
            world.outcomes.insert(rid.to_owned(), Outcome::Value(value));
            world.finish(rid, "SUCCEEDED");
        });
    }
}

/// A cluster record that is `UP` on Slurm.
pub fn cluster(name: &str, hash: &str, user: &str) -> Value {
    json!({
        "name": name, "cluster_hash": hash, "launched_at": 1_795_473_814, "status": "UP",
        "autostop": -1, "to_down": false, "user_hash": format!("{user}-id"), "user_name": user,
        "workspace": "default", "nodes": 1, "cloud": "Slurm", "region": "lab", "cpus": "2",
        "memory": "1", "resources_str": "1x(cpus=2, mem=1, ...)", "labels": {},
    })
}

/// A managed job's task.
pub fn job(id: i64, status: &str, user: &str) -> Value {
    json!({
        "job_id": id, "task_id": 0, "job_name": format!("job-{id}"), "task_name": format!("job-{id}"),
        "status": status, "workspace": "default", "user_hash": format!("{user}-id"), "user_name": user,
        "resources": "1x[CPU:1]", "job_duration": 1.0, "submitted_at": 1_795_474_000.0,
    })
}

/// A service with ready replicas.
pub fn service(name: &str, replicas: i64, user: &str) -> Value {
    let replicas: Vec<Value> = (1..=replicas)
        .map(|id| json!({"replica_id": id, "name": format!("{name}-{id}"), "status": "READY", "version": 1}))
        .collect();
    json!({
        "name": name, "status": "READY", "hash": format!("{name}-hash"), "version": 1,
        "active_versions": [1], "user_hash": format!("{user}-id"), "user_name": user,
        "target_num_replicas": replicas.len(), "replica_info": replicas, "pool": false,
    })
}

/// When the clusters of replicas are launched, in seconds; the second one later.
pub const LAUNCHED: i64 = 1_795_473_800;

/// A service as [`service`], on clusters in a workspace that only whoever debugs is shown.
pub fn placed(world: &mut World, name: &str, replicas: i64, user: &str, workspace: &str) {
    let mut record = service(name, replicas, user);
    for (replica, at) in record["replica_info"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .zip(LAUNCHED..)
    {
        replica["launched_at"] = at.into();
        let mut under = cluster(
            replica["name"].as_str().unwrap(),
            &format!("{name}-{at}"),
            user,
        );
        under["launched_at"] = at.into();
        under["workspace"] = workspace.into();
        under["is_managed"] = true.into();
        world.clusters.push(under);
    }
    world.services.push(record);
}

pub fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

impl World {
    fn rid(&mut self) -> String {
        self.next += 1;
        format!("{:08x}-0000-4000-8000-000000000000", self.next)
    }

    fn list(
        &mut self,
        rid: &str,
        name: &str,
        status: &str,
        user: &str,
        cluster: Option<&str>,
        body: &Value,
    ) {
        self.requests.push(json!({
            "request_id": rid, "name": name, "status": status, "user_id": user,
            "cluster_name": cluster, "created_at": now(), "finished_at": null, "status_msg": null,
            "request_body": body.to_string(),
        }));
    }

    fn finish(&mut self, rid: &str, status: &str) {
        for request in &mut self.requests {
            if request["request_id"] == rid {
                request["status"] = status.into();
                request["finished_at"] = now().into();
            }
        }
    }

    fn is_finished(status: &Value) -> bool {
        let status = status.as_str().unwrap_or_default();
        status.starts_with("FAILED") || matches!(status, "SUCCEEDED" | "CANCELLED")
    }

    /// What an action does, and its value as JSON.
    fn act(&mut self, path: &str, body: &Value) -> String {
        let name = body["cluster_name"].clone();
        let set = |rows: &mut Vec<Value>, field: &str, value: Value| {
            for row in rows.iter_mut().filter(|row| row["name"] == name) {
                row[field] = value.clone();
            }
        };
        match path {
            "/down" => {
                let user = body["env_vars"]["SKYPILOT_USER"].as_str().unwrap_or("?");
                for row in self.clusters.iter().filter(|row| row["name"] == name) {
                    let hash = row["cluster_hash"].as_str().unwrap_or_default().to_owned();
                    self.cluster_events.entry(hash).or_default().push(json!({
                        "reason": format!("Cluster was terminated by user {user} (request ID: r)"),
                        "transitioned_at": now() as i64,
                    }));
                }
                self.clusters.retain(|row| row["name"] != name);
            }
            "/stop" => set(&mut self.clusters, "status", "STOPPED".into()),
            "/start" => set(&mut self.clusters, "status", "UP".into()),
            "/autostop" => {
                set(&mut self.clusters, "autostop", body["idle_minutes"].clone());
                set(&mut self.clusters, "to_down", body["down"].clone());
            }
            "/cancel" => {
                let ids = body["job_ids"].as_array().cloned().unwrap_or_default();
                let queue = self
                    .queues
                    .entry(name.as_str().unwrap_or_default().to_owned());
                for row in queue.or_default() {
                    if ids.contains(&row["job_id"]) && !Self::is_finished(&row["status"]) {
                        row["status"] = "CANCELLED".into();
                    }
                }
            }
            "/jobs/cancel" => {
                let ids = body["job_ids"].as_array().cloned().unwrap_or_default();
                for row in &mut self.jobs {
                    if ids.contains(&row["job_id"]) && !Self::is_finished(&row["status"]) {
                        row["status"] = "CANCELLED".into();
                    }
                }
            }
            "/serve/down" => {
                let names = body["service_names"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                self.services.retain(|row| !names.contains(&row["name"]));
            }
            "/serve/terminate-replica" => {
                for row in &mut self.services {
                    if row["name"] == body["service_name"]
                        && let Some(replicas) = row["replica_info"].as_array_mut()
                    {
                        replicas.retain(|replica| replica["replica_id"] != body["replica_id"]);
                    }
                }
            }
            "/jobs/pool_down" => {
                let names = body["pool_names"].as_array().cloned().unwrap_or_default();
                self.pools.retain(|row| !names.contains(&row["name"]));
            }
            "/api/cancel" => {
                let ids = body["request_ids"].as_array().cloned().unwrap_or_default();
                for id in &ids {
                    let rid = id.as_str().unwrap_or_default();
                    self.finish(rid, "CANCELLED");
                    self.outcomes.insert(rid.to_owned(), Outcome::Cancelled);
                }
                return Value::Array(ids).to_string();
            }
            _ => {}
        }
        "null".to_owned()
    }

    /// What a list or a look answers.
    fn value(&self, path: &str, body: &Value) -> Option<Value> {
        let only = |rows: &[Value], names: &Value, field: &str| -> Vec<Value> {
            rows.iter()
                .filter(|row| {
                    names
                        .as_array()
                        .is_none_or(|names| names.contains(&row[field]))
                })
                .cloned()
                .collect()
        };
        Some(match path {
            "/status" => {
                let mut rows = only(&self.clusters, &body["cluster_names"], "name");
                if body["env_vars"]["SKYPILOT_DEBUG"] != "1" {
                    rows.retain(|row| row["is_managed"] != true);
                }
                // As SkyPilot: whoever does not say no is given them.
                if body["include_credentials"] != false {
                    for row in &mut rows {
                        row["credentials"] = json!({
                            "ssh_user": "sky", "ssh_private_key": "~/.sky/clients/key",
                            "ssh_private_key_content": SSH_PRIVATE_KEY,
                        });
                    }
                }
                rows.into()
            }
            "/jobs/queue/v2" => {
                let mut rows = only(&self.jobs, &body["job_ids"], "job_id");
                if body["skip_finished"] == true {
                    rows.retain(|row| !Self::is_finished(&row["status"]));
                }
                rows.sort_by_key(|row| std::cmp::Reverse(row["job_id"].as_i64()));
                if let Some(limit) = body["limit"].as_u64() {
                    rows.truncate(limit as usize);
                }
                if let Some(fields) = body["fields"].as_array() {
                    for row in &mut rows {
                        row.as_object_mut()
                            .unwrap()
                            .retain(|name, _| fields.contains(&name.as_str().into()));
                    }
                }
                json!({"jobs": rows, "total": self.jobs.len()})
            }
            "/serve/status" => only(&self.services, &body["service_names"], "name").into(),
            "/jobs/pool_status" => only(&self.pools, &body["pool_names"], "name").into(),
            "/workspaces" => self.workspaces.clone(),
            "/enabled_clouds" => json!(self.enabled_clouds),
            "/slurm_node_info" => self.slurm_nodes.clone().into(),
            "/queue" => {
                let name = body["cluster_name"].as_str().unwrap_or_default();
                self.queues.get(name).cloned().unwrap_or_default().into()
            }
            "/cluster_events" => {
                let hash = body["cluster_hash"].as_str().unwrap_or_default();
                let events = self.cluster_events.get(hash).cloned();
                events.unwrap_or_default().into()
            }
            "/jobs/events" => {
                let id = body["job_id"].as_i64().unwrap_or_default();
                self.job_events.get(&id).cloned().unwrap_or_default().into()
            }
            _ => return None,
        })
    }

    /// Who makes a call; none where nobody is asked. An error is the answer.
    fn who(&self, signed: &Signed) -> Result<Option<Person>, (u16, Value)> {
        let refused = |why: &str| Err((401, json!({"detail": why})));
        let find = |proof: &dyn Fn(&Person) -> bool| self.people.iter().find(|p| proof(p)).cloned();
        if self.people.is_empty() {
            return Ok(None);
        }
        let authorization = signed.authorization.as_deref().unwrap_or_default();
        if let Some(token) = authorization.strip_prefix("Bearer sky_") {
            let token = format!("sky_{token}");
            let known = find(&|person| person.token.as_ref() == Some(&token));
            return match known {
                Some(person) => Ok(Some(person)),
                None => refused("Invalid or expired service account token"),
            };
        }
        if let Some(cookie) = &signed.cookie
            && let Some(person) = find(&|person| person.cookie.as_ref() == Some(cookie))
        {
            return Ok(Some(person));
        }
        // Everybody here comes from this machine.
        if !signed.forwarded {
            return Ok(None);
        }
        if authorization.is_empty() {
            return refused("Authentication required");
        }
        if !authorization.starts_with("Basic ") {
            return refused("Invalid authentication method");
        }
        let known = |person: &Person| {
            let Some(password) = person.password.as_ref().map(Secret::new) else {
                return false;
            };
            let user = person.name.clone();
            let header = Credentials::Basic { user, password }.header();
            header.is_some_and(|(_, value)| value == authorization)
        };
        match find(&known) {
            Some(person) => Ok(Some(person)),
            None => refused("Invalid credentials"),
        }
    }

    /// Why somebody may not make a call.
    fn forbidden(&self, who: Option<&Person>, path: &str, body: &Value) -> Option<Value> {
        let who = who.filter(|who| who.role != "admin")?;
        if !MUTATIONS.contains(&path) {
            return None;
        }
        if who.role == "viewer" {
            return Some(json!({"detail": "Forbidden"}));
        }
        let mut clusters = self.clusters.iter();
        let cluster = clusters.find(|row| row["name"] == body["cluster_name"])?;
        let workspace = cluster["workspace"].as_str().unwrap_or("default");
        self.shut(who, workspace).then(|| {
            let Person { id, name, .. } = who;
            json!({"detail": format!("User {name} ({id}) does not have permission to access workspace '{workspace}'")})
        })
    }

    fn shut(&self, who: &Person, workspace: &str) -> bool {
        self.workspaces[workspace]["private"] == true
            && who.role != "admin"
            && !who.member_of.contains(&workspace)
    }

    /// What somebody is shown of the requests of others, who does not administer: nothing.
    fn hides(who: Option<&Person>, owner: Option<&str>) -> bool {
        who.is_some_and(|who| who.role != "admin" && owner != Some(&who.id))
    }

    /// Takes a call in and returns its id.
    fn submit(
        &mut self,
        who: Option<&Person>,
        path: &str,
        body: &Value,
        failure: Option<&Failure>,
    ) -> String {
        let rid = self.rid();
        let mut known = self.value(path, body);
        if path == "/workspaces"
            && let (Some(who), Some(Value::Object(listed))) = (who, &mut known)
        {
            listed.retain(|name, _| !self.shut(who, name));
        }
        let mut body = body.clone();
        if let Some(who) = who {
            self.owners.insert(rid.clone(), who.id.clone());
            body["env_vars"]["SKYPILOT_USER_ID"] = who.id.as_str().into();
            body["env_vars"]["SKYPILOT_USER"] = who.name.as_str().into();
        }
        let body = &body;
        let outcome = match failure {
            Some(Failure::Request { kind, message }) => {
                Outcome::Failed((*kind).to_owned(), (*message).to_owned())
            }
            Some(Failure::Value(value)) => Outcome::Value(value.clone()),
            _ => {
                if let Some(value) = known {
                    Outcome::Value(value.to_string())
                } else {
                    let name = format!("sky.{}", path.trim_start_matches('/').replace('/', "."));
                    let name = name.replace("api.cancel", "api_cancel").replace('-', "_");
                    let user = body["env_vars"]["SKYPILOT_USER_ID"].as_str();
                    let cluster = body["cluster_name"].as_str();
                    self.list(&rid, &name, "RUNNING", user.unwrap_or("?"), cluster, body);
                    if self.hold_actions {
                        self.held
                            .insert(rid.clone(), (path.to_owned(), body.clone()));
                        Outcome::Pending
                    } else {
                        let value = self.act(path, body);
                        self.finish(&rid, "SUCCEEDED");
                        Outcome::Value(value)
                    }
                }
            }
        };
        if matches!(outcome, Outcome::Failed(..)) {
            self.finish(&rid, "FAILED");
        }
        self.outcomes.insert(rid.clone(), outcome);
        // A server forgets too, only later.
        while self.outcomes.len() > 10_000 {
            self.outcomes.pop_first();
        }
        rid
    }
}

fn query<'a>(uri: &'a axum::http::Uri, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn reply(world: &World, status: u16, rid: &str, body: String) -> Response {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("x-skypilot-request-id", rid);
    if let Some(api) = world.api_version {
        response = response
            .header("x-skypilot-api-version", api.to_string())
            .header("x-skypilot-version", world.version);
    }
    response.body(Body::from(body)).unwrap()
}

/// The connection ends in the middle of an answer.
fn broken() -> Response {
    let pieces = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("broken"))]);
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = axum::body::to_bytes(body, 1 << 20)
        .await
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let header = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    let signed = Signed {
        path: path.clone(),
        authorization: header("authorization"),
        cookie: header("cookie"),
        forwarded: header("x-forwarded-for").is_some(),
    };
    let (failure, delay, who) = {
        let mut world = shared.world.lock().unwrap();
        if world.offline {
            return broken();
        }
        world.signed.push(signed.clone());
        let surplus = world.signed.len().saturating_sub(5000);
        world.signed.drain(..surplus);
        if world.authorization.is_some() && world.authorization != signed.authorization {
            let detail = json!({"detail": "Invalid username or password"});
            return reply(&world, 401, "none", detail.to_string());
        }
        let who = match world.who(&signed) {
            Ok(who) => who,
            Err((status, detail)) => return reply(&world, status, "none", detail.to_string()),
        };
        if let Some(detail) = world.forbidden(who.as_ref(), &path, &body) {
            return reply(&world, 403, "none", detail.to_string());
        }
        *world.calls.entry(path.clone()).or_default() += 1;
        if path != "/api/get" {
            world.heard.push((path.clone(), body.clone()));
            let surplus = world.heard.len().saturating_sub(5000);
            world.heard.drain(..surplus);
        }
        (
            world.failures.get(&path).cloned(),
            world.delays.get(&path).copied(),
            who,
        )
    };
    let who = who.as_ref();
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    match &failure {
        Some(Failure::Http(status, text)) => {
            let world = shared.world.lock().unwrap();
            return reply(&world, *status, "none", (*text).to_owned());
        }
        Some(Failure::LostBefore) => return broken(),
        Some(Failure::Hang) => std::future::pending().await,
        _ => {}
    }
    if path == "/api/get" {
        return result(
            &shared,
            who,
            query(&parts.uri, "request_id").next().unwrap_or(""),
        )
        .await;
    }
    let mut world = shared.world.lock().unwrap();
    let at_once = match path.as_str() {
        "/api/health" => Some(json!({
            "status": world.health, "version": world.version, "commit": "c0ffee",
            "api_version": world.api_version.map(|api| api.to_string()),
            "user": who.map(|who| json!({"id": who.id, "name": who.name})),
        })),
        "/users/role" => Some(match who {
            Some(who) => json!({"id": who.id, "name": who.name, "role": who.role}),
            None if world.people.is_empty() => world.role.clone(),
            None => json!({"id": "", "name": "", "role": "admin"}),
        }),
        "/users" => Some(world.users.clone().into()),
        "/api/status" => Some(status(&world, who, &parts.uri)),
        _ => None,
    };
    if let Some(value) = at_once {
        let text = match failure {
            Some(Failure::Value(text)) => text,
            _ => value.to_string(),
        };
        return reply(&world, 200, "sync", text);
    }
    if let Some(pieces) = world.streams.get(&path).cloned() {
        let rid = world.rid();
        let pieces = pieces
            .into_iter()
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece)));
        let mut response = reply(&world, 200, &rid, String::new());
        *response.body_mut() = Body::from_stream(futures_util::stream::iter(pieces));
        return response;
    }
    let rid = world.submit(who, &path, &body, failure.as_ref());
    if matches!(failure, Some(Failure::LostAfter)) {
        return broken();
    }
    reply(&world, 200, &rid, "null".to_owned())
}

fn status(world: &World, who: Option<&Person>, uri: &axum::http::Uri) -> Value {
    let ids: Vec<&str> = query(uri, "request_ids").collect();
    let clusters: Vec<&str> = query(uri, "cluster_name").collect();
    let all = query(uri, "all_status").next() == Some("true");
    let limit = query(uri, "limit")
        .next()
        .and_then(|limit| limit.parse().ok());
    let rows = world.requests.iter().rev().filter(|row| {
        let rid = row["request_id"].as_str().unwrap_or_default();
        let open = matches!(
            row["status"].as_str(),
            Some("PENDING" | "WAITING" | "RUNNING")
        );
        (all || open)
            && !World::hides(who, row["user_id"].as_str())
            && (ids.is_empty() || ids.iter().any(|id| rid.starts_with(id)))
            && (clusters.is_empty()
                || clusters.contains(&row["cluster_name"].as_str().unwrap_or_default()))
    });
    let shown = |row: &Value| {
        let mut row = row.clone();
        if who.is_some_and(|who| row["user_id"] != *who.id) {
            row["request_body"] = Value::Null;
        }
        row
    };
    rows.take(limit.unwrap_or(usize::MAX)).map(shown).collect()
}

async fn result(shared: &Shared, who: Option<&Person>, rid: &str) -> Response {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let world = shared.world.lock().unwrap();
            let payload = |status: &str, value: &str, error: Value| json!({"request_id": rid, "status": status, "return_value": value, "error": error.to_string()});
            let owner = world.owners.get(rid).map(String::as_str);
            let outcome = world.outcomes.get(rid);
            let answer = match outcome.filter(|_| !World::hides(who, owner)) {
                None => Some((404, json!({"detail": format!("Request '{rid}' not found")}))),
                Some(Outcome::Pending) => None,
                Some(Outcome::Value(value)) => {
                    Some((200, payload("SUCCEEDED", value, Value::Null)))
                }
                Some(Outcome::Cancelled) => Some((200, payload("CANCELLED", "null", Value::Null))),
                Some(Outcome::Failed(kind, message)) => {
                    let error = json!({"object": "gASV", "type": kind, "message": message});
                    Some((500, json!({"detail": payload("FAILED", "null", error)})))
                }
            };
            if let Some((status, body)) = answer {
                return reply(&world, status, "get", body.to_string());
            }
        }
        changed.await;
    }
}
