//! The local engine as a source: clusters, jobs and services as real processes on this machine.
//!
//! ```text
//! handover -> order -> Engine (pure) -> database -> keepers, balancers
//!                         ^                            |
//!                         '------- what happened ------'
//! ```
//!
//! **Invariant: nothing is started, stopped or shown before it is written down.** What a crash left
//! undone follows from the records again; a keeper never starts a unit twice, so everything may be
//! repeated.
//!
//! **Invariant: one engine per folder.** Whoever holds the lock runs it; others wait for it and say so.

mod actor;
mod core;
mod environment;
mod fail;
mod logs;
mod machine;
mod order;
mod rows;
mod sandbox;
mod secrets;
mod state;
mod store;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use skytower_api_client::action::{ActionSpec, LOCAL};
use skytower_api_client::policy::qualified;
use skytower_api_client::wire::{Caller, Change, Problem, Role};
use skytower_api_client::{Entity, EpochMs, Key, Text};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::fail::FAIL_POINTS;

use self::actor::{Actor, Glance, Message, Parts, source_row};
use self::core::Engine;
use self::machine::Machine;
use self::store::Store;
use crate::home::{LEFT_EVERY, is_alive, try_lock};
use crate::hub::Hub;
use crate::keeper::{Keepers, Program};
use crate::source::{
    BoxFuture, Detail, Found, Handover, HandoverError, HandoverResult, LogQuery, LogStream, Source,
};

/// How often a lock that another holds is tried.
const LOCK_EVERY: Duration = Duration::from_secs(1);

/// The engine.
pub(crate) struct LocalSource {
    name: Text,
    folder: PathBuf,
    /// None means this one.
    program: Option<PathBuf>,
    hub: Arc<Hub>,
    sender: Sender<Message>,
    receiver: Mutex<Option<Receiver<Message>>>,
    /// The actor runs.
    ready: watch::Sender<bool>,
    glance: watch::Sender<Glance>,
    caller: watch::Sender<Option<Caller>>,
    /// Workspaces that are for their members alone.
    private: watch::Sender<BTreeSet<Text>>,
}

/// Opens the engine of a folder; nothing is touched before it runs.
pub(crate) fn open(folder: &Path, program: Option<&Path>, hub: Arc<Hub>) -> Arc<LocalSource> {
    let (sender, receiver) = channel();
    Arc::new(LocalSource {
        name: LOCAL.into(),
        // Tasks and balancers run elsewhere: they have to find it from there.
        folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        program: program.map(Path::to_owned),
        hub,
        sender,
        receiver: Mutex::new(Some(receiver)),
        ready: watch::Sender::new(false),
        glance: watch::Sender::new(Glance::default()),
        caller: watch::Sender::new(Some(who(&Glance::default()))),
        private: watch::Sender::default(),
    })
}

/// This program under a name of its own in the engine's folder: what was started from it can start
/// more of it after its file was replaced by a newer one.
fn own_program(folder: &Path) -> std::io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    let bin = folder.join("bin");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&bin)?;
    let (path, new) = (bin.join("skytower"), bin.join("new"));
    let _ = std::fs::remove_file(&new);
    let linked = std::env::current_exe().and_then(|path| std::fs::hard_link(path, &new));
    if linked.is_err() {
        // Another file system, or the file is not there any more.
        std::fs::copy(running, &new)?;
    }
    std::fs::rename(&new, &path)?;
    Ok(path)
}

/// Whoever may talk to this server owns what the engine runs.
fn who(glance: &Glance) -> Caller {
    let name = crate::server::account_name().unwrap_or_else(|| LOCAL.to_owned());
    Caller {
        ids: vec![Text::from(name.clone())],
        name: Text::from(name),
        role: Role::Admin,
        workspaces: Some(
            glance
                .workspaces
                .iter()
                .map(|name| qualified(LOCAL, name))
                .collect(),
        ),
        ..Caller::default()
    }
}

