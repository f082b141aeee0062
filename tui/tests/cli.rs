//! The commands on the real program, used wrongly and against servers that are not as they should be:
//! each failure is a sentence with what to do, an exit code, and changes nothing.
#![cfg(feature = "local-server")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod desk;
#[path = "../../server/tests/support/fake_skypilot.rs"]
mod fake_skypilot;

use std::time::Duration;

use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use desk::{Desk, Stranger, nobody};
use fake_skypilot::{FakeSkyPilot, cluster, job, service};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use skytower_api_client::endpoint::{Credentials, Secret};
use skytower_api_client::wire::SUBPROTOCOL_JSON;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self};

/// Nobody changed anything there.
#[track_caller]
fn untouched(fake: &FakeSkyPilot) {
    let looks = [
        "/status",
        "/jobs/queue/v2",
        "/serve/status",
        "/jobs/pool_status",
        "/enabled_clouds",
        "/slurm_node_info",
        "/queue",
        "/cluster_events",
        "/jobs/events",
        "/workspaces",
        "/users",
        "/users/role",
        "/api/health",
        "/api/status",
    ];
    fake.with(|world| {
        let other = world
            .heard
            .iter()
            .find(|(path, _)| !looks.contains(&path.as_str()));
        assert_eq!(other, None);
    });
}

