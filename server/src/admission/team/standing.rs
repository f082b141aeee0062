//! What a credential is worth, now and from now on.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use skytower_api_client::action::LOCAL;
use skytower_api_client::policy::qualified;
use skytower_api_client::wire::Caller;
use skytower_api_client::{EpochMs, Kind, Text};

use super::Team;
use crate::accounts::{Accounts, PasswordHash, SecretHash};
use crate::admission::no_more;
use crate::admission::rights::{self, Surroundings};
use crate::guest::Standing;

/// How often it is looked whether a credential has expired. Revocations do not wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a credential is to an account.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Door {
    /// A password: the user, and what is kept of that password.
    Password(Text, Option<PasswordHash>),
    /// A token: its id, and what is kept of its secret.
    Token(Text, SecretHash),
    /// A proxy's word for somebody of that name.
    Proxy(Text),
}

impl Team {
    fn around(&self) -> Surroundings {
        let around = self.surroundings.read();
        around.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn delegated(&self, told: &Caller) -> Caller {
        rights::delegated(told, &self.around(), &self.ledger.read())
    }

    /// What a credential is worth now.
    pub(super) fn standing(&self, door: &Door, accounts: &Accounts) -> Standing {
        let around = self.around();
        let out = || Standing::Out(no_more());
        let now = EpochMs::now();
        match door {
            Door::Password(id, kept) => match accounts.user(id) {
                Some(user) if !user.disabled && user.password == *kept => {
                    Standing::Inside(rights::caller(accounts, user, None, &around))
                }
                _ => out(),
            },
            Door::Token(id, kept) => {
                let token = accounts.find_token(id).ok();
                match token.and_then(|token| Some((token, accounts.user(&token.user)?))) {
                    Some((token, user)) if !user.disabled && token.is_good_as(kept, now) => {
                        Standing::Inside(rights::caller(accounts, user, Some(token), &around))
                    }
                    _ => out(),
                }
            }
            Door::Proxy(name) => match accounts.user_named(name) {
                Some(user) if user.disabled => out(),
                Some(user) => Standing::Inside(rights::caller(accounts, user, None, &around)),
                None => Standing::Inside(rights::stranger(
                    name,
                    self.terms.proxied,
                    accounts,
                    &around,
                )),
            },
        }
    }

    /// Works out again what everybody inside may do.
    pub(super) fn refresh(&self) {
        let accounts = self.ledger.read();
        self.register.refresh(|door| self.standing(door, &accounts));
        let private = accounts.workspaces().filter(|workspace| workspace.private);
        let private: BTreeSet<Text> = private.map(|workspace| workspace.name.clone()).collect();
        drop(accounts);
        for source in &self.own {
            source.keep_private(private.clone());
        }
        self.delegates.refresh(|caller| self.delegated(caller));
    }

    /// Looks which workspaces of the sources are open to everybody. True when that has changed.
    pub(super) fn look_around(&self) -> bool {
        let (mut public, mut all) = (Vec::new(), Vec::new());
        self.hub.read(|table| {
            let rows = table.rows(Kind::Workspace);
            for workspace in rows.filter_map(|row| row.as_workspace()) {
                if workspace.source == LOCAL {
                    continue;
                }
                let name = qualified(&workspace.source, &workspace.name);
                if !workspace.private {
                    public.push(name.clone());
                }
                all.push(name);
            }
        });
        let next = Surroundings {
            rules: self.terms.rules.clone(),
            acts_at: self.terms.acts_at.clone(),
            own_source: LOCAL.into(),
            public,
            all,
            several: self.terms.several,
        };
        let mut around = self
            .surroundings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = *around != next;
        *around = next;
        changed
    }

    pub(super) async fn follow(&self) {
        let mut accounts = self.ledger.changes();
        let mut revisions = self.hub.changes();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_end = self.next_end();
        let mut seen = false;
        loop {
            tokio::select! {
                changed = accounts.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    next_end = self.next_end();
                    self.refresh();
                }
                // Rows change all the time: it is looked at them now and then.
                changed = revisions.changed(), if !seen => {
                    if changed.is_err() {
                        return;
                    }
                    seen = true;
                }
                _ = look.tick() => {
                    let over = next_end.is_some_and(|end| end <= EpochMs::now());
                    let moved = std::mem::take(&mut seen) && self.look_around();
                    if over || moved {
                        next_end = self.next_end();
                        self.refresh();
                    }
                }
            }
        }
    }

    fn next_end(&self) -> Option<EpochMs> {
        let now = EpochMs::now();
        let accounts = self.ledger.read();
        let ends = accounts
            .tokens()
            .filter_map(|token| rights::next_end(token, now));
        ends.min()
    }
}
