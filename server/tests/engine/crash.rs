//! The server is killed with -9 at any instant: no task dies, none runs twice, nothing is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use skytower_api_client::action::ActionOptions;
use skytower_api_client::rest::NewRequest;
use skytower_api_client::{Key, Kind, Phase};

use crate::tower::{Tower, key, made, pids, read, source, starting, uuid};

/// How many tasks, and how often the server is killed among them.
const TASKS: usize = 100;
const KILLS: usize = 50;
const LINES: usize = 12;

/// Small numbers that differ from run to run; the seed is printed when the test fails.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}

/// Notes its start, writes numbered lines, and ends with a code of its own.
fn task(tower: &Tower, number: usize) -> (String, i32) {
    let code = [0, 0, 0, 3, 7][number % 5];
    let marks = tower.home.path().join("marks");
    let yaml = format!(
        "name: t{number}\nresources: {{cpus: 0.01}}\nrun: |\n  echo t{number} >> {}\n  for i in $(seq 1 {LINES}); do echo line $i of t{number}; sleep 0.$((RANDOM % 9 + 1)); done\n  exit {code}\n",
        marks.display()
    );
    (yaml, code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tasks_outlive_fifty_kills_of_the_server() {
    let mut tower = Tower::start().await;
    let seed = uuid::Uuid::new_v4().as_u128() as u64;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    for cluster in 0..4 {
        tower
            .launch(
                &format!("c{cluster}"),
                "resources: {cpus: 1}\nsetup: 'true'",
            )
            .await;
    }
    // Handed in while the server is killed again and again: each by a name, so that it is one request
    // however often it has to be sent.
    let names: Vec<String> = (0..TASKS).map(|_| uuid()).collect();
    let mut codes = BTreeMap::new();
    let mut accepted: BTreeMap<usize, String> = BTreeMap::new();
    let mut kills = 0;
    while kills < KILLS || accepted.len() < TASKS {
        let client = tower
            .until("a client", async |tower| {
                let client = tower.client()?;
                client.health().await.ok()?;
                Some(client)
            })
            .await;
        let next: Vec<usize> = (0..TASKS)
            .filter(|number| !accepted.contains_key(number))
            .take(4)
            .collect();
        for number in next {
            let (yaml, code) = task(&tower, number);
            codes.insert(number, code);
            let new = NewRequest {
                action: "cluster.exec".into(),
                targets: vec![key(Kind::Cluster, &format!("c{}", number % 4))],
                options: starting("", &yaml),
                others_confirmed: true,
                dry_run: false,
            };
            match client.create_request(&new, &names[number]).await {
                Ok(request) => {
                    accepted.insert(number, request.request_id.to_string());
                }
                Err(error) => assert!(error.is_passing(), "{error}"),
            }
        }
        if kills < KILLS {
            tokio::time::sleep(Duration::from_millis(dice.roll(250))).await;
            tower.kill();
            kills += 1;
            tower.spawn();
        }
    }
    let mut made_by: BTreeMap<usize, Key> = BTreeMap::new();
    for (number, id) in &accepted {
        let request = tower
            .until("a request ends", async |tower| {
                let wait = Some(Duration::from_secs(5));
                let request = tower.client()?.request(id, wait).await.ok()?;
                request.phase.is_over().then_some(request)
            })
            .await;
        made_by.insert(*number, made(&request));
    }
    for (number, key) in &made_by {
        let row = tower.until_over(key).await;
        let wanted = match codes[number] {
            0 => ("SUCCEEDED".to_owned(), None),
            code => ("FAILED".to_owned(), Some(format!("exit code {code}"))),
        };
        let said = (row.status().to_string(), row.why().map(ToString::to_string));
        assert_eq!(said, wanted, "t{number}, {key}");
        let log = tower.log(key).await;
        let lines: Vec<String> = (1..=LINES)
            .map(|i| format!("line {i} of t{number}"))
            .collect();
        assert_eq!(
            log.lines().collect::<Vec<_>>(),
            lines,
            "the log of t{number}"
        );
    }
    let mut marks: BTreeMap<String, usize> = BTreeMap::new();
    for mark in read(&tower.home.path().join("marks")).lines() {
        *marks.entry(mark.to_owned()).or_default() += 1;
    }
    assert_eq!(marks.len(), TASKS);
    assert!(
        marks.values().all(|n| *n == 1),
        "a task ran twice: {marks:?}"
    );
    let rows = tower.rows(Kind::ClusterJob).await;
    assert_eq!(rows.len(), TASKS + 4, "every request made exactly one job");
    tower.until_nothing_runs().await;
    assert_eq!(zombies_of(&tower), 0);
}

/// Dead children that nobody has buried.
fn zombies_of(tower: &Tower) -> usize {
    let server = tower.child.as_ref().unwrap().id();
    let dead = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let mut words = rest.split(' ');
        words.next() == Some("Z") && words.next() == Some(&server.to_string())
    };
    pids().iter().filter(|pid| dead(pid)).count()
}

#[tokio::test]
async fn what_ended_while_no_server_ran_is_known_afterwards() {
    let mut tower = Tower::start().await;
    let gate = tower.home.path().join("gate");
    let run = format!(
        "run: |\n  echo begun\n  while [ ! -e {} ]; do sleep 0.05; done\n  echo after\n  exit 5\n",
        gate.display()
    );
    let job = tower.launch("dev", &run).await;
    tower.until_phase(&job, Phase::Running).await;
    tower.kill();
    std::fs::write(&gate, "").unwrap();
    tower.until_nothing_runs().await;
    tower.up().await;
    let row = tower.until_over(&job).await;
    assert_eq!(row.why().unwrap(), &"exit code 5");
    assert_eq!(tower.log(&job).await, "begun\nafter\n");
}

#[tokio::test]
async fn a_server_that_ends_in_an_orderly_way_leaves_tasks_running_too() {
    let mut tower = Tower::start().await;
    let job = tower.launch("dev", "run: sleep 1000").await;
    tower.until_phase(&job, Phase::Running).await;
    tower.stop();
    assert_eq!(tower.processes().len(), 2, "the keeper and its task");
    tower.up().await;
    tower.until_phase(&job, Phase::Running).await;
    let request = tower
        .act("cluster_job.cancel", &job, ActionOptions::default())
        .await;
    assert_eq!(request.status, "SUCCEEDED");
    tower.until_nothing_runs().await;
    assert!(
        tower
            .act("source.clear", &source(), ActionOptions::default())
            .await
            .status
            == "FAILED"
    );
}

#[tokio::test]
async fn two_servers_share_one_engine_and_one_of_them_runs_it() {
    let mut tower = Tower::start().await;
    let folder = tower.engine();
    let other_home = tempfile::TempDir::new().unwrap();
    std::os::unix::fs::symlink(&folder, other_home.path().join("engine")).unwrap();
    let mut other = Tower::at(other_home, &[]);
    other.spawn();
    let error = other
        .until("it says who runs the engine", async |other| {
            let status = other.client()?.status().await.ok()?;
            status.sources.first()?.error.clone()
        })
        .await;
    assert!(
        error.contains("another skytower server (process "),
        "{error}"
    );
    tower.stop();
    other
        .until("the other takes over", async |other| {
            let status = other.client()?.status().await.ok()?;
            (status.sources.first()?.status == "healthy").then_some(())
        })
        .await;
}

#[tokio::test]
async fn what_a_restart_of_the_machine_took_is_said_and_only_a_managed_job_runs_again() {
    let mut tower = Tower::start().await;
    let marks = tower.home.path().join("marks");
    let run = format!(
        "resources: {{cpus: 0.1}}\nrun: |\n  echo mark >> {}\n  sleep 1000\n",
        marks.display()
    );
    let queued = tower.launch("dev", &run).await;
    let managed = tower.job("job", &run).await;
    tower.until_phase(&queued, Phase::Running).await;
    tower.until_phase(&managed, Phase::Running).await;
    tower
        .until("both have begun", async |_| {
            (read(&marks).lines().count() == 2).then_some(())
        })
        .await;
    // As after a loss of power: no process, what was not on the disk is gone, and another boot.
    tower.kill();
    for (pid, _) in tower.processes() {
        crate::tower::signal(pid, rustix::process::Signal::KILL);
    }
    tower.until_nothing_runs().await;
    for unit in std::fs::read_dir(tower.engine().join("units")).unwrap() {
        std::fs::remove_dir_all(unit.unwrap().path()).unwrap();
    }
    let database = rusqlite::Connection::open(tower.engine().join("engine.db")).unwrap();
    let boot = skytower_server::keeper::boot_id();
    let changed = database
        .execute(
            "UPDATE records SET json = replace(json, ?, 'earlier') WHERE kind = 'work'",
            [&boot],
        )
        .unwrap();
    assert_eq!(changed, 2);
    drop(database);
    tower.up().await;
    let row = tower.until_over(&queued).await;
    assert_eq!(
        (row.status(), row.why().unwrap()),
        (&"FAILED".into(), &"the machine was restarted".into())
    );
    tower
        .until_row(&managed, "recovered", |row| {
            row.phase() == Phase::Running && row.as_job().unwrap().recoveries == 1
        })
        .await;
    tower
        .until("it has begun again", async |_| {
            (read(&marks).lines().count() == 3).then_some(())
        })
        .await;
    tower.done("job.cancel", &managed).await;
    tower.until_nothing_runs().await;
}
