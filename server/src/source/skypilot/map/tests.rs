//! Conversion of answers that real servers gave.

use serde_json::Value;
use serde_json::value::RawValue;
use skytower_api_client::{Entity, Phase, Text};

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/",
            $name,
            ".json"
        ))
    };
}

fn source() -> Text {
    "lab".into()
}

/// The value of a recorded exchange.
fn value(recorded: &str) -> Value {
    let exchange: Value = serde_json::from_str(recorded).unwrap();
    let answer = match &exchange["get"]["response"]["body"] {
        Value::Null => &exchange["response"]["body"],
        answer => answer,
    };
    match answer["return_value"].as_str() {
        Some(value) => serde_json::from_str(value).unwrap(),
        None => answer.clone(),
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn records(recorded: &str) -> Vec<Box<RawValue>> {
    let value = value(recorded);
    let list = value.get("jobs").unwrap_or(&value);
    list.as_array().unwrap().iter().map(raw).collect()
}

fn named<T>(rows: impl IntoIterator<Item = T>, name: &str) -> T
where
    T: Clone + Into<Entity>,
{
    rows.into_iter()
        .find(|row| *Into::<Entity>::into(row.clone()).name() == *name)
        .unwrap()
}

#[test]
fn clusters_of_the_lab() {
    let rows: Vec<_> = records(fixture!("skypilot-0.14.1/status"))
        .iter()
        .map(|record| cluster(&source(), record).unwrap())
        .collect();
    assert_eq!(rows.len(), 6);
    let gpu = named(rows.clone(), "bob-gpu");
    assert_eq!(gpu.accelerators.as_deref(), Some("A100:2"));
    assert_eq!(gpu.gpus, Some(2.0));
    assert_eq!(gpu.infra.as_deref(), Some("Slurm (lab)"));
    assert_eq!(
        gpu.key.as_str(),
        "lab/cluster/f602bf6f-8e89-4027-add9-dc19dfad6965"
    );
    assert_eq!(gpu.autostop, None);
    let waiting = named(rows.clone(), "bob-waiting");
    assert_eq!(waiting.phase, Phase::Starting);
    assert_eq!(
        waiting.why.as_deref(),
        Some("Launching (pending: Priority; partition: main)")
    );
    let stop = waiting.refuses.iter().find(|r| r.action == "cluster.stop");
    assert!(stop.unwrap().reason.contains("Pyxis"));
    // Autodown works on Slurm.
    assert!(
        waiting
            .refuses
            .iter()
            .all(|r| r.action != "cluster.autostop")
    );
    let private = named(rows, "carol-dev");
    assert_eq!(private.workspace.as_deref(), Some("research"));
    assert_eq!(private.owner.unwrap().name, "carol");
}

#[test]
fn jobs_of_the_lab_are_one_row_per_task() {
    let rows: Vec<_> = records(fixture!("skypilot-0.14.1/jobs_queue_v2"))
        .iter()
        .map(|record| job(&source(), record).unwrap())
        .collect();
    let keys: std::collections::BTreeSet<_> = rows.iter().map(|row| row.key.clone()).collect();
    assert_eq!(keys.len(), rows.len());
    assert!(rows.iter().any(|row| row.task_id == 1));
    assert!(rows.iter().all(|row| row.phase != Phase::Unknown));
    let too_big = named(rows.clone(), "too-big");
    assert_eq!(too_big.phase, Phase::Pending);
    assert_eq!(
        too_big.why.as_deref(),
        Some("Waiting for other jobs to launch")
    );
    assert_eq!(
        (too_big.infra, too_big.cluster, too_big.gpus),
        (None, None, None)
    );
    assert!(
        rows.iter()
            .any(|row| row.phase == Phase::Failed && row.why.is_some())
    );
    assert!(rows.iter().any(|row| row.group));
    assert!(rows.iter().any(|row| row.pool.as_deref() == Some("warm")));
}

#[test]
fn services_pools_and_their_parts() {
    let chat = served(
        &source(),
        Served::Service,
        &records(fixture!("skypilot-0.14.1/serve_status"))[0],
    )
    .unwrap();
    let service = chat.whole.as_service().unwrap();
    assert_eq!((service.replicas_ready, service.replicas_total), (2, 2));
    assert_eq!(service.endpoint.as_deref(), Some("http://localhost:30001"));
    assert_eq!(chat.parts.len(), 2);
    let replica = chat.parts[0].as_replica().unwrap();
    assert_eq!(replica.service_key, service.key);
    let warm = served(
        &source(),
        Served::Pool,
        &records(fixture!("skypilot-0.14.1/jobs_pool_status"))[0],
    )
    .unwrap();
    assert_eq!(warm.parts[0].as_worker().unwrap().used_by, [10, 11]);
    assert_eq!(warm.whole.owner().unwrap().name, "alice");
}

#[test]
fn people_places_and_nodes() {
    let users: Vec<_> = records(fixture!("skypilot-0.14.1/users"))
        .iter()
        .filter_map(|record| user(&source(), record).unwrap())
        .collect();
    assert!(
        users
            .iter()
            .all(|user| !user.name.starts_with("skypilot-system"))
    );
    assert_eq!(named(users, "vera").role.as_deref(), Some("viewer"));
    let rows = workspaces(
        &source(),
        &raw(&value(fixture!("skypilot-0.14.1/workspaces"))),
    )
    .unwrap();
    assert_eq!(named(rows, "research").status, "private");
    let nodes: Vec<_> = records(fixture!("skypilot-0.14.1/slurm_node_info"))
        .iter()
        .map(|record| slurm_node(&source(), record).unwrap())
        .collect();
    let lab3 = named(nodes, "lab3");
    assert_eq!((lab3.gpus_total, lab3.gpus_free), (Some(4), Some(2)));
    assert_eq!(
        (lab3.status.as_str(), lab3.phase),
        ("alloc", Phase::Running)
    );
    assert_eq!(lab3.key.as_str(), "lab/infra/slurm/lab/lab3");
}

#[test]
fn requests_of_others_without_the_looks() {
    let records: Vec<_> = records(fixture!("skypilot-0.14.1/api_status.all"))
        .iter()
        .map(|record| RequestRecord::read(record).unwrap())
        .collect();
    assert!(records.iter().any(is_noise));
    assert!(
        records
            .iter()
            .filter(|r| r.name == "sky.jobs.events")
            .all(is_noise)
    );
}

#[test]
fn a_queue_and_what_happened() {
    let train = records(fixture!("skypilot-0.14.1/status"))
        .iter()
        .map(|record| cluster(&source(), record).unwrap())
        .find(|row| row.name == "train-llm")
        .unwrap();
    let jobs: Vec<_> = records(fixture!("skypilot-0.14.1/queue.train-llm"))
        .iter()
        .map(|record| queue(&train, record).unwrap())
        .collect();
    assert_eq!(jobs.len(), 5);
    let running = named(jobs, "train");
    assert_eq!(running.phase, Phase::Running);
    assert_eq!(running.ended_at, None);
    let subject = Entity::from(train);
    let events: Vec<_> = records(fixture!("skypilot-0.14.1/cluster_events"))
        .iter()
        .map(|record| cluster_event(&subject, record).unwrap())
        .collect();
    assert_eq!(events.len(), 7);
    assert_eq!(events[0].text, "Provisioning on slurm in lab");
    let jobs = records(fixture!("skypilot-0.14.1/jobs_queue_v2"));
    let third = jobs
        .iter()
        .map(|record| job(&source(), record).unwrap())
        .find(|row| row.job_id == 3 && row.task_id == 0)
        .unwrap();
    let events = records(fixture!("skypilot-0.14.1/jobs_events"));
    let first = job_event(&third.into(), &events[0]).unwrap().unwrap();
    assert_eq!(first.text, "RUNNING: Job has started");
    assert_eq!(first.at.to_rfc3339(), "2026-11-23T22:48:08.280Z");
}

#[test]
fn the_oldest_server() {
    for record in &records(fixture!("skypilot-0.11.2/status")) {
        assert_eq!(cluster(&source(), record).unwrap().phase, Phase::Running);
    }
    for record in &records(fixture!("skypilot-0.11.2/jobs_queue_v2")) {
        assert_eq!(job(&source(), record).unwrap().phase, Phase::Pending);
    }
    for record in &records(fixture!("skypilot-0.11.2/users")) {
        assert!(user(&source(), record).is_ok());
    }
    for record in &records(fixture!("skypilot-0.11.2/api_status")) {
        assert!(RequestRecord::read(record).is_ok());
    }
}

#[test]
fn a_field_of_a_wrong_type_costs_the_field_and_an_unknown_status_is_shown() {
    let record = raw(&serde_json::json!({
        "name": "x", "cluster_hash": "h", "status": "HIBERNATING", "nodes": "many",
        "autostop": {"minutes": 3}, "new_field": [1], "user_hash": 7,
    }));
    let row = cluster(&source(), &record).unwrap();
    assert_eq!(
        (row.status.as_str(), row.phase),
        ("HIBERNATING", Phase::Unknown)
    );
    assert_eq!((row.nodes, row.autostop, row.owner), (1, None, None));
    assert!(cluster(&source(), &raw(&serde_json::json!({"status": "UP"}))).is_err());
    assert!(cluster(&source(), &raw(&serde_json::json!(3))).is_err());
    assert!(job(&source(), &raw(&serde_json::json!({"job_id": "7"}))).is_err());
}

#[test]
fn controllers_unhealthy_ones_and_accelerators() {
    let of = |fields: Value| cluster(&source(), &raw(&fields)).unwrap();
    assert!(of(serde_json::json!({"name": "sky-jobs-controller-1"})).controller);
    let broken = of(serde_json::json!({"name": "x", "status": "INIT", "init_kind": "unhealthy"}));
    assert_eq!(broken.phase, Phase::Degraded);
    let many = of(
        serde_json::json!({"name": "x", "nodes": 4, "accelerators": "{'H100': 8, 'A100-80GB': 0.5}"}),
    );
    assert_eq!(many.accelerators.as_deref(), Some("H100:8, A100-80GB:0.5"));
    assert_eq!(many.gpus, Some(34.0));
    let asked = job(
        &source(),
        &raw(&serde_json::json!({"job_id": 1, "resources": "2x[A100:2]"})),
    )
    .unwrap();
    assert_eq!(
        (asked.accelerators.as_deref(), asked.gpus),
        (Some("A100:2"), Some(4.0))
    );
    let cpus = job(
        &source(),
        &raw(&serde_json::json!({"job_id": 1, "resources": "2x[CPU:2+]"})),
    )
    .unwrap();
    assert_eq!(cpus.gpus, None);
}

#[test]
fn that_a_cancellation_was_asked_for_is_not_a_status() {
    let event = |task: i64, status: &str, reason: &str| {
        raw(
            &serde_json::json!({"spot_job_id": 7, "task_id": task, "new_status": status, "reason": reason}),
        )
    };
    let asked = event(
        0,
        "CANCELLING",
        "Cancellation requested by user bob (request ID: 1)",
    );
    let begun = event(0, "CANCELLING", "Job is cancelling");
    let runs = event(0, "RUNNING", "Job has started");
    let other = event(1, "FAILED", "exit code 1");
    let status = |events: &[&RawValue]| job_status(0, events).map(|status| status.to_string());
    assert_eq!(status(&[&other, &asked, &runs]).as_deref(), Some("RUNNING"));
    assert_eq!(
        status(&[&begun, &asked, &runs]).as_deref(),
        Some("CANCELLING")
    );
    assert_eq!(status(&[&asked]), None);
}
