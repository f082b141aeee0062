//! The chain of hashes: what makes a changed entry show. Pure.

use sha2::{Digest as _, Sha256};
use skytower_api_client::rest::{AuditBreak, AuditHead};

/// SHA-256 of an entry and, by the hash before it, of all entries before it.
pub type Hash = [u8; 32];

/// Of another purpose than any other hash that is made of such fields.
const PURPOSE: &[u8] = b"skytower audit 1\0";

/// A place in the chain: an entry's number and its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The entry's number; 0 before the first one.
    pub seq: i64,
    /// Its hash.
    pub hash: Hash,
}

/// An entry as it stands in the database, read as it is: what is made harmless for the eye could hide a
/// change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: i64,
    pub(super) at: i64,
    pub(super) words: [Vec<u8>; 10],
    pub(super) previous: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Entries before it are missing, or it is one too many.
    Number {
        /// The number that had to follow.
        expected: i64,
    },
    /// It does not follow the entry before it.
    Previous,
    /// It is not as it was written.
    Changed,
}

/// The first entry that is not in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number.
    pub seq: i64,
    /// What is wrong.
    pub fault: Fault,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seq = self.seq;
        match self.fault {
            Fault::Number { expected } if seq > expected => {
                write!(f, "entries {expected} to {} are missing", seq - 1)
            }
            Fault::Number { expected } => {
                write!(f, "entry {seq} stands where {expected} had to follow")
            }
            Fault::Previous => write!(f, "entry {seq} does not follow the one before it"),
            Fault::Changed => write!(f, "entry {seq} is not as it was written"),
        }
    }
}

/// The hash of an entry. Fields stand with their lengths, so that no two entries have the same bytes.
pub(super) fn hash<W: AsRef<[u8]>>(previous: &Hash, seq: i64, at: i64, words: &[W; 10]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(PURPOSE);
    hasher.update(previous);
    hasher.update(seq.to_be_bytes());
    hasher.update(at.to_be_bytes());
    for word in words {
        let word = word.as_ref();
        hasher.update((word.len() as u64).to_be_bytes());
        hasher.update(word);
    }
    hasher.finalize().into()
}

/// Follows the chain by one entry.
pub(super) fn follow(at: &Head, link: &Link) -> Result<Head, Broken> {
    let broken = |fault| Broken {
        seq: link.seq,
        fault,
    };
    let expected = at.seq + 1;
    if link.seq != expected {
        return Err(broken(Fault::Number { expected }));
    }
    if link.previous != at.hash {
        return Err(broken(Fault::Previous));
    }
    let hash = hash(&at.hash, link.seq, link.at, &link.words);
    if link.hash != hash {
        return Err(broken(Fault::Changed));
    }
    Ok(Head {
        seq: link.seq,
        hash,
    })
}

/// Follows the chain from `anchor`. Where it breaks: the last entry in order, and what is wrong with the
/// next one.
pub(super) fn verify<E>(
    anchor: Head,
    links: impl Iterator<Item = Result<Link, E>>,
) -> Result<Result<Head, (Head, Broken)>, E> {
    let mut at = anchor;
    for link in links {
        match follow(&at, &link?) {
            Ok(next) => at = next,
            Err(broken) => return Ok(Err((at, broken))),
        }
    }
    Ok(Ok(at))
}

