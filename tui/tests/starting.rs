//! Starting tasks from files: what the keys do, what is sent, and how it looks at two sizes.

mod sample;

use std::sync::Arc;

use sample::{NOW, engine, feed, live, local, press, rows, screen, task_file, type_in};
use skytower::app::{Effect, Model, Msg, Overlay, Severity, Step, update};
use skytower::demo::TEAM;
use skytower::start::Read;
use skytower_api_client::credentials::Secret;
use skytower_api_client::entity::{Outcome, Request, TargetResult};
use skytower_api_client::feed::FeedEvent;
use skytower_api_client::phase::phase_of;
use skytower_api_client::rest::{ClientError, NewRequest};
use skytower_api_client::task::{LoadBalancing, Mistake, Probe, ServiceSpec};
use skytower_api_client::wire::{Caller, Change, Problem, Role, ServerMessage};
use skytower_api_client::{Entity, Key, Kind};

const SIZES: [(u16, u16); 2] = [(80, 24), (160, 45)];

fn check(name: &str, make: impl Fn((u16, u16)) -> Model) {
    for size in SIZES {
        let mut model = make(size);
        insta::assert_snapshot!(format!("{name}-{}x{}", size.0, size.1), screen(&mut model));
    }
}

fn mixed(size: (u16, u16)) -> Model {
    let mut all = rows();
    all.extend(local());
    live(size, all)
}

/// The file that was asked for comes.
fn come(model: &mut Model, read: Read) {
    let path = match model.overlays.last() {
        Some(Overlay::Start(starting)) => starting.path.trim().to_owned(),
        other => panic!("no dialog is open: {other:?}"),
    };
    update(model, NOW, Msg::Task(path, Box::new(Ok(read))));
}

/// Types a path, and looks at what the file holds.
fn look(model: &mut Model, read: Read) {
    type_in(model, "jobs/train.yaml");
    let asked = press(model, "enter");
    assert_eq!(asked, [Effect::ReadTask("jobs/train.yaml".to_owned())]);
    come(model, read);
}

fn service() -> Read {
    let mut read = task_file(&["chat"]);
    if let Ok(task) = &mut read.task {
        task.tasks[0].service = Some(ServiceSpec {
            readiness_probe: Probe::default(),
            min_replicas: 2,
            max_replicas: 2,
            target_qps_per_replica: None,
            upscale_delay_seconds: 300,
            downscale_delay_seconds: 1200,
            port: 8080,
            load_balancing_policy: LoadBalancing::LeastLoad,
        });
    }
    read
}

fn wrong() -> Read {
    let mistake = |line, field: &str, message: &str| Mistake {
        file: "jobs/train.yaml".into(),
        line: Some(line),
        field: Some(field.into()),
        message: message.into(),
    };
    Read {
        task: Err(vec![
            mistake(
                4,
                "resources.use_spot",
                "there are no spot machines here: everything runs on this one, so that the field would mean nothing",
            ),
            mistake(
                9,
                "file_mounts./data",
                "s3://bucket/data is not on this machine",
            ),
            mistake(12, "rum", "there is no such field; did you mean `run`?"),
        ]),
        ..task_file(&["train"])
    }
}

#[test]
fn the_dialog() {
    check("path", |size| {
        let mut model = mixed(size);
        press(&mut model, "2 n");
        model
    });
    check("complete", |size| {
        let mut model = mixed(size);
        press(&mut model, "2 n");
        type_in(&mut model, "jobs/t");
        let asked = press(&mut model, "tab");
        assert_eq!(asked, [Effect::ListFolder("jobs/".to_owned())]);
        let names = [
            "evaluate.yaml",
            "tokenize.yaml",
            "train.yaml",
            ".git/",
            "tests/",
        ];
        let names = names.map(str::to_owned).to_vec();
        update(&mut model, NOW, Msg::Folder("jobs/".to_owned(), Ok(names)));
        press(&mut model, "tab");
        model
    });
    check("no-such-file", |size| {
        let mut model = mixed(size);
        press(&mut model, "n");
        type_in(&mut model, "tarin.yaml");
        press(&mut model, "enter");
        let why = Err("there is no file `tarin.yaml`".to_owned());
        update(
            &mut model,
            NOW,
            Msg::Task("tarin.yaml".to_owned(), Box::new(why)),
        );
        model
    });
    check("look", |size| {
        let mut model = mixed(size);
        press(&mut model, "2 n");
        look(&mut model, task_file(&["train"]));
        model
    });
    check("look-pipeline", |size| {
        let mut model = mixed(size);
        press(&mut model, "2 n");
        look(&mut model, task_file(&["fetch", "fit", "report"]));
        model
    });
    check("look-on-cluster", |size| {
        let mut model = mixed(size);
        press(&mut model, "1 down enter n");
        look(&mut model, task_file(&["train"]));
        model
    });
    check("mistakes", |size| {
        let mut model = mixed(size);
        press(&mut model, "2 n");
        look(&mut model, wrong());
        model
    });
}

