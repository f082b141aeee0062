//! `skytower api info`: the server in use, who one is there and how, and what it watches.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use skytower_api_client::endpoint::{Credentials, Origin, introduction, redacted};
use skytower_api_client::rest::accounts::TokenInfo;
use skytower_api_client::rest::{Client, ClientError, Status};
use skytower_api_client::wire::Caller;
use skytower_api_client::{EpochMs, Kind, Text, human};

use super::api::print;
use super::args::{Form, Global};
use super::{Failure, sign_in};
use crate::connect::connect;
use crate::login::PROBE;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("SKYTOWER_COMMIT");

/// How one is signed in.
#[derive(Default)]
struct SignedIn {
    /// A word for programs; none at a server that is this account's own.
    way: Option<&'static str>,
    /// The token's id, where it is one of skytower's.
    id: Option<String>,
    /// What the server knows of the token.
    token: Option<TokenInfo>,
}

impl SignedIn {
    async fn of(client: &Client) -> Self {
        if !client.session().takes_credentials() {
            return Self::default();
        }
        let way = |way| Self {
            way: Some(way),
            ..Self::default()
        };
        match client.session().endpoint().credentials {
            Credentials::None => Self::default(),
            Credentials::Basic { .. } => way("password"),
            Credentials::Cookie(_) => way("cookie"),
            Credentials::Bearer(token) => {
                let id = token.token_id().map(str::to_owned);
                let tokens = match &id {
                    // One without accounts has no tokens to tell of, and a token may be for less.
                    Some(_) => client.tokens().await.unwrap_or_default(),
                    None => Vec::new(),
                };
                let known = tokens
                    .into_iter()
                    .find(|it| id.as_deref() == Some(it.id.as_str()));
                Self {
                    id,
                    token: known,
                    ..way("token")
                }
            }
        }
    }

    fn sentence(&self, now: EpochMs) -> Option<String> {
        Some(match (self.way?, &self.id, &self.token) {
            ("password", ..) => "with a password".to_owned(),
            ("cookie", ..) => "with the session that SkyPilot keeps".to_owned(),
            (_, _, Some(token)) => {
                let until = match token.expires_at {
                    None => "it does not expire".to_owned(),
                    Some(at) => format!("expires in {}", human::age(at.since(now).max(0))),
                };
                format!(
                    "with token {} ({}), scope {}, {until}",
                    token.id,
                    token.name,
                    token.scope.word()
                )
            }
            (_, Some(id), None) => format!("with token {}", Text::from(id.as_str())),
            _ => "with a token".to_owned(),
        })
    }
}

/// What a caller may not, in lines.
fn rights(user: &Caller) -> Vec<String> {
    let words = |names: &[Text]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let mut lines = Vec::new();
    if let Some(limited) = &user.limited {
        lines.push(format!("limited: {limited}"));
    }
    if user.rules.read_only {
        lines.push("this server is read-only".to_owned());
    }
    if let Some(workspaces) = &user.workspaces {
        lines.push(format!("workspaces: {}", words(workspaces)));
    }
    if let Some(places) = &user.acts_at {
        lines.push(format!("may act at: {}", words(places)));
    }
    lines
}

/// Who is not signed in is told what the server takes.
async fn outside(global: &Global, refused: ClientError, output: Form) -> Result<u8, Failure> {
    let endpoint = sign_in::refusing(global)?;
    let Some(health) = introduction(&endpoint, PROBE).await else {
        return Err(refused.into());
    };
    let url = endpoint.shown();
    match output {
        Form::Json => {
            let document = json!({
                "client": {"version": VERSION, "commit": COMMIT},
                "server": {"url": url, "status": "needs_auth", "version": health.version,
                    "commit": health.commit, "api_version": health.api_version},
                "user": null,
                "sign_in": health.sign_in,
            });
            print(&format!("{document:#}\n"))?;
        }
        Form::Text => {
            let mut out = String::new();
            // Writing to a string does not fail.
            let _ = writeln!(out, "skytower client version: {VERSION}, commit: {COMMIT}");
            let _ = writeln!(out, "Using skytower server: {url}");
            let _ = writeln!(
                out,
                "├── Status: needs_auth, commit: {}, version: {}",
                health.commit, health.version
            );
            if !health.sign_in.is_empty() {
                let ways: Vec<&str> = health.sign_in.iter().map(|way| takes(way)).collect();
                let _ = writeln!(out, "├── Takes {}", ways.join(", or "));
            }
            let _ = writeln!(out, "└── Endpoint set {}", from(&endpoint.origin));
            print(&out)?;
        }
    }
    Err(refused.into())
}

