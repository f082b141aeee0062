//! Cases of the security design, one by one.

use std::sync::Arc;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use skytower_api_client::entity::{Cluster, Owner};
use skytower_api_client::rest::path::segment;
use skytower_api_client::wire::{Caller, ClientMessage, Role, ServerMessage};
use skytower_api_client::{Entity, Key, Kind, Phase};
use tokio::sync::mpsc;

use crate::support::{Running, caller, job, start, upsert, within};

/// As long as each other: what is said of one has as many bytes as what is said of the other.
const SECRET: &str = "secret-1";
const ABSENT: &str = "absent-1";

fn cluster(id: &str, workspace: &str) -> Arc<Entity> {
    Cluster {
        key: Key::new("lab", Kind::Cluster, id),
        source: "lab".into(),
        name: id.into(),
        owner: Some(Owner {
            id: "u1".into(),
            name: "alice".into(),
        }),
        workspace: Some(workspace.into()),
        status: "UP".into(),
        phase: Phase::Running,
        ..Cluster::default()
    }
    .into()
}

fn admin() -> Caller {
    Caller {
        ids: vec!["root".into()],
        name: "root".into(),
        role: Role::Admin,
        ..Caller::default()
    }
}

/// An answer, as the bytes that came: status, headers but the time, body.
async fn ask(server: &Running, method: &str, path: &str, body: Option<Value>) -> String {
    let method = method.parse().unwrap();
    let client = reqwest::Client::new();
    let mut asked = client
        .request(method, format!("{}{path}", server.url))
        .bearer_auth(&server.token);
    if let Some(body) = body {
        asked = asked.json(&body);
    }
    let answer = within(asked.send()).await.unwrap();
    let mut headers = answer.headers().clone();
    headers.remove("date");
    let head = format!("{} {headers:?}", answer.status());
    format!("{head}\n{}", within(answer.text()).await.unwrap())
}

async fn shown(server: &Running, path: &str) -> Value {
    let answer = ask(server, "GET", path, None).await;
    serde_json::from_str(answer.split_once('\n').unwrap().1).unwrap()
}

/// A server with a cluster that is seen and one that is not, by somebody who sees `red` alone.
async fn half_seen() -> Running {
    let server = start().await;
    let rows = [cluster("visible", "red"), cluster(SECRET, "blue")];
    server.hub.commit(rows.map(upsert));
    server.caller_is(&caller(Some(&["red"]))).await;
    server
}

