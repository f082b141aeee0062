//! SkyPilot's own credentials at skytower: who they are, and that what is done goes there with them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

#[path = "support/fake_skypilot.rs"]
mod fake_skypilot;

use std::sync::{Arc, Mutex};

use fake_skypilot::{Failure, FakeSkyPilot, Signed, cluster, person, service_account};
use serde_json::json;
use skytower_api_client::action::{ActionOptions, action};
use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::entity::Cluster;
use skytower_api_client::wire::{Caller, Problem, Role};
use skytower_api_client::{Entity, EpochMs, Text};
use skytower_server::SourceConfig;
use skytower_server::hub::Hub;
use skytower_server::source::skypilot::client::{Client, Identity};
use skytower_server::source::skypilot::{Pace, SkyPilot};
use skytower_server::source::{Found, Handover, HandoverError, Source};

/// Bounds a hang; it measures nothing.
const DEADLINE: std::time::Duration = std::time::Duration::from_mins(1);

/// The credentials of the server itself.
const OWN: &str = "sky_tower";

/// The lab's people.
fn people(fake: &FakeSkyPilot) {
    fake.with(|world| {
        let mut alice = person("6384e2b2", "alice", "user");
        alice.member_of = vec!["research"];
        alice.cookie = Some("_oauth2_proxy=alice".to_owned());
        world.people = vec![
            alice,
            person("21232f29", "admin", "admin"),
            person("9f9d51bc", "bob", "user"),
            person("4341dfaa", "vera", "viewer"),
            person("77777777", "nobody", ""),
            service_account("sa-d9f16db8", "ci-bot", "user"),
            service_account("sa-70e40000", "tower", "admin"),
        ];
        world.workspaces = json!({
            "default": {"writable": true, "read_only": false},
            "ops": {"writable": true, "read_only": false},
            "research": {"private": true, "allowed_users": ["alice"], "writable": true, "read_only": false},
        });
        let mut dev = cluster("carol-dev", "h1", "carol");
        dev["workspace"] = "research".into();
        world.clusters = vec![cluster("train", "h2", "alice"), dev];
    });
}

fn source(fake: &FakeSkyPilot, credentials: Credentials) -> SkyPilot {
    let config = SourceConfig::new("prod", fake.url.clone(), credentials);
    SkyPilot::new(&config, Arc::new(Hub::new()), Pace::default()).unwrap()
}

async fn lab() -> (FakeSkyPilot, SkyPilot) {
    let fake = FakeSkyPilot::start().await;
    people(&fake);
    let source = source(&fake, bearer(OWN));
    (fake, source)
}

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic {
        user: user.to_owned(),
        password: Secret::new(password),
    }
}

fn with_password(name: &str) -> Credentials {
    basic(name, &format!("secret-of-{name}"))
}

fn bearer(token: &str) -> Credentials {
    Credentials::Bearer(Secret::new(token))
}

fn cookie(cookie: &str) -> Credentials {
    Credentials::Cookie(Secret::new(cookie))
}

fn texts(list: &[&str]) -> Vec<Text> {
    list.iter().map(Text::new).collect()
}

async fn identify(source: &SkyPilot, credentials: &Credentials) -> Option<Caller> {
    source.identify(credentials).await.unwrap()
}

#[tokio::test]
async fn who_credentials_are_is_what_skypilot_says() {
    let (_fake, source) = lab().await;
    let open = ["prod/default", "prod/ops"];
    let all = ["prod/default", "prod/ops", "prod/research"];
    for (credentials, id, name, role, workspaces) in [
        (
            with_password("admin"),
            "21232f29",
            "admin",
            Role::Admin,
            None,
        ),
        (
            with_password("alice"),
            "6384e2b2",
            "alice",
            Role::User,
            Some(&all[..]),
        ),
        (
            cookie("_oauth2_proxy=alice"),
            "6384e2b2",
            "alice",
            Role::User,
            Some(&all[..]),
        ),
        (
            with_password("bob"),
            "9f9d51bc",
            "bob",
            Role::User,
            Some(&open[..]),
        ),
        (
            with_password("vera"),
            "4341dfaa",
            "vera",
            Role::Viewer,
            Some(&open[..]),
        ),
        (
            with_password("nobody"),
            "77777777",
            "nobody",
            Role::Viewer,
            Some(&open[..]),
        ),
        (
            bearer("sky_ci-bot"),
            "sa-d9f16db8",
            "ci-bot",
            Role::User,
            Some(&open[..]),
        ),
    ] {
        let said = Caller {
            ids: texts(&[id]),
            name: name.into(),
            role,
            workspaces: workspaces.map(texts),
            acts_at: Some(texts(&["prod"])),
            ..Caller::default()
        };
        assert_eq!(identify(&source, &credentials).await, Some(said), "{name}");
    }
}

