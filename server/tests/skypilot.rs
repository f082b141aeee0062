//! The SkyPilot source beside a server that the test plays.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

#[path = "support/fake_skypilot.rs"]
mod fake_skypilot;

use std::sync::Arc;
use std::time::Duration;

use fake_skypilot::{Failure, FakeSkyPilot, cluster, job, placed, service};
use serde_json::json;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::entity::{Outcome, Request, TargetResult};
use skytower_api_client::policy::{Reach, View};
use skytower_api_client::wire::Caller;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, Key, Kind, Phase, Text};
use skytower_server::SourceConfig;
use skytower_server::hub::Hub;
use skytower_server::source::Source as _;
use skytower_server::source::skypilot::client::{CallError, Client};
use skytower_server::source::skypilot::{Pace, SkyPilot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bounds a hang; it measures nothing.
const DEADLINE: Duration = Duration::from_mins(1);

struct Watch {
    fake: FakeSkyPilot,
    hub: Arc<Hub>,
    source: Arc<SkyPilot>,
    _stop: DropGuard,
}

fn quick() -> Pace {
    let ms = Duration::from_millis;
    Pace {
        requests: ms(10),
        clusters: ms(20),
        jobs: ms(20),
        history: ms(200),
        serve: ms(20),
        slow: ms(50),
        focus: ms(20),
        hurry: ms(500),
        health: ms(50),
        gap: ms(5),
        unwatched: 1,
        publish: ms(100),
        ..Pace::default()
    }
}

async fn watch_at(pace: Pace, prepare: impl FnOnce(&FakeSkyPilot)) -> Watch {
    let fake = FakeSkyPilot::start().await;
    prepare(&fake);
    let hub = Arc::new(Hub::new());
    let config: SourceConfig =
        serde_json::from_value(json!({"name": "prod", "url": fake.url})).unwrap();
    let source = Arc::new(SkyPilot::new(&config, hub.clone(), pace).unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(source.clone().run(stop.clone()));
    Watch {
        fake,
        hub,
        source,
        _stop: stop.drop_guard(),
    }
}

async fn watch(prepare: impl FnOnce(&FakeSkyPilot)) -> Watch {
    watch_at(quick(), prepare).await
}

impl Watch {
    fn row(&self, kind: Kind, id: &str) -> Option<Arc<Entity>> {
        self.hub.get(&Key::new("prod", kind, id))
    }

    /// Waits until the state satisfies `holds`.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut changes = self.hub.changes();
        let wait = async {
            while !holds(self) {
                tokio::select! {
                    _ = changes.changed() => {}
                    // What is waited for may be at the fake, which does not announce it.
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        };
        if tokio::time::timeout(DEADLINE, wait).await.is_err() {
            let source = self.row(Kind::Source, "prod");
            panic!("never: {what}; the source says {source:?}");
        }
    }

    async fn until_row(
        &self,
        kind: Kind,
        id: &str,
        holds: impl Fn(&Entity) -> bool,
    ) -> Arc<Entity> {
        self.until(&format!("{kind} {id}"), |watch| {
            watch.row(kind, id).is_some_and(|row| holds(&row))
        })
        .await;
        self.row(kind, id).unwrap()
    }

    async fn until_source(&self, status: &str) -> Arc<Entity> {
        self.until_row(Kind::Source, "prod", |row| *row.status() == *status)
            .await
    }
}

#[tokio::test]
async fn what_skypilot_says_is_seen_and_followed() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.clusters.push(cluster("dev", "h1", "alice"));
            world.jobs.push(job(1, "RUNNING", "alice"));
            world.jobs.push(job(2, "SUCCEEDED", "bob"));
            world.services.push(service("chat", 2, "bob"));
            world.enabled_clouds = vec!["aws"];
        });
    })
    .await;
    watch
        .until_row(Kind::Cluster, "h1", |row| *row.status() == *"UP")
        .await;
    watch
        .until_row(Kind::Job, "2/0", |row| row.phase() == Phase::Succeeded)
        .await;
    watch
        .until_row(Kind::Replica, "chat-hash/2", |_| true)
        .await;
    watch.until_row(Kind::Infra, "aws", |_| true).await;
    watch
        .until_row(Kind::Workspace, "default", |row| {
            row.as_workspace().unwrap().clusters == 1
        })
        .await;
    // Alice is not in `/users` under this id: she is seen by what she owns.
    watch
        .until_row(Kind::User, "alice-id", |row| {
            let row = View::everything().project(&Arc::new(row.clone()));
            let user = row.as_user().unwrap();
            user.clusters == 1 && user.jobs == 1
        })
        .await;
    watch.until_source("healthy").await;
    watch
        .fake
        .with(|world| world.clusters[0]["status"] = "STOPPED".into());
    watch
        .until_row(Kind::Cluster, "h1", |row| row.phase() == Phase::Stopped)
        .await;
    watch.fake.with(|world| world.services.clear());
    let tomb = watch
        .until_row(Kind::Service, "chat-hash", |row| row.phase() == Phase::Gone)
        .await;
    assert!(tomb.as_service().unwrap().ended_at.is_some());
    watch
        .until("its replicas are gone", |watch| {
            watch.row(Kind::Replica, "chat-hash/1").is_none()
        })
        .await;
}