/// A way to sign in, for people.
fn takes(way: &str) -> &str {
    match way {
        "password" => "a user and a password",
        "token" => "a token",
        "skypilot" => "what SkyPilot takes",
        "proxy" => "who comes through its proxy",
        "local" => "its own token, which is in its state folder",
        other => other,
    }
}

/// `skytower api info`.
pub(super) async fn info(global: &Global, output: Form) -> Result<u8, Failure> {
    let connected = match connect(global).await {
        Err(error @ ClientError::NotSignedIn { .. }) => {
            return outside(global, error, output).await;
        }
        connected => connected?,
    };
    let url = connected.session.endpoint().shown();
    let client = Client::new(connected.session.clone())?;
    let mut status = client.status().await?;
    // A server that was just started says in a moment what it watches and who one is there.
    let deadline = tokio::time::Instant::now() + PROBE;
    while status
        .sources
        .iter()
        .any(|source| source.status == "starting")
        && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
        status = client.status().await?;
    }
    let signed_in = SignedIn::of(&client).await;
    let text = match output {
        Form::Text => tree(&url, &status, &signed_in, &connected.origin, EpochMs::now()),
        Form::Json => {
            let document = json!({
                "client": {"version": VERSION, "commit": COMMIT},
                "server": server(&url, &status),
                "user": status.health.user,
                "signed_in": {"with": signed_in.way, "token": signed_in.token},
                "sources": status.sources,
                "counts": status.counts,
            });
            format!("{document:#}\n")
        }
    };
    print(&text)
}

/// What is told of a server to programs.
pub(super) fn server(url: &str, status: &Status) -> serde_json::Value {
    let health = &status.health;
    json!({
        "url": url,
        "pid": health.pid,
        "status": health.status,
        "version": health.version,
        "commit": health.commit,
        "api_version": health.api_version,
        "epoch": health.epoch,
        "revision": health.revision,
        "clients": health.clients,
    })
}

fn tree(url: &str, status: &Status, signed_in: &SignedIn, origin: &Origin, now: EpochMs) -> String {
    let health = &status.health;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "skytower client version: {VERSION}, commit: {COMMIT}");
    let _ = writeln!(out, "Using skytower server: {url}");
    let _ = writeln!(
        out,
        "├── Status: {}, commit: {}, version: {}",
        health.status, health.commit, health.version
    );
    if let Some(user) = &health.user {
        let ids = user
            .ids
            .iter()
            .map(skytower_api_client::Text::as_str)
            .collect::<Vec<_>>();
        let ids = match ids.as_slice() {
            [] => String::new(),
            ids => format!(" ({})", ids.join(", ")),
        };
        let _ = writeln!(
            out,
            "├── User: {}{ids}, role: {}",
            user.name,
            user.role.word()
        );
        let rights: Vec<_> = rights(user).into_iter().collect();
        for (number, line) in rights.iter().enumerate() {
            let branch = if number + 1 == rights.len() {
                "└"
            } else {
                "├"
            };
            let _ = writeln!(out, "│   {branch}── {line}");
        }
    }
    if let Some(how) = signed_in.sentence(now) {
        let _ = writeln!(out, "├── Signed in {how}");
    }
    for source in &status.sources {
        let _ = write!(out, "├── Source {}", source.name);
        if let Some(url) = &source.url {
            let _ = write!(out, " {}", redacted(url));
        }
        let _ = write!(out, ": {}", source.status);
        if let Some(version) = &source.version {
            let _ = write!(out, ", version {version}");
        }
        for kind in [Kind::Cluster, Kind::Job, Kind::Service] {
            // What was never read is not zero.
            if source.fetched_at.contains_key(&kind) {
                let of_source = status.counts.get(&source.name);
                let count = of_source.and_then(|counts| counts.get(&kind)).copied();
                let counted = human::count(count.unwrap_or_default() as usize, kind.noun());
                let _ = write!(out, ", {counted}");
            }
        }
        let is_told = source.flavour == "local";
        if let Some(limits) = source.notes.get(&Kind::Source).filter(|_| is_told) {
            let _ = write!(out, "; {limits}");
        }
        // The engine is told of everything as it happens: there is no age.
        if let Some(read) = source.fetched_at.values().max().filter(|_| !is_told) {
            let seconds = now.since(*read).max(0) as f64 / 1000.0;
            let _ = write!(out, ", {seconds:.1}s old");
        }
        if let Some(error) = &source.error {
            let _ = write!(out, ", {error}");
        }
        out.push('\n');
    }
    let _ = writeln!(out, "└── Endpoint set {}", from(origin));
    out
}

fn from(origin: &Origin) -> String {
    match origin {
        Origin::Flag => "by --endpoint".to_owned(),
        Origin::Environment(name) => format!("via the environment variable {name}"),
        Origin::File(path) => format!("via {}", path.display()),
        Origin::Default => "to the default local server".to_owned(),
    }
}