/// A hash for people.
pub(super) fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(hash.len() * 2);
    for byte in hash {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

impl From<Head> for AuditHead {
    fn from(head: Head) -> Self {
        Self {
            seq: head.seq,
            hash: hex(&head.hash).into(),
        }
    }
}

impl From<Broken> for AuditBreak {
    fn from(broken: Broken) -> Self {
        Self {
            seq: broken.seq,
            why: broken.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    type Raw = (i64, [Vec<u8>; 10]);

    fn chained(entries: &[Raw]) -> Vec<Link> {
        let mut at = Head::default();
        let link = |(moment, words): &Raw| {
            let (seq, previous) = (at.seq + 1, at.hash);
            let hash = hash(&previous, seq, *moment, words);
            at = Head { seq, hash };
            Link {
                seq,
                at: *moment,
                words: words.clone(),
                previous: previous.to_vec(),
                hash: hash.to_vec(),
            }
        };
        entries.iter().map(link).collect()
    }

    fn verdict(anchor: Head, links: &[Link]) -> Result<Head, (Head, Broken)> {
        let links = links.iter().cloned().map(Ok::<_, Infallible>);
        let Ok(verdict) = verify(anchor, links);
        verdict
    }

    fn head_of(link: &Link) -> Head {
        Head {
            seq: link.seq,
            hash: link.hash.clone().try_into().unwrap(),
        }
    }

    fn entries() -> impl Strategy<Value = Vec<Raw>> {
        // Few letters, so that entries resemble each other and fields could be taken for one another.
        let word = proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0)], 0..4);
        let words = proptest::collection::vec(word, 10).prop_map(|words| words.try_into().unwrap());
        proptest::collection::vec((0..3i64, words), 2..12)
    }

    #[derive(Clone, Debug)]
    enum Harm {
        Word(usize, usize, Vec<u8>),
        Moment(usize),
        Number(usize, i64),
        Hash(usize, usize),
        Previous(usize, usize),
        Delete(usize),
        Swap(usize, usize),
        Double(usize),
        /// What is in one field moves to the next, so that the bytes of all together stay the same.
        Shift(usize, usize),
    }

    fn harms() -> impl Strategy<Value = Harm> {
        let n = || any::<prop::sample::Index>().prop_map(|index| index.index(1000));
        prop_oneof![
            (
                n(),
                0..10usize,
                proptest::collection::vec(any::<u8>(), 0..4)
            )
                .prop_map(|(i, word, to)| Harm::Word(i, word, to)),
            n().prop_map(Harm::Moment),
            (n(), -2..3i64).prop_map(|(i, by)| Harm::Number(i, by)),
            (n(), 0..32usize).prop_map(|(i, byte)| Harm::Hash(i, byte)),
            (n(), 0..32usize).prop_map(|(i, byte)| Harm::Previous(i, byte)),
            n().prop_map(Harm::Delete),
            (n(), n()).prop_map(|(i, j)| Harm::Swap(i, j)),
            n().prop_map(Harm::Double),
            (n(), 0..9usize).prop_map(|(i, word)| Harm::Shift(i, word)),
        ]
    }

    fn harm(links: &mut Vec<Link>, harm: Harm) {
        let n = links.len();
        match harm {
            Harm::Word(i, word, to) => links[i % n].words[word] = to,
            Harm::Moment(i) => links[i % n].at += 1,
            Harm::Number(i, by) => links[i % n].seq += by,
            Harm::Hash(i, byte) => links[i % n].hash[byte] ^= 1,
            Harm::Previous(i, byte) => links[i % n].previous[byte] ^= 1,
            Harm::Delete(i) => drop(links.remove(i % n)),
            Harm::Swap(i, j) => links.swap(i % n, j % n),
            Harm::Double(i) => {
                let again = links[i % n].clone();
                links.insert(i % n, again);
            }
            Harm::Shift(i, word) => {
                let words = &mut links[i % n].words;
                if let Some(moved) = words[word].pop() {
                    words[word + 1].insert(0, moved);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_single_change_deletion_swap_or_insertion_is_found(
            entries in entries(),
            what in harms(),
        ) {
            let written = chained(&entries);
            let known = head_of(written.last().unwrap());
            prop_assert_eq!(verdict(Head::default(), &written), Ok(known));
            let mut found = written.clone();
            harm(&mut found, what);
            if found == written {
                return Ok(());
            }
            let differs = |i: &usize| found.get(*i) != written.get(*i);
            let first = (0..=written.len()).find(differs).unwrap();
            match verdict(Head::default(), &found) {
                // Only what was taken from the end leaves a whole chain, which ends before the head that
                // is known elsewhere.
                Ok(head) => {
                    prop_assert_eq!(&found[..], &written[..found.len()]);
                    prop_assert_ne!(head, known);
                }
                Err((good, broken)) => {
                    prop_assert_eq!(good.seq, first as i64);
                    prop_assert_eq!(broken.seq, found[first].seq);
                }
            }
        }

        #[test]
        fn what_is_left_after_forgetting_can_be_verified(entries in entries(), cut in any::<prop::sample::Index>()) {
            let written = chained(&entries);
            let cut = cut.index(written.len());
            let anchor = head_of(&written[cut]);
            let known = head_of(written.last().unwrap());
            prop_assert_eq!(verdict(anchor, &written[cut + 1..]), Ok(known));
            // Another anchor does not fit.
            let other = Head { hash: [7; 32], ..anchor };
            prop_assert_eq!(verdict(other, &written[cut + 1..]).is_err(), cut + 1 < written.len());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let words = std::array::from_fn(|_| b"x".to_vec());
        let written = chained(&[(1, words.clone()), (2, words.clone()), (3, words)]);
        let said = |links: &[Link]| {
            let (_, broken) = verdict(Head::default(), links).unwrap_err();
            broken.to_string()
        };
        let gap = [written[0].clone(), written[2].clone()];
        assert_eq!(said(&gap), "entries 2 to 2 are missing");
        let twice = [written[0].clone(), written[0].clone()];
        assert_eq!(said(&twice), "entry 1 stands where 2 had to follow");
        let mut changed = written.clone();
        changed[1].words[0] = b"y".to_vec();
        assert_eq!(said(&changed), "entry 2 is not as it was written");
        let mut forged = written;
        forged[1].previous = vec![1; 32];
        assert_eq!(said(&forged), "entry 2 does not follow the one before it");
    }
}
