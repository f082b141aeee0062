//! Keepers own what the server may lose at any instant: nothing is executed twice, no exit code and no
//! byte of a log is lost, and nothing of a task is left when it has ended.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use skytower_server::keeper::{
    End, Ended, Exit, FAIL_AT, FAIL_POINTS, Found, Handle, Keepers, Limits, Lost, Program, Spec,
    StartError, log_start,
};

const PATIENCE: Duration = Duration::from_secs(60);
const SERVER: &str = "SKYTOWER_TEST_SERVER";
const SERVED: &str = "SKYTOWER_TEST_SPEC";
const WARM: &str = "SKYTOWER_TEST_WARM";

fn program() -> Program {
    Program {
        path: env!("CARGO_BIN_EXE_skytower-server").into(),
        arguments: vec!["__keeper".into()],
    }
}

/// A server's state folder, and one for the tasks. When it goes, nothing of its units may live.
struct Place {
    folder: tempfile::TempDir,
    units: PathBuf,
    keepers: Keepers,
}

impl Place {
    fn new() -> Self {
        Self::with(program())
    }

    fn with(program: Program) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let units = folder.path().join("units");
        Self::of(folder, program, units)
    }

    /// With its units on a disk of their own.
    fn on(disk: &Disk) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::of(folder, program(), disk.0.path().join("units"))
    }

    fn of(folder: tempfile::TempDir, program: Program, units: PathBuf) -> Self {
        fs::create_dir(folder.path().join("work")).unwrap();
        let keepers = Keepers::new(program, units.clone()).unwrap();
        Self {
            folder,
            units,
            keepers,
        }
    }

    fn units(&self) -> &Path {
        &self.units
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn spec(&self, unit: &str, script: &str) -> Spec {
        Spec {
            unit: unit.to_owned(),
            generation: 1,
            command: ["/bin/bash", "-c", script].map(str::to_owned).to_vec(),
            folder: self.work(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            grace_ms: 10_000,
            log_cap: 1 << 30,
            limits: Limits::default(),
        }
    }

    fn start(&self, unit: &str, script: &str) -> Handle {
        self.keepers.start(&self.spec(unit, script)).unwrap()
    }

    async fn run(&self, unit: &str, script: &str) -> Exit {
        exit(&self.start(unit, script)).await
    }

    fn log(&self, unit: &str) -> String {
        fs::read_to_string(self.keepers.log_path(unit)).unwrap()
    }

    /// What the task has written there, beside its log.
    fn written(&self, file: &str) -> String {
        fs::read_to_string(self.work().join(file)).unwrap_or_default()
    }

    async fn until_written(&self, file: &str) {
        until(&format!("{file} is written"), || {
            self.written(file).ends_with('\n')
        })
        .await;
    }

    /// All that live and belong to units of this place: keepers by their arguments or what they have open,
    /// tasks by their mark.
    fn alive(&self) -> Vec<u32> {
        let units = self.units().canonicalize().unwrap();
        let units = units.to_str().unwrap().as_bytes();
        let names = fs::read_dir("/proc").unwrap().flatten();
        let pids = names.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
        let names_it = |text: &[u8]| text.windows(units.len()).any(|it| it == units);
        pids.filter(|pid| *pid != std::process::id())
            .filter(|pid| {
                let marked = ["environ", "cmdline"].iter().any(|file| {
                    names_it(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default())
                });
                let open = fs::read_dir(format!("/proc/{pid}/fd"));
                let mut open = open.into_iter().flatten().flatten();
                let holds = |it: fs::DirEntry| {
                    fs::read_link(it.path()).is_ok_and(|it| names_it(it.as_os_str().as_bytes()))
                };
                marked || open.any(holds)
            })
            .collect()
    }

    /// The cgroups of its tasks that are still there.
    fn cgroups(&self) -> Vec<PathBuf> {
        let units = fs::read_dir(self.units()).unwrap().flatten();
        let files = units.flat_map(|unit| fs::read_dir(unit.path()).unwrap().flatten());
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let mut cgroups = Vec::new();
        for text in texts {
            for line in text.lines() {
                let line = serde_json::from_str(line).unwrap_or(serde_json::Value::Null);
                cgroups.extend(line["executed"]["cgroup"].as_str().map(PathBuf::from));
            }
        }
        cgroups.retain(|cgroup| cgroup.exists());
        cgroups
    }

    async fn until_nothing_lives(&self) {
        until("nothing lives", || self.alive().is_empty()).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for pid in self.alive() {
                kill(pid);
            }
            return;
        }
        let since = Instant::now();
        while !self.alive().is_empty() {
            let alive = self.alive();
            assert!(since.elapsed() < PATIENCE, "{alive:?} still live");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(self.cgroups().is_empty(), "{:?}", self.cgroups());
    }
}

fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn ended(handle: &Handle) -> Ended {
    tokio::time::timeout(PATIENCE, handle.ended())
        .await
        .unwrap()
}

async fn exit(handle: &Handle) -> Exit {
    match ended(handle).await {
        Ended::Exit(exit) => exit,
        Ended::Lost(lost) => panic!("{lost:?}"),
    }
}

async fn lost(handle: &Handle) -> Lost {
    match ended(handle).await {
        Ended::Lost(lost) => lost,
        Ended::Exit(exit) => panic!("{exit:?}"),
    }
}

async fn started(handle: &Handle) {
    tokio::time::timeout(PATIENCE, handle.started())
        .await
        .unwrap()
        .unwrap();
}

fn reason(exit: &Exit) -> &str {
    match &exit.end {
        End::NotStarted { reason } => reason,
        end => panic!("{end:?}"),
    }
}

fn found(keepers: &Keepers, unit: &str) -> Handle {
    match keepers.look(unit, 1) {
        Found::Running(handle) => handle,
        found => panic!("{found:?}"),
    }
}

/// Another process that starts what it is told, to be killed.
fn server(place: &Place, spec: &Spec, warm: bool, fail_at: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "a_server_to_be_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(SERVER, place.units())
        .env(SERVED, serde_json::to_string(spec).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if warm {
        command.env(WARM, "yes");
    }
    if let Some(step) = fail_at {
        command.env(FAIL_AT, step);
    }
    command.spawn().unwrap()
}

/// Until it says a word; whether it did.
fn says(server: &mut Child, word: &str) -> bool {
    let mut lines = BufReader::new(server.stdout.as_mut().unwrap()).lines();
    lines.any(|line| line.unwrap().ends_with(word))
}

/// Not a test: what [`server`] runs.
#[tokio::test]
#[ignore = "run by other tests, as a process of its own"]
async fn a_server_to_be_killed() {
    let (Ok(units), Ok(spec)) = (std::env::var(SERVER), std::env::var(SERVED)) else {
        return;
    };
    let keepers = Keepers::new(program(), units.into()).unwrap();
    let spec: Spec = serde_json::from_str(&spec).unwrap();
    if std::env::var_os(WARM).is_some() {
        keepers.warm();
    }
    let handle = keepers.start(&spec).unwrap();
    println!(" called");
    let _ = handle.started().await;
    println!(" started");
    handle.ended().await;
    println!(" ended");
}

#[tokio::test]
async fn codes_and_signals_are_exact() {
    let place = Place::new();
    for code in [0, 1, 7, 127, 255] {
        let exit = place
            .run(&format!("code-{code}"), &format!("exit {code}"))
            .await;
        assert_eq!(exit.end, End::Code(code));
        assert!(!exit.stopped);
        assert_eq!((exit.log_dropped, exit.survivors), (0, vec![]));
        assert_eq!(exit.note, None);
        assert!(exit.ended_at_ms >= exit.started_at_ms);
    }
    for signal in [1, 2, 9, 11, 13, 15, 31] {
        let script = format!("kill -{signal} $$; sleep 600");
        let exit = place.run(&format!("signal-{signal}"), &script).await;
        assert_eq!(exit.end, End::Signal(signal));
        assert!(!exit.stopped);
    }
}

#[tokio::test]
async fn the_task_gets_what_the_spec_says_and_nothing_else() {
    let other = tempfile::NamedTempFile::new().unwrap();
    // What the server itself inherited without wanting it.
    let inherits = format!(
        "exec 9>{}; exec {} __keeper \"$@\"",
        other.path().display(),
        program().path.display()
    );
    let place = Place::with(Program {
        path: "/bin/bash".into(),
        arguments: vec!["-c".into(), inherits.into(), "bash".into()],
    });
    let mut spec = place.spec(
        "a",
        "env; pwd; ls -l /proc/self/fd; cat; ps -o sid=,pgid= $$",
    );
    spec.env.insert("SECRET".into(), "hunter2\nline".into());
    let handle = place.keepers.start(&spec).unwrap();
    assert_eq!(exit(&handle).await.end, End::Code(0));
    let log = place.log("a");
    let units = place.units().canonicalize().unwrap();
    let expected = [
        "SECRET=hunter2".to_owned(),
        "SKYTOWER_UNIT=a".to_owned(),
        format!("SKYTOWER_UNIT_FOLDER={}", units.join("a").display()),
        format!("\n{}\n", place.work().canonicalize().unwrap().display()),
    ];
    for part in &expected {
        assert!(log.contains(part.as_str()), "{part} is not in {log}");
    }
    assert!(!log.contains("CARGO"), "{log}");
    // Standard input, output and error, the lock of the tree, and the folder that ls reads.
    let open: Vec<_> = log.lines().filter(|it| it.contains(" -> ")).collect();
    assert_eq!(open.len(), 5, "{open:?}");
    assert!(open[0].ends_with("/dev/null"), "{open:?}");
    assert!(!log.contains(other.path().to_str().unwrap()), "{log}");
    let last: Vec<_> = log.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last[0], last[1], "session and group are its own");
}

#[tokio::test]
async fn secrets_are_in_no_file_and_no_arguments() {
    let place = Place::new();
    let mut spec = place.spec("a", "echo go > up; sleep 600");
    spec.env.insert("SECRET".into(), "hunter2".into());
    spec.command.push("hunter2".into());
    let handle = place.keepers.start(&spec).unwrap();
    place.until_written("up").await;
    for file in ["environ", "cmdline"] {
        let text = fs::read(format!("/proc/{}/{file}", handle.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("hunter2"));
    }
    let unit = place.units().join("a");
    assert_eq!(
        fs::metadata(&unit).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for entry in fs::read_dir(&unit).unwrap() {
        let path = entry.unwrap().path();
        let text = match fs::read_link(&path) {
            Ok(link) => link.to_str().unwrap().to_owned(),
            Err(_) => fs::read_to_string(&path).unwrap(),
        };
        assert!(!text.contains("hunter2"), "{}", path.display());
    }
    handle.kill();
    assert_eq!(exit(&handle).await.end, End::Signal(9));
}

#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    let place = Place::new();
    let script = place.work().join("script");
    fs::write(&script, "#!/no/such/shell\n").unwrap();
    let plain = place.work().join("plain");
    fs::write(&plain, "text").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let long = "x".repeat(300_000);
    let cases: [(&[&str], &str); 7] = [
        (&["/no/such"], "/no/such does not exist"),
        (&["nosuch"], "nosuch is nowhere in PATH"),
        (&["./plain"], "./plain may not be executed"),
        (&["/"], "/ is a folder, not a program"),
        (&[script], "needs the interpreter /no/such/shell"),
        (&["/bin/true", &long], "longer than the system takes"),
        (&[], "it has no command"),
    ];
    for (at, (command, expected)) in cases.into_iter().enumerate() {
        let mut spec = place.spec(&format!("u{at}"), "");
        spec.command = command.iter().map(|&word| word.to_owned()).collect();
        let handle = place.keepers.start(&spec).unwrap();
        let exit = exit(&handle).await;
        assert!(reason(&exit).contains(expected), "{exit:?}");
        assert_eq!(handle.started().await.unwrap_err().reason, reason(&exit));
        // It is written down.
        let again = Keepers::new(program(), place.units.clone()).unwrap();
        let Found::Ended(read) = again.look(&spec.unit, 1) else {
            panic!("not ended");
        };
        assert_eq!(read, exit);
    }
    let mut spec = place.spec("folder", "true");
    spec.folder = "/no/such/folder".into();
    let exit = exit(&place.keepers.start(&spec).unwrap()).await;
    assert_eq!(
        reason(&exit),
        "its working folder /no/such/folder does not exist"
    );
}

#[tokio::test]
async fn a_generation_is_executed_once_however_often_it_is_started() {
    let place = Place::new();
    let script = "echo once >> marks; read -t 600 < go; exit 7";
    assert!(
        Command::new("mkfifo")
            .arg(place.work().join("go"))
            .status()
            .unwrap()
            .success()
    );
    let spec = place.spec("a", script);
    let other = Keepers::new(program(), place.units.clone()).unwrap();
    // At the same time, from two servers.
    let handles: Vec<_> = (0..6)
        .map(|at| [&place.keepers, &other][at % 2].start(&spec).unwrap())
        .collect();
    for handle in &handles {
        started(handle).await;
    }
    fs::write(place.work().join("go"), "\n").unwrap();
    for handle in &handles {
        assert_eq!(exit(handle).await.end, End::Code(7));
    }
    // And when it has ended.
    assert_eq!(
        exit(&place.keepers.start(&spec).unwrap()).await.end,
        End::Code(7)
    );
    assert_eq!(place.written("marks"), "once\n");
    assert!(handles.iter().all(|it| it.pid() == handles[0].pid()));
}

#[tokio::test]
async fn a_later_generation_goes_on_with_the_log_and_shuts_out_the_earlier_ones() {
    let place = Place::new();
    let mut spec = place.spec("a", "echo $SKYTOWER_UNIT; exit 3");
    for generation in [1, 2, 5] {
        spec.generation = generation;
        let handle = place.keepers.start(&spec).unwrap();
        assert_eq!(exit(&handle).await.end, End::Code(3));
    }
    assert_eq!(place.log("a"), "a\na\na\n");
    spec.generation = 4;
    let error = place.keepers.start(&spec).unwrap_err();
    assert!(matches!(error, StartError::Superseded { later: 5 }));
    assert!(matches!(place.keepers.look("a", 5), Found::Ended(_)));
    assert!(matches!(place.keepers.look("a", 4), Found::Lost(_)));
    assert!(matches!(place.keepers.look("a", 6), Found::NeverStarted));
}

#[tokio::test]
async fn what_was_called_off_is_not_executed() {
    let place = Place::new();
    assert!(place.keepers.call_off("a", 1).unwrap());
    let exit = place.run("a", "echo once >> marks").await;
    assert!(exit.stopped && matches!(exit.end, End::NotStarted { .. }));
    let handle = place.start("b", "sleep 600");
    started(&handle).await;
    assert!(!place.keepers.call_off("b", 1).unwrap());
    handle.kill();
    assert_eq!(self::exit(&handle).await.end, End::Signal(9));
    assert_eq!(place.written("marks"), "");
}

#[tokio::test]
async fn names_that_are_no_folder_of_ours_are_refused() {
    let place = Place::new();
    for name in ["", "..", "a/b", ".hidden"] {
        let error = place.keepers.start(&place.spec(name, "true")).unwrap_err();
        assert!(matches!(error, StartError::Unit(_)));
    }
}

#[tokio::test]
async fn a_log_is_complete_byte_for_byte() {
    let place = Place::new();
    // Both streams, zeros, no newline at the end, and a writer who outlives the main process.
    let script = "head -c 3000000 /dev/zero; printf '\\377\\n\\0'; printf oops >&2; \
                  (seq 20000 | cat) & exit 0";
    assert_eq!(place.run("a", script).await.end, End::Code(0));
    let log = fs::read(place.keepers.log_path("a")).unwrap();
    let mut expected = vec![0; 3_000_000];
    expected.extend(b"\xff\n\0oops");
    expected.extend((1..=20000).flat_map(|n: u32| format!("{n}\n").into_bytes()));
    assert!(log == expected, "{} bytes", log.len());
}

#[tokio::test]
async fn who_reads_the_log_sees_it_while_it_is_written() {
    let place = Place::new();
    let handle = place.start("a", "echo first; read < /dev/null; sleep 600");
    until("the line is there", || {
        fs::read_to_string(place.keepers.log_path("a")).is_ok_and(|it| it == "first\n")
    })
    .await;
    handle.stop();
    let exit = exit(&handle).await;
    assert_eq!((exit.end, exit.stopped), (End::Signal(15), true));
}

#[tokio::test]
async fn a_task_that_closes_its_output_goes_on() {
    let place = Place::new();
    let exit = place
        .run(
            "a",
            "echo before; exec >&- 2>&-; echo x > up; sleep 0.2; exit 5",
        )
        .await;
    assert_eq!(exit.end, End::Code(5));
    assert_eq!(place.log("a"), "before\n");
}

async fn long_log(bytes: u64, cap: u64) {
    let place = Place::new();
    let script = format!("head -c {bytes} /dev/zero | tr '\\0' x; printf end");
    let mut spec = place.spec("a", &script);
    spec.log_cap = cap;
    let exit = exit(&place.keepers.start(&spec).unwrap()).await;
    assert_eq!(exit.end, End::Code(0));
    let mut log = File::open(place.keepers.log_path("a")).unwrap();
    assert_eq!(log.metadata().unwrap().len(), bytes + 3);
    let start = log_start(&log).unwrap();
    assert_eq!(start, exit.log_dropped);
    let kept = bytes + 3 - start;
    assert!((cap / 2..=cap).contains(&kept), "{kept} bytes are kept");
    let mut text = Vec::new();
    log.seek(SeekFrom::Start(start)).unwrap();
    log.read_to_end(&mut text).unwrap();
    let (xs, end) = text.split_at(text.len() - 3);
    assert!(xs.iter().all(|byte| *byte == b'x'));
    assert_eq!(end, b"end");
}

#[tokio::test]
async fn a_log_without_end_and_without_lines_keeps_its_newest() {
    long_log(64 << 20, 8 << 20).await;
}

#[tokio::test]
#[ignore = "writes 1 GiB"]
async fn a_log_of_a_gigabyte_keeps_its_newest() {
    long_log(1 << 30, 8 << 20).await;
}

#[tokio::test]
async fn a_limit_on_files_costs_bytes_of_the_log_and_nothing_else() {
    let limited = format!(
        "ulimit -f 64; exec {} __keeper \"$@\"",
        program().path.display()
    );
    let place = Place::with(Program {
        path: "/bin/bash".into(),
        arguments: vec!["-c".into(), limited.into(), "bash".into()],
    });
    let exit = place.run("a", "head -c 200000 /dev/zero; exit 9").await;
    assert_eq!(exit.end, End::Code(9));
    assert_eq!(exit.log_dropped, 200_000 - 65_536);
    assert!(exit.note.unwrap().contains("File too large"));
}

/// A small disk, where one may be made.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(kind: &str, size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", kind, "-o", size, kind])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("no {kind} may be mounted here: not tested");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_the_exit_is_written_down_and_the_loss_is_told() {
    let Some(disk) = Disk::new("tmpfs", "size=1m") else {
        return;
    };
    let place = Place::on(&disk);
    let keepers = &place.keepers;
    // Full to the last byte, and it stays so.
    let spec = place.spec("a", "head -c 3000000 /dev/zero | tr '\\0' x; exit 9");
    let exit = exit(&keepers.start(&spec).unwrap()).await;
    assert_eq!(exit.end, End::Code(9));
    let log = keepers.log_path("a");
    assert_eq!(
        fs::metadata(&log).unwrap().len(),
        3_000_000 - exit.log_dropped
    );
    assert!(exit.note.unwrap().contains("No space left"));

    // With room again it is told in the log as well.
    fs::remove_file(&log).unwrap();
    let script = "while [ ! -e enough ]; do head -c 200000 /dev/zero | tr '\\0' x; sleep 0.1; done";
    let handle = keepers.start(&place.spec("b", script)).unwrap();
    let log = keepers.log_path("b");
    until("the loss is told", || {
        let text = fs::read(&log).unwrap_or_default();
        let said = b"could not be written here\n";
        let told = text.windows(said.len()).any(|it| it == said);
        if !told && rustix::fs::statvfs(disk.0.path()).unwrap().f_bavail == 0 {
            // Room again.
            let log = File::options().write(true).open(&log).unwrap();
            log.set_len(0).unwrap();
        }
        told
    })
    .await;
    fs::write(place.work().join("enough"), "").unwrap();
    assert_eq!(self::exit(&handle).await.end, End::Code(0));

    // Nothing can be reserved any more: then nothing is executed, and it may be tried again.
    let mut filler = File::create(disk.0.path().join("filler")).unwrap();
    let _ = std::io::copy(&mut std::io::repeat(1), &mut filler);
    let handle = keepers.start(&place.spec("c", "exit 9")).unwrap();
    assert!(reason(&self::exit(&handle).await).contains("No space left"));
    assert!(matches!(keepers.look("c", 1), Found::NeverStarted));
    filler.set_len(0).unwrap();
    let handle = keepers.start(&place.spec("c", "exit 9")).unwrap();
    assert_eq!(self::exit(&handle).await.end, End::Code(9));
}

#[tokio::test]
async fn where_files_cannot_have_holes_the_first_bytes_are_kept() {
    // It can neither reserve space nor give it up.
    let Some(disk) = Disk::new("ramfs", "rw") else {
        return;
    };
    let place = Place::on(&disk);
    let keepers = &place.keepers;
    let mut spec = place.spec("a", "head -c 500000 /dev/zero | tr '\\0' x; exit 9");
    spec.log_cap = 100_000;
    let exit = exit(&keepers.start(&spec).unwrap()).await;
    assert_eq!(exit.end, End::Code(9));
    let log = fs::read_to_string(keepers.log_path("a")).unwrap();
    let kept = log.bytes().filter(|byte| *byte == b'x').count() as u64;
    assert_eq!(kept + exit.log_dropped, 500_000);
    assert!(kept <= 200_000, "{kept}");
    assert!(log.ends_with("\n[skytower] the log is full: what follows is not kept\n"));
    assert_eq!(exit.note.as_deref(), Some("its log was full"));
}

#[tokio::test]
async fn a_task_that_ends_when_asked_says_how() {
    let place = Place::new();
    let script = "trap 'echo bye; exit 3' TERM; echo > up; while :; do sleep 0.02; done";
    let handle = place.start("a", script);
    place.until_written("up").await;
    handle.stop();
    handle.stop();
    let exit = exit(&handle).await;
    assert_eq!((exit.end, exit.stopped), (End::Code(3), true));
    assert!(place.log("a").ends_with("bye\n"));
    // Nobody is there any more.
    handle.stop();
    handle.kill();
}

#[tokio::test]
async fn what_is_asked_before_the_start_is_not_forgotten() {
    let place = Place::new();
    for (at, ask) in [Handle::stop, Handle::kill].into_iter().enumerate() {
        let handle = place.start(&format!("u{at}"), "sleep 600");
        ask(&handle);
        let exit = exit(&handle).await;
        assert!(exit.stopped, "{exit:?}");
        let signal = End::Signal([15, 9][at]);
        assert!(exit.end == signal || matches!(exit.end, End::NotStarted { .. }));
    }
}

#[tokio::test]
async fn children_of_a_task_that_is_stopped_have_its_grace_too() {
    let place = Place::new();
    // The shell dies of SIGTERM at once; its child saves its work first, once.
    let script = "bash -c 'trap \"echo asked >> asked; sleep 0.5; echo saved > saved; exit\" TERM; \
                  echo > up; while :; do sleep 0.02; done'; :";
    let handle = place.start("a", script);
    place.until_written("up").await;
    handle.stop();
    let exit = exit(&handle).await;
    assert_eq!((exit.end, exit.stopped), (End::Signal(15), true));
    assert_eq!(place.written("saved"), "saved\n");
    assert_eq!(place.written("asked"), "asked\n");
}

#[tokio::test]
async fn a_task_that_will_not_end_is_killed_after_its_grace() {
    let place = Place::new();
    let mut spec = place.spec("a", "trap '' TERM; echo > up; while :; do sleep 0.02; done");
    spec.grace_ms = 200;
    let handle = place.keepers.start(&spec).unwrap();
    place.until_written("up").await;
    handle.stop();
    let exit = exit(&handle).await;
    assert_eq!((exit.end, exit.stopped), (End::Signal(9), true));
    assert!(exit.ran_ms >= 200);
}

#[tokio::test]
async fn what_a_task_leaves_behind_is_ended_with_it() {
    let place = Place::new();
    // In sessions of their own, adopted by init as they may think, deaf, without environment, asleep.
    let script = "
        (setsid bash -c 'trap \"\" TERM HUP; echo > a; while :; do sleep 1; done' &)
        setsid env -i /bin/sh -c 'echo > b; while :; do /bin/sleep 1; done' >/dev/null 2>&1 &
        bash -c 'kill -STOP $$' &
        nohup sleep 600 >/dev/null 2>&1 &
        while [ ! -s a ] || [ ! -s b ]; do sleep 0.01; done
        exit 4";
    let mut spec = place.spec("a", script);
    spec.grace_ms = 100;
    let handle = place.keepers.start(&spec).unwrap();
    let exit = exit(&handle).await;
    assert_eq!((exit.end, exit.survivors), (End::Code(4), vec![]));
    assert!(!exit.stopped);
    place.until_nothing_lives().await;
}

#[tokio::test]
async fn many_processes_that_go_on_forking_are_all_killed() {
    let place = Place::new();
    let script = "
        trap '' TERM
        for n in $(seq 200); do (trap '' TERM; setsid sleep 600 & exec sleep 600) & done
        for n in 1 2 3; do
            (while :; do (sleep 0.1 &) ; done) &
        done
        echo > up
        wait";
    let handle = place.start("a", script);
    place.until_written("up").await;
    handle.kill();
    let exit = exit(&handle).await;
    assert_eq!((exit.end, exit.survivors), (End::Signal(9), vec![]));
    place.until_nothing_lives().await;
}

#[tokio::test]
async fn a_task_that_stops_itself_is_told_of() {
    let place = Place::new();
    let handle = place.start("a", "echo $$ > up; kill -STOP $$; echo on; exit 6");
    until("it is noted", || place.keepers.note("a").is_some()).await;
    let note = place.keepers.note("a").unwrap();
    assert_eq!(note, "stands still since it was stopped (SIGSTOP)");
    until("it is in the log", || place.log("a").contains("SIGSTOP")).await;
    let pid: i32 = place.written("up").trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::CONT).unwrap();
    assert_eq!(exit(&handle).await.end, End::Code(6));
    assert_eq!(place.keepers.note("a"), None);
    let log = place.log("a");
    assert!(
        log.starts_with("[skytower] the task was stopped (SIGSTOP)"),
        "{log}"
    );
    assert!(log.contains("on\n"), "{log}");
    // And one that is stopped can be ended.
    let handle = place.start("b", "kill -STOP $$; exit 6");
    until("it is noted", || place.keepers.note("b").is_some()).await;
    handle.stop();
    assert_eq!(exit(&handle).await.end, End::Signal(15));
}

