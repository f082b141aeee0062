//! Messages like those of a real server, made by chance from a seed: an organisation that never was.

use std::sync::Arc;

use skytower_api_client::entity::{
    AuditEntry, Cluster, ClusterJob, Event, Infra, Job, Outcome, Owner, Pool, Refusal, Replica,
    Request, Service, Source, TargetResult, User, Worker, Workspace,
};
use skytower_api_client::phase::{STATUSES, phase_of};
use skytower_api_client::wire::{Caller, Change, Hello, Problem, Role, ServerMessage};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Text};

/// Names that people choose. Two organisations share none, so that what is measured on one is not what
/// the dictionary learned from the other.
pub(crate) struct Vocabulary {
    sources: &'static [&'static str],
    people: &'static [&'static str],
    workspaces: &'static [&'static str],
    words: &'static [&'static str],
    regions: &'static [&'static str],
}

/// What the dictionary learns from.
pub(crate) const LEARNED: Vocabulary = Vocabulary {
    sources: &["default", "prod", "sky.example.com", "staging"],
    people: &["alice", "bob", "carol", "eve", "mallory", "service-account"],
    workspaces: &["default", "research", "prod", "team-a"],
    words: &[
        "train", "eval", "sweep", "llama", "qwen", "sft", "dpo", "rlhf", "pretrain", "finetune",
        "tokenize", "dev", "debug", "notebook", "serve", "chat", "batch", "data", "lr", "7b",
        "70b",
    ],
    regions: &["us-east-1", "us-west2-b", "europe-west4", "lab", "prod-a"],
};

/// What it is measured on.
pub(crate) const UNSEEN: Vocabulary = Vocabulary {
    sources: &["cluster-api", "hpc"],
    people: &["dana", "frank", "gina", "heidi", "ivan"],
    workspaces: &["vision", "speech"],
    words: &[
        "whisper",
        "segment",
        "diffusion",
        "ablation",
        "mae",
        "vit",
        "probe",
        "render",
        "robot",
        "policy",
        "nightly",
        "mix",
        "ckpt",
        "12b",
        "large",
    ],
    regions: &["eu-north-1", "southamerica-east1", "alps", "gpu-room"],
};

/// `SplitMix64`: the same seed makes the same messages on every machine.
pub(crate) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from) as u64) as i64
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    /// True in `percent` of a hundred cases.
    fn often(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn maybe<T>(&mut self, percent: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.often(percent).then(|| make(self))
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            0x8000 | (b >> 48 & 0x3fff),
            b & 0xffff_ffff_ffff
        )
    }
}

/// Makes messages.
pub(crate) struct Organisation {
    chance: Chance,
    names: &'static Vocabulary,
    revision: u64,
}

/// What kinds of row change how often, in parts of a hundred.
const KINDS: &[(Kind, u64)] = &[
    (Kind::Job, 34),
    (Kind::Cluster, 18),
    (Kind::Request, 12),
    (Kind::Source, 8),
    (Kind::ClusterJob, 4),
    (Kind::Service, 4),
    (Kind::Replica, 4),
    (Kind::Pool, 2),
    (Kind::Worker, 3),
    (Kind::User, 3),
    (Kind::Workspace, 2),
    (Kind::Infra, 3),
    (Kind::Event, 3),
];

const GPUS: &[(&str, i64)] = &[
    ("A100", 8),
    ("H100", 8),
    ("H200", 8),
    ("L4", 1),
    ("L40S", 4),
    ("A10G", 4),
    ("B200", 8),
    ("T4", 1),
];

const EVENTS: &[&str] = &[
    "All nodes up; SkyPilot runtime healthy.",
    "Setting up SkyPilot runtime on cluster",
    "Running setup commands to install dependencies",
    "Syncing file mounts",
    "Job has started",
    "Job has been submitted",
    "Cluster is stopped",
    "Cluster has been provisioned successfully",
];

