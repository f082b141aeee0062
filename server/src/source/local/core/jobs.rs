//! Managed jobs: one task after the other, started again when they break.

use skytower_api_client::{EpochMs, Text};

use super::{Effect, Engine};
use crate::source::local::state::{End, Job, Purpose, Stage, TaskStage, Work};

/// The first wait before an attempt that broke is repeated; it doubles up to [`AGAIN_MOST_MS`].
const AGAIN_LEAST_MS: i64 = 1_000;
const AGAIN_MOST_MS: i64 = 60_000;

impl Engine {
    pub(super) fn step_jobs(&mut self) {
        let live: Vec<i64> = self.live_jobs.iter().copied().collect();
        for id in live {
            self.step_job(id);
        }
    }

    fn step_job(&mut self, id: i64) {
        let Some(job) = self.state.jobs.get(&id) else {
            return;
        };
        let Some(number) = job.tasks.iter().position(|task| !task.stage.is_over()) else {
            return;
        };
        let broke = job.tasks[..number]
            .iter()
            .any(|task| task.stage != TaskStage::Succeeded);
        if broke {
            let why = Text::from(format!("task {} did not succeed", number - 1));
            return self.end_task(id, number, TaskStage::Cancelled, Some(why));
        }
        let task = &job.tasks[number];
        if let Some(why) = job.cancelled.clone() {
            return match task.work {
                Some(work) if task.stage == TaskStage::Going && !self.work_is_over(work) => {
                    self.stop_work(work, &why);
                }
                Some(work) if task.stage == TaskStage::Going && self.succeeded(work) => {
                    // It was faster.
                    self.end_task(id, number, TaskStage::Succeeded, None);
                }
                _ => self.end_task(id, number, TaskStage::Cancelled, Some(why)),
            };
        }
        match task.stage {
            TaskStage::Pending => self.attempt(id, number),
            TaskStage::Recovering if task.again_at.is_none_or(|at| at <= self.now) => {
                self.attempt(id, number);
            }
            TaskStage::Going => self.watch_task(id, number),
            _ => {}
        }
    }

    fn succeeded(&self, work: u64) -> bool {
        let work = self.state.works.get(&work);
        work.is_some_and(|work| work.stage == Stage::Ended(End::Succeeded))
    }

    /// Starts a task, for the first time or again.
    fn attempt(&mut self, id: i64, number: usize) {
        let Some(job) = self.state.jobs.get(&id) else {
            return;
        };
        let task = job.tasks[number].task.clone();
        if let Some(why) = self.machine.impossible(&task) {
            let why = Some(Text::from(why));
            return self.end_task(id, number, TaskStage::FailedNoResource, why);
        }
        let nodes = task.num_nodes.max(1) as usize;
        let addresses = self.state.take_addresses(nodes);
        let work = Work {
            purpose: Purpose::JobTask {
                job: id,
                task: number,
            },
            with_setup: true,
            with_files: true,
            folder: folder_of(id, number),
            addresses,
            env: [
                ("SKYPILOT_MANAGED_JOB_ID".to_owned(), id.to_string()),
                ("SKYPILOT_TASK_INDEX".to_owned(), number.to_string()),
            ]
            .into(),
            task,
            submitted_at: self.now,
            ..Work::default()
        };
        let work = self.state.add_work(work);
        self.live.insert(work);
        let now = self.now;
        if let Some(job) = self.state.job_mut(&id) {
            let task = &mut job.tasks[number];
            task.earlier.extend(task.work.replace(work));
            task.stage = TaskStage::Going;
            task.again_at = None;
            let what = if task.recoveries + i64::from(task.restarts) > 0 {
                "Started again"
            } else {
                "Submitted"
            };
            job.story.add(now, format!("{what}: task {number}"));
        }
        self.changed = true;
    }

