//! Processes as `/proc` shows them, and clocks.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

/// What is needed of a line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: u8,
    pub(super) parent: u32,
    pub(super) group: u32,
    /// In ticks since the boot. With the pid and the boot it is the identity of a process.
    pub(super) starttime: u64,
}

impl Stat {
    pub(super) fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The name is in parentheses and may hold anything, parentheses too.
        let after = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(line.get(after + 2..)?).ok()?;
        let mut fields = rest.split(' ');
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        // The 22nd of all fields; the group is the 5th.
        let starttime = fields.nth(16)?.parse().ok()?;
        Some(Self {
            state,
            parent,
            group,
            starttime,
        })
    }

    /// It runs nothing any more; somebody has yet to take note of it.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// All processes that can be seen.
pub(super) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Which boot of the machine this is.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().replace('-', "")
}

/// A process that cannot become another one, because it is held by a descriptor; none when it is not
/// the one that `is` describes, or is dead.
pub(super) fn hold(pid: u32, is: impl FnOnce(&Stat) -> bool) -> Option<OwnedFd> {
    let held = pidfd_open(as_pid(pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after it was opened: if this is it now, it was it then.
    let stat = Stat::of(pid)?;
    (!stat.is_dead() && is(&stat)).then_some(held)
}

pub(super) fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Milliseconds since 1970; for showing.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Milliseconds since the boot, sleep included; for measuring.
pub(super) fn boot_ms() -> u64 {
    let at = clock_gettime(ClockId::Boottime);
    at.tv_sec as u64 * 1000 + at.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_nothing() {
        let line = b"7 (a) b (c)) S 1 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0 4711 8 9\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group), (b'S', 1, 7));
        assert_eq!(stat.starttime, 4711);
        assert_eq!(Stat::parse(b"garbage"), None);
    }

    #[test]
    fn this_process_is_held_and_another_start_of_it_is_not() {
        let pid = std::process::id();
        let stat = Stat::of(pid).unwrap();
        assert!(hold(pid, |now| now.starttime == stat.starttime).is_some());
        assert!(hold(pid, |now| now.starttime != stat.starttime).is_none());
        assert!(all().contains(&pid));
        assert!(!boot_id().is_empty());
    }
}