impl LocalSource {
    /// Takes the lock, however long it takes; none when it is told to stop before.
    async fn lock(&self, stop: &CancellationToken) -> Option<File> {
        let mut said = None;
        loop {
            let error = match take_lock(&self.folder) {
                Ok(Ok(lock)) => return Some(lock),
                // What it was just starting when it was killed has a copy of its lock for a moment.
                Ok(Err(Some(pid))) if !is_alive(pid) => {
                    tokio::select! {
                        () = stop.cancelled() => return None,
                        () = tokio::time::sleep(LEFT_EVERY) => continue,
                    }
                }
                Ok(Err(Some(pid))) => format!("another skytower server (process {pid}) runs it"),
                Ok(Err(None)) => "another skytower server runs it".to_owned(),
                Err(error) => format!("cannot use {}: {error}", self.folder.display()),
            };
            if said.as_ref() != Some(&error) {
                let hint = "it is tried again; see skytower api status";
                let row = source_row(
                    "unreachable",
                    Some(Text::from(error.clone())),
                    Some(hint.into()),
                    None,
                );
                self.hub.commit([Change::Upsert(Arc::new(row.into()))]);
                tracing::warn!(error, "the local engine waits");
                said = Some(error);
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(LOCK_EVERY) => {}
            }
        }
    }

    fn parts(&self, runtime: tokio::runtime::Handle) -> anyhow::Result<Parts> {
        let store = Store::open(&self.folder.join("engine.db"))?;
        let state = store.load()?;
        let path = match &self.program {
            Some(path) => path.clone(),
            None => own_program(&self.folder)
                .with_context(|| format!("cannot link the program in {}", self.folder.display()))?,
        };
        let program = Program {
            path: path.clone(),
            ..Program::default()
        };
        let keepers = Keepers::new(program, self.folder.join("units"))?;
        keepers.warm();
        let boot = Text::from(crate::keeper::boot_id());
        let engine = Engine::new(state, Machine::here(), boot, EpochMs::now());
        Ok(Parts {
            folder: self.folder.clone(),
            program: path,
            hub: self.hub.clone(),
            store,
            engine,
            keepers: Arc::new(keepers),
            runtime,
            sender: self.sender.clone(),
            glance: self.glance.clone(),
            private: self.private.subscribe(),
            limits: Text::from(crate::keeper::limits_in_force().sentence),
        })
    }

    async fn work(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let Some(lock) = self.lock(&stop).await else {
            return Ok(());
        };
        let receiver = {
            let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
            receiver.take().context("it runs already")?
        };
        let source = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let (opened, is_open) = oneshot::channel();
        // A thread of its own: it waits for the disk, and must never wait behind anything else.
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || match source.parts(runtime) {
                Ok(parts) => {
                    let _ = opened.send(Ok(()));
                    Actor::new(parts).run(&receiver);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })?;
        is_open.await.context("its thread ended")??;
        self.ready.send_replace(true);
        self.follow(&stop).await;
        let _ = self.sender.send(Message::Stop);
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        drop(lock);
        Ok(())
    }

    /// Who we are changes with the workspaces there are.
    async fn follow(&self, stop: &CancellationToken) {
        let mut glance = self.glance.subscribe();
        let mut private = self.private.subscribe();
        loop {
            let caller = Some(who(&glance.borrow_and_update()));
            self.caller.send_if_modified(|now| {
                let changed = *now != caller;
                *now = caller;
                changed
            });
            tokio::select! {
                () = stop.cancelled() => return,
                _ = glance.changed() => {}
                _ = private.changed() => {
                    let _ = self.sender.send(Message::Look);
                }
            }
        }
    }