#[tokio::test]
async fn a_killed_server_loses_nothing() {
    let place = Place::new();
    let script = "echo once >> marks; echo 1; echo > up; while [ ! -e go ]; do sleep 0.02; done; \
                  seq 2 5000; exit 7";
    let spec = place.spec("a", script);
    let mut first = server(&place, &spec, false, None);
    assert!(says(&mut first, " started"));
    place.until_written("up").await;
    first.kill().unwrap();
    first.wait().unwrap();

    let again = Keepers::new(program(), place.units.clone()).unwrap();
    let handle = found(&again, "a");
    started(&handle).await;
    assert_eq!(found(&again, "a").pid(), handle.pid());
    // To start it again starts nothing.
    assert_eq!(again.start(&spec).unwrap().pid(), handle.pid());
    fs::write(place.work().join("go"), "").unwrap();
    assert_eq!(exit(&handle).await.end, End::Code(7));
    let expected: String = (1..=5000).map(|n| format!("{n}\n")).collect();
    assert_eq!(place.log("a"), expected);
    assert_eq!(place.written("marks"), "once\n");

    // And what ended while no server was there is found.
    let third = Keepers::new(program(), place.units.clone()).unwrap();
    let Found::Ended(exit) = third.look("a", 1) else {
        panic!("not ended");
    };
    assert_eq!(exit.end, End::Code(7));
}

