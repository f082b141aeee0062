//! A small organisation, made in code, at a fixed time.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "a module of test files")]
#![allow(clippy::unnecessary_wraps, reason = "as the fields want them")]

use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use skytower::app::{LogEvent, Model, Msg, Options, settle, update};
use skytower::start::Read;
use skytower::theme::Theme;
use skytower::ui;
use skytower_api_client::action::Start;
use skytower_api_client::entity::*;
use skytower_api_client::feed::{FeedEvent, Link};
use skytower_api_client::phase::phase_of;
use skytower_api_client::task::{Resources, Task, TaskFile};
use skytower_api_client::wire::{Caller, Hello, Role, ServerMessage};
use skytower_api_client::{EpochMs, Key, Kind, Text};

pub const NOW: EpochMs = EpochMs(1_795_500_000_000);

fn ago(seconds: i64) -> Option<EpochMs> {
    Some(EpochMs(NOW.0 - seconds * 1000))
}

fn owner(name: &str) -> Option<Owner> {
    Some(Owner {
        id: format!("id-{name}").into(),
        name: name.into(),
    })
}

pub fn cluster(
    id: &str,
    name: &str,
    who: &str,
    status: &str,
    infra: &str,
    gpus: &str,
    age: i64,
) -> Arc<Entity> {
    Cluster {
        key: Key::new("prod", Kind::Cluster, id),
        source: "prod".into(),
        name: name.into(),
        owner: owner(who),
        workspace: Some("default".into()),
        status: status.into(),
        phase: phase_of(Kind::Cluster, status),
        infra: Some(infra.into()),
        nodes: 1,
        accelerators: (!gpus.is_empty()).then(|| gpus.into()),
        gpus: gpus.rsplit(':').next().and_then(|n| n.parse().ok()),
        launched_at: ago(age),
        autostop: Some(30),
        ..Cluster::default()
    }
    .into()
}

pub fn job(id: i64, task: i64, name: &str, who: &str, status: &str, age: i64) -> Arc<Entity> {
    Job {
        key: Key::new("prod", Kind::Job, format!("{id}/{task}")),
        source: "prod".into(),
        name: name.into(),
        owner: owner(who),
        workspace: Some("default".into()),
        status: status.into(),
        phase: phase_of(Kind::Job, status),
        why: (status == "RECOVERING").then(|| "spot machine preempted in us-west2-b".into()),
        job_id: id,
        task_id: task,
        job_name: if id == 88_300 {
            "nightly-pipeline".into()
        } else {
            name.into()
        },
        submitted_at: ago(age),
        started_at: (status == "RUNNING").then(|| EpochMs(NOW.0 - (age - 5) * 1000)),
        accelerators: Some("A100:4".into()),
        gpus: Some(4.0),
        infra: Some("Kubernetes (prod-a)".into()),
        ..Job::default()
    }
    .into()
}

