//! REST, and the life of a server, over plain connections.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use skytower_api_client::Kind;
use skytower_api_client::rest::path;
use skytower_api_client::wire::{Caller, Role};
use skytower_server::home;
use support::{Running, caller, job, start, start_in, until, upsert, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One request over a connection of its own: the head and the body of the answer.
async fn ask(
    server: &Running,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let host = if headers.contains("Host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A refused body may be cut off by the answer.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("no answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

async fn get(server: &Running, path: &str) -> (u16, serde_json::Value) {
    let token = format!("Authorization: Bearer {}\r\n", server.token);
    let (status, head, body) = ask(server, "GET", path, &token, "").await;
    assert_eq!(
        status >= 400,
        head.contains("application/problem+json"),
        "{head}"
    );
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[tokio::test]
async fn health_tells_strangers_only_what_it_is() {
    let server = start().await;
    let (status, _, body) = ask(&server, "GET", path::HEALTH, "", "").await;
    assert_eq!(status, 200);
    assert!(
        body.contains("\"skytower\"") && body.contains("needs_auth"),
        "{body}"
    );
    assert!(!body.contains("epoch") && !body.contains("pid"), "{body}");
    let (status, health) = get(&server, path::HEALTH).await;
    assert_eq!((status, &health["status"]), (200, &"healthy".into()));
    assert_eq!(health["pid"], std::process::id());
    assert_eq!(health["user"]["name"], "alice");
    let (_, answer) = get(&server, "/api/v1/status").await;
    assert_eq!(answer["server"]["epoch"], **server.hub.epoch());
    server.stop().await;
}

#[tokio::test]
async fn lists_are_narrowed_sorted_and_paged() {
    let server = start().await;
    server
        .hub
        .commit((0..25).map(|id| upsert(job(id, "default", &format!("n{:02}", id % 5)))));
    let mut found = Vec::new();
    let mut path = "/api/v1/jobs?sort=name&limit=7".to_owned();
    loop {
        let (status, page) = get(&server, &path).await;
        assert_eq!(status, 200, "{page}");
        let rows = page["rows"].as_array().unwrap();
        assert!(rows.len() <= 7);
        found.extend(
            rows.iter()
                .map(|row| row["name"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => {
                path = format!(
                    "/api/v1/jobs?sort=name&limit=7&cursor={}",
                    path::segment(next)
                );
            }
            None => break,
        }
    }
    assert_eq!(found.len(), 25);
    assert!(found.is_sorted(), "{found:?}");
    let (_, page) = get(&server, "/api/v1/jobs?q=name:n03").await;
    assert_eq!(page["rows"].as_array().unwrap().len(), 5);
    let (_, one) = get(
        &server,
        &path::detail(Kind::Job, job(3, "default", "").key()),
    )
    .await;
    assert_eq!(
        (&one["row"]["job_id"], &one["yaml"]),
        (&3.into(), &"run: true\n".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let server = start().await;
    server.hub.commit([upsert(job(1, "blue", "SECRET"))]);
    for (path, status) in [
        ("/nowhere", 404),
        ("/api/v1/unicorns", 404),
        ("/api/v1/jobs/lab%2Fjob%2F9%2F0", 404),
        ("/api/v1/jobs?sort=smell", 400),
        ("/api/v1/jobs?limit=many", 400),
        ("/api/v1/jobs?cursor=x", 400),
        ("/api/v1/jobs?q=smell:bad", 400),
        ("/api/v1/watch", 400),
    ] {
        let (got, problem) = get(&server, path).await;
        assert_eq!(got, status, "{path} {problem}");
        assert!(
            problem["code"].is_string() && problem["detail"].is_string(),
            "{problem}"
        );
    }
    let token = format!("Authorization: Bearer {}\r\n", server.token);
    let (status, head, _) = ask(&server, "PATCH", "/api/v1/jobs", &token, "").await;
    assert_eq!(status, 405);
    assert!(head.contains("application/problem+json"));
    for headers in [
        "Authorization: Bearer no\r\n",
        "Authorization: Basic abc\r\n",
        "",
    ] {
        assert_eq!(
            ask(&server, "GET", "/api/v1/jobs", headers, "").await.0,
            401
        );
    }
    let rebound = format!("Host: evil.example\r\n{token}");
    assert_eq!(
        ask(&server, "GET", "/api/v1/jobs", &rebound, "").await.0,
        421
    );
    let foreign = format!("Origin: http://evil.example\r\n{token}");
    assert_eq!(
        ask(&server, "GET", "/api/v1/jobs", &foreign, "").await.0,
        403
    );

    server
        .source
        .caller
        .send_replace(Some(caller(Some(&["red"]))));
    within(async {
        while get(&server, "/api/v1/jobs").await.1["rows"] != serde_json::json!([]) {}
    })
    .await;
    let (status, problem) = get(&server, "/api/v1/jobs/lab%2Fjob%2F1%2F0").await;
    assert!(
        status == 404 && !problem.to_string().contains("SECRET"),
        "{problem}"
    );
    server.stop().await;
}

#[tokio::test]
async fn measurements_are_for_administrators() {
    let server = start().await;
    server.hub.commit([upsert(job(1, "default", "a"))]);
    assert_eq!(ask(&server, "GET", "/metrics", "", "").await.0, 401);
    let token = format!("Authorization: Bearer {}\r\n", server.token);
    let administrator = Caller {
        role: Role::Admin,
        ..caller(None)
    };
    server.caller_is(&administrator).await;
    let (_, _, body) = ask(&server, "GET", "/metrics", &token, "").await;
    for line in [
        "skytower_revision 1",
        "skytower_rows{kind=\"job\"} 1",
        "skytower_upstream_calls_total{source=\"lab\"} 7",
    ] {
        assert!(body.lines().any(|have| have == line), "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_home_has_one_server_which_leaves_nothing_behind() {
    let server = start().await;
    let folder = server.home.clone();
    until(|| home::card(folder.path()).is_some()).await;
    let card = home::card(folder.path()).unwrap();
    assert_eq!((&card.url, card.pid), (&server.url, std::process::id()));
    let error = start_in(folder.clone(), None)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    server.stop().await;
    assert_eq!(home::card(folder.path()), None);
    start_in(folder, None).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_server_ends_by_itself_when_nobody_watches() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let server = start_in(folder, Some(Duration::from_millis(300)))
        .await
        .unwrap();
    let mut client = server.connect().await;
    client.subscribe(None).await;
    client.next_ready().await;
    until(|| *server.hub.watchers().borrow() == 1).await;
    assert!(!server.ended.is_finished());
    drop(client);
    within(server.ended).await.unwrap().unwrap();
}
