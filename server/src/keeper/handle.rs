//! Starting keepers and finding them again: the server's side.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::mark::{self, Claim, Folder, Seen};
use super::spare::Store;
use super::spec::{Ended, Found, Lost, NotStarted, Program, Spec, StartError};
use super::watch::{Shared, Watcher};
use super::{fail, limits, sweep};

/// All units of a server.
pub struct Keepers {
    store: Arc<Store>,
    units: PathBuf,
    watcher: Arc<Watcher>,
    /// Those that were running when they were last looked at: looking again costs nothing.
    known: Mutex<HashMap<String, Arc<Shared>>>,
}

/// A keeper that was started or found. Dropping it does nothing to the keeper.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("folder", &self.shared.folder)
            .field("generation", &self.shared.generation)
            .field("pid", &self.pid())
            .finish()
    }
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Io { doing, error }
}

impl Keepers {
    /// Takes over the units in a folder, which is made where it is not there.
    pub fn new(program: Program, units: PathBuf) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&units)?;
        limits::remove_empty();
        // It may have been there with other rights.
        fs::set_permissions(&units, Permissions::from_mode(0o700))?;
        Ok(Self {
            store: Arc::new(Store::new(program)),
            // Tasks know their unit by it, from wherever the server is started.
            units: fs::canonicalize(units)?,
            watcher: Watcher::get()?,
            known: Mutex::default(),
        })
    }

    /// Puts a keeper in store, so that the first start is as quick as those after it: it takes a large
    /// program longer to load than all that is done before a task is executed. The keeper in store ends
    /// when this value goes, or this process.
    pub fn warm(&self) {
        self.store.fill(&self.watcher);
    }

    /// Starts a keeper, which claims the generation and executes the task. Where that has happened
    /// already nothing is started, and the handle is that of whatever became of it: it may be called
    /// again when it is not known whether it was.
    pub fn start(&self, spec: &Spec) -> Result<Handle, StartError> {
        if !mark::is_name(&spec.unit) {
            return Err(StartError::Unit(spec.unit.clone()));
        }
        let folder = self.units.join(&spec.unit);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if let Some(handle) = self.started_already(&folder, spec)? {
                    return Ok(handle);
                }
            }
            Err(error) => return Err(io("make the unit's folder")(error)),
        }
        fail::at("start.folder");
        let shared = self
            .store
            .send(&self.watcher, &folder, spec)
            .map_err(io("start a keeper"))?;
        self.known().insert(spec.unit.clone(), shared.clone());
        Ok(Handle { shared })
    }

    fn started_already(&self, folder: &Path, spec: &Spec) -> Result<Option<Handle>, StartError> {
        let (unit, generation) = (&spec.unit, spec.generation);
        let latest = Folder::open(folder).and_then(|it| it.latest());
        if let Some(later) = latest.map_err(io("look into the unit's folder"))?
            && later > generation
        {
            return Err(StartError::Superseded { later });
        }
        let ended = match self.look(unit, generation) {
            Found::NeverStarted => return Ok(None),
            Found::Running(handle) => return Ok(Some(handle)),
            Found::Ended(exit) => Ended::Exit(exit),
            Found::Lost(lost) => Ended::Lost(lost),
        };
        let claim = Folder::open(folder).and_then(|it| it.claim(generation));
        let pid = match claim {
            Ok(Some(Claim::By(keeper))) => keeper.pid,
            _ => 0,
        };
        let shared = Shared::ended(folder, generation, pid, ended);
        Ok(Some(Handle { shared }))
    }

    /// What became of a generation of a unit.
    pub fn look(&self, unit: &str, generation: u64) -> Found {
        if !mark::is_name(unit) {
            return Found::NeverStarted;
        }
        if let Some(shared) = self.known_running(unit, generation) {
            return Found::Running(Handle { shared });
        }
        let path = self.units.join(unit);
        let seen = match Folder::open(&path) {
            Ok(folder) => folder.see(generation),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Seen::NeverStarted),
            Err(error) => Err(error),
        };
        let found = seen.and_then(|seen| {
            Ok(match seen {
                Seen::NeverStarted => Found::NeverStarted,
                Seen::Ended(exit) => Found::Ended(exit),
                Seen::Lost(lost) => Found::Lost(lost),
                Seen::Running(keeper, process) => {
                    let found = self
                        .watcher
                        .found((&path, generation), keeper.pid, process)?;
                    self.known().insert(unit.to_owned(), found.clone());
                    Found::Running(Handle { shared: found })
                }
            })
        });
        found.unwrap_or_else(|error| {
            Found::Lost(Lost {
                why: format!("its folder cannot be read: {error}"),
                rebooted: false,
            })
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Shared>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_running(&self, unit: &str, generation: u64) -> Option<Arc<Shared>> {
        let mut known = self.known();
        let shared = known.get(unit)?;
        if shared.state.borrow().ended.is_some() {
            known.remove(unit);
            return None;
        }
        (shared.generation == generation).then(|| shared.clone())
    }

    /// Makes sure that a generation that was never started never will be, not even by a keeper that is
    /// on its way, of a server that was killed. False when it was started before.
    pub fn call_off(&self, unit: &str, generation: u64) -> io::Result<bool> {
        if !mark::is_name(unit) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let path = self.units.join(unit);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        Folder::open(&path)?.make_claim(generation, &Claim::CalledOff)
    }

    /// The log of a unit, of all its generations. See [`super::log_start`].
    pub fn log_path(&self, unit: &str) -> PathBuf {
        self.units.join(unit).join(mark::LOG)
    }

    /// Something to say about the task now, for people.
    pub fn note(&self, unit: &str) -> Option<String> {
        let note = fs::read_to_string(self.units.join(unit).join(mark::NOTE));
        note.ok().filter(|note| !note.is_empty())
    }

    /// Removes a unit's folder; an error when something of it lives.
    pub fn remove(&self, unit: &str) -> io::Result<()> {
        if !mark::is_name(unit) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let folder = match Folder::open(&self.units.join(unit)) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let busy = |what: &str| io::Error::new(ErrorKind::ResourceBusy, what.to_owned());
        let _lock = folder
            .lock(mark::KEEPER_LOCK)?
            .ok_or_else(|| busy("its keeper lives"))?;
        let _tree = folder
            .lock(mark::TREE_LOCK)?
            .ok_or_else(|| busy("some of its processes live"))?;
        self.known().remove(unit);
        mark::remove(&folder)
    }

    /// Kills what is left of a unit whose keeper is dead, and returns what survives that. While the
    /// keeper lives it does nothing and returns the keeper.
    pub fn sweep(&self, unit: &str) -> impl Future<Output = Vec<u32>> + Send + use<> {
        let path = self.units.join(unit);
        let unit = unit.to_owned();
        async move {
            let swept = tokio::task::spawn_blocking(move || sweep::sweep(&unit, &path));
            swept.await.unwrap_or_default()
        }
    }
}

impl Handle {
    /// Until the task was executed, or until it is known that it was not.
    pub async fn started(&self) -> Result<(), NotStarted> {
        let mut state = self.shared.state.subscribe();
        loop {
            if let Some(started) = &state.borrow_and_update().started {
                return started.clone();
            }
            // The keeper reports only to who has started it; the others look.
            tokio::select! {
                _ = state.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => self.shared.look_started(),
            }
        }
    }

    /// Until the task and all of its processes have ended.
    pub async fn ended(&self) -> Ended {
        let mut state = self.shared.state.subscribe();
        loop {
            if let Some(ended) = &state.borrow_and_update().ended {
                return ended.clone();
            }
            // The sender is in here: it is never gone.
            let _ = state.changed().await;
        }
    }

    /// Asks the task to end: SIGTERM, and SIGKILL after its grace. To ask again changes nothing.
    pub fn stop(&self) {
        self.shared.ask(Signal::TERM);
    }

    /// Kills the task at once.
    pub fn kill(&self) {
        self.shared.ask(Signal::USR1);
    }

    /// The keeper's process; 0 when there was none.
    pub fn pid(&self) -> u32 {
        self.shared.pid()
    }
}
