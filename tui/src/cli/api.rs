//! `skytower api …`: signing in and out, and looking after the server.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::json;
use skytower_api_client::endpoint::{
    Credentials, Endpoint, Found, Origin, Process, Secret, probe, redacted, resolve,
};
use skytower_api_client::human;
use skytower_api_client::rest::{Client, ClientError, Status};
use skytower_api_client::{EpochMs, Kind};

use super::Failure;
use super::args::{Api, Form, Global};
use crate::config;
use crate::connect::{Connected, connect};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long a server may take to say what it is.
const PROBE: Duration = Duration::from_secs(10);
const COMMIT: &str = env!("SKYTOWER_COMMIT");

/// Runs a command of the group.
pub async fn run(command: Api, global: &Global) -> Result<u8, Failure> {
    match command {
        Api::Login { token } => login(global, token).await,
        Api::Logout => {
            if config::forget()? {
                println!("Signed out: the saved server and its credentials are forgotten.");
            } else {
                println!("Nobody was signed in.");
            }
            Ok(0)
        }
        Api::Info { output } => info(&connect(global).await?, output).await,
        Api::Status { output } => status(global, output).await,
        Api::Start => {
            let asked = Global {
                no_start: false,
                ..global.clone()
            };
            let connected = connect(&asked).await?;
            println!(
                "The server answers at {}.",
                connected.session.endpoint().shown()
            );
            Ok(0)
        }
        Api::Stop { all } => local::stop(global, all).await,
        Api::Logs { follow, tail } => local::logs(global, follow, tail).await,
    }
}

async fn login(global: &Global, token: Option<String>) -> Result<u8, Failure> {
    let raw = match &global.endpoint {
        Some(raw) => raw.clone(),
        None => ask("Server (http://[user:password@]host:port): ")?,
    };
    let mut endpoint = Endpoint::parse(&raw, Origin::Flag)?;
    let token = match token.as_deref() {
        Some("-") => Some(line()?),
        _ => token,
    };
    match token {
        Some(token) if token.trim().is_empty() => {
            return Err(Failure::usage(
                "the token is empty",
                "give one: --token TOKEN",
            ));
        }
        Some(token) => endpoint.credentials = Credentials::Bearer(Secret::new(token.trim())),
        // A cookie or a token from the environment is used, as `sky` would.
        None => {
            if let Some(found) = resolve(Some(&raw), &Process)? {
                endpoint.credentials = found.credentials;
            }
        }
    }
    let mut found = probe(&endpoint, PROBE).await;
    if matches!(found, Err(ClientError::NotSignedIn { .. }))
        && endpoint.credentials == Credentials::None
        && std::io::stdin().is_terminal()
    {
        eprintln!("{} asks who you are.", endpoint.shown());
        let user = ask("User (empty to give a token): ")?;
        endpoint.credentials = if user.is_empty() {
            Credentials::Bearer(ask_secret("Token: ").await?)
        } else {
            let password = ask_secret("Password: ").await?;
            Credentials::Basic { user, password }
        };
        found = probe(&endpoint, PROBE).await;
    }
    let found = found?;
    let path = config::save(&endpoint)?;
    let what = match found {
        Found::Skytower(health) => format!("skytower server, version {}", health.version),
        Found::Skypilot { version } => format!("SkyPilot API server, version {version}"),
    };
    println!("Signed in to {} ({what}).", endpoint.shown());
    println!("Saved in {}.", path.display());
    Ok(0)
}

fn ask(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "no server was named, and there is no terminal to ask on",
            "name it: skytower api login -e URL",
        ));
    }
    eprint!("{question}");
    std::io::stderr().flush()?;
    line()
}

/// Asks without showing what is typed. The terminal is given back also when it is broken off.
async fn ask_secret(question: &'static str) -> Result<Secret, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let terminal = std::io::stdin();
    let shown = tcgetattr(&terminal).map_err(std::io::Error::from)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &hidden).map_err(std::io::Error::from)?;
    let answer = tokio::select! {
        answer = tokio::task::spawn_blocking(move || ask(question)) => answer.ok(),
        _ = tokio::signal::ctrl_c() => None,
    };
    tcsetattr(&terminal, OptionalActions::Now, &shown).map_err(std::io::Error::from)?;
    eprintln!();
    match answer {
        Some(answer) => Ok(Secret::new(answer?)),
        // The thread that waits for a line cannot be called back.
        None => std::process::exit(130),
    }
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

async fn info(connected: &Connected, output: Form) -> Result<u8, Failure> {
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
    let text = match output {
        Form::Text => tree(&url, &status, &connected.origin, EpochMs::now()),
        Form::Json => {
            let document = json!({
                "client": {"version": VERSION, "commit": COMMIT},
                "server": server(&url, &status),
                "user": status.health.user,
                "sources": status.sources,
                "counts": status.counts,
            });
            format!("{document:#}\n")
        }
    };
    print(&text)
}

