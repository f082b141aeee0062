//! The accounts as they are now, and the one way in which they change.
//!
//! ```text
//! operation ─▶ a draft of the accounts ─▶ edits and their audit entry, one transaction ─▶ applied ─▶ open connections
//! ```

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use skytower_api_client::wire::Problem;
use skytower_api_client::{EpochMs, Text};
use tokio::sync::{Mutex, watch};

use crate::accounts::{Accounts, Edit, rows};
use crate::audit::{self, Entry, Outcome};
use crate::guest::Asker;
use crate::store::{Store, StoreError};

/// The accounts of this server.
pub(crate) struct Ledger {
    store: Store,
    accounts: RwLock<Accounts>,
    /// Held from the question to the answer: two administrators who demote each other at the same moment
    /// come one after the other.
    changing: Mutex<()>,
    changed: watch::Sender<u64>,
    /// Tokens that were used since that was last written down.
    uses: std::sync::Mutex<BTreeMap<Text, EpochMs>>,
}

/// What is being done to accounts, for the audit.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// Such as `user.add`.
    pub(crate) action: &'static str,
    /// Such as `user/alice`.
    pub(crate) target: Text,
    /// What is new; never a secret.
    pub(crate) detail: Text,
}

/// The accounts as they would be.
pub(crate) struct Draft {
    accounts: Accounts,
    edits: Vec<Edit>,
}

impl std::ops::Deref for Draft {
    type Target = Accounts;

    fn deref(&self) -> &Accounts {
        &self.accounts
    }
}

impl Draft {
    /// Takes over what an operation answered.
    pub(crate) fn take(&mut self, edits: Vec<Edit>) {
        for edit in edits {
            self.accounts.apply(&edit);
            self.edits.push(edit);
        }
    }
}

impl Ledger {
    pub(crate) async fn open(store: Store) -> Result<Self, StoreError> {
        let accounts = store
            .run(|connection| rows::load(connection).map_err(StoreError::from))
            .await?;
        Ok(Self {
            store,
            accounts: RwLock::new(accounts),
            changing: Mutex::default(),
            changed: watch::Sender::new(0),
            uses: std::sync::Mutex::default(),
        })
    }

    /// The accounts as they are now. Not to be held while anything is waited for.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Accounts> {
        // Edits are applied whole: whoever panicked left accounts that can be read.
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when the accounts have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Changes accounts: on disk together with who did it, then for everybody. Refusals are written down too.
    pub(crate) async fn change<T>(
        &self,
        asker: &Asker,
        deed: Deed,
        operation: impl FnOnce(&mut Draft) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let _one_at_a_time = self.changing.lock().await;
        let mut draft = Draft {
            accounts: self.read().clone(),
            edits: Vec::new(),
        };
        let answer = operation(&mut draft);
        let (outcome, detail) = match &answer {
            Ok(_) => (Outcome::Succeeded, deed.detail.to_string()),
            Err(problem) => (Outcome::Refused, problem.to_string()),
        };
        let entry = Entry::by(asker, deed.action, outcome)
            .target(&deed.target)
            .detail(&detail);
        let edits = if answer.is_ok() {
            draft.edits
        } else {
            Vec::new()
        };
        let written = edits.clone();
        let saved = self
            .store
            .run(move |connection| {
                rows::write(connection, &written)?;
                audit::append(connection, &entry)
            })
            .await;
        match (&answer, saved) {
            // What is refused changes nothing, written down or not.
            (Err(_), _) => return answer,
            (Ok(_), Err(error)) => return Err(unavailable(&error)),
            (Ok(_), Ok(_)) => {}
        }
        self.apply(&edits);
        self.changed.send_modify(|changes| *changes += 1);
        answer
    }

    /// A token was used. Nobody's rights depend on it, so it is written down now and then, for all at once.
    pub(crate) fn used(&self, token: &Text, now: EpochMs) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.insert(token.clone(), now);
    }

    /// Writes down which tokens were used.
    pub(crate) async fn write_uses(&self) {
        let _one_at_a_time = self.changing.lock().await;
        let uses = {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *uses)
        };
        let edits: Vec<Edit> = {
            let accounts = self.read();
            let news = uses
                .iter()
                .filter_map(|(id, at)| accounts.use_token(id, *at));
            news.collect()
        };
        self.write_quietly(edits).await;
    }

    /// Forgets tokens that expired long ago.
    pub(crate) async fn tidy(&self, now: EpochMs) {
        let _one_at_a_time = self.changing.lock().await;
        let edits = self.read().prune_tokens(now);
        self.write_quietly(edits).await;
    }

    /// Writes down what concerns nobody's rights; what cannot be written is left as it is.
    async fn write_quietly(&self, edits: Vec<Edit>) {
        if edits.is_empty() {
            return;
        }
        let written = edits.clone();
        let saved = self
            .store
            .run(move |connection| rows::write(connection, &written).map_err(StoreError::from))
            .await;
        match saved {
            Ok(()) => self.apply(&edits),
            Err(error) => tracing::warn!(%error, "the accounts could not be tidied"),
        }
    }

    fn apply(&self, edits: &[Edit]) {
        let mut accounts = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for edit in edits {
            accounts.apply(edit);
        }
    }
}

fn unavailable(error: &StoreError) -> Problem {
    tracing::error!(%error, "accounts cannot be written down");
    Problem::new("journal_unavailable", 503, error.to_string())
        .hint("nothing was done; see to the disk of the skytower server and try again")
}
