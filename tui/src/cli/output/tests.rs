use insta::assert_snapshot;
use skytower_api_client::entity::{Cluster, Owner, Source};
use skytower_api_client::phase::phase_of;
use skytower_api_client::{Key, Text};

use super::*;

const NOW: i64 = 1_795_467_146_123;

fn context() -> Context {
    Context {
        now: EpochMs(NOW),
        utc: true,
        ..Context::default()
    }
}

fn console(width: Option<u16>, colour: bool) -> Console {
    Console {
        colour,
        width,
        utc: true,
    }
}

fn cluster(name: &str, owner: &str, status: &str, gpus: Option<f64>, age_s: i64) -> Arc<Entity> {
    Cluster {
        key: Key::new("prod", Kind::Cluster, name),
        source: "prod".into(),
        name: name.into(),
        owner: Some(Owner {
            id: "2f1c".into(),
            name: owner.into(),
        }),
        workspace: Some("default".into()),
        status: status.into(),
        phase: phase_of(Kind::Cluster, status),
        infra: Some("Slurm (lab)".into()),
        resources: Some("1x(cpus=1, mem=1, ...)".into()),
        accelerators: gpus.map(|_| "A100:8".into()),
        gpus,
        autostop: gpus.map(|_| 30),
        autodown: true,
        launched_at: Some(EpochMs(NOW - age_s * 1000)),
        why: (status == "INIT").then(|| "Launching (pending: Priority; partition: main)".into()),
        ..Cluster::default()
    }
    .into()
}

fn rows() -> Vec<Arc<Entity>> {
    vec![
        cluster("train-llm", "alice", "UP", Some(8.0), 9600),
        cluster("名前-with-wide-cells", "bob", "INIT", None, 41),
        cluster(
            "a-name-that-is-much-too-long-for-a-narrow-terminal",
            "carol",
            "AUTOSTOPPING",
            Some(64.0),
            864_000,
        ),
    ]
}

fn shown(width: Option<u16>, wanted: &Wanted, colour: bool) -> String {
    table(
        Kind::Cluster,
        &rows(),
        wanted,
        true,
        &console(width, colour),
        &context(),
    )
}

#[test]
fn a_table_at_eighty_cells() {
    let out = shown(Some(80), &Wanted::Shown, false);
    assert!(out.lines().all(|line| line.width() <= 80), "{out}");
    assert_snapshot!(out);
}

#[test]
fn a_table_that_is_piped_is_whole() {
    let out = shown(None, &Wanted::Shown, false);
    assert!(!out.contains('…'));
    assert_snapshot!(out);
}

#[test]
fn a_table_with_every_column() {
    assert_snapshot!(shown(Some(80), &Wanted::All, false));
}

#[test]
fn chosen_columns_in_colour() {
    let columns = ["status", "name", "age"].map(str::to_owned);
    let wanted = Wanted::read(Kind::Cluster, Output::Table, &columns).unwrap();
    assert_snapshot!(shown(None, &wanted, true).replace('\u{1b}', "ESC"));
}

#[test]
fn a_column_that_is_not_there() {
    let failure = Wanted::read(Kind::Cluster, Output::Table, &["onwer".to_owned()]).unwrap_err();
    assert_eq!(failure.code, 2);
    assert_eq!(failure.hint.as_deref(), Some("did you mean `owner`?"));
}

#[test]
fn rows_as_json_and_yaml_and_names() {
    let value: Json = rows().iter().take(1).map(|row| json(row)).collect();
    assert_snapshot!("json", pretty(&value));
    assert_snapshot!("yaml", yaml(&value).unwrap());
    assert_snapshot!("names", names(&rows(), true));
    assert_eq!(names(&rows()[..1], false), "cluster/train-llm\n");
}

#[test]
fn moments_are_readable_wherever_they_are() {
    let row: Entity = Source {
        fetched_at: [(Kind::Cluster, EpochMs(NOW))].into(),
        latency_ms: Some(12),
        ..Source::default()
    }
    .into();
    let value = json(&row);
    assert_eq!(value["fetched_at"]["cluster"], "2026-11-23T20:52:26.123Z");
    assert_eq!(value["latency_ms"], 12);
}

#[test]
fn one_row_whole() {
    assert_snapshot!(card(&rows()[1], &console(None, false), &context()));
}

#[test]
fn what_is_too_long_is_cut_by_cells() {
    assert_eq!(cut("名前名前", 5, Cut::End), "名前…");
    assert_eq!(
        cut("https://10.2.0.7:30080", 11, Cut::Middle),
        "https…30080"
    );
    assert_eq!(cut("AUTOSTOPPING", 4, Cut::Never), "AUTOSTOPPING");
    assert_eq!(cut("ab", 2, Cut::End), "ab");
}

#[test]
fn a_source_that_is_not_well_is_named() {
    let source = Source {
        name: "prod".into(),
        status: "unreachable".into(),
        phase: phase_of(Kind::Source, "unreachable"),
        error: Some("nothing listens at http://h:1".into()),
        fetched_at: [(Kind::Cluster, EpochMs(NOW))].into(),
        ..Source::default()
    };
    let healthy = Source {
        name: "eu".into(),
        status: "healthy".into(),
        phase: phase_of(Kind::Source, "healthy"),
        notes: [(Kind::Job, Text::from("the jobs controller is stopped"))].into(),
        ..Source::default()
    };
    let lines = crate::cli::fetch::staleness(&[source, healthy], &[Kind::Cluster, Kind::Job], true);
    assert_eq!(
        lines,
        [
            "warning: prod is unreachable: nothing listens at http://h:1; this is the state of 2026-11-23 20:52:26",
            "note: clusters of eu were not read yet; ask again in a moment",
            "note: jobs of eu: the jobs controller is stopped",
        ]
    );
}
