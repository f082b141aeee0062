//! The one thread of the server that waits for all keepers: it reaps those that are its children,
//! whoever else waits for them or nobody, and tells everybody who does.

use std::collections::HashMap;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::epoll;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::mark::{Claim, Folder, Seen};
use super::spare::{Spawned, Store};
use super::spec::{End, Ended, Exit, Lost, NotStarted, signal_name};

/// What a keeper tells who has started it, as a line on its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The task was executed.
    Started,
    /// It was not.
    NotStarted { reason: String },
    /// Another keeper has claimed this generation.
    Taken,
}

/// What is known of a unit's generation, for all of its handles.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) generation: u64,
    pub(super) state: watch::Sender<State>,
    keeper: Mutex<Keeper>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) started: Option<Result<(), NotStarted>>,
    pub(super) ended: Option<Ended>,
}

/// The process, as far as it is known.
struct Keeper {
    pid: u32,
    process: Option<Arc<OwnedFd>>,
    /// It catches signals by now: before, one would kill it instead of its task.
    hears: bool,
    /// What it is to be sent when it hears.
    asked: Option<Signal>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(folder: &Path, generation: u64, pid: u32, state: State) -> Arc<Self> {
        Arc::new(Self {
            folder: folder.to_owned(),
            generation,
            state: watch::Sender::new(state),
            keeper: Mutex::new(Keeper {
                pid,
                process: None,
                hears: false,
                asked: None,
            }),
        })
    }

    /// Of one whose end is known.
    pub(super) fn ended(folder: &Path, generation: u64, pid: u32, ended: Ended) -> Arc<Self> {
        let shared = Self::new(folder, generation, pid, State::default());
        shared.end(ended);
        shared
    }

    pub(super) fn pid(&self) -> u32 {
        lock(&self.keeper).pid
    }

    /// Sends a signal, as soon as the keeper hears it.
    pub(super) fn ask(&self, signal: Signal) {
        let mut keeper = lock(&self.keeper);
        if keeper.hears {
            keeper.send(signal);
        } else if keeper.asked != Some(Signal::USR1) {
            keeper.asked = Some(signal);
        }
    }

    fn hears(&self) {
        let mut keeper = lock(&self.keeper);
        keeper.hears = true;
        if let Some(signal) = keeper.asked.take() {
            keeper.send(signal);
        }
    }

    /// Looks whether the task was executed, where nobody tells.
    pub(super) fn look_started(&self) {
        let record = Folder::open(&self.folder).and_then(|it| it.record(self.generation));
        if matches!(record, Ok((Some(_), _))) {
            self.set_started(Ok(()));
        }
    }

    fn set_started(&self, started: Result<(), NotStarted>) {
        self.state.send_if_modified(|state| {
            let first = state.started.is_none();
            state.started.get_or_insert(started);
            first
        });
    }

    fn end(&self, ended: Ended) {
        let started = match &ended {
            Ended::Exit(Exit {
                end: End::NotStarted { reason },
                ..
            }) => Err(NotStarted {
                reason: reason.clone(),
            }),
            Ended::Exit(_) => Ok(()),
            Ended::Lost(lost) => {
                self.look_started();
                Err(NotStarted {
                    reason: lost.why.clone(),
                })
            }
        };
        self.set_started(started);
        self.state.send_modify(|state| state.ended = Some(ended));
    }
}

impl Keeper {
    fn send(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = pidfd_send_signal(process, signal);
            // One that somebody has stopped would not hear it.
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
    }
}

/// The thread, and what it waits for.
pub(super) struct Watcher {
    epoll: OwnedFd,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    next: u64,
    keepers: HashMap<u64, Entry>,
}

struct Entry {
    /// None of a keeper in store.
    shared: Option<Arc<Shared>>,
    process: Arc<OwnedFd>,
    /// What it reports, until it has.
    report: Option<PipeReader>,
    /// Filled again when it has reported.
    store: Option<Weak<Store>>,
}