    fn not_ready(&self) -> Option<Problem> {
        (!*self.ready.borrow()).then(|| {
            Problem::new(
                "engine_not_ready",
                503,
                "the local engine does not run here (yet)",
            )
            .hint("see skytower api info")
        })
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Problem> {
        if let Some(problem) = self.not_ready() {
            return Err(problem);
        }
        let (reply, answer) = oneshot::channel();
        let ended = || Problem::new("engine_not_ready", 503, "the local engine is stopping");
        self.sender.send(message(reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

/// The folder's lock; or the process that has it.
fn take_lock(folder: &Path) -> std::io::Result<Result<File, Option<u32>>> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    try_lock(&folder.join("lock"))
}

impl Source for LocalSource {
    fn name(&self) -> &Text {
        &self.name
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let hub = self.hub.clone();
            if let Err(error) = self.work(stop.clone()).await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the local engine does not run"
                );
                let error = Some(Text::from(format!("{error:#}")));
                let hint = Some("nothing was changed; see skytower api logs".into());
                let row = source_row("unreachable", error, hint, None);
                hub.commit([Change::Upsert(Arc::new(row.into()))]);
            }
            stop.cancelled().await;
        })
    }

    fn caller(&self) -> watch::Receiver<Option<Caller>> {
        self.caller.subscribe()
    }

    fn keep_private(&self, workspaces: BTreeSet<Text>) {
        self.private.send_if_modified(|now| {
            let changed = *now != workspaces;
            *now = workspaces;
            changed
        });
    }

    fn is_local(&self) -> bool {
        true
    }

    fn busy(&self) -> watch::Receiver<bool> {
        let (busy, answer) = watch::channel(self.glance.borrow().busy);
        let mut glance = self.glance.subscribe();
        tokio::spawn(async move {
            while glance.changed().await.is_ok() {
                if busy.send(glance.borrow_and_update().busy).is_err() {
                    return;
                }
            }
        });
        answer
    }

    fn focus(&self, key: &Key, looked_at: bool) {
        let key = key.clone();
        let _ = self.sender.send(Message::Focus { key, looked_at });
    }

    fn refresh(&self, _: &Key) {
        // It is told of everything the moment it happens.
    }

    fn plan(&self, _: &'static ActionSpec, targets: &[Arc<Entity>]) -> Vec<Vec<usize>> {
        (0..targets.len()).map(|target| vec![target]).collect()
    }

    fn submit<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Text, HandoverError>> {
        Box::pin(async move {
            if let Some(problem) = self.not_ready() {
                return Err(HandoverError::NotAccepted(problem));
            }
            let handover = Box::new(handover.clone());
            self.ask(|reply| Message::Submit { handover, reply })
                .await
                .unwrap_or_else(|problem| Err(HandoverError::Uncertain(problem)))
        })
    }

    fn find<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Found, Problem>> {
        Box::pin(async move {
            let handover = handover.id.clone();
            self.ask(|reply| Message::Find { handover, reply }).await?
        })
    }

    fn result<'a>(
        &'a self,
        _: &'a Handover,
        upstream: &'a Text,
    ) -> BoxFuture<'a, Result<HandoverResult, Problem>> {
        Box::pin(async move {
            let asked = upstream.clone();
            let message = self
                .ask(|reply| Message::Said {
                    upstream: asked,
                    reply,
                })
                .await?;
            if let Some(label) = upstream
                .split_once("/clear/")
                .map(|(_, label)| Text::from(label))
            {
                let mut glance = self.glance.subscribe();
                while glance.borrow_and_update().labels.contains(&label) {
                    if glance.changed().await.is_err() {
                        break;
                    }
                }
            }
            Ok(HandoverResult {
                succeeded: true,
                message,
            })
        })
    }

    fn detail<'a>(&'a self, row: &'a Entity) -> BoxFuture<'a, Result<Detail, Problem>> {
        Box::pin(async move {
            let key = row.key().clone();
            self.ask(|reply| Message::Detail { key, reply }).await
        })
    }

    fn logs<'a>(&'a self, query: &'a LogQuery) -> BoxFuture<'a, Result<LogStream, Problem>> {
        Box::pin(async move {
            if let Some(problem) = self.not_ready() {
                return Err(problem);
            }
            let key = query.row.key().clone();
            logs::open(
                self.sender.clone(),
                key,
                query.channel,
                query.follow,
                query.tail,
            )
            .await
        })
    }
}
