//! Server and keeper end themselves at each step that writes or spawns: whatever was accepted is carried
//! out, once.

use skytower_api_client::rest::{ListQuery, NewRequest};
use skytower_api_client::{Entity, Kind};
use skytower_server::keeper::{FAIL_AT, FAIL_POINTS};
use skytower_server::source::ENGINE_FAIL_POINTS;

use crate::tower::{Tower, made, read, source, starting, uuid};

/// Launches one task on a server that ends itself at these places, starts it again without them, and
/// says what became of the task and how often it began.
async fn launched(places: &str) -> (std::sync::Arc<Entity>, usize, usize) {
    let mut tower = Tower::with(&[(FAIL_AT, places)]).await;
    let marks = tower.home.path().join("marks");
    let yaml = format!(
        "resources: {{cpus: 0.1}}\nrun: |\n  echo mark >> {}\n  exit 7\n",
        marks.display()
    );
    let new = NewRequest {
        action: "source.launch".into(),
        targets: vec![source()],
        options: starting("dev", &yaml),
        others_confirmed: true,
        dry_run: false,
    };
    let name = uuid();
    // It may end before it answers, while it carries it out, or not at all.
    let client = tower.client().unwrap();
    let _ = client.create_request(&new, &name).await;
    tower
        .until("the server has ended, or the task", async |tower| {
            if tower.has_died() {
                return Some(());
            }
            let (client, all) = (tower.client()?, ListQuery::default());
            let rows = client.list(Kind::ClusterJob, &all).await.ok()?.rows;
            rows.iter().any(|row| row.phase().is_over()).then_some(())
        })
        .await;
    tower.heal();
    if tower.child.is_some() {
        tower.kill();
    }
    tower.up().await;
    let request = tower.ask(&new, &name).await;
    let row = tower.until_over(&made(&request)).await;
    let jobs = tower.rows(Kind::ClusterJob).await.len();
    tower.until_nothing_runs().await;
    (row, read(&marks).lines().count(), jobs)
}

fn is_keepers(place: &str) -> bool {
    place.starts_with("keeper.")
}

/// A keeper that is killed may take the task's end with it, but never lets it begin twice, and what is
/// not known is said, not guessed.
fn check(places: &str, row: &Entity, marks: usize, jobs: usize) {
    assert_eq!(jobs, 1, "{places}: one request, one job");
    assert_eq!(row.status(), "FAILED", "{places}: {row:?}");
    let why = row.why().map(ToString::to_string).unwrap_or_default();
    if places.split(',').any(is_keepers) {
        assert!(marks <= 1, "{places}: it began {marks} times");
        let known = why == "exit code 7" && marks == 1;
        assert!(
            known || why.contains("keeper") || why.contains("started"),
            "{places}: {why}"
        );
    } else {
        assert_eq!((why.as_str(), marks), ("exit code 7", 1), "{places}");
    }
}

#[tokio::test]
async fn the_server_may_end_at_any_step() {
    let starts = FAIL_POINTS.iter().filter(|place| !is_keepers(place));
    for place in ENGINE_FAIL_POINTS.iter().chain(starts) {
        let (row, marks, jobs) = launched(place).await;
        check(place, &row, marks, jobs);
    }
}

#[tokio::test]
async fn the_keeper_may_end_at_any_step() {
    for place in FAIL_POINTS.iter().filter(|place| is_keepers(place)) {
        let (row, marks, jobs) = launched(place).await;
        check(place, &row, marks, jobs);
    }
}

#[tokio::test]
async fn both_may_end() {
    let keepers = FAIL_POINTS.iter().filter(|place| is_keepers(place));
    for (number, place) in keepers.enumerate() {
        let server = ENGINE_FAIL_POINTS[number % ENGINE_FAIL_POINTS.len()];
        let places = format!("{server},{place}");
        let (row, marks, jobs) = launched(&places).await;
        check(&places, &row, marks, jobs);
    }
}
