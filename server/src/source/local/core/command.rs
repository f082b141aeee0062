//! What people order.

use skytower_api_client::action::LOCAL;
use skytower_api_client::task::{Autostop, Task, TaskFile};
use skytower_api_client::wire::Problem;
use skytower_api_client::{Key, Kind, Text, human};

use super::Engine;
use crate::source::local::machine::Need;
use crate::source::local::state::{
    Belongs, Cluster, ClusterJob, ClusterStage, Job, JobTask, Purpose, Record, Replica,
    ReplicaStage, Service, Work,
};

/// An order, with who gave it.
#[derive(Debug)]
pub(in crate::source::local) struct Command {
    pub order: Order,
    pub by: Text,
}

/// What is to be done.
#[derive(Debug)]
pub(in crate::source::local) enum Order {
    Launch {
        name: Option<Text>,
        file: TaskFile,
        belongs: Belongs,
        /// Instead of what the file says.
        autostop: Option<Autostop>,
    },
    Exec {
        cluster: Text,
        file: TaskFile,
        belongs: Belongs,
    },
    JobsLaunch {
        name: Option<Text>,
        file: TaskFile,
        belongs: Belongs,
    },
    Relaunch(i64),
    ServeUp {
        name: Option<Text>,
        file: TaskFile,
        belongs: Belongs,
        /// A port for the balancer that was free a moment ago.
        port: u16,
    },
    ServeUpdate {
        name: Text,
        file: TaskFile,
        yaml: String,
    },
    Stop(Text),
    StartAgain(Text),
    Down(Text),
    Autostop {
        cluster: Text,
        autostop: Option<Autostop>,
    },
    CancelJob(i64),
    CancelClusterJob(Text, i64),
    ServiceDown(Text),
    TerminateReplica(Text, i64),
    Clear(Text),
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::source::local) struct Done {
    /// What was made, or changed.
    pub key: Key,
    /// One sentence for people.
    pub message: Option<Text>,
}

/// Why an order cannot be carried out.
pub(in crate::source::local) type Refused = Problem;

fn refused(detail: impl Into<Text>) -> Refused {
    Problem::new("refused", 409, detail)
}

fn key(kind: Kind, id: impl std::fmt::Display) -> Key {
    Key::new(LOCAL, kind, id)
}

fn done(kind: Kind, id: impl std::fmt::Display, message: Option<String>) -> Done {
    Done {
        key: key(kind, id),
        message: message.map(Text::from),
    }
}

