use super::*;
use skytower_api_client::action::{ACTIONS, ActionOptions, Seen, action};
use skytower_api_client::entity::{
    Cluster, ClusterJob, Job, Pool, Replica, Request, Service, Source,
};
use skytower_api_client::wire::{Caller, Role};
use skytower_api_client::{Key, Kind};

const RID: &str = "d5da5f33-6caf-4a5e-b75c-2c57bdfdd61a";

fn row(kind: Kind) -> Arc<Entity> {
    let workspace = Some(Text::from("ml"));
    let name = Text::from("dev");
    match kind {
        Kind::Cluster => Cluster {
            name,
            workspace,
            ..Cluster::default()
        }
        .into(),
        Kind::ClusterJob => ClusterJob {
            cluster: name,
            cluster_key: Key::new("prod", Kind::Cluster, "1"),
            workspace,
            job_id: 3,
            ..ClusterJob::default()
        }
        .into(),
        Kind::Job => Job {
            job_id: 12,
            workspace,
            ..Job::default()
        }
        .into(),
        Kind::Service => Service {
            name,
            ..Service::default()
        }
        .into(),
        Kind::Replica => Replica {
            service: name,
            replica_id: 2,
            ..Replica::default()
        }
        .into(),
        Kind::Pool => Pool {
            name,
            ..Pool::default()
        }
        .into(),
        Kind::Request => Request {
            request_id: RID.into(),
            ..Request::default()
        }
        .into(),
        Kind::Source => Source {
            name: "prod".into(),
            ..Source::default()
        }
        .into(),
        kind => panic!("no action is for a {kind}: add its row here"),
    }
}

fn handover(id: &str, targets: Vec<Arc<Entity>>) -> Handover {
    Handover {
        id: "0192/0".into(),
        action: action(id).unwrap(),
        targets,
        options: ActionOptions::default(),
        caller: Caller {
            ids: vec!["2f1c".into()],
            name: "alice".into(),
            role: Role::User,
            ..Caller::default()
        },
        credentials: None,
        tried_at: EpochMs(1_000_000_000),
    }
}

fn one(id: &str) -> Handover {
    handover(id, vec![row(action(id).unwrap().kind)])
}

#[test]
fn nothing_is_ever_sent_that_means_all() {
    // Fields that mean something harmless when they are null, each checked in payloads.py.
    let harmless = [
        "graceful_timeout",
        "idle_minutes_to_autostop",
        "wait_for",
        "user_id",
    ];
    for spec in ACTIONS {
        let called = call(&one(spec.id));
        if (spec.seen)(None, &ActionOptions::default()) == Seen::Told {
            // Launching there is SkyPilot's own.
            assert_eq!(called.err().map(|problem| problem.status), Some(422));
            continue;
        }
        let body = called.unwrap().body;
        let body = body.as_object().unwrap();
        for (field, value) in body {
            assert!(
                !value.is_null() || harmless.contains(&field.as_str()),
                "{} {field}",
                spec.id
            );
            assert_ne!(value, &json!([]), "{} {field}", spec.id);
            assert_ne!(value, &json!(""), "{} {field}", spec.id);
        }
        for flag in ["all", "all_users", "purge"] {
            assert_ne!(body.get(flag), Some(&json!(true)), "{} {flag}", spec.id);
        }
        let named = [
            "cluster_name",
            "job_ids",
            "service_names",
            "service_name",
            "pool_names",
            "request_ids",
        ];
        assert!(
            named
                .iter()
                .any(|field| body.get(*field).is_some_and(|v| !v.is_null())),
            "{}",
            spec.id
        );

        assert!(call(&handover(spec.id, Vec::new())).is_err(), "{}", spec.id);
    }
}

#[test]
fn names_that_mean_others_too_are_refused() {
    for name in ["*", "", "dev-?", "d[ab]"] {
        let name = Text::from(name);
        let service = Service {
            name: name.clone(),
            ..Service::default()
        };
        assert!(call(&handover("service.down", vec![service.into()])).is_err());
        let cluster = Cluster {
            name,
            ..Cluster::default()
        };
        assert!(call(&handover("cluster.down", vec![cluster.into()])).is_err());
    }
    let prefix = Request {
        request_id: "d5da".into(),
        ..Request::default()
    };
    assert!(call(&handover("request.cancel", vec![prefix.into()])).is_err());
}

