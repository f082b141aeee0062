//! What people see of the engine's state: the same rows as of a SkyPilot source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skytower_api_client::action::LOCAL;
use skytower_api_client::entity::{
    Cluster, ClusterJob, Event, Holding, Holdings, Infra, Job, Owner, Replica, Service, User,
    Workspace,
};
use skytower_api_client::phase::phase_of;
use skytower_api_client::policy::OwnedReach;
use skytower_api_client::task::Task;
use skytower_api_client::{Entity, EpochMs, Key, Kind, Phase, Text};

use super::core::Engine;
use super::machine::{Need, Taken};
use super::state::{self, Belongs, ClusterStage, End, ReplicaStage, Stage, State, TaskStage, Work};

/// The cloud of all rows here.
const CLOUD: &str = "Local";

/// Every row there is to see. Workspaces among `private` say that they are.
pub(super) fn all(engine: &Engine, private: &BTreeSet<Text>) -> BTreeMap<Key, Arc<Entity>> {
    let state = &engine.state;
    let mut rows: Vec<Entity> = Vec::new();
    rows.extend(state.clusters.values().map(|c| cluster(state, c).into()));
    rows.extend(
        state
            .cluster_jobs
            .values()
            .filter_map(|job| Some(cluster_job(state, job)?.into())),
    );
    for job in state.jobs.values() {
        rows.extend((0..job.tasks.len()).map(|number| job_task(state, job, number).into()));
    }
    for each in state.services.values() {
        rows.push(service(state, each).into());
        rows.extend(each.replicas.iter().map(|r| replica(state, each, r).into()));
    }
    // An engine that was never used adds nothing to what others show.
    if !rows.is_empty() {
        rows.push(infra(engine).into());
        rows.extend(people(&rows, private));
    }
    rows.into_iter()
        .map(|row| (row.key().clone(), Arc::new(row)))
        .collect()
}

fn key(kind: Kind, id: impl std::fmt::Display) -> Key {
    Key::new(LOCAL, kind, id)
}

/// The key of a cluster's row.
pub(super) fn cluster_key(name: &str) -> Key {
    key(Kind::Cluster, name)
}

fn owner(belongs: &Belongs) -> Owner {
    Owner {
        id: belongs.owner.clone(),
        name: belongs.owner.clone(),
    }
}

fn place() -> Text {
    CLOUD.into()
}

fn accelerators(task: &Task) -> (Option<Text>, Option<f64>) {
    match &task.resources.accelerators {
        None => (None, None),
        Some((name, count)) => (
            Some(Text::from(format!("{name}:{count}"))),
            Some(f64::from(count * task.num_nodes.max(1))),
        ),
    }
}

fn node_names(work: Option<&Work>, state: &State) -> Option<Text> {
    let addresses = &work?.addresses;
    let names: Vec<String> = addresses
        .iter()
        .map(|number| super::core::address(state.counters.net, *number).to_string())
        .collect();
    (!names.is_empty()).then(|| Text::from(names.join(", ")))
}