impl Engine {
    /// Carries an order out, or says why not; then nothing has changed.
    pub(in crate::source::local) fn order(&mut self, command: Command) -> Result<Done, Refused> {
        let by = command.by;
        match command.order {
            Order::Launch {
                name,
                file,
                belongs,
                autostop,
            } => self.launch(name, file, belongs, autostop),
            Order::Exec {
                cluster,
                file,
                belongs,
            } => {
                let (task, name) = single(file)?;
                self.accepts(&cluster, &task)?;
                let Some(run) = &task.run else {
                    return Err(refused(
                        "the file has no `run`: there is nothing to execute",
                    ));
                };
                debug_assert!(!run.is_empty());
                Ok(self.enqueue(&cluster, task, name, belongs, false))
            }
            Order::JobsLaunch {
                name,
                file,
                belongs,
            } => self.jobs_launch(name, file, belongs),
            Order::Relaunch(id) => {
                let Some(job) = self.state.jobs.get(&id) else {
                    return Err(refused(format!("there is no managed job {id} any more")));
                };
                let belongs = Belongs {
                    created_at: self.now,
                    cleared: false,
                    ..job.belongs.clone()
                };
                let file = TaskFile {
                    name: Some(job.name.clone()),
                    tasks: job.tasks.iter().map(|task| task.task.clone()).collect(),
                };
                self.jobs_launch(None, file, belongs)
            }
            Order::ServeUp {
                name,
                file,
                belongs,
                port,
            } => self.serve_up(name, file, belongs, port),
            Order::ServeUpdate { name, file, yaml } => self.serve_update(&name, file, yaml),
            Order::Stop(name) => {
                let cluster = self.cluster(&name)?;
                if cluster.stage == ClusterStage::Up {
                    self.end_cluster(&name, false, &Text::from(format!("stopped by {by}")));
                }
                Ok(done(Kind::Cluster, &name, None))
            }
            Order::Down(name) => {
                let cluster = self.cluster(&name)?;
                if cluster.stage != ClusterStage::Downing {
                    self.end_cluster(&name, true, &Text::from(format!("terminated by {by}")));
                }
                Ok(done(Kind::Cluster, &name, None))
            }
            Order::StartAgain(name) => {
                match self.cluster(&name)?.stage {
                    ClusterStage::Stopped => {}
                    ClusterStage::Up => return Ok(done(Kind::Cluster, &name, None)),
                    _ => {
                        return Err(refused(format!(
                            "cluster `{name}` is on its way down: start it when it has stopped"
                        )));
                    }
                }
                self.start_again(&name);
                Ok(done(Kind::Cluster, &name, None))
            }
            Order::Autostop { cluster, autostop } => {
                if self.cluster(&cluster)?.stage != ClusterStage::Up {
                    return Err(refused(format!("cluster `{cluster}` is not up")));
                }
                let now = self.now;
                if let Some(there) = self.state.cluster_mut(&cluster) {
                    there.autostop = autostop;
                    // As at SkyPilot: the time counts from here.
                    there.active_at = now;
                }
                Ok(done(Kind::Cluster, &cluster, None))
            }
            Order::CancelJob(id) => {
                if !self.state.jobs.contains_key(&id) {
                    return Err(refused(format!("there is no managed job {id}")));
                }
                self.cancel_job(id, &Text::from(format!("cancelled by {by}")));
                Ok(done(Kind::Job, format_args!("{id}/0"), None))
            }
            Order::CancelClusterJob(cluster, id) => {
                let job = self.state.cluster_jobs.get(&(cluster.clone(), id));
                let Some(work) = job.map(|job| job.work) else {
                    return Err(refused(format!("cluster `{cluster}` has no job {id}")));
                };
                self.stop_work(work, &Text::from(format!("cancelled by {by}")));
                Ok(done(Kind::ClusterJob, format_args!("{cluster}/{id}"), None))
            }
            Order::ServiceDown(name) => {
                self.service(&name)?;
                if let Some(service) = self.state.service_mut(&name) {
                    let why = Text::from(format!("terminated by {by}"));
                    service.down.get_or_insert(why);
                }
                Ok(done(Kind::Service, &name, None))
            }
            Order::TerminateReplica(name, id) => self.terminate_replica(&name, id, &by),
            Order::Clear(label) => Ok(self.clear(&label, &by)),
        }
    }

    fn cluster(&self, name: &Text) -> Result<&Cluster, Refused> {
        let cluster = self.state.clusters.get(name);
        cluster
            .filter(|cluster| cluster.stage != ClusterStage::Gone)
            .ok_or_else(|| refused(format!("there is no cluster `{name}`")))
    }

    fn service(&self, name: &Text) -> Result<&Service, Refused> {
        let service = self.state.services.get(name);
        service
            .filter(|service| service.ended_at.is_none())
            .ok_or_else(|| refused(format!("there is no service `{name}`")))
    }

    /// The cluster takes this task.
    fn accepts(&self, name: &Text, task: &Task) -> Result<(), Refused> {
        let cluster = self.cluster(name)?;
        if cluster.stage != ClusterStage::Up {
            return Err(refused(format!(
                "cluster `{name}` is not up: start it first (`skytower start {name}`)"
            )));
        }
        if task.num_nodes > cluster.task.num_nodes {
            return Err(refused(format!(
                "the task wants {} nodes and cluster `{name}` has {}",
                task.num_nodes, cluster.task.num_nodes
            )));
        }
        let (need, has) = (Need::of(task), &cluster.task.resources);
        if has.cpus.is_some_and(|cpus| need.cpus > cpus + 1e-6) {
            return Err(refused(format!(
                "the task wants {} CPUs and each node of cluster `{name}` has {}",
                need.cpus,
                has.cpus.unwrap_or_default()
            )));
        }
        let cards = has.accelerators.as_ref().map_or(0, |(_, n)| *n);
        if need.accelerators > cards {
            return Err(refused(format!(
                "the task wants {} accelerators and each node of cluster `{name}` has {cards}",
                need.accelerators
            )));
        }
        self.possible(task)
    }

    fn possible(&self, task: &Task) -> Result<(), Refused> {
        self.machine
            .impossible(task)
            .map_or(Ok(()), |why| Err(refused(why)))
    }

    fn start_again(&mut self, name: &Text) {
        let now = self.now;
        if let Some(cluster) = self.state.cluster_mut(name) {
            cluster.stage = ClusterStage::Up;
            cluster.why = None;
            cluster.autostop = None;
            cluster.active_at = now;
            cluster.launched_at = now;
            cluster.story.add(now, "Started");
        }
    }

