//! Cells written out, and their order.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::{Context, Value};
use crate::human;
use crate::time::EpochMs;

/// The cell written out for people: ages and spans as in [`crate::human`], unknown as `-`.
pub fn text(value: &Value, context: &Context) -> String {
    let mut out = String::new();
    write_text(&mut out, value, context);
    out
}

/// As [`text`], into a string that is used again.
pub fn write_text(out: &mut String, value: &Value, context: &Context) {
    // Writing to a string cannot fail.
    let _ = match value {
        Value::None => out.write_char('-'),
        Value::Text(words) | Value::Status(_, words) => out.write_str(words),
        Value::Int(number) => write!(out, "{number}"),
        Value::Number(number) => write_number(out, *number),
        Value::Moment(at) => out.write_str(&human::age_of(*at, context.now)),
        Value::Clock(at) => out.write_str(&time_of_day(*at, context)),
        Value::Span(ms) => out.write_str(&human::age(*ms)),
        Value::Gigabytes(number) => write_number(out, *number).and_then(|()| out.write_char('G')),
        Value::Flag(true) => out.write_str("yes"),
        Value::Flag(false) => out.write_str("no"),
    };
}

fn write_number(out: &mut String, number: f64) -> std::fmt::Result {
    if number.fract() == 0.0 {
        write!(out, "{number:.0}")
    } else {
        write!(out, "{number:.1}")
    }
}

/// The time of day; with the day in front when that is not obvious.
fn time_of_day(at: EpochMs, context: &Context) -> String {
    const OBVIOUS_MS: i64 = 12 * 3600 * 1000;
    if context.now.since(at).abs() < OBVIOUS_MS {
        human::clock(at, context.utc)
    } else {
        human::day_time(at, context.utc)
    }
}

/// The order of two cells; unknown last whichever way the list is sorted (the caller reverses the rest).
///
/// Statuses by phase (what needs attention first), numbers as numbers, words in natural order
/// (`job-9` before `job-10`), moments by age: the youngest first.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::None, Value::None) => Ordering::Equal,
        (Value::None, _) => Ordering::Greater,
        (_, Value::None) => Ordering::Less,
        (Value::Status(phase_a, a), Value::Status(phase_b, b)) => {
            phase_a.cmp(phase_b).then_with(|| natural(a, b))
        }
        (Value::Moment(a) | Value::Clock(a), Value::Moment(b) | Value::Clock(b)) => b.cmp(a),
        (Value::Flag(a), Value::Flag(b)) => b.cmp(a),
        (Value::Int(a) | Value::Span(a), Value::Int(b) | Value::Span(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => natural(a, b),
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        },
    }
}

/// The number in a cell, or the one its words begin with.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Number(number) | Value::Gigabytes(number) => Some(*number),
        Value::Text(words) => leading_number(words),
        _ => None,
    }
}

/// The number that words begin with: 8 of `8×A100`, 4 of `4+`, 1 of `1/3`.
pub(crate) fn leading_number(words: &str) -> Option<f64> {
    let end = words
        .bytes()
        .position(|b| !(b.is_ascii_digit() || b == b'.'))
        .unwrap_or(words.len());
    words[..end].parse().ok()
}

/// Natural order: runs of digits as numbers, letters without regard to case (unless all else is equal).
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        match (left.first(), right.first()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (run_x, rest_x) = digits(left);
                let (run_y, rest_y) = digits(right);
                let order = run_x.len().cmp(&run_y.len()).then_with(|| run_x.cmp(run_y));
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (rest_x, rest_y);
            }
            (Some(x), Some(y)) => {
                let order = x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase());
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (&left[1..], &right[1..]);
            }
        }
    }
}

/// The run of digits in front without its zeros, and the rest.
fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(bytes.len());
    let (run, rest) = bytes.split_at(end);
    let zeros = run.iter().position(|b| *b != b'0').unwrap_or(run.len());
    (&run[zeros..], rest)
}
