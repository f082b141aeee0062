//! Keepers: a tiny process for each task, which owns it. The server starts them, finds them again after
//! it was killed, and reads what they wrote down.
//!
//! ```text
//! server --Spec on stdin--> keeper --fork, exec--> task (own session)
//!    ^                        |  ^                   |
//!    '--- exit record, pidfd -'  '---- one pipe -----'--> units/<unit>/log
//! ```
//!
//! **Invariant: a generation of a unit runs at most once.** Its keeper claims it with a symbolic link
//! `started-<generation>`, which the file system makes whole or not at all and only once, before the task
//! is executed. Whoever comes later finds it and starts nothing. It is made durable while the task is being
//! executed; what a loss of power takes is not started again, because whoever has it started notes the
//! [`boot_id`] before, and asks for it in no other life of the machine.
//!
//! **Invariant: the server may die at any instant.** Nothing that a keeper needs is in the server: not
//! its pipes, not its session, not its memory. Nor is a keeper ever told to die with anybody
//! (`PR_SET_PDEATHSIG` fires when the *thread* that spawned it ends).
//!
//! A keeper has to load a large program first, so one is kept in store that has: see [`Keepers::warm`].
//!
//! **Invariant: the end is written down before the lock is let go.** So a free lock without an exit
//! record means that the keeper was killed, or the machine, and that the task's end is not known.
//!
//! In a unit's folder:
//!
//! | name | what |
//! |---|---|
//! | `keeper.lock` | locked by the keeper while it lives; never inherited |
//! | `tree.lock` | locked by whatever of the task lives and has kept its descriptors |
//! | `started-<generation>` | the claim: the keeper's pid, its start, the boot |
//! | `run-<generation>.jsonl` | the task's pid and cgroup; its exit. Its space is reserved before the claim |
//! | `log` | what the task wrote, of all generations |
//! | `note` | something to say about the task now, for people |

pub(crate) mod fail;
mod handle;
mod kernel;
mod limits;
mod log;
mod mark;
mod process;
mod run;
mod signals;
mod spare;
mod spec;
mod sweep;
mod task;
mod tree;
mod watch;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

pub use fail::{FAIL_AT, FAIL_POINTS};
pub use handle::{Handle, Keepers};
pub use limits::{Enforced, LimitsReport, limits_in_force};
pub use log::log_start;
pub use spec::{
    End, Ended, Exit, Found, Limits, Lost, NotStarted, Program, Spec, StartError, signal_name,
};

/// The present life of this machine: another after each restart.
pub fn boot_id() -> String {
    process::boot_id()
}

/// The hidden subcommand, followed by the unit's folder; without one it waits to be told on standard
/// input.
pub const SUBCOMMAND: &str = "__keeper";
/// In the environment of all processes of a unit: its name.
pub const UNIT: &str = "SKYTOWER_UNIT";
/// In the environment of all processes of a unit: its folder, because two servers of one machine may
/// have units of one name.
pub const UNIT_FOLDER: &str = "SKYTOWER_UNIT_FOLDER";

/// Becomes a keeper when the program was called as one. It belongs before everything else that a program
/// does: what is done before costs each keeper its memory.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(SUBCOMMAND)) {
        return None;
    }
    Some(run::keep(arguments.next().map(PathBuf::from)))
}