#[tokio::test]
async fn an_adopted_task_can_be_stopped() {
    let place = Place::new();
    let mut first = server(&place, &place.spec("a", "sleep 600"), true, None);
    assert!(says(&mut first, " started"));
    first.kill().unwrap();
    first.wait().unwrap();
    let handle = found(&place.keepers, "a");
    handle.stop();
    let exit = exit(&handle).await;
    assert_eq!((exit.end, exit.stopped), (End::Signal(15), true));
}

#[tokio::test]
async fn a_server_killed_at_any_instant_of_a_start_starts_once() {
    let place = Place::new();
    for at in 0..24 {
        let unit = format!("u{at}");
        let marks = format!("marks-{at}");
        let spec = place.spec(&unit, &format!("echo once >> {marks}; exit 7"));
        let mut first = server(&place, &spec, at % 2 == 1, None);
        assert!(says(&mut first, "running 1 test"));
        let since = Instant::now();
        while since.elapsed() < Duration::from_micros(at * 400) {
            std::hint::spin_loop();
        }
        first.kill().unwrap();
        first.wait().unwrap();
        let handle = place.keepers.start(&spec).unwrap();
        assert_eq!(exit(&handle).await.end, End::Code(7));
        place.until_nothing_lives().await;
        assert_eq!(place.written(&marks), "once\n");
    }
}

