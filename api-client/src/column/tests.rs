use std::cmp::Ordering;

use super::*;
use crate::entity::{Cluster, Job, Owner};

fn context() -> Context {
    Context {
        now: EpochMs(10_000_000),
        utc: true,
        ..Context::default()
    }
}

#[test]
fn every_kind_has_columns_in_order() {
    for &kind in Kind::ALL {
        let all = columns(kind);
        assert!(all.iter().any(|column| column.priority == 0), "{kind}");
        let (sort, _) = default_sort(kind);
        assert!(column(kind, sort).is_some(), "{kind} sorts by {sort}");
        let mut names = std::collections::BTreeSet::new();
        for column in all {
            assert!(column.min <= column.max, "{kind} {}", column.id);
            assert!(column.title.is_ascii(), "{kind} {}", column.id);
            assert!(column.doc.ends_with('.'), "{kind} {}", column.id);
            for name in std::iter::once(&column.id).chain(column.aliases) {
                assert!(names.insert(*name), "{kind} has two columns called {name}");
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{name}"
                );
            }
        }
        for everywhere in ["phase", "key", "source", "status", "name"] {
            let exempt = matches!(kind, Kind::Event) && everywhere == "status";
            assert!(
                exempt || column(kind, everywhere).is_some(),
                "{kind} {everywhere}"
            );
        }
    }
}

#[test]
fn names_sort_as_people_count() {
    let mut names = vec!["job-10", "Job-9", "job-9", "job-010", "a", ""];
    names.sort_by(|a, b| natural(a, b));
    assert_eq!(names, ["", "a", "Job-9", "job-9", "job-010", "job-10"]);
}

#[test]
fn the_unknown_is_last_either_way() {
    let row = |name: &str, at: Option<i64>| -> std::sync::Arc<Entity> {
        Cluster {
            key: crate::Key::new("s", Kind::Cluster, name),
            name: name.into(),
            launched_at: at.map(EpochMs),
            ..Cluster::default()
        }
        .into()
    };
    let by = column(Kind::Cluster, "age").unwrap();
    for (descends, expected) in [
        (false, ["new", "old", "none"]),
        (true, ["old", "new", "none"]),
    ] {
        let mut rows = vec![row("none", None), row("old", Some(5)), row("new", Some(9))];
        sort(&mut rows, by, descends, &context());
        let names: Vec<&str> = rows.iter().map(|row| row.name().as_str()).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn what_needs_attention_sorts_first() {
    let failed = Value::Status(Phase::Failed, "FAILED".into());
    let up = Value::Status(Phase::Running, "A".into());
    assert_eq!(compare(&failed, &up), Ordering::Less);
}

#[test]
fn cells_read_as_people_expect() {
    let job: Entity = Job {
        job_id: 12,
        task_id: 1,
        name: "eval".into(),
        job_name: "pipeline".into(),
        gpus: Some(8.0),
        accelerators: Some("A100:2".into()),
        started_at: Some(EpochMs(10_000_000 - 60_000)),
        phase: Phase::Running,
        status: "RUNNING".into(),
        owner: Some(Owner {
            id: "2f1c".into(),
            name: "".into(),
        }),
        ..Job::default()
    }
    .into();
    let cell = |id| {
        text(
            &(column(Kind::Job, id).unwrap().value)(&job, &context()),
            &context(),
        )
    };
    assert_eq!(cell("id"), "12/1");
    assert_eq!(cell("gpus"), "8×A100");
    assert_eq!(cell("duration"), "1m");
    assert_eq!(cell("age"), "-");
    assert_eq!(cell("owner"), "2f1c");
    assert_eq!(cell("phase"), "running");
}

#[test]
fn the_main_lists_fit_eighty_cells_and_keep_what_matters() {
    for (kind, expected) in [
        (
            Kind::Cluster,
            vec![
                "name", "owner", "infra", "gpus", "status", "autostop", "launched",
            ],
        ),
        (
            Kind::Job,
            vec!["id", "name", "owner", "infra", "gpus", "status", "age"],
        ),
        (
            Kind::Service,
            vec![
                "name", "owner", "replicas", "version", "status", "endpoint", "uptime",
            ],
        ),
    ] {
        let shown: Vec<_> = columns(kind)
            .iter()
            .filter(|column| column.is_shown())
            .map(|column| {
                (
                    column,
                    if column.id == "status" {
                        12
                    } else {
                        column.max
                    },
                )
            })
            .collect();
        let fitted = fit(&shown, 76, 1);
        let ids: Vec<&str> = fitted.columns.iter().map(|(column, _)| column.id).collect();
        for id in &expected {
            assert!(ids.contains(id), "{kind}: {id} is not among {ids:?}");
        }
        let width: u16 = fitted.columns.iter().map(|(_, width)| width + 1).sum();
        assert!(width <= 77, "{kind}: {width}");
        assert_eq!(fitted.dropped + fitted.columns.len(), shown.len());
    }
}

#[test]
fn a_status_is_never_cut() {
    let status = column(Kind::Job, "status").unwrap();
    let name = column(Kind::Job, "name").unwrap();
    let fitted = fit(&[(name, 40), (status, 18)], 10, 1);
    assert_eq!(fitted.columns[1].1, 18);
}
