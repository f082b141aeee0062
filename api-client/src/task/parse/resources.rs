//! What a node needs.

use super::super::{Autostop, Resources};
use super::field::Field;
use super::known::{AUTOSTOP, RECOVERY, RESOURCES, SPOT};
use super::report::Report;
use super::scalar::Meaning;
use super::tree::Value;
use crate::nearest::nearest;
use crate::text::Text;

/// What `autostop: true` means, as SkyPilot documents it.
const IDLE_MINUTES: u32 = 5;

pub(super) fn resources(field: &Field<'_, '_>, report: &mut Report) -> Resources {
    let mut resources = Resources::default();
    for (key, entry) in field.entries(report) {
        if RESOURCES.here.contains(&key) && entry.is_nothing() {
            continue;
        }
        match key {
            "cpus" => resources.cpus = cpus(&entry, report),
            "memory" => resources.memory_gb = memory(&entry, report),
            "accelerators" => resources.accelerators = accelerators(&entry, report),
            "ports" => resources.ports = ports(&entry, report),
            "autostop" => resources.autostop = autostop(&entry, report),
            "infra" => infra(&entry, report),
            "use_spot" => {
                if entry.flag(report) == Some(true) {
                    entry.wrong(report, SPOT);
                }
            }
            "job_recovery" => resources.max_restarts_on_errors = job_recovery(&entry, report),
            // They mark machines for programs of a cloud, and change nothing else there either.
            "labels" => labels(&entry, report),
            _ => RESOURCES.refuse(key, &entry, report),
        }
    }
    resources
}

/// A number above 0, `+` behind it or not.
fn amount(raw: &str) -> Option<f64> {
    // As Python: spaces around a number do not count.
    let number = raw.strip_suffix('+').unwrap_or(raw).trim();
    // What Rust reads as a number beside digits: `inf`, `nan`.
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number)
}

fn cpus(field: &Field<'_, '_>, report: &mut Report) -> Option<f64> {
    let found = field.number().or_else(|| field.raw().and_then(amount));
    if found.is_none() {
        let shown = field.shown();
        field.wrong(
            report,
            format!("must be a number of CPUs above 0, such as `2`, `0.5` or `4+`, not {shown}"),
        );
    }
    found
}

fn memory(field: &Field<'_, '_>, report: &mut Report) -> Option<f64> {
    let found = field.number().or_else(|| field.raw().and_then(gigabytes));
    if found.is_none() {
        let shown = field.shown();
        field.wrong(
            report,
            format!("must be gigabytes above 0, such as `4`, `4+` or `512MB`, not {shown}"),
        );
    }
    found
}

fn gigabytes(raw: &str) -> Option<f64> {
    let raw = raw.strip_suffix('+').unwrap_or(raw).to_ascii_lowercase();
    let unit =
        ["k", "m", "g", "t", "p"]
            .iter()
            .zip(-2..)
            .find_map(|(letter, power): (&&str, i32)| {
                let number = raw
                    .strip_suffix('b')
                    .or_else(|| raw.strip_suffix('i'))?
                    .strip_suffix(*letter)?;
                Some((number, 1024_f64.powi(power)))
            });
    let (number, times) = unit.unwrap_or((&raw, 1.0));
    if number.ends_with('+') {
        return None;
    }
    amount(number).map(|number| number * times)
}

fn accelerators(field: &Field<'_, '_>, report: &mut Report) -> Option<(Text, u32)> {
    const ONE: &str =
        "there is only this machine to choose from; name one kind of accelerator, such as `A100:2`";
    let (name, count) = match &field.node.value {
        Value::Scalar(_) => split(field.text(report)?),
        Value::List(list) if list.len() == 1 => {
            let items = field.items();
            split(items.first()?.text(report)?)
        }
        Value::Map(pairs) if pairs.len() == 1 => {
            let entries = field.entries(report);
            let (key, entry) = entries.first()?;
            if entry.is_nothing() {
                split(key)
            } else {
                // A list or mapping is no number either.
                (*key, Some(entry.raw().unwrap_or_default()))
            }
        }
        Value::List(_) | Value::Map(_) => {
            field.wrong(report, ONE);
            return None;
        }
    };
    let named = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !named {
        field.wrong(
            report,
            "must be a kind of accelerator and a number, such as `A100:2`",
        );
        return None;
    }
    let count = count.map_or(Some(1.0), |count| {
        amount(count).filter(|_| !count.ends_with('+'))
    });
    match count {
        Some(count) if count.fract() == 0.0 && count <= f64::from(u32::MAX) => {
            Some((name.into(), count as u32))
        }
        _ => {
            field.wrong(
                report,
                "the number of accelerators must be whole, 1 or more; parts of one cannot be had here",
            );
            None
        }
    }
}

/// `A100:2`: the name, and the number when there is one.
fn split(raw: &str) -> (&str, Option<&str>) {
    match raw.split_once(':') {
        Some((name, count)) => (name.trim(), Some(count.trim())),
        None => (raw.trim(), None),
    }
}

