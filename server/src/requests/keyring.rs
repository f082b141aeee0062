//! With which credentials a caller's request goes to a source.
//!
//! Credentials are kept by whoever lets people in, and only in memory: after a restart they come back when
//! the person does. What was not sent yet waits for that, and not for ever.

use std::time::Duration;

use skytower_api_client::Text;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::Caller;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::source::Source;

/// With which credentials a caller's request goes to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The source's own.
    Own,
    /// The caller's.
    Callers(Credentials),
    /// The caller's, which are not at hand: the server was restarted, and whoever asked has not signed in
    /// since. They are waited for.
    Missing,
}

impl Key {
    /// The caller's credentials; none where the source's own are used, or must do for the moment.
    pub(super) fn credentials(self) -> Option<Credentials> {
        match self {
            Key::Callers(credentials) => Some(credentials),
            Key::Own | Key::Missing => None,
        }
    }
}

/// Holds the credentials of those who signed in with a source's own.
pub trait Keyring: Send + Sync {
    /// What to send a request of `caller` to `source` with, now.
    fn key(&self, caller: &Caller, source: &Text) -> Key;

    /// Rises when a key may have changed: ask again.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Everything is done with the sources' own credentials.
#[derive(Debug, Default)]
pub struct OwnKeys(watch::Sender<u64>);

impl Keyring for OwnKeys {
    fn key(&self, _: &Caller, _: &Text) -> Key {
        Key::Own
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Looks for the key of one request at one source, and waits for it.
pub(super) struct Search<'a> {
    keyring: &'a dyn Keyring,
    caller: Caller,
    source: Text,
    takes_none: bool,
    changes: watch::Receiver<u64>,
    refused: Option<Credentials>,
    patience: Duration,
    until: Option<Instant>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        keyring: &'a dyn Keyring,
        caller: Caller,
        source: &dyn Source,
        patience: Duration,
    ) -> Self {
        Self {
            changes: keyring.changes(),
            keyring,
            caller,
            source: source.name().clone(),
            takes_none: source.is_local(),
            refused: None,
            patience,
            until: None,
        }
    }

    /// For whom.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How long it is waited for, in words.
    pub(super) fn patience(&self) -> String {
        format!("within {} min", self.patience.as_secs().div_ceil(60))
    }

    /// The key now. What the source has refused is as good as missing.
    pub(super) fn now(&mut self) -> Key {
        // Marked as seen before the look, so that no change falls between the two.
        self.changes.borrow_and_update();
        let key = if self.takes_none {
            Key::Own
        } else {
            self.keyring.key(&self.caller, &self.source)
        };
        match key {
            Key::Callers(credentials) if self.refused.as_ref() == Some(&credentials) => {
                Key::Missing
            }
            Key::Missing => Key::Missing,
            key => {
                self.until = None;
                key
            }
        }
    }

    /// The source does not take these: others are waited for.
    pub(super) fn refuse(&mut self, credentials: Credentials) {
        self.refused = Some(credentials);
    }

    /// Waits until it is worth another look. False when it took too long since the key went missing.
    pub(super) async fn wait(&mut self) -> bool {
        let until = *self
            .until
            .get_or_insert_with(|| Instant::now() + self.patience);
        let changed = async {
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::time::timeout_at(until, changed).await.is_ok()
    }
}
