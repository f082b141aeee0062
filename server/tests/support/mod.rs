//! A real server on a free port, with a source that the test plays.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by several test programs"
)]

pub mod clients;
pub mod oracle;
pub mod proxy;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use skytower_api_client::action::ActionSpec;
use skytower_api_client::codec;
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin, Secret};
use skytower_api_client::entity::Job;
use skytower_api_client::rest::Client;
use skytower_api_client::session::Session;
use skytower_api_client::wire::{
    Caller, Change, ClientMessage, Cursor, Hello, Problem, Role, SUBPROTOCOL_JSON,
    SUBPROTOCOL_ZSTD, ServerMessage,
};
use skytower_api_client::{Entity, Key, Kind, Table, Text};
use skytower_server::hub::Hub;
use skytower_server::server::Server;
use skytower_server::source::{
    BoxFuture, Detail, Found, Handover, HandoverError, HandoverResult, LogChunk, LogQuery,
    LogStream, Source,
};
use skytower_server::{Config, StartError, home};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

/// Generous: this bounds a hang, it measures nothing.
pub const DEADLINE: Duration = Duration::from_mins(1);

pub struct Played {
    name: Text,
    pub caller: watch::Sender<Option<Caller>>,
    pub heard: Mutex<Vec<String>>,
    /// What the next log that is opened says; without it there are no logs.
    pub log: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
}

impl Played {
    fn note(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn no<T>() -> Result<T, Problem> {
    Err(Problem::new("played", 501, "the test plays this source"))
}

impl Source for Played {
    fn name(&self) -> &Text {
        &self.name
    }
    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move { stop.cancelled().await })
    }
    fn caller(&self) -> watch::Receiver<Option<Caller>> {
        self.caller.subscribe()
    }
    fn upstream_calls(&self) -> Option<u64> {
        Some(7)
    }
    fn focus(&self, key: &Key, looked_at: bool) {
        self.note(format!(
            "{} {key}",
            if looked_at { "focus" } else { "unfocus" }
        ));
    }
    fn refresh(&self, key: &Key) {
        self.note(format!("refresh {key}"));
    }
    fn plan(&self, _: &'static ActionSpec, targets: &[Arc<Entity>]) -> Vec<Vec<usize>> {
        vec![(0..targets.len()).collect()]
    }
    fn submit<'a>(&'a self, _: &'a Handover) -> BoxFuture<'a, Result<Text, HandoverError>> {
        Box::pin(async { Ok(Text::from("up-1")) })
    }
    fn find<'a>(&'a self, _: &'a Handover) -> BoxFuture<'a, Result<Found, Problem>> {
        Box::pin(async { no() })
    }
    fn result<'a>(
        &'a self,
        _: &'a Handover,
        _: &'a Text,
    ) -> BoxFuture<'a, Result<HandoverResult, Problem>> {
        Box::pin(async { no() })
    }
    fn detail<'a>(&'a self, _: &'a Entity) -> BoxFuture<'a, Result<Detail, Problem>> {
        Box::pin(async {
            Ok(Detail {
                yaml: Some("run: true\n".into()),
                entrypoint: None,
            })
        })
    }
    fn logs<'a>(&'a self, query: &'a LogQuery) -> BoxFuture<'a, Result<LogStream, Problem>> {
        self.note(format!("logs {}", query.row.key()));
        let text = self.log.lock().unwrap().take();
        Box::pin(async {
            let Some(mut text) = text else { return no() };
            let lines = futures_util::stream::poll_fn(move |context| text.poll_recv(context));
            let log: LogStream = Box::pin(lines.map(|line| Ok(LogChunk::Text(line))));
            Ok(log)
        })
    }
}

/// Somebody who may see these workspaces of `lab`, or everything.
pub fn caller(workspaces: Option<&[&str]>) -> Caller {
    let qualified = |name: &&str| Text::from(format!("lab/{name}"));
    Caller {
        ids: vec!["u1".into()],
        name: "alice".into(),
        role: Role::User,
        workspaces: workspaces.map(|list| list.iter().map(qualified).collect()),
        ..Caller::default()
    }
}

