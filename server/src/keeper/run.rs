//! The life of a keeper.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getrlimit,
    kill_process_group, set_child_subreaper, set_dumpable_behavior, setrlimit, setsid, wait,
};

use super::limits::{self, Cgroup};
use super::log::Log;
use super::mark::{self, Claim, Executed, Folder, Keeper, Lock, Record};
use super::process::{Stat, boot_ms, now_ms};
use super::signals::Signals;
use super::spec::{End, Errand, Exit, Spec, signal_name};
use super::task::{Oom, Waiting};
use super::watch::Report;
use super::{fail, kernel, tree};

/// How long an earlier generation may take to be gone.
const LOCK_PATIENCE_MS: u64 = 5000;
/// How long what a task has left may take to end by itself: `exec > >(tee file)` leaves a tee that has
/// yet to write the last lines.
const LINGER_MS: u64 = 250;
/// How long what a task has left may take to end when it is asked to.
const LEFT_GRACE_MS: u64 = 2000;
/// How long it is tried to kill what a task has left, before it is called a survivor.
const KILL_PATIENCE_MS: u64 = 5000;
const KILL_EVERY_MS: u64 = 20;
/// How often after that: it waits for a device that does not answer.
const KILL_SELDOM_MS: u64 = 1000;
const BUFFER: usize = 64 * 1024;
/// How often the pipe is read before signals are looked at again.
const READS: usize = 16;
/// What is read at most when everybody who wrote is dead: more than a pipe holds.
const DRAIN: usize = 4 * 1024 * 1024;

/// Runs what standard input says, in the unit's folder; where none is named, standard input says that too.
pub(super) fn keep(folder: Option<PathBuf>) -> ExitCode {
    fail::at("keeper.begun");
    kernel::close_inherited();
    let started = Ready::new().and_then(|ready| {
        let (folder, spec) = match folder {
            Some(folder) => {
                let spec = told().map_err(failed("read what to do"))?;
                (folder, spec)
            }
            None => match errand(&ready.signals).map_err(failed("read what to do"))? {
                Some(errand) => (errand.folder.into_owned(), errand.spec.into_owned()),
                None => return Ok(None),
            },
        };
        fail::at("keeper.told");
        start(ready, &folder, spec)
    });
    match started {
        Ok(Some(keeping)) => keeping.keep(),
        Ok(None) => ExitCode::SUCCESS,
        Err(reason) => {
            tell(&Report::NotStarted { reason });
            ExitCode::FAILURE
        }
    }
}

/// Answers the server, if it still listens.
fn tell(report: &Report) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    // Shorter than what a pipe takes at once.
    let _ = rustix::io::write(rustix::stdio::stdout(), &line);
}

fn failed<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> String {
    move |error| format!("cannot {doing}: {error}")
}

/// A task and all that belongs to it.
struct Keeping {
    spec: Spec,
    folder: Folder,
    signals: Signals,
    log: Log,
    output: Option<PipeReader>,
    record: Record,
    cgroup: Option<Cgroup>,
    task: Pid,
    started_at_ms: i64,
    started: u64,
    phase: Phase,
    /// How the task has ended, and when.
    ended: Option<(End, i64, u64)>,
    asked_to_stop: bool,
    stopped: bool,
    noted: bool,
    buffer: Vec<u8>,
    /// Held until the end of the process.
    _lock: Lock,
}

/// What is under way. Times are those of [`boot_ms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The task runs.
    Running,
    /// It was asked to end.
    Asked { until: u64 },
    /// It has ended; what it left may do so too.
    Lingering { until: u64 },
    /// What it left was asked to end.
    Leaving { until: u64 },
    /// Everything is killed, again and again.
    Killing { since: u64, next: u64 },
}

/// What does not depend on the task.
struct Ready {
    signals: Signals,
    this: Keeper,
    output: PipeReader,
    /// Before its cgroup goes, it has to.
    waiting: Waiting,
    cgroup: Option<Cgroup>,
}