#[test]
fn a_controller_is_protected_here_too() {
    for id in ["cluster.stop", "cluster.down", "cluster.autostop"] {
        let controller = Cluster {
            name: "sky-jobs-controller-1".into(),
            controller: true,
            ..Cluster::default()
        };
        let refused = call(&handover(id, vec![controller.into()])).unwrap_err();
        assert!(refused.to_string().contains("controller"), "{refused}");
    }
}

#[test]
fn the_bodies() {
    let down = call(&one("cluster.down")).unwrap();
    assert_eq!(down.path, "/down");
    assert_eq!(down.body["cluster_name"], "dev");
    assert_eq!(
        down.body["override_skypilot_config"]["active_workspace"],
        "ml"
    );
    // A service is taken down in the workspace in which it is, as far as that is known.
    let down = |workspace: Option<&str>| {
        let mut service = row(Kind::Service);
        Arc::make_mut(&mut service).set_workspace(workspace.map(Text::from));
        call(&handover("service.down", vec![service])).unwrap().body
    };
    let known = down(Some("research"));
    assert_eq!(
        known["override_skypilot_config"],
        json!({"active_workspace": "research"})
    );
    assert_eq!(known["service_names"], json!(["dev"]));
    assert!(down(None).get("override_skypilot_config").is_none());
    let cancel = call(&one("job.cancel")).unwrap();
    assert_eq!(
        (cancel.path, &cancel.body["job_ids"]),
        ("/jobs/cancel", &json!([12]))
    );
    let cancel = call(&one("cluster_job.cancel")).unwrap();
    assert_eq!(
        (cancel.path, &cancel.body["job_ids"]),
        ("/cancel", &json!([3]))
    );
    let mut autostop = one("cluster.autostop");
    assert_eq!(call(&autostop).unwrap().body["idle_minutes"], -1);
    autostop.options = ActionOptions {
        idle_minutes: Some(5),
        down: true,
        ..ActionOptions::default()
    };
    let body = call(&autostop).unwrap().body;
    assert_eq!(
        (&body["idle_minutes"], &body["down"]),
        (&json!(5), &json!(true))
    );
}

#[test]
fn managed_jobs_go_by_workspace() {
    let job = |job_id, workspace: &str| -> Arc<Entity> {
        Job {
            job_id,
            workspace: Some(workspace.into()),
            ..Job::default()
        }
        .into()
    };
    let targets = [job(1, "a"), job(2, "b"), job(3, "a")];
    assert_eq!(
        plan(action("job.cancel").unwrap(), &targets),
        vec![vec![0, 2], vec![1]]
    );
    let clusters = [row(Kind::Cluster), row(Kind::Cluster)];
    assert_eq!(
        plan(action("cluster.down").unwrap(), &clusters),
        vec![vec![0], vec![1]]
    );
}

fn listed(handover: &Handover, created_at: f64, change: impl FnOnce(&mut Value)) -> Value {
    let call = call(handover).unwrap();
    let mut body = call.body;
    change(&mut body);
    json!({
        "request_id": RID, "name": call.name, "user_id": "2f1c", "created_at": created_at,
        "request_body": body.to_string(),
    })
}

/// What the source's own credentials are shown, which made the call.
fn own(rows: &[&Value]) -> Listings {
    Listings {
        senders: rows.iter().copied().cloned().collect(),
        sender: None,
        sources: None,
    }
}

#[test]
fn a_lost_call_is_found_by_its_mark() {
    let handover = one("cluster.down");
    let daemon = json!({ "request_id": "d", "name": "sky.daemon", "user_id": "skypilot-system", "created_at": 10.0, "request_body": "null" });
    let mine = listed(&handover, 1_000_001.0, |_| {});
    assert_eq!(
        found(&handover, &own(&[&mine, &daemon])).unwrap(),
        Found::Accepted(RID.into())
    );
    let anothers = listed(&handover, 1_000_001.0, |body| {
        body["env_vars"][MARK] = json!("other/1");
    });
    assert_eq!(
        found(&handover, &own(&[&anothers, &daemon])).unwrap(),
        Found::NotThere
    );
    let earlier = listed(&handover, 900_000.0, |_| {});
    assert_eq!(
        found(&handover, &own(&[&earlier, &daemon])).unwrap(),
        Found::NotThere
    );
    let dropped = listed(&handover, 1_000_001.0, |body| {
        body["env_vars"].as_object_mut().unwrap().remove(MARK);
    });
    assert_eq!(
        found(&handover, &own(&[&dropped, &daemon])).unwrap(),
        Found::Accepted(RID.into())
    );
    let mut hidden = listed(&handover, 1_000_001.0, |_| {});
    hidden["request_body"] = json!("null");
    assert_eq!(
        found(&handover, &own(&[&hidden, &daemon])).unwrap(),
        Found::CannotTell
    );
}

