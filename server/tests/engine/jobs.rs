//! Managed jobs.

use rustix::process::Signal;
use skytower_api_client::{Kind, Phase};

use crate::tower::{Tower, key, made, read, signal};

#[tokio::test]
async fn a_job_ends_as_its_program_did_and_says_why() {
    let mut tower = Tower::start().await;
    let cases = [
        ("run: exit 0", "SUCCEEDED", ""),
        ("run: exit 7", "FAILED", "exit code 7"),
        ("run: kill -9 $$", "FAILED", "ended by signal 9 (SIGKILL)"),
        (
            "run: no-such-command-here",
            "FAILED",
            "exit code 127: a command was not found",
        ),
        ("setup: exit 3\nrun: echo", "FAILED_SETUP", "exit code 3"),
        (
            "resources: {cpus: 4000}\nrun: echo",
            "FAILED_NO_RESOURCE",
            "it needs 4000 CPUs and this machine has",
        ),
        (
            "workdir: ./no-such-folder\nrun: echo",
            "FAILED_PRECHECKS",
            "there is no such file or folder",
        ),
    ];
    for (yaml, status, why) in cases {
        let request = tower
            .act(
                "source.jobs_launch",
                &crate::tower::source(),
                crate::tower::starting("job", yaml),
            )
            .await;
        if request.status == "FAILED" && status == "FAILED_PRECHECKS" {
            // The reader of task files may find it out first.
            continue;
        }
        let row = tower.until_over(&made(&request)).await;
        assert_eq!(row.status(), status, "{yaml}: {row:?}");
        let said = row.why().map(ToString::to_string).unwrap_or_default();
        assert!(said.contains(why), "{yaml}: {said}");
    }
    tower.until_nothing_runs().await;
}

#[tokio::test]
async fn a_program_that_fails_is_started_again_as_often_as_it_may() {
    let mut tower = Tower::start().await;
    let yaml = "resources: {cpus: 0.1, job_recovery: {max_restarts_on_errors: 2}}\nrun: |\n  echo x >> ~/count\n  [ $(wc -l < ~/count) -ge 3 ]\n";
    let job = tower.job("flaky", yaml).await;
    let row = tower.until_over(&job).await;
    assert_eq!(row.status(), "SUCCEEDED", "{row:?}");
    assert_eq!(row.as_job().unwrap().recoveries, 2);
    let log = tower.log(&job).await;
    assert!(log.contains("[skytower] attempt 3"), "{log}");
}

#[tokio::test]
async fn a_pipeline_runs_one_task_after_the_other_and_can_be_launched_again() {
    let mut tower = Tower::start().await;
    let out = tower.home.path().join("out");
    let out = out.display();
    let yaml = format!(
        "name: pipe\n---\nname: one\nrun: echo one >> {out}\n---\nname: two\nrun: echo two >> {out}\n"
    );
    let job = tower.job("", &yaml).await;
    tower.until_over(&key(Kind::Job, "1/1")).await;
    let row = tower.until_over(&job).await;
    assert_eq!(
        (row.name(), row.as_job().unwrap().job_name.as_str()),
        (&"one".into(), "pipe")
    );
    let again = tower.done("job.relaunch", &job).await;
    assert_eq!(made(&again), key(Kind::Job, "2/0"));
    let row = tower.until_over(&key(Kind::Job, "2/1")).await;
    assert_eq!(row.status(), "SUCCEEDED");
    assert_eq!(read(&tower.home.path().join("out")), "one\ntwo\none\ntwo\n");
}

#[tokio::test]
async fn a_job_whose_keeper_is_killed_recovers_and_a_cancelled_one_leaves_nothing() {
    let mut tower = Tower::start().await;
    let job = tower.job("long", "run: sleep 1000").await;
    tower.until_phase(&job, Phase::Running).await;
    let keeper = tower
        .processes()
        .into_iter()
        .find(|(_, command)| command.contains("__keeper"))
        .unwrap();
    signal(keeper.0, Signal::KILL);
    let row = tower
        .until_row(&job, "recovered", |row| {
            row.as_job().unwrap().recoveries == 1
        })
        .await;
    assert!(
        row.why().is_none_or(|why| why.contains("keeper")),
        "{row:?}"
    );
    tower.until_phase(&job, Phase::Running).await;
    tower.done("job.cancel", &job).await;
    let row = tower.until_over(&job).await;
    assert_eq!(row.status(), "CANCELLED");
    tower.until_nothing_runs().await;
}