#[tokio::test]
async fn a_killed_keeper_is_told_and_what_it_leaves_is_swept() {
    let place = Place::new();
    let script = "(setsid env -i /bin/sleep 600 &); setsid sleep 600 & echo $$ > up; wait";
    let handle = place.start("a", script);
    place.until_written("up").await;
    assert!(place.keepers.remove("a").is_err());
    // While the keeper lives nothing is swept.
    assert_eq!(place.keepers.sweep("a").await, [handle.pid()]);
    kill(handle.pid());
    let lost = lost(&handle).await;
    assert_eq!(
        lost.why,
        format!("its keeper (process {}) was killed (SIGKILL)", handle.pid())
    );
    assert!(!lost.rebooted);
    assert!(matches!(place.keepers.look("a", 1), Found::Lost(_)));
    let spec = place.spec("a", script);
    assert!(matches!(
        ended(&place.keepers.start(&spec).unwrap()).await,
        Ended::Lost(_)
    ));
    assert!(place.keepers.remove("a").is_err());
    assert_eq!(place.keepers.sweep("a").await, [0; 0]);
    place.until_nothing_lives().await;
    place.keepers.remove("a").unwrap();
    assert!(!place.units().join("a").exists());
    assert!(matches!(place.keepers.look("a", 1), Found::NeverStarted));
}