#[test]
fn a_callers_lost_call_is_looked_up_among_its_own_requests_and_the_sources() {
    let handover = one("cluster.down");
    let daemon = |at| json!({ "request_id": "d", "name": "sky.daemon", "user_id": "skypilot-system", "created_at": at, "request_body": null });
    let mine = listed(&handover, 1_000_001.0, |_| {});
    let mut hidden = mine.clone();
    hidden["request_body"] = Value::Null;
    let by = |row: &Value, user: &str| {
        let mut row = row.clone();
        row["user_id"] = user.into();
        row
    };
    let look = |senders: &[&Value], sender: &str, sources: &[&Value]| {
        let own = |rows: &[&Value]| rows.iter().copied().cloned().collect();
        let listings = Listings {
            senders: own(senders),
            sender: Some(sender.to_owned()),
            sources: Some(own(sources)),
        };
        found(&handover, &listings).unwrap()
    };
    let (accepted, old) = (Found::Accepted(RID.into()), daemon(10.0));
    assert_eq!(look(&[&mine], "2f1c", &[&hidden, &old]), accepted);
    // Nothing of its own is old: that SkyPilot was not restarted is told by the other list.
    assert_eq!(look(&[], "2f1c", &[&old]), Found::NotThere);
    assert_eq!(
        look(&[], "2f1c", &[&daemon(1_000_050.0)]),
        Found::CannotTell
    );
    assert_eq!(look(&[], "2f1c", &[]), Found::CannotTell);
    // An administrator is shown that others did the like, and not what it was.
    let theirs = by(&hidden, "b0b");
    assert_eq!(look(&[&theirs], "2f1c", &[&theirs, &old]), Found::NotThere);
    let same = by(
        &listed(&handover, 1_000_001.0, |body| {
            body["env_vars"].as_object_mut().unwrap().remove(MARK);
        }),
        "b0b",
    );
    assert_eq!(look(&[&same], "2f1c", &[&old]), Found::NotThere);
    assert_eq!(look(&[&hidden], "2f1c", &[&old]), Found::CannotTell);
    // Sent with the source's credentials, or as another of the caller's identities.
    let before = by(&mine, "5c");
    assert_eq!(look(&[], "2f1c", &[&before, &old]), accepted);
    assert_eq!(look(&[], "sa-1", &[&hidden, &old]), Found::CannotTell);
}

#[test]
fn a_server_that_was_restarted_since_cannot_tell() {
    let handover = one("cluster.down");
    let daemon = json!({ "request_id": "d", "name": "sky.daemon", "user_id": "skypilot-system", "created_at": 1_000_050.0, "request_body": "null" });
    assert_eq!(
        found(&handover, &own(&[&daemon])).unwrap(),
        Found::CannotTell
    );
    assert_eq!(found(&handover, &own(&[])).unwrap(), Found::CannotTell);
}

#[test]
fn what_skypilot_declined_is_read_in_its_log() {
    let declined = read_log(
        "\u{1b}[2mWaiting for 'sky.jobs.cancel' request\u{1b}[0m\nNo job to cancel. Job with ID 3 is skipped as they are not in the active workspace 'default'.\n",
    );
    assert!(!declined.succeeded);
    assert!(declined.message.unwrap().starts_with("No job to cancel."));
    let done = read_log("Job with ID 3 is scheduled to be cancelled.\n");
    assert!(done.succeeded);
    assert_eq!(
        done.message.unwrap(),
        "Job with ID 3 is scheduled to be cancelled."
    );
    assert_eq!(read_log("").message, None);
}