#[tokio::test]
async fn a_finished_job_gets_its_final_status_and_is_not_lost() {
    let watch = watch_at(
        Pace {
            history: Duration::from_hours(1),
            ..quick()
        },
        |fake| fake.with(|world| world.jobs.push(job(7, "RUNNING", "alice"))),
    )
    .await;
    watch
        .until_row(Kind::Job, "7/0", |row| row.phase() == Phase::Running)
        .await;
    watch.fake.with(|world| {
        world.jobs[0]["status"] = "FAILED".into();
        world.jobs[0]["failure_reason"] = "exit code 3".into();
    });
    let row = watch
        .until_row(Kind::Job, "7/0", |row| row.phase() == Phase::Failed)
        .await;
    assert_eq!(row.why().unwrap(), &"exit code 3");
}

#[tokio::test]
async fn a_cluster_that_went_down_leaves_a_row_that_says_by_whom() {
    let watch = watch(|fake| {
        fake.with(|world| {
            for (name, hash) in [("a", "ha"), ("b", "hb"), ("c", "hc"), ("d", "hd")] {
                world.clusters.push(cluster(name, hash, "alice"));
            }
        });
    })
    .await;
    watch.until_row(Kind::Cluster, "hd", |_| true).await;
    // SkyPilot's own audit line.
    watch.fake.with(|world| {
        world.cluster_events.insert("ha".into(), vec![
            json!({"reason": "All nodes up", "transitioned_at": 1}),
            json!({"reason": "Cluster was terminated by user bob (request ID: 42)", "transitioned_at": fake_skypilot::now()}),
        ]);
        world.clusters.retain(|row| row["name"] != "a");
    });
    let tomb = watch
        .until_row(Kind::Cluster, "ha", |row| row.phase() == Phase::Gone)
        .await;
    assert_eq!(*tomb.status(), "TERMINATED");
    assert_eq!(
        tomb.why().unwrap(),
        &"Cluster was terminated by user bob (request ID: 42)"
    );
    // No events: the request tells.
    let rid = watch.fake.begin("sky.down", "b", "a11ce000");
    watch
        .until_row(Kind::Request, &rid, |row| row.phase() == Phase::Running)
        .await;
    watch.until_row(Kind::User, "a11ce000", |_| true).await;
    watch
        .fake
        .with(|world| world.clusters.retain(|row| row["name"] != "b"));
    watch.fake.end(&rid, "SUCCEEDED");
    let tomb = watch
        .until_row(Kind::Cluster, "hb", |row| row.phase() == Phase::Gone)
        .await;
    let why = tomb.why().unwrap();
    assert!(
        why.contains("terminated by user alice") && why.contains(&rid),
        "{why}"
    );
    // Nothing tells.
    watch.fake.with(|world| {
        world.clusters.retain(|row| row["name"] != "c");
        // A new one of the same name is another row.
        world.clusters.push(cluster("a", "ha2", "carol"));
    });
    let tomb = watch
        .until_row(Kind::Cluster, "hc", |row| row.phase() == Phase::Gone)
        .await;
    assert!(tomb.why().unwrap().contains("does not say why"));
    watch
        .until_row(Kind::Cluster, "ha2", |row| row.phase() == Phase::Running)
        .await;
    assert_eq!(watch.row(Kind::Cluster, "ha").unwrap().phase(), Phase::Gone);
}

#[tokio::test]
async fn tombstones_are_taken_away_after_their_time_with_their_reason() {
    let watch = watch_at(
        Pace {
            tombstone: Duration::from_millis(50),
            ..quick()
        },
        |fake| {
            fake.with(|world| {
                world.clusters.push(cluster("a", "ha", "alice"));
                world.clusters.push(cluster("b", "hb", "alice"));
                world.clusters.push(cluster("c", "hc", "alice"));
            });
        },
    )
    .await;
    watch.until_row(Kind::Cluster, "ha", |_| true).await;
    watch.fake.with(|world| world.clusters.remove(0));
    watch
        .until("it is gone", |watch| {
            watch.row(Kind::Cluster, "ha").is_none()
        })
        .await;
}