#[test]
fn where_nothing_can_be_started_the_key_says_why() {
    let mut model = live((80, 24), rows());
    press(&mut model, "n");
    assert!(model.overlays.is_empty());
    let said = &model.message.as_ref().unwrap().text;
    assert!(
        said.contains("no local engine") && said.contains("`sky`"),
        "{said}"
    );
    assert!(!screen(&mut model).contains(" n new"));
    let mut model = mixed((160, 45));
    assert!(screen(&mut model).contains(" n new"));
    model.you = Caller {
        role: Role::Viewer,
        ..model.you
    };
    press(&mut model, "n");
    assert!(model.message.unwrap().text.contains("your role is viewer"));
}

fn created(effects: &[Effect]) -> &NewRequest {
    let [Effect::Create { request, .. }] = effects else {
        panic!("{effects:?}");
    };
    request
}

#[test]
fn what_is_confirmed_is_sent_as_it_was_shown() {
    let mut model = mixed((80, 24));
    press(&mut model, "2 n");
    look(&mut model, task_file(&["train"]));
    press(&mut model, "ctrl-u");
    type_in(&mut model, "night");
    let sent = press(&mut model, "enter");
    let request = created(&sent);
    assert_eq!(request.action, "source.jobs_launch");
    assert_eq!(request.targets, [Key::new("local", Kind::Source, "local")]);
    let start = request.options.start.as_deref().unwrap();
    assert_eq!(start.name.as_deref(), Some("night"));
    assert_eq!(start.yaml, "name: train");
    assert_eq!(start.folder, "/home/alice/llm");
    assert!(start.owner.is_none() && start.label.is_none());
    assert!(model.overlays.is_empty());
    assert!(screen(&mut model).contains("Submitting to local: asking"));
}

#[test]
fn the_way_follows_the_page_and_the_file_until_somebody_chooses() {
    let sent = |keys: &str, read: Read, more: &str| {
        let mut model = mixed((80, 24));
        press(&mut model, keys);
        look(&mut model, read);
        press(&mut model, more);
        let sent = press(&mut model, "enter");
        let request = created(&sent);
        (request.action.to_string(), request.targets[0].to_string())
    };
    let one = || task_file(&["one"]);
    let engine = "local/source/local";
    for (keys, read, more, action, target) in [
        ("1 n", one(), "", "source.launch", engine),
        ("1 down n", one(), "", "source.launch", engine),
        ("2 n", one(), "", "source.jobs_launch", engine),
        ("3 n", service(), "", "source.serve_up", engine),
        ("4 n", one(), "", "source.launch", engine),
        // A file that is not fit for what is usual here says itself what it is.
        (
            "1 n",
            task_file(&["a", "b"]),
            "",
            "source.jobs_launch",
            engine,
        ),
        ("3 n", one(), "", "source.jobs_launch", engine),
        // On the page of a thing it is for that.
        (
            "1 down enter n",
            one(),
            "",
            "cluster.exec",
            "local/cluster/dev",
        ),
        (
            "3 down enter n",
            service(),
            "",
            "service.update",
            "local/service/hello",
        ),
        // What is chosen stays.
        ("1 n down", one(), "", "source.jobs_launch", engine),
        ("2 n", one(), "up", "source.launch", engine),
    ] {
        assert_eq!(
            sent(keys, read, more),
            (action.to_owned(), target.to_owned()),
            "{keys} {more}"
        );
    }
}

#[test]
fn a_file_with_mistakes_is_not_started() {
    let mut model = mixed((80, 24));
    press(&mut model, "2 n");
    look(&mut model, wrong());
    // Enter looks at the file again, in case it was corrected.
    let again = press(&mut model, "enter");
    assert_eq!(again, [Effect::ReadTask("jobs/train.yaml".to_owned())]);
    come(&mut model, task_file(&["train"]));
    assert_eq!(
        created(&press(&mut model, "enter")).action,
        "source.jobs_launch"
    );
    // What was chosen by hand is not changed, and not started where it makes no sense.
    let mut model = mixed((80, 24));
    press(&mut model, "2 n down");
    look(&mut model, task_file(&["train"]));
    assert!(screen(&mut model).contains("service: it is missing"));
    let again = press(&mut model, "enter");
    assert_eq!(again, [Effect::ReadTask("jobs/train.yaml".to_owned())]);
}