fn cluster(state: &State, cluster: &state::Cluster) -> Cluster {
    let why = cluster.why.clone();
    let idle = why.as_ref().is_some_and(|why| why.contains("autostop"));
    let (status, phase) = match cluster.stage {
        ClusterStage::Up => ("UP", Phase::Running),
        ClusterStage::Stopping if idle => ("AUTOSTOPPING", Phase::Stopping),
        ClusterStage::Stopping | ClusterStage::Downing => ("UP", Phase::Stopping),
        ClusterStage::Stopped => ("STOPPED", Phase::Stopped),
        ClusterStage::Gone => ("TERMINATED", Phase::Gone),
    };
    let task = &cluster.task;
    let (cards, gpus) = accelerators(task);
    let number = |value: f64| Text::from(super::machine::number(value));
    Cluster {
        key: cluster_key(&cluster.name),
        source: LOCAL.into(),
        name: cluster.name.clone(),
        owner: Some(owner(&cluster.belongs)),
        workspace: Some(cluster.belongs.workspace.clone()),
        status: status.into(),
        phase,
        why: why.map(|why| match cluster.stage {
            ClusterStage::Gone => Text::from(format!("Cluster was {why}.")),
            ClusterStage::Stopping | ClusterStage::Downing => {
                Text::from(format!("its jobs are being ended: {why}"))
            }
            _ => why,
        }),
        infra: Some(place()),
        cloud: Some(place()),
        nodes: task.num_nodes.max(1),
        resources: Some(task.resources_text()),
        cpus: task.resources.cpus.map(number),
        memory: task.resources.memory_gb.map(number),
        accelerators: cards,
        gpus,
        launched_at: Some(cluster.launched_at),
        autostop: cluster
            .autostop
            .map(|autostop| i64::from(autostop.idle_minutes)),
        autodown: cluster.autostop.is_some_and(|autostop| autostop.down),
        node_names: Some(Text::from(
            cluster
                .addresses
                .iter()
                .map(|number| super::core::address(state.counters.net, *number).to_string())
                .collect::<Vec<_>>()
                .join(", "),
        )),
        last_event: cluster.story.0.last().map(|last| last.text.clone()),
        ended_at: cluster.ended_at,
        ..Cluster::default()
    }
}

/// SkyPilot's word for where a work of a queue is.
fn work_status(work: &Work) -> (&'static str, Option<Text>) {
    match &work.stage {
        Stage::Waiting => ("PENDING", work.why.clone()),
        Stage::Preparing => ("INIT", None),
        Stage::Setup => ("SETTING_UP", None),
        Stage::Run => ("RUNNING", work.stop.clone().or_else(|| note(work))),
        Stage::Ended(end) => match end {
            End::Succeeded => ("SUCCEEDED", None),
            End::Stopped => ("CANCELLED", work.stop.clone()),
            End::FailedSetup(why) | End::FailedFiles(why) => ("FAILED_SETUP", Some(why.clone())),
            End::Failed(why) | End::Lost(why) => ("FAILED", Some(why.clone())),
        },
    }
}

/// What is remarkable about a work that runs.
fn note(work: &Work) -> Option<Text> {
    work.noted.first().map(|(_, note)| note.clone())
}

fn cluster_job(state: &State, job: &state::ClusterJob) -> Option<ClusterJob> {
    let work = state.works.get(&job.work)?;
    let (status, why) = work_status(work);
    let stopping = work.stop.is_some() && !work.is_over();
    // It names its cluster, and is where that is, whatever was said when it was submitted.
    let cluster = state.clusters.get(&job.cluster);
    let belongs = cluster.map_or(&job.belongs, |cluster| &cluster.belongs);
    Some(ClusterJob {
        key: key(Kind::ClusterJob, format_args!("{}/{}", job.cluster, job.id)),
        source: LOCAL.into(),
        name: job.name.clone(),
        owner: Some(owner(&job.belongs)),
        workspace: Some(belongs.workspace.clone()),
        status: status.into(),
        phase: if stopping {
            Phase::Stopping
        } else {
            phase_of(Kind::ClusterJob, status)
        },
        why,
        cluster_key: cluster_key(&job.cluster),
        cluster: job.cluster.clone(),
        job_id: job.id,
        submitted_at: Some(work.submitted_at),
        started_at: work.started_at,
        ended_at: work.ended_at,
        resources: Some(work.task.resources_text()),
        ..ClusterJob::default()
    })
}

