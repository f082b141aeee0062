//! What a keeper is told, and what becomes of its task.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Handle;

/// How a keeper is called. The folder of its unit is added, or nothing for one in store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What is executed.
    pub path: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

impl Default for Program {
    /// This program itself, also when its file was replaced meanwhile.
    fn default() -> Self {
        Self {
            path: "/proc/self/exe".into(),
            arguments: vec![super::SUBCOMMAND.into()],
        }
    }
}

/// What is to be run, and how.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The unit's name: letters, digits, `-`, `_` and `.`.
    pub unit: String,
    /// Which start of it this is. A higher one replaces the lower ones for ever.
    pub generation: u64,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The working folder.
    pub folder: PathBuf,
    /// The whole environment: nothing is inherited. The unit's name and folder are added.
    pub env: BTreeMap<String, String>,
    /// How long it may take to end after SIGTERM.
    pub grace_ms: u64,
    /// How many bytes of its log are kept.
    pub log_cap: u64,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
}

impl fmt::Debug for Spec {
    /// Without the values of the environment: there are secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("unit", &self.unit)
            .field("generation", &self.generation)
            .field("command", &self.command)
            .field("folder", &self.folder)
            .field("env", &self.env.keys())
            .field("grace_ms", &self.grace_ms)
            .field("log_cap", &self.log_cap)
            .field("limits", &self.limits)
            .finish()
    }
}

/// What is told to a process that was started before it was known for which unit.
#[derive(Serialize, Deserialize)]
pub(super) struct Errand<'a> {
    /// The unit's folder.
    pub(super) folder: Cow<'a, Path>,
    pub(super) spec: Cow<'a, Spec>,
}

impl Errand<'_> {
    /// In a pipe: after its length, so that nobody has to wait for the other end to be closed, of which
    /// others may have a copy for a moment.
    pub(super) fn framed(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size_of::<u64>()];
        serde_json::to_writer(&mut bytes, self)?;
        let length = (bytes.len() - size_of::<u64>()) as u64;
        bytes[..size_of::<u64>()].copy_from_slice(&length.to_le_bytes());
        Ok(bytes)
    }

    /// The other end of [`Self::framed`].
    pub(super) fn read(from: &mut impl Read) -> io::Result<Errand<'static>> {
        let mut length = [0; size_of::<u64>()];
        from.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut text = Vec::new();
        if from.take(length).read_to_end(&mut text)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&text)?)
    }
}

/// What a task may use. [`super::limits_in_force`] tells which of it this machine can enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory, of all its processes together (of each, where there is no cgroup).
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processors' worth of time.
    pub cpus: Option<f64>,
}

impl Limits {
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It ended by itself, with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be executed.
    NotStarted {
        /// Why not, for people.
        reason: String,
    },
}

/// What a keeper writes down when its task has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it ended.
    pub end: End,
    /// When it was started, in milliseconds since 1970; for showing.
    pub started_at_ms: i64,
    /// When it had ended, in milliseconds since 1970; for showing.
    pub ended_at_ms: i64,
    /// How long it ran, by a clock that nobody sets and that goes on while the machine sleeps.
    pub ran_ms: u64,
    /// It had been told to stop before it ended.
    pub stopped: bool,
    /// Bytes that the task wrote and that its log no longer holds, or never did.
    pub log_dropped: u64,
    /// What of it could not be killed.
    pub survivors: Vec<u32>,
    /// What else is to be said about it, for people.
    pub note: Option<String>,
}

impl Exit {
    /// The end of something that never began.
    pub(super) fn not_started(reason: impl Into<String>, stopped: bool) -> Self {
        let now = super::process::now_ms();
        Self {
            end: End::NotStarted {
                reason: reason.into(),
            },
            started_at_ms: now,
            ended_at_ms: now,
            ran_ms: 0,
            stopped,
            log_dropped: 0,
            survivors: Vec::new(),
            note: None,
        }
    }
}

/// A task whose end nobody knows. [`super::Keepers::sweep`] ends what may be left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Why it is not known, for people.
    pub why: String,
    /// The machine was restarted: nothing of it is left.
    pub rebooted: bool,
}

/// What is known about one generation of a unit.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing of it was ever executed.
    NeverStarted,
    /// Its keeper lives.
    Running(Handle),
    /// It has ended.
    Ended(Exit),
    /// Its keeper is dead and has left no exit record.
    Lost(Lost),
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has ended.
    Exit(Exit),
    /// Its end is not known.
    Lost(Lost),
}

/// Why a task was not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotStarted {
    /// For people.
    pub reason: String,
}

/// Why no keeper was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not be the name of a folder.
    #[error("`{0}` cannot be the name of a unit")]
    Unit(String),
    /// A later generation of the unit has been started.
    #[error("generation {later} of the unit has been started already")]
    Superseded {
        /// The latest.
        later: u64,
    },
    /// The system says no.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        error: io::Error,
    },
}

/// The name of a signal, such as `SIGKILL`; its number where it has none.
pub fn signal_name(number: i32) -> String {
    const NAMES: [&str; 32] = [
        "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU",
        "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::try_from(number).ok().and_then(|at| NAMES.get(at)) {
        Some(name) if !name.is_empty() => format!("SIG{name}"),
        _ => format!("signal {number}"),
    }
}