#[tokio::test]
async fn an_outage_keeps_the_last_good_state_and_ends_by_itself() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.clusters.push(cluster("dev", "h1", "alice"));
            world.jobs.push(job(1, "RUNNING", "alice"));
        });
    })
    .await;
    watch.until_row(Kind::Job, "1/0", |_| true).await;
    watch.until_row(Kind::Cluster, "h1", |_| true).await;
    watch.fake.go_down();
    watch.until_source("unreachable").await;
    // Open connections break first; then new ones are refused.
    watch
        .until_row(Kind::Source, "prod", |row| {
            let hint = row.as_source().unwrap().hint.as_ref();
            hint.is_some_and(|hint| hint.contains("/api/health"))
        })
        .await;
    assert_eq!(
        watch.row(Kind::Cluster, "h1").unwrap().phase(),
        Phase::Running
    );
    watch.fake.restart();
    watch
        .fake
        .with(|world| world.clusters[0]["status"] = "STOPPED".into());
    watch.fake.come_up().await;
    watch.until_source("healthy").await;
    watch
        .until_row(Kind::Cluster, "h1", |row| row.phase() == Phase::Stopped)
        .await;
}

#[tokio::test]
async fn bad_answers_lose_nothing_and_say_what_is_wrong() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.clusters.push(cluster("dev", "h1", "alice"));
            world.clusters.push(cluster("ops", "h2", "alice"));
            world.jobs.push(job(1, "RUNNING", "alice"));
            world.services.push(service("chat", 1, "bob"));
        });
    })
    .await;
    watch.until_row(Kind::Job, "1/0", |_| true).await;
    watch.until_row(Kind::Service, "chat-hash", |_| true).await;
    watch.until_row(Kind::Cluster, "h2", |_| true).await;
    let note = |kind: Kind| move |row: &Entity| row.as_source().unwrap().notes.contains_key(&kind);
    let error =
        |kind: Kind| move |row: &Entity| row.as_source().unwrap().errors.contains_key(&kind);

    // A record that cannot be read: its old row stays.
    watch
        .fake
        .with(|world| world.clusters[0] = json!({"status": "UP"}));
    watch
        .until_row(Kind::Source, "prod", note(Kind::Cluster))
        .await;
    assert!(watch.row(Kind::Cluster, "h1").is_some());
    // A whole answer that is nonsense.
    watch
        .fake
        .fail("/status", Some(Failure::Value("{\"oops\":1}".into())));
    let row = watch
        .until_row(Kind::Source, "prod", error(Kind::Cluster))
        .await;
    assert_eq!(*row.status(), "stale");
    assert!(watch.row(Kind::Cluster, "h2").unwrap().phase() == Phase::Running);
    watch.fake.fail("/status", None);
    watch
        .fake
        .with(|world| world.clusters[0] = cluster("dev", "h1", "alice"));

    // A stopped controller is no empty list, and no error.
    watch.fake.fail(
        "/jobs/queue/v2",
        Some(Failure::Request {
            kind: "ClusterNotUpError",
            message: "no",
        }),
    );
    watch.until_row(Kind::Source, "prod", note(Kind::Job)).await;
    assert_eq!(watch.row(Kind::Job, "1/0").unwrap().phase(), Phase::Running);
    watch.fake.fail(
        "/serve/status",
        Some(Failure::Request {
            kind: "RuntimeError",
            message: "Failed to refresh services status due to network error.",
        }),
    );
    watch
        .until_row(Kind::Source, "prod", note(Kind::Service))
        .await;
    assert_eq!(
        watch.row(Kind::Service, "chat-hash").unwrap().phase(),
        Phase::Running
    );
    watch.fake.fail("/jobs/queue/v2", None);
    watch.fake.fail("/serve/status", None);
    watch.until_source("healthy").await;
}

#[tokio::test]
async fn a_slow_list_does_not_delay_the_others() {
    let watch = watch(|fake| {
        fake.fail("/jobs/queue/v2", Some(Failure::Hang));
        fake.fail("/serve/status", Some(Failure::Hang));
        fake.with(|world| world.clusters.push(cluster("dev", "h1", "alice")));
    })
    .await;
    watch.until_row(Kind::Cluster, "h1", |_| true).await;
    watch
        .fake
        .with(|world| world.clusters[0]["status"] = "STOPPED".into());
    watch
        .until_row(Kind::Cluster, "h1", |row| row.phase() == Phase::Stopped)
        .await;
}