#[tokio::test]
async fn a_sweep_leaves_the_units_of_others_alone() {
    let (one, other) = (Place::new(), Place::new());
    let handles = [one.start("a", "sleep 600"), other.start("a", "sleep 600")];
    for handle in &handles {
        started(handle).await;
    }
    kill(handles[0].pid());
    lost(&handles[0]).await;
    assert_eq!(one.keepers.sweep("a").await, [0; 0]);
    one.until_nothing_lives().await;
    assert!(matches!(other.keepers.look("a", 1), Found::Running(_)));
    handles[1].kill();
    assert_eq!(exit(&handles[1]).await.end, End::Signal(9));
}

#[tokio::test]
async fn keepers_are_reaped_whoever_waits() {
    let place = Place::new();
    let pids: Vec<_> = (0..20)
        .map(|at| place.start(&format!("u{at}"), "exit 0").pid())
        .collect();
    until("all are reaped", || {
        pids.iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    })
    .await;
}

#[tokio::test]
async fn a_keeper_in_store_runs_what_it_is_told_and_ends_when_nobody_can_tell_it() {
    let place = Place::new();
    let children = || {
        let list = fs::read_dir("/proc").unwrap().flatten();
        let pids = list.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
        pids.collect::<Vec<_>>()
    };
    place.keepers.warm();
    place.keepers.warm();
    let before = children();
    let handle = place.start("a", "exit 4");
    assert!(before.contains(&handle.pid()), "it was there before");
    assert_eq!(exit(&handle).await.end, End::Code(4));
    // More than a pipe holds is told in another way.
    let mut spec = place.spec("b", "exit ${#LONG}");
    spec.env
        .extend((0..40).map(|n| (format!("LONG{n}"), "x".repeat(50_000))));
    spec.env.insert("LONG".into(), "x".repeat(200));
    place.keepers.warm();
    let handle = place.keepers.start(&spec).unwrap();
    assert_eq!(exit(&handle).await.end, End::Code(200));

    // With a server of its own, to see the one in store end with it.
    let mut first = server(&place, &place.spec("c", "exit 0"), true, None);
    assert!(says(&mut first, " ended"));
    first.kill().unwrap();
    first.wait().unwrap();
    let binary = fs::canonicalize(program().path).unwrap();
    let orphans = || {
        children()
            .into_iter()
            .filter(|pid| {
                let exe = fs::read_link(format!("/proc/{pid}/exe"));
                let parent = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                exe.is_ok_and(|it| it == binary)
                    && !parent.contains(&format!("\nPPid:\t{}\n", std::process::id()))
                    && fs::read_link(format!("/proc/{pid}/fd/0"))
                        .is_ok_and(|it| it.to_string_lossy().starts_with("pipe:"))
                    && parent.contains("\nPPid:\t1\n")
            })
            .count()
    };
    until("nobody waits in vain", || orphans() == 0).await;
}

