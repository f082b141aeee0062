//! What a task may use, and the cgroup in which its processes cannot hide.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, Mode, OFlags, access, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::mark::Keeper;
use super::process;
use super::spec::Limits;

const PERIOD_US: f64 = 100_000.0;

/// What enforces a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// The kernel, for all processes of a task together.
    ByCgroup,
    /// The kernel, for each process of a task.
    ForEachProcess,
    /// Nothing.
    No,
}

/// What this machine can enforce of [`Limits`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsReport {
    /// [`Limits::memory_bytes`].
    pub memory: Enforced,
    /// [`Limits::processes`].
    pub processes: Enforced,
    /// [`Limits::cpus`].
    pub cpus: Enforced,
    /// Each task gets a cgroup of its own, by which all of it is killed at once.
    pub contained: bool,
    /// All of it in one sentence, for people.
    pub sentence: String,
}

/// What would be enforced of the limits of a task that this process starts.
pub fn limits_in_force() -> LimitsReport {
    report(base().as_deref().map(controllers_below))
}

fn report(controllers: Option<Vec<String>>) -> LimitsReport {
    let contained = controllers.is_some();
    let controllers = controllers.unwrap_or_default();
    let by = |controller: &str, otherwise| {
        if controllers.iter().any(|it| it == controller) {
            Enforced::ByCgroup
        } else {
            otherwise
        }
    };
    let memory = by("memory", Enforced::ForEachProcess);
    let processes = by("pids", Enforced::No);
    let cpus = by("cpu", Enforced::No);
    let listed = |how: Enforced| {
        let all = [("memory", memory), ("processes", processes), ("cpus", cpus)];
        let names: Vec<_> = all.iter().filter(|it| it.1 == how).map(|it| it.0).collect();
        names.join(" and ")
    };
    let mut parts = Vec::new();
    for (how, words) in [
        (Enforced::ByCgroup, "limited by a cgroup for each task"),
        (Enforced::ForEachProcess, "limited for each process alone"),
        (Enforced::No, "not limited"),
    ] {
        let names = listed(how);
        if !names.is_empty() {
            parts.push(format!("{names} {words}"));
        }
    }
    let tail = if contained {
        "what a task leaves is killed by its cgroup"
    } else {
        "no cgroup of ours may be made here, so what a task leaves is killed process by process"
    };
    LimitsReport {
        memory,
        processes,
        cpus,
        contained,
        sentence: format!("{}; {tail}", parts.join(", ")),
    }
}

/// The cgroup of this process, where one below it may be made and filled.
pub(super) fn base() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "cgroup2").then(|| place.to_owned())
    })?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Outside of what this namespace shows.
    if own.split('/').any(|part| part == "..") {
        return None;
    }
    let base = Path::new(&mount).join(own);
    let may = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    // A mount that may only be read says yes to root, and no when asked so.
    (may(&base) && may(&base.join("cgroup.procs"))).then_some(base)
}