fn job_task(state: &State, job: &state::Job, number: usize) -> Job {
    let task = &job.tasks[number];
    let work = task.work.and_then(|work| state.works.get(&work));
    let live = work.filter(|work| !work.is_over());
    let (status, why) = match task.stage {
        TaskStage::Succeeded => ("SUCCEEDED", None),
        TaskStage::Failed => ("FAILED", task.why.clone()),
        TaskStage::FailedSetup => ("FAILED_SETUP", task.why.clone()),
        TaskStage::FailedPrechecks => ("FAILED_PRECHECKS", task.why.clone()),
        TaskStage::FailedNoResource => ("FAILED_NO_RESOURCE", task.why.clone()),
        TaskStage::Cancelled => ("CANCELLED", task.why.clone()),
        _ if job.cancelled.is_some() => ("CANCELLING", job.cancelled.clone()),
        TaskStage::Pending => (
            "PENDING",
            (number > 0).then(|| Text::from(format!("waits for task {}", number - 1))),
        ),
        TaskStage::Recovering => ("RECOVERING", task.why.clone()),
        TaskStage::Going => match live.map(|work| &work.stage) {
            Some(Stage::Waiting) if task.recoveries > 0 => {
                ("RECOVERING", live.and_then(|work| work.why.clone()))
            }
            Some(Stage::Waiting) => ("PENDING", live.and_then(|work| work.why.clone())),
            Some(Stage::Preparing) => ("STARTING", None),
            _ => ("RUNNING", live.and_then(note)),
        },
    };
    let (cards, gpus) = accelerators(&task.task);
    let running_ms = live
        .and_then(|work| work.started_at)
        .is_none()
        .then_some(task.ran_ms);
    Job {
        key: key(Kind::Job, format_args!("{}/{number}", job.id)),
        source: LOCAL.into(),
        name: task.name.clone(),
        owner: Some(owner(&job.belongs)),
        workspace: Some(job.belongs.workspace.clone()),
        status: status.into(),
        phase: phase_of(Kind::Job, status),
        why,
        job_id: job.id,
        task_id: number as i64,
        job_name: job.name.clone(),
        submitted_at: Some(job.belongs.created_at),
        started_at: task.started_at,
        ended_at: task.ended_at,
        // While it runs the client counts.
        duration_s: running_ms
            .filter(|_| task.started_at.is_some())
            .map(|ms| ms as f64 / 1000.0),
        recoveries: task.recoveries,
        resources: Some(task.task.resources_text()),
        infra: Some(place()),
        accelerators: cards,
        gpus,
        // As SkyPilot calls the cluster of a managed job.
        cluster: work.map(|_| Text::from(format!("{}-{}", task.name, job.id))),
        node_names: node_names(work, state),
        ..Job::default()
    }
}

/// Why nobody can reach the service, when that is so.
fn balancer_is_down(state: &State, service: &state::Service) -> Option<Text> {
    let work = state.works.get(&service.balancer)?;
    let Stage::Ended(End::Failed(why) | End::Lost(why)) = &work.stage else {
        return None;
    };
    let taken = format!("exit code {}", crate::balancer::EXIT_PORT_TAKEN);
    Some(Text::from(if **why == *taken {
        format!(
            "its load balancer cannot listen: port {} is taken",
            service.port
        )
    } else {
        format!("its load balancer has ended and is started again: {why}")
    }))
}