#[test]
fn escape_goes_back_one_at_a_time_and_a_late_file_changes_nothing() {
    let mut model = mixed((80, 24));
    press(&mut model, "2 n");
    look(&mut model, task_file(&["train"]));
    press(&mut model, "esc");
    let Some(Overlay::Start(starting)) = model.overlays.last() else {
        panic!("it was closed");
    };
    assert!(matches!(starting.step, Step::Path) && starting.path == "jobs/train.yaml");
    press(&mut model, "esc");
    assert!(model.overlays.is_empty());
    let late = Msg::Task(
        "jobs/train.yaml".to_owned(),
        Box::new(Ok(task_file(&["x"]))),
    );
    assert!(update(&mut model, NOW, late).is_empty());
    assert!(model.overlays.is_empty());
    // One that was asked for before another was typed, too.
    press(&mut model, "n");
    type_in(&mut model, "a.yaml");
    press(&mut model, "enter");
    type_in(&mut model, "x");
    let late = Msg::Task("a.yaml".to_owned(), Box::new(Ok(task_file(&["x"]))));
    update(&mut model, NOW, late);
    assert!(
        matches!(model.overlays.last(), Some(Overlay::Start(it)) if matches!(it.step, Step::Path))
    );
}

#[test]
fn names_are_completed_from_their_folder() {
    let mut model = mixed((80, 24));
    let path = |model: &Model| match model.overlays.last() {
        Some(Overlay::Start(starting)) => starting.path.clone(),
        _ => String::new(),
    };
    press(&mut model, "n");
    let asked = press(&mut model, "tab");
    assert_eq!(asked, [Effect::ListFolder(String::new())]);
    let names = ["b.yaml", "jobs/", ".hidden/"].map(str::to_owned).to_vec();
    update(&mut model, NOW, Msg::Folder(String::new(), Ok(names)));
    assert_eq!(path(&model), "b.yaml");
    press(&mut model, "tab");
    assert_eq!(path(&model), "jobs/");
    // A folder is gone into.
    let asked = press(&mut model, "enter");
    assert_eq!(asked, [Effect::ListFolder("jobs/".to_owned())]);
    let names = vec!["train.yaml".to_owned()];
    update(&mut model, NOW, Msg::Folder("jobs/".to_owned(), Ok(names)));
    assert_eq!(path(&model), "jobs/train.yaml");
    // Pasted text is typed.
    press(&mut model, "ctrl-u");
    update(&mut model, NOW, Msg::Paste(Secret::new("~/x.yaml\n")));
    assert_eq!(path(&model).trim(), "~/x.yaml");
}

#[test]
fn others_clusters_ask_for_a_second_step() {
    let mut all = local();
    if let Some(row) = all.iter_mut().find(|row| **row.name() == *"dev") {
        let mut cluster = row.as_cluster().unwrap().clone();
        cluster.owner = Some(skytower_api_client::entity::Owner {
            id: "id-bob".into(),
            name: "bob".into(),
        });
        *row = cluster.into();
    }
    let mut model = live((80, 24), all);
    press(&mut model, "1 enter n");
    look(&mut model, task_file(&["train"]));
    assert!(press(&mut model, "enter").is_empty());
    assert!(
        screen(&mut model).contains("1 of 1 not yours"),
        "{}",
        screen(&mut model)
    );
    let sent = press(&mut model, "1 enter");
    assert_eq!(created(&sent).action, "cluster.exec");
    assert!(created(&sent).others_confirmed);
}

#[test]
fn a_job_is_launched_again_by_its_key() {
    let mut model = live((80, 24), local());
    // The newest is running.
    press(&mut model, "2 R");
    let said = &model.message.as_ref().unwrap().text;
    assert!(said.contains("only a job that has ended"), "{said}");
    let sent = press(&mut model, "down R");
    let request = created(&sent);
    assert_eq!(request.action, "job.relaunch");
    assert_eq!(request.targets[0].to_string(), "local/job/6/0");
    // Somebody else's is asked about first.
    assert!(press(&mut model, "down R").is_empty());
    assert!(matches!(model.overlays.last(), Some(Overlay::Confirm(_))));
    check("relaunch", |size| {
        let mut model = live(size, local());
        press(&mut model, "2 G R");
        model
    });
}

fn answer(id: usize, outcome: Outcome, message: &str) -> Request {
    let status = match outcome {
        Outcome::Done => "SUCCEEDED",
        Outcome::Failed => "FAILED",
        _ => "RUNNING",
    };
    Request {
        key: Key::new("skytower", Kind::Request, format!("made-{id}")),
        source: "skytower".into(),
        name: "source.launch".into(),
        status: status.into(),
        phase: phase_of(Kind::Request, status),
        request_id: format!("made-{id}").into(),
        action: "source.launch".into(),
        results: vec![TargetResult {
            key: Key::new("local", Kind::Source, "local"),
            target: "source/local".into(),
            owner: None,
            outcome,
            message: (!message.is_empty()).then(|| message.into()),
            upstream: (outcome == Outcome::Done).then(|| "local/job/7/0".into()),
        }],
        ..Request::default()
    }
}