fn ports(field: &Field<'_, '_>, report: &mut Report) -> Vec<u16> {
    let mut ports = Vec::new();
    let items = field.items();
    if items.is_empty() {
        field.wrong(report, "names no port; remove it, or name one");
    }
    for item in items {
        match item.raw().and_then(range) {
            Some(range) => ports.extend(range),
            None => item.wrong(
                report,
                format!(
                    "must be a port from 1 to 65535 or a range such as `9000-9003`, not {}",
                    item.shown()
                ),
            ),
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn range(raw: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = raw.split_once('-').unwrap_or((raw, raw));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

/// A port: digits, nothing else.
fn port(raw: &str) -> Option<u16> {
    let raw = raw.trim();
    if !raw.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    raw.parse().ok().filter(|port| *port > 0)
}

fn autostop(field: &Field<'_, '_>, report: &mut Report) -> Option<Autostop> {
    let usual = Autostop {
        idle_minutes: IDLE_MINUTES,
        down: false,
    };
    match field.meaning() {
        Some(Meaning::Flag(false)) => None,
        Some(Meaning::Flag(true)) => Some(usual),
        Some(_) => {
            let minutes = field.raw().and_then(minutes);
            if minutes.is_none() {
                let shown = field.shown();
                field.wrong(
                    report,
                    format!("must be true, false, or how long it may be idle, such as `10m` or `2h`, not {shown}"),
                );
            }
            minutes.map(|idle_minutes| Autostop {
                idle_minutes,
                down: false,
            })
        }
        None => {
            let mut autostop = usual;
            for (key, entry) in field.entries(report) {
                if AUTOSTOP.here.contains(&key) && entry.is_nothing() {
                    continue;
                }
                match key {
                    "idle_minutes" => {
                        autostop.idle_minutes = entry.whole(0, report).unwrap_or_default();
                    }
                    "down" => autostop.down = entry.flag(report).unwrap_or_default(),
                    "wait_for" => wait_for(&entry, report),
                    _ => AUTOSTOP.refuse(key, &entry, report),
                }
            }
            Some(autostop)
        }
    }
}

/// `10`, `10m`, `2h`, `1d`, `1w`.
fn minutes(raw: &str) -> Option<u32> {
    let raw = raw.to_ascii_lowercase();
    let (number, times) = [("m", 1), ("h", 60), ("d", 24 * 60), ("w", 7 * 24 * 60)]
        .into_iter()
        .find_map(|(unit, times)| Some((raw.strip_suffix(unit)?, times)))
        .unwrap_or((&raw, 1));
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u32>().ok()?.checked_mul(times)
}

fn wait_for(field: &Field<'_, '_>, report: &mut Report) {
    let Some(raw) = field.text(report) else {
        return;
    };
    // Nobody is logged in to a node here, so both mean the same.
    if !["jobs", "jobs_and_ssh"].contains(&raw.to_ascii_lowercase().as_str()) {
        field.wrong(
            report,
            "only `jobs` is possible here: a cluster with a running job is not idle",
        );
    }
}

fn infra(field: &Field<'_, '_>, report: &mut Report) {
    let Some(raw) = field.text(report) else {
        return;
    };
    if !["local", "*"].contains(&raw) {
        field.wrong(
            report,
            "everything runs on this machine; remove it, or write `local`",
        );
    }
}

fn job_recovery(field: &Field<'_, '_>, report: &mut Report) -> u32 {
    if !matches!(field.node.value, Value::Map(_)) {
        strategy(field, report);
        return 0;
    }
    let mut restarts = 0;
    for (key, entry) in field.entries(report) {
        if entry.is_nothing() && RECOVERY.here.contains(&key) {
            continue;
        }
        match key {
            "strategy" => strategy(&entry, report),
            "max_restarts_on_errors" => restarts = entry.whole(0, report).unwrap_or_default(),
            _ => RECOVERY.refuse(key, &entry, report),
        }
    }
    restarts
}

/// The strategies say where to try next; there is only here, so that all of them mean the same.
fn strategy(field: &Field<'_, '_>, report: &mut Report) {
    const STRATEGIES: [&str; 3] = ["FAILOVER", "EAGER_NEXT_REGION", "NONE"];
    let Some(raw) = field.text(report) else {
        return;
    };
    if STRATEGIES.contains(&raw.to_ascii_uppercase().as_str()) {
        return;
    }
    let message = match nearest(raw, STRATEGIES) {
        Some(near) => format!("there is no such strategy; did you mean `{near}`?"),
        None => "there is no such strategy; there are FAILOVER and EAGER_NEXT_REGION".to_owned(),
    };
    field.wrong(report, message);
}

fn labels(field: &Field<'_, '_>, report: &mut Report) {
    for (_, entry) in field.entries(report) {
        entry.text(report);
    }
}