#[tokio::test]
async fn nobody_is_made_anybody_by_what_skypilot_does_not_know() {
    let (fake, source) = lab().await;
    for credentials in [
        Credentials::None,
        basic("alice", "wrong"),
        basic("mallory", "secret-of-alice"),
        basic("", ""),
        bearer("sky_wrong"),
        cookie("_oauth2_proxy=mallory"),
        cookie(""),
    ] {
        assert_eq!(
            identify(&source, &credentials).await,
            None,
            "{credentials:?}"
        );
    }
    // On SkyPilot's own machine it would have been an administrator without the sign that it was forwarded.
    let own_machine = Client::new(&fake.url, &basic("alice", "wrong")).unwrap();
    let said = own_machine.get("/users/role", DEADLINE).await.unwrap();
    assert!(said.get().contains("admin"), "{said}");
    fake.with(|world| {
        let asked = world.signed.split_last().unwrap().1;
        assert!(!asked.is_empty() && asked.iter().all(|call| call.forwarded));
    });
}

#[tokio::test]
async fn a_password_with_a_colon_is_nobody_elses() {
    let (fake, source) = lab().await;
    fake.with(|world| world.people[2].password = Some("b:c".to_owned()));
    assert_eq!(
        identify(&source, &basic("bob", "b:c")).await.unwrap().name,
        "bob"
    );
    // Sent, it is the same.
    assert_eq!(identify(&source, &basic("bob:b", "c")).await, None);
}

#[tokio::test]
async fn a_server_that_asks_nobody_makes_nobody_an_administrator() {
    let fake = FakeSkyPilot::start().await;
    let source = source(&fake, Credentials::None);
    for role in [
        json!({"id": "", "name": "", "role": "admin"}),
        json!({"id": null, "name": "alice", "role": "admin"}),
        json!({"name": "alice", "role": "admin"}),
        json!([]),
        json!(null),
    ] {
        fake.with(|world| world.role = role.clone());
        for credentials in [with_password("alice"), bearer("sky_x"), cookie("a=b")] {
            assert_eq!(identify(&source, &credentials).await, None, "{role}");
        }
    }
    // It names somebody, and not who asks.
    fake.with(|world| world.role = json!({"id": "ad000000", "name": "admin", "role": "admin"}));
    assert_eq!(identify(&source, &with_password("alice")).await, None);
}

#[tokio::test]
async fn a_token_that_is_not_skypilots_is_not_shown_to_it() {
    let (fake, source) = lab().await;
    for token in ["st_0a1b_secret", "eyJhbGciOi.J9", "SKY_ci-bot", ""] {
        assert_eq!(identify(&source, &bearer(token)).await, None);
    }
    for hostile in ["sky_a\r\nX-Auth-Request-Email: admin", "sky_\0"] {
        assert_eq!(identify(&source, &bearer(hostile)).await, None);
        assert_eq!(identify(&source, &cookie(hostile)).await, None);
    }
    assert_eq!(fake.with(|world| world.signed.clone()), []);
}

