//! Accounts, tokens and workspaces of a server for a team, over sockets. Names begin with the case of the
//! project's list of attacks and faults that a test is about.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod support;

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::rest::path;
use skytower_api_client::wire::{CLOSE_SIGNED_OUT, Role, SUBPROTOCOL_ZSTD, ServerMessage};
use skytower_api_client::{Key, Kind};
use support::{Running, Watching, job, start_team, start_team_in, upsert, within};
use tokio_tungstenite::tungstenite::Message;

const ALICE: &str = "correct horse battery";

/// Somebody who asks.
struct Who(Credentials);

impl Who {
    fn password(user: &str, password: &str) -> Self {
        Self(Credentials::Basic {
            user: user.to_owned(),
            password: Secret::new(password),
        })
    }

    fn token(token: &str) -> Self {
        Self(Credentials::Bearer(Secret::new(token)))
    }

    fn local(server: &Running) -> Self {
        Self::token(&server.token)
    }
}

async fn send(
    server: &Running,
    who: &Who,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> reqwest::Response {
    send_from("127.0.0.1", server, who, method, path, body).await
}

async fn send_from(
    address: &str,
    server: &Running,
    who: &Who,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> reqwest::Response {
    let address: std::net::IpAddr = address.parse().unwrap();
    let http = reqwest::Client::builder().no_proxy();
    let http = http.local_address(address).build().unwrap();
    let mut request = http.request(method, format!("{}{path}", server.url));
    if let Some((name, value)) = who.0.header() {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    within(request.send()).await.unwrap()
}

async fn ask(
    server: &Running,
    who: &Who,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let answer = send(server, who, method, path, body).await;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn status(server: &Running, who: &Who) -> u16 {
    ask(server, who, Method::GET, path::STATUS, None).await.0
}

async fn add(server: &Running, name: &str, role: &str, password: &str) -> Who {
    let body = json!({"name": name, "role": role, "password": password});
    let local = Who::local(server);
    let (status, answer) = ask(server, &local, Method::POST, path::USERS, Some(body)).await;
    assert_eq!(status, 201, "{answer}");
    Who::password(name, password)
}

async fn token(server: &Running, who: &Who, body: Value) -> (String, String) {
    let (status, answer) = ask(server, who, Method::POST, path::TOKENS, Some(body)).await;
    assert_eq!(status, 201, "{answer}");
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    (word(&answer["info"]["id"]), word(&answer["token"]))
}

async fn change(server: &Running, path: &str, body: Value) {
    let local = Who::local(server);
    let (status, answer) = ask(server, &local, Method::PATCH, path, Some(body)).await;
    assert_eq!(status, 200, "{answer}");
}

async fn watch(server: &Running, token: &str) -> Watching {
    let socket = server
        .handshake(Some(SUBPROTOCOL_ZSTD), Some(token), None)
        .await
        .unwrap();
    let mut watching = Watching::begin(socket).await;
    watching.subscribe(None).await;
    watching.next_ready().await;
    watching
}

/// Whatever comes until the end, and the code of the end.
async fn until_closed(mut watching: Watching) -> (Vec<Message>, u16) {
    let mut frames = Vec::new();
    loop {
        match within(watching.socket.next()).await {
            Some(Ok(Message::Close(Some(close)))) => return (frames, close.code.into()),
            Some(Ok(frame)) => frames.push(frame),
            other => panic!("it ended without a word: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_first_administrator_is_made_once_and_lets_others_in() {
    let (server, password) = start_team().await;
    let admin = Who::password("skytower", password.expose());
    let (code, health) = ask(&server, &admin, Method::GET, path::HEALTH, None).await;
    assert_eq!((code, &health["user"]["role"]), (200, &"admin".into()));
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, health) = ask(&server, &alice, Method::GET, path::HEALTH, None).await;
    assert_eq!(health["user"]["name"], "alice");
    assert_eq!(health["user"]["workspaces"], json!(["local/default"]));
    let folder = server.home.clone();
    server.stop().await;
    let (server, again) = start_team_in(folder).await;
    assert_eq!(again.expose(), "", "another one was made");
    assert_eq!(status(&server, &alice).await, 200);
    assert_eq!(status(&server, &admin).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn case_05_whatever_is_wrong_with_a_token_the_answer_is_the_same() {
    let (server, _) = start_team().await;
    let (other, _) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, good) = token(&server, &alice, json!({"name": "good"})).await;
    let (id, revoked) = token(&server, &alice, json!({"name": "revoked"})).await;
    let gone = ask(&server, &alice, Method::DELETE, &path::token(&id), None).await;
    assert_eq!(gone.0, 204);
    let (_, short) = token(&server, &alice, json!({"name": "short", "expires": "20ms"})).await;
    let elsewhere = add(&other, "alice", "user", ALICE).await;
    let (_, foreign) = token(&other, &elsewhere, json!({"name": "good"})).await;
    let local = &other.token;
    let (start, end) = good.split_at(20);
    let wrong = [
        revoked,
        foreign,
        local.clone(),
        good[..good.len() - 1].to_owned(),
        format!("{start}0{}", &end[1..]),
        "st_".to_owned(),
        "sky_abc".to_owned(),
        "x".repeat(5000),
    ];
    let short = Who::token(&short);
    while status(&server, &short).await == 200 {
        tokio::task::yield_now().await;
    }
    let expected = ask(&server, &short, Method::GET, path::STATUS, None).await;
    assert_eq!(expected.0, 401);
    for wrong in &wrong {
        let who = Who::token(wrong);
        let answer = ask(&server, &who, Method::GET, path::STATUS, None).await;
        assert_eq!(answer, expected, "{}", &wrong[..wrong.len().min(20)]);
        let refused = server
            .handshake(Some(SUBPROTOCOL_ZSTD), Some(wrong), None)
            .await;
        assert!(refused.is_err());
    }
    let wrong = Who::password("alice", "correct horse batteries");
    let answer = ask(&server, &wrong, Method::GET, path::STATUS, None).await;
    assert_eq!(answer, expected);
    let nobody = Who::password("nobody", "correct horse batteries");
    let answer = ask(&server, &nobody, Method::GET, path::STATUS, None).await;
    assert_eq!(answer, expected);
    assert_eq!(status(&server, &Who::token(&good)).await, 200);
    server.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn case_06_a_revoked_token_closes_its_connections_and_no_others() {
    let (server, _) = start_team().await;
    server.hub.commit([upsert(job(1, "default", "a"))]);
    let alice = add(&server, "alice", "user", ALICE).await;
    let (id, revoked) = token(&server, &alice, json!({"name": "a"})).await;
    let (_, kept) = token(&server, &alice, json!({"name": "b"})).await;
    let (first, second) = (
        watch(&server, &revoked).await,
        watch(&server, &revoked).await,
    );
    let mut stays = watch(&server, &kept).await;
    let gone = ask(&server, &alice, Method::DELETE, &path::token(&id), None).await;
    assert_eq!(gone.0, 204);
    // What changes from here on is not for whoever held it.
    let secret = "after-the-revocation";
    server.hub.commit([upsert(job(2, "default", secret))]);
    for closed in [first, second] {
        let (frames, code) = until_closed(closed).await;
        assert_eq!(code, CLOSE_SIGNED_OUT);
        let last =
            skytower_api_client::codec::decode_binary(&frames.last().unwrap().clone().into_data());
        let Ok(Some(ServerMessage::Error(problem))) = last else {
            panic!("{last:?}");
        };
        assert_eq!((problem.status, &*problem.code), (401, "not_signed_in"));
        for frame in &frames[..frames.len() - 1] {
            let message = skytower_api_client::codec::decode_binary(&frame.clone().into_data());
            assert!(!format!("{message:?}").contains(secret), "{message:?}");
        }
    }
    // Somebody who could not see it anyway goes on all the same.
    server.hub.commit([workspace("default", false)]);
    stays
        .follow_until(|copy| copy.len(Kind::Workspace) == 1)
        .await;
    server.stop().await;
}

fn workspace(name: &str, private: bool) -> skytower_api_client::wire::Change {
    upsert(Arc::new(skytower_api_client::Entity::from(
        skytower_api_client::entity::Workspace {
            key: Key::new("lab", Kind::Workspace, name),
            source: "lab".into(),
            name: name.into(),
            workspace: Some(name.into()),
            private,
            ..Default::default()
        },
    )))
}

#[tokio::test]
async fn case_07_rights_that_change_count_on_open_connections() {
    let (server, _) = start_team().await;
    server.hub.commit([
        workspace("default", false),
        workspace("open", false),
        upsert(job(1, "open", "in-the-open")),
    ]);
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, written) = token(&server, &alice, json!({"name": "a", "scope": "admin"})).await;
    let mut watching = watch(&server, &written).await;
    watching.follow_until(|copy| copy.len(Kind::Job) == 1).await;
    server.hub.commit([workspace("open", true)]);
    watching.follow_until(|copy| copy.len(Kind::Job) == 0).await;
    // The role too: what one may do is told, and decided, from now on.
    change(&server, &path::user("alice"), json!({"role": "viewer"})).await;
    loop {
        if let ServerMessage::Hello(hello) = watching.next().await {
            assert_eq!(hello.you.role, Role::Viewer);
            break;
        }
    }
    server.hub.commit([workspace("open", false)]);
    watching.follow_until(|copy| copy.len(Kind::Job) == 1).await;
    change(&server, &path::user("alice"), json!({"disabled": true})).await;
    let (_, code) = until_closed(watching).await;
    assert_eq!(code, CLOSE_SIGNED_OUT);
    assert_eq!(status(&server, &Who::token(&written)).await, 401);
    assert_eq!(status(&server, &alice).await, 401);
    server.stop().await;
}

#[tokio::test]
async fn a_new_password_puts_out_whoever_came_with_the_old_one() {
    let (server, _) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, kept) = token(&server, &alice, json!({"name": "kept"})).await;
    let wrong = json!({"current": "not the one it is", "new": "another long password"});
    let (code, _) = ask(&server, &alice, Method::POST, path::PASSWORD, Some(wrong)).await;
    assert_eq!(code, 403);
    let short = json!({"current": ALICE, "new": "short"});
    let (code, _) = ask(&server, &alice, Method::POST, path::PASSWORD, Some(short)).await;
    assert_eq!(code, 422);
    let right = json!({"current": ALICE, "new": "another long password"});
    let (code, _) = ask(&server, &alice, Method::POST, path::PASSWORD, Some(right)).await;
    assert_eq!(code, 204);
    assert_eq!(status(&server, &alice).await, 401);
    let new = Who::password("alice", "another long password");
    assert_eq!(status(&server, &new).await, 200);
    assert_eq!(status(&server, &Who::token(&kept)).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_rotated_token_counts_for_as_long_as_was_said() {
    let (server, _) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let (id, old) = token(&server, &alice, json!({"name": "a"})).await;
    let rotate = |overlap: &str| {
        let body = json!({"overlap": overlap});
        let (server, alice, path) = (&server, &alice, path::rotate(&id));
        async move { ask(server, alice, Method::POST, &path, Some(body)).await.1 }
    };
    let new = rotate("1h").await["token"].as_str().unwrap().to_owned();
    assert_eq!(status(&server, &Who::token(&old)).await, 200);
    let watching = watch(&server, &new).await;
    let newest = rotate("0s").await["token"].as_str().unwrap().to_owned();
    let (_, code) = until_closed(watching).await;
    assert_eq!(code, CLOSE_SIGNED_OUT);
    for gone in [&old, &new] {
        assert_eq!(status(&server, &Who::token(gone)).await, 401);
    }
    assert_eq!(status(&server, &Who::token(&newest)).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_token_gives_no_more_than_its_scope() {
    let (server, password) = start_team().await;
    let admin = Who::password("skytower", password.expose());
    let (_, read) = token(&server, &admin, json!({"name": "r", "scope": "read"})).await;
    let (_, act) = token(&server, &admin, json!({"name": "a", "scope": "act"})).await;
    let (_, metrics) = token(&server, &admin, json!({"name": "m", "scope": "metrics"})).await;
    let (_, whole) = token(&server, &admin, json!({"name": "w", "scope": "admin"})).await;
    let [read, act, metrics, whole] =
        [read, act, metrics, whole].map(|written| Who::token(&written));
    let new = json!({"action": "job.cancel", "targets": ["lab/job/1/0"]});
    let (code, refused) = ask(
        &server,
        &read,
        Method::POST,
        path::REQUESTS,
        Some(new.clone()),
    )
    .await;
    assert_eq!(code, 403);
    assert!(refused["detail"].as_str().unwrap().contains("scope `read`"));
    for less in [&read, &act] {
        assert_eq!(
            ask(&server, less, Method::GET, path::USERS, None).await.0,
            403
        );
        let wider = json!({"name": "x", "scope": "admin"});
        let (code, _) = ask(&server, less, Method::POST, path::TOKENS, Some(wider)).await;
        assert_eq!(code, 403, "a token made a wider one");
        assert_eq!(
            ask(&server, less, Method::GET, "/metrics", None).await.0,
            403
        );
    }
    assert_eq!(
        ask(&server, &whole, Method::GET, path::USERS, None).await.0,
        200
    );
    assert_eq!(
        ask(&server, &metrics, Method::GET, "/metrics", None)
            .await
            .0,
        200
    );
    for path in [path::STATUS, path::HEALTH, "/api/v1/jobs", path::TOKENS] {
        assert_eq!(
            ask(&server, &metrics, Method::GET, path, None).await.0,
            403,
            "{path}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn case_11_failed_attempts_slow_down_and_lock_nobody_out() {
    let (server, _) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, written) = token(&server, &alice, json!({"name": "a"})).await;
    assert_eq!(status(&server, &alice).await, 200);
    let attempt = async |n: usize| {
        let wrong = Who::password("alice", &format!("a wrong password {n}"));
        let answer = send_from(
            "127.0.0.2",
            &server,
            &wrong,
            Method::GET,
            path::STATUS,
            None,
        );
        let answer = answer.await;
        let after = answer.headers().get("retry-after").cloned();
        (answer.status().as_u16(), after)
    };
    for n in 0..8 {
        assert_eq!(attempt(n).await.0, 401);
    }
    let mut refused = None;
    for (code, after) in join_all((8..60).map(attempt)).await {
        match code {
            401 => assert!(after.is_none()),
            429 => refused = after,
            other => panic!("{other}"),
        }
    }
    let after = refused.expect("nobody was slowed down");
    assert!(after.to_str().unwrap().parse::<u64>().unwrap() > 0);
    // Whoever was in before is not concerned, with a password or a token.
    assert_eq!(status(&server, &alice).await, 200);
    assert_eq!(status(&server, &Who::token(&written)).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn case_12_a_flood_of_sign_ins_leaves_those_inside_alone() {
    let (server, _) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, written) = token(&server, &alice, json!({"name": "a"})).await;
    let mut watching = watch(&server, &written).await;
    let flood = join_all((0..500).map(|n| {
        let server = &server;
        async move {
            let wrong = Who::password(&format!("user{n}"), "not the right one");
            status(server, &wrong).await
        }
    }));
    let inside = async {
        for n in 0..20 {
            server.hub.commit([workspace(&format!("w{n}"), false)]);
            watching
                .follow_until(|copy| copy.len(Kind::Workspace) > n)
                .await;
        }
    };
    let (codes, ()) = tokio::join!(flood, inside);
    for code in codes {
        assert!([401, 429, 503].contains(&code), "{code}");
    }
    assert_eq!(status(&server, &Who::token(&written)).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn case_43_accounts_are_kept_by_administrators_and_one_always_remains() {
    let (server, password) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let vera = add(&server, "vera", "viewer", ALICE).await;
    let body = || Some(json!({"name": "x", "role": "admin"}));
    for who in [&alice, &vera] {
        for (method, path, body) in [
            (Method::GET, path::USERS.to_owned(), None),
            (Method::POST, path::USERS.to_owned(), body()),
            (
                Method::PATCH,
                path::user("alice"),
                Some(json!({"role": "admin"})),
            ),
            (Method::DELETE, path::user("skytower"), None),
            (Method::GET, path::WORKSPACES.to_owned(), None),
            (
                Method::POST,
                path::WORKSPACES.to_owned(),
                Some(json!({"name": "w"})),
            ),
            (
                Method::POST,
                path::TOKENS.to_owned(),
                Some(json!({"name": "t", "user": "skytower"})),
            ),
        ] {
            let (code, answer) = ask(&server, who, method.clone(), &path, body).await;
            assert_eq!(code, 403, "{method} {path}: {answer}");
        }
    }
    let admin = Who::password("skytower", password.expose());
    let demote = |name: &'static str, who: &'static str| {
        let server = &server;
        let by = Who::password(who, ALICE);
        async move {
            let body = Some(json!({"role": "viewer"}));
            ask(server, &by, Method::PATCH, &path::user(name), body)
                .await
                .0
        }
    };
    let (code, answer) = ask(
        &server,
        &admin,
        Method::DELETE,
        &path::user("skytower"),
        None,
    )
    .await;
    assert_eq!((code, &answer["code"]), (409, &"last_administrator".into()));
    add(&server, "root1", "admin", ALICE).await;
    add(&server, "root2", "admin", ALICE).await;
    assert_eq!(
        ask(
            &server,
            &admin,
            Method::DELETE,
            &path::user("skytower"),
            None
        )
        .await
        .0,
        204
    );
    let codes = tokio::join!(demote("root1", "root2"), demote("root2", "root1"));
    assert!(
        matches!(codes, (200, 403 | 409) | (403 | 409, 200)),
        "{codes:?}"
    );
    let local = Who::local(&server);
    let (_, users) = ask(&server, &local, Method::GET, path::USERS, None).await;
    let admins = users.as_array().unwrap().iter();
    assert_eq!(admins.filter(|user| user["role"] == "admin").count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn case_44_what_is_not_on_offer_is_refused() {
    let (server, _) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let sneaky = json!({"current": ALICE, "new": "another long password", "role": "admin"});
    let (code, _) = ask(&server, &alice, Method::POST, path::PASSWORD, Some(sneaky)).await;
    assert_eq!(code, 422);
    let sneaky = json!({"name": "t", "scope": "admin", "id": "000000000000"});
    let (code, _) = ask(&server, &alice, Method::POST, path::TOKENS, Some(sneaky)).await;
    assert_eq!(code, 422);
    let unknown = json!({"name": "bob", "role": "root"});
    let local = Who::local(&server);
    let (code, _) = ask(&server, &local, Method::POST, path::USERS, Some(unknown)).await;
    assert_eq!(code, 422);
    server.stop().await;
}

#[tokio::test]
async fn somebody_elses_token_is_not_there() {
    let (server, password) = start_team().await;
    let admin = Who::password("skytower", password.expose());
    let alice = add(&server, "alice", "user", ALICE).await;
    let (id, _) = token(&server, &admin, json!({"name": "mine"})).await;
    let absent = ask(
        &server,
        &alice,
        Method::DELETE,
        &path::token("000000000000"),
        None,
    )
    .await;
    let theirs = ask(&server, &alice, Method::DELETE, &path::token(&id), None).await;
    let same = |answer: &(u16, Value), id: &str| (answer.0, answer.1.to_string().replace(id, "ID"));
    assert_eq!(same(&absent, "000000000000"), same(&theirs, &id));
    let (_, listed) = ask(&server, &alice, Method::GET, path::TOKENS, None).await;
    assert_eq!(listed, json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_who_come_back_at_once_cost_no_password_hash() {
    let (server, _) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, written) = token(&server, &alice, json!({"name": "a"})).await;
    let folder = server.home.clone();
    server.stop().await;
    let (server, _) = start_team_in(folder).await;
    let runs = async || {
        let local = Who::local(&server);
        let answer = send(&server, &local, Method::GET, "/metrics", None).await;
        let text = answer.text().await.unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("skytower_password_hashes_total "));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = runs().await;
    let sockets = futures_util::stream::iter(0..50)
        .map(|_| server.handshake(Some(SUBPROTOCOL_ZSTD), Some(&written), None))
        .buffer_unordered(25)
        .collect::<Vec<_>>()
        .await;
    assert!(sockets.iter().all(Result::is_ok));
    assert_eq!(runs().await, before);
    server.stop().await;
}

#[tokio::test]
async fn no_secret_is_in_the_state_folder() {
    let (server, password) = start_team().await;
    let alice = add(&server, "alice", "user", ALICE).await;
    let (_, written) = token(&server, &alice, json!({"name": "a"})).await;
    let wrong = Who::password("alice", "a mistyped password");
    status(&server, &wrong).await;
    status(&server, &Who::token("st_0123456789ab_mistyped-token")).await;
    let folder = server.home.clone();
    let own = server.token.clone();
    server.stop().await;
    let secrets = [
        ALICE,
        password.expose(),
        &written,
        written.rsplit('_').next().unwrap(),
        "a mistyped password",
        "mistyped-token",
    ];
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        files += 1;
        for secret in secrets {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds a secret", path.display());
        }
        let is_own = path.file_name().is_some_and(|name| name == "token");
        let found = bytes.windows(own.len()).any(|part| part == own.as_bytes());
        assert_eq!(found, is_own, "{}", path.display());
    }
    assert!(files > 1);
}