    fn launch(
        &mut self,
        name: Option<Text>,
        file: TaskFile,
        belongs: Belongs,
        autostop: Option<Autostop>,
    ) -> Result<Done, Refused> {
        let (task, task_name) = single(file)?;
        let name = match name {
            Some(name) => name,
            None => self.new_name(&belongs.owner),
        };
        let autostop = autostop.or(task.resources.autostop);
        let now = self.now;
        match self.state.clusters.get(&name).map(|cluster| cluster.stage) {
            // Whoever names a cluster that is there may not know whose it is; `exec` asks.
            Some(stage)
                if stage != ClusterStage::Gone
                    && self.state.clusters[&name].belongs.is_apart_from(&belongs) =>
            {
                return Err(is_taken(&name));
            }
            Some(ClusterStage::Up | ClusterStage::Stopped)
                if self.state.clusters[&name].belongs.owner != belongs.owner =>
            {
                let owner = &self.state.clusters[&name].belongs.owner;
                return Err(
                    refused(format!("cluster `{name}` belongs to {owner}")).hint(format!(
                        "take another name, or add to its queue: skytower exec {name} FILE"
                    )),
                );
            }
            Some(ClusterStage::Up | ClusterStage::Stopped) => {
                let stopped = self.state.clusters[&name].stage == ClusterStage::Stopped;
                if stopped {
                    // Whether it takes the task is asked of it as it will be.
                    self.start_again(&name);
                }
                if let Err(why) = self.accepts(&name, &task) {
                    if stopped {
                        self.end_cluster(&name, false, &"it was stopped".into());
                    }
                    return Err(why);
                }
                if let Some(cluster) = self.state.cluster_mut(&name) {
                    cluster.launched_at = now;
                    cluster.active_at = now;
                    cluster.autostop = autostop.or(cluster.autostop);
                }
            }
            Some(ClusterStage::Stopping | ClusterStage::Downing) => {
                return Err(refused(format!(
                    "cluster `{name}` is on its way down: launch again when that is over"
                )));
            }
            Some(ClusterStage::Gone) | None => {
                self.possible(&task)?;
                let old: Vec<(Text, i64)> = {
                    let jobs = self.state.cluster_jobs.keys();
                    jobs.filter(|(cluster, _)| *cluster == name)
                        .cloned()
                        .collect()
                };
                for job in old {
                    self.forget_cluster_job(&job);
                }
                let addresses = self.state.take_addresses(task.num_nodes.max(1) as usize);
                let mut cluster = Cluster {
                    name: name.clone(),
                    belongs: belongs.clone(),
                    task: task.clone(),
                    addresses,
                    launched_at: now,
                    active_at: now,
                    autostop,
                    next_job: 1,
                    ..Cluster::default()
                };
                cluster
                    .story
                    .add(now, format!("Launched by {}", belongs.owner));
                self.state.clusters.insert(name.clone(), cluster);
                self.state.dirty.insert(Record::Cluster(name.clone()));
            }
        }
        self.changed = true;
        if task.run.is_none() && task.setup.is_none() {
            let message = Some(format!("cluster `{name}` is up"));
            return Ok(done(Kind::Cluster, &name, message));
        }
        Ok(self.enqueue(&name, task, task_name, belongs, true))
    }

    /// Puts a task into a cluster's queue.
    fn enqueue(
        &mut self,
        name: &Text,
        task: Task,
        task_name: Option<Text>,
        belongs: Belongs,
        with_setup: bool,
    ) -> Done {
        let now = self.now;
        let (id, addresses) = match self.state.cluster_mut(name) {
            None => (1, Vec::new()),
            Some(cluster) => {
                let id = cluster.next_job;
                cluster.next_job += 1;
                cluster.active_at = now;
                let nodes = task.num_nodes.max(1) as usize;
                (id, cluster.addresses.iter().copied().take(nodes).collect())
            }
        };
        let work = Work {
            purpose: Purpose::ClusterJob {
                cluster: name.clone(),
                id,
            },
            task,
            with_setup,
            with_files: true,
            folder: super::clusters::folder_of(name),
            addresses,
            env: [
                ("SKYPILOT_CLUSTER_NAME".to_owned(), name.to_string()),
                ("SKYPILOT_INTERNAL_JOB_ID".to_owned(), id.to_string()),
            ]
            .into(),
            submitted_at: now,
            ..Work::default()
        };
        let work = self.state.add_work(work);
        self.live.insert(work);
        let job_name = task_name.unwrap_or_else(|| "sky-cmd".into());
        let message = format!("job {id} `{job_name}` submitted to cluster `{name}`");
        self.state.cluster_jobs.insert(
            (name.clone(), id),
            ClusterJob {
                cluster: name.clone(),
                id,
                name: job_name,
                belongs,
                work,
            },
        );
        self.state
            .dirty
            .insert(Record::ClusterJob(name.clone(), id));
        self.changed = true;
        done(Kind::ClusterJob, format_args!("{name}/{id}"), Some(message))
    }

