//! The local server: found, started, replaced and stopped by the client that needs it.
//!
//! Each watched endpoint and identity has a server and a state folder of its own, so that nobody's
//! credentials serve somebody else's view.

mod folder;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin};
use skytower_api_client::rest::{Client, ClientError};
use skytower_api_client::session::Session;
use skytower_server::home::{Card, card, read_token};
use skytower_server::{Config, EngineConfig, SourceConfig};

pub use folder::{Watched, all_homes, home_of};

/// How long a server may take to answer after it was started.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(10);
/// How long a server on this machine may take to say that it is well.
const ANSWER: Duration = Duration::from_secs(3);
/// How often is looked for what another process does.
const LOOK: Duration = Duration::from_millis(25);
/// A server that nobody needs ends by itself after this time.
const IDLE: Duration = Duration::from_secs(3600);
/// Variables that hold secrets, or addresses with them: the server is told on its standard input, and
/// its environment can be read for as long as it runs.
const SECRET_VARIABLES: &[&str] = &[
    "SKYTOWER_TOKEN",
    "SKYTOWER_ENDPOINT",
    "SKYPILOT_SERVICE_ACCOUNT_TOKEN",
    "SKYPILOT_API_SERVER_ENDPOINT",
];
/// Lines of the log that are shown when a start fails.
const LOG_LINES: usize = 8;

/// A server that answers.
#[derive(Clone, Debug)]
pub struct Running {
    /// What it wrote down.
    pub card: Card,
    /// How to reach it.
    pub endpoint: Endpoint,
}

impl Running {
    /// It is what this client would start.
    fn is_ours(&self) -> bool {
        self.card.build == skytower_server::server::BUILD
    }
}

/// The server process itself: `skytower __server`.
pub fn serve() -> std::process::ExitCode {
    // A session of its own: it outlives the terminal that it was started from.
    let _ = rustix::process::setsid();
    skytower_server::main_background()
}

/// The server of `home`, when one answers there and knows our token.
pub async fn running(home: &Path) -> Option<Running> {
    let card = card(home)?;
    let endpoint = Endpoint {
        url: card.url.clone(),
        credentials: Credentials::Bearer(read_token(home).ok()?),
        origin: Origin::Default,
    };
    let client = Client::new(Session::new(endpoint.clone())).ok()?;
    let health = tokio::time::timeout(ANSWER, client.health())
        .await
        .ok()?
        .ok()?;
    // Another server may have taken the port of one that was killed.
    (health.service == "skytower" && health.pid == Some(card.pid))
        .then_some(Running { card, endpoint })
}

/// What becomes of a running server that was built from other sources than this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// It is replaced: what a person has just started is what should run.
    Replace,
    /// It is used: it is there because somebody started a newer client, and two clients that replace
    /// each other's server would go on for ever.
    Use,
}

/// What it watches does not accept its credentials.
pub async fn is_shut_out(running: &Running) -> bool {
    let Ok(client) = Client::new(Session::new(running.endpoint.clone())) else {
        return false;
    };
    let status = tokio::time::timeout(ANSWER, client.status()).await;
    status.is_ok_and(|status| {
        status.is_ok_and(|status| {
            let mut sources = status.sources.iter();
            sources.any(|source| source.status == "needs_auth")
        })
    })
}

