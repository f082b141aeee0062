//! Managed jobs that are being cancelled are followed to their end.
//!
//! SkyPilot's controller carries a cancellation out some seconds after the request for it has ended, and no
//! request tells when. So for a while after such a request, and while a job is on its way out, the jobs that
//! are not over are asked for by number, one call after the other: a call by number also brings what has just
//! ended, which the list of unfinished jobs does not.

use std::sync::Arc;

use serde_json::json;
use skytower_api_client::entity::Job;
use skytower_api_client::{Kind, Phase};
use tokio::time::Instant;

use super::Poller;
use crate::source::skypilot::map;

/// Jobs that are followed at the same time: those on their way out first, then the newest.
const FOLLOWED: usize = 100;

impl Poller {
    /// Follows managed jobs closely for a while.
    pub(super) fn hurry(&self) {
        self.hurry
            .send_replace(Some(Instant::now() + self.pace.hurry));
    }

    pub(super) async fn escort(self: Arc<Self>) {
        let mut hurry = self.hurry.subscribe();
        let mut link = self.link.subscribe();
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
            match self.follow(&followed).await {
                Ok(arrived) => {
                    let waits = self
                        .on_their_way()
                        .iter()
                        .any(|job| job.phase == Phase::Stopping);
                    if arrived && !waits {
                        self.hurry.send_replace(None);
                    }
                }
                // The list's own looks say what is wrong; a server in trouble is not hurried.
                Err(_) => {
                    self.hurry.send_replace(None);
                }
            }
            tokio::time::sleep(self.pace.gap).await;
        }
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

    /// One look at these jobs. True when one of them has ended.
    async fn follow(&self, followed: &[Job]) -> Result<bool, super::CallError> {
        let mut numbers: Vec<i64> = followed.iter().map(|job| job.job_id).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let records = self
            .ask_for_jobs(json!({"job_ids": numbers}), map::FINAL_FIELDS)
            .await?;
        let (mut rows, _) = self.decode_jobs(&records);
        rows.retain_mut(|row| {
            let before = followed.iter().find(|job| job.key == row.key);
            if !row.phase.is_over() {
                // As in the list of unfinished jobs.
                row.duration_s = None;
            }
            before.is_some_and(|before| before.status != row.status)
        });
        let arrived = rows.iter().any(|row| row.phase.is_over());
        self.commit_jobs(rows);
        Ok(arrived)
    }
}
