//! Executing the task, and saying exactly why that did not work.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setsid, waitpid};

use super::kernel::{Forked, fork};
use super::limits::{Cgroup, limit_memory};
use super::mark::{Folder, Lock, TREE_LOCK};
use super::spec::{Errand, Spec};
use super::{UNIT, UNIT_FOLDER};

/// Descriptors below are those that scripts use by number.
const OUT_OF_THE_WAY: i32 = 100;
/// How much likelier than other processes a task is killed when the machine runs out of memory.
const OOM_TASK: i32 = 200;
const OOM_KEEPER: i32 = -900;

/// A process that waits: first to be told what to execute, then for the word to do it. It ends when the
/// keeper does, or loses interest, and so is no task yet.
pub(super) struct Waiting {
    pid: Pid,
    go: Option<PipeWriter>,
    answer: PipeReader,
}

impl Waiting {
    /// Makes it, with what it writes to and, where there is one, in a cgroup of its own.
    pub(super) fn new(
        output: PipeWriter,
        cgroup: Option<&Cgroup>,
        oom: &mut Oom,
    ) -> io::Result<Self> {
        let (answer, tell) = io::pipe()?;
        let (told, go) = io::pipe()?;
        oom.set(OOM_TASK);
        let forked = fork(cgroup.map(Cgroup::as_fd));
        if let Ok(Forked::Child { joined }) = forked {
            drop((answer, go));
            let cgroup = cgroup.map(|cgroup| (cgroup, joined));
            // It returns only when it has failed.
            give_up(&execute(told, output, cgroup), tell);
        }
        oom.restore();
        match forked? {
            Forked::Parent(pid) => Ok(Self {
                pid,
                go: Some(go),
                answer,
            }),
            Forked::Child { .. } => unreachable!("it has executed or given up"),
        }
    }

    /// Tells it what it will execute; it gets ready meanwhile.
    pub(super) fn tell(&mut self, errand: &Errand<'_>) -> io::Result<()> {
        match &mut self.go {
            Some(go) => go.write_all(&errand.framed()?),
            None => Ok(()),
        }
    }

    /// Gives the word to execute it.
    pub(super) fn word(&mut self) {
        if let Some(mut go) = self.go.take() {
            let _ = go.write_all(&[1]);
        }
    }

    /// Returns when the task was executed, or why it was not.
    pub(super) fn answer(mut self) -> Result<Pid, String> {
        let mut reason = String::new();
        // Without a word the pipe is closed when it was executed.
        let _ = self.answer.read_to_string(&mut reason);
        if reason.is_empty() {
            return Ok(self.pid);
        }
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
        Err(reason)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.go.take().is_some() {
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// Waits, gets ready, waits for the word, and executes. Returns why it could not.
fn execute(mut told: PipeReader, output: PipeWriter, cgroup: Option<(&Cgroup, bool)>) -> String {
    let errand = match Errand::read(&mut told) {
        Ok(errand) => errand,
        Err(error) => return format!("it was not told what to do: {error}"),
    };
    let spec = &*errand.spec;
    let [program, arguments @ ..] = spec.command.as_slice() else {
        return "it has no command".to_owned();
    };
    if spec.command.iter().any(|it| it.contains('\0')) {
        return "its command holds a NUL byte".to_owned();
    }
    if let Err(error) = std::env::set_current_dir(&spec.folder) {
        return folder_reason(&spec.folder, &error);
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&spec.env)
        .env(UNIT, &spec.unit)
        .env(UNIT_FOLDER, &*errand.folder)
        .stdin(Stdio::null());
    let mut word = [0];
    let error = get_ready(&errand, output, cgroup, &mut command)
        .and_then(|()| told.read_exact(&mut word))
        .err()
        .unwrap_or_else(|| command.exec());
    reason(spec, &error)
}

/// What the process does to itself.
fn get_ready(
    errand: &Errand<'_>,
    output: PipeWriter,
    cgroup: Option<(&Cgroup, bool)>,
    command: &mut Command,
) -> io::Result<()> {
    setsid()?;
    let limits = &errand.spec.limits;
    if let Some((cgroup, false)) = cgroup {
        // Without limits it is only one more way to find what a task leaves.
        let joined = cgroup.join();
        if limits.any() {
            joined?;
        }
    }
    if let Some(bytes) = limits.memory_bytes
        && !cgroup.is_some_and(|(cgroup, _)| cgroup.limits_memory())
    {
        limit_memory(bytes)?;
    }
    let lock = Folder::open(&errand.folder)?.lock(TREE_LOCK)?;
    // The keeper has looked: it was free.
    let tree = lock.and_then(Lock::for_heirs).ok_or(Errno::BUSY)?;
    let tree =
        fcntl_dupfd_cloexec(&tree, OUT_OF_THE_WAY).or_else(|_| fcntl_dupfd_cloexec(&tree, 3))?;
    fcntl_setfd(&tree, FdFlags::empty())?;
    // It stays open across the execution, in this process and nowhere else.
    std::mem::forget(tree);
    command.stdout(output.try_clone()?).stderr(output);
    Ok(())
}

/// Tells the keeper why nothing was executed, and ends without running any of its code.
fn give_up(reason: &str, mut tell: PipeWriter) -> ! {
    let _ = tell.write_all(reason.as_bytes());
    loop {
        let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    }
}

fn folder_reason(folder: &Path, error: &io::Error) -> String {
    let folder = folder.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => format!("its working folder {folder} does not exist"),
        Some(Errno::NOTDIR) => format!("its working folder {folder} is not a folder"),
        Some(Errno::ACCESS) => format!("its working folder {folder} may not be entered"),
        _ => format!("its working folder {folder} cannot be entered: {error}"),
    }
}

fn reason(spec: &Spec, error: &io::Error) -> String {
    let program = spec.command.first().map_or("", String::as_str);
    let found = find(program, spec);
    match (Errno::from_io_error(error), found) {
        (Some(Errno::NOENT), Some(path)) => match interpreter(&path) {
            Some(interpreter) => {
                format!("{program} needs the interpreter {interpreter}, which does not exist")
            }
            None => format!("{program} needs an interpreter or loader that does not exist"),
        },
        (Some(Errno::NOENT), None) if program.contains('/') => {
            format!("{program} does not exist")
        }
        (Some(Errno::NOENT), None) => format!("{program} is nowhere in PATH"),
        (Some(Errno::ACCESS), Some(path)) if path.is_dir() => {
            format!("{program} is a folder, not a program")
        }
        (Some(Errno::ACCESS), _) => format!("{program} may not be executed"),
        (Some(Errno::TOOBIG), _) => {
            "its command and its environment are longer than the system takes".to_owned()
        }
        (Some(Errno::NOEXEC), _) => {
            format!("{program} is neither a program nor a script that begins with #!")
        }
        (Some(Errno::AGAIN), _) => "there are too many processes already".to_owned(),
        _ => format!("{program} could not be executed: {error}"),
    }
}

/// Where the program is, seen from the working folder or in PATH.
fn find(program: &str, spec: &Spec) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(spec.folder.join(program)).filter(|path| path.exists());
    }
    let path = spec.env.get("PATH").map_or("/bin:/usr/bin", String::as_str);
    std::env::split_paths(path)
        .map(|folder| spec.folder.join(folder).join(program))
        .find(|path| path.exists())
}

