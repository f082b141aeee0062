//! What is over is forgotten after a while, with its logs.

use std::collections::BTreeMap;

use skytower_api_client::Text;

use super::{Effect, Engine};
use crate::source::local::state::{Purpose, Record, Work};

/// How long it is remembered that a cluster or a service was there, as of a SkyPilot source.
const TOMBSTONE_MS: i64 = 3600 * 1000;
/// How long managed jobs that are over are kept, and how many.
const JOBS_KEPT_MS: i64 = 7 * 24 * 3600 * 1000;
const JOBS_KEPT: usize = 1000;
/// Finished jobs of one cluster that are kept.
const QUEUE_KEPT: usize = 200;

impl Engine {
    pub(super) fn forget(&mut self) {
        let now = self.now;
        let clusters: Vec<Text> = self
            .state
            .clusters
            .values()
            .filter(|cluster| {
                let after = if cluster.belongs.cleared {
                    0
                } else {
                    TOMBSTONE_MS
                };
                cluster.ended_at.is_some_and(|at| now.since(at) >= after)
                    && cluster.stage == crate::source::local::state::ClusterStage::Gone
            })
            .map(|cluster| cluster.name.clone())
            .collect();
        for name in clusters {
            let jobs = self.state.cluster_jobs.keys();
            let jobs: Vec<_> = jobs.filter(|(c, _)| *c == name).cloned().collect();
            for job in jobs {
                self.forget_cluster_job(&job);
            }
            self.state.clusters.remove(&name);
            self.state.dirty.insert(Record::Cluster(name));
        }
        self.forget_old_queues();
        self.forget_jobs();
        let services: Vec<Text> = self
            .state
            .services
            .values()
            .filter(|service| {
                let after = if service.belongs.cleared {
                    0
                } else {
                    TOMBSTONE_MS
                };
                service.ended_at.is_some_and(|at| now.since(at) >= after)
            })
            .map(|service| service.name.clone())
            .collect();
        for name in services {
            self.state.services.remove(&name);
            self.state.dirty.insert(Record::Service(name));
        }
        self.forget_orphans();
    }

    fn forget_old_queues(&mut self) {
        let mut over: BTreeMap<&Text, Vec<i64>> = BTreeMap::new();
        for ((cluster, id), job) in &self.state.cluster_jobs {
            if self.work_is_over(job.work) {
                over.entry(cluster).or_default().push(*id);
            }
        }
        let go: Vec<(Text, i64)> = over
            .into_iter()
            .flat_map(|(cluster, ids)| {
                let surplus = ids.len().saturating_sub(QUEUE_KEPT);
                ids.into_iter()
                    .take(surplus)
                    .map(|id| (cluster.clone(), id))
            })
            .collect();
        for job in go {
            self.forget_cluster_job(&job);
        }
    }

    fn forget_jobs(&mut self) {
        let now = self.now;
        let over: Vec<(i64, bool)> = self
            .state
            .jobs
            .values()
            .filter_map(|job| {
                let old = now.since(job.ended_at()?) > JOBS_KEPT_MS;
                Some((job.id, old || job.belongs.cleared))
            })
            .collect();
        let surplus = over.len().saturating_sub(JOBS_KEPT);
        for (i, (id, old)) in over.into_iter().enumerate() {
            if !old && i >= surplus {
                continue;
            }
            if let Some(job) = self.state.jobs.remove(&id) {
                for task in &job.tasks {
                    for work in task.earlier.iter().chain(&task.work) {
                        self.forget_work(*work);
                    }
                }
            }
            self.state.dirty.insert(Record::Job(id));
        }
    }

    pub(super) fn forget_cluster_job(&mut self, job: &(Text, i64)) {
        if let Some(there) = self.state.cluster_jobs.remove(job) {
            self.forget_work(there.work);
            self.state
                .dirty
                .insert(Record::ClusterJob(job.0.clone(), job.1));
        }
    }

    /// Works of replicas and balancers that nobody refers to any more.
    fn forget_orphans(&mut self) {
        let go: Vec<u64> = self
            .state
            .works
            .values()
            .filter(|work| work.is_over())
            .filter(|work| match &work.purpose {
                Purpose::Replica { service, id } => {
                    let service = self.state.services.get(service);
                    service.is_none_or(|service| {
                        service
                            .replicas
                            .iter()
                            .all(|r| r.id != *id || r.work != work.id)
                    })
                }
                Purpose::Balancer { service } => {
                    let service = self.state.services.get(service);
                    service.is_none_or(|service| service.balancer != work.id)
                }
                _ => false,
            })
            .map(|work| work.id)
            .collect();
        for id in go {
            self.forget_work(id);
        }
    }

    fn forget_work(&mut self, id: u64) {
        // One that is not over is never forgotten: its processes would be nobody's.
        if !self.work_is_over(id) {
            return;
        }
        let Some(work) = self.state.works.remove(&id) else {
            return;
        };
        self.state.dirty.insert(Record::Work(id));
        let units =
            (0..work.units.len()).map(|unit| Effect::RemoveUnit(Work::unit_name(&work, unit)));
        self.effects.extend(units);
    }
}
