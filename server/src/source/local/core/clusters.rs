//! Clusters: what stops or ends them, and when they are idle.

use skytower_api_client::{EpochMs, Text};

use super::{Effect, Engine};
use crate::source::local::state::{Cluster, ClusterStage, Purpose};

impl Engine {
    /// The works of a cluster that are not over.
    pub(super) fn works_of_cluster(&self, name: &Text) -> Vec<u64> {
        let live = self.live.iter().copied();
        live.filter(|id| {
            self.state.works.get(id).is_some_and(|work| {
                !work.is_over()
                    && matches!(&work.purpose, Purpose::ClusterJob { cluster, .. } if cluster == name)
            })
        })
        .collect()
    }

    pub(super) fn step_clusters(&mut self) {
        let names: Vec<Text> = self.state.clusters.keys().cloned().collect();
        for name in names {
            self.step_cluster(&name);
        }
    }

    fn step_cluster(&mut self, name: &Text) {
        let Some(cluster) = self.state.clusters.get(name) else {
            return;
        };
        let (now, why) = (self.now, cluster.why.clone().unwrap_or_default());
        match cluster.stage {
            ClusterStage::Stopped | ClusterStage::Gone => {}
            ClusterStage::Up => {
                let busy = !self.works_of_cluster(name).is_empty();
                if busy {
                    // Written once a minute at most: it only has to outlive a restart roughly.
                    if now.since(cluster.active_at) > 60_000
                        && let Some(cluster) = self.state.cluster_mut(name)
                    {
                        cluster.active_at = now;
                    }
                } else if self.idle_alarm(cluster).is_some_and(|at| at <= now) {
                    let autostop = cluster.autostop.unwrap_or_default();
                    let why =
                        Text::from(format!("idle for {} min (autostop)", autostop.idle_minutes));
                    self.end_cluster(name, autostop.down, &why);
                }
            }
            ClusterStage::Stopping | ClusterStage::Downing => {
                let down = cluster.stage == ClusterStage::Downing;
                let works = self.works_of_cluster(name);
                for work in &works {
                    self.stop_work(*work, &why);
                }
                if !works.is_empty() {
                    return;
                }
                if let Some(cluster) = self.state.cluster_mut(name) {
                    if down {
                        cluster.stage = ClusterStage::Gone;
                        cluster.ended_at = Some(now);
                        cluster.story.add(now, format!("Torn down: {why}"));
                    } else {
                        cluster.stage = ClusterStage::Stopped;
                        cluster.autostop = None;
                        cluster.story.add(now, format!("Stopped: {why}"));
                    }
                }
                if down {
                    self.effects.push(Effect::RemoveFolder(folder_of(name)));
                }
                self.changed = true;
            }
        }
    }

    /// Begins to stop a cluster, or to take it down.
    pub(super) fn end_cluster(&mut self, name: &Text, down: bool, why: &Text) {
        if let Some(cluster) = self.state.cluster_mut(name) {
            cluster.stage = if down {
                ClusterStage::Downing
            } else {
                ClusterStage::Stopping
            };
            cluster.why = Some(why.clone());
            self.changed = true;
        }
    }

    /// When it will have been idle for long enough, should nothing happen.
    pub(super) fn idle_alarm(&self, cluster: &Cluster) -> Option<EpochMs> {
        let autostop = cluster.autostop?;
        if cluster.stage != ClusterStage::Up || !self.works_of_cluster(&cluster.name).is_empty() {
            return None;
        }
        Some(EpochMs(
            cluster.active_at.0 + i64::from(autostop.idle_minutes) * 60_000,
        ))
    }

    /// A job of it ended: it was not idle until now.
    pub(super) fn cluster_was_active(&mut self, name: &Text) {
        let now = self.now;
        if let Some(cluster) = self.state.cluster_mut(name) {
            cluster.active_at = now;
        }
    }
}

/// The folder of a cluster's nodes, relative to the engine's.
pub(super) fn folder_of(name: &str) -> String {
    format!("clusters/{name}")
}
