//! `skytower-server user|token|workspace` as a program.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn run(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_skytower-server"))
        .arg("--home")
        .arg(home)
        .args(arguments)
        .env_remove("SKYTOWER_HOME")
        .output()
        .unwrap()
}

fn said(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_first_password_is_shown_by_whatever_starts_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &["user", "list"]);
    assert!(first.status.success(), "{}", said(&first.stderr));
    let (before, password) = said(&first.stderr).trim().rsplit_once('\n').unwrap();
    assert!(before.contains("shown this once"), "{before}");
    assert!(password.len() > 20 && !said(&first.stdout).contains(password));
    let again = run(folder.path(), &["user", "list"]);
    assert_eq!(said(&again.stderr), "");
    assert_eq!(again.stdout, first.stdout);
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["user", "list"]);
    for (arguments, words) in [
        (
            &["user", "remove", "nobody"][..],
            "there is no user `nobody`",
        ),
        (
            &["user", "role", "skytower", "viewer"],
            "last administrator",
        ),
        (&["user", "add", "-x"], "unexpected argument"),
        (&["user", "add", "a b"], "cannot be in the name"),
        (&["workspace", "private", "default"], "default"),
        (
            &["token", "create", "skytower", "--expires", "soon"],
            "`soon` is not a span of time",
        ),
        (&["token", "revoke", "000000000000"], "000000000000"),
    ] {
        let done = run(folder.path(), arguments);
        let stderr = said(&done.stderr);
        assert!(!done.status.success(), "{arguments:?}");
        assert!(
            stderr.starts_with("error: ") && stderr.contains(words),
            "{arguments:?}: {stderr}"
        );
        assert!(
            stderr.contains("hint: ") || stderr.contains("--help"),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(said(&done.stdout), "", "{arguments:?}");
    }
}
