//! What a list said the last time, so that only what changed is decoded, and what is missing is noticed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use skytower_api_client::{Key, Text};
use xxhash_rust::xxh3::xxh3_64;

use crate::source::skypilot::client::CallError;

/// The records of an answer's list, not decoded.
pub(super) fn records<'a>(
    path: &str,
    answer: &'a RawValue,
) -> Result<Vec<&'a RawValue>, CallError> {
    records_in(path, answer.get())
}

/// As [`records`], of an answer that nobody has looked into.
pub(super) fn records_in<'a>(path: &str, text: &'a str) -> Result<Vec<&'a RawValue>, CallError> {
    // Older peers answer the jobs' list bare.
    #[derive(Deserialize)]
    struct Jobs<'a> {
        #[serde(borrow)]
        jobs: Vec<&'a RawValue>,
    }
    let list = if text.trim_start().starts_with('{') {
        serde_json::from_str::<Jobs<'a>>(text).map(|answer| answer.jobs)
    } else {
        serde_json::from_str(text)
    };
    list.map_err(|_| CallError::Malformed {
        path: path.into(),
        reason: "it is not a list".into(),
    })
}

/// What was read, and what it amounts to.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// New or changed rows.
    pub(super) changed: Vec<T>,
    /// The keys of all rows in the answer.
    pub(super) present: Arc<HashSet<Key>>,
    /// Records that could not be read, and why the first could not.
    pub(super) malformed: usize,
    reason: Option<Text>,
}

impl<T> Reading<T> {
    /// What to tell people about records that could not be read.
    pub(super) fn note(&self) -> Option<Text> {
        let reason = self.reason.as_ref()?;
        Some(
            format!(
                "{} of SkyPilot's records could not be read ({reason}); their last state is shown",
                self.malformed
            )
            .into(),
        )
    }
}

/// The memory of one list.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Hash of a record's text to its key.
    seen: HashMap<u64, Key>,
    /// The keys of all rows in the last answer.
    present: Arc<HashSet<Key>>,
    /// The mark of the last answer, when all of it could be read.
    mark: Option<u64>,
    /// Rows that were missing the last time and not believed to be gone.
    doubted: BTreeSet<Key>,
}

impl Ledger {
    /// Reads an answer's records. Those whose text is the same as the last time are not decoded.
    pub(super) fn read<T>(
        &mut self,
        records: &[&RawValue],
        mut decode: impl FnMut(&RawValue) -> Result<(Key, T), Text>,
    ) -> Reading<T> {
        let mut seen = HashMap::with_capacity(records.len());
        let mut present = HashSet::with_capacity(records.len());
        let mut reading = Reading {
            changed: Vec::new(),
            present: Arc::default(),
            malformed: 0,
            reason: None,
        };
        for record in records {
            let hash = xxh3_64(record.get().as_bytes());
            let key = if let Some(key) = self.seen.get(&hash) {
                key.clone()
            } else {
                match decode(record) {
                    Ok((key, row)) => {
                        reading.changed.push(row);
                        key
                    }
                    Err(reason) => {
                        reading.malformed += 1;
                        reading.reason.get_or_insert(reason);
                        continue;
                    }
                }
            };
            present.insert(key.clone());
            seen.insert(hash, key);
        }
        self.seen = seen;
        self.mark = None;
        self.present = Arc::new(present);
        reading.present = self.present.clone();
        reading
    }

    /// Remembers the mark of the answer that `reading` was read from.
    pub(super) fn mark<T>(&mut self, mark: u64, reading: &Reading<T>) {
        self.mark = (reading.malformed == 0).then_some(mark);
    }

    /// The mark of the last answer: one with the same says nothing new.
    pub(super) fn known(&self) -> Option<u64> {
        self.mark
    }

    /// Reads the last answer again, which is the present one too.
    pub(super) fn unchanged<T>(&self) -> Reading<T> {
        Reading {
            changed: Vec::new(),
            present: self.present.clone(),
            malformed: 0,
            reason: None,
        }
    }

