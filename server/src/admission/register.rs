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
pub(super) struct Register<K>(Mutex<HashMap<K, watch::Sender<Standing>>>);

impl<K> Default for Register<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Register<K> {
    fn entries(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<Standing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standing of a credential, and whether it is new here. Only who is inside is remembered.
    pub(super) fn enter(
        &self,
        key: K,
        standing: impl FnOnce() -> Standing,
    ) -> (watch::Receiver<Standing>, bool) {
        let mut entries = self.entries();
        if let Some(sender) = entries.get(&key) {
            return (sender.subscribe(), false);
        }
        if entries.len() >= IDLE_MOST {
            entries.retain(|_, sender| sender.receiver_count() > 0);
        }
        let (sender, receiver) = watch::channel(standing());
        if matches!(&*receiver.borrow(), Standing::Inside(_)) {
            entries.insert(key, sender);
        }
        (receiver, true)
    }

    /// Works every standing out again. Who is out stays out: a credential that counts again is entered anew.
    pub(super) fn refresh(&self, work_out: impl Fn(&K) -> Standing) {
        self.entries().retain(|key, sender| {
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
        for key in 1..2 * IDLE_MOST {
            register.enter(key, || inside("x"));
        }
        assert!(register.entries().len() <= IDLE_MOST + 1);
        assert!(register.entries().contains_key(&0));
    }
}