/// A method, a path and a body about a cluster.
type Ask<'a> = &'a dyn Fn(&str) -> (&'static str, String, Option<Value>);

#[tokio::test]
async fn case_31_the_invisible_answers_as_the_absent() {
    let server = half_seen().await;
    let key = |id: &str| format!("lab/cluster/{id}");
    let down = |id: &str, more: &[&str], dry: bool| {
        let mut targets = vec![key(id)];
        targets.extend(more.iter().map(|id| key(id)));
        Some(json!({"action": "cluster.down", "targets": targets, "dry_run": dry}))
    };
    let asks: [Ask<'_>; 10] = [
        &|id| {
            (
                "GET",
                format!("/api/v1/clusters/{}", segment(&key(id))),
                None,
            )
        },
        &|id| {
            (
                "GET",
                format!("/api/v1/clusters/{}/logs", segment(&key(id))),
                None,
            )
        },
        &|id| {
            (
                "GET",
                format!("/api/v1/clusters/{}/logs?follow=true", segment(&key(id))),
                None,
            )
        },
        &|id| {
            (
                "GET",
                format!("/api/v1/clusters/{}/logs?channel=smell", segment(&key(id))),
                None,
            )
        },
        &|id| ("GET", format!("/api/v1/clusters?q=name:{id}"), None),
        &|id| {
            (
                "GET",
                format!(
                    "/api/v1/clusters?sort=name&limit=1&cursor=0:{}",
                    segment(&key(id))
                ),
                None,
            )
        },
        &|id| {
            (
                "GET",
                format!("/api/v1/clusters?cursor=1:{}", segment(&key(id))),
                None,
            )
        },
        &|id| ("POST", "/api/v1/requests".into(), down(id, &[], false)),
        &|id| ("POST", "/api/v1/requests".into(), down(id, &[], true)),
        &|id| {
            (
                "POST",
                "/api/v1/requests".into(),
                down(id, &["none"], false),
            )
        },
    ];
    for (number, of) in asks.iter().enumerate() {
        let answer = async |id: &str| {
            let (method, path, body) = of(id);
            ask(&server, method, &path, body).await
        };
        let (secret, absent) = (answer(SECRET).await, answer(ABSENT).await);
        assert_eq!(secret.replace(SECRET, ABSENT), absent, "ask {number}");
    }
    // Beside something that is there, too: only the request's own id and time differ.
    let mut results = Vec::new();
    for id in [SECRET, ABSENT] {
        let answer = ask(
            &server,
            "POST",
            "/api/v1/requests",
            down(id, &["visible"], true),
        )
        .await;
        let row: Value = serde_json::from_str(answer.split_once('\n').unwrap().1).unwrap();
        results.push(row["results"].to_string().replace(id, ABSENT));
    }
    assert!(results[0].contains("(any more)"), "{results:?}");
    assert_eq!(results[0], results[1]);
    assert!(
        !server
            .source
            .heard()
            .iter()
            .any(|heard| heard.contains(SECRET))
    );
    server.stop().await;
}

#[tokio::test]
async fn case_31_requests_are_for_those_who_see_all_that_they_name() {
    let server = half_seen().await;
    server.caller_is(&admin()).await;
    let both = json!({
        "action": "cluster.down", "others_confirmed": true,
        "targets": ["lab/cluster/visible", format!("lab/cluster/{SECRET}")],
    });
    let made = ask(&server, "POST", "/api/v1/requests", Some(both)).await;
    let row: Value = serde_json::from_str(made.split_once('\n').unwrap().1).unwrap();
    assert_eq!(row["within"], json!(["lab/blue", "lab/red"]));
    let id = row["request_id"].as_str().unwrap().to_owned();
    let absent = uuid::Uuid::now_v7().to_string();
    for (mine, seen) in [
        (&["red"][..], false),
        (&["blue"], false),
        (&["blue", "red"], true),
    ] {
        server.caller_is(&caller(Some(mine))).await;
        let list = ask(&server, "GET", "/api/v1/requests", None).await;
        assert_eq!(list.contains(&id), seen, "{mine:?}");
        for (method, rest) in [("GET", ""), ("GET", "?wait=1ms"), ("DELETE", "")] {
            let answer = async |id: &str| {
                ask(
                    &server,
                    method,
                    &format!("/api/v1/requests/{id}{rest}"),
                    None,
                )
                .await
            };
            let (here, nowhere) = (answer(&id).await, answer(&absent).await);
            assert_eq!(
                here.replace(&id, &absent) == nowhere,
                !seen,
                "{mine:?} {method}{rest}"
            );
        }
    }
    // Whoever asked may ask what became of it, wherever it is.
    server
        .caller_is(&Caller {
            workspaces: Some(Vec::new()),
            role: Role::User,
            ..admin()
        })
        .await;
    let own = shown(&server, &format!("/api/v1/requests/{id}")).await;
    assert_eq!(own["request_id"], id);
    server.stop().await;
}

#[tokio::test]
async fn case_31_nothing_is_started_where_one_may_not_look() {
    let server = start().await;
    server.caller_is(&caller(Some(&["red"]))).await;
    let source = skytower_api_client::entity::Source {
        key: Key::new("lab", Kind::Source, "lab"),
        source: "lab".into(),
        flavour: "local".into(),
        ..Default::default()
    };
    server.hub.commit([upsert(source.into())]);
    let launch = async |workspace: &str| {
        let options =
            json!({"start": {"file": "t.yaml", "yaml": "run: x", "workspace": workspace}});
        let body = json!({
            "action": "source.launch", "targets": ["lab/source/lab"], "options": options,
        });
        ask(&server, "POST", "/api/v1/requests", Some(body)).await
    };
    server.hub.commit([upsert(cluster("a", "blue"))]);
    let (secret, absent) = (launch("blue").await, launch("pink").await);
    assert!(secret.starts_with("404"), "{secret}");
    assert_eq!(secret.replace("blue", "pink"), absent);
    let clear = json!({
        "action": "source.clear", "targets": ["lab/source/lab"], "options": {"label": "x"},
    });
    let answer = ask(&server, "POST", "/api/v1/requests", Some(clear)).await;
    assert!(answer.starts_with("403"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn case_31_to_look_at_the_invisible_does_nothing_and_says_nothing() {
    let server = half_seen().await;
    for probe in [SECRET, ABSENT] {
        let mut client = server.connect_json().await;
        client.subscribe(None).await;
        client.next_ready().await;
        let key = |id: &str| Key::new("lab", Kind::Cluster, id);
        for message in [
            ClientMessage::Refresh { key: key(probe) },
            ClientMessage::Focus { key: key(probe) },
            ClientMessage::Unfocus { key: key(probe) },
            ClientMessage::Focus { key: key(probe) },
        ] {
            client.say(&message).await;
        }
        for number in 0..31 {
            let key = key(&format!("none-{number}"));
            client.say(&ClientMessage::Focus { key }).await;
        }
        // The probe counts, whether or not it is there: here is the thirty-third.
        let key = key("one-more");
        client.say(&ClientMessage::Focus { key }).await;
        assert_eq!(client.refusal().await.code, "too_many_rows", "{probe}");
    }
    assert!(
        !server
            .source
            .heard()
            .iter()
            .any(|heard| heard.contains(SECRET))
    );
    server.stop().await;
}

#[tokio::test]
async fn case_07_a_row_is_looked_at_only_while_it_is_seen() {
    let server = half_seen().await;
    let mut client = server.connect_json().await;
    client.subscribe(None).await;
    client.next_ready().await;
    let key = Key::new("lab", Kind::Cluster, "visible");
    client.say(&ClientMessage::Focus { key: key.clone() }).await;
    let heard = async |word: String| {
        crate::support::until(|| server.source.heard().last() == Some(&word)).await;
    };
    heard(format!("focus {key}")).await;
    server.caller_is(&caller(Some(&[]))).await;
    heard(format!("unfocus {key}")).await;
    let left = client
        .follow_until(skytower_api_client::Table::is_empty)
        .await;
    assert!(
        matches!(left.last(), Some(ServerMessage::Delta { .. })),
        "{left:?}"
    );
    server.caller_is(&caller(Some(&["red"]))).await;
    heard(format!("focus {key}")).await;
    server.stop().await;
}

/// Follows the log of a row in `red`, and what then happens to the right to it.
async fn cut_by(what: impl AsyncFn(&Running)) {
    let server = start().await;
    server.hub.commit([upsert(job(1, "red", "a"))]);
    server.caller_is(&caller(Some(&["red"]))).await;
    let (say, log) = mpsc::unbounded_channel();
    *server.source.log.lock().unwrap() = Some(log);
    let path = "/api/v1/jobs/lab%2Fjob%2F1%2F0/logs?follow=true";
    let asked = reqwest::Client::new()
        .get(format!("{}{path}", server.url))
        .bearer_auth(&server.token);
    say.send("for you\n".into()).unwrap();
    let mut text = within(asked.send()).await.unwrap().bytes_stream();
    let mut read = String::new();
    while !read.contains("for you") {
        let bytes = within(text.next()).await.unwrap().unwrap();
        read += std::str::from_utf8(&bytes).unwrap();
    }
    what(&server).await;
    say.send("SECRET\n".into()).unwrap();
    // It ends, though the log does not.
    while let Some(bytes) = within(text.next()).await {
        read += std::str::from_utf8(&bytes.unwrap()).unwrap();
    }
    assert!(read.contains("you may not see this log any more"), "{read}");
    assert!(!read.contains("SECRET"), "{read}");
    server.stop().await;
}

#[tokio::test]
async fn case_33_a_log_ends_where_the_rights_to_it_do() {
    cut_by(async |server| server.caller_is(&caller(Some(&["blue"]))).await).await;
}

#[tokio::test]
async fn case_33_a_log_ends_where_its_row_goes_out_of_sight() {
    cut_by(async |server| {
        server.hub.commit([upsert(job(1, "blue", "a"))]);
    })
    .await;
}

#[tokio::test]
async fn case_47_measurements_name_nobody_and_are_for_administrators() {
    let server = half_seen().await;
    let refused = ask(&server, "GET", "/metrics", None).await;
    assert!(
        refused.starts_with("403") && refused.contains("hint"),
        "{refused}"
    );
    assert!(!refused.contains("skytower_rows"));
    server.caller_is(&admin()).await;
    let told = ask(&server, "GET", "/metrics", None).await;
    assert!(told.starts_with("200"), "{told}");
    for word in [SECRET, "visible", "alice", "root"] {
        assert!(!told.contains(word), "{word}: {told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn case_31_the_counts_of_the_status_are_of_what_is_seen() {
    let server = half_seen().await;
    let counts =
        async || shown(&server, "/api/v1/status").await["counts"]["lab"]["cluster"].clone();
    assert_eq!(counts().await, 1);
    server.caller_is(&admin()).await;
    assert_eq!(counts().await, 2);
    server.stop().await;
}