    /// Which of the rows `there` that an answer did not name are gone. An answer with unreadable
    /// records proves nothing. One that lost everything, or more than half, is believed when the next
    /// says so too: the second value asks for that.
    pub(super) fn gone<T>(&mut self, there: &[Key], reading: &Reading<T>) -> (Vec<Key>, bool) {
        let missing: BTreeSet<Key> = there
            .iter()
            .filter(|key| !reading.present.contains(*key))
            .cloned()
            .collect();
        if missing.is_empty() || reading.malformed > 0 {
            self.doubted.clear();
            return (Vec::new(), false);
        }
        let suspicious = reading.present.is_empty() || missing.len() * 2 > there.len();
        if !suspicious {
            self.doubted.clear();
            return (missing.into_iter().collect(), false);
        }
        let (gone, doubted): (BTreeSet<Key>, BTreeSet<Key>) = missing
            .into_iter()
            .partition(|key| self.doubted.contains(key));
        self.doubted = doubted;
        (gone.into_iter().collect(), !self.doubted.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::Kind;

    fn key(id: &str) -> Key {
        Key::new("s", Kind::Cluster, id)
    }

    fn read(ledger: &mut Ledger, list: &str) -> Reading<String> {
        let raw = RawValue::from_string(list.to_owned()).unwrap();
        ledger.read(&records("/x", &raw).unwrap(), |record| {
            let id: String = serde_json::from_str(record.get()).map_err(|_| "no name")?;
            Ok((key(&id), id))
        })
    }

    #[test]
    fn only_what_changed_is_decoded() {
        let mut ledger = Ledger::default();
        assert_eq!(read(&mut ledger, r#"["a","b"]"#).changed, ["a", "b"]);
        let again = read(&mut ledger, r#"["a","c"]"#);
        assert_eq!(again.changed, ["c"]);
        assert_eq!(again.present.len(), 2);
    }

    #[test]
    fn an_answer_is_known_again_only_when_all_of_it_could_be_read() {
        let mut ledger = Ledger::default();
        let whole = read(&mut ledger, r#"["a","b"]"#);
        ledger.mark(7, &whole);
        assert_eq!(ledger.known(), Some(7));
        assert_eq!(ledger.unchanged::<String>().present, whole.present);
        let partial = read(&mut ledger, r#"["a",{}]"#);
        ledger.mark(8, &partial);
        assert_eq!(ledger.known(), None);
    }

    #[test]
    fn a_list_that_shrank_to_nothing_is_believed_the_second_time() {
        let mut ledger = Ledger::default();
        let there = [key("a"), key("b")];
        let empty = read(&mut ledger, "[]");
        assert_eq!(ledger.gone(&there, &empty), (vec![], true));
        assert_eq!(ledger.gone(&there, &empty), (there.to_vec(), false));
    }

    #[test]
    fn one_of_several_is_believed_at_once_and_unreadable_records_prove_nothing() {
        let mut ledger = Ledger::default();
        let there = [key("a"), key("b"), key("c")];
        let shorter = read(&mut ledger, r#"["a","b"]"#);
        assert_eq!(ledger.gone(&there, &shorter), (vec![key("c")], false));
        let partial = read(&mut ledger, r#"["a",{}]"#);
        assert_eq!(partial.malformed, 1);
        assert!(partial.note().unwrap().contains("no name"));
        assert_eq!(ledger.gone(&there, &partial), (vec![], false));
    }

    #[test]
    fn the_list_may_be_bare_or_wrapped_and_nothing_else() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        assert_eq!(records("/x", &raw(r#"{"jobs":[1]}"#)).unwrap().len(), 1);
        assert_eq!(records("/x", &raw("[1,2]")).unwrap().len(), 2);
        assert!(records("/x", &raw("null")).is_err());
        assert!(records("/x", &raw(r#"{"detail":"x"}"#)).is_err());
    }
}