/// Finds the server for what is watched, or starts it. `say` is told what takes time.
pub async fn ensure(
    watched: &Watched,
    may_start: bool,
    other: Other,
    say: impl Fn(&str),
) -> Result<Endpoint, ClientError> {
    let home = home_of(watched)?;
    if let Some(running) = running(&home).await
        && (running.is_ours() || !may_start || other == Other::Use)
    {
        return Ok(running.endpoint);
    }
    if !may_start {
        return Err(ClientError::Local {
            message:
                "no local server runs, and --no-start (or SKYTOWER_NO_START) forbids to start one"
                    .into(),
            hint: "start it: skytower api start".into(),
        });
    }
    folder::make(&home)?;
    let _lock = lock(&home).await?;
    // Whoever held the lock may have started it.
    match running(&home).await {
        Some(running) if running.is_ours() || other == Other::Use => return Ok(running.endpoint),
        Some(running) => {
            say(&format!(
                "Replacing the local server of version {} ({})",
                running.card.version, running.card.commit
            ));
            stop(&home).await?;
        }
        None => {}
    }
    say("Starting a local skytower server");
    let mut child = spawn(&home, watched)?;
    let deadline = tokio::time::Instant::now() + START;
    loop {
        if let Some(running) = running(&home).await {
            return Ok(running.endpoint);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(not_started(&home, &format!("it ended at once ({status})")));
        }
        if tokio::time::Instant::now() > deadline {
            let seconds = START.as_secs();
            return Err(not_started(
                &home,
                &format!("it did not answer within {seconds} s"),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Stops the server of `home`. Says whether there was one.
pub async fn stop(home: &Path) -> Result<bool, ClientError> {
    let Some(card) = card(home) else {
        return Ok(false);
    };
    let Some(pid) = i32::try_from(card.pid).ok().and_then(Pid::from_raw) else {
        return Ok(false);
    };
    // A pid is used again by the system: only a process that answers, or that is one of ours by its
    // command line, is ended.
    if running(home).await.is_none() && !is_server(card.pid) {
        return Ok(false);
    }
    let _ = kill_process(pid, Signal::TERM);
    let deadline = tokio::time::Instant::now() + STOP;
    while test_kill_process(pid).is_ok() && is_server(card.pid) {
        if tokio::time::Instant::now() > deadline {
            return Err(ClientError::Local {
                message: format!("the local server (process {pid:?}) does not end").into(),
                hint: format!("see its log: {}", log(home).display()).into(),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}

/// How many processes of the local engine go on: each has a keeper, which holds a lock.
pub fn tasks_going() -> usize {
    let units = folder::engine().map(|engine| engine.join("units"));
    let units = units.ok().and_then(|units| std::fs::read_dir(units).ok());
    let is_kept = |unit: std::fs::DirEntry| {
        let lock = File::open(unit.path().join("keeper.lock")).ok()?;
        let held = flock(&lock, FlockOperation::NonBlockingLockShared);
        (held == Err(rustix::io::Errno::WOULDBLOCK)).then_some(())
    };
    units
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(is_kept)
        .count()
}

/// The log of the server of `home`.
pub fn log(home: &Path) -> PathBuf {
    home.join(skytower_server::home::LOG)
}

fn is_server(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
        line.split(|byte| *byte == 0)
            .any(|word| word == b"__server")
    })
}

async fn lock(home: &Path) -> Result<File, ClientError> {
    let path = home.join("start.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| folder::failed("open", &path, &error))?;
    let deadline = tokio::time::Instant::now() + START + STOP;
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK || tokio::time::Instant::now() > deadline {
            return Err(folder::failed("lock", &path, &error.into()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(file)
}

fn spawn(home: &Path, watched: &Watched) -> Result<Child, ClientError> {
    let config = Config {
        home: home.to_owned(),
        sources: watched
            .endpoint
            .iter()
            .map(|endpoint| {
                SourceConfig::new("skypilot", &endpoint.url, endpoint.credentials.clone())
            })
            .collect(),
        idle_exit: Some(IDLE),
        engine: Some(EngineConfig {
            folder: folder::engine()?,
            program: None,
        }),
        ..Config::default()
    };
    let path = log(home);
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
    };
    let outputs = open().and_then(|log| Ok((log.try_clone()?, log)));
    let (out, err) = outputs.map_err(|error| folder::failed("open", &path, &error))?;
    let mut program = std::env::current_exe()
        .map_err(|error| folder::failed("find", Path::new("skytower"), &error))?;
    if !program.exists() {
        // It was replaced or moved while it ran; Linux still knows what runs.
        program = PathBuf::from("/proc/self/exe");
    }
    let mut command = Command::new(&program);
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    let started = command
        .arg("__server")
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(err)
        .spawn();
    let mut child = started.map_err(|error| folder::failed("start", &program, &error))?;
    if let Some(mut input) = child.stdin.take() {
        // One that ended before it read this is noticed by whoever waits for its answer.
        let _ = input.write_all(config.to_json().as_bytes());
    }
    Ok(child)
}

fn not_started(home: &Path, why: &str) -> ClientError {
    let path = log(home);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ");
    let said = if last.is_empty() {
        String::new()
    } else {
        format!("; the last it said: {last}")
    };
    ClientError::Local {
        message: format!("the local server could not be started: {why}{said}").into(),
        hint: format!("its whole log is {}", path.display()).into(),
    }
}
