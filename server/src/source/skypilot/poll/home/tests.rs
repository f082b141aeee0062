use serde_json::Value;
use serde_json::value::RawValue;
use skytower_api_client::entity::{Event, Owner, Replica, Service};

use super::*;
use crate::source::skypilot::map::{Unit, cluster, job, served};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../../tests/fixtures/skypilot-0.14.1/",
            $name,
            ".json"
        ))
    };
}

fn prod() -> Text {
    "prod".into()
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

/// The records that a recorded call returned.
fn recorded(text: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(text).unwrap();
    let returned = &value["return_value"];
    let records = returned["jobs"].as_array().or(returned.as_array());
    records.unwrap().clone()
}

fn unit(which: Served, text: &str) -> Unit {
    served(&prod(), which, &raw(&recorded(text)[0])).unwrap()
}

/// A table with a service or pool and its parts.
fn table(unit: &Unit) -> Table {
    let mut table = Table::new();
    let rows = std::iter::once(&unit.whole).chain(&unit.parts);
    table.commit(rows.map(|row| Change::Upsert(row.clone())));
    table
}

/// The cluster that a recorded part runs on, as SkyPilot's own table has it: the part's record is made of
/// the same row.
fn under(part: &Entity, workspace: &str) -> Cluster {
    let launched_at = match part {
        Entity::Replica(row) => row.launched_at,
        Entity::Worker(row) => row.launched_at,
        _ => None,
    };
    Cluster {
        key: Key::new("prod", Kind::Cluster, format_args!("{}-hash", part.name())),
        source: prod(),
        name: part.name().clone(),
        owner: part.owner().cloned(),
        workspace: Some(workspace.into()),
        launched_at,
        managed: true,
        ..Cluster::default()
    }
}

fn learn(homes: &mut Homes, table: &Table, which: Served, clusters: &[Cluster], jobs: &[Job]) {
    let sought = homes.sought(table, &prod(), which);
    homes.learn(&sought, clusters, &jobs.iter().collect::<Vec<_>>());
}

fn apply(homes: &Homes, table: &mut Table, which: Served) -> usize {
    let moved = homes.moved(table, &prod(), which);
    let count = moved.len();
    table.commit(moved);
    count
}

fn workspaces(table: &Table, kind: Kind) -> Vec<Option<Text>> {
    let rows = table.rows(kind);
    rows.map(|row| row.workspace().cloned()).collect()
}

#[test]
fn the_recorded_list_of_clusters_does_not_say_where_recorded_replicas_are() {
    let chat = unit(Served::Service, fixture!("serve_status"));
    let listed: Vec<Cluster> = recorded(fixture!("status"))
        .iter()
        .map(|record| cluster(&prod(), &raw(record)).unwrap())
        .collect();
    let mut homes = Homes::default();
    learn(&mut homes, &table(&chat), Served::Service, &listed, &[]);
    assert_eq!(homes.of(chat.whole.key()), None);
}

#[test]
fn a_recorded_service_and_pool_are_where_their_clusters_are() {
    let jobs: Vec<Job> = recorded(fixture!("jobs_queue_v2"))
        .iter()
        .map(|record| job(&prod(), &raw(record)).unwrap())
        .collect();
    for (which, text) in [
        (Served::Service, fixture!("serve_status")),
        (Served::Pool, fixture!("jobs_pool_status")),
    ] {
        let unit = unit(which, text);
        let mut table = table(&unit);
        let clusters: Vec<Cluster> = unit.parts.iter().map(|row| under(row, "ops")).collect();
        let mut homes = Homes::default();
        learn(&mut homes, &table, which, &clusters, &jobs);
        assert_eq!(apply(&homes, &mut table, which), 1 + unit.parts.len());
        for kind in [which.whole(), which.part()] {
            let all = workspaces(&table, kind);
            assert!(!all.is_empty() && all.iter().all(|name| name.as_deref() == Some("ops")));
        }
        assert_eq!(apply(&homes, &mut table, which), 0);
        assert!(homes.sought(&table, &prod(), which).is_empty());
    }
}

#[test]
fn a_cluster_that_is_only_called_so_proves_nothing() {
    let chat = unit(Served::Service, fixture!("serve_status"));
    let table = table(&chat);
    let right = under(&chat.parts[0], "ops");
    let another = Some(Owner {
        id: "another".into(),
        name: "bob".into(),
    });
    let wrong = [
        ("it is somebody's own", {
            let managed = false;
            Cluster {
                managed,
                ..right.clone()
            }
        }),
        ("it was launched at another time", {
            let launched_at = right.launched_at.map(|at| EpochMs(at.0 + 1000));
            Cluster {
                launched_at,
                ..right.clone()
            }
        }),
        ("nobody knows when it was launched", {
            let launched_at = None;
            Cluster {
                launched_at,
                ..right.clone()
            }
        }),
        ("it is another's", {
            Cluster {
                owner: another,
                ..right.clone()
            }
        }),
        ("it is nobody's", {
            let owner = None;
            Cluster {
                owner,
                ..right.clone()
            }
        }),
        ("it is called otherwise", {
            let name = "chat-11".into();
            Cluster {
                name,
                ..right.clone()
            }
        }),
        ("nobody knows where it is", {
            let workspace = None;
            Cluster {
                workspace,
                ..right.clone()
            }
        }),
    ];
    for (why, cluster) in wrong {
        let mut homes = Homes::default();
        learn(&mut homes, &table, Served::Service, &[cluster], &[]);
        assert_eq!(homes.of(chat.whole.key()), None, "{why}");
        assert_eq!(homes.sought(&table, &prod(), Served::Service).len(), 2);
    }
    let mut homes = Homes::default();
    learn(&mut homes, &table, Served::Service, &[right], &[]);
    assert_eq!(homes.of(chat.whole.key()).unwrap(), "ops");
}

#[test]
fn a_cluster_that_may_be_a_managed_jobs_proves_nothing() {
    let chat = unit(Served::Service, fixture!("serve_status"));
    let table = table(&chat);
    let one = under(&chat.parts[0], "ops");
    let named = |name: &str| Job {
        name: name.into(),
        job_name: "pipeline".into(),
        job_id: 1,
        owner: one.owner.clone(),
        ..Job::default()
    };
    let learned = |job: Job| {
        let mut homes = Homes::default();
        let clusters = [one.clone()];
        learn(&mut homes, &table, Served::Service, &clusters, &[job]);
        homes.of(chat.whole.key()).is_some()
    };
    assert!(!learned(named("chat")) && !learned(named("Chat")));
    assert!(!learned(named(&"long-name-".repeat(3))));
    let group = Job {
        job_name: "chat".into(),
        ..named("worker")
    };
    assert!(!learned(group));
    // Others are not called so, or run on clusters of others.
    assert!(learned(named("chatter")));
    let (job_id, pool) = (2, Some("warm".into()));
    assert!(learned(Job {
        job_id,
        ..named("chat")
    }));
    assert!(learned(Job {
        pool,
        ..named("chat")
    }));
}

#[test]
fn a_service_that_may_be_in_two_workspaces_is_in_none_for_its_life() {
    let chat = unit(Served::Service, fixture!("serve_status"));
    let key = chat.whole.key();
    let mut table = table(&chat);
    let mut homes = Homes::default();
    let one = under(&chat.parts[0], "ops");
    learn(&mut homes, &table, Served::Service, &[one], &[]);
    apply(&homes, &mut table, Served::Service);
    assert_eq!(workspaces(&table, Kind::Service), [Some("ops".into())]);
    let other = under(&chat.parts[1], "research");
    learn(&mut homes, &table, Served::Service, &[other], &[]);
    assert_eq!(apply(&homes, &mut table, Served::Service), 3);
    assert_eq!(workspaces(&table, Kind::Service), [None]);
    assert_eq!(workspaces(&table, Kind::Replica), [None, None]);
    // The part that said so goes; it was there all the same.
    homes.keep(key, &[]);
    assert_eq!(homes.of(key), None);
    homes.forget(key);
    let again = under(&chat.parts[0], "ops");
    learn(&mut homes, &table, Served::Service, &[again], &[]);
    assert_eq!(homes.of(key).unwrap(), "ops");
    // One name in two workspaces at once.
    let mut homes = Homes::default();
    let both = ["ops", "research"].map(|name| under(&chat.parts[0], name));
    learn(&mut homes, &table, Served::Service, &both, &[]);
    assert_eq!(homes.of(key), None);
}

#[test]
fn a_service_stays_where_it_was_when_its_replicas_go_and_gives_new_ones_its_place() {
    let chat = unit(Served::Service, fixture!("serve_status"));
    let mut homes = Homes::default();
    let one = under(&chat.parts[0], "ops");
    learn(&mut homes, &table(&chat), Served::Service, &[one], &[]);
    homes.keep(chat.whole.key(), &[]);
    let idle = homes.placed(chat.whole.clone());
    assert_eq!(idle.workspace().unwrap(), "ops");
    // It has no cluster yet.
    let mut new = chat.parts[0].as_replica().unwrap().clone();
    new.launched_at = None;
    assert_eq!(homes.placed(new.into()).workspace().unwrap(), "ops");
    homes.forget(chat.whole.key());
    assert_eq!(homes.placed(idle).workspace(), None);
}

#[test]
fn a_service_that_only_a_name_tells_from_the_next_is_nowhere() {
    let mut record = recorded(fixture!("serve_status")).remove(0);
    record.as_object_mut().unwrap().remove("hash");
    let chat = served(&prod(), Served::Service, &raw(&record)).unwrap();
    let homes = Homes::default();
    assert!(
        homes
            .sought(&table(&chat), &prod(), Served::Service)
            .is_empty()
    );
}

#[test]
fn other_sources_services_and_what_happened_elsewhere_are_left_alone() {
    let chat = unit(Served::Service, fixture!("serve_status"));
    let mut table = table(&chat);
    let event = |id: &str, subject: &Key| -> Change {
        let event = Event {
            key: Key::new("prod", Kind::Event, id),
            source: prod(),
            subject: subject.clone(),
            ..Event::default()
        };
        Change::Upsert(event.into())
    };
    let elsewhere = Service {
        key: Key::new("lab", Kind::Service, "1"),
        source: "lab".into(),
        ..Service::default()
    };
    let beside = Replica {
        key: Key::new("lab", Kind::Replica, "1/1"),
        source: "lab".into(),
        service_key: elsewhere.key.clone(),
        service: "chat".into(),
        ..chat.parts[0].as_replica().unwrap().clone()
    };
    table.commit([
        event("1", chat.whole.key()),
        event("2", chat.parts[1].key()),
        event("3", &elsewhere.key),
        Change::Upsert(elsewhere.into()),
        Change::Upsert(beside.into()),
    ]);
    let mut homes = Homes::default();
    let one = under(&chat.parts[0], "ops");
    learn(&mut homes, &table, Served::Service, &[one], &[]);
    // In one go: the service, its replicas, and the events about them.
    assert_eq!(apply(&homes, &mut table, Served::Service), 5);
    let placed = |id: &str| {
        let row = table.get(&Key::new("prod", Kind::Event, id));
        row.unwrap().workspace().is_some()
    };
    assert!(placed("1") && placed("2") && !placed("3"));
    let lab = table.rows(Kind::Service).chain(table.rows(Kind::Replica));
    let mut lab = lab.filter(|row| *row.source() == "lab");
    assert!(lab.all(|row| row.workspace().is_none()));
}

#[test]
fn what_was_not_found_is_looked_for_again_after_a_while_and_what_is_new_at_once() {
    let chat = unit(Served::Service, fixture!("serve_status"));
    let mut homes = Homes::default();
    let sought = homes.sought(&table(&chat), &prod(), Served::Service);
    let hour = Duration::from_hours(1);
    assert!(homes.is_due(&sought, hour) && !homes.is_due(&[], Duration::ZERO));
    homes.asked = sought.iter().skip(1).map(Part::launch).collect();
    homes.asked_at = Some(Instant::now());
    assert!(homes.is_due(&sought, hour));
    homes.asked = sought.iter().map(Part::launch).collect();
    assert!(!homes.is_due(&sought, hour) && homes.is_due(&sought, Duration::ZERO));
}
