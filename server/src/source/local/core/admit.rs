//! Who may begin: first come, first served within a queue; between queues whoever fits.

use std::collections::BTreeMap;

use skytower_api_client::Text;

use super::{Effect, Engine};
use crate::source::local::machine::{Machine, Need, Taken, number};
use crate::source::local::state::{ClusterStage, Purpose, Stage, Work};

impl Engine {
    pub(super) fn admit(&mut self) {
        let waiting: Vec<u64> = self
            .live
            .iter()
            .copied()
            .filter(|id| {
                let work = self.state.works.get(id);
                work.is_some_and(|work| work.stage == Stage::Waiting && work.stop.is_none())
            })
            .collect();
        if waiting.is_empty() {
            return;
        }
        let mut taken = Taken::default();
        let mut in_cluster: BTreeMap<Text, Taken> = BTreeMap::new();
        for work in self.live.iter().filter_map(|id| self.state.works.get(id)) {
            if work.holds() {
                taken.add(&work.task, &work.accelerators);
                if let Purpose::ClusterJob { cluster, .. } = &work.purpose {
                    let queue = in_cluster.entry(cluster.clone()).or_default();
                    queue.add(&work.task, &work.accelerators);
                }
            }
        }
        let mut first: BTreeMap<Text, i64> = BTreeMap::new();
        for id in waiting {
            let Some(work) = self.state.works.get(&id) else {
                continue;
            };
            let verdict = self.verdict(work, &taken, &in_cluster, &first);
            let queue = match &work.purpose {
                Purpose::ClusterJob { cluster, id } => Some((cluster.clone(), *id)),
                _ => None,
            };
            match verdict {
                Ok(cards) => {
                    if let Some((cluster, _)) = queue {
                        in_cluster
                            .entry(cluster)
                            .or_default()
                            .add(&work.task, &cards);
                    }
                    taken.add(&work.task, &cards);
                    self.begin_work(id, cards);
                }
                Err(why) => {
                    if let Some((cluster, job)) = queue {
                        first.entry(cluster).or_insert(job);
                    }
                    let why = Text::from(why);
                    if work.why.as_ref() != Some(&why)
                        && let Some(work) = self.state.work_mut(&id)
                    {
                        work.why = Some(why);
                    }
                }
            }
        }
    }

    fn begin_work(&mut self, id: u64, cards: Vec<Vec<u32>>) {
        if let Some(work) = self.state.work_mut(&id) {
            work.accelerators = cards;
            work.why = None;
            work.stage = Stage::Preparing;
        }
        self.effects.push(Effect::Prepare(id));
        self.changed = true;
    }

    /// The accelerators of each node, or why it has to wait.
    fn verdict(
        &self,
        work: &Work,
        taken: &Taken,
        in_cluster: &BTreeMap<Text, Taken>,
        first: &BTreeMap<Text, i64>,
    ) -> Result<Vec<Vec<u32>>, String> {
        if let Purpose::Balancer { .. } = work.purpose {
            return Ok(Vec::new());
        }
        if let Some(low) = &self.disk {
            return Err(low.to_string());
        }
        if let Purpose::ClusterJob { cluster, .. } = &work.purpose {
            let Some(there) = self.state.clusters.get(cluster) else {
                return Err("waits for its cluster".to_owned());
            };
            if there.stage != ClusterStage::Up {
                return Err("waits for its cluster, which is not up".to_owned());
            }
            if let Some(job) = first.get(cluster) {
                return Err(format!("waits behind job {job} of this cluster"));
            }
            if let Some(cpus) = there.task.resources.cpus {
                let nodes = f64::from(there.task.num_nodes.max(1));
                let size = Machine {
                    cpus: cpus * nodes,
                    ..self.machine.clone()
                };
                let none = Taken::default();
                let queue = Taken {
                    memory_gb: 0.0,
                    ..in_cluster.get(cluster).unwrap_or(&none).clone()
                };
                let need = Need::of(&work.task).cpus * f64::from(work.task.num_nodes.max(1));
                if queue.cpus + need > size.cpus + 1e-6 {
                    return Err(format!(
                        "waits for CPUs of its cluster: needs {}, {} of {} are free",
                        number(need),
                        number((size.cpus - queue.cpus).max(0.0)),
                        number(size.cpus)
                    ));
                }
            }
        }
        taken.fits(&work.task, &self.machine)
    }
}