impl Watcher {
    /// The one of this process. It outlives all who use it: a keeper that nobody waits for any more must
    /// be reaped as well.
    pub(super) fn get() -> io::Result<Arc<Self>> {
        static ONLY: Mutex<Option<Arc<Watcher>>> = Mutex::new(None);
        let mut only = lock(&ONLY);
        if let Some(watcher) = &*only {
            return Ok(watcher.clone());
        }
        let watcher = Arc::new(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            watched: Mutex::default(),
        });
        let this = watcher.clone();
        std::thread::Builder::new()
            .name("keepers".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || this.run())?;
        *only = Some(watcher.clone());
        Ok(watcher)
    }

    /// Waits for a keeper that this process has just started, for a unit.
    pub(super) fn started(
        &self,
        spawned: Spawned,
        (folder, generation): (&Path, u64),
        store: &Arc<Store>,
    ) -> io::Result<Arc<Shared>> {
        let shared = Shared::new(folder, generation, spawned.pid, State::default());
        let process = Arc::new(spawned.process);
        lock(&shared.keeper).process = Some(process.clone());
        self.add(Entry {
            shared: Some(shared.clone()),
            process,
            report: Some(spawned.report),
            store: Some(Arc::downgrade(store)),
        })?;
        Ok(shared)
    }

    /// Waits for a keeper that this process has just put in store.
    pub(super) fn stored(&self, spawned: Spawned) -> io::Result<u64> {
        self.add(Entry {
            shared: None,
            process: Arc::new(spawned.process),
            report: Some(spawned.report),
            store: None,
        })
    }

    /// Gives a keeper in store its unit, if `tell` succeeds in telling it. Its report and its end are
    /// heard by that unit's handles from then on.
    pub(super) fn assign(
        &self,
        name: u64,
        pid: u32,
        (folder, generation): (&Path, u64),
        store: &Arc<Store>,
        tell: impl FnOnce() -> bool,
    ) -> Option<Arc<Shared>> {
        // Held, so that nothing is heard of it in between.
        let mut watched = lock(&self.watched);
        let entry = watched.keepers.get_mut(&name)?;
        if !tell() {
            let _ = pidfd_send_signal(&entry.process, Signal::KILL);
            return None;
        }
        let shared = Shared::new(folder, generation, pid, State::default());
        lock(&shared.keeper).process = Some(entry.process.clone());
        entry.shared = Some(shared.clone());
        entry.store = Some(Arc::downgrade(store));
        Some(shared)
    }

    /// Waits for a keeper that was found.
    pub(super) fn found(
        &self,
        (folder, generation): (&Path, u64),
        pid: u32,
        process: OwnedFd,
    ) -> io::Result<Arc<Shared>> {
        let shared = Shared::new(folder, generation, pid, State::default());
        self.adopt(&shared, pid, process)?;
        Ok(shared)
    }

    /// One that holds its lock hears.
    fn adopt(&self, shared: &Arc<Shared>, pid: u32, process: OwnedFd) -> io::Result<()> {
        let process = Arc::new(process);
        let mut keeper = lock(&shared.keeper);
        keeper.pid = pid;
        keeper.process = Some(process.clone());
        drop(keeper);
        shared.look_started();
        self.add(Entry {
            shared: Some(shared.clone()),
            process,
            report: None,
            store: None,
        })?;
        shared.hears();
        Ok(())
    }

    fn add(&self, entry: Entry) -> io::Result<u64> {
        // Held until all is in place: the thread looks it up.
        let mut watched = lock(&self.watched);
        let name = watched.next;
        watched.next += 1;
        let add = |source: BorrowedFd<'_>, what: u64| {
            let data = epoll::EventData::new_u64(name * 2 + what);
            epoll::add(&self.epoll, source, data, epoll::EventFlags::IN)
        };
        if let Some(report) = &entry.report {
            add(report.as_fd(), 1)?;
        }
        add(entry.process.as_fd(), 0)?;
        watched.keepers.insert(name, entry);
        Ok(name)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "keepers cannot be waited for any more");
                    return;
                }
            }
            // Reports first: who has reported and ended at once is told in this order.
            events.sort_by_key(|event| event.data.u64() % 2 == 0);
            for event in &events {
                let data = event.data.u64();
                if data % 2 == 1 {
                    self.reports(data / 2);
                } else {
                    self.has_ended(data / 2);
                }
            }
        }
    }

    fn reports(&self, name: u64) {
        let mut watched = lock(&self.watched);
        let Some(entry) = watched.keepers.get_mut(&name) else {
            return;
        };
        let Some(report) = entry.report.take() else {
            return;
        };
        let (shared, store) = (entry.shared.clone(), entry.store.take());
        drop(watched);
        // One in store has nothing to say: it is dying.
        let Some(shared) = shared else { return };
        match read(report) {
            Some(Report::Started) => {
                shared.set_started(Ok(()));
                shared.hears();
            }
            // It ends, and then the reason is looked for where it lasts, in the folder.
            Some(Report::NotStarted { reason }) => {
                shared.set_started(Err(NotStarted { reason }));
            }
            Some(Report::Taken) | None => {}
        }
        // Only now: nobody waits for it, and it takes a processor for a while.
        if let Some(store) = store.and_then(|store| store.upgrade()) {
            store.fill(self);
        }
    }

    fn has_ended(&self, name: u64) {
        self.reports(name);
        let Some(entry) = lock(&self.watched).keepers.remove(&name) else {
            return;
        };
        let _ = epoll::delete(&self.epoll, &*entry.process);
        // Not a child of this process: then it is reaped elsewhere.
        let status = waitid(WaitId::PidFd(entry.process.as_fd()), WaitIdOptions::EXITED);
        let Some(shared) = entry.shared else { return };
        let pid = shared.pid();
        let died = status.ok().flatten().and_then(|status| died(&status));
        let died = died.unwrap_or_else(|| "was killed".to_owned());
        let folder = Folder::open(&shared.folder);
        let claim = folder.as_ref().map(|it| it.claim(shared.generation));
        let claimed_by = match claim {
            Ok(Ok(Some(Claim::By(keeper)))) => keeper.pid,
            _ => pid,
        };
        // Another one may have been quicker.
        lock(&shared.keeper).pid = claimed_by;
        let ended = match folder.and_then(|it| it.see(shared.generation)) {
            Ok(Seen::Ended(exit)) => Ended::Exit(exit),
            Ok(Seen::Lost(lost)) if lost.rebooted || claimed_by != pid => Ended::Lost(lost),
            Ok(Seen::Lost(lost)) => Ended::Lost(Lost {
                why: format!("its keeper (process {pid}) {died}"),
                ..lost
            }),
            Ok(Seen::Running(keeper, process)) => match self.adopt(&shared, keeper.pid, process) {
                Ok(()) => return,
                Err(error) => lost(&error),
            },
            Ok(Seen::NeverStarted) => {
                let known = shared.state.borrow().started.clone();
                let reason = match known {
                    Some(Err(NotStarted { reason })) => reason,
                    _ => format!("its keeper (process {pid}) {died} before the start"),
                };
                let asked = lock(&shared.keeper).asked.is_some();
                Ended::Exit(Exit::not_started(reason, asked))
            }
            Err(error) => lost(&error),
        };
        shared.end(ended);
    }
}

fn lost(error: &io::Error) -> Ended {
    Ended::Lost(Lost {
        why: format!("its folder cannot be read: {error}"),
        rebooted: false,
    })
}

/// The line of a report, which is written at once.
fn read(mut from: PipeReader) -> Option<Report> {
    let mut line = vec![0; 4096];
    let read = from.read(&mut line).ok()?;
    serde_json::from_slice(line.get(..read)?).ok()
}

fn died(status: &WaitIdStatus) -> Option<String> {
    if let Some(signal) = status.terminating_signal() {
        return Some(format!("was killed ({})", signal_name(signal)));
    }
    let code = status.exit_status()?;
    Some(format!("failed (code {code})"))
}