#[tokio::test]
async fn the_end_of_a_request_brings_the_list_at_once() {
    // So slow that without the sign nothing would be seen before the deadline.
    let hour = Duration::from_hours(1);
    let pace = Pace {
        clusters: hour,
        jobs: hour,
        ..quick()
    };
    let watch = watch_at(pace, |fake| {
        fake.with(|world| world.clusters.push(cluster("dev", "h1", "alice")));
    })
    .await;
    watch.until_row(Kind::Cluster, "h1", |_| true).await;
    watch
        .until("the first jobs", |watch| {
            watch.fake.calls("/jobs/queue/v2") >= 1
        })
        .await;
    let stop = watch.fake.begin("sky.stop", "dev", "alice-id");
    watch.until_row(Kind::Request, &stop, |_| true).await;
    watch.fake.with(|world| {
        world.clusters[0]["status"] = "STOPPED".into();
        world.jobs.push(job(3, "PENDING", "alice"));
    });
    watch.fake.end(&stop, "SUCCEEDED");
    watch
        .until_row(Kind::Cluster, "h1", |row| row.phase() == Phase::Stopped)
        .await;
    let launch = watch
        .fake
        .begin("sky.jobs.launch", "sky-jobs-controller-1", "alice-id");
    let row = watch.until_row(Kind::Request, &launch, |_| true).await;
    assert_eq!(row.as_request().unwrap().target, None);
    watch.fake.end(&launch, "SUCCEEDED");
    watch
        .until_row(Kind::Job, "3/0", |row| row.phase() == Phase::Pending)
        .await;
    // Looks and daemons are not shown.
    let noise = watch.fake.begin("sky.status", "dev", "alice-id");
    let daemon = watch
        .fake
        .begin("skypilot-status-refresh-daemon", "", "skypilot-system");
    let last = watch.fake.begin("sky.exec", "dev", "alice-id");
    watch.until_row(Kind::Request, &last, |_| true).await;
    assert!(
        watch.row(Kind::Request, &noise).is_none() && watch.row(Kind::Request, &daemon).is_none()
    );
    // A restart forgets them.
    watch.fake.restart();
    watch
        .until("it is gone", |watch| {
            watch.row(Kind::Request, &last).is_none()
        })
        .await;
}

#[tokio::test]
async fn a_hundred_watchers_cost_skypilot_no_more_than_one() {
    let hour = Duration::from_hours(1);
    // Each list is looked at once; every further call would have to come from the watchers.
    let pace = Pace {
        requests: hour,
        clusters: hour,
        jobs: hour,
        serve: hour,
        slow: hour,
        health: hour,
        ..quick()
    };
    let mut counted = Vec::new();
    for watchers in [1, 100] {
        let watch = watch_at(pace.clone(), |fake| {
            fake.with(|world| world.clusters.push(cluster("dev", "h1", "alice")));
        })
        .await;
        watch
            .until("all lists were read", |watch| {
                let source = watch.row(Kind::Source, "prod");
                source.is_some_and(|row| row.as_source().unwrap().fetched_at.len() >= 9)
            })
            .await;
        assert_eq!(watch.fake.calls("/status"), 1);
        let guards: Vec<_> = (0..watchers).map(|_| watch.hub.watcher()).collect();
        // The first who comes is worth one look at everything; the others are not.
        let lists = [
            "/api/status",
            "/status",
            "/serve/status",
            "/jobs/pool_status",
            "/users",
        ];
        watch
            .until("a look for the watchers", |watch| {
                lists.iter().all(|list| watch.fake.calls(list) == 2)
            })
            .await;
        drop(guards);
        counted.push(lists.map(|list| watch.fake.calls(list)));
    }
    assert_eq!(counted[0], counted[1]);
}

#[tokio::test]
async fn the_queue_and_the_events_are_asked_only_while_somebody_looks() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.clusters.push(cluster("dev", "h1", "alice"));
            world.queues.insert("dev".into(), vec![json!({"job_id": 1, "job_name": "train", "status": "RUNNING", "username": "alice", "user_hash": "alice-id"})]);
            world.cluster_events.insert("h1".into(), vec![json!({"reason": "All nodes up", "transitioned_at": 1_795_474_056})]);
        });
    })
    .await;
    let key = watch
        .until_row(Kind::Cluster, "h1", |_| true)
        .await
        .key()
        .clone();
    assert_eq!(watch.fake.calls("/queue"), 0);
    watch.source.focus(&key, true);
    watch
        .until_row(Kind::ClusterJob, "h1/1", |row| {
            row.phase() == Phase::Running
        })
        .await;
    watch
        .until("an event", |watch| {
            watch.hub.read(|table| table.len(Kind::Event) == 1)
        })
        .await;
    watch.source.focus(&key, false);
    watch
        .until("they are gone", |watch| {
            watch
                .hub
                .read(|table| table.len(Kind::Event) + table.len(Kind::ClusterJob) == 0)
        })
        .await;
}