#[tokio::test]
async fn memory_that_may_not_be_used_is_not_given() {
    let place = Place::new();
    let mut spec = place.spec(
        "a",
        "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo done",
    );
    spec.limits.memory_bytes = Some(64 << 20);
    let handle = place.keepers.start(&spec).unwrap();
    let exit = exit(&handle).await;
    assert_ne!(exit.end, End::Code(0), "{}", place.log("a"));
}

/// Every step that writes or spawns, of the server and of the keeper: killed there, and started again.
#[tokio::test]
async fn a_crash_at_any_step_executes_once_or_tells_that_it_is_lost() {
    if !cfg!(debug_assertions) {
        return;
    }
    let place = Place::new();
    let steps = FAIL_POINTS
        .iter()
        .flat_map(|step| [(step, false), (step, true)]);
    for (at, (step, warm)) in steps.enumerate() {
        let unit = format!("u{at}");
        let marks = format!("marks-{at}");
        let mut spec = place.spec(&unit, &format!("echo once >> {marks}; echo said; exit 7"));
        spec.grace_ms = 100;
        let mut first = server(&place, &spec, warm, Some(step));
        // Killed itself, or has seen its keeper die.
        first.wait().unwrap();

        let again = Keepers::new(program(), place.units.clone()).unwrap();
        let handle = again.start(&spec).unwrap();
        let ended = ended(&handle).await;
        let swept = again.sweep(&unit).await;
        assert_eq!(swept, [0; 0], "{step}");
        place.until_nothing_lives().await;
        let times = place.written(&marks).lines().count();
        let before_claim = step.starts_with("start.")
            || [
                "keeper.begun",
                "keeper.told",
                "keeper.locked",
                "keeper.reserved",
                "keeper.forked",
            ]
            .contains(step);
        let after_exit = ["keeper.exit_written", "keeper.exit_durable"].contains(step);
        match ended {
            Ended::Exit(exit) => {
                assert!(before_claim || after_exit, "{step}");
                assert_eq!(exit.end, End::Code(7), "{step}");
                assert_eq!(times, 1, "{step}");
                assert_eq!(fs::read_to_string(again.log_path(&unit)).unwrap(), "said\n");
            }
            Ended::Lost(lost) => {
                assert!(!before_claim && !after_exit, "{step}: {lost:?}");
                assert!(times <= 1, "{step}");
            }
        }
        assert!(place.cgroups().is_empty(), "{step}");
        again.remove(&unit).unwrap();
    }
}
