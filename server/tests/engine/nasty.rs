//! Tasks that do what they should not: each ends in a state that is understood, and nothing remains.

use skytower_api_client::rest::LogQuery;
use skytower_api_client::{Key, Kind, Phase};

use crate::tower::{Tower, key};

/// Launches a task, waits until it has said `ready`, cancels it, and sees that nothing is left.
async fn cancelled(name: &str, run: &str) -> (Tower, Key) {
    let mut tower = Tower::start().await;
    let indented: String = run.lines().map(|line| format!("  {line}\n")).collect();
    let yaml = format!("resources: {{cpus: 0.1}}\nrun: |\n{indented}");
    let job = tower.launch(name, &yaml).await;
    tower
        .until("it is ready", async |tower| {
            tower.log(&job).await.contains("ready").then_some(())
        })
        .await;
    assert!(tower.processes().len() > 1);
    tower.done("cluster_job.cancel", &job).await;
    let row = tower.until_over(&job).await;
    assert_eq!(row.status(), "CANCELLED", "{row:?}");
    assert!(row.why().unwrap().starts_with("cancelled by "), "{row:?}");
    tower.until_nothing_runs().await;
    (tower, job)
}

#[tokio::test]
async fn daemons_and_sessions_of_their_own_are_ended_too() {
    cancelled(
        "daemon",
        "setsid sleep 1000 &\n(setsid bash -c 'sleep 1000 & exec sleep 1001' &)\nnohup sleep 1002 >/dev/null 2>&1 &\necho ready\nsleep 1003",
    )
    .await;
}

#[tokio::test]
async fn whoever_stops_itself_says_so_and_can_be_cancelled() {
    let mut tower = Tower::start().await;
    let job = tower
        .launch(
            "stopper",
            "resources: {cpus: 0.1}\nrun: |\n  echo ready\n  kill -STOP $$\n  sleep 1000\n",
        )
        .await;
    let row = tower
        .until_row(&job, "said that it has stopped itself", |row| {
            row.phase() == Phase::Running && row.why().is_some()
        })
        .await;
    assert!(row.why().unwrap().contains("SIGSTOP"), "{row:?}");
    tower.done("cluster_job.cancel", &job).await;
    assert_eq!(tower.until_over(&job).await.status(), "CANCELLED");
    tower.until_nothing_runs().await;
}

#[tokio::test]
async fn many_children_are_all_ended() {
    cancelled(
        "forks",
        "for i in $(seq 1 150); do sleep 1000 & done\necho ready\nwait",
    )
    .await;
}

#[tokio::test]
async fn what_outlives_its_parent_ends_with_the_job() {
    let mut tower = Tower::start().await;
    let job = tower
        .launch("parent", "run: |\n  setsid sleep 1000 &\n  echo bye\n")
        .await;
    let row = tower.until_over(&job).await;
    assert_eq!(row.status(), "SUCCEEDED");
    tower.until_nothing_runs().await;
}

#[tokio::test]
async fn a_flood_of_log_without_a_newline_is_capped_and_the_task_not_held_up() {
    let mut tower = Tower::start().await;
    let job = tower
        .launch(
            "flood",
            "run: |\n  head -c 400000000 /dev/zero | tr '\\0' x\n  echo\n  echo the end\n",
        )
        .await;
    let row = tower.until_over(&job).await;
    assert_eq!(row.status(), "SUCCEEDED", "{row:?}");
    let query = LogQuery {
        tail: Some(1),
        ..LogQuery::default()
    };
    assert_eq!(tower.log_of(&job, query).await.trim(), "the end");
}

#[tokio::test]
async fn a_task_sees_nothing_of_the_server() {
    let mut tower = Tower::with(&[("SKYTOWER_TEST_SECRET", "hunter2")]).await;
    let job = tower
        .launch("peek", "run: |\n  env\n  ls /proc/self/fd\n")
        .await;
    tower.until_over(&job).await;
    let log = tower.log(&job).await;
    assert!(!log.contains("hunter2"), "{log}");
    assert!(log.contains("SKYPILOT_NODE_RANK=0"), "{log}");
    assert!(key(Kind::Cluster, "peek").as_str().ends_with("peek"));
}

/// A small disk of its own, where one may be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::TempDir::new().unwrap();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        println!("nothing may be mounted here: a full disk is not tried");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

#[tokio::test]
async fn a_full_disk_loses_no_exit_code_and_what_comes_next_waits_for_room() {
    let Some(disk) = SmallDisk::mount("768m") else {
        return;
    };
    let home = tempfile::TempDir::new_in(disk.0.path()).unwrap();
    let mut tower = Tower::at(home, &[]);
    tower.up().await;
    let job = tower
        .launch(
            "filler",
            "run: |\n  cat /dev/zero > ~/full\n  cat /dev/zero > ~/fuller\n  echo more log than fits\n  exit 5\n",
        )
        .await;
    let row = tower.until_over(&job).await;
    assert_eq!(
        (row.status(), row.why().unwrap().as_str().split(';').next()),
        (&"FAILED".into(), Some("exit code 5")),
        "{row:?}"
    );
    let next = tower
        .begin(
            "cluster.exec",
            &key(Kind::Cluster, "filler"),
            "",
            "run: echo done",
        )
        .await;
    let row = tower
        .until_row(&next, "waited for room", |row| {
            row.why().is_some_and(|why| why.contains("disk space"))
        })
        .await;
    assert_eq!(row.phase(), Phase::Pending);
    tower
        .until_row(
            &crate::tower::source(),
            "said that the disk is full",
            |row| row.why().is_some_and(|why| why.contains("disk space")),
        )
        .await;
    let folder = tower.engine().join("clusters/filler/node-0");
    std::fs::remove_file(folder.join("full")).unwrap();
    std::fs::remove_file(folder.join("fuller")).unwrap();
    let row = tower.until_over(&next).await;
    assert_eq!(row.status(), "SUCCEEDED", "{row:?}");
    drop(tower);
}