#[tokio::test]
async fn who_we_are_and_whether_we_may() {
    let watch = watch(|fake| {
        fake.with(|world| world.role = json!({"id": "bb", "name": "bot", "role": "viewer"}));
    })
    .await;
    let mut caller = watch.source.caller();
    let caller = caller
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(
        (
            caller.ids[0].as_str(),
            caller.name.as_str(),
            caller.role.word()
        ),
        ("bb", "bot", "viewer")
    );
    watch.fake.with(|world| world.health = "needs_auth");
    let row = watch.until_source("needs_auth").await;
    assert!(
        row.as_source()
            .unwrap()
            .hint
            .as_ref()
            .unwrap()
            .contains("sky api login")
    );
    watch.fake.with(|world| {
        world.health = "healthy";
        world.api_version = Some(23);
    });
    watch.until_source("version_mismatch").await;
    watch.fake.with(|world| world.api_version = None);
    watch.until_source("version_mismatch").await;
    watch.fake.with(|world| world.api_version = Some(99));
    watch.until_source("healthy").await;
}

#[tokio::test]
async fn every_call_says_who_and_asks_for_no_secrets() {
    let watch = watch(|_| {}).await;
    watch
        .until("a look at clusters", |watch| {
            watch.fake.calls("/status") > 0
        })
        .await;
    watch.fake.with(|world| {
        for (path, body) in world.heard.iter().filter(|(_, body)| body.is_object()) {
            assert_eq!(body["env_vars"]["SKYPILOT_USER_ID"], "ad000000", "{path}");
            assert_eq!(body["env_vars"]["SKYPILOT_USER"], "admin", "{path}");
            if path == "/status" {
                assert_eq!(body["include_credentials"], false);
                assert_eq!(body["include_handle"], false);
            }
        }
    });
}

#[tokio::test]
async fn a_call_tells_refused_from_lost() {
    let fake = FakeSkyPilot::start().await;
    let client = Client::new(&fake.url, &Credentials::None).unwrap();
    let down = || client.submit("/down", json!({"cluster_name": "x"}));
    fake.fail(
        "/down",
        Some(Failure::Http(503, "{\"detail\":\"shutting down\"}")),
    );
    let error = down().await.unwrap_err();
    assert!(error.may_be_sent_again() && error.is_certainly_not_accepted());
    fake.fail("/down", Some(Failure::LostAfter));
    assert!(down().await.unwrap_err().is_uncertain());
    fake.fail(
        "/down",
        Some(Failure::Http(403, "{\"detail\":\"Forbidden\"}")),
    );
    assert_eq!(
        down().await.unwrap_err(),
        CallError::Forbidden("the role at SkyPilot does not allow this".into())
    );
    fake.fail("/down", Some(Failure::Http(307, "")));
    assert!(matches!(
        down().await.unwrap_err(),
        CallError::NeedsAuth { .. }
    ));
    // What a schema error echoes is not repeated.
    fake.fail("/down", Some(Failure::Http(422, r#"{"detail":[{"loc":["body","x"],"msg":"missing","input":{"env_vars":{"S":"hunter2"}}}]}"#)));
    let error = down().await.unwrap_err();
    assert!(
        error.to_string().contains("body.x: missing") && !format!("{error:?}").contains("hunter2")
    );
    // A traceback is not repeated either.
    fake.fail("/down", Some(Failure::Http(500, "Traceback: secret")));
    assert!(!format!("{:?}", down().await.unwrap_err()).contains("secret"));
    fake.fail(
        "/down",
        Some(Failure::Request {
            kind: "ClusterDoesNotExist",
            message: "\u{1b}[33mno 'x'\u{1b}[0m",
        }),
    );
    let rid = down().await.unwrap();
    let error = client.result(&rid, DEADLINE).await.unwrap_err();
    assert!(error.is_failure("ClusterDoesNotExist"));
    assert_eq!(error.to_string(), "no 'x'");
    fake.go_down();
    assert!(matches!(
        down().await.unwrap_err(),
        CallError::Unreachable { .. } | CallError::Lost { .. }
    ));
}

#[tokio::test]
async fn a_request_does_not_tell_of_a_cluster_that_may_be_private() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.workspaces = json!({"default": {}, "research": {"private": true}});
            let mut secret = cluster("known", "h1", "alice");
            secret["workspace"] = "research".into();
            world.clusters.push(secret);
        });
    })
    .await;
    watch.until_row(Kind::Workspace, "research", |_| true).await;
    watch.until_row(Kind::Cluster, "h1", |_| true).await;
    let unknown = watch.fake.begin("sky.launch", "coming", "a11ce000");
    let row = watch.until_row(Kind::Request, &unknown, |_| true).await;
    assert_eq!(row.reach(), Reach::Administrators);
    watch.fake.with(|world| {
        let mut secret = cluster("coming", "h2", "alice");
        secret["workspace"] = "research".into();
        world.clusters.push(secret);
    });
    // Once the cluster is known its request is in the same workspace.
    let row = watch
        .until_row(Kind::Request, &unknown, |row| row.workspace().is_some())
        .await;
    let (source, name) = (&Text::from("prod"), &Text::from("research"));
    assert_eq!(row.reach(), Reach::Workspace { source, name });
}