/// What the first line of a script names.
fn interpreter(path: &Path) -> Option<String> {
    let mut start = [0; 256];
    let read = File::open(path).ok()?.read(&mut start).ok()?;
    let line = start.get(..read)?.strip_prefix(b"#!")?;
    let line = String::from_utf8_lossy(line);
    let line = line.lines().next()?;
    Some(line.split_whitespace().next()?.to_owned())
}

/// Whom the kernel kills first when the machine runs out of memory: rather a task than its keeper, which
/// is tiny, and whose death would make the end of the task unknown.
pub(super) struct Oom {
    file: Option<File>,
    inherited: i32,
}

impl Oom {
    /// Looks how it is; opened early, because a process that may not be looked into cannot open it later.
    pub(super) fn open() -> Self {
        let path = "/proc/self/oom_score_adj";
        let inherited = std::fs::read_to_string(path).unwrap_or_default();
        Self {
            file: File::options().write(true).open(path).ok(),
            inherited: inherited.trim().parse().unwrap_or_default(),
        }
    }

    /// For a process that is forked now.
    fn set(&mut self, more: i32) {
        self.write((self.inherited + more).min(1000));
    }

    /// For the keeper itself.
    fn restore(&mut self) {
        // Below what was inherited is for the privileged; then it stays as it was.
        self.write(self.inherited);
        self.write(self.inherited.min(OOM_KEEPER));
    }

    fn write(&mut self, score: i32) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(score.to_string().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::spec::Limits;
    use super::*;

    fn why(program: &str, error: Errno) -> String {
        let spec = Spec {
            unit: "a".to_owned(),
            generation: 1,
            command: vec![program.to_owned()],
            folder: "/".into(),
            env: BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())]),
            grace_ms: 0,
            log_cap: 0,
            limits: Limits::default(),
        };
        reason(&spec, &error.into())
    }

    #[test]
    fn each_failure_has_its_own_reason() {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("script");
        std::fs::write(&script, "#! /no/such/shell -x\n").unwrap();
        let script = script.to_str().unwrap();
        let folder = place.path().to_str().unwrap();
        let reasons = [
            (
                why("/no/such", Errno::NOENT),
                "/no/such does not exist".to_owned(),
            ),
            (
                why("such", Errno::NOENT),
                "such is nowhere in PATH".to_owned(),
            ),
            (
                why(script, Errno::NOENT),
                format!("{script} needs the interpreter /no/such/shell, which does not exist"),
            ),
            (
                why(script, Errno::ACCESS),
                format!("{script} may not be executed"),
            ),
            (
                why(folder, Errno::ACCESS),
                format!("{folder} is a folder, not a program"),
            ),
            (
                why("x", Errno::TOOBIG),
                "its command and its environment are longer than the system takes".to_owned(),
            ),
        ];
        for (said, expected) in reasons {
            assert_eq!(said, expected);
        }
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).unwrap();
        let gone = folder_reason(Path::new("/gone"), &Errno::NOENT.into());
        assert_eq!(gone, "its working folder /gone does not exist");
    }
}
