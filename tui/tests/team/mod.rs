//! A small team's server: one person with a password, her tokens, one cluster and one job.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "shared by several test programs"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use skytower_api_client::endpoint::{Credentials, Secret};
use skytower_api_client::wire::{CLIENT_HEADER, CLOSE_SIGNED_OUT, SUBPROTOCOL_JSON};
use tokio::sync::watch;

pub const USER: &str = "alice";

/// What the server knows, and what was asked of it.
pub struct World {
    pub password: String,
    /// Id to whole token.
    pub tokens: BTreeMap<String, String>,
    /// What each new token was asked for with.
    pub asked: Vec<Value>,
    /// How the next exchange of a password is refused.
    pub refuses_exchange: Option<(u16, &'static str)>,
    /// Seconds that it wants not to be asked.
    pub throttled: Option<u64>,
    /// Connections whose credentials count no more are closed without a word before.
    pub curt: bool,
    /// The server has no accounts.
    pub without_accounts: bool,
    /// The cursors that connections were opened with.
    pub cursors: Vec<Value>,
    /// Calls and handshakes without the client's header.
    pub strange: Vec<String>,
    /// What changed anything, by its path.
    pub changed: Vec<String>,
    pub role: &'static str,
    made: usize,
}

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub struct Team {
    pub url: String,
    world: Arc<Mutex<World>>,
    turn: watch::Sender<usize>,
}

impl Team {
    pub async fn start(password: &str) -> Self {
        let world = World {
            password: password.to_owned(),
            tokens: BTreeMap::new(),
            asked: Vec::new(),
            refuses_exchange: None,
            throttled: None,
            curt: false,
            without_accounts: false,
            cursors: Vec::new(),
            strange: Vec::new(),
            changed: Vec::new(),
            role: "user",
            made: 0,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let team = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            world: Arc::new(Mutex::new(world)),
            turn: watch::Sender::new(0),
        };
        let cluster = json!({"key": "prod/cluster/c1", "source": "prod", "name": "training-ground",
            "status": "UP", "phase": "running", "owner": {"id": "a", "name": USER}});
        let source = json!({"key": "prod/source/prod", "source": "prod", "name": "prod",
            "status": "degraded", "phase": "degraded"});
        let page = |row: Value| Json(json!({"rows": [row], "revision": 1}));
        let (clusters, sources) = (page(cluster), page(source));
        let inside = Router::new()
            .route("/api/v1/clusters", get(async move || clusters))
            .route("/api/v1/sources", get(async move || sources))
            .route("/api/v1/status", get(async || Json(json!({"counts": {}}))))
            .route("/api/v1/watch", get(open))
            .route("/api/v1/accounts/tokens", get(list).post(create))
            .route("/api/v1/accounts/tokens/{id}", delete(revoke))
            .route("/api/v1/accounts/tokens/{id}/rotate", post(rotate))
            .route("/api/v1/accounts/password", post(password_change))
            .route_layer(axum::middleware::from_fn_with_state(team.clone(), guard));
        let router = inside
            .route("/api/health", get(health))
            .with_state(team.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        team
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap())
    }

    /// No token counts any more: connections end.
    pub fn revoke_all(&self) {
        self.with(|world| world.tokens.clear());
        self.turn.send_modify(|turn| *turn += 1);
    }

    /// The address with a user and a password in it.
    pub fn as_alice(&self, password: &str) -> String {
        self.url
            .replace("http://", &format!("http://{USER}:{password}@"))
    }