impl Ready {
    fn new() -> Result<Self, String> {
        // Before any lock is taken: whoever finds it locked may send signals.
        let signals = Signals::catch().map_err(failed("catch signals"))?;
        let _ = setsid();
        let _ = std::env::set_current_dir("/");
        let _ = rustix::thread::set_name(c"skytower-keeper");
        // What a task leaves behind becomes this process's child: nothing can get away from it.
        set_child_subreaper(Some(getpid())).map_err(failed("become a subreaper"))?;
        // What gained privileges could not be killed any more.
        rustix::thread::set_no_new_privs(true).map_err(failed("give up gaining privileges"))?;
        let mut oom = Oom::open();
        // Its memory holds the task's secrets.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        let core = Rlimit {
            current: Some(0),
            maximum: getrlimit(Resource::Core).maximum,
        };
        let _ = setrlimit(Resource::Core, core);
        let this = Keeper::this().map_err(failed("look at oneself"))?;
        // One that cannot be made is not missed.
        let cgroup =
            limits::base().and_then(|base| Cgroup::make(&limits::place_for(&this, &base)).ok());
        let (output, input) = io::pipe().map_err(failed("make a pipe"))?;
        rustix::io::ioctl_fionbio(&output, true).map_err(failed("make a pipe"))?;
        let waiting = Waiting::new(input, cgroup.as_ref(), &mut oom)
            .map_err(failed("make a process for the task"))?;
        fail::at("keeper.forked");
        Ok(Self {
            signals,
            this,
            output,
            waiting,
            cgroup,
        })
    }
}

/// Everything up to the execution. None when there was nothing to do; the reason when nothing was
/// executed and nothing claimed.
fn start(ready: Ready, path: &Path, spec: Spec) -> Result<Option<Keeping>, String> {
    let Ready {
        signals,
        this,
        output,
        cgroup,
        // Dropped before its cgroup, because it is declared after it.
        mut waiting,
    } = ready;
    let folder = Folder::open(path).map_err(failed("open the unit's folder"))?;
    let Some(lock) = lock(&folder, spec.generation)? else {
        tell(&Report::Taken);
        return Ok(None);
    };
    fail::at("keeper.locked");
    if folder
        .claim(spec.generation)
        .map_err(failed("look"))?
        .is_some()
    {
        tell(&Report::Taken);
        return Ok(None);
    }
    let latest = folder.latest().map_err(failed("look"))?;
    if let Some(later) = latest.filter(|latest| *latest > spec.generation) {
        return Err(format!("generation {later} has replaced it"));
    }

    let record = folder
        .reserve(spec.generation)
        .map_err(failed("reserve space"))?;
    fail::at("keeper.reserved");
    if folder.is_locked(mark::TREE_LOCK).map_err(failed("look"))? {
        return Err("something of an earlier generation still runs".to_owned());
    }
    if let Some(cgroup) = &cgroup {
        cgroup.limit(&spec.limits);
    }
    let errand = Errand {
        folder: Cow::Borrowed(path),
        spec: Cow::Borrowed(&spec),
    };
    // It gets ready while the claim is written. If it cannot be told, it says why when it gets the word.
    let _ = waiting.tell(&errand);
    if !folder
        .make_claim(spec.generation, &Claim::By(this))
        .map_err(failed("claim the generation"))?
    {
        tell(&Report::Taken);
        return Ok(None);
    }
    // From here on whatever happens is recorded.
    let started_at_ms = now_ms();
    let started = boot_ms();
    let called_off = signals.stop() | signals.kill();
    if !called_off {
        waiting.word();
    }
    // While it is executed. A claim that a loss of power takes is no second start: whoever asks for a unit
    // has written down in which life of the machine, and asks in no other (see [`super::boot_id`]).
    let durable = folder.make_durable();
    let log = log(&folder, spec.log_cap);
    fail::at("keeper.log_opened");
    let executed = if called_off {
        drop(waiting);
        Err(("it was stopped before it was started".to_owned(), true))
    } else {
        waiting.answer().map_err(|reason| (reason, false))
    };
    let mut record = record;
    let task = match executed {
        Ok(task) => task,
        Err((reason, stopped)) => {
            let exit = Exit::not_started(reason.clone(), stopped);
            record.exit(&exit).map_err(failed("write the record"))?;
            tell(&Report::NotStarted { reason });
            return Ok(None);
        }
    };
    fail::at("keeper.executed");
    // The task runs: that it may be forgotten is no reason to end it.
    let _ = durable;
    let pid = task.as_raw_pid().unsigned_abs();
    // It cannot fail for lack of space, and for what else it may, the task goes on.
    let _ = record.executed(Executed {
        pid,
        starttime: Stat::of(pid).map_or(0, |stat| stat.starttime),
        at_ms: started_at_ms,
        cgroup: cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
    });
    fail::at("keeper.recorded");
    tell(&Report::Started);
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
    fail::at("keeper.reported");
    folder.forget_before(spec.generation.saturating_sub(1));
    Ok(Some(Keeping {
        spec,
        folder,
        signals,
        log,
        output: Some(output),
        record,
        cgroup,
        task,
        started_at_ms,
        started,
        phase: Phase::Running,
        ended: None,
        asked_to_stop: false,
        stopped: false,
        noted: false,
        buffer: vec![0; BUFFER],
        _lock: lock,
    }))
}