pub fn rows() -> Vec<Arc<Entity>> {
    let mut rows: Vec<Arc<Entity>> = vec![
        Source {
            key: Key::new("prod", Kind::Source, "prod"),
            source: "prod".into(),
            name: "prod".into(),
            status: "healthy".into(),
            phase: phase_of(Kind::Source, "healthy"),
            flavour: "skypilot".into(),
            url: Some("http://sky.example:46580".into()),
            fetched_at: Kind::ALL.iter().map(|kind| (*kind, NOW)).collect(),
            ..Source::default()
        }
        .into(),
        cluster(
            "c1",
            "pretrain-70b",
            "carol",
            "UP",
            "GCP (us-west2-b)",
            "H100:64",
            35_000,
        ),
        cluster(
            "c2",
            "rlhf-dev",
            "bob",
            "UP",
            "Kubernetes (prod-a)",
            "A100:8",
            11_000,
        ),
        cluster(
            "c3",
            "llama-sft-7b",
            "bob",
            "INIT",
            "AWS (us-east-1)",
            "A100:8",
            120,
        ),
        cluster(
            "c4",
            "alice-dev",
            "alice",
            "UP",
            "Lambda (us-tx)",
            "H100:1",
            2460,
        ),
        cluster(
            "c5",
            "bench-a100",
            "alice",
            "AUTOSTOPPING",
            "GCP (europe-west4)",
            "A100:8",
            90_000,
        ),
        cluster(
            "c6",
            "notebooks",
            "alice",
            "STOPPED",
            "AWS (us-east-1)",
            "L4:1",
            260_000,
        ),
        cluster("c7", "日本語-クラスタ", "dana", "UP", "Slurm (lab)", "", 12),
        job(88_412, 0, "llama-sft-7b", "bob", "FAILED_SETUP", 120),
        job(88_410, 0, "eval-mmlu-4", "alice", "RUNNING", 180),
        job(88_409, 0, "sweep-lr-17", "bob", "STARTING", 200),
        job(88_408, 0, "sweep-lr-16", "bob", "STARTING", 201),
        job(88_391, 0, "night-batch-0", "frank", "PENDING", 480),
        job(88_120, 0, "pretrain-70b", "carol", "RECOVERING", 34_000),
        job(88_300, 0, "tokenize", "alice", "SUCCEEDED", 7200),
        job(88_300, 1, "train", "alice", "RUNNING", 7200),
        job(88_300, 2, "evaluate", "alice", "PENDING", 7200),
        job(88_380, 0, "tmp-debug", "gina", "CANCELLED", 900),
        Event {
            key: Key::new("prod", Kind::Event, "88410-1"),
            source: "prod".into(),
            subject: Key::new("prod", Kind::Job, "88410/0"),
            at: EpochMs(NOW.0 - 175_000),
            text: "provisioned on Kubernetes (prod-a)".into(),
            ..Event::default()
        }
        .into(),
    ];
    let service = Key::new("prod", Kind::Service, "chat-prod");
    rows.push(
        Service {
            key: service.clone(),
            source: "prod".into(),
            name: "chat-prod".into(),
            owner: owner("dana"),
            workspace: Some("default".into()),
            status: "READY".into(),
            phase: phase_of(Kind::Service, "READY"),
            version: Some(8),
            ready_since: ago(2_700_000),
            endpoint: Some("http://10.2.0.7:30080".into()),
            replicas_ready: 1,
            replicas_total: 2,
            replicas_target: Some(2),
            ..Service::default()
        }
        .into(),
    );
    for (id, status) in [(1, "READY"), (2, "FAILED_PROBING")] {
        rows.push(
            Replica {
                key: Key::new("prod", Kind::Replica, format!("chat-prod/{id}")),
                source: "prod".into(),
                name: format!("replica {id}").into(),
                owner: owner("dana"),
                status: status.into(),
                phase: phase_of(Kind::Replica, status),
                service_key: service.clone(),
                service: "chat-prod".into(),
                replica_id: id,
                version: Some(8),
                launched_at: ago(3000),
                ..Replica::default()
            }
            .into(),
        );
    }
    for (name, gpus, jobs) in [("alice", 9.0, 2), ("bob", 16.0, 3), ("carol", 64.0, 1)] {
        rows.push(
            User {
                key: Key::new("prod", Kind::User, format!("id-{name}")),
                source: "prod".into(),
                name: name.into(),
                owner: owner(name),
                status: "active".into(),
                phase: phase_of(Kind::User, "active"),
                user_id: format!("id-{name}").into(),
                jobs,
                gpus,
                ..User::default()
            }
            .into(),
        );
    }
    rows.push(
        Request {
            key: Key::new("skytower", Kind::Request, "r1"),
            source: "skytower".into(),
            name: "job.cancel".into(),
            owner: owner("alice"),
            status: "PARTLY".into(),
            phase: phase_of(Kind::Request, "PARTLY"),
            origin: "skytower".into(),
            request_id: "0192f3c1".into(),
            action: "job.cancel".into(),
            target: Some("2 jobs".into()),
            created_at: ago(60),
            results: vec![
                TargetResult {
                    key: Key::new("prod", Kind::Job, "88410/0"),
                    target: "job/88410".into(),
                    owner: Some("alice".into()),
                    outcome: Outcome::Done,
                    message: None,
                    upstream: None,
                },
                TargetResult {
                    key: Key::new("prod", Kind::Job, "88380/0"),
                    target: "job/88380".into(),
                    owner: Some("gina".into()),
                    outcome: Outcome::Failed,
                    message: Some("it is CANCELLED: it has ended already".into()),
                    upstream: None,
                },
            ],
            ..Request::default()
        }
        .into(),
    );
    rows
}

/// The local engine, with nothing on it.
pub fn engine() -> Arc<Entity> {
    Source {
        key: Key::new("local", Kind::Source, "local"),
        source: "local".into(),
        name: "local".into(),
        status: "healthy".into(),
        phase: phase_of(Kind::Source, "healthy"),
        flavour: "local".into(),
        fetched_at: Kind::ALL.iter().map(|kind| (*kind, NOW)).collect(),
        ..Source::default()
    }
    .into()
}

