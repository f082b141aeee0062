//! The life of a server: from its state folder to its last close frame.

mod listen;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use skytower_api_client::action::LOCAL;
use skytower_api_client::credentials::Secret;
use skytower_api_client::{Key, Kind, Text};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, FIRST_ADMINISTRATOR, Local, Opening, Team, Terms};
use crate::attention::Attention;
use crate::audit::Audit;
use crate::config::{ActAs, Config, ConfigError, SourceConfig};
use crate::home::{Card, CardSource, Home, HomeError};
use crate::http::{self, AppState, Doors, Meters, Own, Parts, Strangers, Tls, TlsError};
use crate::hub::Hub;
use crate::logs::Logs;
use crate::requests::Requests;
use crate::source::{self, BoxFuture, Source};
use crate::store::{self, Store, StoreError};

/// The server's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from; `unknown` outside a repository.
pub const COMMIT: &str = env!("SKYTOWER_COMMIT");
/// A fingerprint of the sources it was built from.
pub const BUILD: &str = env!("SKYTOWER_BUILD");
/// How long connections and requests may take to end when the server does.
const GRACE: Duration = Duration::from_secs(3);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it was told makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its state folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// An address that others can reach, and nothing to tell people apart by.
    #[error(
        "{0} can be reached from other machines, and accounts are off: turn them on to tell people \
         apart, or listen on 127.0.0.1 and let others in through an SSH tunnel"
    )]
    NoAccounts(SocketAddr),
    /// An address that others can reach, in the clear.
    #[error(
        "{0} can be reached from other machines, and passwords would travel in the clear: name a \
         certificate ([tls], or --tls-certificate and --tls-key), or the proxy before this server \
         that encrypts ([proxy]), or ask for it by name (plain_http = true, or --plain-http)"
    )]
    InTheClear(SocketAddr),
    /// Encryption that cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken or not to be had.
    #[error("cannot listen on {listen}: {error}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The accounts cannot be read, or nobody could be made who lets others in.
    #[error("cannot open the accounts: {0:#}")]
    Accounts(anyhow::Error),
    /// A source cannot be opened.
    #[error("cannot watch `{name}`: {why:#}")]
    Source {
        /// Its name.
        name: String,
        /// Why not.
        why: anyhow::Error,
    },
    /// Its database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A server that is about to serve: it holds its folder and its address.
pub struct Server {
    home: Home,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    /// On loopback, for whoever runs the server, where the other one is for other machines.
    side: Option<TcpListener>,
    state: AppState,
    connections_over: mpsc::Receiver<()>,
    local: Local,
    first_password: Option<Secret>,
    /// Ends when the database is closed.
    closed: BoxFuture<'static, ()>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.url()).finish()
    }
}

/// Runs a server until `stop` (or until it ends by itself, see [`Config::idle_exit`]).
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), StartError> {
    Server::open(config, stop).await?.serve().await
}