/// The unit's log. Without one, such as where no file can be made any more, the task runs all the same, and
/// what it writes is counted as lost.
fn log(folder: &Folder, cap: u64) -> Log {
    let append = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    let log = folder.file(mark::LOG, append).and_then(|file| {
        // Should this program fail, it is said there.
        let _ = rustix::stdio::dup2_stderr(&file);
        Log::open(file, cap)
    });
    folder.note("");
    log.unwrap_or_else(|error| Log::nowhere(&error))
}

/// What standard input says; afterwards nobody can read it there any more.
fn told() -> io::Result<Spec> {
    let mut text = Vec::new();
    File::from(rustix::stdio::stdin().try_clone_to_owned()?).read_to_end(&mut text)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Waits until it is told; none when whoever would tell is gone, or when it is to end.
fn errand(signals: &Signals) -> io::Result<Option<Errand<'static>>> {
    loop {
        let (stdin, wake) = (rustix::stdio::stdin(), signals.wake());
        let mut sources = [&stdin, &wake].map(|fd| PollFd::new(fd, PollFlags::IN));
        let _ = poll(&mut sources, None);
        if signals.stop() | signals.kill() {
            return Ok(None);
        }
        if sources[0].revents().is_empty() {
            continue;
        }
        if sources[0].revents().contains(PollFlags::IN) {
            let mut from = File::from(stdin.try_clone_to_owned()?);
            let errand = Errand::read(&mut from)?;
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            return Ok(Some(errand));
        }
        // Everybody who could tell has closed it.
        return Ok(None);
    }
}

/// Waits for an earlier generation to be gone; none when the generation itself is claimed by then.
fn lock(folder: &Folder, generation: u64) -> Result<Option<Lock>, String> {
    let until = boot_ms() + LOCK_PATIENCE_MS;
    loop {
        let lock = folder
            .lock(mark::KEEPER_LOCK)
            .map_err(failed("lock the unit"))?;
        if lock.is_some() {
            return Ok(lock);
        }
        if folder.claim(generation).map_err(failed("look"))?.is_some() {
            return Ok(None);
        }
        if boot_ms() > until {
            return Err("an earlier generation still runs".to_owned());
        }
        sleep(Duration::from_millis(5));
    }
}

impl Keeping {
    fn keep(mut self) -> ExitCode {
        loop {
            self.sleep();
            self.signals.heard();
            self.read(READS * BUFFER);
            let childless = self.reap();
            if self.signals.kill() {
                self.asked_to_stop |= self.ended.is_none();
                if !matches!(self.phase, Phase::Killing { .. }) {
                    self.begin_killing();
                }
            }
            if self.signals.stop() {
                self.stop();
            }
            if self.advance(childless) {
                break;
            }
        }
        fail::at("keeper.tree_ended");
        self.finish()
    }

