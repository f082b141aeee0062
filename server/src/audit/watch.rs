//! What the audit does by itself: it writes notes, shows what is new, and forgets what is old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skytower_api_client::backoff::Backoff;
use skytower_api_client::entity::AuditEntry;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, EpochMs, Kind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fold::{Fold, Offered, WINDOW_MS};
use super::{AT_ONCE, Audit, CHECKED_AT_START, Entry, Head, Outcome, rows};
use crate::store::StoreError;

/// How many entries are shown; the others are asked for.
pub(super) const SHOWN: usize = 500;
/// New entries are shown this often at most: each time wakes everybody who watches, and when everybody comes at
/// once there are thousands of entries.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// How often old entries are forgotten.
const TIDY_EVERY: Duration = Duration::from_hours(1);
/// How many times between two notes of the head in the log.
const TIDIES_PER_DAY: u32 = 24;
/// How long notes that could not be written wait before they are tried again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

impl Audit {
    /// Looks whether the newest entries are what was written, and says where the audit ends.
    pub(super) async fn begin(&self) {
        let checked = async {
            let anchor = self
                .store
                .read(|connection| rows::anchor_of_last(connection, CHECKED_AT_START))
                .await?;
            let _whole = self.whole.lock().await;
            self.verify_from(anchor).await
        };
        match checked.await {
            Ok(verdict) => {
                if let Some(broken) = verdict.broken {
                    tracing::error!(
                        seq = broken.seq, why = %broken.why,
                        "THE AUDIT IS NOT WHAT WAS WRITTEN: somebody changed the database, or the disk \
                         lost some of it; see `skytower audit --verify`"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "the audit cannot be read"),
        }
        self.say_head().await;
    }

    /// Into the log, so that there is a copy elsewhere: what is taken from the end of the audit shows by
    /// it alone.
    async fn say_head(&self) {
        match self.store.read(rows::head).await {
            Ok(Head { seq, hash }) => {
                tracing::info!(seq, hash = %super::chain::hex(&hash), "the audit ends here");
            }
            Err(error) => tracing::error!(%error, "the audit cannot be read"),
        }
    }

    /// Forgets what is too old, and says daily where the audit ends.
    pub(super) async fn look_after(&self, stop: &CancellationToken) {
        let mut tick = tokio::time::interval(TIDY_EVERY);
        let mut tidies = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
            let before = EpochMs(EpochMs::now().0.saturating_sub(keep));
            if let Err(error) = self.prune(before).await {
                tracing::warn!(%error, "old entries of the audit could not be forgotten");
            }
            tidies += 1;
            if tidies % TIDIES_PER_DAY == 0 {
                self.say_head().await;
            }
        }
    }

    /// Shows the newest entries to those who may see them, once they are on disk.
    pub(super) async fn show(&self, stop: &CancellationToken) {
        let mut commits = self.store.commits();
        let (mut shown, mut begin) = (0, 0);
        loop {
            commits.mark_unchanged();
            match self.newer(shown).await {
                Ok((first, new)) if first != begin || !new.is_empty() => {
                    shown = self.publish(first, new, shown);
                    begin = first;
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(SHOW_EVERY) => {}
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the audit cannot be shown"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = commits.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The number of the first entry that is kept, and what is not shown yet.
    async fn newer(&self, shown: i64) -> Result<(i64, Vec<AuditEntry>), StoreError> {
        self.store
            .read(move |connection| {
                let first = rows::anchor(connection)?.seq + 1;
                let newest = rows::head(connection)?.seq;
                let after = shown.max(newest - SHOWN as i64);
                Ok((first, rows::after(connection, after, SHOWN)?))
            })
            .await
    }

    fn publish(&self, first: i64, new: Vec<AuditEntry>, shown: i64) -> i64 {
        let last = new.last().map_or(shown, |entry| entry.seq);
        let oldest = first.max(last - SHOWN as i64 + 1);
        self.hub.commit_with(|table| {
            let old: Vec<Change> = table
                .rows(Kind::Audit)
                .filter_map(|row| row.as_audit())
                .filter(|entry| entry.seq < oldest)
                .map(|entry| Change::Remove {
                    kind: Kind::Audit,
                    key: entry.key.clone(),
                    reason: "there are newer ones; older entries are asked for".into(),
                })
                .collect();
            let new = new
                .into_iter()
                .map(|entry| Change::Upsert(Arc::new(Entity::from(entry))));
            old.into_iter().chain(new).collect::<Vec<_>>()
        });
        last
    }

    /// Writes notes down as they come, many at once when there are many.
    pub(super) async fn write_notes(&self, stop: &CancellationToken) {
        let mut noted = self.noted.lock().await;
        let mut fold = Fold::default();
        let mut losses = EpochMs(0);
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            let lost = self.dropped.load(Ordering::Relaxed) > 0;
            let next = fold.next().into_iter().chain(lost.then_some(losses)).min();
            let told = async {
                match next {
                    Some(at) => {
                        let wait = at.since(EpochMs::now()).clamp(0, WINDOW_MS);
                        tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let mut write = Vec::new();
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                first = noted.recv() => {
                    self.take(&mut fold, first, &mut noted, &mut write);
                    false
                }
                () = told => false,
            };
            if stopped {
                self.take(&mut fold, None, &mut noted, &mut write);
                write.extend(fold.end());
            } else {
                write.extend(fold.due(EpochMs::now()));
            }
            // They are told of once a minute too.
            let now = EpochMs::now();
            let dropped = if stopped || now >= losses || losses.since(now) > WINDOW_MS {
                losses = EpochMs(now.0 + WINDOW_MS);
                self.dropped.swap(0, Ordering::Relaxed)
            } else {
                0
            };
            let written = self.write(write, dropped).await;
            if stopped {
                return;
            }
            if written {
                backoff = Backoff::new(AGAIN.0, AGAIN.1);
            } else {
                // The disk is full, perhaps: what comes meanwhile waits, or is counted.
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(backoff.next(1.0)) => {}
                }
            }
        }
    }

    /// Takes what waits.
    fn take(
        &self,
        fold: &mut Fold,
        first: Option<Entry>,
        noted: &mut mpsc::Receiver<Entry>,
        write: &mut Vec<Entry>,
    ) {
        let waiting = std::iter::from_fn(|| noted.try_recv().ok());
        let now = EpochMs::now();
        for entry in first.into_iter().chain(waiting).take(AT_ONCE) {
            match fold.offer(entry, now) {
                Offered::Write(entry) => write.push(entry),
                Offered::Counted => {}
                Offered::Dropped => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Writes entries, and how many were lost before them. Says whether it could.
    pub(super) async fn write(&self, mut entries: Vec<Entry>, dropped: u64) -> bool {
        let noted = entries.len() as u64;
        if dropped > 0 {
            let detail = match dropped {
                1 => "1 event found no room and is not here".to_owned(),
                dropped => format!("{dropped} events found no room and are not here"),
            };
            entries.push(Entry::server("audit.dropped", Outcome::Failed).detail(&detail));
        }
        if entries.is_empty() {
            return true;
        }
        let written = self
            .store
            .run(move |connection| {
                for entry in &entries {
                    rows::append(connection, entry)?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = written {
            tracing::error!(%error, noted, "events could not be written to the audit");
            self.dropped.fetch_add(dropped + noted, Ordering::Relaxed);
            return false;
        }
        true
    }
}