    fn jobs_launch(
        &mut self,
        name: Option<Text>,
        file: TaskFile,
        belongs: Belongs,
    ) -> Result<Done, Refused> {
        if let Some(task) = file.tasks.iter().find(|task| task.run.is_none()) {
            let which = task.name.as_deref().unwrap_or("the task");
            return Err(refused(format!(
                "{which} has no `run`: a managed job would have nothing to do"
            )));
        }
        let id = self.state.counters.job;
        self.state.counters.job += 1;
        self.state.dirty.insert(Record::Counters);
        let name = name
            .or(file.name)
            .unwrap_or_else(|| Text::from(format!("sky-job-{id}")));
        let several = file.tasks.len() > 1;
        let tasks = file
            .tasks
            .into_iter()
            .enumerate()
            .map(|(number, task)| JobTask {
                name: match (&task.name, several) {
                    (Some(own), true) => own.clone(),
                    (None, true) => Text::from(format!("{name}-{number}")),
                    (_, false) => name.clone(),
                },
                task,
                ..JobTask::default()
            });
        let mut job = Job {
            id,
            name: name.clone(),
            tasks: tasks.collect(),
            belongs,
            ..Job::default()
        };
        let by = job.belongs.owner.clone();
        job.story.add(self.now, format!("Submitted by {by}"));
        self.state.jobs.insert(id, job);
        self.state.dirty.insert(Record::Job(id));
        self.live_jobs.insert(id);
        self.changed = true;
        let message = Some(format!("managed job {id} `{name}` submitted"));
        Ok(done(Kind::Job, format_args!("{id}/0"), message))
    }

    fn serve_up(
        &mut self,
        name: Option<Text>,
        file: TaskFile,
        belongs: Belongs,
        port: u16,
    ) -> Result<Done, Refused> {
        let (task, task_name) = single(file)?;
        let Some(spec) = &task.service else {
            return Err(refused("the file has no `service` section").hint(
                "see SkyPilot's documentation of SkyServe: at least readiness_probe and replicas",
            ));
        };
        self.possible(&task)?;
        let Some(name) = name.or(task_name) else {
            return Err(refused("the service has no name: give it one with -n"));
        };
        let there = self.state.services.get(&name);
        if let Some(there) = there.filter(|service| service.ended_at.is_none()) {
            if there.belongs.is_apart_from(&belongs) {
                return Err(is_taken(&name));
            }
            return Err(refused(format!("there is a service `{name}` already"))
                .hint(format!("a new version: skytower serve update {name} FILE")));
        }
        let target = spec.min_replicas;
        let mut service = Service {
            name: name.clone(),
            belongs,
            versions: [(1, task)].into(),
            version: 1,
            port,
            next_replica: 1,
            target,
            ..Service::default()
        };
        let by = service.belongs.owner.clone();
        service.story.add(self.now, format!("Brought up by {by}"));
        self.state.services.insert(name.clone(), service);
        self.state.dirty.insert(Record::Service(name.clone()));
        self.changed = true;
        let message = format!("service `{name}` comes up on http://127.0.0.1:{port}");
        Ok(done(Kind::Service, &name, Some(message)))
    }

    fn serve_update(&mut self, name: &Text, file: TaskFile, yaml: String) -> Result<Done, Refused> {
        let (task, _) = single(file)?;
        let Some(spec) = task.service.clone() else {
            return Err(refused("the file has no `service` section"));
        };
        self.possible(&task)?;
        if self.service(name)?.down.is_some() {
            return Err(refused(format!("service `{name}` is on its way down")));
        }
        let now = self.now;
        let mut version = 0;
        if let Some(service) = self.state.service_mut(name) {
            service.version += 1;
            version = service.version;
            service.versions.insert(version, task);
            service.target = service
                .target
                .clamp(spec.min_replicas, spec.max_replicas.max(spec.min_replicas));
            service.belongs.yaml = yaml;
            // What failed was of the version before.
            service.failures = 0;
            service.again_at = None;
            service
                .story
                .add(now, format!("Update to version {version}"));
        }
        self.changed = true;
        let message =
            format!("service `{name}` is updated to version {version}, replica by replica");
        Ok(done(Kind::Service, name, Some(message)))
    }

