//! Managed jobs. The list costs SkyPilot seconds, so the finished ones are asked for rarely; a job
//! that left the unfinished list is asked for by its number at once, and gets its final status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use skytower_api_client::entity::Job;
use skytower_api_client::wire::Change;
use skytower_api_client::{Key, Kind, Phase, Table, Text};
use tokio::time::Instant;

use super::ledger::{Ledger, records_in};
use super::{Books, Look, Poller, removal};
use crate::source::skypilot::client::{CallError, Fresh};
use crate::source::skypilot::map;

const PATH: &str = "/jobs/queue/v2";
/// Jobs asked for by number in one call.
const NUMBERS_AT_ONCE: usize = 200;
/// Finished jobs in a look at the latest.
const LATEST: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Jobs {
    history_at: Option<Instant>,
    /// Tasks that were neither in the unfinished list nor found by number, the last time.
    lost: BTreeSet<Key>,
}

/// What the list of unfinished jobs amounts to.
pub(super) struct Live {
    note: Option<Text>,
    /// Records that could not be read: what is missing may be one of them.
    unreadable: bool,
    /// Unfinished tasks that it does not name any more.
    left: BTreeMap<Key, i64>,
}

impl Poller {
    pub(super) async fn look_at_jobs(&self, books: &mut Books) -> Result<Look, CallError> {
        let known = books.ledger.known();
        let live = self
            .ask_for_jobs(json!({"skip_finished": true}), map::LIVE_FIELDS, known)
            .await?;
        let Live {
            mut note,
            unreadable,
            left,
        } = self.take_live(live, &mut books.ledger)?;
        let mut doubtful = false;
        if !left.is_empty() && !unreadable {
            doubtful = self.settle(left, &mut books.jobs).await?;
        }
        let due = books
            .jobs
            .history_at
            .is_none_or(|at| at.elapsed() >= self.pace.history);
        if due {
            let first = books.jobs.history_at.is_none();
            let limit = if first {
                self.pace.history_rows
            } else {
                LATEST
            };
            let page = json!({"page": 1, "limit": limit.max(1)});
            let finished = self.ask_for_jobs(page, map::FINAL_FIELDS, None).await?;
            let (rows, malformed) = self.decode_jobs(finished)?;
            // Unfinished ones were just seen without their durations: that look stands.
            self.commit_jobs(rows.into_iter().filter(|row| row.phase.is_over()).collect());
            if malformed > 0 && note.is_none() {
                note = Some(format!("{malformed} finished jobs could not be read").into());
            }
            books.jobs.history_at = Some(Instant::now());
            self.trim_history();
        }
        self.board.read(Kind::Job, note);
        Ok(if doubtful { Look::Again } else { Look::Done })
    }

    /// Takes in the list of unfinished jobs; none when it is the same as the last time.
    pub(super) fn take_live(
        &self,
        answer: Option<Fresh>,
        ledger: &mut Ledger,
    ) -> Result<Live, CallError> {
        let reading = if let Some(Fresh { json, mark }) = answer {
            let reading = ledger.read(&records_in(PATH, &json)?, |record| {
                let row: Job = map::job(&self.name, record)?;
                Ok((row.key.clone(), row))
            });
            ledger.mark(mark, &reading);
            reading
        } else {
            ledger.unchanged()
        };
        let left = self
            .rows(Kind::Job, |row| {
                let job = row.as_job()?;
                (!job.phase.is_over() && !reading.present.contains(&job.key))
                    .then(|| (job.key.clone(), job.job_id))
            })
            .into_iter()
            .collect();
        let live = Live {
            note: reading.note(),
            unreadable: reading.malformed > 0,
            left,
        };
        self.commit_jobs(reading.changed);
        Ok(live)
    }

