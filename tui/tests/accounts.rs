//! The real program and a team's server: signing in and out, tokens, and what happens when the
//! credentials stop to count.
#![cfg(feature = "local-server")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod desk;
mod team;
mod terminal;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use desk::{Desk, nobody};
use serde_json::{Value, json};
use skytower_api_client::endpoint::{Credentials, Saved, Secret};
use team::Team;
use terminal::Terminal;

const PASSWORD: &str = "hunter2.very.secret";

fn config(desk: &Desk) -> PathBuf {
    desk.path().join(".config/skytower/config.toml")
}

#[track_caller]
fn saved(desk: &Desk) -> Saved {
    let path = config(desk);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    Saved::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap()
}

/// The password is nowhere, not even in what is saved.
#[track_caller]
fn no_password(desk: &Desk) {
    let text = std::fs::read_to_string(config(desk)).unwrap();
    assert!(!text.contains(PASSWORD), "{text}");
    desk.holds_no_secret();
}

async fn desk() -> (Desk, Team) {
    let mut desk = Desk::new();
    desk.keep_secret(&Credentials::Basic {
        user: team::USER.to_owned(),
        password: Secret::new(PASSWORD),
    });
    // So that there is something to look through.
    std::fs::write(desk.path().join("other"), "").unwrap();
    (desk, Team::start(PASSWORD).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_56_a_password_is_exchanged_and_the_token_saved_in_its_place() {
    let (desk, team) = desk().await;
    let ran = desk
        .run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await;
    assert!(
        ran.ended(0)
            .out
            .contains("a token (made1) instead of the password"),
        "{ran:#?}"
    );
    assert!(ran.err.contains("can see a password"), "{ran:#?}");
    let asked = team.with(|world| world.asked.clone());
    let name = asked[0]["name"].as_str().unwrap();
    assert!(name.starts_with("login from "), "{name}");
    assert_eq!(
        (&asked[0]["scope"], &asked[0]["expires"]),
        (&json!("admin"), &json!("90d"))
    );
    let first = saved(&desk);
    assert!(first.issued && first.password.is_none() && first.user.is_none());
    assert_eq!(
        first.token.as_ref().and_then(Secret::token_id),
        Some("made1")
    );
    no_password(&desk);

    // It is used, and said.
    let ran = desk.run(&["api", "info"]).await;
    assert!(
        ran.ended(0).out.contains("Signed in with token made1"),
        "{ran:#?}"
    );
    let ran = desk.run(&["api", "info", "-o", "json"]).await;
    let told: Value = serde_json::from_str(&ran.ended(0).out).unwrap();
    assert_eq!(told["signed_in"]["token"]["id"], "made1");

    // Once more with what is saved changes nothing; with the password it ends the token of before.
    desk.run(&["api", "login", "-e", &team.url]).await.ended(0);
    assert_eq!(saved(&desk), first);
    assert!(team.with(|world| world.tokens.contains_key("made1")));
    desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await
        .ended(0);
    let ids = team.with(|world| world.tokens.keys().cloned().collect::<Vec<_>>());
    assert_eq!(ids, ["made2"]);

    // Out: the token ends too.
    let ran = desk.run(&["api", "logout"]).await;
    assert!(ran.ended(0).out.contains("is revoked"), "{ran:#?}");
    assert!(team.with(|world| world.tokens.is_empty()));
    assert!(!config(&desk).exists());
    assert_eq!(
        team.with(|world| world.strange.clone()),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_not_the_servers_own_is_saved_as_it_is() {
    let (desk, team) = desk().await;
    for refusal in [
        (403, "not_own_account"),
        (404, "not_found"),
        (405, "no_such_method"),
    ] {
        team.with(|world| world.refuses_exchange = Some(refusal));
        desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
            .await
            .ended(0);
        let saved = saved(&desk);
        assert_eq!(
            saved.password.map(|it| it.expose().to_owned()).as_deref(),
            Some(PASSWORD)
        );
        assert!(saved.token.is_none() && !saved.issued);
    }
    // One that went wrong otherwise is no login.
    desk.run(&["api", "logout"]).await.ended(0);
    team.with(|world| world.refuses_exchange = Some((500, "internal")));
    let words = ["api", "login", "-e", &team.as_alice(PASSWORD)];
    assert_eq!(desk.run(&words).await.code, 1);
    assert!(!config(&desk).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_somebody_gave_is_saved_and_stays_theirs() {
    let (desk, team) = desk().await;
    let token = team.token("ci");
    let words = ["api", "login", "-e", &team.url, "--token", "-"];
    let ran = desk.run_with(&words, token.as_bytes()).await;
    assert!(ran.ended(0).err.is_empty(), "{ran:#?}");
    assert_eq!(saved(&desk).token.unwrap().expose(), token);
    let words = ["api", "login", "-e", &team.url, "--token", &token];
    let ran = desk.run(&words).await;
    assert!(
        ran.ended(0)
            .err
            .contains("can see a token on a command line"),
        "{ran:#?}"
    );
    let ran = desk.run(&["api", "logout"]).await;
    assert!(ran.ended(0).out.contains("still counts"), "{ran:#?}");
    assert!(team.with(|world| world.tokens.contains_key("ci")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_without_the_server_says_what_still_counts() {
    let (desk, _) = desk().await;
    std::fs::create_dir_all(config(&desk).parent().unwrap()).unwrap();
    let url = format!("http://127.0.0.1:{}", nobody());
    let text =
        format!("endpoint = '{url}'\ntoken = 'st_k3_gone'\nissued = true\nread_only = true\n");
    std::fs::write(config(&desk), text).unwrap();
    std::fs::set_permissions(config(&desk), std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = desk.run(&["api", "logout"]).await;
    assert!(
        ran.ended(0)
            .err
            .contains("k3 of the login before could not be revoked"),
        "{ran:#?}"
    );
    assert!(!ran.err.contains("st_k3_gone"), "{ran:#?}");
    let later = format!("skytower token revoke k3 -e {url}");
    assert!(ran.err.contains(&later), "{ran:#?}");
    assert_eq!(
        std::fs::read_to_string(config(&desk)).unwrap(),
        "read_only = true\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_56_a_login_that_others_could_read_or_write_is_not_used_silently() {
    let (desk, team) = desk().await;
    desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await
        .ended(0);
    let open = |mode| {
        std::fs::set_permissions(config(&desk), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(0o644);
    let ran = desk.run(&["clusters", "-o", "name"]).await;
    assert!(
        ran.ended(0).err.contains("warning: others could read"),
        "{ran:#?}"
    );
    saved(&desk);
    let ran = desk.run(&["clusters", "-o", "name"]).await;
    assert!(!ran.ended(0).err.contains("others"), "{ran:#?}");
    open(0o666);
    for words in [
        &["clusters"][..],
        &["api", "login", "-e", &team.url],
        &["api", "logout"],
    ] {
        desk.run(words).await.failed(2, "others can write to");
    }
    open(0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_signed_in_is_told_what_to_do() {
    let (desk, team) = desk().await;
    for words in [
        &["clusters", "-e", &team.url][..],
        &["clusters", "--watch", "-e", &team.url],
        &["cancel", "job/1", "-y", "-e", &team.url],
        &["token", "list", "-e", &team.url],
        &["clusters", "-e", &team.as_alice("wrong")],
    ] {
        let ran = desk.run(words).await;
        ran.failed(3, "does not know you");
        let hint = format!("hint: sign in: skytower api login -e {}", team.url);
        assert!(ran.err.contains(&hint), "{ran:#?}");
    }
    let ran = desk.run(&["api", "info", "-e", &team.url]).await;
    ran.failed(3, "does not know you");
    assert!(
        ran.out.contains("Takes a user and a password, or a token"),
        "{ran:#?}"
    );
    let ran = desk
        .run(&["api", "info", "-o", "json", "-e", &team.url])
        .await;
    let told: Value = serde_json::from_str(&ran.ended(3).out).unwrap();
    assert_eq!(told["sign_in"], json!(["password", "token"]));
    team.with(|world| world.throttled = Some(90));
    let ran = desk.run(&["clusters", "-e", &team.as_alice("wrong")]).await;
    ran.failed(1, "too many attempts");
    assert!(ran.err.contains("hint: try again in 1m 30s"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_is_told_when_the_token_is_revoked() {
    for curt in [false, true] {
        let (desk, team) = desk().await;
        team.with(|world| world.curt = curt);
        desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
            .await
            .ended(0);
        let watching = desk.run(&["clusters", "--watch"]);
        let revoked = async {
            while team.with(|world| world.cursors.is_empty()) {
                tokio::task::yield_now().await;
            }
            team.revoke_all();
        };
        let (ran, ()) = tokio::join!(watching, revoked);
        ran.failed(3, "does not know you");
        let hint = format!("hint: sign in: skytower api login -e {}", team.url);
        assert!(ran.err.contains(&hint), "{ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_made_shown_once_rotated_and_revoked() {
    let (desk, team) = desk().await;
    desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await
        .ended(0);
    let ran = desk
        .run(&["token", "create", "ci", "--scope", "read"])
        .await;
    let token = team.with(|world| world.tokens["made2"].clone());
    assert_eq!(ran.ended(0).out, format!("{token}\n"));
    assert!(
        ran.err.contains("made2 (ci)") && !ran.err.contains(&token),
        "{ran:#?}"
    );
    let asked = team.with(|world| world.asked[1].clone());
    assert_eq!(
        asked,
        json!({"name": "ci", "scope": "read", "expires": "90d"})
    );
    let words = [
        "token",
        "create",
        "bot",
        "--expires",
        "never",
        "--user",
        "bot",
        "-o",
        "json",
    ];
    let ran = desk.run(&words).await;
    let told: Value = serde_json::from_str(&ran.ended(0).out).unwrap();
    assert_eq!(
        told["token"],
        *team.with(|world| world.tokens["made3"].clone())
    );
    let asked = team.with(|world| world.asked[2].clone());
    assert_eq!(asked, json!({"name": "bot", "scope": "act", "user": "bot"}));
    desk.run(&["token", "create", "ci", "--expires", "soon"])
        .await
        .failed(2, "no time to expire after");

    let ran = desk.run(&["token", "list"]).await;
    assert!(ran.ended(0).out.contains("(in use here)"), "{ran:#?}");
    assert!(!ran.out.contains("not.to.be.seen"), "{ran:#?}");
    // The one in use: what is saved follows.
    desk.run(&["token", "rotate", "made1"]).await.ended(0);
    assert_eq!(
        saved(&desk).token.unwrap().expose(),
        "st_made1_not.to.be.seen.again"
    );
    assert!(saved(&desk).issued);
    desk.run(&["token", "revoke", "made2", "made3"])
        .await
        .ended(0);
    desk.run(&["token", "revoke", "made2"])
        .await
        .failed(5, "there is no token `made2`");
    desk.run(&["password"])
        .await
        .failed(2, "no terminal to ask on");

    team.with(|world| world.without_accounts = true);
    for words in [
        &["token", "list"][..],
        &["token", "create", "ci"],
        &["token", "revoke", "made1"],
        &["token", "rotate", "made1"],
        &["password"],
    ] {
        desk.run(words)
            .await
            .failed(2, "has no accounts of its own");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_told_so_changes_nothing() {
    let (mut desk, team) = desk().await;
    desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await
        .ended(0);
    let before = team.with(|world| world.changed.len());
    let changes: [&[&str]; 4] = [
        &["down", "cluster/training-ground", "-y"],
        &["launch", "none.yaml", "-y"],
        &["token", "create", "ci"],
        &["password"],
    ];
    for words in changes {
        let mut words = words.to_vec();
        words.push("--read-only");
        desk.run(&words)
            .await
            .failed(4, "this skytower is read-only");
    }
    desk.run(&["clusters", "--read-only"]).await.ended(0);
    let text = std::fs::read_to_string(config(&desk)).unwrap();
    std::fs::write(config(&desk), format!("{text}read_only = true\n")).unwrap();
    desk.run(changes[0])
        .await
        .failed(4, "this skytower is read-only");
    desk.run(&["token", "list"]).await.ended(0);
    std::fs::write(config(&desk), text).unwrap();
    let variable = ("SKYTOWER_READ_ONLY".to_owned(), "1".to_owned());
    desk.variables.push(variable);
    desk.run(changes[0])
        .await
        .failed(4, "this skytower is read-only");
    assert_eq!(team.with(|world| world.changed.len()), before);
}

/// What was ever written to the terminal holds no password.
#[track_caller]
fn not_shown(terminal: &Terminal) {
    for secret in [PASSWORD, "not.to.be.seen"] {
        let found = terminal
            .seen
            .windows(secret.len())
            .any(|it| it == secret.as_bytes());
        assert!(!found, "`{secret}` was on the terminal");
    }
}

/// Types a text, and a key after it.
fn types_into(terminal: &mut Terminal, text: &str, then: &str) {
    terminal.types(text);
    terminal.types(then);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_asked_for_on_the_screen_and_the_state_stays() {
    let (desk, team) = desk().await;
    desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await
        .ended(0);
    let mut terminal = Terminal::of(desk.at_terminal(&[]));
    tokio::task::block_in_place(|| {
        terminal.shows("training-ground");
        terminal.shows("live");
        team.revoke_all();
        terminal.shows("Sign in to");
        terminal.shows("your token was revoked");
        terminal.shows("Not signed in any more, this is the state of");
        terminal.shows("training-ground");
        // Put away, it does not come back by itself, but when it is called.
        terminal.types("\x1b");
        terminal.until("the box is gone", |it| {
            !it.screen.screen().contents().contains("Sign in to")
        });
        terminal.types("\x0c");
        terminal.shows("Sign in to");
        types_into(&mut terminal, "mistaken", "\r");
        terminal.shows("the server does not take these");
        terminal.shows("alice");
        // Pasted, as password managers do.
        types_into(
            &mut terminal,
            &format!("\x1b[200~{PASSWORD}\x1b[201~"),
            "\r",
        );
        terminal.shows("signed in, and saved in");
        terminal.until("live again", |it| {
            let screen = it.screen.screen().contents();
            screen.contains("live") && !screen.contains("Not signed in")
        });
        terminal.shows("training-ground");
        terminal.types("\x03");
        terminal.was_given_back();
        assert!(terminal.child.wait().unwrap().success());
    });
    not_shown(&terminal);
    let cursors = team.with(|world| world.cursors.clone());
    assert_eq!(cursors.len(), 2, "{cursors:?}");
    assert_eq!(cursors[0], Value::Null);
    assert_eq!(cursors[1]["epoch"], "e", "it went on from where it was");
    assert_eq!(saved(&desk).token.unwrap().token_id(), Some("made2"));
    no_password(&desk);
    assert_eq!(
        team.with(|world| world.strange.clone()),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_that_was_never_let_in_asks_on_its_empty_screen() {
    let (desk, team) = desk().await;
    let token = team.token("mine");
    let mut terminal = Terminal::of(desk.at_terminal(&["-e", &team.url]));
    tokio::task::block_in_place(|| {
        terminal.shows("Sign in to");
        terminal.types("\t\t");
        types_into(&mut terminal, &token, "\r");
        terminal.shows("training-ground");
        terminal.types("\x03");
        terminal.was_given_back();
    });
    not_shown(&terminal);
    assert_eq!(saved(&desk).token.unwrap().token_id(), Some("mine"));
    assert!(!saved(&desk).issued);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_dashboards_with_one_login_need_one_password() {
    let (desk, team) = desk().await;
    desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await
        .ended(0);
    let mut terminal = Terminal::of(desk.at_terminal(&[]));
    tokio::task::block_in_place(|| terminal.shows("training-ground"));
    // Signing in elsewhere ends the token that the dashboard has.
    desk.run(&["api", "login", "-e", &team.as_alice(PASSWORD)])
        .await
        .ended(0);
    let goes_on = || team.with(|world| world.cursors.len() == 2);
    tokio::task::block_in_place(|| {
        terminal.until("a second connection", |_| goes_on());
        terminal.shows("live");
        terminal.types("\x03");
        terminal.was_given_back();
    });
    let seen = String::from_utf8_lossy(&terminal.seen).into_owned();
    assert!(!seen.contains("Sign in to"), "it was asked for nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_at_a_terminal_asks_once_and_goes_on() {
    let (desk, team) = desk().await;
    let words = ["clusters", "-o", "name", "-e", &team.url];
    let mut terminal = Terminal::of(desk.at_terminal(&words));
    tokio::task::block_in_place(|| {
        terminal.shows("User (empty to give a token):");
        terminal.types("alice\r");
        terminal.shows("Password:");
        terminal.types(&format!("{PASSWORD}\r"));
        terminal.shows("cluster/training-ground");
        assert!(terminal.child.wait().unwrap().success());
    });
    not_shown(&terminal);
    assert_eq!(saved(&desk).token.unwrap().token_id(), Some("made1"));
    no_password(&desk);
    // A password is changed at a terminal, by who knows the one before.
    let mut terminal = Terminal::of(desk.at_terminal(&["password"]));
    tokio::task::block_in_place(|| {
        for (question, answer) in [
            ("Current password:", "mistaken"),
            ("New password:", "another.not.to.be.seen"),
            ("The same again:", "another.not.to.be.seen"),
        ] {
            terminal.shows(question);
            terminal.types(&format!("{answer}\r"));
        }
        terminal.shows("the present password is another one");
        assert_eq!(terminal.child.wait().unwrap().exit_code(), 4);
    });
    assert_eq!(team.with(|world| world.password.clone()), PASSWORD);
    let mut terminal = Terminal::of(desk.at_terminal(&["password"]));
    tokio::task::block_in_place(|| {
        for (question, answer) in [
            ("Current password:", PASSWORD),
            ("New password:", "another.not.to.be.seen"),
            ("The same again:", "another.not.to.be.seen"),
        ] {
            terminal.shows(question);
            terminal.types(&format!("{answer}\r"));
        }
        terminal.shows("Your password is changed.");
    });
    not_shown(&terminal);
    assert_eq!(
        team.with(|world| world.password.clone()),
        "another.not.to.be.seen"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_54_a_signal_gives_the_terminal_back_while_a_password_is_typed() {
    let (desk, team) = desk().await;
    let mut terminal = Terminal::of(desk.at_terminal(&["-e", &team.url]));
    tokio::task::block_in_place(|| {
        terminal.shows("Sign in to");
        terminal.types(&format!("alice\t{PASSWORD}"));
        terminal.shows("••••••");
        let pid = terminal.child.process_id().unwrap();
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        terminal.was_given_back();
        assert_eq!(terminal.child.wait().unwrap().exit_code(), 128 + 15);
    });
    not_shown(&terminal);
    assert!(!config(&desk).exists());
}