    fn terminate_replica(&mut self, name: &Text, id: i64, by: &Text) -> Result<Done, Refused> {
        let service = self.service(name)?;
        let found = service.replicas.iter().find(|replica| replica.id == id);
        let Some(replica) = found else {
            return Err(refused(format!("service `{name}` has no replica {id}")));
        };
        let over = replica.ended_at.is_some();
        let now = self.now;
        self.begin_drain(name, id);
        if let Some(service) = self.state.service_mut(name) {
            service
                .story
                .add(now, format!("Replica {id} terminated by {by}"));
            if over {
                service
                    .replicas
                    .retain(|replica: &Replica| replica.id != id);
            } else if let Some(replica) = service.replicas.iter_mut().find(|r| {
                r.id == id
                    && matches!(
                        r.stage,
                        ReplicaStage::FailedInitialDelay | ReplicaStage::FailedProbing
                    )
            }) {
                replica.stage = ReplicaStage::Stopping;
            }
        }
        self.changed = true;
        Ok(done(Kind::Replica, format_args!("{name}/{id}"), None))
    }

    /// Ends whatever has the label and forgets it.
    fn clear(&mut self, label: &Text, by: &Text) -> Done {
        let marked = |belongs: &Belongs| belongs.label.as_ref() == Some(label);
        let why = Text::from(format!("cleared away by {by}"));
        let clusters: Vec<Text> = {
            let all = self.state.clusters.values();
            all.filter(|cluster| marked(&cluster.belongs))
                .map(|cluster| cluster.name.clone())
                .collect()
        };
        let jobs: Vec<i64> = {
            let all = self.state.jobs.values();
            all.filter(|job| marked(&job.belongs))
                .map(|job| job.id)
                .collect()
        };
        let services: Vec<Text> = {
            let all = self.state.services.values();
            all.filter(|service| marked(&service.belongs))
                .map(|service| service.name.clone())
                .collect()
        };
        for name in &clusters {
            let gone = self.state.clusters[name].stage == ClusterStage::Gone;
            if !gone {
                self.end_cluster(name, true, &why);
            }
            if let Some(cluster) = self.state.cluster_mut(name) {
                cluster.belongs.cleared = true;
            }
        }
        for id in &jobs {
            self.cancel_job(*id, &why);
            if let Some(job) = self.state.job_mut(id) {
                job.belongs.cleared = true;
            }
        }
        for name in &services {
            if let Some(service) = self.state.service_mut(name) {
                service.down.get_or_insert(why.clone());
                service.belongs.cleared = true;
            }
        }
        self.changed = true;
        let message = format!(
            "{}, {} and {}",
            human::count(clusters.len(), "cluster"),
            human::count(jobs.len(), "managed job"),
            human::count(services.len(), "service")
        );
        done(
            Kind::Source,
            format_args!("{LOCAL}/clear/{label}"),
            Some(message),
        )
    }

    /// What has a label is still there.
    pub(in crate::source::local) fn labels(&self) -> std::collections::BTreeSet<Text> {
        let clusters = self.state.clusters.values().map(|cluster| &cluster.belongs);
        let jobs = self.state.jobs.values().map(|job| &job.belongs);
        let services = self.state.services.values().map(|service| &service.belongs);
        clusters
            .chain(jobs)
            .chain(services)
            .filter_map(|belongs| belongs.label.clone())
            .collect()
    }

    /// As SkyPilot names clusters that nobody named.
    fn new_name(&self, owner: &Text) -> Text {
        let owner: String = owner
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(20)
            .collect();
        let mut number = self.state.counters.work;
        loop {
            let name = Text::from(format!("sky-{number:04x}-{}", owner.to_lowercase()));
            let taken = self.state.clusters.contains_key(&name);
            if !taken {
                return name;
            }
            number += 1;
        }
    }
}

/// The name is another's, in a workspace that whoever asks may not see: that it is taken cannot be hidden,
/// but whose it is and for what can.
fn is_taken(name: &Text) -> Refused {
    refused(format!("the name `{name}` is taken")).hint("take another name")
}

/// The only task of a file.
fn single(file: TaskFile) -> Result<(Task, Option<Text>), Refused> {
    let name = file.name;
    let mut tasks = file.tasks.into_iter();
    match (tasks.next(), tasks.next()) {
        (Some(task), None) => {
            let name = task.name.clone().or(name);
            Ok((task, name))
        }
        (Some(_), Some(_)) => Err(refused(
            "the file is a pipeline of several tasks: only a managed job can be one",
        )
        .hint("skytower jobs launch FILE")),
        (None, _) => Err(refused("the file has no task")),
    }
}