fn server(url: &str, status: &Status) -> serde_json::Value {
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

fn tree(url: &str, status: &Status, origin: &Origin, now: EpochMs) -> String {
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

async fn status(global: &Global, output: Form) -> Result<u8, Failure> {
    // To look is not to start.
    let asked = Global {
        no_start: true,
        ..global.clone()
    };
    let connected = connect(&asked).await?;
    let url = connected.session.endpoint().shown();
    let status = Client::new(connected.session)?.status().await?;
    let text = match output {
        Form::Json => {
            let document = json!({"server": server(&url, &status), "sources": status.sources});
            format!("{document:#}\n")
        }
        Form::Text => {
            let health = &status.health;
            let mut out = format!("{url}: {}, version {}", health.status, health.version);
            if let Some(pid) = health.pid {
                let _ = write!(out, ", process {pid}");
            }
            if let Some(clients) = health.clients {
                let _ = write!(
                    out,
                    ", {}",
                    human::count(clients as usize, "watching client")
                );
            }
            out.push('\n');
            for source in &status.sources {
                let _ = write!(out, "source {}: {}", source.name, source.status);
                if let Some(error) = &source.error {
                    let _ = write!(out, ", {error}");
                }
                out.push('\n');
            }
            out
        }
    };
    print(&text)
}

fn print(text: &str) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read this has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(0),
    }
}

#[cfg(not(feature = "local-server"))]
mod local {
    use super::{Failure, Global};

    fn none() -> Failure {
        Failure::usage(
            "this skytower was built without the local server",
            "its server is looked after where it runs",
        )
    }

    #[expect(clippy::unused_async, reason = "as the one with the local server")]
    pub(super) async fn stop(_: &Global, _: bool) -> Result<u8, Failure> {
        Err(none())
    }

    #[expect(clippy::unused_async, reason = "as the one with the local server")]
    pub(super) async fn logs(_: &Global, _: bool, _: usize) -> Result<u8, Failure> {
        Err(none())
    }
}

#[cfg(feature = "local-server")]
mod local {
    use std::io::{Read as _, Seek as _, SeekFrom};
    use std::path::PathBuf;
    use std::time::Duration;

    use skytower_api_client::Block;

    use super::{Failure, Global, Process, human, print, resolve};
    use crate::connect::default_skypilot;
    use crate::local::{self, Watched, all_homes, home_of};

    /// The folders that the present endpoint may have its server in.
    fn homes(global: &Global) -> Result<Vec<PathBuf>, Failure> {
        let watched = |endpoint| Watched { endpoint };
        Ok(match resolve(global.endpoint.as_deref(), &Process)? {
            Some(endpoint) => vec![home_of(&watched(Some(endpoint)))?],
            None => vec![
                home_of(&watched(Some(default_skypilot()?)))?,
                home_of(&watched(None))?,
            ],
        })
    }

    pub(super) async fn stop(global: &Global, all: bool) -> Result<u8, Failure> {
        let homes = if all { all_homes()? } else { homes(global)? };
        let mut stopped = 0;
        for home in homes {
            stopped += usize::from(local::stop(&home).await?);
        }
        match stopped {
            0 => println!("No local server runs."),
            1 => println!("The local server is stopped."),
            more => println!("{more} local servers are stopped."),
        }
        let going = local::tasks_going();
        if stopped > 0 && going > 0 {
            println!(
                "{} of the local engine {} on; the next skytower finds them again.",
                human::count(going, "task"),
                if going == 1 { "goes" } else { "go" },
            );
        }
        Ok(0)
    }

    pub(super) async fn logs(global: &Global, follow: bool, tail: usize) -> Result<u8, Failure> {
        let log = homes(global)?
            .iter()
            .map(|home| local::log(home))
            .find(|log| log.exists())
            .ok_or_else(|| {
                Failure::new(5, "no local server has written a log for this endpoint")
                    .hint("start one: skytower api start")
            })?;
        let mut file = std::fs::File::open(&log)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(tail)..] {
            print(&format!("{}\n", Block::new(line)))?;
        }
        if !follow {
            return Ok(0);
        }
        let mut read = bytes.len() as u64;
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            // Rotated: the name leads to a new file.
            if std::fs::metadata(&log).is_ok_and(|now| now.len() < read) {
                file = std::fs::File::open(&log)?;
                read = 0;
            }
            let mut more = Vec::new();
            file.seek(SeekFrom::Start(read))?;
            file.read_to_end(&mut more)?;
            if !more.is_empty() {
                print(&Block::new(String::from_utf8_lossy(&more)))?;
                read += more.len() as u64;
            }
        }
    }
}