fn service(state: &State, service: &state::Service) -> Service {
    let alive = || {
        let replicas = service.replicas.iter();
        replicas.filter(|replica| {
            matches!(replica.stage, ReplicaStage::Wanted | ReplicaStage::Draining)
                && replica.ended_at.is_none()
        })
    };
    let ready = service.replicas.iter().filter(|replica| replica.ready);
    let ready_count = ready.clone().count() as u32;
    let last_failure = || {
        let mut failed = service.replicas.iter().rev();
        let failed = failed.find(|r| r.ended_at.is_some() && r.stage != ReplicaStage::Ended)?;
        let why = failed.why.as_deref().unwrap_or("it failed");
        Some(Text::from(format!("replica {}: {why}", failed.id)))
    };
    let (status, why) = if service.ended_at.is_some() {
        ("TERMINATED", service.down.clone())
    } else if service.down.is_some() {
        ("SHUTTING_DOWN", service.down.clone())
    } else if let Some(why) = balancer_is_down(state, service) {
        ("CONTROLLER_FAILED", Some(why))
    } else if ready_count > 0 {
        ("READY", None)
    } else if service.failures >= super::core::FAILURES_TOO_MANY {
        ("FAILED", last_failure())
    } else if service.target == 0 {
        ("NO_REPLICA", None)
    } else {
        ("REPLICA_INIT", last_failure())
    };
    let spec = service
        .versions
        .get(&service.version)
        .and_then(|task| Some((task, task.service.as_ref()?)));
    let mut active: Vec<i64> = ready.map(|replica| replica.version).collect();
    active.sort_unstable();
    active.dedup();
    let over = service.ended_at.is_some();
    Service {
        key: key(Kind::Service, &service.name),
        source: LOCAL.into(),
        name: service.name.clone(),
        owner: Some(owner(&service.belongs)),
        workspace: Some(service.belongs.workspace.clone()),
        status: status.into(),
        phase: phase_of(Kind::Service, status),
        why,
        version: Some(service.version),
        active_versions: active,
        ready_since: service.ready_since,
        endpoint: (!over).then(|| Text::from(format!("http://127.0.0.1:{}", service.port))),
        replicas_ready: ready_count,
        replicas_total: alive().count() as u32,
        replicas_target: (!over).then_some(service.target),
        policy: spec.map(|(_, spec)| {
            Text::from(match spec.target_qps_per_replica {
                None => format!("Fixed {} replicas", spec.min_replicas),
                Some(qps) => format!(
                    "Autoscaling from {} to {} replicas ({qps} requests/s each)",
                    spec.min_replicas, spec.max_replicas
                ),
            })
        }),
        load_balancing: spec.map(|(_, spec)| spec.load_balancing_policy.word().into()),
        resources: spec.map(|(task, _)| task.resources_text()),
        ended_at: service.ended_at,
        ..Service::default()
    }
}

fn replica(state: &State, service: &state::Service, replica: &state::Replica) -> Replica {
    let work = state.works.get(&replica.work);
    let (status, why) = match replica.stage {
        ReplicaStage::Draining => ("SHUTTING_DOWN", Some("finishes its requests".into())),
        ReplicaStage::Stopping | ReplicaStage::Ended => ("SHUTTING_DOWN", None),
        ReplicaStage::Failed => ("FAILED", replica.why.clone()),
        ReplicaStage::FailedInitialDelay => ("FAILED_INITIAL_DELAY", replica.why.clone()),
        ReplicaStage::FailedProbing => ("FAILED_PROBING", replica.why.clone()),
        ReplicaStage::Wanted if replica.ready => ("READY", None),
        ReplicaStage::Wanted if replica.was_ready => ("NOT_READY", replica.why.clone()),
        ReplicaStage::Wanted => match work.map(|work| &work.stage) {
            Some(Stage::Waiting) => ("PENDING", work.and_then(|work| work.why.clone())),
            Some(Stage::Preparing | Stage::Setup) => ("PROVISIONING", None),
            _ => ("STARTING", replica.why.clone()),
        },
    };
    let task = service.versions.get(&replica.version);
    let port = task
        .and_then(|task| task.service.as_ref())
        .map_or(0, |spec| spec.port);
    let address = super::core::address(state.counters.net, replica.address);
    Replica {
        key: key(
            Kind::Replica,
            format_args!("{}/{}", service.name, replica.id),
        ),
        source: LOCAL.into(),
        name: Text::from(format!("{}-{}", service.name, replica.id)),
        owner: Some(owner(&service.belongs)),
        workspace: Some(service.belongs.workspace.clone()),
        status: status.into(),
        phase: phase_of(Kind::Replica, status),
        why,
        service_key: key(Kind::Service, &service.name),
        service: service.name.clone(),
        replica_id: replica.id,
        version: Some(replica.version),
        endpoint: replica
            .ended_at
            .is_none()
            .then(|| Text::from(format!("http://{address}:{port}"))),
        launched_at: Some(replica.launched_at),
        infra: Some(place()),
        resources: task.map(Task::resources_text),
        ..Replica::default()
    }
}

