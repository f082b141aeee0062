//! The journal: what was promised, on disk before it is promised.

mod rows;

use skytower_api_client::entity::TargetResult;
use skytower_api_client::{EpochMs, Text};
use uuid::Uuid;

use super::record::{Record, Stage};
use crate::audit::Entry;
use crate::store::{Store, StoreError};

/// The tables of the journal, as they were first.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE requests (
        id TEXT PRIMARY KEY,
        caller_id TEXT NOT NULL,
        idempotency_key TEXT,
        fingerprint BLOB NOT NULL,
        action TEXT NOT NULL,
        options TEXT NOT NULL,
        caller TEXT NOT NULL,
        workspace TEXT,
        created_at INTEGER NOT NULL,
        ended_at INTEGER,
        status TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX requests_by_idempotency_key ON requests (caller_id, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE INDEX requests_unfinished ON requests (id) WHERE ended_at IS NULL;
    CREATE INDEX requests_by_end ON requests (ended_at) WHERE ended_at IS NOT NULL;
    CREATE TABLE targets (
        request TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        row TEXT,
        result TEXT NOT NULL,
        PRIMARY KEY (request, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE handovers (
        request TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        source TEXT NOT NULL,
        targets TEXT NOT NULL,
        stage TEXT NOT NULL CHECK (stage IN ('planned', 'submitting', 'submitted', 'ended')),
        upstream TEXT,
        tried_at INTEGER,
        PRIMARY KEY (request, number)
    ) STRICT, WITHOUT ROWID;
";

/// Forgets what requests that have ended were to start: earlier versions kept it with them.
pub(crate) const FORGET_STARTS: &str = "
    UPDATE requests SET options = json_remove(options, '$.start.yaml', '$.start.envs', '$.start.secrets')
        WHERE ended_at IS NOT NULL AND json_valid(options);
";

/// How long finished requests are kept.
pub const KEEP_FOR_MS: i64 = 7 * 24 * 3600 * 1000;
/// How many finished requests are kept.
pub const KEEP: usize = 10_000;

/// The journal of requests in the server's database.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
}

/// A request that is to be accepted.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The request with its plan.
    pub record: Record,
    /// The caller's own name for it.
    pub idempotency_key: Option<String>,
    /// A digest of what was asked for.
    pub fingerprint: Vec<u8>,
    /// What the audit says of it.
    pub audit: Vec<Entry>,
}

/// What is new about a request.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which request.
    pub request: Uuid,
    /// Targets with new results.
    pub results: Vec<(usize, TargetResult)>,
    /// Handovers that ended.
    pub ended: Vec<usize>,
    /// Its status now.
    pub status: &'static str,
    /// When its last target was over.
    pub ended_at: Option<EpochMs>,
    /// What the audit says of its end.
    pub end: Option<Entry>,
}

/// What became of an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is on disk.
    New,
    /// The same was accepted before, under this id.
    Before(Uuid),
    /// The idempotency key was used for something else.
    KeyReused,
}

impl Journal {
    /// The journal in a database.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes a new request down, and into the audit, unless its idempotency key was used before.
    pub async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, StoreError> {
        self.store
            .run(move |connection| rows::accept(connection, &acceptance))
            .await
    }

    /// What was accepted under an idempotency key, when something was.
    pub async fn before(
        &self,
        caller_id: Text,
        idempotency_key: String,
        fingerprint: Vec<u8>,
    ) -> Result<Option<Accepted>, StoreError> {
        self.store
            .run(move |connection| {
                rows::before(connection, &caller_id, &idempotency_key, &fingerprint)
            })
            .await
    }

    /// A request; none when there is none (any more).
    pub async fn get(&self, id: Uuid) -> Result<Option<Record>, StoreError> {
        self.store
            .run(move |connection| rows::get(connection, id))
            .await
    }

    /// All requests that have not ended, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<Record>, StoreError> {
        self.store.run(rows::unfinished).await
    }

    /// The last `limit` requests that ended after `after`, newest first.
    pub async fn finished(&self, after: EpochMs, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.store
            .run(move |connection| rows::finished(connection, after, limit))
            .await
    }

    /// Moves a handover from one stage to the next, if it is (still) in the first. False when
    /// somebody else was quicker: it was withdrawn.
    pub async fn advance(
        &self,
        request: Uuid,
        number: usize,
        from: Stage,
        to: Stage,
        upstream: Option<Text>,
        tried_at: Option<EpochMs>,
    ) -> Result<bool, StoreError> {
        self.store
            .run(move |connection| {
                rows::advance(
                    connection,
                    request,
                    number,
                    (from, to),
                    upstream.as_ref(),
                    tried_at,
                )
            })
            .await
    }

    /// Writes down the results, the ended handovers and, where all is over, the end of a request, which
    /// goes into the audit too.
    pub async fn save(&self, progress: Progress) -> Result<(), StoreError> {
        self.store
            .run(move |connection| rows::save(connection, &progress))
            .await
    }

    /// Ends the handovers of a request that are only planned; returns their numbers. Where there are any,
    /// the audit says so.
    pub async fn withdraw(
        &self,
        request: Uuid,
        audit: Option<Entry>,
    ) -> Result<Vec<usize>, StoreError> {
        self.store
            .run(move |connection| rows::withdraw(connection, request, audit.as_ref()))
            .await
    }

    /// Forgets finished requests that are too old or too many.
    pub async fn prune(&self, now: EpochMs) -> Result<usize, StoreError> {
        self.store
            .run(move |connection| rows::prune(connection, EpochMs(now.0 - KEEP_FOR_MS), KEEP))
            .await
    }
}