fn upsert(model: &mut Model, revision: u64, row: impl Into<Arc<Entity>>) {
    feed(
        model,
        FeedEvent::Message(ServerMessage::Delta {
            since: revision - 1,
            revision,
            changes: vec![Change::Upsert(row.into())],
        }),
    );
}

#[test]
fn what_was_made_is_said_in_the_engines_words() {
    let mut model = mixed((80, 24));
    press(&mut model, "2 n");
    look(&mut model, task_file(&["train"]));
    let sent = press(&mut model, "enter");
    let [
        Effect::Create {
            idempotency_key, ..
        },
    ] = sent.as_slice()
    else {
        panic!("{sent:?}");
    };
    let running = answer(1, Outcome::Submitted, "");
    update(
        &mut model,
        NOW,
        Msg::Created(idempotency_key.clone(), Box::new(Ok(running))),
    );
    let seen = screen(&mut model);
    assert!(seen.contains("Launching on local"), "{seen}");
    upsert(
        &mut model,
        2,
        answer(1, Outcome::Done, "job 7 `train` submitted"),
    );
    assert!(screen(&mut model).contains("✓ job 7 `train` submitted"));
}

#[test]
fn the_sample_team_is_started_where_nothing_is() {
    check("nothing-yet", |size| live(size, vec![engine()]));
    check("nothing-yet-jobs", |size| {
        let mut model = live(size, vec![engine()]);
        press(&mut model, "2");
        model
    });
    let mut model = live((80, 24), vec![engine()]);
    let sent = press(&mut model, "d");
    assert_eq!(sent.len(), TEAM.len());
    let mut keys = Vec::new();
    for (effect, part) in sent.iter().zip(TEAM) {
        let Effect::Create {
            request,
            idempotency_key,
        } = effect
        else {
            panic!("{effect:?}");
        };
        keys.push(idempotency_key.clone());
        assert_eq!(request.action, part.action);
        assert_eq!(request.targets, [Key::new("local", Kind::Source, "local")]);
        let start = request.options.start.as_deref().unwrap();
        assert_eq!(start.name.as_deref(), Some(part.name));
        assert_eq!(start.owner.as_deref(), Some(part.owner));
        assert_eq!(start.label.as_deref(), Some("demo"));
    }
    let total = TEAM.len();
    assert!(screen(&mut model).contains(&format!("Starting the sample team: 0 of {total}")));
    // One is refused, one fails, the others are there.
    for (i, key) in keys.iter().enumerate() {
        let said = if i == 3 {
            let problem = Problem::new("invalid", 422, "the disk is full");
            Err(ClientError::Problem(problem))
        } else {
            Ok(answer(i, Outcome::Submitted, ""))
        };
        update(&mut model, NOW, Msg::Created(key.clone(), Box::new(said)));
    }
    assert!(screen(&mut model).contains(&format!("Starting the sample team: 1 of {total}")));
    let mut revision = 1;
    for i in (0..total).filter(|i| *i != 3) {
        let (outcome, message) = match i {
            5 => (Outcome::Failed, "there is no python here"),
            _ => (Outcome::Done, "made"),
        };
        revision += 1;
        upsert(&mut model, revision, answer(i, outcome, message));
    }
    let message = model.message.clone().unwrap();
    assert_eq!(message.severity, Severity::Bad);
    assert!(
        message.text.contains(&format!("2 of {total} not started")),
        "{}",
        message.text
    );
    assert!(
        message.text.contains("the disk is full"),
        "{}",
        message.text
    );
    assert!(model.batch.is_none() && model.pending.is_empty());
}

#[test]
fn where_something_is_the_sample_team_is_not_started_by_a_slip() {
    for all in [local(), rows()] {
        let mut model = live((80, 24), all);
        assert!(press(&mut model, "d").is_empty());
        assert!(model.message.is_some());
    }
    // A SkyPilot that has not answered yet may have something.
    let unread = skytower_api_client::entity::Source {
        key: Key::new("prod", Kind::Source, "prod"),
        source: "prod".into(),
        name: "prod".into(),
        status: "starting".into(),
        phase: phase_of(Kind::Source, "starting"),
        ..Default::default()
    };
    let mut model = live((80, 24), vec![engine(), unread.into()]);
    assert!(press(&mut model, "d").is_empty());
    assert!(screen(&mut model).contains("Reading clusters for the first time"));
}