async fn lab() -> FakeSkyPilot {
    let fake = FakeSkyPilot::start().await;
    fake.with(|world| {
        world.clusters = vec![
            cluster("dev", "hash-1", "alice"),
            cluster("chat", "hash-2", "bob"),
        ];
        world.jobs = vec![
            job(1, "RUNNING", "alice"),
            job(2, "SUCCEEDED", "alice"),
            job(3, "RUNNING", "bob"),
            job(4, "RUNNING", "bob"),
        ];
        for id in [2, 3] {
            world.jobs[id]["job_name"] = "same".into();
            world.jobs[id]["task_name"] = "same".into();
        }
        world.services = vec![service("chat", 1, "alice")];
    });
    fake
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_leads_nowhere_is_said() {
    let mut desk = Desk::new();
    desk.keep_secret(&Credentials::Basic {
        user: "alice".to_owned(),
        password: Secret::new("hunter2.secret"),
    });
    let html = "text/html";
    let page = Stranger::answering(200, html, "<!doctype html><title>It works!</title>").await;
    let absent = Stranger::answering(404, "application/json", "{}").await;
    let ssh = Stranger::saying("SSH-2.0-OpenSSH_9.6\r\n").await;
    let silent = Stranger::saying("").await;
    let health = |version: &str, api: serde_json::Value| {
        let body = json!({"status": "healthy", "version": version, "commit": "c0ffee",
            "api_version": api, "user": null});
        body.to_string()
    };
    let old = Stranger::answering(200, "application/json", &health("0.10.0", "23".into())).await;
    let older = Stranger::answering(200, "application/json", &health("0.7.0", ().into())).await;
    let mismatch = json!({"error": "version_mismatch", "message": "this client is too old"});
    let newer = Stranger::answering(400, "application/json", &mismatch.to_string()).await;
    let closed = Stranger::answering(401, "application/json", r#"{"detail":"no"}"#).await;
    let login = Stranger::answering(302, html, "").await;
    let broken = Stranger::answering(500, html, "<html>").await;
    let nobody = format!("http://127.0.0.1:{}", nobody());
    for (url, code, about) in [
        (nobody.as_str(), 3, "nothing listens at"),
        (&page.url, 3, "with a web page"),
        (&absent.url, 3, "neither a skytower server nor"),
        (&ssh.url, 3, "does not speak HTTP"),
        (&silent.url, 3, "broke"),
        (&old.url, 3, "0.11 is the oldest"),
        (&older.url, 3, "0.11 is the oldest"),
        (&newer.url, 3, "too old"),
        (&closed.url, 3, "does not know you"),
        (&login.url, 3, "does not know you"),
        (&broken.url, 3, "answered 500"),
        (
            "htp://alice:hunter2.secret@127.0.0.1:1",
            2,
            "only http and https",
        ),
        ("127.0.0.1:46580", 2, "is not an address"),
        (
            "http://alice:hunter2.secret@127.0.0.1:port",
            2,
            "is not an address",
        ),
        ("http://127.0.0.1:1/?a=b", 2, "no ? and no #"),
        ("", 2, "is not an address"),
    ] {
        for words in [
            &["jobs", "-e", url][..],
            &["cancel", "job/1", "-y", "-e", url],
            &["api", "info", "-e", url],
            &["api", "login", "-e", url],
            &["wait", "job/1", "--for", "done", "-e", url],
        ] {
            desk.run(words).await.failed(code, about);
        }
    }
    assert!(desk.servers().is_empty(), "no server was started");
    assert!(!desk.path().join(".config").exists(), "nothing was saved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_not_valid_are_said_and_kept_out_of_everything() {
    let mut desk = Desk::new();
    let right = Credentials::Basic {
        user: "alice".to_owned(),
        password: Secret::new("hunter2.secret"),
    };
    let wrong = Credentials::Basic {
        user: "alice".to_owned(),
        password: Secret::new("mistaken.secret"),
    };
    let token = "sky_mistaken_token_0001";
    for credentials in [&right, &wrong, &Credentials::Bearer(Secret::new(token))] {
        desk.keep_secret(credentials);
    }
    let fake = lab().await;
    fake.with(|world| world.authorization = right.header().map(|(_, value)| value));
    let host = fake.url.trim_start_matches("http://").to_owned();
    let with = |password: &str| format!("http://alice:{password}.secret@{host}");
    let (right, wrong) = (with("hunter2"), with("mistaken"));

    for words in [
        &["jobs", "-e", &wrong][..],
        &["api", "login", "-e", &wrong],
        &["cancel", "job/1", "-y", "-e", &wrong],
        &["jobs", "-e", &fake.url],
        &["api", "login", "-e", &fake.url, "--token", token],
    ] {
        desk.run(words).await.failed(3, "does not know you");
    }
    let words = ["api", "login", "-e", &fake.url, "--token", "-"];
    let ran = desk.run_with(&words, token.as_bytes()).await;
    ran.failed(3, "does not know you");
    desk.variables
        .push(("SKYTOWER_TOKEN".to_owned(), token.to_owned()));
    desk.run(&["jobs", "-e", &fake.url])
        .await
        .failed(3, "does not know you");
    desk.variables.clear();
    // A secret in the wrong place is not repeated.
    for words in [
        &["api", "login", &wrong][..],
        &["api", "login", token],
        &[&wrong],
        &[token],
    ] {
        assert!(desk.run(words).await.ended(2).err.contains("<redacted>"));
    }
    assert!(desk.servers().is_empty(), "no server was started");
    assert!(!desk.path().join(".config").exists(), "nothing was saved");

    // The right ones: they are nowhere but where the login is saved.
    desk.run(&["api", "login", "-e", &right]).await.ended(0);
    let saved = desk.path().join(".config/skytower/config.toml");
    let saved = std::fs::read_to_string(saved).unwrap();
    assert!(saved.contains("hunter2.secret"), "it is there to be found");
    assert!(
        desk.run(&["jobs", "-o", "name"])
            .await
            .ended(0)
            .out
            .contains("job/1")
    );
    desk.run(&["api", "info"]).await.ended(0);
    desk.run(&["api", "logs", "--tail", "100000"])
        .await
        .ended(0);
    desk.holds_no_secret();
    desk.run(&["api", "stop"]).await.ended(0);
    desk.holds_no_secret();
    untouched(&fake);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_56_the_local_server_has_no_secrets_in_its_environment_or_command_line() {
    let mut desk = Desk::new();
    let alice = Credentials::Basic {
        user: "alice".to_owned(),
        password: Secret::new("hunter2.secret"),
    };
    desk.keep_secret(&alice);
    let fake = lab().await;
    fake.with(|world| world.authorization = alice.header().map(|(_, value)| value));
    let url = fake.url.replace("http://", "http://alice:hunter2.secret@");
    for (name, value) in [
        ("SKYTOWER_ENDPOINT", url.as_str()),
        ("SKYPILOT_API_SERVER_ENDPOINT", &url),
        ("SKYTOWER_TOKEN", "hunter2.secret"),
        ("SKYPILOT_SERVICE_ACCOUNT_TOKEN", "hunter2.secret"),
    ] {
        desk.variables.push((name.to_owned(), value.to_owned()));
    }
    assert!(desk.run(&["jobs"]).await.ended(0).out.contains("job-1"));
    let pid = desk.card().unwrap()["pid"].as_i64().unwrap();
    for file in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(if file == "environ" {
            "HOME="
        } else {
            "__server"
        }));
        assert!(!text.contains("hunter2.secret"), "{file} holds a secret");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_reaches_the_server_that_runs_with_the_old_one() {
    let mut desk = Desk::new();
    let of = |password: &str| Credentials::Basic {
        user: "alice".to_owned(),
        password: Secret::new(password),
    };
    let fake = lab().await;
    let wants = |password| {
        let header = of(password).header().map(|(_, value)| value);
        fake.with(|world| world.authorization = header);
    };
    let host = fake.url.trim_start_matches("http://").to_owned();
    let with = |password: &str| format!("http://alice:{password}@{host}");
    for password in ["first.secret", "second.secret"] {
        desk.keep_secret(&of(password));
    }
    wants("first.secret");
    let first = with("first.secret");
    desk.run(&["jobs", "-e", &first]).await.ended(0);
    wants("second.secret");
    let before = desk.card().unwrap();
    let noticed = async {
        loop {
            let ran = desk.run(&["api", "status", "-e", &first]).await;
            if ran.ended(0).out.contains("needs_auth") {
                break;
            }
        }
    };
    // Generous: this bounds a hang, it measures nothing.
    let limit = Duration::from_mins(2);
    tokio::time::timeout(limit, noticed).await.unwrap();
    // What was known is shown with a warning, by the same server.
    let ran = desk.run(&["jobs", "-e", &first]).await;
    assert!(
        ran.ended(0).err.contains("warning: skypilot is needs_auth"),
        "{ran:#?}"
    );
    assert_eq!(desk.card().unwrap(), before);
    let ran = desk.run(&["jobs", "-e", &with("second.secret")]).await;
    assert!(
        ran.ended(0).err.is_empty() && ran.out.contains("job-1"),
        "{ran:#?}"
    );
    assert_ne!(desk.card().unwrap()["pid"], before["pid"]);
    desk.holds_no_secret();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_not_meant_so_says_what_to_do_and_changes_nothing() {
    let mut desk = Desk::new();
    let fake = lab().await;
    desk.variables
        .push(("SKYTOWER_ENDPOINT".to_owned(), fake.url.clone()));
    for (words, code, about) in [
        // Targets.
        (&["show", "cluster/dve"][..], 5, "there is no cluster `dve`"),
        (&["cancel", "job/77", "-y"], 5, "there is no job `77`"),
        (
            &["down", "nothing-like-it", "-y"],
            5,
            "there is no cluster, job, service or pool",
        ),
        (&["logs", "job/77"], 5, "there is no job `77`"),
        (
            &["wait", "job/77", "--for", "done"],
            5,
            "there is no job `77`",
        ),
        (&["queue", "nowhere"], 5, "there is no cluster `nowhere`"),
        (&["cancel", "job/same", "-y"], 2, "may be job/3 or job/4"),
        (
            &["down", "chat", "-y"],
            2,
            "may be cluster/chat or service/chat",
        ),
        (
            &["cancel", "zebra/1", "-y"],
            2,
            "begins with no kind that is known",
        ),
        (&["cancel", "replica/x", "-y"], 2, "replica/SERVICE/ID"),
        (&["cancel"], 2, "needs a target"),
        (&["cancel", "cluster/dev", "-y"], 2, "has no `cancel`"),
        (&["cancel", "job/1", "--mine", "-y"], 2, "given together"),
        (
            &["cancel", "-q", "owner:nobody", "-y"],
            5,
            "no jobs to cancel match",
        ),
        // Whoever is not asked has not said yes.
        (&["cancel", "job/1"], 2, "no terminal to ask at"),
        (&["down", "cluster/dev"], 2, "no terminal to ask at"),
        (
            &["cancel", "-q", "status:running"],
            2,
            "no terminal to ask at",
        ),
        // Columns, queries, durations, words.
        (&["jobs", "--columns", "id,onwer"], 2, "no column `onwer`"),
        (&["jobs", "--sort", "moon"], 2, "no column `moon`"),
        (
            &["jobs", "-q", "status:running (owner:bob"],
            2,
            "at `(` (character 16)",
        ),
        (&["jobs", "-q", "gpus>=many"], 2, "at `many` (character 7)"),
        (&["jobs", "-q", "moon:full"], 2, "at `moon`"),
        (&["cancel", "-q", "owner:", "-y"], 2, "needs a value"),
        (
            &["autostop", "cluster/dev", "--after", "soon", "-y"],
            2,
            "write it like 90s, 30m or 2h",
        ),
        (
            &["autostop", "cluster/dev", "--after", "30s", "-y"],
            2,
            "whole minutes",
        ),
        (
            &["wait", "job/1", "--for", "done", "--timeout", "2x"],
            2,
            "write it like",
        ),
        (&["wait", "job/1", "--for", "sunday"], 2, "sunday"),
        (&["frobnicate"], 2, "neither a command nor a view"),
        (&["jobs", "--bogus"], 2, "--bogus"),
        (&["jobs", "--limit", "many"], 2, "many"),
        (
            &["cancel", "job/1", "--mine", "--user", "bob"],
            2,
            "cannot be used with",
        ),
        (&[], 2, "needs a terminal"),
        (&["overview"], 2, "needs a terminal"),
        (&["api", "login", "--token", ""], 2, "no server was named"),
        (
            &["wait", "job/1", "--for", "done", "--timeout", "1s"],
            124,
            "job/1: not as wanted",
        ),
    ] {
        desk.run(words).await.failed(code, about);
    }
    for (input, code, about) in [
        (
            &b"\xff\xfe\x00\x9f garbage \x80"[..],
            2,
            "standard input holds no targets",
        ),
        (
            b"\x1b[31mred\x1b[0m \x07/x\n",
            2,
            "begins with no kind that is known",
        ),
        (b"{\"not\": \"a list\"}\n", 2, "`{\"not\":`"),
        (b"", 5, "no targets on standard input"),
        (b"\n  \n", 5, "no targets on standard input"),
        (b"job/1\njob/77\n", 5, "there is no job `77`"),
    ] {
        let ran = desk.run_with(&["cancel", "-", "-y"], input).await;
        ran.failed(code, about);
        assert!(
            !ran.err.contains('\u{1b}') && !ran.err.contains('\u{7}'),
            "{ran:#?}"
        );
    }
    let ran = desk.run_with(&["wait", "-", "--for", "done"], b"").await;
    ran.failed(5, "no targets on standard input");
    // An empty list narrowed is not everything of mine.
    let ran = desk.run_with(&["cancel", "-", "--mine", "-y"], b"").await;
    ran.failed(2, "given together");
    desk.run(&["cancel", "job/1", "--dry-run"]).await.ended(0);
    untouched(&fake);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_look_is_told_so() {
    let mut desk = Desk::new();
    let fake = lab().await;
    fake.with(|world| world.role = json!({"id": "eve-id", "name": "eve", "role": "viewer"}));
    desk.variables
        .push(("SKYTOWER_ENDPOINT".to_owned(), fake.url.clone()));
    for words in [
        &["cancel", "job/1", "-y"][..],
        &["cancel", "job/1", "job/3", "-y", "-o", "json"],
        &["down", "cluster/dev", "-y"],
        &["cancel", "job/1"],
        &["cancel", "job/1", "--dry-run"],
    ] {
        desk.run(words).await.failed(4, "your role is viewer");
    }
    for words in [
        &["audit"][..],
        &["audit", "--verify"],
        &["audit", "-o", "json"],
    ] {
        desk.run(words)
            .await
            .failed(4, "the audit is for administrators");
    }
    desk.run(&["jobs"]).await.ended(0);
    untouched(&fake);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_reads_who_did_what() {
    let mut desk = Desk::new();
    let fake = lab().await;
    fake.with(|world| world.role = json!({"id": "root-id", "name": "root", "role": "admin"}));
    desk.variables
        .push(("SKYTOWER_ENDPOINT".to_owned(), fake.url.clone()));
    desk.run(&["cancel", "job/1", "-y"]).await.ended(0);
    let table = desk.run(&["audit"]).await;
    table.ended(0);
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 3, "{table:#?}");
    assert!(lines[0].starts_with("TIME") && lines[1].contains("succeeded"));
    for word in ["root", "job.cancel", "job/1", "accepted", "127.0.0.1"] {
        assert!(lines[2].contains(word), "no {word} in {table:#?}");
    }
    let one = desk
        .run(&[
            "audit",
            "-q",
            "result:accepted",
            "--since",
            "1h",
            "--limit",
            "1",
            "-o",
            "json",
        ])
        .await;
    let rows: serde_json::Value = serde_json::from_str(&one.ended(0).out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["status"], "accepted");
    let verdict = desk.run(&["audit", "--verify"]).await;
    verdict.ended(0);
    assert!(
        verdict.out.starts_with("The audit is whole: 2 entries"),
        "{verdict:#?}"
    );
    let head = format!("head: 2 {}", rows[0]["hash"].as_str().unwrap());
    assert!(!verdict.out.contains(&head) && verdict.out.contains("head: 2 "));
    desk.run(&["audit", "--verify", "-q", "x"]).await.ended(2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_told_by_the_exit_code() {
    let mut desk = Desk::new();
    let fake = lab().await;
    desk.variables
        .push(("SKYTOWER_ENDPOINT".to_owned(), fake.url.clone()));
    desk.run(&["cancel", "job/1", "-y"]).await.ended(0);
    desk.run(&["wait", "job/1", "--for", "done"]).await.ended(0);
    desk.run(&["wait", "job/1", "--for", "succeeded"])
        .await
        .ended(1);
    // One of them has ended already.
    desk.run(&["cancel", "job/2", "job/3", "-y"]).await.ended(6);
    desk.run(&["cancel", "job/2", "-y"]).await.ended(1);
    let cancelled = fake.calls("/jobs/cancel");
    assert_eq!(cancelled, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_that_is_not_what_was_written_is_a_failure() {
    let mut desk = Desk::new();
    let health = json!({"status": "healthy", "service": "skytower", "version": "0.1.0",
        "commit": "c0ffee", "api_version": 1, "epoch": "e", "revision": 1, "pid": 1,
        "user": {"ids": ["a"], "name": "alice", "role": "admin"}});
    let verdict = json!({"entries": 7, "anchor": {"seq": 0, "hash": "00"},
        "head": {"seq": 6, "hash": "c0ffee"},
        "broken": {"seq": 7, "why": "entry 7 is not as it was written"}});
    let router = Router::new()
        .route("/api/health", get(async move || Json(health)))
        .route("/api/v1/audit/verify", get(async move || Json(verdict)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    desk.variables.push(("SKYTOWER_ENDPOINT".to_owned(), url));
    let said = desk.run(&["audit", "--verify"]).await;
    said.ended(1);
    for words in ["entry 7 is not as it was written", "head: 6 c0ffee"] {
        assert!(said.out.contains(words), "no `{words}` in {said:#?}");
    }
    let json = desk.run(&["audit", "--verify", "-o", "json"]).await;
    let verdict: serde_json::Value = serde_json::from_str(&json.ended(1).out).unwrap();
    assert_eq!(verdict["broken"]["seq"], 7);
}

/// A skytower server whose websocket says what no version of it would.
async fn babbling() -> String {
    async fn babble(upgrade: WebSocketUpgrade) -> Response {
        upgrade
            .protocols([SUBPROTOCOL_JSON, "skytower.v1.zstd"])
            .on_upgrade(|mut socket| async move {
                let _ = socket.send(Message::Text("}{ garbage".into())).await;
                while let Some(Ok(_)) = socket.recv().await {}
            })
    }
    let health = json!({"status": "healthy", "service": "skytower", "version": "0.1.0",
        "commit": "c0ffee", "api_version": 1, "epoch": "e", "revision": 1, "pid": 1,
        "user": {"ids": ["a"], "name": "alice", "role": "user"}});
    let row = json!({"key": "s/job/1/0", "source": "s", "name": "one", "job_id": 1, "task_id": 0,
        "status": "RUNNING", "phase": "running"});
    let source = json!({"key": "s/source/s", "source": "s", "name": "s", "status": "degraded",
        "phase": "degraded"});
    let page = |row: serde_json::Value| json!({"rows": [row], "revision": 1});
    let (jobs, sources) = (page(row), page(source));
    let router = Router::new()
        .route("/api/health", get(async move || Json(health)))
        .route("/api/v1/jobs", get(async move || Json(jobs)))
        .route("/api/v1/sources", get(async move || Json(sources)))
        .route("/api/v1/watch", get(babble));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_a_server_is_said_while_it_is_tried_again() {
    let desk = Desk::new();
    let url = babbling().await;
    let words = [
        "wait",
        "job/1",
        "--for",
        "done",
        "--timeout",
        "1s",
        "-e",
        &url,
    ];
    let ran = desk.run(&words).await;
    ran.failed(124, "not as wanted after 1s");
    assert!(ran.err.contains("warning: "), "{ran:#?}");
    assert!(ran.err.contains("a message that is not valid"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_to_the_local_server_is_answered_and_hurts_nobody() {
    let mut desk = Desk::new();
    let fake = lab().await;
    desk.variables
        .push(("SKYTOWER_ENDPOINT".to_owned(), fake.url.clone()));
    desk.run(&["jobs"]).await.ended(0);
    let home = desk.servers().remove(0);
    let url = desk.card().unwrap()["url"].as_str().unwrap().to_owned();
    let token = std::fs::read_to_string(home.join("token")).unwrap();
    let big = "x".repeat(70_000);
    for said in [
        tungstenite::Message::text("}{ garbage"),
        tungstenite::Message::text(big),
        tungstenite::Message::binary(vec![0xff; 64]),
        tungstenite::Message::text(r#"{"type":"focus"}"#),
    ] {
        let address = format!("{}/api/v1/watch", url.replace("http", "ws"));
        let mut request = address.into_client_request().unwrap();
        let headers = request.headers_mut();
        let protocol = HeaderValue::from_static(SUBPROTOCOL_JSON);
        headers.insert("sec-websocket-protocol", protocol);
        let token = HeaderValue::from_str(&format!("Bearer {}", token.trim())).unwrap();
        headers.insert("authorization", token);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        socket.send(said).await.unwrap();
        let mut heard = String::new();
        while let Some(Ok(message)) = socket.next().await {
            if let tungstenite::Message::Text(text) = message {
                heard.push_str(&text);
            }
        }
        assert!(heard.contains(r#""type":"error""#), "{heard}");
    }
    let ran = desk.run(&["api", "status", "-o", "json"]).await;
    let status: serde_json::Value = serde_json::from_str(&ran.ended(0).out).unwrap();
    assert_eq!(status["server"]["status"], "healthy");
    desk.holds_no_secret();
    untouched(&fake);
}
