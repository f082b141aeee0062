//! The audit over REST and the websocket: administrators see it, and nobody else knows that it is there.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod support;

use skytower_api_client::endpoint::{Credentials, Endpoint, Origin, Secret};
use skytower_api_client::rest::{AuditQuery, Client, ClientError, ListQuery, NewRequest, path};
use skytower_api_client::session::Session;
use skytower_api_client::wire::{Change, ServerMessage};
use skytower_api_client::{Key, Kind};
use support::{Running, administrator, caller, job, start, until, upsert};

fn client(server: &Running) -> Client {
    let endpoint = Endpoint {
        url: server.url.clone(),
        credentials: Credentials::Bearer(Secret::new(&*server.token)),
        origin: Origin::Flag,
    };
    Client::new(Session::new(endpoint)).unwrap()
}

fn cancel(id: i64) -> NewRequest {
    NewRequest {
        action: "job.cancel".into(),
        targets: vec![Key::new("lab", Kind::Job, format!("{id}/0"))],
        others_confirmed: true,
        ..NewRequest::default()
    }
}

fn entries(server: &Running) -> usize {
    server.hub.read(|table| table.len(Kind::Audit))
}

/// Something that ends as soon as it is accepted is in the audit twice.
async fn written(server: &Running, requests: i64) {
    let client = client(server);
    for id in 0..requests {
        let mut row = (*job(id, "default", "over")).clone();
        if let skytower_api_client::Entity::Job(job) = &mut row {
            job.phase = skytower_api_client::Phase::Succeeded;
        }
        server.hub.commit([upsert(row.into())]);
        let name = format!("name {id}");
        let request = client.create_request(&cancel(id), &name).await.unwrap();
        assert!(request.ended_at.is_some(), "{request:?}");
    }
    let wanted = (requests as usize * 2).min(500);
    until(|| entries(server) == wanted).await;
}

#[tokio::test]
async fn the_audit_is_for_administrators() {
    let server = start().await;
    written(&server, 2).await;
    let client = client(&server);
    // An ordinary caller: refused where it is asked for, and told of nowhere else.
    let refused = [
        client
            .list(Kind::Audit, &ListQuery::default())
            .await
            .unwrap_err(),
        client
            .audit(&AuditQuery {
                before: Some(i64::MAX),
                ..AuditQuery::default()
            })
            .await
            .unwrap_err(),
        client.verify_audit().await.unwrap_err(),
    ];
    for error in refused {
        assert!(
            matches!(&error, ClientError::Problem(problem) if problem.status == 403),
            "{error:?}"
        );
    }
    let key = Key::new("skytower", Kind::Audit, 1);
    let hidden = client.detail(Kind::Audit, &key).await.unwrap_err();
    let absent = Key::new("skytower", Kind::Audit, 1_000_000);
    let nothing = client.detail(Kind::Audit, &absent).await.unwrap_err();
    let words = |error: &ClientError| error.to_string().replace("1000000", "1");
    assert_eq!(words(&hidden), words(&nothing));
    let counts = client.status().await.unwrap().counts;
    assert!(
        counts
            .values()
            .all(|kinds| !kinds.contains_key(&Kind::Audit))
    );
    let mut watching = server.connect().await;
    watching.subscribe(None).await;
    watching.next_ready().await;
    assert_eq!(watching.copy.len(Kind::Audit), 0);

    // The same connection, once its caller is an administrator, and when they no longer are.
    server.caller_is(&administrator()).await;
    watching
        .follow_until(|copy| copy.len(Kind::Audit) == 4)
        .await;
    let page = client
        .list(Kind::Audit, &ListQuery::default())
        .await
        .unwrap();
    let numbers: Vec<i64> = page
        .rows
        .iter()
        .map(|row| row.as_audit().unwrap().seq)
        .collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
    assert!(client.detail(Kind::Audit, &key).await.is_ok());
    let verdict = client.verify_audit().await.unwrap();
    assert_eq!(
        (verdict.entries, verdict.head.seq, verdict.broken),
        (4, 4, None)
    );
    let head = page.rows[0].as_audit().unwrap();
    assert_eq!(verdict.head.hash, head.hash);
    server.caller_is(&caller(None)).await;
    let messages = watching
        .follow_until(|copy| copy.len(Kind::Audit) == 0)
        .await;
    let told = messages.iter().filter_map(|message| match message {
        ServerMessage::Delta { changes, .. } => Some(changes),
        _ => None,
    });
    let more = told
        .flatten()
        .find(|change| matches!(change, Change::Upsert(row) if row.kind() == Kind::Audit));
    assert_eq!(more, None);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_longer_shown_is_still_found() {
    let server = start().await;
    server.caller_is(&administrator()).await;
    written(&server, 300).await;
    let client = client(&server);
    let mut query = AuditQuery {
        before: Some(i64::MAX),
        q: Some("result:accepted".to_owned()),
        limit: Some(70),
        ..AuditQuery::default()
    };
    let mut found = Vec::new();
    loop {
        let page = client.audit(&query).await.unwrap();
        assert!(page.rows.len() <= 70);
        found.extend(page.rows.iter().map(|row| row.as_audit().unwrap().seq));
        match page.next {
            Some(next) => query.before = Some(next.parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(found.len(), 300);
    assert!(found.is_sorted_by(|a, b| a > b), "{found:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_not_written() {
    let server = start().await;
    server.caller_is(&administrator()).await;
    let row = job(7, "default", "eve\r\n1 admin did it");
    server.hub.commit([upsert(row.clone())]);
    let body = serde_json::json!({
        "action": "job.cancel",
        "targets": [row.key()],
        "others_confirmed": true,
        "at": 1, "actor": "mallory", "actor_name": "mallory", "role": "admin", "proof": "none",
        "address": "6.6.6.6", "outcome": "succeeded", "seq": 99, "previous": "", "hash": "00",
        "caller": {"ids": ["x"], "name": "mallory", "role": "admin"},
        "asker": {"address": "6.6.6.6"},
        "created_at": 1,
    });
    let answer = reqwest::Client::new()
        .post(format!("{}{}", server.url, path::REQUESTS))
        .bearer_auth(&server.token)
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Auth-Request-Email", "mallory@example.com")
        .header("Date", "Thu, 01 Jan 1970 00:00:01 GMT")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    until(|| entries(&server) >= 1).await;
    let first = Key::new("skytower", Kind::Audit, 1);
    let row = server.hub.get(&first).unwrap();
    let entry = row.as_audit().unwrap();
    assert_eq!(entry.owner.as_ref().unwrap().name, "alice");
    assert_eq!(
        (entry.proof.as_str(), entry.address.as_str()),
        ("local", "127.0.0.1")
    );
    assert_eq!(
        (entry.status.as_str(), entry.target.as_str()),
        ("accepted", "job/7")
    );
    assert!(entry.at.0 > 1_700_000_000_000, "{entry:?}");
    let written = serde_json::to_string(&*row).unwrap();
    assert!(
        !written.contains("mallory") && !written.contains("6.6.6.6"),
        "{written}"
    );
    server.stop().await;
}
