//! One entry, before it has its place in the chain.

use std::fmt::Write as _;
use std::net::IpAddr;

use skytower_api_client::wire::Role;
use skytower_api_client::{EpochMs, Text};

use crate::guest::Asker;

/// The longest names, and words like an action, in bytes.
const NAME: usize = 128;
/// The longest list of targets, and the longest sentence, in bytes.
const SENTENCE: usize = 1000;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is going to be done.
    Accepted,
    /// It was done.
    Succeeded,
    /// Some of it was done.
    Partly,
    /// It was tried in vain.
    Failed,
    /// It was not allowed, or not possible: nothing was done.
    Refused,
    /// It was withdrawn.
    Cancelled,
    /// It cannot be known.
    Unknown,
}

impl Outcome {
    /// The word that is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Succeeded => "succeeded",
            Self::Partly => "partly",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

/// What is to be written: one line each, of bounded length, whatever it came from. Nothing in it is
/// taken from what a client says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) at: EpochMs,
    pub(super) actor: Text,
    pub(super) actor_name: Text,
    pub(super) role: Text,
    pub(super) proof: Text,
    pub(super) address: Text,
    pub(super) action: Text,
    pub(super) target: Text,
    pub(super) request: Text,
    pub(super) outcome: Outcome,
    pub(super) detail: Text,
}

impl Entry {
    /// Something that the server did, or found.
    pub fn server(action: &str, outcome: Outcome) -> Self {
        Self {
            at: EpochMs::now(),
            actor: Text::default(),
            actor_name: Text::default(),
            role: Text::default(),
            proof: Text::default(),
            address: Text::default(),
            action: bounded(action, NAME),
            target: Text::default(),
            request: Text::default(),
            outcome,
            detail: Text::default(),
        }
    }

    /// Something that somebody did who was let in.
    pub fn by(asker: &Asker, action: &str, outcome: Outcome) -> Self {
        let caller = &asker.caller;
        Self {
            proof: bounded(&asker.proof, NAME),
            ..Self::server(action, outcome)
                .actor(caller.ids.first().unwrap_or(&caller.name), &caller.name)
                .role(caller.role)
                .from(asker.address)
        }
    }

    /// Something that somebody did who was not let in (yet).
    pub fn stranger(address: Option<IpAddr>, action: &str, outcome: Outcome) -> Self {
        Self::server(action, outcome).from(address)
    }

    /// Who it was, or said to be.
    #[must_use]
    pub fn actor(mut self, id: &str, name: &str) -> Self {
        self.actor = bounded(id, NAME);
        self.actor_name = bounded(name, NAME);
        self
    }

    /// The role they had.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = role.word().into();
        self
    }

    /// To what it was done.
    #[must_use]
    pub fn target(mut self, target: &str) -> Self {
        self.target = bounded(target, SENTENCE);
        self
    }

    /// The request that it is about.
    #[must_use]
    pub fn request(mut self, id: impl std::fmt::Display) -> Self {
        self.request = bounded(&id.to_string(), NAME);
        self
    }

    /// A sentence about it. Never a body, which may hold secrets.
    #[must_use]
    pub fn detail(mut self, detail: &str) -> Self {
        self.detail = bounded(detail, SENTENCE);
        self
    }

    fn from(mut self, address: Option<IpAddr>) -> Self {
        self.address = address.map_or_else(Text::default, |it| it.to_string().into());
        self
    }

    /// The words of it, in the order in which they are written and hashed.
    pub(super) fn words(&self) -> [&str; 10] {
        [
            &self.actor,
            &self.actor_name,
            &self.role,
            &self.proof,
            &self.address,
            &self.action,
            &self.target,
            &self.request,
            self.outcome.word(),
            &self.detail,
        ]
    }
}

/// One line of at most so many bytes.
fn bounded(raw: &str, most: usize) -> Text {
    const MORE: &str = "…";
    // Looked at no further than it can count: it may be long, and may become shorter or longer when it
    // is made harmless.
    let head = &raw[..raw.floor_char_boundary(most.saturating_mul(2))];
    let line = Text::from(head);
    if line.len() <= most && head.len() == raw.len() {
        return line;
    }
    let cut = line.floor_char_boundary(most - MORE.len());
    Text::from(format!("{}{MORE}", &line[..cut]))
}

/// Names in one line: as many as there is room for, and how many more there are. Whose a thing is stands
/// with those that belong to others.
pub fn naming<'a>(things: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> String {
    /// Leaves room for the number of those that are left out.
    const ROOM: usize = SENTENCE - 40;
    let mut line = String::new();
    let mut more = 0;
    for (name, owner) in things {
        let owned = owner.map_or_else(String::new, |owner| format!(" of {owner}"));
        let first = line.is_empty();
        if more > 0 || !first && line.len() + name.len() + owned.len() + 2 > ROOM {
            more += 1;
            continue;
        }
        line.push_str(if first { "" } else { ", " });
        line.push_str(name);
        line.push_str(&owned);
    }
    if more > 0 {
        // Writing to a string does not fail.
        let _ = write!(line, " and {more} more");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skytower_api_client::wire::Caller;

    #[test]
    fn whatever_it_is_called_an_entry_is_one_line() {
        let caller = Caller {
            name: "eve\r\n2026 admin deleted everything\u{1b}[2J".into(),
            ..Caller::default()
        };
        let entry = Entry::by(&Asker::local(caller), "a\nb\u{202e}", Outcome::Refused)
            .target("x\r\ny\u{7}")
            .request("1\n2")
            .detail("\u{1b}]0;title\u{7}why\n\n");
        for words in entry.words() {
            let hostile = |c: char| c.is_control() || c == '\u{202e}' || c == '\u{1b}';
            assert!(!words.contains(hostile), "{words:?}");
        }
        assert_eq!(entry.action.as_str(), "a b\u{fffd}");
    }

    #[test]
    fn many_targets_are_counted() {
        let many: Vec<String> = (0..500).map(|i| format!("cluster/c{i}")).collect();
        let line = naming(many.iter().map(|name| (name.as_str(), Some("bob"))));
        assert!(line.starts_with("cluster/c0 of bob, cluster/c1 of bob, "));
        assert!(line.ends_with(" more") && line.len() <= SENTENCE);
        let named = line.matches("cluster/").count();
        let more: usize = line.split(' ').rev().nth(1).unwrap().parse().unwrap();
        assert_eq!(named + more, 500);
        assert_eq!(naming([("job/1", None)].into_iter()), "job/1");
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_it_may_be(raw in "\\PC{0,400}|[\\x00-\\x1f]{0,400}|(é|😀){0,200}") {
            let text = bounded(&raw, NAME);
            prop_assert!(text.len() <= NAME);
            prop_assert!(!text.contains(char::is_control));
            if raw.len() <= NAME / 3 {
                prop_assert_eq!(text, Text::from(raw));
            }
        }
    }
}
