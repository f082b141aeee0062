//! Clusters and their queues.

use skytower_api_client::action::ActionOptions;
use skytower_api_client::rest::LogQuery;
use skytower_api_client::{Kind, Phase};

use crate::tower::{Tower, key, source, starting};

const DEV: &str = "resources: {cpus: 1}\nsetup: echo setting up\nrun: |\n  echo hello from $SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES\n  pwd\n";

#[tokio::test]
async fn a_task_is_launched_its_log_read_and_its_cluster_stopped_started_and_torn_down() {
    let mut tower = Tower::start().await;
    let job = tower.launch("dev", DEV).await;
    assert_eq!(job, key(Kind::ClusterJob, "dev/1"));
    let row = tower.until_over(&job).await;
    assert_eq!(
        (&*row.status().to_string(), row.phase()),
        ("SUCCEEDED", Phase::Succeeded)
    );
    let log = tower.log(&job).await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], ["setting up", "hello from 0 of 1"], "{log}");
    assert!(
        lines[2].ends_with("clusters/dev/node-0/sky_workdir"),
        "{log}"
    );

    let cluster = key(Kind::Cluster, "dev");
    let long = tower
        .begin("cluster.exec", &cluster, "", "run: sleep 1000")
        .await;
    tower.until_phase(&long, Phase::Running).await;
    tower.done("cluster.stop", &cluster).await;
    tower.until_phase(&cluster, Phase::Stopped).await;
    let row = tower.until_over(&long).await;
    assert_eq!(row.status(), "CANCELLED");
    assert!(row.why().unwrap().starts_with("stopped by "), "{row:?}");
    tower.until_nothing_runs().await;

    tower.done("cluster.start", &cluster).await;
    tower.until_phase(&cluster, Phase::Running).await;
    tower.done("cluster.down", &cluster).await;
    let row = tower.until_phase(&cluster, Phase::Gone).await;
    assert!(row.why().unwrap().starts_with("Cluster was terminated by "));
    assert!(!tower.engine().join("clusters/dev").exists());
}

#[tokio::test]
async fn nodes_run_together_and_their_lines_say_whose_they_are() {
    let mut tower = Tower::start().await;
    let yaml = "num_nodes: 2\nresources: {cpus: 0.2}\nrun: |\n  echo rank $SKYPILOT_NODE_RANK\n  echo \"$SKYPILOT_NODE_IPS\" | sed -n \"$((SKYPILOT_NODE_RANK + 1))p\"\n";
    let job = tower.launch("two", yaml).await;
    tower.until_over(&job).await;
    let log = tower.log(&job).await;
    assert!(log.contains("(head, rank=0) rank 0\n"), "{log}");
    assert!(log.contains("(worker1, rank=1) rank 1\n"), "{log}");
    assert!(log.contains("(worker1, rank=1) 127."), "{log}");
}

#[tokio::test]
async fn a_job_waits_for_its_turn_says_why_and_a_cancelled_one_gives_its_place_up() {
    let mut tower = Tower::start().await;
    let first = tower
        .launch("dev", "resources: {cpus: 1}\nrun: sleep 1000")
        .await;
    let cluster = key(Kind::Cluster, "dev");
    let second = tower
        .begin(
            "cluster.exec",
            &cluster,
            "",
            "resources: {cpus: 1}\nrun: echo done",
        )
        .await;
    let row = tower.until_phase(&second, Phase::Pending).await;
    assert_eq!(
        row.why().unwrap(),
        &"waits for CPUs of its cluster: needs 1, 0 of 1 are free"
    );
    tower.done("cluster_job.cancel", &first).await;
    let row = tower.until_over(&second).await;
    assert_eq!(row.status(), "SUCCEEDED");
    let row = tower.until_over(&first).await;
    assert_eq!(row.status(), "CANCELLED");
    tower.until_nothing_runs().await;
}

#[tokio::test]
async fn a_log_is_followed_to_its_end() {
    let mut tower = Tower::start().await;
    let job = tower
        .launch(
            "dev",
            "run: |\n  for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done\n  printf 'no newline'",
        )
        .await;
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let log = tower.log_of(&job, query).await;
    assert_eq!(
        log.trim_end(),
        "line 1\nline 2\nline 3\nline 4\nline 5\nno newline"
    );
    let query = LogQuery {
        tail: Some(2),
        ..LogQuery::default()
    };
    let log = tower.log_of(&job, query).await;
    assert_eq!(log.trim_end(), "line 5\nno newline");
}

#[tokio::test]
async fn what_cannot_be_done_here_is_refused_with_file_line_and_field() {
    let mut tower = Tower::start().await;
    let refused = async |tower: &mut Tower, yaml: &str| {
        let request = tower
            .act("source.launch", &source(), starting("x", yaml))
            .await;
        assert_eq!(request.status, "FAILED", "{request:?}");
        request.results[0].message.clone().unwrap().to_string()
    };
    let said = refused(&mut tower, "resources:\n  use_spot: true\nrun: echo").await;
    assert!(
        said.contains("test.yaml:2") && said.contains("use_spot"),
        "{said}"
    );
    let said = refused(&mut tower, "resources: {cpus: 4000}\nrun: echo").await;
    assert!(
        said.contains("it needs 4000 CPUs and this machine has"),
        "{said}"
    );
    let said = refused(&mut tower, "resources: {accelerators: 'A100:1'}\nrun: echo").await;
    assert!(said.contains("accelerators"), "{said}");
    assert!(tower.rows(Kind::Cluster).await.is_empty());
}

#[tokio::test]
async fn autostop_takes_an_idle_cluster_down() {
    let mut tower = Tower::start().await;
    tower.launch("dev", "run: echo done").await;
    let cluster = key(Kind::Cluster, "dev");
    let options = ActionOptions {
        idle_minutes: Some(0),
        down: true,
        ..ActionOptions::default()
    };
    let request = tower.act("cluster.autostop", &cluster, options).await;
    // It may have come down before it was seen to be set.
    assert!(request.phase.is_over());
    let row = tower.until_phase(&cluster, Phase::Gone).await;
    assert!(row.why().unwrap().contains("autostop"), "{row:?}");
}

#[tokio::test]
async fn a_secret_reaches_its_task_and_no_page() {
    let mut tower = Tower::start().await;
    let json = r#"{"secrets": {"TOKEN": "hunter2"}, "run": "echo ${#TOKEN} letters"}"#;
    let block = "secrets:\n  TOKEN: hunter2\nrun: echo ${#TOKEN} letters\n";
    for (name, yaml) in [("json", json), ("block", block)] {
        let job = tower.launch(name, yaml).await;
        tower.until_over(&job).await;
        assert_eq!(tower.log(&job).await, "7 letters\n");
        let client = tower.client().unwrap();
        let detail = client.detail(Kind::ClusterJob, &job).await.unwrap();
        let shown = format!("{detail:?}");
        assert!(
            shown.contains("secrets") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    let log = crate::tower::read(&tower.home.path().join("server.log"));
    assert!(!log.contains("hunter2"));
}
