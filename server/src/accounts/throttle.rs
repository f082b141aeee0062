//! How fast passwords may be tried.
//!
//! Each name and each address has a bucket that only failures fill. One that is full gives a slot every
//! five seconds, whatever is thrown at it: attempts wait for theirs, or are told when to come again. Nobody
//! is ever locked out for good.
//!
//! An attacker with many addresses would take every slot of a name, and leave none to its owner. That cannot
//! be told apart by the name, so it is by where an attempt comes from. The bucket of a name does not hold an
//!
//! - address from which that user has signed in before, nor an
//! - address that has not had its free attempt: each has one in half an hour.
//!
//! Both are held by the bucket of their address alone. Per name, the attempts of one minute are then at most
//! twelve, after the first few, and one for each address that tried nothing for half an hour; of those there
//! are at most [`MAX_SPENT`] in that time, for all names together.
//!
//! A bucket knows of failures when they are known. What is under way at once before it is full is bounded by
//! [`super::Passwords`], not here.

mod bucket;
mod places;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use bucket::{Bucket, Buckets};
use places::{Known, Spent};

pub use places::MAX_SPENT;

/// The most names, and the most addresses, of which something is remembered.
pub const MAX_ENTRIES: usize = 4096;
/// So much of a name tells names apart; no user has a longer one.
const MAX_NAME: usize = 64;

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may be made.
    Now,
    /// It may be made after that time. Its slot is taken.
    Wait(Duration),
    /// It may not be made.
    Refused {
        /// After that time it is worth asking again: never more than a few seconds.
        retry_after: Duration,
    },
}

/// What is remembered of attempts to sign in. Times are since a beginning that the caller chooses, and never
/// run backwards.
#[derive(Default)]
pub struct Throttle {
    names: Buckets<String>,
    addresses: Buckets<Place>,
    known: Known,
    spent: Spent,
}

/// Without the names: people type passwords where names belong.
impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (names, addresses) = self.entries();
        f.debug_struct("Throttle")
            .field("names", &names)
            .field("addresses", &addresses)
            .finish_non_exhaustive()
    }
}

impl Throttle {
    /// May the password of `name` be tried from `address`.
    ///
    /// To be followed by [`Throttle::failed`] or [`Throttle::succeeded`] once the password was looked at, or by
    /// [`Throttle::withdrawn`] when it was not. Who goes away in between has used his attempt.
    pub fn ask(&mut self, name: &str, address: IpAddr, now: Duration) -> Admission {
        let (name, place) = (folded(name), Place::of(address));
        let is_known = self.known.contains(&name, place);
        let is_held = !is_known && self.spent.contains(place, now);
        let by_name = self.names.get(&name).filter(|_| is_held);
        let mut buckets: Vec<&mut Bucket> = self
            .addresses
            .get(&place)
            .into_iter()
            .chain(by_name)
            .collect();
        let slot = buckets
            .iter()
            .map(|bucket| bucket.slot(now))
            .fold(now, Duration::max);
        let wait = slot.saturating_sub(now);
        if wait > bucket::PATIENCE {
            return Admission::Refused {
                retry_after: wait.saturating_sub(bucket::PATIENCE),
            };
        }
        // Who signed in from there before is most likely right, and has many connections: the
        // slot is paid for when it was wrong.
        if !is_known {
            for bucket in &mut buckets {
                bucket.take(slot, now);
            }
            self.spent.spend(place, now);
        }
        if wait.is_zero() {
            Admission::Now
        } else {
            Admission::Wait(wait)
        }
    }

    /// The password was wrong, or there is no such user.
    pub fn failed(&mut self, name: &str, address: IpAddr, now: Duration) {
        let (name, place) = (folded(name), Place::of(address));
        let is_known = self.known.contains(&name, place);
        let bucket = self.addresses.fail(place, now);
        if is_known {
            bucket.take(bucket.slot(now), now);
        }
        self.names.fail(name, now);
        self.spent.failed(place, now);
    }

    /// The password was right. Forgives no failure: who has one account could otherwise try others for ever.
    pub fn succeeded(&mut self, name: &str, address: IpAddr, now: Duration) {
        let (name, place) = (folded(name), Place::of(address));
        self.settle(&name, place);
        self.known.add(name, place, now);
    }

    /// Nobody has looked at the password, because there was too much to do: nothing was learned from it.
    pub fn withdrawn(&mut self, name: &str, address: IpAddr) {
        self.settle(&folded(name), Place::of(address));
    }

    fn settle(&mut self, name: &str, place: Place) {
        let by_address = self.addresses.get(&place);
        for bucket in by_address.into_iter().chain(self.names.get(name)) {
            bucket.settle();
        }
        self.spent.give_back(place);
    }

    /// Of how many names and addresses something is remembered: for the metrics.
    pub fn entries(&self) -> (usize, usize) {
        (self.names.len(), self.addresses.len())
    }
}

/// Where an attempt comes from. In IPv6 whoever has one address has the 64 bits below as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl Place {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Names as they were typed, of whatever length and whether there is such a user or not.
fn folded(name: &str) -> String {
    name.chars()
        .take(MAX_NAME)
        .flat_map(char::to_lowercase)
        .collect()
}
