//! Ending a tree of processes that may not want to.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Signal, pidfd_send_signal};

use super::process::{self, Stat};

/// How often it is looked for processes that were not stopped yet, before those that were are killed.
const ROUNDS: usize = 20;

/// A process that was seen. Whether it still is that one is looked at before each signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) pid: u32,
    pub(super) starttime: u64,
}

impl Seen {
    pub(super) fn of(pid: u32) -> Option<(Self, Stat)> {
        let stat = Stat::of(pid)?;
        let starttime = stat.starttime;
        Some((Self { pid, starttime }, stat))
    }

    pub(super) fn send(self, signal: Signal) {
        if let Some(held) = process::hold(self.pid, |stat| stat.starttime == self.starttime) {
            let _ = pidfd_send_signal(held, signal);
        }
    }
}

/// All that live below a process, children first. Below a subreaper nothing can get away: whose parent
/// ends becomes its child.
pub(super) fn below(root: u32) -> Vec<(Seen, Stat)> {
    let mut found: Vec<(Seen, Stat)> = Vec::new();
    let Some((root, _)) = Seen::of(root) else {
        return found;
    };
    let listed = has_lists();
    let everybody = if listed { Vec::new() } else { everybody() };
    let mut asked = 0;
    let mut parent = root;
    loop {
        let children = if listed {
            children(parent.pid)
        } else {
            let of_parent = everybody.iter().filter(|it| it.1.parent == parent.pid);
            of_parent.map(|it| it.0.pid).collect()
        };
        // Another process with the parent's pid would have had other children.
        if Stat::of(parent.pid).is_some_and(|stat| stat.starttime == parent.starttime) {
            for child in children {
                if let Some((seen, stat)) = Seen::of(child)
                    && !stat.is_dead()
                    && (stat.parent == parent.pid || stat.parent == root.pid)
                    && !found.iter().any(|it| it.0 == seen)
                {
                    found.push((seen, stat));
                }
            }
        }
        match found.get(asked) {
            Some(next) => parent = next.0,
            None => return found,
        }
        asked += 1;
    }
}

/// Kills all that `find` finds. They are stopped first, until nobody is left who could fork: a fork bomb
/// is faster than any list of it.
pub(super) fn kill(mut find: impl FnMut() -> Vec<Seen>) {
    let mut stopped = BTreeSet::new();
    for _ in 0..ROUNDS {
        let before = stopped.len();
        for seen in find() {
            if stopped.insert(seen) {
                seen.send(Signal::STOP);
            }
        }
        if stopped.len() == before {
            break;
        }
    }
    for seen in stopped {
        seen.send(Signal::KILL);
    }
}

/// Does this kernel list the children of a process; many sandboxes do not.
fn has_lists() -> bool {
    fs::exists("/proc/thread-self/children").unwrap_or(false)
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let lists = threads.into_iter().flatten().flatten().map(|thread| {
        let list = fs::read_to_string(thread.path().join("children"));
        list.unwrap_or_default()
    });
    let mut children = Vec::new();
    for list in lists {
        children.extend(list.split(' ').filter_map(|pid| pid.parse::<u32>().ok()));
    }
    children
}

pub(super) fn everybody() -> Vec<(Seen, Stat)> {
    process::all().into_iter().filter_map(Seen::of).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_lives_below_is_found_and_killed() {
        // A shell that waits for its own children, two levels.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "sh -c 'sleep 600; :' & sleep 600; :"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = shell.id();
        while below(pid).len() < 3 {
            std::thread::yield_now();
        }
        let found = || below(pid).into_iter().map(|it| it.0).collect::<Vec<_>>();
        let all = found();
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|seen| seen.pid != pid));
        kill(found);
        let lives = |seen: &Seen| {
            Stat::of(seen.pid).is_some_and(|it| it.starttime == seen.starttime && !it.is_dead())
        };
        while all.iter().any(lives) {
            std::thread::yield_now();
        }
        // The shell itself was not below itself.
        shell.wait().unwrap();
    }
}
