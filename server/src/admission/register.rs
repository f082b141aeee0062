//! Who is inside at present, by the credentials that let them in.
//!
//! Each credential has one standing, which every request and open connection with it follows: what changes
//! in the accounts is worked out once for each credential, not once for each connection.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::guest::Standing;

/// So many credentials are remembered that nobody uses just now.
const IDLE_MOST: usize = 4096;

/// Standings by credential.
pub(super) struct Register<K>(Mutex<Entries<K>>);

struct Entries<K> {
    all: HashMap<K, watch::Sender<Standing>>,
    /// When there are so many, those that nobody uses are looked for.
    sweep_at: usize,
}

impl<K> Default for Register<K> {
    fn default() -> Self {
        Self(Mutex::new(Entries {
            all: HashMap::new(),
            sweep_at: IDLE_MOST,
        }))
    }
}

impl<K: Eq + Hash> Entries<K> {
    /// Where many are in use it is not looked again for each that comes.
    fn sweep(&mut self) {
        if self.all.len() >= self.sweep_at {
            self.all.retain(|_, sender| sender.receiver_count() > 0);
            self.sweep_at = IDLE_MOST + 2 * self.all.len();
        }
    }
}

impl<K: Eq + Hash + Clone> Register<K> {
    fn entries(&self) -> MutexGuard<'_, Entries<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standing of a credential, and whether it is new here. Only who is inside is remembered.
    pub(super) fn enter(
        &self,
        key: K,
        standing: impl FnOnce() -> Standing,
    ) -> (watch::Receiver<Standing>, bool) {
        let mut entries = self.entries();
        if let Some(sender) = entries.all.get(&key) {
            return (sender.subscribe(), false);
        }
        entries.sweep();
        let (sender, receiver) = watch::channel(standing());
        if matches!(&*receiver.borrow(), Standing::Inside(_)) {
            entries.all.insert(key, sender);
        }
        (receiver, true)
    }

    /// Works every standing out again. Who is out stays out: a credential that counts again is entered anew.
    pub(super) fn refresh(&self, work_out: impl Fn(&K) -> Standing) {
        self.entries().all.retain(|key, sender| {
            let next = work_out(key);
            let is_out = matches!(next, Standing::Out(_));
            sender.send_if_modified(|now| {
                let changed = *now != next;
                *now = next;
                changed
            });
            // Those who hold it have been told; nobody else is to find it.
            !is_out
        });
    }

    /// How many credentials are used by somebody just now.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        let entries = self.entries();
        entries
            .all
            .values()
            .filter(|sender| sender.receiver_count() > 0)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use skytower_api_client::wire::{Caller, Problem};

    use super::*;

    fn inside(name: &str) -> Standing {
        Standing::Inside(Caller {
            name: name.into(),
            ..Caller::default()
        })
    }

    #[test]
    fn a_credential_has_one_standing_that_all_who_use_it_follow() {
        let register = Register::default();
        let (mut first, new) = register.enter(1, || inside("al"));
        let (second, again) = register.enter(1, || unreachable!("it is known"));
        assert!(new && !again);
        register.refresh(|_| inside("al"));
        assert!(!first.has_changed().unwrap());
        register.refresh(|_| Standing::Out(Problem::new("not_signed_in", 401, "no more")));
        assert!(first.has_changed().unwrap_or(true));
        assert!(matches!(&*first.borrow_and_update(), Standing::Out(_)));
        assert!(matches!(&*second.borrow(), Standing::Out(_)));
        let (third, new) = register.enter(1, || inside("al"));
        assert!(new && matches!(&*third.borrow(), Standing::Inside(_)));
        assert_eq!(register.in_use(), 1);
    }

    #[test]
    fn what_nobody_uses_is_forgotten_in_time() {
        let register = Register::default();
        let (_held, _) = register.enter(0, || inside("al"));
        for key in 1..4 * IDLE_MOST {
            register.enter(key, || inside("x"));
            assert!(register.entries().all.len() <= IDLE_MOST + 2);
        }
        assert!(register.entries().all.contains_key(&0));
    }

    #[test]
    fn what_is_used_is_remembered_however_much_it_is() {
        let register = Register::default();
        let held: Vec<_> = (0..3 * IDLE_MOST)
            .map(|key| register.enter(key, || inside("al")).0)
            .collect();
        assert_eq!(register.in_use(), held.len());
        drop(held);
        for key in 3 * IDLE_MOST..20 * IDLE_MOST {
            register.enter(key, || inside("x"));
        }
        assert!(register.entries().all.len() <= IDLE_MOST + 1);
    }
}