impl Server {
    /// Takes the state folder and the address.
    pub async fn open(config: Config, stop: CancellationToken) -> Result<Self, StartError> {
        let (configured, engine) = (config.sources.clone(), config.engine.clone());
        Self::open_with(config, stop, |hub| {
            let mut sources = configured
                .iter()
                .map(|config| {
                    source::open(config, hub.clone()).map_err(|why| StartError::Source {
                        name: config.name.clone(),
                        why,
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            if let Some(engine) = &engine {
                let local =
                    source::local::open(&engine.folder, engine.program.as_deref(), hub.clone());
                sources.push(local);
            }
            Ok(sources)
        })
        .await
    }

    /// As [`Server::open`], with sources that somebody else makes.
    pub async fn open_with(
        config: Config,
        stop: CancellationToken,
        sources: impl FnOnce(&Arc<Hub>) -> Result<Vec<Arc<dyn Source>>, StartError>,
    ) -> Result<Self, StartError> {
        config.check()?;
        listen::check_reach(&config)?;
        let tls = config.tls.as_ref().map(Tls::open).transpose()?;
        let home = Home::open(&config.home)?;
        let listener = listen::open(config.listen).await?;
        let own = Own::new(listen::address(&listener), &config);
        let side = listen::open_side(&own, &listener).await?;
        let store = Store::open(&home.path().join(store::FILE))?;
        let closed = Box::pin(store.closed());
        let hub = Arc::new(Hub::new());
        let sources: Arc<[Arc<dyn Source>]> = sources(&hub)?.into();
        let attention = Attention::new(sources.clone());
        let local = Local::new(&sources, &config);
        let audit = Audit::open(store.clone(), hub.clone(), Some(config.audit_keep()));
        let mut first_password = None;
        let admission = if config.accounts {
            let opening = Opening {
                audit: audit.clone(),
                store: store.clone(),
                hub: hub.clone(),
                sources: sources.clone(),
                terms: terms(&config),
            };
            let (team, password) = Team::open(opening).await.map_err(StartError::Accounts)?;
            first_password = password;
            Admission::of_team(home.token(), local.standing(), team)
        } else {
            Admission::personal(home.token(), local.standing())
        };
        let requests = Requests::open(
            store,
            audit.clone(),
            hub.clone(),
            sources.clone(),
            attention.clone(),
            admission.clone(),
        );
        let (open, connections_over) = mpsc::channel(1);
        let state = AppState::new(Parts {
            logs: Logs::new(sources.clone()),
            attention,
            meters: Arc::new(Meters::default()),
            admission,
            own,
            config: Arc::new(config),
            hub,
            sources,
            requests,
            audit,
            stop,
            open,
        });
        Ok(Self {
            home,
            listener,
            tls,
            side,
            state,
            connections_over,
            local,
            first_password,
            closed,
        })
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.state.own.url()
    }

    /// The password of the first administrator, when this start has made one. It is nowhere else.
    pub fn first_password(&self) -> Option<&Secret> {
        self.first_password.as_ref()
    }

    /// Shows that password on standard error, once.
    pub(crate) fn show_first_password(&self) {
        if let Some(password) = self.first_password() {
            eprintln!(
                "The first administrator is `{FIRST_ADMINISTRATOR}`, with this password, shown this once:\n{}",
                password.expose()
            );
        }
    }

    /// The state it serves.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.state.hub
    }

    /// Its state folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Serves until it is stopped.
    pub async fn serve(self) -> Result<(), StartError> {
        let url = self.url();
        let Self {
            home,
            listener,
            tls,
            side,
            state,
            mut connections_over,
            local,
            closed,
            ..
        } = self;
        let stop = state.stop.clone();
        let mut tasks = JoinSet::new();
        for source in state.sources.iter() {
            tasks.spawn(source.clone().run(stop.clone()));
        }
        engine_is_open(&state).await;
        home.publish(&card(&url, side.as_ref(), &state))?;
        tracing::info!(url, version = VERSION, commit = COMMIT, "serving");
        tasks.spawn(state.audit.clone().run(stop.clone()));
        tasks.spawn(state.requests.clone().run(stop.clone()));
        tasks.spawn(local.follow(stop.clone()));
        tasks.spawn(state.admission.clone().run(stop.clone()));
        if let Some(after) = state.config.idle_exit {
            tasks.spawn(idle_exit(state.clone(), after));
        }
        if let Some(room) = state.config.limits.short_of() {
            tracing::warn!(
                room,
                "more connections are allowed than the limit on file descriptors has room for: raise it \
                 (ulimit -n, LimitNOFILE)"
            );
        }
        let deadlines = state.config.deadlines;
        if let Some(tls) = &tls {
            tasks.spawn(tls.clone().follow(deadlines.certificate, stop.clone()));
        }
        let strangers = Strangers::new(&state.config);
        let side = side.map(|listener| Doors {
            listener,
            tls: None,
            strangers: strangers.clone(),
            deadlines,
        });
        let doors = Doors {
            listener,
            tls,
            strangers,
            deadlines,
        };
        let router = http::router(state.clone());
        // The state holds one end of what every connection holds: it must not outlive this line.
        drop(state);
        let side_router = router.clone();
        let side = async {
            if let Some(doors) = side {
                http::serve(doors, side_router, stop.clone(), GRACE).await;
            }
        };
        tokio::join!(http::serve(doors, router, stop.clone(), GRACE), side);

        tracing::info!("stopping");
        let over = async {
            let _ = connections_over.recv().await;
            while tasks.join_next().await.is_some() {}
            closed.await;
        };
        if tokio::time::timeout(GRACE, over).await.is_err() {
            tracing::warn!("something did not end in time and was cut off");
        }
        home.withdraw();
        tracing::info!("stopped");
        Ok(())
    }
}

/// Waits until the local engine has said what it has: nobody is to be told that a cluster of his is not
/// there, merely because the server has just been started again.
async fn engine_is_open(state: &AppState) {
    let mut changes = state.hub.changes();
    let open = async {
        for source in state.sources.iter().filter(|source| source.is_local()) {
            let name = source.name();
            let key = Key::new(name, Kind::Source, name);
            while state.hub.get(&key).is_none() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    };
    if tokio::time::timeout(GRACE, open).await.is_err() {
        tracing::warn!("the local engine takes its time to open");
    }
}

fn card(url: &str, side: Option<&TcpListener>, state: &AppState) -> Card {
    let sources = state.config.sources.iter();
    Card {
        url: url.to_owned(),
        local: side.map(|side| format!("http://{}", listen::address(side))),
        pid: std::process::id(),
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        build: BUILD.to_owned(),
        epoch: state.hub.epoch().to_string(),
        sources: sources
            .map(|source| CardSource {
                name: source.name.clone(),
                url: source.url.clone(),
            })
            .collect(),
    }
}

/// How people are let in, by the configuration.
fn terms(config: &Config) -> Terms {
    let named = |wanted: &dyn Fn(&SourceConfig) -> bool| {
        let sources = config.sources.iter().filter(move |source| wanted(source));
        sources
            .map(|source| Text::new(&source.name))
            .collect::<Vec<_>>()
    };
    let engine = config.engine.iter().map(|_| Text::from(LOCAL));
    Terms {
        rules: config.rules(),
        proxied: config
            .proxy
            .as_ref()
            .map(|proxy| proxy.role)
            .unwrap_or_default(),
        acts_at: engine
            .chain(named(&|source| source.act_as == ActAs::Server))
            .collect(),
        sign_in: named(&|source| source.sign_in),
        several: config.sources.len() > 1,
    }
}

/// What the operating system calls whoever runs this process, as Python's `getpass.getuser()`: SkyPilot
/// names people by it where nobody signs in.
pub(crate) fn account_name() -> Option<String> {
    let said = ["LOGNAME", "USER", "LNAME", "USERNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty());
    said.or_else(|| {
        let id = rustix::process::getuid().as_raw().to_string();
        let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
        accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&id.as_str()))
            .map(|fields| fields[0].to_owned())
    })
}

/// Stops the server when nobody watched and nothing ran for a while.
async fn idle_exit(state: AppState, after: Duration) {
    let (stop, sources) = (&state.stop, &state.sources);
    let (mut watchers, mut running) = (state.hub.watchers(), state.requests.running());
    let mut at_work: Vec<_> = sources.iter().map(|source| source.busy()).collect();
    loop {
        let mut busy = *watchers.borrow_and_update() > 0 || *running.borrow_and_update() > 0;
        for work in &mut at_work {
            busy |= *work.borrow_and_update();
        }
        let more = async {
            let any = at_work.iter_mut().map(|work| Box::pin(work.changed()));
            match futures_util::future::select_all(any).await {
                (Ok(()), ..) => {}
                // A source that is never busy says so once and for all.
                (Err(_), ..) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(after), if !busy => {
                tracing::info!("nobody watches and nothing runs: ending");
                stop.cancel();
                return;
            }
            changed = watchers.changed() => if changed.is_err() { return },
            changed = running.changed() => if changed.is_err() { return },
            () = more, if !sources.is_empty() => {}
        }
    }
}

/// The server as a process of its own, told what to do on standard input (see [`Config::to_json`]).
/// What is wrong goes to standard error, in one sentence, and to the exit code.
pub fn main_background() -> ExitCode {
    let mut json = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut json) {
        eprintln!("error: the configuration cannot be read from standard input: {error}");
        return ExitCode::FAILURE;
    }
    match Config::from_json(&json) {
        Ok(config) => main_with(config),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// What a process of its own runs on; why it cannot goes to standard error.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            eprintln!("error: cannot start: {error}");
            ExitCode::FAILURE
        })
}

/// The server as a process of its own.
pub fn main_with(config: Config) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let server = Server::open(config, stop.clone()).await?;
        server.show_first_password();
        crate::log::start(server.home());
        tokio::spawn(stop_on_signal(stop));
        server.serve().await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let mut waiting = JoinSet::new();
    for kind in signals {
        match signal(kind) {
            Ok(mut signal) => {
                waiting.spawn(async move { signal.recv().await });
            }
            Err(error) => tracing::warn!(%error, "a signal cannot be listened to"),
        }
    }
    let _ = waiting.join_next().await;
    stop.cancel();
}
