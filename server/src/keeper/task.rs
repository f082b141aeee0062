//! Executing the task, and saying exactly why that did not work.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, getppid, kill_process, setsid};

use super::kernel::{Forked, fork};
use super::limits::{Cgroup, limit_memory};
use super::spec::Spec;
use super::{UNIT, UNIT_FOLDER, fail};

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

/// Executes the task: in a session, a group and, where there is one, a cgroup of its own.
pub(super) fn execute(spec: &Spec, gifts: Gifts<'_>) -> Result<Pid, String> {
    let [program, arguments @ ..] = spec.command.as_slice() else {
        return Err("it has no command".to_owned());
    };
    if spec.command.iter().any(|it| it.contains('\0')) {
        return Err("its command holds a NUL byte".to_owned());
    }
    // Entered here already, so that a missing folder is not taken for a missing program.
    std::env::set_current_dir(&spec.folder).map_err(|error| folder_reason(&spec.folder, &error))?;
    let pid = execute_here(spec, program, arguments, gifts);
    // Nobody is to find the file system busy because of a keeper.
    let _ = std::env::set_current_dir("/");
    pid
}

fn execute_here(
    spec: &Spec,
    program: &str,
    arguments: &[String],
    gifts: Gifts<'_>,
) -> Result<Pid, String> {
    let failed = |error: io::Error| reason(program, &spec.env, &error);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&spec.env)
        .env(UNIT, &spec.unit)
        .env(UNIT_FOLDER, gifts.unit)
        .stdin(Stdio::null())
        .stdout(gifts.output.try_clone().map_err(failed)?)
        .stderr(gifts.output);
    let (answer, tell) = io::pipe().map_err(failed)?;
    let memory = spec.limits.memory_bytes;
    let memory = memory.filter(|_| !gifts.cgroup.is_some_and(Cgroup::limits_memory));
    let keeper = rustix::process::getpid();

    gifts.oom.set(OOM_TASK);
    let forked = fork(gifts.cgroup.map(Cgroup::as_fd));
    if let Ok(Forked::Child { joined }) = forked {
        let prepare = || -> io::Result<()> {
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
            if let Some(bytes) = memory {
                limit_memory(bytes)?;
            }
            let tree = fcntl_dupfd_cloexec(&gifts.tree, OUT_OF_THE_WAY)
                .or_else(|_| fcntl_dupfd_cloexec(&gifts.tree, 3))?;
            fcntl_setfd(&tree, FdFlags::empty())?;
            // It stays open across the execution, in this process and nowhere else.
            std::mem::forget(tree);
            // Without its keeper nobody would read what it writes.
            if getppid() != Some(keeper) {
                return Err(Errno::SRCH.into());
            }
            Ok(())
        };
        give_up(&command_failed(prepare(), &mut command), tell);
    }
    gifts.oom.restore();
    let Forked::Parent(pid) = forked.map_err(failed)? else {
        unreachable!("the child has executed or given up");
    };
    fail::at("keeper.forked");
    drop(tell);
    match error_of(answer) {
        None => Ok(pid),
        Some(error) => Err(failed(error)),
    }
}

/// Executes, if it could be prepared; returns only when something failed.
fn command_failed(prepared: io::Result<()>, command: &mut Command) -> io::Error {
    prepared.err().unwrap_or_else(|| command.exec())
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

fn reason(
    program: &str,
    env: &std::collections::BTreeMap<String, String>,
    error: &io::Error,
) -> String {
    let found = find(program, env.get("PATH").map(OsStr::new));
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

/// Where the program is, in the current folder or in PATH.
fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    let path = path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
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

    use super::*;

    fn why(program: &str, error: Errno) -> String {
        let env = BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())]);
        reason(program, &env, &error.into())
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