/// Somebody who may see and read everything.
pub fn administrator() -> Caller {
    Caller {
        role: Role::Admin,
        ..caller(None)
    }
}

pub fn job(id: i64, workspace: &str, name: &str) -> Arc<Entity> {
    Job {
        key: Key::new("lab", Kind::Job, format!("{id}/0")),
        source: "lab".into(),
        name: name.into(),
        workspace: Some(workspace.into()),
        job_id: id,
        status: "RUNNING".into(),
        phase: skytower_api_client::Phase::Running,
        ..Job::default()
    }
    .into()
}

pub fn upsert(row: Arc<Entity>) -> Change {
    Change::Upsert(row)
}

pub fn remove(row: &Entity) -> Change {
    Change::Remove {
        kind: row.kind(),
        key: row.key().clone(),
        reason: "gone".into(),
    }
}

pub struct Running {
    pub home: Arc<TempDir>,
    pub url: String,
    pub token: String,
    pub first_password: Option<Secret>,
    pub hub: Arc<Hub>,
    pub source: Arc<Played>,
    pub stop: CancellationToken,
    pub ended: JoinHandle<Result<(), StartError>>,
}

pub async fn start() -> Running {
    start_in(Arc::new(tempfile::tempdir().unwrap()), None)
        .await
        .unwrap()
}

pub async fn start_in(
    folder: Arc<TempDir>,
    idle_exit: Option<Duration>,
) -> Result<Running, StartError> {
    start_with(folder, |config| config.idle_exit = idle_exit).await
}

/// A server with accounts, and the password of its first administrator.
pub async fn start_team() -> (Running, Secret) {
    start_team_in(Arc::new(tempfile::tempdir().unwrap())).await
}

pub async fn start_team_in(folder: Arc<TempDir>) -> (Running, Secret) {
    let started = start_with(folder, |config| config.accounts = true).await;
    let running = started.unwrap();
    let password = running.first_password.clone().unwrap_or_default();
    (running, password)
}

/// A server that was told something else than usual; where that names sources, they take the place of the
/// one that the test plays.
pub async fn start_with(
    folder: Arc<TempDir>,
    change: impl FnOnce(&mut Config),
) -> Result<Running, StartError> {
    let mut config = Config {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        home: folder.path().to_owned(),
        ..Config::default()
    };
    change(&mut config);
    let source = Arc::new(Played {
        name: "lab".into(),
        caller: watch::Sender::new(Some(caller(None))),
        heard: Mutex::default(),
        log: Mutex::default(),
    });
    let stop = CancellationToken::new();
    let played = source.clone();
    let server = if config.sources.is_empty() {
        Server::open_with(config, stop.clone(), |_| Ok(vec![played])).await?
    } else {
        Server::open(config, stop.clone()).await?
    };
    Ok(Running {
        url: server.url(),
        token: home::read_token(folder.path()).unwrap().expose().to_owned(),
        first_password: server.first_password().cloned(),
        home: folder,
        hub: server.hub().clone(),
        source,
        stop,
        ended: tokio::spawn(server.serve()),
    })
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        within(self.ended).await.unwrap().unwrap();
    }

    /// Who everybody with the token is from now on, once the door knows it too.
    pub async fn caller_is(&self, caller: &Caller) {
        self.source.caller.send_replace(Some(caller.clone()));
        let endpoint = Endpoint {
            url: self.url.clone(),
            credentials: Credentials::Bearer(Secret::new(&*self.token)),
            origin: Origin::Flag,
        };
        let client = Client::new(Session::new(endpoint)).unwrap();
        let known = async {
            while client.health().await.unwrap().user.as_ref() != Some(caller) {
                tokio::task::yield_now().await;
            }
        };
        within(known).await;
    }

    /// A websocket handshake with what the test chooses.
    pub async fn handshake(
        &self,
        protocol: Option<&str>,
        token: Option<&str>,
        origin: Option<&str>,
    ) -> Result<Socket, tungstenite::Error> {
        let url = format!("{}/api/v1/watch", self.url.replace("http", "ws"));
        let mut request = url.into_client_request().unwrap();
        let mut header = |name: &'static str, value: Option<String>| {
            if let Some(value) = value {
                request
                    .headers_mut()
                    .insert(name, HeaderValue::from_str(&value).unwrap());
            }
        };
        header("sec-websocket-protocol", protocol.map(str::to_owned));
        header(
            "authorization",
            token.map(|token| format!("Bearer {token}")),
        );
        header("origin", origin.map(str::to_owned));
        within(tokio_tungstenite::connect_async(request))
            .await
            .map(|(socket, _)| socket)
    }

    pub async fn connect(&self) -> Watching {
        let socket = self
            .handshake(Some(SUBPROTOCOL_ZSTD), Some(&self.token), None)
            .await
            .unwrap();
        Watching::begin(socket).await
    }

    pub async fn connect_json(&self) -> Watching {
        let socket = self
            .handshake(Some(SUBPROTOCOL_JSON), Some(&self.token), None)
            .await
            .unwrap();
        Watching::begin(socket).await
    }
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what)
        .await
        .expect("it hangs")
}