/// The local engine, and what runs on it.
pub fn local() -> Vec<Arc<Entity>> {
    let here = |kind, id: &str| (Key::new("local", kind, id), "local".into());
    let mut rows = vec![engine()];
    for (name, who, status) in [("dev", "alice", "UP"), ("etl", "bob", "STOPPED")] {
        let (key, source) = here(Kind::Cluster, name);
        rows.push(
            Cluster {
                key,
                source,
                name: name.into(),
                owner: owner(who),
                workspace: Some("default".into()),
                status: status.into(),
                phase: phase_of(Kind::Cluster, status),
                infra: Some("Local (this machine)".into()),
                nodes: 1,
                launched_at: ago(600),
                ..Cluster::default()
            }
            .into(),
        );
    }
    for (id, name, who, status) in [
        (7, "tokenize", "alice", "RUNNING"),
        (6, "flaky", "alice", "FAILED"),
        (5, "sweep", "bob", "SUCCEEDED"),
    ] {
        let (key, source) = here(Kind::Job, &format!("{id}/0"));
        rows.push(
            Job {
                key,
                source,
                name: name.into(),
                job_name: name.into(),
                owner: owner(who),
                workspace: Some("default".into()),
                status: status.into(),
                phase: phase_of(Kind::Job, status),
                job_id: id,
                submitted_at: ago(60 * id),
                infra: Some("Local (this machine)".into()),
                ..Job::default()
            }
            .into(),
        );
    }
    let (key, source) = here(Kind::Service, "hello");
    rows.push(
        Service {
            key,
            source,
            name: "hello".into(),
            owner: owner("alice"),
            workspace: Some("default".into()),
            status: "READY".into(),
            phase: phase_of(Kind::Service, "READY"),
            version: Some(1),
            ready_since: ago(300),
            endpoint: Some("http://127.0.0.1:30001".into()),
            replicas_ready: 2,
            replicas_total: 2,
            replicas_target: Some(2),
            ..Service::default()
        }
        .into(),
    );
    rows
}

/// A task file that was read, with tasks of these names.
pub fn task_file(names: &[&str]) -> Read {
    let task = |name: &&str| Task {
        name: Some((*name).into()),
        num_nodes: 2,
        resources: Resources {
            cpus: Some(2.0),
            memory_gb: Some(4.0),
            ..Resources::default()
        },
        envs: [("EPOCHS".to_owned(), "3".to_owned())].into(),
        secrets: [("WANDB_API_KEY".to_owned(), "hunter2".to_owned())].into(),
        workdir: Some("/home/alice/llm".to_owned()),
        setup: Some("pip install -r requirements.txt".to_owned()),
        run: Some(
            "python prepare.py\npython train.py --epochs $EPOCHS\n\necho done\nls -la\n".to_owned(),
        ),
        ..Task::default()
    };
    Read {
        start: Start {
            file: "jobs/train.yaml".into(),
            yaml: "name: train".to_owned(),
            folder: "/home/alice/llm".to_owned(),
            ..Start::default()
        },
        task: Ok(TaskFile {
            name: names.first().map(|name| (*name).into()),
            tasks: names.iter().map(task).collect(),
        }),
    }
}

/// A dashboard with nothing in it yet.
pub fn empty(size: (u16, u16)) -> Model {
    let options = Options {
        endpoint: "http://sky.example:46580".into(),
        utc: true,
        run: "test".into(),
        theme: Theme::default(),
        ..Options::default()
    };
    Model::new(options, NOW, size)
}

pub fn feed(model: &mut Model, event: FeedEvent) {
    update(model, NOW, Msg::Feed(Box::new(event)));
}

