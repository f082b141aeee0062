//! What is written down in a unit's folder: locks, claims, records. By keepers and for the server.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, Dir, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, fsync, openat,
    readlinkat, symlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::fail;
use super::process::{self, Stat};
use super::spec::{Exit, Lost};

pub(super) const KEEPER_LOCK: &str = "keeper.lock";
pub(super) const TREE_LOCK: &str = "tree.lock";
pub(super) const LOG: &str = "log";
pub(super) const NOTE: &str = "note";
const CLAIM: &str = "started-";
/// What a claim says that nobody will ever execute.
const CALLED_OFF: &str = "called off";
/// Enough for both lines of a record, whatever they say: see [`Record::exit`].
const RESERVED: u64 = 4096;

/// Can it be the name of a unit: of a folder and of a cgroup, and one word in every message.
pub(super) fn is_name(unit: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=200).contains(&unit.len()) && unit.bytes().all(fits) && !unit.starts_with('.')
}

/// The folder of a unit. It is held open: when it is removed and made again, this one stays the removed
/// one, in which nothing can be made any more.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        Ok(Self {
            path: path.to_owned(),
            fd: openat(CWD, path, flags, Mode::empty())?,
        })
    }

    /// A file of it, which only its owner may read.
    pub(super) fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(openat(&self.fd, name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// Locks a file of it; none when somebody else holds it.
    pub(super) fn lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let file = self.file(name, OFlags::RDWR | OFlags::CREATE)?;
        Lock::of(file, FlockOperation::NonBlockingLockExclusive)
    }

    /// Does anybody hold the lock. Asking disturbs nobody who asks too, and a keeper that wants it asks
    /// again.
    pub(super) fn is_locked(&self, name: &str) -> io::Result<bool> {
        let file = match self.file(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(Lock::of(file, FlockOperation::NonBlockingLockShared)?.is_none())
    }

    /// The claim on a generation.
    pub(super) fn claim(&self, generation: u64) -> io::Result<Option<Claim>> {
        match readlinkat(&self.fd, claim_name(generation), Vec::new()) {
            Ok(text) => Ok(Some(Claim::read(text.to_bytes()))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The latest generation that was claimed.
    pub(super) fn latest(&self) -> io::Result<Option<u64>> {
        Ok(self.generations()?.into_iter().max())
    }

    /// All generations that were claimed.
    pub(super) fn generations(&self) -> io::Result<Vec<u64>> {
        let entries = Dir::read_from(&self.fd)?.collect::<Result<Vec<_>, _>>()?;
        let generation = |name: &[u8]| {
            let name = std::str::from_utf8(name).ok()?;
            name.strip_prefix(CLAIM)?.parse().ok()
        };
        Ok(entries
            .iter()
            .filter_map(|entry| generation(entry.file_name().to_bytes()))
            .collect())
    }

    /// Claims a generation for ever; false when somebody has already. Durable after
    /// [`Folder::make_durable`].
    ///
    /// A symbolic link is made with its content in one step, so that a claim is never there without
    /// saying whose it is, and one fsync, the folder's, keeps both.
    pub(super) fn make_claim(&self, generation: u64, claim: &Claim) -> io::Result<bool> {
        match symlinkat(claim.write(), &self.fd, claim_name(generation)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        fail::at("keeper.claimed");
        Ok(true)
    }

    /// From now on the claim and the record are there even after a loss of power.
    pub(super) fn make_durable(&self) -> io::Result<()> {
        match fsync(&self.fd) {
            // Where folders cannot be synced, they are without it.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        fail::at("keeper.durable");
        Ok(())
    }

    /// The record of a generation, with the space that its exit will need: on a full disk too the end
    /// of a task is written down.
    pub(super) fn reserve(&self, generation: u64) -> io::Result<Record> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let file = self.file(&record_name(generation), flags)?;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVED) {
            Ok(()) => {}
            // Blanks take the space as well, and JSON does not mind them.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.write_all_at(&[b' '; RESERVED as usize], 0)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Record { file, at: 0 })
    }

    /// What the record of a generation says so far.
    pub(super) fn record(&self, generation: u64) -> io::Result<(Option<Executed>, Option<Exit>)> {
        let mut text = Vec::new();
        match self.file(&record_name(generation), OFlags::RDONLY) {
            Ok(mut file) => file.read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let (mut executed, mut exit) = (None, None);
        // A line that is not whole is as good as not there: it was being written.
        for line in text.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Line::Executed(line)) => executed = Some(line),
                Ok(Line::Exit(line)) => exit = Some(line),
                Err(_) => {}
            }
        }
        Ok((executed, exit))
    }

    /// Forgets generations long past, so that a unit that is restarted for ever does not fill the disk.
    pub(super) fn forget_before(&self, generation: u64) {
        for old in self.generations().unwrap_or_default() {
            if old < generation {
                for name in [claim_name(old), record_name(old)] {
                    let _ = rustix::fs::unlinkat(&self.fd, name, rustix::fs::AtFlags::empty());
                }
            }
        }
    }

    /// Something to say about the task now; empty is nothing. What cannot be written is not said.
    pub(super) fn note(&self, text: &str) {
        let create = if text.is_empty() {
            OFlags::empty()
        } else {
            OFlags::CREATE
        };
        if let Ok(file) = self.file(NOTE, OFlags::WRONLY | OFlags::TRUNC | create) {
            let _ = file.write_all_at(text.as_bytes(), 0);
        }
    }

    /// What became of a generation.
    pub(super) fn see(&self, generation: u64) -> io::Result<Seen> {
        let keeper = match self.claim(generation)? {
            None => {
                return Ok(match self.latest()? {
                    Some(later) if later > generation => Seen::Lost(Lost {
                        why: format!("generation {later} has replaced it"),
                        rebooted: false,
                    }),
                    _ => Seen::NeverStarted,
                });
            }
            Some(Claim::CalledOff) => return Ok(Seen::Ended(called_off())),
            Some(Claim::Garbled) => {
                return Ok(Seen::Lost(Lost {
                    why: "its claim cannot be read".to_owned(),
                    rebooted: false,
                }));
            }
            Some(Claim::By(keeper)) => keeper,
        };
        // Until it is dead, what it has written is not durable for certain, and its locks are held.
        if let Some(pidfd) = keeper.hold() {
            return Ok(Seen::Running(keeper, pidfd));
        }
        if let (_, Some(exit)) = self.record(generation)? {
            return Ok(Seen::Ended(exit));
        }
        let rebooted = keeper.boot_id != process::boot_id();
        let why = if rebooted {
            "the machine was restarted".to_owned()
        } else {
            format!("its keeper (process {}) was killed", keeper.pid)
        };
        Ok(Seen::Lost(Lost { why, rebooted }))
    }
}

/// A file that this process has locked.
///
/// It is unlocked, not only closed: a process that another thread starts at that moment has a copy of the
/// descriptor until it is executed, and with it the lock.
pub(super) struct Lock(Option<File>);

impl Lock {
    fn of(file: File, how: FlockOperation) -> io::Result<Option<Self>> {
        match flock(&file, how) {
            Ok(()) => Ok(Some(Self(Some(file)))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Locked for as long as anybody has it open who inherits it.
    pub(super) fn for_heirs(mut self) -> Option<File> {
        self.0.take()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}

/// What became of a generation, by what is written down.
pub(super) enum Seen {
    NeverStarted,
    Running(Keeper, OwnedFd),
    Ended(Exit),
    Lost(Lost),
}

fn called_off() -> Exit {
    Exit::not_started("it was called off before it was started", true)
}

fn claim_name(generation: u64) -> String {
    format!("{CLAIM}{generation}")
}

fn record_name(generation: u64) -> String {
    format!("run-{generation}.jsonl")
}

/// Who has claimed a generation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    By(Keeper),
    CalledOff,
    /// Not written by any keeper; whatever it means, somebody has claimed it.
    Garbled,
}

/// A keeper, as long as it and this boot last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keeper {
    pub(super) pid: u32,
    pub(super) starttime: u64,
    pub(super) boot_id: String,
}

impl Keeper {
    pub(super) fn this() -> io::Result<Self> {
        let pid = std::process::id();
        let stat = Stat::of(pid).ok_or_else(|| io::Error::other("/proc is not mounted"))?;
        Ok(Self {
            pid,
            starttime: stat.starttime,
            boot_id: process::boot_id(),
        })
    }

    /// Itself, if it lives.
    pub(super) fn hold(&self) -> Option<OwnedFd> {
        let is = |stat: &Stat| stat.starttime == self.starttime;
        (self.boot_id == process::boot_id())
            .then(|| process::hold(self.pid, is))
            .flatten()
    }
}

impl Claim {
    /// With the version of what is written in the folder. Shorter than 60 bytes: then common file systems
    /// have it in the link itself, and nothing else has to reach the disk.
    fn write(&self) -> String {
        match self {
            Self::By(Keeper {
                pid,
                starttime,
                boot_id,
            }) => format!("1 {pid} {starttime} {boot_id}"),
            Self::CalledOff | Self::Garbled => CALLED_OFF.to_owned(),
        }
    }

    fn read(text: &[u8]) -> Self {
        if text == CALLED_OFF.as_bytes() {
            return Self::CalledOff;
        }
        let words = std::str::from_utf8(text).unwrap_or_default();
        let words: Vec<_> = words.splitn(4, ' ').collect();
        if let ["1", pid, starttime, boot_id] = words[..]
            && let (Ok(pid), Ok(starttime)) = (pid.parse(), starttime.parse())
        {
            let boot_id = boot_id.to_owned();
            return Self::By(Keeper {
                pid,
                starttime,
                boot_id,
            });
        }
        Self::Garbled
    }
}

/// The task was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Executed {
    pub(super) pid: u32,
    pub(super) starttime: u64,
    pub(super) at_ms: i64,
    /// Where it was born.
    pub(super) cgroup: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Executed(Executed),
    Exit(Exit),
}

/// What a keeper writes down of its task.
pub(super) struct Record {
    file: File,
    at: u64,
}

impl Record {
    /// Not made durable: after a power failure nothing of the task is left to be found.
    pub(super) fn executed(&mut self, mut executed: Executed) -> io::Result<()> {
        // Its place is derived where it is not written down.
        executed.cgroup.take_if(|it| it.as_os_str().len() > 300);
        self.line(&Line::Executed(executed))
    }

    /// Durable when it returns. Its lists and texts are cut so that they fit into what is reserved.
    pub(super) fn exit(&mut self, exit: &Exit) -> io::Result<()> {
        let mut exit = exit.clone();
        exit.survivors.truncate(64);
        let shorten = |text: &mut String| {
            // JSON would write them with six bytes each; a path in a reason may hold anything.
            *text = text.replace(char::is_control, " ");
            if text.len() > 600 {
                let end = (0..=600).rev().find(|at| text.is_char_boundary(*at));
                text.truncate(end.unwrap_or_default());
                text.push('…');
            }
        };
        exit.note.as_mut().map(shorten);
        if let super::spec::End::NotStarted { reason } = &mut exit.end {
            shorten(reason);
        }
        self.line(&Line::Exit(exit))?;
        fail::at("keeper.exit_written");
        self.file.sync_data()?;
        fail::at("keeper.exit_durable");
        Ok(())
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all_at(&text, self.at)?;
        self.at += text.len() as u64;
        Ok(())
    }
}

/// Removes all of a unit's folder. Its lock is held meanwhile and goes last, so that whoever is on the
/// way to start something there finds it locked or gone.
pub(super) fn remove(folder: &Folder) -> io::Result<()> {
    for entry in std::fs::read_dir(&folder.path)? {
        let entry = entry?;
        if entry.file_name() == OsStr::new(KEEPER_LOCK) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_file(folder.path.join(KEEPER_LOCK))?;
    std::fs::remove_dir(&folder.path)
}

#[cfg(test)]
mod tests {
    use super::super::spec::End;
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        (place, folder)
    }

    fn exit(reason: &str) -> Exit {
        Exit::not_started(reason, false)
    }

    #[test]
    fn a_generation_is_claimed_once() {
        let (_place, folder) = folder();
        assert_eq!(folder.claim(3).unwrap(), None);
        let claim = Claim::By(Keeper::this().unwrap());
        assert!(folder.make_claim(3, &claim).unwrap());
        assert!(!folder.make_claim(3, &Claim::CalledOff).unwrap());
        assert_eq!(folder.claim(3).unwrap(), Some(claim));
        let longest = Claim::By(Keeper {
            pid: 4_194_304,
            starttime: 99_999_999_999,
            boot_id: process::boot_id(),
        });
        assert!(longest.write().len() < 60, "{}", longest.write());
        assert_eq!(Claim::read(longest.write().as_bytes()), longest);
        assert_eq!(Claim::read(b"2 of the future"), Claim::Garbled);
        assert_eq!(folder.latest().unwrap(), Some(3));
        assert!(matches!(folder.see(3).unwrap(), Seen::Running(..)));
    }

    #[test]
    fn a_keeper_of_another_boot_is_dead_whoever_has_its_pid() {
        let (_place, folder) = folder();
        let mut keeper = Keeper::this().unwrap();
        "another".clone_into(&mut keeper.boot_id);
        folder.make_claim(1, &Claim::By(keeper)).unwrap();
        let Seen::Lost(lost) = folder.see(1).unwrap() else {
            panic!("not lost");
        };
        assert!(lost.rebooted);
        assert_eq!(lost.why, "the machine was restarted");
    }

    #[test]
    fn another_process_with_the_pid_of_a_keeper_is_not_it() {
        let (_place, folder) = folder();
        let mut keeper = Keeper::this().unwrap();
        keeper.starttime += 1;
        folder.make_claim(1, &Claim::By(keeper)).unwrap();
        assert!(matches!(folder.see(1).unwrap(), Seen::Lost(lost) if !lost.rebooted));
    }

    #[test]
    fn what_was_called_off_has_ended_without_a_start() {
        let (_place, folder) = folder();
        folder.make_claim(1, &Claim::CalledOff).unwrap();
        let Seen::Ended(exit) = folder.see(1).unwrap() else {
            panic!("not ended");
        };
        assert!(exit.stopped);
        assert!(matches!(exit.end, End::NotStarted { .. }));
    }

    #[test]
    fn the_longest_exit_fits_into_what_is_reserved() {
        let (_place, folder) = folder();
        let mut record = folder.reserve(1).unwrap();
        record
            .executed(Executed {
                pid: u32::MAX,
                starttime: u64::MAX,
                at_ms: i64::MIN,
                cgroup: Some("x".repeat(300).into()),
            })
            .unwrap();
        let mut longest = exit(&"\u{1}\\\"".repeat(100_000));
        longest.survivors = vec![u32::MAX; 100_000];
        longest.note = Some("\"".repeat(100_000));
        record.exit(&longest).unwrap();
        assert!(record.at <= RESERVED, "{}", record.at);
        let (executed, exit) = folder.record(1).unwrap();
        assert!(executed.is_some());
        assert_eq!(exit.unwrap().survivors.len(), 64);
    }

    #[test]
    fn half_a_line_is_not_there_yet_and_blanks_are_nothing() {
        let (place, folder) = folder();
        let whole = serde_json::to_string(&Line::Exit(exit("x"))).unwrap();
        for cut in 0..whole.len() {
            let text = format!("{}   ", &whole[..cut]);
            std::fs::write(place.path().join(record_name(1)), text).unwrap();
            assert_eq!(folder.record(1).unwrap(), (None, None), "{cut}");
        }
        std::fs::write(place.path().join(record_name(1)), whole + "\n    ").unwrap();
        assert!(folder.record(1).unwrap().1.is_some());
    }

    #[test]
    fn a_lock_is_seen_and_given_once() {
        let (_place, folder) = folder();
        assert!(!folder.is_locked(KEEPER_LOCK).unwrap());
        let held = folder.lock(KEEPER_LOCK).unwrap();
        assert!(held.is_some());
        assert!(folder.lock(KEEPER_LOCK).unwrap().is_none());
        assert!(folder.is_locked(KEEPER_LOCK).unwrap());
        drop(held);
        assert!(!folder.is_locked(KEEPER_LOCK).unwrap());
    }

    #[test]
    fn names_are_one_word_in_a_folder() {
        assert!(is_name("job-1.2_a"));
        for wrong in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(201)] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn past_generations_are_forgotten() {
        let (_place, folder) = folder();
        for generation in 1..=3 {
            folder.reserve(generation).unwrap();
            folder.make_claim(generation, &Claim::CalledOff).unwrap();
        }
        folder.forget_before(3);
        assert_eq!(folder.generations().unwrap(), [3]);
        assert!(matches!(folder.see(1).unwrap(), Seen::Lost(_)));
        assert!(matches!(folder.see(4).unwrap(), Seen::NeverStarted));
    }
}
