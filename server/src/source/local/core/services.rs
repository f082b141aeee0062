//! Services: as many ready replicas as wanted, a balancer in front, one version after the other.

use std::net::Ipv4Addr;

use skytower_api_client::task::{ServiceSpec, Task};
use skytower_api_client::{EpochMs, Text};

use super::{Effect, Engine};
use crate::source::local::state::{End, Purpose, Replica, ReplicaStage, Service, Stage, Work};

/// How long a replica that was ready may be silent before it is replaced, as SkyServe.
const SILENT_MOST_MS: i64 = 180_000;
/// How often a replica is asked: one that is not ready, one that is.
const ASK_COMING_MS: i64 = 500;
const ASK_READY_MS: i64 = 2_000;
/// How long a replica that goes may finish what it began.
const DRAIN_MOST_MS: i64 = 30_000;
/// The longest wait before a replica is launched when those before it failed.
const AGAIN_MOST_MS: i64 = 60_000;
/// After so many failures in a row without a ready replica the service counts as failed.
pub(in crate::source::local) const FAILURES_TOO_MANY: u32 = 3;
/// Failed replicas that are kept to be looked at.
const FAILED_KEPT: usize = 3;
/// How often the balancer is started again at most.
const BALANCER_AGAIN_MS: i64 = 1_000;

/// The address of a node by its number.
pub(in crate::source::local) fn address(net: u8, number: u32) -> Ipv4Addr {
    let number = number % 65_000;
    Ipv4Addr::new(127, net, (number / 254) as u8, (number % 254 + 1) as u8)
}

/// A replica that counts: it serves, or is on its way to.
fn is_wanted(replica: &Replica) -> bool {
    replica.stage == ReplicaStage::Wanted
}

impl Engine {
    pub(super) fn step_services(&mut self) {
        let names: Vec<Text> = self
            .state
            .services
            .values()
            .filter(|service| service.ended_at.is_none())
            .map(|service| service.name.clone())
            .collect();
        for name in names {
            self.note_replicas(&name);
            self.step_balancer(&name);
            if self.state.services[&name].down.is_some() {
                self.take_down(&name);
            } else {
                self.scale(&name);
                self.balance_versions(&name);
            }
            self.tell_balancer(&name);
            self.drain(&name);
            self.ask_replicas(&name);
        }
    }

