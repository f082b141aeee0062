//! A real server process with a local engine in a folder of its own, and everything it left behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use skytower_api_client::action::{ActionOptions, LOCAL, Start};
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin};
use skytower_api_client::entity::{Outcome, Request};
use skytower_api_client::rest::{Client, ListQuery, LogQuery, NewRequest};
use skytower_api_client::session::Session;
use skytower_api_client::{Entity, Key, Kind, Phase, Text};
use skytower_server::home;
use skytower_server::keeper::FAIL_AT;
use tempfile::TempDir;

/// Generous: this bounds a hang, it measures nothing.
pub const DEADLINE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

pub struct Tower {
    pub home: TempDir,
    pub child: Option<Child>,
    client: Option<Client>,
    environment: Vec<(String, String)>,
}

/// The key of a row here.
pub fn key(kind: Kind, id: &str) -> Key {
    Key::new(LOCAL, kind, id)
}

pub fn source() -> Key {
    key(Kind::Source, LOCAL)
}

impl Tower {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(environment: &[(&str, &str)]) -> Self {
        let mut tower = Self::at(TempDir::new().unwrap(), environment);
        tower.up().await;
        tower
    }

    /// Nothing runs yet.
    pub fn at(home: TempDir, environment: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            home,
            child: None,
            client: None,
            environment: environment.iter().map(own).collect(),
        }
    }

    pub fn engine(&self) -> PathBuf {
        self.home.path().join("engine")
    }

    /// Starts the server, without waiting for it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none());
        let complaints = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.path().join("complaints"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_skytower-server"))
            .arg("--home")
            .arg(self.home.path())
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()
            .unwrap();
        self.child = Some(child);
        self.client = None;
    }

    /// Starts the server and waits until its engine runs.
    pub async fn up(&mut self) {
        self.spawn();
        self.until("the engine runs", async |tower| {
            let client = tower.client()?;
            let status = client.status().await.ok()?;
            let healthy = |source: &_| {
                let source: &skytower_api_client::entity::Source = source;
                source.name == LOCAL && source.status == "healthy"
            };
            status.sources.iter().any(healthy).then_some(())
        })
        .await;
    }

    /// From the next start on nothing is ended on purpose.
    pub fn heal(&mut self) {
        self.environment.retain(|(name, _)| name != FAIL_AT);
    }

    /// It has ended itself; or it goes on, and the place lies elsewhere.
    pub fn has_died(&mut self) -> bool {
        let child = self.child.as_mut();
        let died = child.is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_some()));
        if died {
            self.child = None;
            self.client = None;
        }
        died
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.client = None;
    }

    /// Asks the server to end.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        signal(child.id(), rustix::process::Signal::TERM);
        child.wait().unwrap();
        self.client = None;
    }

    /// A client of the server that runs now.
    pub fn client(&mut self) -> Option<Client> {
        if self.client.is_none() {
            let card = home::card(self.home.path())?;
            if card.pid != self.child.as_ref()?.id() {
                return None;
            }
            let token = home::read_token(self.home.path()).ok()?;
            let endpoint = Endpoint {
                url: card.url,
                credentials: Credentials::Bearer(token),
                origin: Origin::Default,
            };
            self.client = Some(Client::new(Session::new(endpoint)).ok()?);
        }
        self.client.clone()
    }

    pub async fn until<T>(
        &mut self,
        what: &str,
        mut probe: impl AsyncFnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = probe(self).await {
                return found;
            }
            if Instant::now() > deadline {
                let log = read(&self.home.path().join("server.log"));
                let complaints = read(&self.home.path().join("complaints"));
                panic!("{what}: it never happened\n{log}\n{complaints}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn rows(&mut self, kind: Kind) -> Vec<Arc<Entity>> {
        self.until("the list is read", async |tower| {
            let client = tower.client()?;
            let page = client.list(kind, &ListQuery::default()).await.ok()?;
            Some(page.rows)
        })
        .await
    }

    pub async fn row(&mut self, key: &Key) -> Option<Arc<Entity>> {
        let rows = self.rows(key.kind().unwrap()).await;
        rows.into_iter().find(|row| row.key() == key)
    }

    pub async fn until_row(
        &mut self,
        key: &Key,
        what: &str,
        is: impl Fn(&Entity) -> bool,
    ) -> Arc<Entity> {
        let mut last = None;
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(row) = self.row(key).await {
                if is(&row) {
                    return row;
                }
                last = Some(row);
            }
            assert!(
                Instant::now() < deadline,
                "{key} never {what}; it is {last:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn until_over(&mut self, key: &Key) -> Arc<Entity> {
        self.until_row(key, "was over", |row| row.phase().is_over())
            .await
    }

    pub async fn until_phase(&mut self, key: &Key, phase: Phase) -> Arc<Entity> {
        self.until_row(key, &format!("was {phase:?}"), |row| row.phase() == phase)
            .await
    }

    /// Does something and waits for its end, across restarts: the same name is the same request.
    pub async fn ask(&mut self, new: &NewRequest, name: &str) -> Request {
        let mut refused = None;
        let accepted = self
            .until("the request is accepted", async |tower| {
                match tower.client()?.create_request(new, name).await {
                    Ok(request) => Some(Some(request)),
                    Err(error) if !error.is_passing() => {
                        refused = Some(error.to_string());
                        Some(None)
                    }
                    Err(_) => None,
                }
            })
            .await;
        let accepted = accepted.unwrap_or_else(|| panic!("refused: {refused:?}"));
        self.until("the request ends", async |tower| {
            let client = tower.client()?;
            let wait = Some(Duration::from_secs(5));
            let now = client.request(&accepted.request_id, wait).await.ok()?;
            now.phase.is_over().then_some(now)
        })
        .await
    }

    pub async fn act(&mut self, action: &str, target: &Key, options: ActionOptions) -> Request {
        let new = NewRequest {
            action: action.into(),
            targets: vec![target.clone()],
            options,
            others_confirmed: true,
            dry_run: false,
        };
        self.ask(&new, &uuid()).await
    }

    /// Does something that must succeed.
    pub async fn done(&mut self, action: &str, target: &Key) -> Request {
        let request = self.act(action, target, ActionOptions::default()).await;
        assert_eq!(request.status, "SUCCEEDED", "{action}: {request:?}");
        request
    }

    /// Starts something from a text and says what was made.
    pub async fn begin(&mut self, action: &str, target: &Key, name: &str, yaml: &str) -> Key {
        let options = starting(name, yaml);
        let request = self.act(action, target, options).await;
        made(&request)
    }

    pub async fn launch(&mut self, name: &str, yaml: &str) -> Key {
        self.begin("source.launch", &source(), name, yaml).await
    }

    pub async fn job(&mut self, name: &str, yaml: &str) -> Key {
        self.begin("source.jobs_launch", &source(), name, yaml)
            .await
    }

    pub async fn log(&mut self, key: &Key) -> String {
        self.log_of(key, LogQuery::default()).await
    }

    pub async fn log_of(&mut self, key: &Key, query: LogQuery) -> String {
        let client = self.client().unwrap();
        let stream = client.logs(key.kind().unwrap(), key, &query).await.unwrap();
        let mut stream = std::pin::pin!(stream);
        let mut text = String::new();
        while let Some(piece) = stream.next().await {
            text += &piece.unwrap();
        }
        text
    }

    /// Processes that the engine of this folder has started, keepers included.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mark = self.engine().to_string_lossy().into_owned();
        let server = self.child.as_ref().map(Child::id);
        let mut found = Vec::new();
        for pid in pids() {
            if Some(pid) == server {
                continue;
            }
            let read = |name: &str| {
                let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let command = read("cmdline");
            let is_ours = command.contains(&mark) || read("environ").contains(&mark);
            if is_ours && !is_in_store(pid, &command, &mark) {
                found.push((pid, command));
            }
        }
        found
    }

    /// Nothing that was started is left.
    pub async fn until_nothing_runs(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "still there: {left:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Tower {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for (pid, _) in self.processes() {
            signal(pid, rustix::process::Signal::KILL);
        }
    }
}

/// What to start.
pub fn starting(name: &str, yaml: &str) -> ActionOptions {
    ActionOptions {
        start: Some(Box::new(Start {
            file: "test.yaml".into(),
            yaml: yaml.to_owned(),
            folder: std::env::temp_dir().to_string_lossy().into_owned(),
            name: (!name.is_empty()).then(|| Text::from(name)),
            ..Start::default()
        })),
        ..ActionOptions::default()
    }
}

/// What a request made.
pub fn made(request: &Request) -> Key {
    assert_eq!(request.status, "SUCCEEDED", "{request:?}");
    let result = &request.results[0];
    assert_eq!(result.outcome, Outcome::Done);
    Key::parse(result.upstream.as_deref().unwrap()).unwrap()
}

pub fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A keeper that has nothing to keep yet: it has no unit's file open, and ends with the server.
fn is_in_store(pid: u32, command: &str, engine: &str) -> bool {
    let units = format!("{engine}/units/");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let mut files = files.into_iter().flatten().flatten();
    let has = files.any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        target.to_string_lossy().starts_with(&units)
    });
    command.trim_end().ends_with("__keeper") && !has
}

pub fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Reads a file that a task wrote.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
