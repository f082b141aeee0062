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
use super::spec::Spec;
use super::{UNIT, UNIT_FOLDER};

/// Descriptors below are those that scripts use by number.
const OUT_OF_THE_WAY: i32 = 100;
/// How much likelier than other processes a task is killed when the machine runs out of memory.
const OOM_TASK: i32 = 200;
const OOM_KEEPER: i32 = -900;

/// What the task is given beside its [`Spec`].
pub(super) struct Gifts<'a> {
    /// The unit's folder.
    pub(super) unit: &'a Path,
    /// Where it writes.
    pub(super) output: PipeWriter,
    /// Locked; it inherits it, on purpose.
    pub(super) tree: File,
    /// Where it is born.
    pub(super) cgroup: Option<&'a Cgroup>,
    pub(super) oom: &'a mut Oom,
}

/// A process that gets everything ready and waits for the word to execute the task.
pub(super) struct Prepared {
    pid: Pid,
    go: PipeWriter,
    answer: PipeReader,
}

/// Makes that process: in a session, a group and, where there is one, a cgroup of its own. It gets ready
/// while the claim is written; without the word it ends.
pub(super) fn prepare(spec: &Spec, gifts: Gifts<'_>) -> Result<Prepared, String> {
    let [program, arguments @ ..] = spec.command.as_slice() else {
        return Err("it has no command".to_owned());
    };
    if spec.command.iter().any(|it| it.contains('\0')) {
        return Err("its command holds a NUL byte".to_owned());
    }
    // Entered here already, so that a missing folder is not taken for a missing program.
    std::env::set_current_dir(&spec.folder).map_err(|error| folder_reason(&spec.folder, &error))?;
    let prepared = prepare_here(spec, program, arguments, gifts);
    // Nobody is to find the file system busy because of a keeper.
    let _ = std::env::set_current_dir("/");
    prepared.map_err(|error| reason(spec, &error))
}

fn prepare_here(
    spec: &Spec,
    program: &str,
    arguments: &[String],
    gifts: Gifts<'_>,
) -> io::Result<Prepared> {
    let (answer, tell) = io::pipe()?;
    let (told, go) = io::pipe()?;
    gifts.oom.set(OOM_TASK);
    let forked = fork(gifts.cgroup.map(Cgroup::as_fd));
    if let Ok(Forked::Child { joined }) = forked {
        drop((answer, go));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&spec.env)
            .env(UNIT, &spec.unit)
            .env(UNIT_FOLDER, gifts.unit);
        let ready = get_ready(spec, gifts, joined, &mut command).and_then(|()| wait_for(told));
        // It returns only when it has failed.
        let error = ready.err().unwrap_or_else(|| command.exec());
        give_up(&error, tell);
    }
    gifts.oom.restore();
    match forked? {
        Forked::Parent(pid) => Ok(Prepared { pid, go, answer }),
        Forked::Child { .. } => unreachable!("it has executed or given up"),
    }
}

/// What the new process does to itself.
fn get_ready(spec: &Spec, gifts: Gifts<'_>, joined: bool, command: &mut Command) -> io::Result<()> {
    setsid()?;
    if let Some(cgroup) = gifts.cgroup
        && !joined
    {
        // Without limits it is only one more way to find what a task leaves.
        let joined = cgroup.join();
        if spec.limits.any() {
            joined?;
        }
    }
    if let Some(bytes) = spec.limits.memory_bytes
        && !gifts.cgroup.is_some_and(Cgroup::limits_memory)
    {
        limit_memory(bytes)?;
    }
    let tree = fcntl_dupfd_cloexec(&gifts.tree, OUT_OF_THE_WAY)
        .or_else(|_| fcntl_dupfd_cloexec(&gifts.tree, 3))?;
    fcntl_setfd(&tree, FdFlags::empty())?;
    // It stays open across the execution, in this process and nowhere else.
    std::mem::forget(tree);
    command
        .stdin(Stdio::null())
        .stdout(gifts.output.try_clone()?)
        .stderr(gifts.output);
    Ok(())
}

/// Waits for the word. Without a keeper, which alone would read what the task writes, there is none.
fn wait_for(mut told: PipeReader) -> io::Result<()> {
    let mut word = [0];
    told.read_exact(&mut word)
}

impl Prepared {
    /// Gives the word. Returns when the task was executed, or why it was not.
    pub(super) fn execute(mut self, spec: &Spec) -> Result<Pid, String> {
        // Who is dead by now has not answered either.
        let _ = self.go.write_all(&[1]);
        match error_of(self.answer) {
            None => Ok(self.pid),
            Some(error) => {
                let _ = waitpid(Some(self.pid), WaitOptions::empty());
                Err(reason(spec, &error))
            }
        }
    }

    /// Does not give it; the process has ended when it returns.
    pub(super) fn call_off(self) {
        drop(self.go);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// Tells the keeper why nothing was executed, and ends without running any of its code.
fn give_up(error: &io::Error, mut tell: PipeWriter) -> ! {
    let number = error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
    let _ = tell.write_all(&number.to_ne_bytes());
    loop {
        let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    }
}

/// None when it was executed: then the pipe was closed without a word.
fn error_of(mut answer: PipeReader) -> Option<io::Error> {
    let mut number = [0; 4];
    answer.read_exact(&mut number).ok()?;
    Some(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
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
