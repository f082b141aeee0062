//! Spawning keepers, and having one in store that is loaded already: a large program takes longer to load
//! than all that a keeper does before it executes its task.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{PidfdFlags, pidfd_open};

use super::spec::{Errand, Program, Spec};
use super::watch::{Shared, Watcher};
use super::{FAIL_AT, fail, process};

/// A keeper that was started.
pub(super) struct Spawned {
    pub(super) pid: u32,
    pub(super) process: OwnedFd,
    pub(super) report: PipeReader,
}

/// The one in store, if there is one.
pub(super) struct Store {
    program: Program,
    spare: Mutex<Option<Spare>>,
}

/// It waits until it is told, or until nobody is left who could tell it: then it ends.
struct Spare {
    /// The watcher's name for it.
    name: u64,
    pid: u32,
    input: PipeWriter,
}

impl Store {
    pub(super) fn new(program: Program) -> Self {
        let spare = Mutex::default();
        Self { program, spare }
    }

    /// Puts one in store where there is none. Without one a start merely takes longer.
    pub(super) fn fill(&self, watcher: &Watcher) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.is_none() {
            match self.spare(watcher) {
                Ok(new) => *spare = Some(new),
                Err(error) => tracing::debug!(%error, "no keeper could be put in store"),
            }
        }
    }

    fn spare(&self, watcher: &Watcher) -> io::Result<Spare> {
        let (output, input) = io::pipe()?;
        rustix::io::ioctl_fionbio(&input, true)?;
        let spawned = self.spawn(output.into(), None)?;
        let pid = spawned.pid;
        let name = watcher.stored(spawned)?;
        Ok(Spare { name, pid, input })
    }

    /// Has a keeper do it: the one in store, or another.
    pub(super) fn send(
        self: &Arc<Self>,
        watcher: &Watcher,
        folder: &Path,
        spec: &Spec,
    ) -> io::Result<Arc<Shared>> {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let unit = (folder, spec.generation);
        if let Some(mut spare) = spare {
            let errand = Errand {
                folder: Cow::Borrowed(folder),
                spec: Cow::Borrowed(spec),
            };
            let errand = errand.framed()?;
            fail::at("start.spec");
            // All at once or not at all: the pipe is empty, and what it does not hold is for the other
            // way, not for waiting here.
            let tell = || matches!(spare.input.write(&errand), Ok(told) if told == errand.len());
            if let Some(shared) = watcher.assign(spare.name, spare.pid, unit, self, tell) {
                fail::at("start.spawned");
                return Ok(shared);
            }
        }
        let told = written(spec)?;
        fail::at("start.spec");
        let spawned = self.spawn(told.into(), Some(folder))?;
        fail::at("start.spawned");
        watcher.started(spawned, unit, self)
    }

    fn spawn(&self, input: Stdio, folder: Option<&Path>) -> io::Result<Spawned> {
        let (report, tell) = io::pipe()?;
        // Nobody may keep the watcher from the other keepers.
        rustix::io::ioctl_fionbio(&report, true)?;
        // Nothing here may need a fork: with `posix_spawn` it takes the same time however large the
        // server is.
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.arguments)
            .args(folder)
            .env_clear()
            .stdin(input)
            .stdout(tell)
            .stderr(Stdio::null());
        if cfg!(debug_assertions)
            && let Some(place) = std::env::var_os(FAIL_AT)
        {
            command.env(FAIL_AT, place);
        }
        let child = command.spawn()?;
        let pid = child.id();
        // Only the watcher reaps it, so that this is it.
        let process = process::as_pid(pid)
            .ok_or_else(|| io::Error::other("it has no pid"))
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))?;
        Ok(Spawned {
            pid,
            process,
            report,
        })
    }
}

/// What a keeper is told that is started for it, as a file without a name: all of it is there before the
/// keeper is, and it is never where others could read it.
fn written(spec: &Spec) -> io::Result<File> {
    let mut file = File::from(memfd_create("spec", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(spec)?)?;
    file.rewind()?;
    Ok(file)
}
