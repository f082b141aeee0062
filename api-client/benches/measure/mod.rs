//! Measuring beside a floor: CPU time instead of wall time, so that what neighbours do to the clock
//! does not count; ours and the floor in turns, so that what they do to the caches counts for both.
#![allow(dead_code, reason = "each benchmark uses its part")]
#![allow(unreachable_pub, reason = "a module of benchmarks")]

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of CPU that the calling thread has used. The same count as in its `schedstat`, which is
/// brought up to date only now and then while the thread runs.
pub fn cpu_ms() -> f64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as f64 * 1e3 + used.tv_nsec as f64 / 1e6
}

/// Milliseconds of CPU that another thread of this process had used when it last slept.
pub fn cpu_ms_of(thread: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

/// The kernel's id of the calling thread.
pub fn this_thread() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// What it takes once.
pub fn once(of: &mut dyn FnMut()) -> f64 {
    let start = cpu_ms();
    of();
    cpu_ms() - start
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Ours and the floor in turns, `rounds` of each: their medians. The first turn of both only warms.
pub fn in_turns(rounds: usize, ours: &mut dyn FnMut(), floor: &mut dyn FnMut()) -> (f64, f64) {
    once(floor);
    once(ours);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        b.push(once(floor));
        a.push(once(ours));
    }
    (median(a), median(b))
}

/// The median of `rounds`.
pub fn alone(rounds: usize, of: &mut dyn FnMut()) -> f64 {
    median((0..rounds).map(|_| once(of)).collect())
}

/// One line of the report: ours, the floor, their ratio, and the ratio that was promised.
pub fn line(what: &str, ours: f64, floor_name: &str, floor: f64, promise: &str) {
    println!(
        "{what:<40} {:>10}   {floor_name:<32} {:>10} {:>7.2}x  {promise}",
        span(ours),
        span(floor),
        ours / floor
    );
}

/// A span for people.
pub fn span(ms: f64) -> String {
    if ms < 1.0 {
        format!("{:.1} µs", ms * 1000.0)
    } else {
        format!("{ms:.1} ms")
    }
}

/// Bytes of memory that this process holds and shares with nobody.
pub fn held_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024.0
    };
    of("Private_Dirty:") + of("Private_Clean:")
}