    /// Until there is something to do.
    fn sleep(&self) {
        let now = boot_ms();
        let until = match self.phase {
            Phase::Running => None,
            Phase::Asked { until } | Phase::Lingering { until } | Phase::Leaving { until } => {
                Some(until)
            }
            Phase::Killing { next, .. } => Some(next),
        };
        let timeout = until.map(|until| {
            let ms = until.saturating_sub(now);
            Timespec {
                tv_sec: (ms / 1000) as i64,
                tv_nsec: (ms % 1000 * 1_000_000) as i64,
            }
        });
        let wake = self.signals.wake();
        let mut sources = vec![PollFd::new(&wake, PollFlags::IN)];
        if let Some(output) = &self.output {
            sources.push(PollFd::new(output, PollFlags::IN));
        }
        // Interrupted is woken up.
        let _ = poll(&mut sources, timeout.as_ref());
    }

    /// What the task has written, so far or at most that much.
    fn read(&mut self, most: usize) {
        let Some(output) = &self.output else { return };
        let mut total = 0;
        while total < most {
            match rustix::io::read(output.as_fd(), &mut self.buffer[..]) {
                Ok(0) => {
                    // All have closed it, which is no end: they may go on without a word.
                    self.output = None;
                    return;
                }
                Ok(read) => {
                    fail::at("keeper.log_read");
                    self.log.append(&self.buffer[..read]);
                    fail::at("keeper.log_written");
                    total += read;
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes note of all who have ended. Is nobody left?
    fn reap(&mut self) -> bool {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
        loop {
            match wait(options) {
                Ok(Some((pid, status))) if pid == self.task => self.heard_of_task(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    fn heard_of_task(&mut self, status: WaitStatus) {
        let end = if let Some(code) = status.exit_status() {
            End::Code(code)
        } else if let Some(signal) = status.terminating_signal() {
            End::Signal(signal)
        } else {
            self.task_stands_still(status.stopping_signal());
            return;
        };
        self.ended = Some((end, now_ms(), boot_ms()));
        self.stopped = self.asked_to_stop;
        fail::at("keeper.task_ended");
    }

    /// A task that stands still looks like one that works.
    fn task_stands_still(&mut self, signal: Option<i32>) {
        if self.phase != Phase::Running {
            return;
        }
        if let Some(signal) = signal {
            let name = signal_name(signal);
            self.folder
                .note(&format!("stands still since it was stopped ({name})"));
            self.log.say(&format!(
                "the task was stopped ({name}): it stands still until it gets SIGCONT"
            ));
            self.noted = true;
        } else if self.noted {
            self.folder.note("");
            self.log.say("the task goes on (SIGCONT)");
            self.noted = false;
        }
    }

    /// Asks the task to end.
    fn stop(&mut self) {
        match self.phase {
            Phase::Running => {
                self.asked_to_stop = self.ended.is_none();
                let _ = kill_process_group(self.task, Signal::TERM);
                // Who stands still would not hear it.
                let _ = kill_process_group(self.task, Signal::CONT);
                self.phase = Phase::Asked {
                    until: boot_ms() + self.spec.grace_ms,
                };
            }
            Phase::Lingering { .. } => self.ask_what_is_left(LEFT_GRACE_MS, None),
            // It has been asked.
            Phase::Asked { .. } | Phase::Leaving { .. } | Phase::Killing { .. } => {}
        }
    }

    /// From what has happened to what is to be done; true when nothing is.
    fn advance(&mut self, childless: bool) -> bool {
        let ended = self.ended.is_some();
        if ended && childless && self.cgroup_is_empty() {
            return true;
        }
        let now = boot_ms();
        match self.phase {
            Phase::Running if ended => {
                self.phase = Phase::Lingering {
                    until: now + LINGER_MS,
                };
            }
            // What is left of it was asked together with it, and has the same time to end.
            Phase::Asked { until } if ended && now < until => {
                let group = Some(self.task.as_raw_pid().unsigned_abs());
                self.ask_what_is_left(until - now, group);
            }
            Phase::Lingering { until } if now >= until => {
                self.ask_what_is_left(LEFT_GRACE_MS.min(self.spec.grace_ms), None);
            }
            Phase::Asked { until } | Phase::Leaving { until } if now >= until => {
                self.begin_killing();
            }
            Phase::Killing { since, next } if now >= next => {
                // For the task itself it takes as long as it takes: until it is gone it has not ended.
                if ended && now >= since + KILL_PATIENCE_MS {
                    return true;
                }
                self.kill();
                let every = if now < since + KILL_PATIENCE_MS {
                    KILL_EVERY_MS
                } else {
                    KILL_SELDOM_MS
                };
                self.phase = Phase::Killing {
                    since,
                    next: now + every,
                };
            }
            _ => {}
        }
        false
    }

    /// Processes that were moved into it from elsewhere are no children.
    fn cgroup_is_empty(&self) -> bool {
        self.cgroup
            .as_ref()
            .is_none_or(|it| it.members().is_empty())
    }

    fn ask_what_is_left(&mut self, grace_ms: u64, but_group: Option<u32>) {
        for (seen, stat) in tree::below(std::process::id()) {
            if Some(stat.group) != but_group {
                seen.send(Signal::TERM);
                seen.send(Signal::CONT);
            }
        }
        self.phase = Phase::Leaving {
            until: boot_ms() + grace_ms,
        };
    }

    fn begin_killing(&mut self) {
        self.kill();
        let now = boot_ms();
        self.phase = Phase::Killing {
            since: now,
            next: now + KILL_EVERY_MS,
        };
    }

    fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        if self.ended.is_none() {
            let _ = kill_process_group(self.task, Signal::KILL);
        }
        tree::kill(|| self.left());
    }

    /// What of the task lives.
    fn left(&self) -> Vec<tree::Seen> {
        let members = self.cgroup.iter().flat_map(Cgroup::members);
        let members = members.filter_map(tree::Seen::of);
        let below = tree::below(std::process::id());
        let mut left: Vec<_> = members
            .filter(|it| !it.1.is_dead())
            .chain(below)
            .map(|it| it.0)
            .collect();
        left.sort_unstable();
        left.dedup();
        left
    }

    fn finish(mut self) -> ExitCode {
        // Everybody who could write is dead, or will not die: what is in the pipe is all.
        self.read(DRAIN);
        fail::at("keeper.drained");
        let survivors: Vec<_> = self.left().into_iter().map(|it| it.pid).collect();
        let (end, ended_at_ms, ended) = self.ended.take().unwrap_or_else(|| {
            // Not reached: see `advance`.
            (End::Signal(Signal::KILL.as_raw()), now_ms(), boot_ms())
        });
        let mut notes = Vec::new();
        if self.cgroup.as_ref().is_some_and(Cgroup::ran_out_of_memory) {
            notes.push("it used up its memory".to_owned());
        }
        if !survivors.is_empty() {
            let count = survivors.len();
            notes.push(format!("{count} of its processes could not be killed"));
        }
        if self.noted {
            self.folder.note("");
        }
        let (log_dropped, why) = self.log.finish();
        notes.extend(why);
        let exit = Exit {
            end,
            started_at_ms: self.started_at_ms,
            ended_at_ms,
            ran_ms: ended.saturating_sub(self.started),
            stopped: self.stopped,
            log_dropped,
            survivors,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        };
        match self.record.exit(&exit) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Into the log, which may be on the same disk: more cannot be done.
                let _ = writeln!(
                    io::stderr(),
                    "[skytower] how the task ended could not be written down: {error}: {exit:?}"
                );
                ExitCode::FAILURE
            }
        }
    }
}