/// Somebody who may see the workspace `default` of `prod`.
fn outsider() -> View {
    let caller = Caller {
        workspaces: Some(vec!["prod/default".into()]),
        ..Caller::default()
    };
    View::of(&caller, &[])
}

#[tokio::test]
async fn what_has_no_workspace_is_for_administrators_while_one_is_private() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.services.push(service("chat", 1, "bob"));
            let mut secret = cluster("known", "h1", "carol");
            secret["workspace"] = "research".into();
            world.clusters.push(secret);
        });
    })
    .await;
    let open = |row: &Entity| row.reach() == Reach::Everybody;
    watch.until_row(Kind::Service, "chat-hash", open).await;
    let controllers = watch
        .fake
        .begin("sky.serve.up", "sky-serve-controller-1", "b0b");
    watch.until_row(Kind::Request, &controllers, open).await;
    watch.fake.with(|world| {
        world.workspaces = json!({"default": {}, "research": {"private": true}});
    });
    // Nothing of them is said anew by SkyPilot: they are hidden because the workspace is.
    let hidden = |row: &Entity| row.reach() == Reach::Administrators;
    for (kind, id) in [
        (Kind::Service, "chat-hash"),
        (Kind::Request, controllers.as_str()),
    ] {
        watch.until_row(kind, id, hidden).await;
    }
    for part in watch.hub.read(|table| support_rows(table, Kind::Replica)) {
        assert!(hidden(&part), "{part:?}");
    }
    // Nor is it told in numbers.
    let all = View::everything();
    let owner = watch
        .row(Kind::Service, "chat-hash")
        .unwrap()
        .owner()
        .unwrap()
        .id
        .clone();
    let counted = |view: &View| {
        let row = watch.row(Kind::User, &owner)?;
        view.sees(&row)
            .then(|| view.project(&row))?
            .as_user()
            .cloned()
    };
    watch
        .until("the count of what is hidden", |_| {
            counted(&outsider()).is_none_or(|user| user.services == 0)
        })
        .await;
    assert_eq!(counted(&all).unwrap().services, 1);
    watch
        .fake
        .with(|world| world.workspaces = json!({"default": {}, "research": {}}));
    watch.until_row(Kind::Service, "chat-hash", open).await;
    watch.until_row(Kind::Request, &controllers, open).await;
}

fn support_rows(table: &skytower_api_client::Table, kind: Kind) -> Vec<Arc<Entity>> {
    table.rows(kind).cloned().collect()
}

/// The workspaces of a service and of all that belongs to it.
fn places(watch: &Watch, service: &str) -> Vec<Option<Text>> {
    watch.hub.read(|table| {
        let rows = table.rows(Kind::Service).chain(table.rows(Kind::Replica));
        rows.filter(|row| row.name().starts_with(service))
            .map(|row| row.workspace().cloned())
            .collect()
    })
}

#[tokio::test]
async fn a_service_is_where_the_clusters_of_its_replicas_are() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.workspaces = json!({"default": {}, "research": {"private": true}});
            placed(world, "chat", 2, "bob", "default");
            placed(world, "vault", 1, "carol", "research");
            // Its clusters are known to its own controller alone; one is called as they are.
            let mut remote = service("remote", 1, "alice");
            remote["replica_info"][0]["launched_at"] = fake_skypilot::LAUNCHED.into();
            world.services.push(remote);
            let mut own = cluster("remote-1", "h1", "alice");
            own["launched_at"] = fake_skypilot::LAUNCHED.into();
            world.clusters.push(own);
        });
    })
    .await;
    let (open, secret) = (Some(Text::from("default")), Some(Text::from("research")));
    watch
        .until_row(Kind::Service, "vault-hash", |row| row.workspace().is_some())
        .await;
    assert_eq!(places(&watch, "chat"), vec![open.clone(); 3]);
    assert_eq!(places(&watch, "vault"), vec![secret; 2]);
    assert_eq!(places(&watch, "remote"), [None, None]);
    let sees = |id: &str| outsider().sees(&watch.row(Kind::Service, id).unwrap());
    assert!(sees("chat-hash") && !sees("vault-hash") && !sees("remote-hash"));
    // The clusters themselves are nobody's business.
    assert!(watch.row(Kind::Cluster, "vault-1795473800").is_none());
    // What is asked of a replica's cluster is in its workspace.
    let launch = watch.fake.begin("sky.launch", "chat-1", "b0b");
    let row = watch.until_row(Kind::Request, &launch, |_| true).await;
    assert_eq!(row.workspace(), open.as_ref());
    let launch = watch.fake.begin("sky.launch", "remote-1", "a11ce000");
    let row = watch.until_row(Kind::Request, &launch, |_| true).await;
    assert_eq!(row.reach(), Reach::Administrators);
    // With no replica left it is where it was.
    watch.fake.with(|world| {
        world.services[0]["replica_info"] = json!([]);
        world.clusters.retain(|row| row["is_managed"] != true);
    });
    watch
        .until("its replicas are gone", |watch| {
            places(watch, "chat").len() == 1
        })
        .await;
    assert_eq!(places(&watch, "chat"), [open]);
    // The next of its name is another one.
    watch.fake.with(|world| {
        world.services.remove(0);
        placed(world, "chat", 1, "bob", "research");
        world.services.last_mut().unwrap()["hash"] = "second".into();
    });
    let row = watch
        .until_row(Kind::Service, "second", |row| row.workspace().is_some())
        .await;
    assert!(!outsider().sees(&row));
}

