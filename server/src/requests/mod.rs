//! Actions as durable requests.
//!
//! ```text
//! POST -> accept (pure) -> journal (fsync) -> 202
//!                             \-> execute: plan -> submit -> result -> seen in the hub
//! ```
//!
//! A request is written down before it is acknowledged and taken up again after a crash. Success
//! is that the change was seen in the state, not that the source said so.

pub mod accept;
mod audited;
mod execute;
pub mod journal;
pub mod keyring;
pub mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use skytower_api_client::backoff::Backoff;
use skytower_api_client::entity::{Outcome, Request};
use skytower_api_client::policy::View;
use skytower_api_client::rest::NewRequest;
use skytower_api_client::wire::{Caller, Change, Problem, Role};
use skytower_api_client::{Entity, EpochMs, Kind, Text};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::attention::Attention;
use crate::audit::{Audit, Entry};
use crate::guest::Asker;
use crate::hub::Hub;
use crate::source::Source;
use crate::store::{Store, StoreError};
use journal::{Acceptance, Accepted, Journal};
use keyring::Keyring;
use record::{HandoverRecord, ORIGIN, Record, Stage, caller_id};

/// How long finished requests stay in the state; the journal keeps them longer.
const SHOWN_FOR_MS: i64 = 24 * 3600 * 1000;
/// How many finished requests stay in the state.
const SHOWN: usize = 500;
/// How long a new request waits for a server that takes up its unfinished ones.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// The longest name that a caller may give to a request.
const MAX_IDEMPOTENCY_KEY: usize = 200;

/// How patient the executor is. Tests are less so.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The first wait before something is tried again.
    pub retry_floor: Duration,
    /// The longest wait before something is tried again.
    pub retry_ceiling: Duration,
    /// Before a call whose answer was lost is looked up: it may still be on its way.
    pub settle: Duration,
    /// From the source's word to the change in the state.
    pub until_seen: Duration,
    /// The first wait before the source's list is asked for again.
    pub look_again: Duration,
    /// For whoever asked to sign in again, where it takes their own credentials.
    pub until_signed_in: Duration,
    /// Handovers of one request that are under way at the same time.
    pub at_once: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retry_floor: Duration::from_secs(1),
            retry_ceiling: Duration::from_mins(1),
            settle: Duration::from_secs(5),
            until_seen: Duration::from_mins(10),
            look_again: Duration::from_secs(2),
            until_signed_in: Duration::from_mins(10),
            at_once: 16,
        }
    }
}

/// What became of a request to do something.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is on disk and under way.
    Accepted(Request),
    /// This is what would be done; nothing was.
    DryRun(Request),
}

