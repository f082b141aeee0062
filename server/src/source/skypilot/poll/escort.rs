//! Managed jobs that are being cancelled are followed to their end.
//!
//! SkyPilot's controller carries a cancellation out some seconds after it was asked for, and no request tells
//! when. So while such a request runs, for a while after it, and while a job is on its way out, the jobs that
//! are not over are looked at closely. A few are asked for their events: that takes SkyPilot a fraction of a
//! second, and each change of status is one. Many are asked for by number, which also brings what has just
//! ended, as the list of unfinished jobs does not; it takes seconds, nearly all of them before the records are
//! read, so a second call begins half way through the first.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skytower_api_client::entity::Job;
use skytower_api_client::phase::phase_of;
use skytower_api_client::wire::Change;
use skytower_api_client::{Kind, Phase, Text};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::records;
use super::{CallError, Poller};
use crate::source::skypilot::map;

/// Jobs that are followed at the same time: those on their way out first, then the newest.
const FOLLOWED: usize = 100;
/// Looks under way at the same time.
const AT_ONCE: usize = 2;
/// So many jobs are asked for their events rather than by number.
const FEW: usize = 4;

/// Events in which the newest status is looked for: some tell of a request only.
const STATUS_EVENTS: usize = 5;

impl Poller {
    /// Follows managed jobs closely for a while.
    pub(super) fn hurry(&self) {
        self.hurry
            .send_replace(Some(Instant::now() + self.pace.hurry));
    }

    pub(super) async fn escort(self: Arc<Self>) {
        let mut hurry = self.hurry.subscribe();
        let mut link = self.link.subscribe();
        let mut calls = JoinSet::new();
        let mut took = Duration::ZERO;
        loop {
            let due = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
            if hurry.wait_for(due).await.is_err() || link.wait_for(|up| *up).await.is_err() {
                return;
            }
            let followed = self.on_their_way();
            if followed.is_empty() {
                self.hurry.send_replace(None);
                continue;
            }
            calls.spawn(self.clone().follow(followed));
            let next = tokio::time::sleep((took / 2).max(self.pace.gap));
            tokio::pin!(next);
            // Until there is room for another call, and its time has come.
            let mut time_has_come = false;
            while !time_has_come || calls.len() >= AT_ONCE {
                tokio::select! {
                    () = &mut next, if !time_has_come => time_has_come = true,
                    Some(ended) = calls.join_next() => {
                        took = self.arrived(ended.ok());
                    }
                }
            }
        }
    }

    /// What a call says about going on. Returns how long it took.
    fn arrived(&self, call: Option<(Duration, Result<bool, CallError>)>) -> Duration {
        let Some((took, outcome)) = call else {
            return Duration::ZERO;
        };
        let over = match outcome {
            Ok(ended) => {
                ended
                    && !self
                        .on_their_way()
                        .iter()
                        .any(|job| job.phase == Phase::Stopping)
            }
            // The list's own looks say what is wrong; a server in trouble is not hurried.
            Err(_) => true,
        };
        if over {
            self.hurry.send_replace(None);
        }
        took
    }

    /// Tasks that are not over, those on their way out first.
    fn on_their_way(&self) -> Vec<Job> {
        let mut jobs = self.rows(Kind::Job, |row| {
            row.as_job().filter(|job| !job.phase.is_over()).cloned()
        });
        jobs.sort_by_key(|job| (job.phase != Phase::Stopping, -job.job_id));
        jobs.truncate(FOLLOWED);
        jobs
    }

    /// One look at these jobs: how long it took, and whether one of them has ended.
    async fn follow(self: Arc<Self>, followed: Vec<Job>) -> (Duration, Result<bool, CallError>) {
        let started = Instant::now();
        let outcome = self.read_followed(&followed).await;
        (started.elapsed(), outcome)
    }

    async fn read_followed(&self, followed: &[Job]) -> Result<bool, CallError> {
        let leaving = followed
            .iter()
            .take_while(|job| job.phase == Phase::Stopping)
            .count();
        let closely = if leaving > 0 { leaving } else { followed.len() };
        if closely > FEW {
            return self.read_by_number(followed).await;
        }
        let followed = &followed[..closely];
        let mut ended = Vec::new();
        for job in followed {
            match self.status_by_events(job).await? {
                None => return self.read_by_number(followed).await,
                Some(status) if status == job.status => {}
                Some(status) => {
                    let phase = phase_of(Kind::Job, &status);
                    let row = Job {
                        status,
                        phase,
                        ..job.clone()
                    };
                    if self.commit_followed(followed, vec![row]) {
                        ended.push(job.job_id);
                    }
                }
            }
        }
        if !ended.is_empty() {
            // When it ended and why is not in its events.
            let answer = self
                .ask_for_jobs(json!({"job_ids": ended}), map::FINAL_FIELDS, None)
                .await?;
            let (rows, _) = self.decode_jobs(answer)?;
            self.commit_jobs(rows.into_iter().filter(|row| row.phase.is_over()).collect());
        }
        Ok(!ended.is_empty())
    }

    /// The status of a task by its newest event; none when SkyPilot tells of none.
    async fn status_by_events(&self, job: &Job) -> Result<Option<Text>, CallError> {
        let path = "/jobs/events";
        let body = json!({
            "job_id": job.job_id, "task_id": job.task_id, "limit": STATUS_EVENTS, "include_cluster_events": false,
        });
        let answer = self.client.ask(path, body, self.pace.deadline).await?;
        Ok(map::job_status(job.task_id, &records(path, &answer)?))
    }

    async fn read_by_number(&self, followed: &[Job]) -> Result<bool, CallError> {
        let mut numbers: Vec<i64> = followed.iter().map(|job| job.job_id).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let answer = self
            .ask_for_jobs(json!({"job_ids": numbers}), map::FINAL_FIELDS, None)
            .await?;
        let (mut rows, _) = self.decode_jobs(answer)?;
        for row in rows.iter_mut().filter(|row| !row.phase.is_over()) {
            // As in the list of unfinished jobs.
            row.duration_s = None;
        }
        Ok(self.commit_followed(followed, rows))
    }

    /// Takes in what one look saw change and no other one meanwhile. True when something has ended.
    fn commit_followed(&self, followed: &[Job], mut rows: Vec<Job>) -> bool {
        let mut ended = false;
        self.commit_with(|table| {
            rows.retain(|row| {
                let before = followed.iter().find(|job| job.key == row.key);
                let now = table.get(&row.key).and_then(|now| now.as_job());
                before.zip(now).is_some_and(|(before, now)| {
                    before.status != row.status && before.status == now.status
                })
            });
            ended = rows.iter().any(|row| row.phase.is_over());
            if rows.iter().any(|row| row.phase == Phase::Stopping) {
                self.hurry();
            }
            rows.into_iter().map(|row| Change::Upsert(row.into()))
        });
        ended
    }
}