    /// Asks for the final state of tasks that left the unfinished list. True when some were not
    /// found; they are believed to be gone when they are not found the next time either.
    async fn settle(&self, left: BTreeMap<Key, i64>, jobs: &mut Jobs) -> Result<bool, CallError> {
        let numbers: BTreeSet<i64> = left.values().copied().collect();
        let numbers: Vec<i64> = numbers.into_iter().collect();
        let mut found = BTreeSet::new();
        for numbers in numbers.chunks(NUMBERS_AT_ONCE) {
            let answer = self
                .ask_for_jobs(json!({"job_ids": numbers}), map::FINAL_FIELDS, None)
                .await?;
            let (rows, malformed) = self.decode_jobs(answer)?;
            if malformed > 0 {
                // Which task is unreadable is not known: none of these is believed to be gone.
                found.extend(left.keys().cloned());
            }
            found.extend(rows.iter().map(|row| row.key.clone()));
            self.commit_jobs(rows);
        }
        let lost: BTreeSet<Key> = left
            .into_keys()
            .filter(|key| !found.contains(key))
            .collect();
        let reason = "no longer listed by SkyPilot".into();
        self.commit(
            lost.intersection(&jobs.lost)
                .filter_map(|key| removal(key.clone(), &reason)),
        );
        let doubtful = lost.difference(&jobs.lost).next().is_some();
        jobs.lost = lost;
        Ok(doubtful)
    }

    pub(super) async fn ask_for_jobs(
        &self,
        narrowed: Value,
        fields: &[&str],
        known: Option<u64>,
    ) -> Result<Option<Fresh>, CallError> {
        let with_fields = self.job_fields.load(Ordering::Relaxed);
        let mut body = narrowed;
        body["all_users"] = true.into();
        if with_fields {
            body["fields"] = fields.into();
        }
        let asked = self
            .client
            .ask_unless(PATH, body.clone(), self.pace.deadline, known)
            .await;
        match asked {
            // A version that does not know one of the fields: ask for all of them from now on.
            Err(error) if with_fields && names_a_field(&error) => {
                self.job_fields.store(false, Ordering::Relaxed);
                if let Some(body) = body.as_object_mut() {
                    body.remove("fields");
                }
                self.client
                    .ask_unless(PATH, body, self.pace.deadline, known)
                    .await
            }
            asked => asked,
        }
    }

    pub(super) fn decode_jobs(
        &self,
        answer: Option<Fresh>,
    ) -> Result<(Vec<Job>, usize), CallError> {
        let Some(Fresh { json, .. }) = answer else {
            return Ok((Vec::new(), 0));
        };
        let records = records_in(PATH, &json)?;
        let rows: Vec<Job> = records
            .iter()
            .filter_map(|record| map::job(&self.name, record).ok())
            .collect();
        let malformed = records.len() - rows.len();
        Ok((rows, malformed))
    }

    pub(super) fn commit_jobs(&self, rows: Vec<Job>) {
        if rows.iter().any(|row| row.phase == Phase::Stopping) {
            self.hurry();
        }
        // Two looks may overlap: what has ended does not go on, and an answer that says so was late.
        let late = |table: &Table, row: &Job| {
            let before = table.get(&row.key).and_then(|before| before.as_job());
            before.is_some_and(|before| {
                before.phase.is_over()
                    && !row.phase.is_over()
                    && before.submitted_at == row.submitted_at
            })
        };
        self.commit_with(|table| {
            let news = rows.into_iter().filter(|row| !late(table, row));
            news.map(|row| Change::Upsert(row.into()))
                .collect::<Vec<_>>()
        });
    }

    /// Lets go of the oldest finished jobs beyond the number that is kept.
    fn trim_history(&self) {
        let mut finished = self.rows(Kind::Job, |row| {
            let job = row.as_job()?;
            job.phase.is_over().then(|| (job.job_id, job.key.clone()))
        });
        let keep = self.pace.history_rows.max(LATEST) * 2;
        if finished.len() <= keep {
            return;
        }
        finished.sort_unstable();
        let reason = "finished long ago; SkyPilot still has it".into();
        let surplus = finished.len() - keep;
        self.commit(
            finished
                .into_iter()
                .take(surplus)
                .filter_map(|(_, key)| removal(key, &reason)),
        );
    }
}

fn names_a_field(error: &CallError) -> bool {
    match error {
        CallError::Rejected(message) => message.contains("field"),
        CallError::Failed { kind, message } => {
            *kind == "KeyError" || message.contains("field") || message.contains("column")
        }
        _ => false,
    }
}
