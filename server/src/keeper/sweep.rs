//! Killing what a unit has left behind when its keeper is dead.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::limits::{self, Cgroup};
use super::mark::{Claim, Folder, KEEPER_LOCK, TREE_LOCK};
use super::process::{Stat, boot_ms};
use super::tree::{self, Seen};
use super::{UNIT, UNIT_FOLDER};

const PATIENCE_MS: u64 = 5000;
const EVERY: Duration = Duration::from_millis(20);

/// Kills what is left of a unit in its folder; returns what survives.
pub(super) fn sweep(unit: &str, path: &Path) -> Vec<u32> {
    let Ok(folder) = Folder::open(path) else {
        return Vec::new();
    };
    let mut claims = Vec::new();
    for generation in folder.generations().unwrap_or_default() {
        if let Ok(Some(Claim::By(keeper))) = folder.claim(generation) {
            claims.push((generation, keeper));
        }
    }
    let until = boot_ms() + PATIENCE_MS;
    // Held, so that no generation is started meanwhile: it would be marked in the same way.
    let _lock = loop {
        if let Ok(Some(lock)) = folder.lock(KEEPER_LOCK) {
            break lock;
        }
        let alive = claims.iter().filter(|it| it.1.hold().is_some());
        let alive: Vec<_> = alive.map(|it| it.1.pid).collect();
        if !alive.is_empty() {
            return alive;
        }
        // A keeper that was killed while it forked has left the lock to its child, until that executes.
        if boot_ms() >= until {
            return holders(&folder.path.join(KEEPER_LOCK));
        }
        sleep(EVERY);
    };
    let boot = super::process::boot_id();
    let base = limits::base();
    let cgroups = claims.iter().filter(|it| it.1.boot_id == boot);
    let cgroups = cgroups.filter_map(|(generation, keeper)| {
        let (executed, _) = folder.record(*generation).ok()?;
        let written = executed.and_then(|it| it.cgroup);
        // Killed before it was written down: then it is where this process would make it too.
        let place = written.or_else(|| Some(limits::place_for(keeper, base.as_deref()?)))?;
        Cgroup::left_at(&place).ok()
    });
    let cgroups: Vec<_> = cgroups.collect();
    let mut quiet = false;
    loop {
        for cgroup in &cgroups {
            cgroup.kill();
        }
        let find = || left(unit, &folder, &cgroups);
        let left = find();
        // Twice: what is being forked may be nowhere to be seen for a moment.
        if left.is_empty() && quiet {
            return Vec::new();
        }
        if boot_ms() >= until {
            return left.into_iter().map(|it| it.pid).collect();
        }
        quiet = left.is_empty();
        if !quiet {
            tree::kill(find);
        }
        sleep(EVERY);
    }
}

/// All that live and carry the unit's mark, are in its cgroup, hold its tree lock, or descend from those.
fn left(unit: &str, folder: &Folder, cgroups: &[Cgroup]) -> Vec<Seen> {
    let members: Vec<_> = cgroups.iter().flat_map(Cgroup::members).collect();
    let everybody = tree::everybody();
    let this = std::process::id();
    let locked = folder.is_locked(TREE_LOCK).unwrap_or(false);
    let lock = folder.path.join(TREE_LOCK);
    let mut left: Vec<(Seen, Stat)> = Vec::new();
    for (seen, stat) in &everybody {
        if stat.is_dead() || seen.pid == this {
            continue;
        }
        let belongs = members.contains(&seen.pid)
            || is_marked(seen.pid, unit, &folder.path)
            || (locked && has_open(seen.pid, &lock));
        // Looked at once more: the pid may be another's by now.
        if belongs && Seen::of(seen.pid).is_some_and(|it| it.0 == *seen) {
            left.push((*seen, *stat));
        }
    }
    let mut asked = 0;
    while let Some((parent, _)) = left.get(asked).copied() {
        for (seen, stat) in &everybody {
            // A child is not older than its parent: then the pid was another's.
            if stat.parent == parent.pid
                && seen.starttime >= parent.starttime
                && !stat.is_dead()
                && seen.pid != this
                && !left.iter().any(|it| it.0 == *seen)
            {
                left.push((*seen, *stat));
            }
        }
        asked += 1;
    }
    left.into_iter().map(|it| it.0).collect()
}

fn is_marked(pid: u32, unit: &str, folder: &Path) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let has = |name: &str, value: &[u8]| {
        environment.split(|byte| *byte == 0).any(|entry| {
            let entry = entry.strip_prefix(name.as_bytes());
            entry.and_then(|entry| entry.strip_prefix(b"=")) == Some(value)
        })
    };
    has(UNIT, unit.as_bytes()) && has(UNIT_FOLDER, folder.as_os_str().as_bytes())
}

fn holders(path: &Path) -> Vec<u32> {
    let mut pids = super::process::all();
    pids.retain(|pid| *pid != std::process::id() && has_open(*pid, path));
    pids
}

fn has_open(pid: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd"));
    let mut open = open.into_iter().flatten().flatten();
    open.any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == path))
}