#[tokio::test]
async fn not_being_able_to_ask_is_no_answer() {
    let (fake, source) = lab().await;
    let alice = with_password("alice");
    let asked = |path: &'static str, failure| {
        fake.fail(path, Some(failure));
        let (source, fake, alice) = (&source, &fake, &alice);
        async move {
            let answer = source.identify(alice).await;
            fake.fail(path, None);
            answer
        }
    };
    let large = || Failure::Value(format!("\"{}\"", "x".repeat(9 * 1024 * 1024)));
    for path in ["/users/role", "/workspaces"] {
        for failure in [
            Failure::Http(500, "Traceback"),
            Failure::Http(503, r#"{"detail":"database is slow"}"#),
            Failure::Http(502, ""),
            Failure::LostBefore,
            large(),
        ] {
            let answer = asked(path, failure.clone()).await;
            let problem = answer.expect_err(path);
            assert!(problem.status >= 500, "{path} {problem:?}");
        }
        // A login page's doorstep, which is not followed.
        for (status, body) in [(307, ""), (302, ""), (401, "\"no\"")] {
            let answer = asked(path, Failure::Http(status, body)).await;
            assert_eq!(answer.unwrap(), None, "{path} {status}");
        }
    }
    let role = asked(
        "/users/role",
        Failure::Http(403, r#"{"detail":"Forbidden"}"#),
    )
    .await;
    assert_eq!(role.unwrap(), None);
    // Known, and let in nowhere.
    let none = asked("/workspaces", Failure::Http(403, "")).await.unwrap();
    assert_eq!(none.unwrap().workspaces, Some(vec![]));
    let no_list = asked("/workspaces", Failure::Value("[1]".to_owned())).await;
    no_list.unwrap_err();
    assert_eq!(identify(&source, &alice).await.unwrap().name, "alice");
    fake.go_down();
    let problem: Problem = source.identify(&alice).await.unwrap_err();
    assert!(problem.code.starts_with("source_"), "{problem:?}");
}

/// Every call that was made with other credentials than these.
fn strangers(fake: &FakeSkyPilot, credentials: &[&Credentials]) -> Vec<Signed> {
    let known: Vec<_> = credentials.iter().filter_map(|one| one.header()).collect();
    let mine = |call: &Signed| {
        known.iter().any(|(name, value)| match *name {
            "cookie" => call.cookie.as_ref() == Some(value) && call.authorization.is_none(),
            _ => call.authorization.as_ref() == Some(value) && call.cookie.is_none(),
        })
    };
    let calls = fake.with(|world| std::mem::take(&mut world.signed));
    assert!(!calls.is_empty());
    calls.into_iter().filter(|call| !mine(call)).collect()
}

#[tokio::test]
async fn nobodys_credentials_go_with_anybody_elses_calls() {
    let (fake, _) = lab().await;
    let own = bearer(OWN);
    let client = Client::new(&fake.url, &own).unwrap();
    let identity = |name: &str| Identity {
        id: name.into(),
        name: name.into(),
    };
    let hers = cookie("_oauth2_proxy=alice");
    let his = with_password("bob");
    let alice = client.as_caller(&hers, identity("alice")).unwrap();
    let bob = alice.as_caller(&his, identity("bob")).unwrap();
    let calls = client.calls();
    for (speaker, credentials) in [
        (&alice, &hers),
        (&bob, &his),
        (&client, &own),
        (&alice, &hers),
    ] {
        speaker.get("/api/health", DEADLINE).await.unwrap();
        speaker.ask_get("/workspaces", DEADLINE).await.unwrap();
        speaker.ask("/status", json!({}), DEADLINE).await.unwrap();
        let _ = speaker
            .submit("/stop", json!({"cluster_name": "train"}))
            .await;
        drop(speaker.get_stream("/api/stream?request_id=1").await);
        assert_eq!(strangers(&fake, &[credentials]), []);
    }
    assert!(client.calls() >= calls + 20, "they are counted together");
    assert_eq!(alice.calls(), client.calls());
    // Nor does who it is: that is said in the bodies.
    fake.with(|world| {
        let said = |body: &serde_json::Value| body["env_vars"]["SKYPILOT_USER"].clone();
        let stops = world.heard.iter().filter(|(path, _)| path == "/stop");
        let names: Vec<_> = stops.map(|(_, body)| said(body)).collect();
        assert_eq!(names[..2], ["alice", "bob"]);
        assert!(names[2] != "alice" && names[2] != "bob", "{names:?}");
    });
    client
        .as_caller(&Credentials::None, identity("x"))
        .unwrap_err();
    let printed = format!("{client:?} {alice:?} {bob:?}");
    assert!(
        !printed.contains("secret") && !printed.contains("oauth2"),
        "{printed}"
    );
}

fn handover(
    name: &str,
    workspace: &str,
    caller: &Caller,
    credentials: Option<Credentials>,
) -> Handover {
    Handover {
        id: "0192/0".into(),
        action: action("cluster.stop").unwrap(),
        targets: vec![Arc::new(Entity::from(Cluster {
            name: name.into(),
            workspace: Some(workspace.into()),
            ..Cluster::default()
        }))],
        options: ActionOptions::default(),
        caller: caller.clone(),
        credentials,
        tried_at: EpochMs::now(),
    }
}

async fn handover_of(source: &SkyPilot, name: &str, credentials: Credentials) -> Handover {
    let caller = identify(source, &credentials).await.unwrap();
    handover(name, "default", &caller, Some(credentials))
}

#[tokio::test]
async fn what_a_caller_asks_for_is_its_own_request_at_skypilot() {
    let (fake, source) = lab().await;
    let bobs = handover_of(&source, "train", with_password("bob")).await;
    fake.with(|world| world.signed.clear());
    let rid = source.submit(&bobs).await.unwrap();
    let result = source.result(&bobs, &rid).await.unwrap();
    assert!(result.succeeded);
    assert_eq!(strangers(&fake, &[&with_password("bob")]), []);
    fake.with(|world| {
        assert_eq!(world.requests.last().unwrap()["user_id"], "9f9d51bc");
        assert_eq!(world.clusters[0]["status"], "STOPPED");
    });
    // Only bob and administrators are told how it ended.
    let own = Handover {
        credentials: None,
        ..bobs.clone()
    };
    assert!(source.result(&own, &rid).await.unwrap().succeeded);
    assert_eq!(strangers(&fake, &[&bearer(OWN)]), []);
    let alices = handover_of(&source, "train", with_password("alice")).await;
    assert_eq!(source.result(&alices, &rid).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn what_skypilot_refuses_a_caller_is_refused_in_its_words() {
    let (fake, source) = lab().await;
    let refused = |handover: Handover| {
        let source = &source;
        async move {
            match source.submit(&handover).await.unwrap_err() {
                HandoverError::Refused(problem) => problem,
                other => panic!("{other:?}"),
            }
        }
    };
    let veras = handover_of(&source, "train", with_password("vera")).await;
    let problem = refused(veras).await;
    assert_eq!(problem.status, 403);
    assert!(
        problem
            .to_string()
            .contains("role at SkyPilot does not allow"),
        "{problem}"
    );
    let bobs = handover_of(&source, "carol-dev", with_password("bob")).await;
    let problem = refused(bobs.clone()).await;
    assert!(
        problem.to_string().contains("access workspace 'research'"),
        "{problem}"
    );
    // Revoked since: not an administrator's, though it comes from SkyPilot's own machine.
    fake.with(|world| world.people[2].password = Some("changed".to_owned()));
    let problem = refused(bobs).await;
    assert_eq!(problem.status, 401);
    assert!(
        problem.to_string().contains("Invalid credentials"),
        "{problem}"
    );
    let bot = handover_of(&source, "train", bearer("sky_ci-bot")).await;
    fake.with(|world| world.people.retain(|person| person.name != "ci-bot"));
    let problem = refused(bot.clone()).await;
    assert!(
        problem.to_string().contains("Invalid or expired"),
        "{problem}"
    );
    assert_eq!(source.find(&bot).await.unwrap_err().status, 401);
    assert_eq!(
        source.result(&bot, &"1".into()).await.unwrap_err().status,
        401
    );
    assert!(fake.with(|world| world.requests.is_empty()));
}

#[tokio::test]
async fn a_callers_lost_call_is_found_with_its_credentials_alone() {
    let (fake, source) = lab().await;
    fake.begin("skypilot-status-refresh-daemon", "", "skypilot-system");
    let bobs = handover_of(&source, "train", with_password("bob")).await;
    assert_eq!(source.find(&bobs).await.unwrap(), Found::NotThere);
    fake.fail("/stop", Some(Failure::LostAfter));
    let error = source.submit(&bobs).await.unwrap_err();
    assert!(matches!(error, HandoverError::Uncertain(_)), "{error:?}");
    let sent = fake.with(|world| world.requests.last().unwrap()["request_id"].clone());
    let sent = Found::Accepted(sent.as_str().unwrap().into());
    assert_eq!(source.find(&bobs).await.unwrap(), sent);
    // The server itself is shown that there was one, and not what it was.
    let own = Handover {
        credentials: None,
        ..bobs.clone()
    };
    assert_eq!(source.find(&own).await.unwrap(), Found::CannotTell);
    // Alice asked for the same, and it did not arrive.
    let alices = handover_of(&source, "train", with_password("alice")).await;
    assert_eq!(source.find(&alices).await.unwrap(), Found::NotThere);
    fake.restart();
    assert_eq!(source.find(&bobs).await.unwrap(), Found::CannotTell);
}

/// What was logged, for a look at it.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn credentials_are_in_no_line_of_the_log_and_in_no_problem() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For every thread: what one of them finds that nobody listens to is remembered for all.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    tracing::callsite::rebuild_interest_cache();
    let (fake, source) = lab().await;
    let mut said = String::new();
    for credentials in [
        with_password("bob"),
        basic("bob", "secret-of-nobody"),
        bearer("sky_ci-bot"),
        cookie("_oauth2_proxy=alice"),
    ] {
        let caller = identify(&source, &credentials).await.unwrap_or_default();
        let handover = handover("carol-dev", "research", &caller, Some(credentials.clone()));
        said += &format!("{handover:?} {:?}", source.submit(&handover).await);
        said += &format!("{:?}", source.find(&handover).await);
        for failure in [Failure::Http(500, "Traceback"), Failure::LostBefore] {
            fake.fail("/users/role", Some(failure));
            said += &format!("{:?}", source.identify(&credentials).await);
        }
        fake.fail("/users/role", None);
    }
    tracing::info!("the log is looked at");
    said += &String::from_utf8_lossy(&lines.0.lock().unwrap());
    assert!(said.contains("the log is looked at"));
    for credentials in [with_password("bob"), basic("bob", "secret-of-nobody")] {
        let (_, value) = credentials.header().unwrap();
        assert!(!said.contains(value.trim_start_matches("Basic ")));
    }
    for secret in ["secret-of-", "sky_ci-bot", "_oauth2_proxy", OWN] {
        assert!(!said.contains(secret), "{secret}");
    }
}
