//! What a keeper costs: from the call to the execution of the task, beside the least that could do it, one
//! `posix_spawn` and one `fdatasync`; the same in a server with a gigabyte of memory; its own memory; and
//! a thousand short tasks without a lost exit code.
//!
//! `cargo bench -p skytower-server --bench keeper` (`TASKS=10000` for more). Both take turns, with a pause,
//! because starts come out of the blue; what counts is the time on the clock, because it is waiting for
//! the disk and for other processes. The task is `date`, which tells when it runs; what it takes to get
//! that far is known from the floor, where the execution is over when `posix_spawn` returns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

#[path = "../../api-client/benches/measure/mod.rs"]
mod measure;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use measure::{line, median, span};
use skytower_server::keeper::{End, Ended, Handle, Keepers, Limits, Program, Spec};

const ROUNDS: usize = 100;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let place = tempfile::tempdir().unwrap();
    let keepers = Arc::new(keepers_in(place.path()));
    keepers.warm();
    runtime.block_on(async {
        let floor = "posix_spawn + fdatasync";
        let again = || keepers.clone();
        let small = starts(again, place.path(), "small").await;
        line(
            "start to execution",
            small.execution,
            floor,
            small.floor,
            "promised: 3x",
        );
        line(
            "  until the caller knows",
            small.known,
            floor,
            small.floor,
            "",
        );
        let ballast = std::hint::black_box(vec![1_u8; 1 << 30]);
        let large = starts(again, place.path(), "large").await;
        drop(ballast);
        line(
            "  in a process of 1 GiB",
            large.execution,
            floor,
            large.floor,
            "promised: 3x",
        );
        let cold = || Arc::new(keepers_in(place.path()));
        let cold = starts(cold, place.path(), "cold").await;
        line(
            "  with none in store",
            cold.execution,
            floor,
            cold.floor,
            "",
        );
        memory(&keepers, place.path()).await;
        let tasks = std::env::var("TASKS").map_or(1000, |tasks| tasks.parse().unwrap());
        many(&keepers, place.path(), tasks).await;
    });
}

fn keepers_in(folder: &Path) -> Keepers {
    let program = Program {
        path: env!("CARGO_BIN_EXE_skytower-server").into(),
        arguments: vec!["__keeper".into()],
    };
    Keepers::new(program, folder.join("units")).unwrap()
}

fn spec(unit: String, folder: &Path, command: &[&str]) -> Spec {
    Spec {
        unit,
        generation: 1,
        command: command.iter().map(|&word| word.to_owned()).collect(),
        folder: folder.to_owned(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        grace_ms: 1000,
        log_cap: 1 << 20,
        limits: Limits::default(),
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds since 1970, as `date` tells them.
fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as f64 / 1e6
}

fn told(file: &Path) -> f64 {
    let text = std::fs::read_to_string(file).unwrap();
    text.trim().parse::<f64>().unwrap() / 1e6
}

struct Starts {
    execution: f64,
    known: f64,
    floor: f64,
}

/// Of both in turns, the best tenth: the others tell how busy the machine is with something else. The first
/// turn of both only warms.
async fn starts(keepers: impl Fn() -> Arc<Keepers>, folder: &Path, name: &str) -> Starts {
    let mut journal = File::options()
        .create(true)
        .append(true)
        .open(folder.join("journal"))
        .unwrap();
    let output = folder.join("output");
    let (mut execution, mut known) = (Vec::new(), Vec::new());
    let (mut floor, mut loading) = (Vec::new(), Vec::new());
    let pause = || tokio::time::sleep(Duration::from_millis(20));
    for round in 0..=ROUNDS {
        let keepers = keepers();
        let mut date = Command::new("/bin/date");
        date.arg("+%s%N")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(Stdio::null());
        pause().await;
        let since = Instant::now();
        journal.write_all(&[b'x'; 200]).unwrap();
        journal.sync_data().unwrap();
        let mut child = date.spawn().unwrap();
        floor.push(ms(since));
        let executed = now();
        child.wait().unwrap();
        loading.push(told(&output) - executed);

        let spec = spec(format!("{name}-{round}"), folder, &["/bin/date", "+%s%N"]);
        pause().await;
        let (since, called) = (Instant::now(), now());
        let handle = keepers.start(&spec).unwrap();
        handle.started().await.unwrap();
        known.push(ms(since));
        handle.ended().await;
        execution.push(told(&keepers.log_path(&spec.unit)) - called);
    }
    Starts {
        execution: best(execution.split_off(1)) - best(loading.split_off(1)),
        known: best(known.split_off(1)),
        floor: best(floor.split_off(1)),
    }
}

fn best(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 10]
}

/// What a keeper that has been at work holds and shares with nobody.
async fn memory(keepers: &Keepers, folder: &Path) {
    let mut handles = Killed(Vec::new());
    for at in 0..30 {
        let script = "seq 100000; echo up > $SKYTOWER_UNIT; exec sleep 600";
        let unit = format!("held-{at}");
        let spec = spec(unit.clone(), folder, &["/bin/sh", "-c", script]);
        handles.0.push(keepers.start(&spec).unwrap());
        while !folder.join(&unit).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let kib = handles.0.iter().map(|handle| private_dirty(handle.pid()));
    let kib = median(kib.collect());
    println!(
        "{:<40} {:>6.2} MiB   promised: 1.5 MiB",
        "memory of a keeper",
        kib / 1024.0
    );
    let ending = handles.0.clone();
    drop(handles);
    for handle in ending {
        handle.ended().await;
    }
}

/// Also when the benchmark itself fails, such as for a pipe that nobody reads.
struct Killed(Vec<Handle>);

impl Drop for Killed {
    fn drop(&mut self) {
        for handle in &self.0 {
            handle.kill();
        }
    }
}

fn private_dirty(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Short tasks, 20 at a time.
async fn many(keepers: &Arc<Keepers>, folder: &Path, tasks: usize) {
    let since = Instant::now();
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let (keepers, next, folder) = (keepers.clone(), next.clone(), folder.to_owned());
            tokio::spawn(async move {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if at >= tasks {
                        return;
                    }
                    let code = at % 256;
                    let script = format!("echo {at}; exit {code}");
                    let unit = format!("short-{at}");
                    let spec = spec(unit.clone(), &folder, &["/bin/sh", "-c", &script]);
                    let handle = keepers.start(&spec).unwrap();
                    let Ended::Exit(exit) = handle.ended().await else {
                        panic!("task {at} is lost");
                    };
                    assert_eq!(exit.end, End::Code(code as i32));
                    let log = std::fs::read_to_string(keepers.log_path(&unit)).unwrap();
                    assert_eq!(log, format!("{at}\n"));
                    keepers.remove(&unit).unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let each = ms(since) / tasks as f64;
    println!(
        "{:<40} {:>10} each, no exit code and no log lost",
        format!("{tasks} short tasks, 20 at a time"),
        span(each)
    );
}
