//! People with accounts, and what is done with their names, tokens and requests.

use std::sync::Arc;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin, Secret};
use skytower_api_client::rest::{AuditQuery, Client, ListQuery, NewRequest, path};
use skytower_api_client::session::Session;
use skytower_api_client::{Key, Kind};
use skytower_server::SourceConfig;
use skytower_server::config::ActAs;
use tempfile::TempDir;

use crate::fake_skypilot::{FakeSkyPilot, cluster};
use crate::support::{Running, job, start_team, start_team_in, start_with, until, upsert, within};

/// One connection more to a server.
pub(crate) fn http_from(address: &str) -> reqwest::Client {
    let address: std::net::IpAddr = address.parse().unwrap();
    let http = reqwest::Client::builder().no_proxy();
    http.local_address(address).build().unwrap()
}

/// What is answered: the status, and the body where it is JSON.
pub(crate) async fn told(request: RequestBuilder) -> (u16, Value) {
    let answer = within(request.send()).await.unwrap();
    let status = answer.status().as_u16();
    let body = within(answer.bytes()).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// What the server's own token is answered, which may do everything.
pub(crate) async fn as_local(
    server: &Running,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let mut request = http_from("127.0.0.1")
        .request(method, format!("{}{path}", server.url))
        .bearer_auth(&server.token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    told(request).await
}

/// Somebody new who has a token and no password.
async fn token_of(server: &Running, name: &str) -> String {
    let user = json!({"name": name, "role": "user", "service": true});
    let (status, answer) = as_local(server, Method::POST, path::USERS, Some(user)).await;
    assert_eq!(status, 201, "{answer}");
    let token = json!({"name": "a", "user": name});
    let (status, answer) = as_local(server, Method::POST, path::TOKENS, Some(token)).await;
    assert_eq!(status, 201, "{answer}");
    answer["token"].as_str().unwrap().to_owned()
}

/// A client on a connection of its own.
fn client(server: &Running, token: &str) -> Client {
    let endpoint = Endpoint {
        url: server.url.clone(),
        credentials: Credentials::Bearer(Secret::new(token)),
        origin: Origin::Flag,
    };
    Client::new(Session::new(endpoint)).unwrap()
}

/// A `SkyPilot` at which nothing ends before the test lets it.
async fn holding() -> FakeSkyPilot {
    let fake = FakeSkyPilot::start().await;
    fake.with(|world| {
        world.hold_actions = true;
        world.clusters = vec![cluster("dev", "hash-1", "bob")];
    });
    fake
}

/// A server for a team that acts there for everybody.
async fn before(fake: &FakeSkyPilot, folder: &Arc<TempDir>) -> Running {
    let url = fake.url.clone();
    let started = start_with(folder.clone(), |config| {
        config.accounts = true;
        config.sources = vec![SourceConfig {
            sign_in: false,
            act_as: ActAs::Server,
            ..SourceConfig::new("prod", url, Credentials::None)
        }];
    });
    started.await.unwrap()
}

fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn down(cluster: &Key) -> NewRequest {
    NewRequest {
        action: "cluster.down".into(),
        targets: vec![cluster.clone()],
        others_confirmed: true,
        ..NewRequest::default()
    }
}

/// The id of a request that was answered.
pub(crate) fn request_id(answer: &Value) -> String {
    let key: Key = serde_json::from_value(answer["key"].clone()).unwrap();
    key.id().to_owned()
}

/// Waits until somebody sees the cluster: its key.
async fn sees_it(client: &Client) -> Key {
    let seen = async {
        loop {
            let list = client.list(Kind::Cluster, &ListQuery::default()).await;
            if let Some(row) = list.unwrap().rows.first() {
                break row.key().clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within(seen).await
}

/// Waits until `SkyPilot` has been asked to end it: its id of that.
async fn asked(fake: &FakeSkyPilot) -> String {
    until(|| fake.calls("/down") > 0).await;
    fake.with(|world| {
        let down = world.requests.iter().find(|row| row["name"] == "sky.down");
        down.unwrap()["request_id"].as_str().unwrap().to_owned()
    })
}

#[tokio::test]
async fn case_08_what_was_accepted_of_somebody_is_finished_though_they_are_disabled_meanwhile() {
    let fake = holding().await;
    let server = before(&fake, &folder()).await;
    let token = token_of(&server, "alice").await;
    let alice = client(&server, &token);
    let dev = sees_it(&alice).await;
    let accepted = alice.create_request(&down(&dev), "before").await.unwrap();
    let upstream = asked(&fake).await;
    let disable = Some(json!({"disabled": true}));
    let (status, _) = as_local(&server, Method::PATCH, &path::user("alice"), disable).await;
    assert_eq!(status, 200);
    // Nothing more of them: neither new nor a look at what they have asked for.
    for refused in [
        alice.create_request(&down(&dev), "after").await.err(),
        alice.request(accepted.key.id(), None).await.err(),
    ] {
        let said = refused.expect("somebody disabled was let in").to_string();
        assert!(said.contains("who you are"), "{said}");
    }
    fake.release(&upstream);
    let local = client(&server, &server.token);
    let wait = std::time::Duration::from_secs(30);
    let ended = local.request(accepted.key.id(), Some(wait)).await.unwrap();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    assert_eq!(fake.calls("/down"), 1);
    let page = local.audit(&AuditQuery::default()).await.unwrap();
    let mut written = Vec::new();
    for row in page.rows.iter().rev() {
        let entry = row.as_audit().unwrap();
        if entry.action == "cluster.down" {
            let name = entry.owner.as_ref().unwrap().name.to_string();
            written.push((name, entry.status.to_string(), entry.target.to_string()));
        }
    }
    let of_alice = |status: &str| {
        let words = ["alice", status, "cluster/dev of bob"].map(str::to_owned);
        words.into()
    };
    assert_eq!(written, [of_alice("accepted"), of_alice("succeeded")]);
    server.stop().await;
}

#[tokio::test]
async fn case_10_what_was_captured_and_is_sent_again_is_the_same_request() {
    let (fake, folder) = (holding().await, folder());
    let server = before(&fake, &folder).await;
    let token = token_of(&server, "alice").await;
    let alice = client(&server, &token);
    let dev = sees_it(&alice).await;
    let captured = |server: &Running| {
        http_from("127.0.0.1")
            .post(format!("{}{}", server.url, path::REQUESTS))
            .bearer_auth(&token)
            .header("Idempotency-Key", "captured")
    };
    let replay = async |server: &Running| {
        let (status, answer) = told(captured(server).json(&down(&dev))).await;
        assert_eq!(status, 202, "{answer}");
        request_id(&answer)
    };
    let first = replay(&server).await;
    let upstream = asked(&fake).await;
    assert_eq!(replay(&server).await, first);
    fake.release(&upstream);
    let wait = std::time::Duration::from_secs(30);
    let ended = alice.request(&first, Some(wait)).await.unwrap();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    assert_eq!(replay(&server).await, first);
    let other = NewRequest {
        action: "cluster.stop".into(),
        ..down(&dev)
    };
    let (status, answer) = told(captured(&server).json(&other)).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (422, Some("idempotency_key_reused"))
    );
    server.stop().await;
    // The next life knows it too.
    let server = before(&fake, &folder).await;
    assert_eq!(replay(&server).await, first);
    assert_eq!(fake.calls("/down"), 1);
    server.stop().await;
}

/// What ends a word, a string, a pattern or a line where somebody pastes it into a statement.
const INJECTED: [&str; 8] = [
    "alice' OR '1'='1",
    "alice\"; DROP TABLE users; --",
    "a%",
    "alice\0",
    "'",
    "\\",
    "$1?:x@y;`",
    "alice/*",
];

#[tokio::test]
async fn case_39_what_means_something_to_a_database_is_refused_or_a_word_like_any_other() {
    let (server, password) = start_team().await;
    let token = token_of(&server, "alice").await;
    for name in INJECTED {
        let user = json!({"name": name, "role": "user", "service": true});
        let workspace = json!({"name": name});
        for (path, body) in [(path::USERS, user), (path::WORKSPACES, workspace)] {
            let (status, answer) = as_local(&server, Method::POST, path, Some(body)).await;
            assert_eq!(status, 422, "{name:?} {answer}");
        }
        // Nobody is found by it, or changed.
        for path in [path::user(name), path::workspace(name), path::token(name)] {
            for method in [Method::GET, Method::PATCH, Method::DELETE] {
                let body = (method == Method::PATCH).then(|| json!({}));
                let (status, answer) = as_local(&server, method.clone(), &path, body).await;
                assert!([404, 405].contains(&status), "{method} {path} {answer}");
            }
        }
        let basic = http_from("127.0.0.1").get(format!("{}{}", server.url, path::STATUS));
        let (status, _) = told(basic.basic_auth(name, Some(password.expose()))).await;
        assert!([401, 429].contains(&status), "{name:?} {status}");
        // A token may be called whatever is one line: it is a word, and no more.
        let body = json!({"name": name, "user": "alice"});
        let (status, answer) = as_local(&server, Method::POST, path::TOKENS, Some(body)).await;
        if name.contains('\0') {
            assert_eq!(status, 422, "{answer}");
        } else {
            assert_eq!(
                (status, &answer["info"]["name"]),
                (201, &name.into()),
                "{answer}"
            );
        }
    }
    // `_` and `%` stand for themselves.
    token_of(&server, "a_b").await;
    let (status, _) = as_local(&server, Method::GET, &path::user("axb"), None).await;
    assert_eq!(status, 404);
    server.hub.commit(
        ["a_b", "axb", "a%b", "it's"]
            .iter()
            .zip(1..)
            .map(|(name, id)| upsert(job(id, "default", name))),
    );
    let found = async |list: &str, q: &str| {
        let q = path::segment(q);
        let (status, page) = as_local(&server, Method::GET, &format!("{list}q={q}"), None).await;
        let rows = page["rows"].as_array().map(Vec::len);
        (status, rows.unwrap_or_default())
    };
    for (q, rows) in [
        ("name:a_b", 1),
        ("name:a%b", 1),
        ("a_", 1),
        ("it's", 1),
        ("%", 1),
    ] {
        assert_eq!(found("/api/v1/jobs?", q).await, (200, rows), "{q}");
    }
    for q in INJECTED {
        for list in [
            "/api/v1/jobs?",
            "/api/v1/audit?",
            "/api/v1/audit?before=1000000&",
        ] {
            let (status, rows) = found(list, q).await;
            assert!([200, 400].contains(&status), "{list} {q:?} {status}");
            assert!(!list.contains("jobs") || rows <= 1, "{q:?} {rows}");
        }
    }
    // All is there, and as it was, also when it is read again from the disk.
    let folder = server.home.clone();
    server.stop().await;
    let (server, _) = start_team_in(folder).await;
    let names = async |path: &str| {
        let (_, all) = as_local(&server, Method::GET, path, None).await;
        let mut names: Vec<String> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(path::USERS).await, ["a_b", "alice", "skytower"]);
    let tokens = names(path::TOKENS).await;
    assert!(
        INJECTED
            .iter()
            .all(|name| name.contains('\0') || tokens.contains(&(*name).to_owned()))
    );
    let (_, verdict) = as_local(&server, Method::GET, path::AUDIT_VERIFY, None).await;
    assert_eq!(verdict["broken"], Value::Null, "{verdict}");
    let status = http_from("127.0.0.1").get(format!("{}{}", server.url, path::STATUS));
    assert_eq!(told(status.bearer_auth(&token)).await.0, 200);
    server.stop().await;
}