/// All requests of this server. Share it in an [`Arc`].
pub struct Requests {
    journal: Journal,
    audit: Arc<Audit>,
    hub: Arc<Hub>,
    sources: Arc<[Arc<dyn Source>]>,
    attention: Arc<Attention>,
    keyring: Arc<dyn Keyring>,
    pace: Pace,
    stop: CancellationToken,
    live: Mutex<HashMap<Uuid, Arc<Mutex<Record>>>>,
    running: watch::Sender<usize>,
    resumed: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests")
            .field("running", &*self.running.borrow())
            .finish_non_exhaustive()
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it left results that are each valid by themselves.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Requests {
    /// Requests in the server's database. Nothing is carried out before [`Requests::run`].
    pub(crate) fn open(
        store: Store,
        audit: Arc<Audit>,
        hub: Arc<Hub>,
        sources: Arc<[Arc<dyn Source>]>,
        attention: Arc<Attention>,
        keyring: Arc<dyn Keyring>,
    ) -> Arc<Self> {
        let journal = Journal::new(store);
        let pace = Pace::default();
        Self::new(journal, audit, hub, sources, attention, keyring, pace)
    }

    /// Requests over a journal, at a pace.
    pub(crate) fn new(
        journal: Journal,
        audit: Arc<Audit>,
        hub: Arc<Hub>,
        sources: Arc<[Arc<dyn Source>]>,
        attention: Arc<Attention>,
        keyring: Arc<dyn Keyring>,
        pace: Pace,
    ) -> Arc<Self> {
        Arc::new(Self {
            journal,
            audit,
            hub,
            sources,
            attention,
            keyring,
            pace,
            stop: CancellationToken::new(),
            live: Mutex::default(),
            running: watch::Sender::new(0),
            resumed: watch::Sender::new(false),
            tasks: Mutex::default(),
        })
    }

    /// Takes up what is unfinished and carries requests out until `stop`. What is under way then is
    /// in the journal and taken up by the next server.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut backoff = Backoff::new(self.pace.retry_floor, self.pace.retry_ceiling);
        while let Err(error) = self.resume().await {
            tracing::error!(%error, "unfinished requests cannot be taken up yet");
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(backoff.next(1.0)) => {}
            }
        }
        let mut tick = tokio::time::interval(Duration::from_hours(1));
        tick.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => self.tidy(EpochMs::now()).await,
            }
        }
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *locked(&self.tasks));
        while tasks.join_next().await.is_some() {}
    }

    /// How many requests have not ended: a server with one does not end by itself.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }

    /// Shows what the journal holds and takes up what is unfinished. Once, at the start.
    async fn resume(self: &Arc<Self>) -> Result<usize, StoreError> {
        let now = EpochMs::now();
        self.journal.prune(now).await?;
        let finished = self
            .journal
            .finished(EpochMs(now.0 - SHOWN_FOR_MS), SHOWN)
            .await?;
        let unfinished = self.journal.unfinished().await?;
        let rows = finished.iter().chain(&unfinished);
        self.hub
            .commit(rows.map(|record| Change::Upsert(record.row().into())));
        let count = unfinished.len();
        for record in unfinished {
            self.start(record);
        }
        self.resumed.send_replace(true);
        Ok(count)
    }

    /// Forgets what is old enough, in the journal and in the state.
    async fn tidy(&self, now: EpochMs) {
        if let Err(error) = self.journal.prune(now).await {
            tracing::warn!(%error, "old requests could not be forgotten");
        }
        self.hub.commit_with(|table| {
            let mut ended: Vec<(EpochMs, &Arc<Entity>)> = table
                .rows(Kind::Request)
                .filter(|row| accept::is_own(row))
                .filter_map(|row| Some((row.as_request()?.ended_at?, row)))
                .collect();
            ended.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            let old = |(i, (at, row)): (usize, (EpochMs, &Arc<Entity>))| {
                (i >= SHOWN || now.since(at) > SHOWN_FOR_MS).then(|| Change::Remove {
                    kind: Kind::Request,
                    key: row.key().clone(),
                    reason: "it ended long ago; ask for it by its id".into(),
                })
            };
            ended
                .into_iter()
                .enumerate()
                .filter_map(old)
                .collect::<Vec<_>>()
        });
    }

    /// Accepts a request, or says why not. When this returns [`Answer::Accepted`] it is on disk, and in the
    /// audit. A refusal is noted there too.
    pub async fn accept(
        self: &Arc<Self>,
        asker: &Asker,
        new: &NewRequest,
        idempotency_key: Option<String>,
    ) -> Result<Answer, Problem> {
        let answer = self.accept_as(asker, new, idempotency_key).await;
        if let Err(why) = &answer
            && why.status < 500
            && !new.dry_run
        {
            let entry = self
                .hub
                .read(|table| audited::refused(asker, table, new, why));
            self.audit.note(entry);
        }
        answer
    }

    async fn accept_as(
        self: &Arc<Self>,
        asker: &Asker,
        new: &NewRequest,
        idempotency_key: Option<String>,
    ) -> Result<Answer, Problem> {
        let caller = &asker.caller;
        if idempotency_key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY)
        {
            let detail = format!("an Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY} characters");
            return Err(Problem::new("invalid_request", 422, detail));
        }
        // What is accepted before would be taken for unfinished, and carried out twice.
        let mut resumed = self.resumed.subscribe();
        let ready = async { resumed.wait_for(|resumed| *resumed).await.is_ok() };
        if tokio::time::timeout(START_PATIENCE, ready).await != Ok(true) {
            let detail = "this server has not taken up its unfinished requests yet";
            return Err(Problem::new("starting", 503, detail).hint("nothing was done; try again"));
        }
        let fingerprint = fingerprint(new)?;
        // Before the checks: what was accepted once is answered as such, also when its target is gone.
        if let Some(key) = idempotency_key.clone().filter(|_| !new.dry_run) {
            let before = self
                .journal
                .before(caller_id(caller), key, fingerprint.clone())
                .await;
            if let Some(before) = before.map_err(|error| unavailable(&error))? {
                return self.accepted_before(&before).await;
            }
        }
        let checked = self.hub.read(|table| accept::check(table, caller, new))?;
        if !new.dry_run && !new.others_confirmed && !checked.others.is_empty() {
            return Err(accept::unconfirmed(&checked));
        }
        let now = EpochMs::now();
        let mut record = Record {
            id: Uuid::now_v7(),
            action: checked.action,
            options: new.options.clone(),
            caller: caller.clone(),
            created_at: now,
            ended_at: None,
            targets: checked.targets,
            handovers: Vec::new(),
        };
        self.plan(&mut record);
        record.ended_at = record.is_over().then_some(now);
        if new.dry_run {
            return Ok(Answer::DryRun(record.row()));
        }
        let mut audit = vec![audited::accepted(asker, &record)];
        // None of it may be done: it is over before it begins.
        audit.extend(record.ended_at.map(|_| audited::ended(&record)));
        let acceptance = Acceptance {
            record: record.clone(),
            idempotency_key,
            fingerprint,
            audit,
        };
        match self
            .journal
            .accept(acceptance)
            .await
            .map_err(|error| unavailable(&error))?
        {
            Accepted::New => {}
            before => return self.accepted_before(&before).await,
        }
        let row = record.row();
        tracing::info!(
            request = %record.id, action = record.action.id, caller = %record.caller.name,
            targets = record.targets.len(), "request accepted"
        );
        self.hub.commit([Change::Upsert(row.clone().into())]);
        if !record.is_over() {
            self.start(record);
        }
        Ok(Answer::Accepted(row))
    }

    async fn accepted_before(&self, before: &Accepted) -> Result<Answer, Problem> {
        let reused = || {
            Problem::new(
                "idempotency_key_reused",
                422,
                "this Idempotency-Key was used for another request",
            )
            .hint("use a new key for a new request")
        };
        let Accepted::Before(id) = before else {
            return Err(reused());
        };
        let record = self.record(*id).await?.ok_or_else(reused)?;
        Ok(Answer::Accepted(record.row()))
    }

    /// Divides the targets that may be done into calls.
    fn plan(&self, record: &mut Record) {
        let mut by_source: Vec<(Text, Vec<usize>)> = Vec::new();
        for (i, target) in record.targets.iter().enumerate() {
            let Some(row) = target
                .row
                .as_ref()
                .filter(|_| !target.result.outcome.is_over())
            else {
                continue;
            };
            let source = if accept::is_own(row) {
                ORIGIN.into()
            } else {
                row.source().clone()
            };
            match by_source.iter_mut().find(|(known, _)| *known == source) {
                Some((_, members)) => members.push(i),
                None => by_source.push((source, vec![i])),
            }
        }
        for (name, members) in by_source {
            let groups: Vec<Vec<usize>> = if name == ORIGIN {
                members.iter().map(|i| vec![*i]).collect()
            } else if let Some(source) = self.source(&name) {
                let rows: Vec<_> = members
                    .iter()
                    .filter_map(|i| record.targets[*i].row.clone())
                    .collect();
                let planned = source.plan(record.action, &rows);
                let group = |group: Vec<usize>| {
                    group
                        .into_iter()
                        .filter_map(|i| members.get(i).copied())
                        .collect()
                };
                planned.into_iter().map(group).collect()
            } else {
                for i in members {
                    let result = &mut record.targets[i].result;
                    result.outcome = Outcome::Failed;
                    result.message =
                        Some(Text::from(format!("this server does not watch `{name}`")));
                }
                continue;
            };
            record
                .handovers
                .extend(groups.into_iter().map(|targets| HandoverRecord {
                    source: name.clone(),
                    targets,
                    stage: Stage::Planned,
                    upstream: None,
                    tried_at: None,
                }));
        }
    }

    fn source(&self, name: &str) -> Option<&Arc<dyn Source>> {
        self.sources.iter().find(|source| **source.name() == *name)
    }

    fn start(self: &Arc<Self>, record: Record) {
        let id = record.id;
        let record = Arc::new(Mutex::new(record));
        locked(&self.live).insert(id, record.clone());
        self.running.send_modify(|running| *running += 1);
        let this = self.clone();
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let run = execute::run(&this, &record);
            tokio::select! {
                () = this.stop.cancelled() => {}
                () = run => {
                    locked(&this.live).remove(&id);
                }
            }
            this.running
                .send_modify(|running| *running = running.saturating_sub(1));
        });
    }

    async fn record(&self, id: Uuid) -> Result<Option<Record>, Problem> {
        let live = locked(&self.live).get(&id).cloned();
        match live {
            Some(record) => Ok(Some(locked(&record).clone())),
            None => self
                .journal
                .get(id)
                .await
                .map_err(|error| unavailable(&error)),
        }
    }

    /// A request that `caller` may see.
    async fn visible(&self, caller: &Caller, id: Uuid) -> Result<Record, Problem> {
        let view = View::of(caller, &[]);
        let record = self.record(id).await?;
        record
            .filter(|record| is_own(caller, record) || view.sees(&record.row().into()))
            .ok_or_else(|| {
                Problem::new(
                    "not_found",
                    404,
                    format!("there is no request `{id}` (any more)"),
                )
                .hint("finished requests are kept for 7 days")
            })
    }

    /// A request as it is now, or as it is when it has ended or `wait` is over.
    pub async fn get(&self, caller: &Caller, id: Uuid, wait: Duration) -> Result<Request, Problem> {
        let deadline = tokio::time::Instant::now() + wait;
        // Subscribed before the first look, so that no change falls between the two.
        let mut changes = self.hub.changes();
        loop {
            let shown = self.hub.get(&Record::key_of(id));
            let record = self.visible(caller, id).await?;
            if record.ended_at.is_some() {
                return Ok(record.row());
            }
            let another_row = async {
                // Other rows change all the time.
                while self.hub.get(&Record::key_of(id)) == shown {
                    if changes.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Ok(record.row()),
                () = self.stop.cancelled() => return Ok(record.row()),
                () = another_row => {}
            }
        }
    }

    /// Withdraws what was not handed over yet. Only for whoever made the request, and administrators.
    pub async fn withdraw(&self, asker: &Asker, id: Uuid) -> Result<Request, Problem> {
        let caller = &asker.caller;
        let record = self.visible(caller, id).await?;
        if !is_own(caller, &record) && caller.role != Role::Admin {
            let detail = format!("request `{id}` was made by {}", record.caller.name);
            let problem = Problem::new("forbidden", 403, detail)
                .hint("only they and administrators can withdraw it");
            self.audit.note(audited::not_withdrawn(asker, id, &problem));
            return Err(problem);
        }
        self.withdraw_planned(id, Some(audited::withdrawn(asker, id)))
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(self.record(id).await?.unwrap_or(record).row())
    }

    /// Withdraws the planned handovers of a request; returns how many targets that were, and how
    /// many had been handed over and are not over yet.
    async fn withdraw_planned(
        &self,
        id: Uuid,
        audit: Option<Entry>,
    ) -> Result<(usize, usize), StoreError> {
        let Some(record) = locked(&self.live).get(&id).cloned() else {
            return Ok((0, 0));
        };
        let numbers = self.journal.withdraw(id, audit).await?;
        let mut withdrawn = 0;
        for number in numbers {
            let targets = locked(&record).handovers[number].targets.clone();
            withdrawn += targets.len();
            execute::settle(
                self,
                &record,
                number,
                &targets,
                Outcome::Cancelled,
                Some("withdrawn before it was handed over".into()),
            )
            .await;
        }
        let waiting = locked(&record)
            .targets
            .iter()
            .filter(|target| !target.result.outcome.is_over())
            .count();
        Ok((withdrawn, waiting))
    }
}

fn is_own(caller: &Caller, record: &Record) -> bool {
    caller.ids.contains(&caller_id(&record.caller))
        || record.caller.ids.is_empty()
            && caller.ids.is_empty()
            && caller.name == record.caller.name
}

fn fingerprint(new: &NewRequest) -> Result<Vec<u8>, Problem> {
    let json = serde_json::to_vec(new)
        .map_err(|error| Problem::new("invalid_request", 422, error.to_string()))?;
    Ok(Sha256::digest(&json).to_vec())
}

/// Without the journal nothing is promised, and nothing is done.
fn unavailable(error: &StoreError) -> Problem {
    tracing::error!(%error, "a request cannot be written down");
    Problem::new("journal_unavailable", 503, error.to_string())
        .hint("nothing was done; see to the disk of the skytower server and try again")
}

#[cfg(test)]
mod tests;