/// The controllers that a cgroup below has, or gets when it is asked for.
fn controllers_below(base: &Path) -> Vec<String> {
    // Only the root may have both processes and controllers below it, and only it has no type.
    let root = !base.join("cgroup.type").exists();
    let list = if root {
        "cgroup.controllers"
    } else {
        "cgroup.subtree_control"
    };
    let text = fs::read_to_string(base.join(list)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// What the names of our cgroups begin with.
const OURS: &str = "skytower-";

/// Where the cgroup of a keeper's task is to be.
pub(super) fn place_for(keeper: &Keeper, base: &Path) -> PathBuf {
    base.join(format!("{OURS}{}-{}", keeper.pid, keeper.starttime))
}

/// Removes what keepers have left that were killed before their task was executed: their cgroups are
/// empty, and nobody else knows of them.
pub(super) fn remove_empty() {
    let Some(base) = base() else { return };
    for cgroup in below(&base) {
        let name = cgroup.file_name().unwrap_or_default().to_string_lossy();
        let keeper = name.strip_prefix(OURS).and_then(|it| it.split_once('-'));
        if let Some((pid, starttime)) = keeper
            && let (Ok(pid), Ok(starttime)) = (pid.parse::<u32>(), starttime.parse::<u64>())
            && process::hold(pid, |stat| stat.starttime == starttime).is_none()
        {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// The cgroup of a task. It goes when the value does, unless something in it survives.
pub(super) struct Cgroup {
    path: PathBuf,
    folder: OwnedFd,
}

impl Cgroup {
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        fs::create_dir(path)?;
        Self::left_at(path).inspect_err(|_| drop(fs::remove_dir(path)))
    }

    /// Sets what it can enforce.
    pub(super) fn limit(&self, limits: &Limits) {
        if limits.any()
            && let Some(base) = self.path.parent()
        {
            for controller in ["+memory", "+pids", "+cpu"] {
                // One by one: what is not there does not prevent the others.
                let _ = set(base, "cgroup.subtree_control", controller);
            }
        }
        if let Some(bytes) = limits.memory_bytes {
            let _ = set(&self.path, "memory.max", &bytes.to_string());
            // A task of which a part was killed would go on without sense.
            let _ = set(&self.path, "memory.oom.group", "1");
        }
        if let Some(processes) = limits.processes {
            let _ = set(&self.path, "pids.max", &processes.to_string());
        }
        if let Some(cpus) = limits.cpus {
            let quota = (cpus * PERIOD_US).max(1000.0) as u64;
            let _ = set(&self.path, "cpu.max", &format!("{quota} {PERIOD_US}"));
        }
    }

    /// One that a keeper has left.
    pub(super) fn left_at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            folder: openat(CWD, path, flags, Mode::empty())?,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Can it enforce the memory limit for all processes together.
    pub(super) fn limits_memory(&self) -> bool {
        self.path.join("memory.max").exists()
    }

    /// Moves the calling process here.
    pub(super) fn join(&self) -> io::Result<()> {
        set(&self.path, "cgroup.procs", "0")
    }

    /// Kills all that is in it, also what is being forked.
    pub(super) fn kill(&self) {
        let _ = set(&self.path, "cgroup.kill", "1");
    }

    /// Something of it was killed because it used up its memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|it| it.strip_prefix("oom_kill "));
        kills.is_some_and(|kills| kills.trim() != "0")
    }

    /// The processes in it and below it.
    pub(super) fn members(&self) -> Vec<u32> {
        members(&self.path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn members(path: &Path) -> Vec<u32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut members: Vec<_> = text.lines().filter_map(|pid| pid.parse().ok()).collect();
    for below in below(path) {
        members.extend(self::members(&below));
    }
    members
}

/// A task may have made some below its own.
fn remove(path: &Path) {
    for below in below(path) {
        remove(&below);
    }
    for _ in 0..20 {
        match fs::remove_dir(path) {
            // Whoever has just been reaped may be leaving it yet.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            _ => return,
        }
    }
}

fn below(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn set(cgroup: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(cgroup.join(file))?;
    file.write_all(value.as_bytes())
}

/// Limits the memory of the calling process and of each that it will start, where no cgroup does it for
/// all. What counts is what it may write to (`RLIMIT_DATA`), not addresses: runtimes reserve those by the
/// terabyte and would not even start.
pub(super) fn limit_memory(bytes: u64) -> io::Result<()> {
    let hard = getrlimit(Resource::Data).maximum;
    let bytes = hard.map_or(bytes, |hard| hard.min(bytes));
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    Ok(setrlimit(Resource::Data, limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_enforced_is_one_sentence() {
        let all = ["cpu", "memory", "pids"].map(str::to_owned);
        assert_eq!(
            report(Some(all.to_vec())).sentence,
            "memory and processes and cpus limited by a cgroup for each task; what a task leaves is \
             killed by its cgroup"
        );
        assert_eq!(
            report(Some(Vec::new())).sentence,
            "memory limited for each process alone, processes and cpus not limited; what a task \
             leaves is killed by its cgroup"
        );
        let none = report(None);
        assert!(!none.contained);
        assert!(
            none.sentence
                .ends_with("what a task leaves is killed process by process")
        );
        // Whatever this machine has.
        assert!(!limits_in_force().sentence.is_empty());
    }
}