#[tokio::test]
async fn what_is_not_found_once_is_found_later_and_people_are_told_when_it_cannot_be_looked_for() {
    let lost = Failure::Request {
        kind: "ClusterOwnerIdentityMismatchError",
        message: "cluster 'secret-7' is another's",
    };
    let watch = watch(|fake| {
        fake.with(|world| {
            world.workspaces = json!({"default": {}, "research": {"private": true}});
            placed(world, "chat", 1, "bob", "default");
        });
        fake.fail("/status", Some(lost));
    })
    .await;
    let told = |row: &Entity| {
        let notes = &row.as_source().unwrap().notes;
        let note = notes.get(&Kind::Service);
        note.is_some_and(|note| note.contains("administrators") && !note.contains("secret-7"))
    };
    watch.until_row(Kind::Workspace, "research", |_| true).await;
    watch.until_row(Kind::Source, "prod", told).await;
    let row = watch.row(Kind::Service, "chat-hash").unwrap();
    assert_eq!(row.reach(), Reach::Administrators);
    watch.fake.fail("/status", None);
    watch
        .until_row(Kind::Service, "chat-hash", |row| outsider().sees(row))
        .await;
    watch
        .until_row(Kind::Source, "prod", |row| !told(row))
        .await;
}

#[tokio::test]
async fn a_request_is_of_the_cluster_that_was_called_so_then() {
    let watch = watch(|fake| {
        fake.with(|world| {
            world.workspaces = json!({"default": {}, "research": {"private": true}});
            let mut open = cluster("dev", "h2", "alice");
            open["workspace"] = "default".into();
            open["launched_at"] = (fake_skypilot::now() as i64 + 5).into();
            world.clusters.push(open);
        });
    })
    .await;
    watch.until_row(Kind::Cluster, "h2", |_| true).await;
    watch.until_row(Kind::Workspace, "research", |_| true).await;
    // It ended before that cluster was launched: it was about another one, and nobody knows where.
    let before = watch.fake.begin("sky.down", "dev", "a11ce000");
    watch.fake.end(&before, "SUCCEEDED");
    let row = watch
        .until_row(Kind::Request, &before, |row| row.phase().is_over())
        .await;
    assert_eq!(row.reach(), Reach::Administrators);
    assert!(!outsider().sees(&row));
    let going_on = watch.fake.begin("sky.stop", "dev", "a11ce000");
    let row = watch.until_row(Kind::Request, &going_on, |_| true).await;
    assert!(outsider().sees(&row));
}

#[tokio::test]
async fn skypilots_own_words_are_for_all_only_where_nothing_is_private() {
    let watch = watch(|fake| {
        fake.with(|world| world.workspaces = json!({"research": {"private": true}}));
        fake.fail(
            "/status",
            Some(Failure::Request {
                kind: "ClusterOwnerIdentityMismatchError",
                message: "cluster 'secret-7' is another's",
            }),
        );
    })
    .await;
    let says = |word: &'static str| {
        move |row: &Entity| {
            let errors = &row.as_source().unwrap().errors;
            errors
                .get(&Kind::Cluster)
                .is_some_and(|error| error.contains(word))
        }
    };
    let row = watch
        .until_row(Kind::Source, "prod", says("ClusterOwner"))
        .await;
    assert!(!serde_json::to_string(&*row).unwrap().contains("secret-7"));
    watch
        .fake
        .with(|world| world.workspaces = json!({"research": {}}));
    watch
        .until_row(Kind::Source, "prod", says("secret-7"))
        .await;
}

#[tokio::test]
async fn what_an_action_became_at_skypilot_is_shown_once() {
    for ended in [false, true] {
        shown_once(ended).await;
    }
}