/// What SkyPilot rules out on the infrastructures that most have.
const REFUSALS: &[(&str, &str, &str)] = &[
    (
        "Slurm",
        "cluster.stop",
        "Stopping is supported only for container clusters on Slurm clusters with Pyxis installed.",
    ),
    (
        "Slurm",
        "cluster.autostop.stop",
        "Autostop is supported only for container clusters on Slurm clusters with Pyxis installed.",
    ),
    (
        "Kubernetes",
        "cluster.stop",
        "Stopping clusters is not supported on Kubernetes.",
    ),
    (
        "Kubernetes",
        "cluster.autostop.stop",
        "Auto-stop is not supported on Kubernetes.",
    ),
    (
        "Lambda",
        "cluster.stop",
        "Lambda cloud does not support stopping VMs.",
    ),
];

impl Organisation {
    pub(crate) fn new(names: &'static Vocabulary, seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            names,
            revision: 1000,
        }
    }

    /// The next message, of any sort.
    pub(crate) fn message(&mut self) -> ServerMessage {
        let since = self.revision;
        self.revision += 1 + self.chance.below(4);
        let revision = self.revision;
        match self.chance.below(100) {
            0..62 => ServerMessage::Delta {
                since,
                revision,
                changes: vec![self.change()],
            },
            62..80 => {
                let changes = 2 + self.chance.below(5);
                ServerMessage::Delta {
                    since,
                    revision,
                    changes: (0..changes).map(|_| self.change()).collect(),
                }
            }
            80..90 => {
                let kind = self.kind();
                let rows = 1 + self.chance.below(8);
                ServerMessage::Snapshot {
                    kind,
                    revision,
                    rows: (0..rows).map(|_| Arc::new(self.row(kind))).collect(),
                    more: self.chance.often(20),
                }
            }
            90..96 => ServerMessage::Heartbeat {
                revision,
                at: self.moment(),
            },
            96 => ServerMessage::Ready { revision },
            97 | 98 => ServerMessage::Hello(self.hello()),
            _ => ServerMessage::Error(
                Problem::new(
                    "forbidden",
                    403,
                    "your role is viewer: you may look, not act",
                )
                .hint("ask an administrator"),
            ),
        }
    }

    /// One row of a kind has changed: the commonest message.
    pub(crate) fn one_row(&mut self, kind: Kind) -> ServerMessage {
        self.revision += 1;
        ServerMessage::Delta {
            since: self.revision - 1,
            revision: self.revision,
            changes: vec![Change::Upsert(Arc::new(self.row(kind)))],
        }
    }

    fn kind(&mut self) -> Kind {
        let mut at = self.chance.below(100);
        for (kind, parts) in KINDS {
            match at.checked_sub(*parts) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        Kind::Job
    }

    fn change(&mut self) -> Change {
        let kind = self.kind();
        let row = self.row(kind);
        if self.chance.often(6) {
            let reason = match self.chance.below(4) {
                0 => format!("terminated by {}", self.chance.one(self.names.people)),
                1 => "no longer listed by SkyPilot".to_owned(),
                2 => "moved out of your workspaces".to_owned(),
                _ => "finished long ago; SkyPilot still has it".to_owned(),
            };
            return Change::Remove {
                kind,
                key: row.key().clone(),
                reason: reason.into(),
            };
        }
        Change::Upsert(Arc::new(row))
    }

    fn row(&mut self, kind: Kind) -> Entity {
        match kind {
            Kind::Source => self.source().into(),
            Kind::Cluster => self.cluster().into(),
            Kind::Job => self.job().into(),
            Kind::ClusterJob => self.cluster_job().into(),
            Kind::Service => self.service().into(),
            Kind::Replica => self.replica().into(),
            Kind::Pool => self.pool().into(),
            Kind::Worker => self.worker().into(),
            Kind::User => self.user().into(),
            Kind::Workspace => self.workspace_row().into(),
            Kind::Infra => self.infra_row().into(),
            Kind::Request => self.request().into(),
            Kind::Event => self.event().into(),
            Kind::Audit => self.audit().into(),
        }
    }

    fn moment(&mut self) -> EpochMs {
        // Over some years, so that only the leading digits are learned.
        EpochMs(self.chance.between(1_790_000_000_000, 1_880_000_000_000))
    }

    fn at_source(&mut self) -> Text {
        self.chance.one(self.names.sources).into()
    }

    fn owner(&mut self) -> Owner {
        let name = self.chance.one(self.names.people);
        // As SkyPilot: eight digits of a hash of the name.
        let id = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        Owner {
            id: format!("{id:08x}").into(),
            name: name.into(),
        }
    }

    fn workspace(&mut self) -> Text {
        if self.chance.often(60) {
            return "default".into();
        }
        self.chance.one(self.names.workspaces).into()
    }

    fn name(&mut self) -> String {
        let first = self.chance.one(self.names.words);
        let second = self.chance.one(self.names.words);
        match self.chance.below(4) {
            0 => first.to_owned(),
            1 => format!("{first}-{second}"),
            2 => format!("{first}-{second}-{}", self.chance.below(100)),
            _ => format!("{first}-{}", self.chance.below(1000)),
        }
    }

    fn status(&mut self, kind: Kind) -> Text {
        // What runs is told of most.
        let usual = match kind {
            Kind::Cluster => "UP",
            Kind::Service | Kind::Pool | Kind::Replica | Kind::Worker => "READY",
            Kind::Source => "healthy",
            Kind::Infra => "mix",
            Kind::User => "active",
            Kind::Workspace => "public",
            Kind::Request => "SUCCEEDED",
            Kind::Audit => "accepted",
            _ => "RUNNING",
        };
        if self.chance.often(45) {
            return usual.into();
        }
        let words: Vec<&str> = STATUSES
            .iter()
            .filter(|spec| spec.kind == kind)
            .map(|spec| spec.word)
            .collect();
        if words.is_empty() {
            return Text::default();
        }
        self.chance.one(&words).into()
    }

    /// Cloud, region, and both as SkyPilot writes them.
    fn place(&mut self) -> (Text, Text, Text) {
        let cloud = self
            .chance
            .one(&["Slurm", "Kubernetes", "AWS", "GCP", "Azure", "Lambda"]);
        let region = self.chance.one(self.names.regions);
        let both = format!("{cloud} ({region})");
        (cloud.into(), region.into(), both.into())
    }

    fn gpus(&mut self) -> Option<(&'static str, i64)> {
        let (name, most) = GPUS[self.chance.below(GPUS.len() as u64) as usize];
        let count = if self.chance.often(50) { most } else { 1 };
        self.chance.often(75).then_some((name, count))
    }

    fn requested(&mut self, nodes: i64, gpus: Option<(&str, i64)>) -> Text {
        match gpus {
            Some((name, count)) => format!("{nodes}x[{name}:{count}]"),
            None => format!("{nodes}x[CPU:{}+]", 1 << self.chance.below(6)),
        }
        .into()
    }

    fn held(&mut self, nodes: i64, gpus: Option<(&str, i64)>, full: bool) -> Text {
        let (cpus, memory) = (1 << self.chance.below(8), 4 << self.chance.below(8));
        let gpus = gpus.map_or(String::new(), |(name, count)| {
            format!("gpus={name}:{count}, ")
        });
        let rest = if full { "disk=256" } else { "..." };
        format!("{nodes}x({gpus}cpus={cpus}, mem={memory}, {rest})").into()
    }

    fn event_text(&mut self) -> Text {
        let nodes = 1 + self.chance.below(8);
        let (cloud, region, _) = self.place();
        let cloud = cloud.to_lowercase();
        match self.chance.below(4) {
            0 => format!("Provisioning on {cloud} in {region}"),
            1 => format!("Instances launched on {cloud} in {region}"),
            2 => format!("Cluster successfully provisioned with {nodes} nodes"),
            _ => self.chance.one(EVENTS).to_owned(),
        }
        .into()
    }

    fn why(&mut self) -> Text {
        let id = self.chance.below(5000);
        let code = 1 + self.chance.below(139);
        match self.chance.below(8) {
            0 => format!("Job exited with exit code {code} (user program failure). To see the details, run: sky jobs logs --controller {id}"),
            1 => format!("Failure: Job exited with exit code {code} (user program failure). To see the details, run: sky jobs logs --controller {id}"),
            2 => "Waiting for other jobs to launch".to_owned(),
            3 => "Launching (pending: Priority; partition: main)".to_owned(),
            4 => "Waiting for a slot in the pool".to_owned(),
            5 => format!("terminated by {}", self.chance.one(self.names.people)),
            6 => "The cluster was preempted or failed; it is being recovered".to_owned(),
            _ => "Failed to provision all possible launchable resources. Relax the task's resource requirements".to_owned(),
        }
        .into()
    }

    fn nodes_named(&mut self, nodes: i64) -> Text {
        let base = self.chance.one(self.names.regions);
        let first = self.chance.below(200);
        (0..nodes.min(4) as u64)
            .map(|i| format!("{base}-{}", first + i))
            .collect::<Vec<_>>()
            .join(", ")
            .into()
    }

    fn nodes(&mut self) -> i64 {
        if self.chance.often(75) {
            1
        } else {
            1 << self.chance.below(5)
        }
    }

    fn source(&mut self) -> Source {
        let name = self.at_source();
        let status = self.status(Kind::Source);
        let fetched = self.moment();
        let trouble = status.as_str() != "healthy" && status.as_str() != "starting";
        let kinds = Kind::ALL.iter().copied();
        let skew: Vec<i64> = kinds
            .clone()
            .map(|_| self.chance.between(0, 30_000))
            .collect();
        Source {
            key: Key::new(&name, Kind::Source, &name),
            url: Some(format!("https://{name}:46580").into()),
            name: name.clone(),
            source: name,
            phase: phase_of(Kind::Source, &status),
            status,
            flavour: "skypilot".into(),
            version: Some(
                format!("0.{}.{}", 11 + self.chance.below(5), self.chance.below(3)).into(),
            ),
            api_version: Some(self.chance.between(20, 60).to_string().into()),
            commit: Some(
                format!(
                    "{:040x}",
                    u128::from(self.chance.next()) << 64 | u128::from(self.chance.next())
                )
                .into(),
            ),
            latency_ms: self.chance.maybe(95, |chance| chance.between(1, 400)),
            error: trouble.then(|| {
                "SkyPilot cannot be reached: connection refused; the last good state is shown"
                    .into()
            }),
            hint: trouble.then(|| {
                "check the address, and that the API server runs (`sky api status`)".into()
            }),
            fetched_at: kinds
                .zip(skew)
                .filter(|(kind, _)| !matches!(kind, Kind::Source | Kind::Event | Kind::ClusterJob))
                .map(|(kind, skew)| (kind, EpochMs(fetched.0 - skew)))
                .collect(),
            notes: self
                .chance
                .maybe(30, |_| {
                    (
                        Kind::Service,
                        "the controller of services is stopped".into(),
                    )
                })
                .into_iter()
                .collect(),
            ..Source::default()
        }
    }

    fn cluster(&mut self) -> Cluster {
        let source = self.at_source();
        let (cloud, region, infra) = self.place();
        let nodes = self.nodes();
        let gpus = self.gpus();
        let status = self.status(Kind::Cluster);
        let gone = status.as_str() == "TERMINATED";
        let refuses = REFUSALS
            .iter()
            .filter(|(of, _, _)| *of == cloud.as_str())
            .map(|(_, action, reason)| Refusal {
                action: (*action).into(),
                reason: (*reason).into(),
            })
            .collect();
        Cluster {
            restricted: false,
            key: Key::new(&source, Kind::Cluster, self.chance.uuid()),
            source,
            name: self.name().into(),
            owner: Some(self.owner()),
            workspace: Some(self.workspace()),
            phase: phase_of(Kind::Cluster, &status),
            why: if gone || status.as_str() == "INIT" {
                Some(self.why())
            } else {
                None
            },
            status,
            refuses,
            infra: Some(infra),
            cloud: Some(cloud),
            region: Some(region),
            nodes: nodes as u32,
            resources: Some(self.held(nodes, gpus, false)),
            resources_full: Some(self.held(nodes, gpus, true)),
            cpus: Some((1 << self.chance.below(8)).to_string().into()),
            memory: Some((4 << self.chance.below(8)).to_string().into()),
            accelerators: gpus.map(|(name, count)| format!("{name}:{count}").into()),
            gpus: gpus.map(|(_, count)| (count * nodes) as f64),
            launched_at: Some(self.moment()),
            autostop: self
                .chance
                .maybe(40, |chance| [10, 30, 60, 120][chance.below(4) as usize]),
            autodown: self.chance.often(20),
            node_names: Some(self.nodes_named(nodes)),
            last_event: Some(self.event_text()),
            ended_at: if gone { Some(self.moment()) } else { None },
            controller: self.chance.often(4),
            managed: self.chance.often(25),
        }
    }

    fn job(&mut self) -> Job {
        let source = self.at_source();
        let job_id = self.chance.between(1, 120_000);
        let task_id = if self.chance.often(85) {
            0
        } else {
            self.chance.between(0, 5)
        };
        let name = Text::from(self.name());
        let (_, _, infra) = self.place();
        let nodes = self.nodes();
        let gpus = self.gpus();
        let owner = self.owner();
        let status = self.status(Kind::Job);
        let phase = phase_of(Kind::Job, &status);
        let started = self.chance.often(80);
        let runs = matches!(
            &*status,
            "RUNNING" | "RECOVERING" | "STARTING" | "CANCELLING"
        );
        let submitted = self.moment();
        let waited = self.chance.between(1000, 900_000);
        let ran = self.chance.between(1000, 90_000_000);
        Job {
            key: Key::new(&source, Kind::Job, format_args!("{job_id}/{task_id}")),
            source,
            name: name.clone(),
            job_name: if task_id == 0 {
                name.clone()
            } else {
                self.name().into()
            },
            workspace: Some(self.workspace()),
            phase,
            why: if runs && self.chance.often(80) || phase == phase_of(Kind::Job, "SUCCEEDED") {
                None
            } else {
                Some(self.why())
            },
            job_id,
            task_id,
            submitted_at: Some(submitted),
            started_at: started.then_some(EpochMs(submitted.0 + waited)),
            ended_at: phase
                .is_over()
                .then_some(EpochMs(submitted.0 + waited + ran)),
            duration_s: phase.is_over().then_some(ran as f64 / 1000.0),
            recoveries: if self.chance.often(15) {
                self.chance.between(1, 30)
            } else {
                0
            },
            resources: Some(self.requested(nodes, gpus)),
            infra: started.then_some(infra),
            accelerators: gpus.map(|(name, count)| format!("{name}:{count}").into()),
            gpus: gpus.map(|(_, count)| (count * nodes) as f64),
            pool: self.chance.maybe(12, |_| "warm".into()),
            schedule_state: Some(
                if phase.is_over() {
                    "DONE"
                } else if runs {
                    "ALIVE"
                } else {
                    self.chance
                        .one(&["WAITING", "LAUNCHING", "ALIVE_WAITING", "INACTIVE"])
                }
                .into(),
            ),
            cluster: runs.then(|| format!("{name}-{job_id}-{}", owner.id).into()),
            node_names: if runs {
                Some(self.nodes_named(nodes))
            } else {
                None
            },
            owner: Some(owner),
            status,
            priority: Some(if self.chance.often(80) {
                0
            } else {
                self.chance.between(-100, 1000)
            }),
            group: self.chance.often(6),
            ..Job::default()
        }
    }

    fn cluster_job(&mut self) -> ClusterJob {
        let cluster = self.cluster();
        let job_id = self.chance.between(1, 200);
        let status = self.status(Kind::ClusterJob);
        ClusterJob {
            key: Key::new(
                &cluster.source,
                Kind::ClusterJob,
                format_args!("{}/{job_id}", cluster.key.id()),
            ),
            name: self.name().into(),
            phase: phase_of(Kind::ClusterJob, &status),
            status,
            cluster_key: cluster.key,
            cluster: cluster.name,
            source: cluster.source,
            owner: cluster.owner,
            workspace: cluster.workspace,
            job_id,
            submitted_at: Some(self.moment()),
            started_at: Some(self.moment()),
            resources: cluster.resources,
            ..ClusterJob::default()
        }
    }

    fn service(&mut self) -> Service {
        let source = self.at_source();
        let status = self.status(Kind::Service);
        let replicas = 1 + self.chance.below(8) as u32;
        let version = self.chance.between(1, 40);
        let gpus = self.gpus();
        Service {
            key: Key::new(&source, Kind::Service, self.chance.uuid()),
            source,
            name: self.name().into(),
            owner: Some(self.owner()),
            phase: phase_of(Kind::Service, &status),
            status,
            version: Some(version),
            active_versions: vec![version],
            ready_since: Some(self.moment()),
            endpoint: Some(self.endpoint()),
            replicas_ready: replicas,
            replicas_total: replicas,
            replicas_target: Some(replicas),
            policy: Some(format!("Fixed {replicas} replicas").into()),
            load_balancing: Some("least_load".into()),
            resources: Some(self.requested(1, gpus)),
            ..Service::default()
        }
    }

    fn endpoint(&mut self) -> Text {
        let (a, b) = (self.chance.below(256), self.chance.below(256));
        let port = self.chance.between(20_000, 32_000);
        format!("http://10.0.{a}.{b}:{port}").into()
    }

    fn replica(&mut self) -> Replica {
        let service = self.service();
        let number = self.chance.between(1, 60);
        let status = self.status(Kind::Replica);
        let gpus = self.gpus();
        let (_, _, infra) = self.place();
        Replica {
            key: Key::new(
                &service.source,
                Kind::Replica,
                format_args!("{}/{number}", service.key.id()),
            ),
            name: format!("{}-{number}", service.name).into(),
            phase: phase_of(Kind::Replica, &status),
            status,
            service_key: service.key,
            service: service.name,
            source: service.source,
            owner: service.owner,
            replica_id: number,
            version: service.version,
            endpoint: service.endpoint,
            launched_at: Some(self.moment()),
            infra: Some(infra),
            resources: Some(self.held(1, gpus, false)),
            spot: self.chance.often(20),
            ..Replica::default()
        }
    }

    fn pool(&mut self) -> Pool {
        let source = self.at_source();
        let status = self.status(Kind::Pool);
        let workers = 1 + self.chance.below(16) as u32;
        let gpus = self.gpus();
        Pool {
            key: Key::new(&source, Kind::Pool, self.chance.uuid()),
            source,
            name: self.name().into(),
            owner: Some(self.owner()),
            phase: phase_of(Kind::Pool, &status),
            status,
            version: Some(self.chance.between(1, 9)),
            ready_since: Some(self.moment()),
            workers_ready: workers,
            workers_total: workers,
            workers_target: Some(workers),
            policy: Some(format!("Fixed {workers} workers").into()),
            resources: Some(self.requested(1, gpus)),
            ..Pool::default()
        }
    }

    fn worker(&mut self) -> Worker {
        let pool = self.pool();
        let number = self.chance.between(1, 60);
        let status = self.status(Kind::Worker);
        let gpus = self.gpus();
        let (_, _, infra) = self.place();
        Worker {
            key: Key::new(
                &pool.source,
                Kind::Worker,
                format_args!("{}/{number}", pool.key.id()),
            ),
            name: format!("{}-{number}", pool.name).into(),
            phase: phase_of(Kind::Worker, &status),
            status,
            pool_key: pool.key,
            pool: pool.name,
            source: pool.source,
            owner: pool.owner,
            worker_id: number,
            launched_at: Some(self.moment()),
            infra: Some(infra),
            resources: Some(self.held(1, gpus, false)),
            used_by: self
                .chance
                .maybe(60, |chance| chance.between(1, 120_000))
                .into_iter()
                .collect(),
            ..Worker::default()
        }
    }

    fn user(&mut self) -> User {
        let source = self.at_source();
        let owner = self.owner();
        let status = self.status(Kind::User);
        User {
            key: Key::new(&source, Kind::User, &owner.id),
            source,
            name: owner.name.clone(),
            user_id: owner.id.clone(),
            owner: Some(owner),
            phase: phase_of(Kind::User, &status),
            status,
            role: Some(self.chance.one(&["admin", "user", "user", "viewer"]).into()),
            user_type: Some(self.chance.one(&["basic", "sso", "sa"]).into()),
            created_at: Some(self.moment()),
            clusters: self.chance.below(12) as u32,
            jobs: self.chance.below(90) as u32,
            jobs_pending: self.chance.below(30) as u32,
            jobs_failed: self.chance.below(30) as u32,
            services: self.chance.below(4) as u32,
            gpus: (self.chance.below(17) * 8) as f64,
            ..User::default()
        }
    }

    fn workspace_row(&mut self) -> Workspace {
        let source = self.at_source();
        let name = self.workspace();
        let status = self.status(Kind::Workspace);
        Workspace {
            key: Key::new(&source, Kind::Workspace, &name),
            source,
            workspace: Some(name.clone()),
            name,
            phase: phase_of(Kind::Workspace, &status),
            private: status.as_str() == "private",
            read_only: status.as_str() == "read_only",
            status,
            clusters: self.chance.below(80) as u32,
            jobs: self.chance.below(900) as u32,
            ..Workspace::default()
        }
    }

    fn infra_row(&mut self) -> Infra {
        let source = self.at_source();
        let (cloud, region, _) = self.place();
        let infra = Text::from(format!("{}/{region}", cloud.to_lowercase()));
        let name = format!("{region}-{}", self.chance.below(400));
        let status = self.status(Kind::Infra);
        let gpus = self.gpus();
        let cpus = 8 << self.chance.below(5);
        Infra {
            key: Key::new(&source, Kind::Infra, format_args!("{infra}/{name}")),
            source,
            name: name.into(),
            phase: phase_of(Kind::Infra, &status),
            status,
            infra,
            partition: self.chance.maybe(50, |chance| {
                chance.one(&["main*", "gpu", "main*,gpu"]).into()
            }),
            gpu_type: gpus.map(|(name, _)| name.into()),
            gpus_total: gpus.map(|(_, count)| count),
            gpus_free: gpus.map(|(_, count)| self.chance.between(0, count + 1)),
            cpus_total: Some(f64::from(cpus)),
            cpus_free: Some(self.chance.between(0, i64::from(cpus)) as f64),
            memory_gb: Some(self.chance.between(1600, 200_000) as f64 / 100.0),
            memory_free_gb: Some(self.chance.between(0, 160_000) as f64 / 100.0),
            ..Infra::default()
        }
    }

    fn request(&mut self) -> Request {
        let status = self.status(Kind::Request);
        let phase = phase_of(Kind::Request, &status);
        let owner = self.owner();
        let id = self.chance.uuid();
        let ours = self.chance.often(50);
        let source = if ours {
            "skytower".into()
        } else {
            self.at_source()
        };
        let action = if ours {
            self.chance.one(&[
                "job.cancel",
                "cluster.down",
                "cluster.stop",
                "cluster.start",
                "service.down",
                "cluster_job.cancel",
            ])
        } else {
            self.chance.one(&[
                "sky.launch",
                "sky.exec",
                "sky.down",
                "sky.jobs.launch",
                "sky.jobs.cancel",
                "sky.serve.up",
                "sky.stop",
            ])
        };
        let results: Vec<TargetResult> = if ours {
            let targets = if self.chance.often(70) {
                1
            } else {
                2 + self.chance.below(4)
            };
            (0..targets).map(|_| self.target(action)).collect()
        } else {
            Vec::new()
        };
        let target = match results.as_slice() {
            [] => self.chance.maybe(70, |_| ()).map(|()| self.name().into()),
            [one] => Some(one.target.clone()),
            [first, rest @ ..] => Some(format!("{} and {} more", first.target, rest.len()).into()),
        };
        Request {
            key: Key::new(&source, Kind::Request, &id),
            origin: if ours { "skytower" } else { "skypilot" }.into(),
            source,
            name: action.into(),
            owner: Some(owner),
            workspace: Some(self.workspace()),
            why: results.iter().find_map(|result| result.message.clone()),
            phase,
            status,
            request_id: id.into(),
            action: action.into(),
            target,
            created_at: Some(self.moment()),
            ended_at: if phase.is_over() {
                Some(self.moment())
            } else {
                None
            },
            results,
            ..Request::default()
        }
    }

    fn target(&mut self, action: &str) -> TargetResult {
        let outcomes = [
            Outcome::Waiting,
            Outcome::Submitted,
            Outcome::Done,
            Outcome::Done,
            Outcome::Unchanged,
            Outcome::Failed,
        ];
        let outcome = outcomes[self.chance.below(outcomes.len() as u64) as usize];
        let (key, target) = if action.starts_with("job.") {
            let job = self.job();
            let target = format!("job/{}", job.job_id);
            (job.key, target)
        } else {
            let cluster = self.cluster();
            let target = format!("cluster/{}", cluster.name);
            (cluster.key, target)
        };
        TargetResult {
            key,
            target: target.into(),
            owner: Some(self.chance.one(self.names.people).into()),
            outcome,
            message: match outcome {
                Outcome::Done => Some(
                    self.chance
                        .one(&["it is CANCELLED", "it was torn down", "it is STOPPED"])
                        .into(),
                ),
                Outcome::Unchanged => Some("it has ended already".into()),
                Outcome::Submitted => Some("SkyPilot works on it".into()),
                Outcome::Failed => Some(self.why()),
                _ => None,
            },
            upstream: outcome.is_over().then(|| self.chance.uuid().into()),
        }
    }

    fn event(&mut self) -> Event {
        let (subject, source, owner, workspace) = if self.chance.often(50) {
            let job = self.job();
            (job.key, job.source, job.owner, job.workspace)
        } else {
            let cluster = self.cluster();
            (
                cluster.key,
                cluster.source,
                cluster.owner,
                cluster.workspace,
            )
        };
        let at = self.moment();
        let text = self.event_text();
        let mark = self.chance.below(1 << 32);
        Event {
            key: Key::new(
                &source,
                Kind::Event,
                format_args!("{}/{}/{mark:08x}", subject.id(), at.0),
            ),
            source,
            name: text.clone(),
            owner,
            workspace,
            subject,
            at,
            text,
            ..Event::default()
        }
    }

    /// Administrators alone are told of these: the dictionary does not learn from them, see [`KINDS`].
    fn audit(&mut self) -> AuditEntry {
        let seq = self.chance.between(1, 1_000_000);
        let status = self.status(Kind::Audit);
        AuditEntry {
            key: Key::new("skytower", Kind::Audit, seq),
            source: "skytower".into(),
            name: "job.cancel".into(),
            owner: Some(self.owner()),
            phase: phase_of(Kind::Audit, &status),
            status,
            seq,
            at: self.moment(),
            action: "job.cancel".into(),
            target: format!("job/{}", self.chance.below(5000)).into(),
            request: self.chance.uuid().into(),
            ..AuditEntry::default()
        }
    }

    fn hello(&mut self) -> Hello {
        let owner = self.owner();
        Hello {
            protocol: 1,
            version: "0.1.0".into(),
            epoch: self.chance.uuid().into(),
            revision: self.revision,
            view: format!("{:016x}", self.chance.next()).into(),
            you: Caller {
                ids: vec![owner.id],
                name: owner.name,
                role: if self.chance.often(30) {
                    Role::Admin
                } else {
                    Role::User
                },
                workspaces: self.chance.maybe(40, |_| vec!["default".into()]),
                ..Caller::default()
            },
            kinds: Kind::ALL.to_vec(),
            at: self.moment(),
        }
    }
}
