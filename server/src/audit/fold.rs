//! Equal notes within a minute become one entry that counts them, so that a flood fills no disk. Pure.

use std::collections::HashMap;

use skytower_api_client::{EpochMs, Text};

use super::entry::{Entry, Outcome, naming};

/// For how long equal notes are counted.
pub(super) const WINDOW_MS: i64 = 60_000;
/// How many different notes are told apart within that time: a bound on what strangers can have written.
const DIFFERENT: usize = 128;
/// How many of their targets are named.
const NAMED: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Same {
    action: Text,
    outcome: Outcome,
    actor: Text,
    address: Text,
}

#[derive(Debug)]
struct Window {
    until: EpochMs,
    more: u64,
    /// The last one that was not written by itself.
    last: Option<Entry>,
    targets: Vec<Text>,
}

/// What was noted in the last minute.
#[derive(Debug, Default)]
pub(super) struct Fold {
    windows: HashMap<Same, Window>,
}

/// What is to be done with a note.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is the first of its like: write it.
    Write(Entry),
    /// It is counted, and told of later.
    Counted,
    /// Too many different ones: it is lost but for its number.
    Dropped,
}

impl Fold {
    /// Takes a note.
    pub(super) fn offer(&mut self, entry: Entry, now: EpochMs) -> Offered {
        let same = Same {
            action: entry.action.clone(),
            outcome: entry.outcome,
            actor: entry.actor.clone(),
            address: entry.address.clone(),
        };
        if let Some(window) = self.windows.get_mut(&same) {
            window.more += 1;
            if window.targets.len() < NAMED
                && !entry.target.is_empty()
                && !window.targets.contains(&entry.target)
            {
                window.targets.push(entry.target.clone());
            }
            window.last = Some(entry);
            return Offered::Counted;
        }
        if self.windows.len() >= DIFFERENT {
            return Offered::Dropped;
        }
        let window = Window {
            until: EpochMs(now.0 + WINDOW_MS),
            more: 0,
            last: None,
            targets: Vec::new(),
        };
        self.windows.insert(same, window);
        Offered::Write(entry)
    }

    /// When there may be something to tell.
    pub(super) fn next(&self) -> Option<EpochMs> {
        self.windows.values().map(|window| window.until).min()
    }

    /// What was counted until now, as one entry each.
    pub(super) fn due(&mut self, now: EpochMs) -> Vec<Entry> {
        let mut due = Vec::new();
        self.windows.retain(|_, window| {
            // Also when the clock was set back meanwhile.
            let over = now >= window.until || window.until.since(now) > WINDOW_MS;
            if over && let Some(last) = window.last.take() {
                due.push(told(last, window));
            }
            !over
        });
        // Oldest first, as they happened.
        due.sort_by_key(|entry| entry.at);
        due
    }

    /// Everything that was counted: nothing comes any more.
    pub(super) fn end(&mut self) -> Vec<Entry> {
        self.due(EpochMs(i64::MAX))
    }
}

fn told(last: Entry, window: &Window) -> Entry {
    let targets = naming(window.targets.iter().map(|target| (target.as_str(), None)));
    let times = match window.more {
        1 => "once more".to_owned(),
        more => format!("{more} times more"),
    };
    let detail = if last.detail.is_empty() {
        format!("{times} within a minute")
    } else {
        format!("{times} within a minute; the last: {}", last.detail)
    };
    last.target(&targets).detail(&detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(action: &str, actor: &str) -> Entry {
        Entry::stranger(None, action, Outcome::Refused)
            .actor(actor, actor)
            .detail("the password is wrong")
    }

    #[test]
    fn a_flood_of_equal_notes_is_two_entries() {
        let mut fold = Fold::default();
        let first = note("sign_in", "eve");
        let at = EpochMs(1_000_000);
        assert_eq!(fold.offer(first.clone(), at), Offered::Write(first));
        for n in 0..5000 {
            let again = note("sign_in", "eve").target(&format!("door {}", n % 50));
            assert_eq!(fold.offer(again, EpochMs(at.0 + n)), Offered::Counted);
        }
        assert!(matches!(
            fold.offer(note("sign_in", "bob"), at),
            Offered::Write(_)
        ));
        assert_eq!(fold.due(EpochMs(at.0 + WINDOW_MS - 1)), []);
        assert_eq!(fold.next(), Some(EpochMs(at.0 + WINDOW_MS)));
        let due = fold.due(EpochMs(at.0 + WINDOW_MS));
        assert_eq!(due.len(), 1, "{due:?}");
        assert_eq!(
            due[0].detail.as_str(),
            "5000 times more within a minute; the last: the password is wrong"
        );
        assert!(due[0].target.starts_with("door 0, door 1, "));
        // The next one begins anew.
        assert!(fold.next().is_none());
        assert!(matches!(
            fold.offer(note("sign_in", "eve"), EpochMs(at.0 + WINDOW_MS)),
            Offered::Write(_)
        ));
    }

    #[test]
    fn there_is_a_bound_on_what_strangers_can_have_written() {
        let mut fold = Fold::default();
        let at = EpochMs(0);
        let mut written = 0;
        for n in 0..10_000 {
            for _ in 0..2 {
                let offered = fold.offer(note("sign_in", &format!("eve{n}")), at);
                written += usize::from(matches!(offered, Offered::Write(_)));
            }
        }
        written += fold.end().len();
        assert_eq!(written, 2 * DIFFERENT);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut fold = Fold::default();
        fold.offer(note("sign_in", "eve"), EpochMs(10_000_000));
        fold.offer(note("sign_in", "eve"), EpochMs(10_000_000));
        assert_eq!(fold.due(EpochMs(5)).len(), 1);
    }
}