/// Waits until something is so.
pub async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub struct Watching {
    pub socket: Socket,
    pub hello: Hello,
    pub copy: Table,
}

impl Watching {
    pub async fn begin(socket: Socket) -> Self {
        let mut watching = Self {
            socket,
            hello: Hello {
                protocol: 0,
                version: Text::default(),
                epoch: Text::default(),
                revision: 0,
                view: Text::default(),
                you: Caller::default(),
                kinds: Vec::new(),
                at: skytower_api_client::EpochMs(0),
            },
            copy: Table::new(),
        };
        match watching.next().await {
            ServerMessage::Hello(hello) => watching.hello = hello,
            other => panic!("no hello first but {other:?}"),
        }
        watching
    }

    pub async fn say(&mut self, message: &ClientMessage) {
        let json = serde_json::to_string(message).unwrap();
        self.socket.send(Message::text(json)).await.unwrap();
    }

    pub async fn subscribe(&mut self, since: Option<Cursor>) {
        self.say(&ClientMessage::Subscribe {
            kinds: Vec::new(),
            since,
        })
        .await;
    }

    pub async fn frame(&mut self) -> Option<Message> {
        within(self.socket.next()).await.and_then(Result::ok)
    }

    pub async fn next(&mut self) -> ServerMessage {
        loop {
            let message = match self.frame().await.expect("the server closed") {
                Message::Text(json) => codec::decode_text(&json).unwrap(),
                Message::Binary(frame) => codec::decode_binary(&frame).unwrap(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => None,
            };
            if let Some(message) = message {
                return message;
            }
        }
    }

    /// Applies messages until the copy is as it should be.
    pub async fn follow_until(&mut self, done: impl Fn(&Table) -> bool) -> Vec<ServerMessage> {
        let mut messages = Vec::new();
        while !done(&self.copy) {
            let message = self.next().await;
            messages.push(message.clone());
            self.copy.apply(message).unwrap();
        }
        messages
    }

    /// The error that the server sends before it closes.
    pub async fn refusal(&mut self) -> Problem {
        loop {
            if let ServerMessage::Error(problem) = self.next().await {
                let closed = self.frame().await;
                assert!(matches!(closed, Some(Message::Close(_))), "{closed:?}");
                return problem;
            }
        }
    }

    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.hello.epoch.clone(),
            revision: self.copy.revision(),
            view: self.hello.view.clone(),
        }
    }
}

pub fn rows(table: &Table) -> Vec<Arc<Entity>> {
    table.all().cloned().collect()
}

impl Watching {
    /// Applies messages up to and with the end of the initial state.
    pub async fn next_ready(&mut self) -> u64 {
        loop {
            let message = self.next().await;
            let ready = match &message {
                ServerMessage::Ready { revision } => Some(*revision),
                _ => None,
            };
            self.copy.apply(message).unwrap();
            if let Some(revision) = ready {
                return revision;
            }
        }
    }
}