fn infra(engine: &Engine) -> Infra {
    let machine = &engine.machine;
    let mut taken = Taken::default();
    let mut any = false;
    for work in engine.state.works.values().filter(|work| work.holds()) {
        if Need::of(&work.task).cpus > 0.0
            && !matches!(work.purpose, state::Purpose::Balancer { .. })
        {
            taken.add(&work.task, &work.accelerators);
            any = true;
        }
    }
    let free = (machine.cpus - taken.cpus).max(0.0);
    let status = match any {
        false => "idle",
        true if free < 0.05 => "allocated",
        true => "mixed",
    };
    Infra {
        key: key(Kind::Infra, format_args!("local/{}", machine.host)),
        source: LOCAL.into(),
        name: machine.host.clone(),
        status: status.into(),
        phase: phase_of(Kind::Infra, status),
        infra: "local".into(),
        gpu_type: machine.accelerator.clone(),
        gpus_total: (machine.accelerators > 0).then_some(i64::from(machine.accelerators)),
        gpus_free: (machine.accelerators > 0)
            .then(|| i64::from(machine.accelerators) - taken.accelerators.len() as i64),
        cpus_total: Some(machine.cpus),
        cpus_free: Some((free * 100.0).round() / 100.0),
        memory_gb: Some(machine.memory_gb),
        memory_free_gb: Some((machine.memory_gb - taken.memory_gb).max(0.0)),
        ..Infra::default()
    }
}

/// The people and workspaces of these rows, with what they have. There is no list of people: each is known
/// of to whoever sees something of theirs.
fn people(rows: &[Entity], private: &BTreeSet<Text>) -> Vec<Entity> {
    let mut users: BTreeMap<Text, (Text, BTreeMap<OwnedReach, Holdings>)> = BTreeMap::new();
    let mut workspaces: BTreeMap<Text, Holdings> = BTreeMap::new();
    for row in rows {
        let (Some(owner), Some(workspace)) = (row.owner(), row.workspace()) else {
            continue;
        };
        let (name, parts) = users.entry(owner.id.clone()).or_default();
        name.clone_from(&owner.name);
        parts.entry(row.reach().into()).or_default().add(row);
        workspaces.entry(workspace.clone()).or_default().add(row);
    }
    let users = users.into_iter().map(|(id, (name, parts))| {
        let mut user = User {
            key: key(Kind::User, &id),
            source: LOCAL.into(),
            name,
            user_id: id,
            ..User::default()
        };
        let parts = parts.into_iter().map(|(reach, has)| Holding { reach, has });
        user.set_holdings(parts, false);
        Entity::from(user)
    });
    let workspaces = workspaces.into_iter().map(|(name, has)| {
        let private = private.contains(&name);
        let status = if private { "private" } else { "public" };
        Entity::from(Workspace {
            key: key(Kind::Workspace, &name),
            source: LOCAL.into(),
            workspace: Some(name.clone()),
            name,
            status: status.into(),
            phase: phase_of(Kind::Workspace, status),
            private,
            clusters: has.clusters,
            jobs: has.jobs,
            ..Workspace::default()
        })
    });
    users.chain(workspaces).collect()
}

/// What happened to a cluster, job or service, as rows.
pub(super) fn events(state: &State, subject: &Entity) -> Vec<Event> {
    let story = match subject {
        Entity::Cluster(cluster) => state.clusters.get(&cluster.name).map(|c| &c.story),
        Entity::Job(job) => state.jobs.get(&job.job_id).map(|job| &job.story),
        Entity::Service(service) => state.services.get(&service.name).map(|s| &s.story),
        _ => None,
    };
    let Some(story) = story else {
        return Vec::new();
    };
    let id = subject.key();
    let happenings = story.0.iter().enumerate();
    happenings
        .map(|(number, happening)| Event {
            key: key(
                Kind::Event,
                format_args!("{}/{}/{number}", id.id(), happening.at.0),
            ),
            source: LOCAL.into(),
            name: happening.text.clone(),
            owner: subject.owner().cloned(),
            workspace: subject.workspace().cloned(),
            subject: id.clone(),
            at: happening.at,
            text: happening.text.clone(),
            ..Event::default()
        })
        .collect()
}

/// When the engine last looked is now: it is told of everything.
pub(super) fn looked_at(now: EpochMs) -> BTreeMap<Kind, EpochMs> {
    Kind::ALL.iter().map(|kind| (*kind, now)).collect()
}