/// Some entries of the audit.
pub fn audit() -> Vec<Arc<Entity>> {
    let entry = |seq: i64, minutes: i64, who: &str, action: &str, status: &str| AuditEntry {
        key: Key::new("skytower", Kind::Audit, seq),
        source: "skytower".into(),
        name: action.into(),
        owner: owner(who),
        status: status.into(),
        phase: phase_of(Kind::Audit, status),
        seq,
        at: EpochMs(NOW.0 - minutes * 60_000),
        role: "user".into(),
        proof: "password".into(),
        address: "10.2.0.7".into(),
        action: action.into(),
        hash: format!("{seq:064x}").into(),
        ..AuditEntry::default()
    };
    let request = "0194a6c2-7d1e-7c3a-9f0e-1d2c3b4a5968";
    vec![
        AuditEntry {
            why: Some("57 times more within a minute; the last: the password is wrong".into()),
            role: Text::default(),
            proof: Text::default(),
            ..entry(1041, 12, "mallory", "sign_in", "refused")
        }
        .into(),
        AuditEntry {
            target: "cluster/dev, cluster/train-llm of bob".into(),
            request: request.into(),
            proof: "token 1f2e".into(),
            ..entry(1042, 3, "alice", "cluster.down", "accepted")
        }
        .into(),
        AuditEntry {
            target: "cluster/dev, cluster/train-llm of bob".into(),
            request: request.into(),
            address: Text::default(),
            proof: Text::default(),
            why: Some("the cloud refused to tear it down".into()),
            ..entry(1043, 2, "alice", "cluster.down", "partly")
        }
        .into(),
    ]
}

/// A live dashboard of an administrator, with these rows.
pub fn administered(size: (u16, u16), rows: Vec<Arc<Entity>>) -> Model {
    let mut model = live(size, rows);
    let you = Caller {
        role: Role::Admin,
        ..model.you.clone()
    };
    feed(
        &mut model,
        FeedEvent::Hello(Hello {
            protocol: 1,
            version: "0.1.0".into(),
            epoch: "e".into(),
            revision: 1,
            view: "w".into(),
            you,
            kinds: Vec::new(),
            at: NOW,
        }),
    );
    model
}

/// A live dashboard with these rows.
pub fn live(size: (u16, u16), rows: Vec<Arc<Entity>>) -> Model {
    fill(empty(size), rows)
}

/// A dashboard that becomes live with these rows.
pub fn fill(mut model: Model, rows: Vec<Arc<Entity>>) -> Model {
    feed(
        &mut model,
        FeedEvent::Hello(Hello {
            protocol: 1,
            version: "0.1.0".into(),
            epoch: "e".into(),
            revision: 1,
            view: "v".into(),
            you: Caller {
                ids: vec!["id-alice".into()],
                name: "alice".into(),
                role: Role::User,
                ..Caller::default()
            },
            kinds: Vec::new(),
            at: NOW,
        }),
    );
    for row in rows {
        feed(
            &mut model,
            FeedEvent::Message(ServerMessage::Snapshot {
                kind: row.kind(),
                revision: 1,
                rows: vec![row],
                more: false,
            }),
        );
    }
    feed(
        &mut model,
        FeedEvent::Message(ServerMessage::Ready { revision: 1 }),
    );
    let round_trip = Some(std::time::Duration::from_millis(4));
    feed(
        &mut model,
        FeedEvent::Link(Link::Live {
            round_trip,
            clock_offset_ms: 0,
        }),
    );
    model
}

/// Presses keys, in the notation of the key table.
#[allow(clippy::unwrap_used, reason = "a wrong key is a wrong test")]
pub fn press(model: &mut Model, keys: &str) -> Vec<skytower::app::Effect> {
    keys.split_whitespace()
        .flat_map(|key| update(model, NOW, Msg::Key(key.parse().unwrap())))
        .collect()
}

/// Types a text.
pub fn type_in(model: &mut Model, text: &str) {
    for c in text.chars() {
        let chord = skytower::keys::Chord::plain(skytower::keys::Code::Char(c));
        update(model, NOW, Msg::Key(chord));
    }
}

/// The screen in cells.
pub fn cells(model: &mut Model) -> Buffer {
    settle(model);
    let (columns, rows) = model.size;
    let mut frame = Buffer::empty(Rect::new(0, 0, columns, rows));
    ui::draw(model, &mut frame);
    frame
}

/// The column of the terminal's cursor.
pub fn cursor(model: &mut Model) -> Option<u16> {
    settle(model);
    let (columns, rows) = model.size;
    let mut frame = Buffer::empty(Rect::new(0, 0, columns, rows));
    ui::draw(model, &mut frame).map(|position| position.x)
}

/// More text comes from the log that is open.
pub fn write_log(model: &mut Model, text: &str) {
    let id = model.log.as_ref().map_or(0, |log| log.id);
    let chunk = LogEvent::Chunk(text.to_owned());
    update(model, NOW, Msg::Log(id, chunk));
}

/// The screen as text.
pub fn screen(model: &mut Model) -> String {
    let frame = cells(model);
    let (columns, rows) = model.size;
    let mut out = String::new();
    for y in 0..rows {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..columns {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = frame[(x, y)].symbol();
            skip = skytower::text::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
