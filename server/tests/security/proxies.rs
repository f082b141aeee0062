//! People whom a proxy has signed in, over sockets: what it says counts from it alone.

use std::sync::Arc;

use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use skytower_api_client::credentials::Secret;
use skytower_api_client::rest::path;
use skytower_api_client::wire::Role;
use skytower_server::config::ProxyConfig;

use crate::people::{as_local, http_from, told};
use crate::support::{Running, start_with};

const PROXY: &str = "127.0.0.1";
const SOMEBODY: &str = "127.0.0.2";
const SECRET: (&str, &[u8]) = ("X-Skytower-Proxy-Secret", b"the secret of the two");
const ALICE: (&str, &[u8]) = ("X-Auth-Request-Email", b"alice");
const PASSWORD: &str = "correct horse battery";

async fn behind() -> Running {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let server = start_with(folder, |config| {
        config.accounts = true;
        config.proxy = Some(ProxyConfig {
            addresses: vec![PROXY.parse().unwrap()],
            secret: Some(Secret::new("the secret of the two")),
            user_header: Some(ALICE.0.to_owned()),
            role: Role::Viewer,
        });
    });
    let server = server.await.unwrap();
    let alice = json!({"name": "alice", "role": "user", "password": PASSWORD});
    let (status, answer) = as_local(&server, Method::POST, path::USERS, Some(alice)).await;
    assert_eq!(status, 201, "{answer}");
    server
}

/// A question from an address, with headers as their bytes are.
async fn ask(
    server: &Running,
    from: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    password: Option<&str>,
) -> (u16, Value) {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        all.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let mut request = http_from(from).get(format!("{}{path}", server.url));
    if let Some(password) = password {
        request = request.basic_auth("alice", Some(password));
    }
    told(request.headers(all)).await
}

/// From where whoever was let in or refused came, the latest first.
async fn addresses(server: &Running) -> Vec<(String, String)> {
    let path = format!("{}?q=action:sign_in&limit=1000", path::AUDIT);
    let (_, page) = as_local(server, Method::GET, &path, None).await;
    let rows = page["rows"].as_array().expect("a list").iter();
    rows.map(|row| {
        let word = |name: &str| row[name].as_str().unwrap().to_owned();
        (word("address"), word("status"))
    })
    .collect()
}

/// The latest of them, once it is written.
async fn written(server: &Running, address: &str, status: &str) {
    let wanted = (address.to_owned(), status.to_owned());
    let there = async {
        while !addresses(server).await.contains(&wanted) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::support::within(there).await;
}

#[tokio::test]
async fn case_34_a_person_whom_the_proxy_names_is_let_in_and_nobody_else_names_one() {
    let server = behind().await;
    let (status, health) = ask(&server, PROXY, path::HEALTH, &[ALICE, SECRET], None).await;
    assert_eq!(
        (status, &health["user"]["name"], &health["user"]["role"]),
        (200, &"alice".into(), &"user".into())
    );
    let wrong: (&str, &[u8]) = (SECRET.0, b"the secret of the tw0");
    let underscores: (&str, &[u8]) = ("X_Auth_Request_Email", b"alice");
    let proves_by_underscores: (&str, &[u8]) = ("X_Skytower_Proxy_Secret", SECRET.1);
    let other: (&str, &[u8]) = ("X-Forwarded-User", b"alice");
    for (from, headers, status) in [
        (PROXY, &[ALICE][..], 401),
        (PROXY, &[ALICE, wrong], 401),
        (PROXY, &[ALICE, SECRET, SECRET], 401),
        (PROXY, &[ALICE, SECRET, wrong], 401),
        (PROXY, &[ALICE, proves_by_underscores], 401),
        (PROXY, &[underscores, SECRET], 401),
        (PROXY, &[other, SECRET], 401),
        (PROXY, &[SECRET], 401),
        (SOMEBODY, &[ALICE, SECRET], 401),
        (SOMEBODY, &[underscores, proves_by_underscores], 401),
        // The proxy itself, and in a way that it would not: who that is cannot be said.
        (PROXY, &[ALICE, ALICE, SECRET], 400),
        (PROXY, &[(ALICE.0, "аlice".as_bytes()), SECRET], 400),
        (PROXY, &[(ALICE.0, b""), SECRET], 400),
        (PROXY, &[(ALICE.0, b"alice\tadmin"), SECRET], 400),
    ] {
        let answer = ask(&server, from, path::STATUS, headers, None).await;
        assert_eq!(answer.0, status, "{from} {headers:?} {answer:?}");
    }
    // Somebody without an account is what the configuration says, and not the one with a similar name.
    let stranger: (&str, &[u8]) = (ALICE.0, b"alice@example.com");
    let (_, health) = ask(&server, PROXY, path::HEALTH, &[stranger, SECRET], None).await;
    assert_eq!(health["user"]["role"], "viewer");
    // Who is disabled here is not let in by anybody's word.
    let disable = Some(json!({"disabled": true}));
    as_local(&server, Method::PATCH, &path::user("alice"), disable).await;
    let (status, _) = ask(&server, PROXY, path::STATUS, &[ALICE, SECRET], None).await;
    assert_eq!(status, 401);
    server.stop().await;
}

#[tokio::test]
async fn case_34_the_address_that_the_proxy_tells_is_the_one_in_the_audit_and_is_slowed_down() {
    let server = behind().await;
    let told_by = |address: &'static str| ("X-Forwarded-For", address.as_bytes());
    let (home, elsewhere) = (told_by("203.0.113.9"), told_by("198.51.100.7"));
    let sign_in = async |from: &str, told: (&str, &[u8]), password: &str| {
        ask(&server, from, path::STATUS, &[told], Some(password))
            .await
            .0
    };
    assert_eq!(sign_in(PROXY, home, PASSWORD).await, 200);
    written(&server, "203.0.113.9", "accepted").await;
    // What anybody else tells of itself is not believed.
    assert_eq!(sign_in(SOMEBODY, home, "not the right one").await, 401);
    written(&server, SOMEBODY, "refused").await;
    let guess = async |n: usize| sign_in(PROXY, elsewhere, &format!("not the right one {n}")).await;
    for n in 0..8 {
        assert_eq!(guess(n).await, 401);
    }
    written(&server, "198.51.100.7", "refused").await;
    let codes = join_all((8..60).map(guess)).await;
    assert!(codes.contains(&429), "nobody was slowed down: {codes:?}");
    // All of them came over connections of the proxy: whoever comes from where she was before is not
    // concerned.
    assert_eq!(sign_in(PROXY, home, PASSWORD).await, 200);
    let proxys = addresses(&server).await;
    assert!(!proxys.contains(&(PROXY.to_owned(), "refused".to_owned())));
    server.stop().await;
}