    /// A token that somebody has made.
    pub fn token(&self, id: &str) -> String {
        let token = format!("st_{id}_not.to.be.seen.{id}");
        self.with(|world| world.tokens.insert(id.to_owned(), token.clone()));
        token
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(said) = headers.get("authorization").and_then(|it| it.to_str().ok()) else {
            return false;
        };
        self.with(|world| {
            let basic = Credentials::Basic {
                user: USER.to_owned(),
                password: Secret::new(world.password.clone()),
            };
            let token = |token: &String| said == format!("Bearer {token}");
            basic.header().is_some_and(|(_, value)| value == said)
                || world.tokens.values().any(token)
        })
    }
}

fn problem(status: u16, code: &str, detail: &str) -> Response {
    let body = json!({"code": code, "status": status, "title": code, "detail": detail});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn not_signed_in() -> Response {
    problem(
        401,
        "not_signed_in",
        "your credentials are not good (any more)",
    )
}

async fn guard(
    State(team): State<Team>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let path = request.uri().path().to_owned();
    if request
        .headers()
        .get(CLIENT_HEADER)
        .is_none_or(|it| it != "1")
    {
        team.with(|world| world.strange.push(path.clone()));
    }
    if !team.knows(request.headers()) {
        return not_signed_in();
    }
    if team.with(|world| world.without_accounts) && path.contains("/accounts/") {
        return problem(404, "not_found", "there is nothing at this address");
    }
    if request.method() != "GET" {
        team.with(|world| world.changed.push(path));
    }
    next.run(request).await
}

async fn health(State(team): State<Team>, headers: HeaderMap) -> Response {
    if headers.get(CLIENT_HEADER).is_none_or(|it| it != "1") {
        team.with(|world| world.strange.push("/api/health".to_owned()));
    }
    let sign_in = if team.with(|world| world.without_accounts) {
        json!(["local"])
    } else {
        json!(["password", "token"])
    };
    if !headers.contains_key("authorization") {
        let body = json!({"status": "needs_auth", "service": "skytower", "version": "0.1.0",
            "commit": "c0ffee", "api_version": 1, "sign_in": sign_in});
        return Json(body).into_response();
    }
    if let Some(wait) = team.with(|world| world.throttled) {
        let mut answer = problem(429, "too_many_attempts", "too many attempts");
        let wait = wait.to_string().parse().unwrap();
        answer.headers_mut().insert("retry-after", wait);
        return answer;
    }
    if !team.knows(&headers) {
        return not_signed_in();
    }
    let role = team.with(|world| world.role);
    let body = json!({"status": "healthy", "service": "skytower", "version": "0.1.0",
        "commit": "c0ffee", "api_version": 1, "epoch": "e", "revision": 1,
        "user": {"ids": ["a"], "name": USER, "role": role}});
    Json(body).into_response()
}

fn info(id: &str, name: &str, scope: &Value) -> Value {
    json!({"id": id, "name": name, "user": USER, "scope": scope, "created_at": 1_795_000_000_000_i64,
        "expires_at": 4_000_000_000_000_i64})
}

async fn list(State(team): State<Team>) -> Response {
    let tokens = team.with(|world| {
        let ids = world.tokens.keys();
        ids.map(|id| info(id, "ci", &json!("act")))
            .collect::<Vec<_>>()
    });
    Json(tokens).into_response()
}

async fn create(State(team): State<Team>, Json(asked): Json<Value>) -> Response {
    if let Some((status, code)) = team.with(|world| world.refuses_exchange) {
        return problem(status, code, "this account is not one of this server's");
    }
    let id = team.with(|world| {
        world.asked.push(asked.clone());
        world.made += 1;
        format!("made{}", world.made)
    });
    let token = team.token(&id);
    let name = asked["name"].as_str().unwrap();
    Json(json!({"info": info(&id, name, &asked["scope"]), "token": token})).into_response()
}

async fn revoke(State(team): State<Team>, Path(id): Path<String>) -> Response {
    if team.with(|world| world.tokens.remove(&id)).is_none() {
        return problem(404, "no_such_token", "there is no such token");
    }
    team.turn.send_modify(|turn| *turn += 1);
    StatusCode::NO_CONTENT.into_response()
}

async fn rotate(State(team): State<Team>, Path(id): Path<String>) -> Response {
    if team.with(|world| !world.tokens.contains_key(&id)) {
        return problem(404, "no_such_token", "there is no such token");
    }
    let token = format!("st_{id}_not.to.be.seen.again");
    team.with(|world| world.tokens.insert(id.clone(), token.clone()));
    Json(json!({"info": info(&id, "ci", &json!("act")), "token": token})).into_response()
}

async fn password_change(State(team): State<Team>, Json(asked): Json<Value>) -> Response {
    team.with(|world| {
        if asked["current"] != *world.password {
            return problem(403, "wrong_password", "the present password is another one");
        }
        asked["new"]
            .as_str()
            .unwrap()
            .clone_into(&mut world.password);
        StatusCode::NO_CONTENT.into_response()
    })
}

async fn open(State(team): State<Team>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .protocols([SUBPROTOCOL_JSON])
        .on_upgrade(move |socket| async move {
            // Whoever reads it no more has gone.
            let _ = serve(team, headers, socket).await;
        })
}

async fn serve(team: Team, headers: HeaderMap, mut socket: WebSocket) -> Result<(), axum::Error> {
    let mut turn = team.turn.subscribe();
    let role = team.with(|world| world.role);
    let say = |value: Value| Message::Text(value.to_string().into());
    let kinds = ["source", "cluster", "job"];
    let hello = json!({"type": "hello", "protocol": 1, "version": "0.1.0", "epoch": "e", "revision": 1,
        "view": "v", "you": {"ids": ["a"], "name": USER, "role": role}, "kinds": kinds,
        "at": 1_795_000_000_000_i64});
    socket.send(say(hello)).await?;
    let mut beat = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = beat.tick() => {
                let at = 1_795_000_000_000_i64;
                socket.send(say(json!({"type": "heartbeat", "revision": 1, "at": at}))).await?;
            }
            _ = turn.changed() => {
                if !team.knows(&headers) {
                    let problem = json!({"type": "error", "code": "not_signed_in", "status": 401,
                        "title": "not signed in", "detail": "your token was revoked"});
                    if !team.with(|world| world.curt) {
                        socket.send(say(problem)).await?;
                    }
                    let close = CloseFrame { code: CLOSE_SIGNED_OUT, reason: "signed out".into() };
                    socket.send(Message::Close(Some(close))).await?;
                    return Ok(());
                }
            }
            message = socket.recv() => {
                let Some(Ok(message)) = message else { return Ok(()) };
                let Message::Text(text) = message else { continue };
                let asked: Value = serde_json::from_str(&text).unwrap();
                if asked["type"] != "subscribe" {
                    continue;
                }
                team.with(|world| world.cursors.push(asked["since"].clone()));
                if asked["since"].is_null() {
                    let row = json!({"key": "prod/cluster/c1", "source": "prod",
                        "name": "training-ground", "status": "UP", "phase": "running",
                        "owner": {"id": "a", "name": USER}});
                    let rows = json!({"type": "snapshot", "kind": "cluster", "revision": 1, "rows": [row]});
                    socket.send(say(rows)).await?;
                    socket.send(say(json!({"type": "ready", "revision": 1}))).await?;
                }
            }
        }
    }
}
