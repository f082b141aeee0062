//! The watching websocket of a real server.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod support;

use futures_util::SinkExt as _;
use skytower_api_client::Kind;
use skytower_api_client::codec::Encoding;
use skytower_api_client::policy::View;
use skytower_api_client::wire::{
    Caller, ClientMessage, Cursor, SUBPROTOCOL_JSON, SUBPROTOCOL_ZSTD, ServerMessage,
};
use support::{caller, job, remove, rows, start, until, upsert};
use tokio_tungstenite::tungstenite::{Error, Message};

fn status(error: Error) -> (u16, String) {
    match error {
        Error::Http(response) => {
            let body = response.body().clone().unwrap_or_default();
            (
                response.status().as_u16(),
                String::from_utf8_lossy(&body).into_owned(),
            )
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_client_sees_what_is_there_and_then_every_change_in_both_encodings() {
    let server = start().await;
    server
        .hub
        .commit((0..2500).map(|id| upsert(job(id, "default", "a"))));
    let mut zstd = server.connect().await;
    let mut json = server.connect_json().await;
    assert_eq!(zstd.hello.you.name, "alice");
    for client in [&mut zstd, &mut json] {
        client.subscribe(None).await;
        let messages = client.follow_until(|copy| copy.revision() == 1).await;
        assert!(matches!(
            messages.last(),
            Some(ServerMessage::Ready { revision: 1 })
        ));
        assert_eq!(client.copy.len(Kind::Job), 2500);
    }
    assert_eq!(*server.hub.watchers().borrow(), 2);
    server.hub.commit([
        upsert(job(7, "default", "b")),
        remove(&job(8, "default", "a")),
    ]);
    for client in [&mut zstd, &mut json] {
        client.follow_until(|copy| copy.revision() == 2).await;
        assert_eq!(rows(&client.copy), server.hub.read(rows));
    }
    drop(zstd);
    until(|| *server.hub.watchers().borrow() == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_resumes_where_it_was_and_starts_over_after_a_restart() {
    let server = start().await;
    server
        .hub
        .commit((0..10).map(|id| upsert(job(id, "default", "a"))));
    let mut first = server.connect().await;
    first.subscribe(None).await;
    first.follow_until(|copy| copy.revision() == 1).await;
    let cursor = first.cursor();
    let copy = std::mem::take(&mut first.copy);
    drop(first);
    server.hub.commit([
        upsert(job(3, "default", "b")),
        remove(&job(4, "default", "a")),
    ]);

    let mut again = server.connect().await;
    again.copy = copy;
    again.subscribe(Some(cursor.clone())).await;
    let messages = again.follow_until(|copy| copy.revision() == 2).await;
    assert!(
        matches!(&messages[..], [ServerMessage::Delta { since: 1, changes, .. }] if changes.len() == 2),
        "{messages:?}"
    );
    assert_eq!(rows(&again.copy), server.hub.read(rows));

    let folder = server.home.clone();
    let copy = std::mem::take(&mut again.copy);
    drop(again);
    server.stop().await;
    let server = support::start_in(folder, None).await.unwrap();
    server.hub.commit([upsert(job(99, "default", "new life"))]);
    let mut after = server.connect().await;
    after.copy = copy;
    assert_ne!(after.hello.epoch, cursor.epoch);
    after
        .subscribe(Some(Cursor {
            revision: 2,
            ..cursor
        }))
        .await;
    after.follow_until(|copy| copy.revision() == 1).await;
    assert_eq!(rows(&after.copy), server.hub.read(rows));
    server.stop().await;
}

#[tokio::test]
async fn rights_that_change_take_effect_on_the_open_connection_and_nothing_else_leaks() {
    let server = start().await;
    server
        .source
        .caller
        .send_replace(Some(caller(Some(&["red"]))));
    until(|| {
        server
            .source
            .caller
            .borrow()
            .as_ref()
            .is_some_and(|c| c.workspaces.is_some())
    })
    .await;
    server.hub.commit([
        upsert(job(1, "red", "one")),
        upsert(job(2, "blue", "SECRET-two")),
    ]);
    // The merged caller reaches the door a moment after the source has said it.
    let mut client = loop {
        let client = server.connect_json().await;
        if client.hello.you.workspaces.is_some() {
            break client;
        }
    };
    client.subscribe(None).await;
    let mut heard = client.follow_until(|copy| copy.revision() == 1).await;
    assert_eq!(client.copy.len(Kind::Job), 1);

    // A row moves out, another departs unseen, a third moves in.
    server.hub.commit([upsert(job(1, "blue", "SECRET-one"))]);
    heard.extend(
        client
            .follow_until(skytower_api_client::Table::is_empty)
            .await,
    );
    server.hub.commit([remove(&job(2, "blue", ""))]);
    server.hub.commit([upsert(job(3, "red", "three"))]);
    heard.extend(client.follow_until(|copy| copy.len(Kind::Job) == 1).await);
    let heard = serde_json::to_string(&heard).unwrap();
    assert!(!heard.contains("SECRET"), "{heard}");
    assert!(!heard.contains("lab/job/2/0"), "{heard}");

    let revision = server.hub.revision();
    server
        .source
        .caller
        .send_replace(Some(caller(Some(&["blue"]))));
    client
        .follow_until(|copy| {
            copy.all()
                .all(|row| row.workspace().is_some_and(|w| w == "blue"))
                && !copy.is_empty()
        })
        .await;
    assert_eq!(server.hub.revision(), revision);
    assert_eq!(client.copy.revision(), revision);
    assert_eq!(client.copy.len(Kind::Job), 1);
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_read_gets_the_present_value_and_few_frames() {
    let server = start().await;
    let mut client = server.connect().await;
    client.subscribe(None).await;
    client.next_ready().await;
    // Larger than all buffers on the way together, so that the connection is blocked for certain.
    let noise = |round: usize| {
        (0..2000).map(move |id| {
            let seed = (round * 2000 + id) as u64;
            let random: String = (0..40)
                .map(|i| {
                    format!(
                        "{:016x}",
                        (seed * 41 + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    )
                })
                .collect();
            upsert(job(id as i64 + 10, "default", &random))
        })
    };
    for round in 0..8 {
        server.hub.commit(noise(round));
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    for value in 1..=1000 {
        server
            .hub
            .commit([upsert(job(1, "default", &format!("v{value}")))]);
        tokio::task::yield_now().await;
    }
    let wanted = server.hub.revision();
    let messages = client.follow_until(|copy| copy.revision() == wanted).await;
    let about = |message: &&ServerMessage| {
        matches!(message, ServerMessage::Delta { changes, .. }
            if changes.iter().any(|change| change.key().as_str() == "lab/job/1/0"))
    };
    let frames = messages.iter().filter(about).count();
    assert!((1..=3).contains(&frames), "{frames} frames for one row");
    assert_eq!(rows(&client.copy), server.hub.read(rows));
    server.stop().await;
}

#[tokio::test]
async fn looking_is_counted_over_all_connections_and_ends_with_them() {
    let server = start().await;
    let row = job(1, "default", "a");
    server.hub.commit([upsert(row.clone())]);
    let key = row.key().clone();
    let mut one = server.connect().await;
    let mut two = server.connect().await;
    for client in [&mut one, &mut two] {
        client.subscribe(None).await;
        client.say(&ClientMessage::Focus { key: key.clone() }).await;
        client.say(&ClientMessage::Focus { key: key.clone() }).await;
        client
            .say(&ClientMessage::Refresh { key: key.clone() })
            .await;
        // Answered in order: what came before was heard.
        client.follow_until(|copy| copy.revision() == 1).await;
    }
    until(|| {
        server
            .source
            .heard()
            .iter()
            .any(|word| word.starts_with("refresh"))
    })
    .await;
    one.say(&ClientMessage::Unfocus { key: key.clone() }).await;
    drop(one);
    until(|| *server.hub.watchers().borrow() == 1).await;
    assert!(!server.source.heard().contains(&format!("unfocus {key}")));
    drop(two);
    until(|| server.source.heard().contains(&format!("unfocus {key}"))).await;
    let heard = server.source.heard();
    let focused = heard
        .iter()
        .filter(|word| word.starts_with("focus"))
        .count();
    assert_eq!(focused, 1, "{heard:?}");
    server.stop().await;
}

#[tokio::test]
async fn equal_views_share_the_bytes_and_they_are_made_once() {
    let server = start().await;
    server
        .hub
        .commit((0..10).map(|id| upsert(job(id, "default", "a"))));
    let view = View::of(&caller(Some(&["default"])), &[]);
    let before = server.hub.encodes();
    let one = server.hub.frames(&view, Encoding::Zstd, None);
    let other = Caller {
        name: "bob".into(),
        ..caller(Some(&["default"]))
    };
    let two = server
        .hub
        .frames(&View::of(&other, &[]), Encoding::Zstd, None);
    assert!(
        one.frames
            .iter()
            .zip(two.frames.iter())
            .all(|(a, b)| a.as_ptr() == b.as_ptr())
    );
    assert_eq!(server.hub.encodes() - before, one.frames.len() as u64);
    // Cursors that lead nowhere get the same snapshot, not one each.
    server.hub.frames(&view, Encoding::Zstd, Some(17));
    server.hub.frames(&view, Encoding::Zstd, Some(18));
    assert_eq!(server.hub.encodes() - before, one.frames.len() as u64);
    server.stop().await;
}

#[tokio::test]
async fn garbage_gets_a_sentence_and_a_close() {
    let server = start().await;
    for (text, code) in [
        ("{", "bad_message"),
        (r#"{"type":"focus"}"#, "bad_message"),
        (r#"{"type":"focus","key":"lab/job/1/0"}"#, "no_subscription"),
        (&"x".repeat(70_000), "too_large"),
    ] {
        let mut client = server.connect_json().await;
        client
            .socket
            .send(Message::text(text.to_owned()))
            .await
            .unwrap();
        assert_eq!(client.refusal().await.code, code);
    }
    let mut client = server.connect_json().await;
    client
        .socket
        .send(Message::text(r#"{"type":"dance"}"#))
        .await
        .unwrap();
    client.subscribe(None).await;
    client.next_ready().await;
    client.subscribe(None).await;
    assert_eq!(client.refusal().await.code, "subscribed_twice");
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let server = start().await;
    let token = server.token.clone();
    let refused = async |protocol, token: Option<&str>, origin| {
        status(
            server
                .handshake(protocol, token, origin)
                .await
                .err()
                .unwrap(),
        )
    };
    let (code, body) = refused(Some(SUBPROTOCOL_ZSTD), Some("wrong"), None).await;
    assert_eq!(code, 401);
    assert!(
        body.contains("not_signed_in") && body.contains("hint"),
        "{body}"
    );
    assert_eq!(refused(Some(SUBPROTOCOL_ZSTD), None, None).await.0, 401);
    let (code, body) = refused(
        Some(SUBPROTOCOL_JSON),
        Some(&token),
        Some("http://evil.example"),
    )
    .await;
    assert_eq!(code, 403);
    assert!(body.contains("foreign_origin"), "{body}");
    let (code, body) = refused(Some("chat"), Some(&token), None).await;
    assert_eq!(code, 400);
    assert!(body.contains(SUBPROTOCOL_JSON), "{body}");
    let own = server.url.clone();
    assert!(
        server
            .handshake(Some(SUBPROTOCOL_JSON), Some(&token), Some(&own))
            .await
            .is_ok()
    );
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_goodbye() {
    let server = start().await;
    let mut client = server.connect().await;
    client.subscribe(None).await;
    client.next_ready().await;
    server.stop.cancel();
    let closed = client.frame().await;
    assert!(
        matches!(&closed, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1001),
        "{closed:?}"
    );
    server.stop().await;
}