    fn watch_task(&mut self, id: i64, number: usize) {
        let Some(job) = self.state.jobs.get(&id) else {
            return;
        };
        let task = &job.tasks[number];
        let Some(work) = task.work.and_then(|work| self.state.works.get(&work)) else {
            // Its work was forgotten, which does not happen while the job lives.
            return self.recover(id, number, &"what became of it was lost".into(), false);
        };
        if task.started_at.is_none() && work.started_at.is_some() {
            let at = work.started_at;
            if let Some(job) = self.state.job_mut(&id) {
                job.tasks[number].started_at = at;
                self.changed = true;
            }
            return self.watch_task(id, number);
        }
        let Stage::Ended(end) = &work.stage else {
            return;
        };
        match end.clone() {
            End::Succeeded => self.end_task(id, number, TaskStage::Succeeded, None),
            End::Failed(why) if task.restarts < task.task.resources.max_restarts_on_errors => {
                self.recover(id, number, &why, true);
            }
            End::Failed(why) => {
                let why = match task.restarts {
                    0 => why,
                    n => Text::from(format!("{why}; it was started again {n} times before")),
                };
                self.end_task(id, number, TaskStage::Failed, Some(why));
            }
            End::FailedSetup(why) => self.end_task(id, number, TaskStage::FailedSetup, Some(why)),
            End::FailedFiles(why) => {
                self.end_task(id, number, TaskStage::FailedPrechecks, Some(why));
            }
            End::Lost(why) => self.recover(id, number, &why, false),
            // Nobody stops the work of a job that is not cancelled.
            End::Stopped => self.recover(id, number, &"its processes were ended".into(), false),
        }
    }

    /// Has a task started again, sooner the first time than later.
    fn recover(&mut self, id: i64, number: usize, why: &Text, by_itself: bool) {
        let now = self.now;
        let ran = self.ran_ms(id, number);
        if let Some(job) = self.state.job_mut(&id) {
            let task = &mut job.tasks[number];
            task.ran_ms += ran;
            task.recoveries += 1;
            task.restarts += u32::from(by_itself);
            task.stage = TaskStage::Recovering;
            let wait = AGAIN_LEAST_MS << task.recoveries.clamp(1, 7) >> 1;
            task.again_at = Some(EpochMs(now.0 + wait.min(AGAIN_MOST_MS)));
            task.why = Some(if by_itself {
                let most = task.task.resources.max_restarts_on_errors;
                Text::from(format!("{why}; restart {} of {most}", task.restarts))
            } else {
                why.clone()
            });
            job.story
                .add(now, format!("Recovering task {number}: {why}"));
        }
        self.changed = true;
    }

    /// How long the present attempt ran.
    fn ran_ms(&self, id: i64, number: usize) -> i64 {
        let task = self.state.jobs.get(&id).map(|job| &job.tasks[number]);
        let work = task.and_then(|task| self.state.works.get(&task.work?));
        work.and_then(|work| Some(work.ended_at?.since(work.started_at?)))
            .unwrap_or_default()
    }

    fn end_task(&mut self, id: i64, number: usize, stage: TaskStage, why: Option<Text>) {
        let now = self.now;
        let ran = self.ran_ms(id, number);
        if let Some(job) = self.state.job_mut(&id) {
            let task = &mut job.tasks[number];
            // An attempt that was counted when it broke is not counted again.
            if task.stage == TaskStage::Going {
                task.ran_ms += ran;
            }
            task.stage = stage;
            task.ended_at = Some(now);
            task.again_at = None;
            task.why.clone_from(&why);
            let reason = why.map(|why| format!(": {why}")).unwrap_or_default();
            job.story
                .add(now, format!("{}: task {number}{reason}", stage.words()));
        }
        // Its short-lived cluster goes with it; its logs stay.
        self.effects
            .push(Effect::RemoveFolder(folder_of(id, number)));
        self.changed = true;
    }

    /// Cancels a managed job with all its tasks.
    pub(super) fn cancel_job(&mut self, id: i64, why: &Text) {
        let open = self.state.jobs.get(&id).is_some_and(|job| !job.is_over());
        let now = self.now;
        if open && let Some(job) = self.state.job_mut(&id) {
            cancel(job, why, now);
            self.changed = true;
        }
    }
}

fn cancel(job: &mut Job, why: &Text, now: EpochMs) {
    if job.cancelled.is_none() {
        job.cancelled = Some(why.clone());
        job.story.add(now, format!("Cancelling: {why}"));
    }
}

/// The folder of a task's nodes, relative to the engine's.
pub(super) fn folder_of(id: i64, number: usize) -> String {
    format!("jobs/{id}-{number}")
}