/// Seen before anybody knew whose it is: while it runs, or with all that can be known of it.
async fn shown_once(ended: bool) {
    let watch =
        watch(|fake| fake.with(|world| world.clusters.push(cluster("dev", "h1", "alice")))).await;
    watch.until_row(Kind::Cluster, "h1", |_| true).await;
    let theirs = watch.fake.begin("sky.stop", "dev", "a11ce000");
    watch.until_row(Kind::Request, &theirs, |_| true).await;
    let ours = watch.fake.begin("sky.down", "dev", "a11ce000");
    watch.until_row(Kind::Request, &ours, |_| true).await;
    if ended {
        watch.fake.end(&ours, "SUCCEEDED");
        watch
            .until_row(Kind::Request, &ours, |row| row.phase().is_over())
            .await;
    }
    let own = Request {
        key: Key::new("skytower", Kind::Request, "r1"),
        source: "skytower".into(),
        origin: "skytower".into(),
        request_id: "r1".into(),
        results: vec![TargetResult {
            key: Key::new("prod", Kind::Cluster, "h1"),
            target: "cluster/dev".into(),
            owner: None,
            outcome: Outcome::Submitted,
            message: None,
            upstream: Some(ours.as_str().into()),
        }],
        ..Request::default()
    };
    watch.hub.commit([Change::Upsert(Arc::new(own.into()))]);
    watch
        .until("only skytower's own is shown", |watch| {
            watch.row(Kind::Request, &ours).is_none()
        })
        .await;
    assert!(watch.row(Kind::Request, &theirs).is_some());
}

/// Cancels a job elsewhere and waits for each of its states; `tell` says them at SkyPilot.
async fn follow_a_cancellation(tell: impl Fn(&FakeSkyPilot, &str)) -> (u64, u64) {
    let watch = watch_at(
        Pace {
            // The list alone would take for ever.
            jobs: Duration::from_hours(1),
            history: Duration::from_hours(1),
            hurry: DEADLINE,
            ..quick()
        },
        |fake| {
            fake.with(|world| world.jobs.push(job(7, "RUNNING", "alice")));
            tell(fake, "RUNNING");
        },
    )
    .await;
    watch
        .until_row(Kind::Job, "7/0", |row| row.phase() == Phase::Running)
        .await;
    let rid = watch.fake.begin("sky.jobs.cancel", "jobs", "b0b00000");
    watch.until_row(Kind::Request, &rid, |_| true).await;
    watch.fake.end(&rid, "SUCCEEDED");
    for (status, phase) in [
        ("CANCELLING", Phase::Stopping),
        ("CANCELLED", Phase::Cancelled),
    ] {
        tell(&watch.fake, status);
        watch
            .until_row(Kind::Job, "7/0", |row| row.phase() == phase)
            .await;
    }
    let by_events = watch.fake.calls("/jobs/events");
    let by_number = watch.fake.calls("/jobs/queue/v2");
    // Then it is left alone again.
    let later = watch.fake.calls("/status") + 20;
    watch
        .until("other lists go on", |watch| {
            watch.fake.calls("/status") > later
        })
        .await;
    assert!(watch.fake.calls("/jobs/events") <= by_events + 2);
    assert!(watch.fake.calls("/jobs/queue/v2") <= by_number + 2);
    (by_events, by_number)
}

#[tokio::test]
async fn a_job_that_is_being_cancelled_is_followed_to_its_end_by_its_events() {
    let (_, by_number) = follow_a_cancellation(|fake, status| {
        fake.with(|world| {
            world.jobs[0]["status"] = status.into();
            let event =
                json!({"spot_job_id": 7, "task_id": 0, "new_status": status, "reason": "so"});
            world.job_events.entry(7).or_default().insert(0, event);
        });
    })
    .await;
    // The lists at the start and at the request, and what the events do not say of the end.
    assert!(by_number <= 8, "{by_number} lists");
}

#[tokio::test]
async fn a_job_that_is_being_cancelled_is_followed_by_its_number_where_there_are_no_events() {
    let (by_events, _) = follow_a_cancellation(|fake, status| {
        fake.with(|world| world.jobs[0]["status"] = status.into());
    })
    .await;
    assert!(by_events > 0);
}

#[tokio::test]
async fn an_old_request_gets_its_names_when_they_are_known() {
    let watch = watch(|fake| {
        fake.delay("/users", Duration::from_millis(300));
        let rid = fake.begin("sky.down", "dev", "a11ce000");
        fake.end(&rid, "SUCCEEDED");
        // Newer ones push it out of what is asked for each second.
        for _ in 0..300 {
            let rid = fake.begin("sky.status", "dev", "a11ce000");
            fake.end(&rid, "SUCCEEDED");
        }
        fake.with(|world| world.clusters.push(cluster("dev", "h1", "alice")));
    })
    .await;
    watch
        .until("whose it is and what it concerned are told", |watch| {
            watch.hub.read(|table| {
                table.rows(Kind::Request).any(|row| {
                    row.as_request()
                        .is_some_and(|row| row.target.as_deref() == Some("dev"))
                        && row.owner().is_some_and(|owner| owner.name == "alice")
                })
            })
        })
        .await;
}