    /// The task of a replica's version.
    fn task_of<'a>(service: &'a Service, replica: &Replica) -> Option<(&'a Task, &'a ServiceSpec)> {
        let task = service.versions.get(&replica.version)?;
        Some((task, task.service.as_ref()?))
    }

    /// What became of the replicas' processes, and of those that never got ready.
    fn note_replicas(&mut self, name: &Text) {
        let now = self.now;
        let Some(service) = self.state.services.get(name) else {
            return;
        };
        let mut news = Vec::new();
        for (i, replica) in service.replicas.iter().enumerate() {
            let Some(work) = self.state.works.get(&replica.work) else {
                continue;
            };
            let spec = Self::task_of(service, replica).map(|(_, spec)| spec);
            if let Stage::Ended(end) = &work.stage {
                if replica.ended_at.is_none() {
                    news.push((i, News::Over(end.clone())));
                }
                continue;
            }
            if work.stage == Stage::Run && replica.began_at.is_none() && work.started_at.is_some() {
                news.push((i, News::Began));
            }
            if replica.stage != ReplicaStage::Wanted {
                continue;
            }
            let patience = spec.map_or(0, |spec| {
                i64::from(spec.readiness_probe.initial_delay_seconds) * 1000
            });
            if !replica.was_ready && replica.began_at.is_some_and(|at| now.since(at) > patience) {
                news.push((i, News::NeverReady));
            }
            let silent = |at| now.since(at) > SILENT_MOST_MS;
            if replica.was_ready && replica.silent_since.is_some_and(silent) {
                news.push((i, News::Silent));
            }
        }
        for (i, news) in news {
            self.changed = true;
            let mut stop = None;
            if let Some(service) = self.state.service_mut(name) {
                let replica = &mut service.replicas[i];
                let id = replica.id;
                match news {
                    News::Began => replica.began_at = Some(now),
                    News::NeverReady => {
                        let said = replica.why.clone().unwrap_or_default();
                        let why = format!("was not ready in the time allowed: {said}");
                        replica.stage = ReplicaStage::FailedInitialDelay;
                        replica.why = Some(Text::from(why));
                        replica.ready = false;
                        stop = Some(replica.work);
                        failed(service, false, now);
                    }
                    News::Silent => {
                        let said = replica.why.clone().unwrap_or_default();
                        let why = format!("stopped answering its probe: {said}");
                        replica.stage = ReplicaStage::FailedProbing;
                        replica.why = Some(Text::from(why));
                        replica.ready = false;
                        stop = Some(replica.work);
                    }
                    News::Over(end) => {
                        replica.ended_at = Some(now);
                        replica.ready = false;
                        match replica.stage {
                            ReplicaStage::Wanted => {
                                let why = end_of(&end);
                                let was_ready = replica.was_ready;
                                replica.stage = ReplicaStage::Failed;
                                replica.why = Some(why.clone());
                                service
                                    .story
                                    .add(now, format!("Replica {id} failed: {why}"));
                                failed(service, was_ready, now);
                            }
                            ReplicaStage::Draining | ReplicaStage::Stopping => {
                                replica.stage = ReplicaStage::Ended;
                                service.story.add(now, format!("Replica {id} ended"));
                            }
                            _ => {}
                        }
                        self.effects.push(Effect::RemoveFolder(folder_of(name, id)));
                    }
                }
            }
            if let Some(work) = stop {
                self.stop_work(work, &"it did not answer its probe".into());
            }
        }
        self.forget_replicas(name);
    }

    fn forget_replicas(&mut self, name: &Text) {
        let service = &self.state.services[name];
        let over = |replica: &&Replica| replica.ended_at.is_some();
        let failed = service.replicas.iter().filter(over);
        let failed = failed.filter(|replica| replica.stage != ReplicaStage::Ended);
        let surplus = failed.clone().count().saturating_sub(FAILED_KEPT);
        let mut go: Vec<i64> = failed.take(surplus).map(|replica| replica.id).collect();
        let ended = service.replicas.iter().filter(over);
        go.extend(
            ended
                .filter(|replica| replica.stage == ReplicaStage::Ended)
                .map(|replica| replica.id),
        );
        if go.is_empty() {
            return;
        }
        if let Some(service) = self.state.service_mut(name) {
            service.replicas.retain(|replica| !go.contains(&replica.id));
            let version = service.version;
            let used: Vec<i64> = service.replicas.iter().map(|r| r.version).collect();
            service
                .versions
                .retain(|number, _| *number == version || used.contains(number));
        }
        self.changed = true;
    }

    fn step_balancer(&mut self, name: &Text) {
        let service = &self.state.services[name];
        let (id, now) = (service.balancer, self.now);
        let due = match self.state.works.get(&id) {
            None => true,
            Some(work) => {
                work.is_over()
                    && work
                        .ended_at
                        .is_none_or(|at| now.since(at) >= BALANCER_AGAIN_MS)
            }
        };
        if !due || service.down.is_some() {
            return;
        }
        let work = Work {
            purpose: Purpose::Balancer {
                service: name.clone(),
            },
            task: Task {
                num_nodes: 1,
                // The engine puts its own program here.
                run: Some(String::new()),
                ..Task::default()
            },
            folder: format!("services/{name}/balancer"),
            addresses: vec![0],
            submitted_at: now,
            ..Work::default()
        };
        let id = self.state.add_work(work);
        self.live.insert(id);
        if let Some(service) = self.state.service_mut(name) {
            service.balancer = id;
        }
        self.effects.push(Effect::TellBalancer(name.clone()));
        self.changed = true;
    }

    /// How many replicas the load wants, once it has wanted them for long enough.
    fn scale(&mut self, name: &Text) {
        let service = &self.state.services[name];
        let Some(spec) = service
            .versions
            .get(&service.version)
            .and_then(|task| task.service.as_ref())
        else {
            return;
        };
        let (least, most, now) = (
            spec.min_replicas,
            spec.max_replicas.max(spec.min_replicas),
            self.now,
        );
        let standing = self.standings.get(name);
        let load = standing.map_or(0.0, |standing| standing.requests_per_second);
        let desired = match spec.target_qps_per_replica {
            Some(each) if each > 0.0 && standing.is_some() => {
                ((load / each).ceil() as u32).clamp(least, most)
            }
            _ => service.target.clamp(least, most),
        };
        let scaling = match service.scaling {
            _ if desired == service.target => None,
            Some((wanted, since)) if wanted == desired => Some((wanted, since)),
            _ => Some((desired, now)),
        };
        let delay = if desired > service.target {
            spec.upscale_delay_seconds
        } else {
            spec.downscale_delay_seconds
        };
        let at_once = service.target < least || service.target > most;
        let due = scaling
            .is_some_and(|(_, since)| at_once || now.since(since) >= i64::from(delay) * 1000);
        if scaling != service.scaling || due {
            if let Some(service) = self.state.service_mut(name) {
                service.scaling = scaling;
                if due {
                    service.scaling = None;
                    let text = format!("Scaled from {} to {desired} replicas", service.target);
                    service.target = desired;
                    service.story.add(now, text);
                }
            }
            self.changed = true;
        }
    }

    /// Launches what is missing of the latest version; takes an older replica away for each new one
    /// that is ready, and what is too much.
    fn balance_versions(&mut self, name: &Text) {
        let service = &self.state.services[name];
        let target = service.target as usize;
        let (version, now) = (service.version, self.now);
        let there = || service.replicas.iter().filter(|each| is_wanted(each));
        let new = || there().filter(|replica| replica.version == version);
        let old = || there().filter(|replica| replica.version != version);
        let coming = new().filter(|replica| !replica.ready).count();
        let ready_new = new().filter(|replica| replica.ready).count();
        let missing = target.saturating_sub(new().count());
        // During an update one at a time: the machine is not to hold twice of everything.
        let launch = if old().count() > 0 {
            missing.min(1_usize.saturating_sub(coming))
        } else {
            missing
        };
        let may = service.again_at.is_none_or(|at| at <= now);
        // The old ones stay until as many are ready as are wanted.
        let surplus_old = (ready_new + old().count()).saturating_sub(target);
        let mut go: Vec<i64> = {
            let mut old: Vec<&Replica> = old().collect();
            old.sort_by_key(|replica| (replica.ready, replica.id));
            let unready = old.iter().filter(|replica| !replica.ready).count();
            // An old one that is not ready serves nobody, once a new one does.
            let n = if ready_new > 0 {
                surplus_old.max(unready.min(old.len()))
            } else {
                surplus_old
            };
            old.iter().take(n).map(|replica| replica.id).collect()
        };
        if old().count() == 0 {
            let mut new: Vec<&Replica> = new().collect();
            new.sort_by_key(|replica| (replica.ready, std::cmp::Reverse(replica.id)));
            let surplus = new.len().saturating_sub(target);
            go.extend(new.iter().take(surplus).map(|replica| replica.id));
        }
        for id in go {
            self.begin_drain(name, id);
        }
        if may {
            for _ in 0..launch {
                self.launch_replica(name);
            }
        }
    }

    fn launch_replica(&mut self, name: &Text) {
        let Some(service) = self.state.services.get(name) else {
            return;
        };
        let Some(task) = service.versions.get(&service.version).cloned() else {
            return;
        };
        let (id, now) = (service.next_replica, self.now);
        let port = task.service.as_ref().map_or(0, |spec| spec.port);
        let addresses = self.state.take_addresses(task.num_nodes.max(1) as usize);
        let address = addresses.first().copied().unwrap_or_default();
        let work = Work {
            purpose: Purpose::Replica {
                service: name.clone(),
                id,
            },
            with_setup: true,
            with_files: true,
            folder: folder_of(name, id),
            addresses,
            env: [
                ("SKYPILOT_SERVE_REPLICA_ID".to_owned(), id.to_string()),
                ("SKYPILOT_SERVE_PORT".to_owned(), port.to_string()),
            ]
            .into(),
            task,
            submitted_at: now,
            ..Work::default()
        };
        let work = self.state.add_work(work);
        self.live.insert(work);
        if let Some(service) = self.state.service_mut(name) {
            service.next_replica += 1;
            service.replicas.push(Replica {
                id,
                version: service.version,
                work,
                address,
                launched_at: now,
                ..Replica::default()
            });
            let text = format!("Launched replica {id} of version {}", service.version);
            service.story.add(now, text);
        }
        self.changed = true;
    }

    /// A replica gets no new requests from now on.
    pub(super) fn begin_drain(&mut self, name: &Text, id: i64) {
        let now = self.now;
        let Some(service) = self.state.service_mut(name) else {
            return;
        };
        let found = service.replicas.iter_mut().find(|replica| replica.id == id);
        if let Some(replica) = found.filter(|replica| replica.stage == ReplicaStage::Wanted) {
            replica.stage = ReplicaStage::Draining;
            replica.ready = false;
            replica.draining_since = Some(now);
            self.changed = true;
        }
    }

    /// Stops those whose requests are over.
    fn drain(&mut self, name: &Text) {
        let service = &self.state.services[name];
        let now = self.now;
        let standing = self.standings.get(name);
        let empty = |id: i64| {
            standing.is_some_and(|standing| {
                standing.revision >= service.revision
                    && standing
                        .in_flight
                        .get(&id.to_string())
                        .is_none_or(|n| *n == 0)
            })
        };
        let go: Vec<(i64, u64)> = service
            .replicas
            .iter()
            .filter(|replica| replica.stage == ReplicaStage::Draining)
            .filter(|replica| {
                !replica.was_ready
                    || empty(replica.id)
                    || replica
                        .draining_since
                        .is_none_or(|at| now.since(at) > DRAIN_MOST_MS)
            })
            .map(|replica| (replica.id, replica.work))
            .collect();
        for (id, work) in go {
            if let Some(service) = self.state.service_mut(name)
                && let Some(replica) = service.replicas.iter_mut().find(|r| r.id == id)
            {
                replica.stage = ReplicaStage::Stopping;
            }
            self.stop_work(work, &"it is not needed any more".into());
            self.changed = true;
        }
    }

    /// Writes down what the balancer is to be told, when it is something new.
    fn tell_balancer(&mut self, name: &Text) {
        let service = &self.state.services[name];
        let ready: Vec<(i64, u32)> = service
            .replicas
            .iter()
            .filter(|each| is_wanted(each))
            .filter(|replica| replica.ready)
            .map(|replica| (replica.id, replica.address))
            .collect();
        if ready == service.told {
            return;
        }
        let now = self.now;
        if let Some(service) = self.state.service_mut(name) {
            if service.ready_since.is_none() && !ready.is_empty() {
                service.ready_since = Some(now);
                service.story.add(now, "Ready");
            }
            service.told = ready;
            service.revision += 1;
        }
        self.effects.push(Effect::TellBalancer(name.clone()));
        self.changed = true;
    }

    fn ask_replicas(&mut self, name: &Text) {
        let service = &self.state.services[name];
        let now = self.now;
        for replica in &service.replicas {
            let runs = replica.began_at.is_some() && replica.ended_at.is_none();
            if !runs || replica.stage != ReplicaStage::Wanted {
                self.asked.remove(&(name.clone(), replica.id));
                continue;
            }
            let every = if replica.ready {
                ASK_READY_MS
            } else {
                ASK_COMING_MS
            };
            let key = (name.clone(), replica.id);
            let due = match self.asked.get(&key) {
                None => true,
                Some((at, outstanding)) => !outstanding && now.since(*at) >= every,
            };
            if due {
                self.asked.insert(key, (now, true));
                self.effects.push(Effect::Probe {
                    service: name.clone(),
                    replica: replica.id,
                });
            }
        }
    }

    pub(super) fn probed(&mut self, name: &Text, id: i64, result: Result<(), Text>) {
        if let Some((_, outstanding)) = self.asked.get_mut(&(name.clone(), id)) {
            *outstanding = false;
        }
        let now = self.now;
        let Some(service) = self.state.services.get(name) else {
            return;
        };
        let Some(i) = service.replicas.iter().position(|replica| replica.id == id) else {
            return;
        };
        let replica = &service.replicas[i];
        if replica.stage != ReplicaStage::Wanted || replica.ended_at.is_some() {
            return;
        }
        let same = match &result {
            Ok(()) => replica.ready,
            Err(why) => !replica.ready && replica.why.as_ref() == Some(why),
        };
        if same {
            return;
        }
        self.changed = true;
        if let Some(service) = self.state.service_mut(name) {
            let replica = &mut service.replicas[i];
            match result {
                Ok(()) => {
                    replica.ready = true;
                    replica.was_ready = true;
                    replica.silent_since = None;
                    replica.why = None;
                    service.failures = 0;
                    service.again_at = None;
                    service.story.add(now, format!("Replica {id} is ready"));
                }
                Err(why) => {
                    if replica.was_ready {
                        replica.silent_since.get_or_insert(now);
                    }
                    replica.ready = false;
                    replica.why = Some(why);
                }
            }
        }
    }

    /// Ends all replicas, then the balancer.
    fn take_down(&mut self, name: &Text) {
        let now = self.now;
        let service = &self.state.services[name];
        let why = service.down.clone().unwrap_or_default();
        let (balancer, mut works) = (service.balancer, Vec::new());
        for replica in &service.replicas {
            if !self.work_is_over(replica.work) {
                works.push((replica.id, replica.work));
            }
        }
        for (id, work) in &works {
            if let Some(service) = self.state.service_mut(name)
                && let Some(replica) = service.replicas.iter_mut().find(|r| r.id == *id)
                && matches!(replica.stage, ReplicaStage::Wanted | ReplicaStage::Draining)
            {
                replica.stage = ReplicaStage::Stopping;
                replica.ready = false;
                self.changed = true;
            }
            self.stop_work(*work, &why);
        }
        if !works.is_empty() {
            return;
        }
        if !self.work_is_over(balancer) {
            return self.stop_work(balancer, &why);
        }
        if let Some(service) = self.state.service_mut(name) {
            service.ended_at = Some(now);
            service.replicas.clear();
            service.story.add(now, format!("Torn down: {why}"));
        }
        self.standings.remove(name);
        self.effects
            .push(Effect::RemoveFolder(format!("services/{name}")));
        self.changed = true;
    }
}

enum News {
    Began,
    NeverReady,
    Silent,
    Over(End),
}

fn failed(service: &mut Service, was_ready: bool, now: EpochMs) {
    if was_ready {
        return;
    }
    service.failures += 1;
    let wait = 1000_i64 << service.failures.min(7) >> 1;
    service.again_at = Some(EpochMs(now.0 + wait.min(AGAIN_MOST_MS)));
}

fn end_of(end: &End) -> Text {
    match end {
        End::Succeeded => "its program ended".into(),
        End::Stopped => "its processes were ended".into(),
        End::Failed(why) | End::FailedFiles(why) | End::Lost(why) => why.clone(),
        End::FailedSetup(why) => Text::from(format!("its setup failed: {why}")),
    }
}

/// The folder of a replica's nodes, relative to the engine's.
pub(super) fn folder_of(name: &str, id: i64) -> String {
    format!("services/{name}/{id}")
}
