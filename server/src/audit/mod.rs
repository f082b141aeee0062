//! The audit: who did what, from where, and what came of it.
//!
//! ```text
//! append(transaction, entry) ── in the commit of what it is about ──┐
//! note(entry) ─▶ bounded queue ─▶ folded ─▶ append ─────────────────┴─▶ database ─▶ hub (the newest)
//! ```
//!
//! Entries are only ever added, each with the hash of itself and of the one before it: none can be
//! changed, taken out, put in or moved without all later hashes being wrong. What changes something
//! writes its entry in its own transaction: when that cannot be written, nothing is done.

mod chain;
mod entry;
mod fold;
mod rows;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skytower_api_client::EpochMs;
use skytower_api_client::entity::AuditEntry;
use skytower_api_client::rest::AuditVerdict;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

pub use chain::{Broken, Fault, Hash, Head};
pub use entry::{Entry, Outcome, naming};
pub use rows::append;

use crate::hub::Hub;
use crate::store::{Store, StoreError};

/// The tables of the audit, as they were first.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        actor_name TEXT NOT NULL,
        role TEXT NOT NULL,
        proof TEXT NOT NULL,
        address TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        request TEXT NOT NULL,
        outcome TEXT NOT NULL,
        detail TEXT NOT NULL,
        previous BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    -- The last entry that was forgotten: what is kept begins after it.
    CREATE TABLE audit_anchor (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    INSERT INTO audit_anchor VALUES (1, 0, zeroblob(32));
    CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
        WHEN NEW.seq <> 1 + COALESCE((SELECT max(seq) FROM audit), (SELECT seq FROM audit_anchor))
        BEGIN SELECT RAISE(ABORT, 'the audit is only added to, at its end'); END;
    CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
    CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
        WHEN OLD.seq > (SELECT seq FROM audit_anchor)
        BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END;
    CREATE TRIGGER audit_anchor_moves_forward BEFORE UPDATE ON audit_anchor
        WHEN NEW.seq < OLD.seq OR NEW.seq > (SELECT max(seq) FROM audit)
        BEGIN SELECT RAISE(ABORT, 'what was forgotten stays forgotten'); END;
    CREATE TRIGGER audit_anchor_stays BEFORE DELETE ON audit_anchor
        BEGIN SELECT RAISE(ABORT, 'what was forgotten stays forgotten'); END;
";

/// How long entries are kept when nothing else was said.
pub const KEEP: Duration = Duration::from_hours(400 * 24);
/// The most notes that wait to be written.
const WAITING: usize = 1024;
/// How many entries are read at once when all of them are.
const AT_ONCE: usize = 10_000;
/// How many entries one transaction forgets: the writer is for others too.
const FORGET_AT_ONCE: usize = 1000;
/// How many of the newest entries are looked through at the start.
const CHECKED_AT_START: i64 = 10_000;

/// The audit of a server. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Audit {
    store: Store,
    hub: Arc<Hub>,
    keep: Duration,
    notes: mpsc::Sender<Entry>,
    noted: Mutex<mpsc::Receiver<Entry>>,
    /// Notes that found no room, and are not told of yet.
    dropped: AtomicU64,
    /// Whoever reads all of it does not see its beginning forgotten meanwhile.
    whole: Mutex<()>,
}

/// Entries from the database, newest first.
#[derive(Debug)]
pub struct Entries {
    /// The entries.
    pub rows: Vec<AuditEntry>,
    /// There may be more before this number.
    pub next: Option<i64>,
}

impl Audit {
    /// The audit in a database, whose newest entries are shown in the hub. Nothing is noted or shown
    /// before [`Audit::run`].
    pub fn open(store: Store, hub: Arc<Hub>, keep: Option<Duration>) -> Arc<Self> {
        let (notes, noted) = mpsc::channel(WAITING);
        Arc::new(Self {
            store,
            hub,
            keep: keep.unwrap_or(KEEP),
            notes,
            noted: Mutex::new(noted),
            dropped: AtomicU64::new(0),
            whole: Mutex::default(),
        })
    }

    /// Notes what happened, without holding anybody up. Equal ones (the same action, outcome, actor and
    /// address) within a minute become one entry that counts them; what finds no room is counted too.
    ///
    /// What changes something is not noted but written with it: see [`append`].
    pub fn note(&self, entry: Entry) {
        if self.notes.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes notes down, shows new entries and forgets old ones, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        self.begin().await;
        tokio::join!(
            self.write_notes(&stop),
            self.show(&stop),
            self.look_after(&stop)
        );
    }

    /// Entries before `before` and not older than `since` that `matches`, newest first; at most `limit`,
    /// and from at most so many entries as are read at once: the page says where to go on.
    pub async fn before(
        &self,
        before: i64,
        since: Option<EpochMs>,
        limit: usize,
        matches: impl Fn(&AuditEntry) -> bool + Send + 'static,
    ) -> Result<Entries, StoreError> {
        self.store
            .read(move |connection| {
                rows::before(connection, before, since, (limit, AT_ONCE), &matches)
            })
            .await
    }

    /// The newest entries, newest first.
    pub async fn latest(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(self.before(i64::MAX, None, limit, |_| true).await?.rows)
    }

    /// The entries after one, oldest first.
    pub async fn since(&self, after: i64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.store
            .read(move |connection| rows::after(connection, after, limit))
            .await
    }

    /// Reads all of it: is every entry as it was written.
    pub async fn verify(&self) -> Result<AuditVerdict, StoreError> {
        let _whole = self.whole.lock().await;
        let anchor = self.store.read(rows::anchor).await?;
        self.verify_from(anchor).await
    }

    async fn verify_from(&self, anchor: Head) -> Result<AuditVerdict, StoreError> {
        let (mut at, mut entries) = (anchor, 0);
        // In pieces, so that no reader keeps the write-ahead log from being emptied.
        loop {
            let (piece, read) = self
                .store
                .read(move |connection| rows::check(connection, at, AT_ONCE))
                .await?;
            entries += read as u64;
            let broken = match piece {
                Ok(head) => {
                    at = head;
                    if read == AT_ONCE {
                        continue;
                    }
                    None
                }
                Err((head, broken)) => {
                    at = head;
                    Some(broken.into())
                }
            };
            return Ok(AuditVerdict {
                entries,
                anchor: anchor.into(),
                head: at.into(),
                broken,
            });
        }
    }

    /// Forgets entries from before `before`; how many those were.
    pub async fn prune(&self, before: EpochMs) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        loop {
            let _whole = self.whole.lock().await;
            let some = self
                .store
                .run(move |connection| rows::forget(connection, before, FORGET_AT_ONCE))
                .await?;
            forgotten += some;
            if some < FORGET_AT_ONCE {
                return Ok(forgotten);
            }
        }
    }
}

#[cfg(test)]
mod tests;
