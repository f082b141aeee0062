//! The beginning and the end of a server: other people's environments, other versions' files, signals.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::json;
use skytower_api_client::rest::path;
use skytower_api_client::{Key, Kind};
use skytower_server::{StartError, home, store};
use tokio_tungstenite::tungstenite::Message;

use crate::people::as_local;
use crate::program::Program;
use crate::raw::Raw;
use crate::support::{Watching, start_team, start_with, within};

/// The code of a close frame by which a server says that it goes away.
const AWAY: u16 = 1001;

#[tokio::test]
async fn case_76_the_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let (server, _) = start_team().await;
    let folder = server.home.clone();
    server.stop().await;
    let file = folder.path().join(store::FILE);
    let newer = Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    // What is in the journal beside it goes into the file, and the journal with the last connection.
    drop(newer);
    let before = std::fs::read(&file).unwrap();
    let refused = start_with(folder.clone(), |config| config.accounts = true).await;
    let Err(StartError::Store(error)) = refused.map(|_| ()) else {
        panic!("it started");
    };
    let said = error.to_string();
    assert!(said.contains("99") && said.contains("newer"), "{said}");
    assert!(std::fs::read(&file).unwrap() == before, "it was written to");
}

#[tokio::test]
async fn case_82_whoever_watches_is_told_that_the_server_goes_and_nobody_holds_it_up() {
    let config = "engine = 'none'\n[limits]\nconnections_per_user = 1000";
    let mut program = Program::start("true", config);
    let server = program.running().await;
    let watching = join_all((0..200).map(|_| async {
        let mut watching = server.connect().await;
        watching.subscribe(None).await;
        watching.next_ready().await;
        watching
    }));
    let watching = watching.await;
    // Some have just come, and some never read.
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(Raw::watch(&server).await);
    }
    program.terminate();
    let until_closed = async |mut watching: Watching| loop {
        match within(watching.socket.next()).await {
            Some(Ok(Message::Close(close))) => {
                // The answer, with which both have said it.
                while within(watching.socket.next()).await.is_some() {}
                break close.map(|close| u16::from(close.code));
            }
            Some(Ok(_)) => {}
            other => panic!("it ended without a word: {other:?}"),
        }
    };
    let codes = join_all(watching.into_iter().map(until_closed)).await;
    assert_eq!(codes, [Some(AWAY); 200]);
    assert!(program.ended().await.success());
    let told = silent.first_mut().unwrap().frame_of(8).await.unwrap();
    assert_eq!(told.close_code(), Some(AWAY));
    assert!(home::card(&program.home()).is_none());
    server.stop().await;
}

/// Everything below a folder that somebody else could read or write. The engine's name for the program is the
/// program itself, with the rights that it was installed with.
fn open_to_others(folder: &Path, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o777;
        let is_program = path.ends_with("engine/bin/skytower");
        if mode & 0o077 != 0 && !metadata.is_symlink() && !is_program {
            found.push(format!("{mode:o} {}", path.display()));
        }
        files += 1;
        if metadata.is_dir() {
            files += open_to_others(&path, found);
        }
    }
    files
}

#[tokio::test]
async fn case_83_what_is_written_is_for_its_owner_alone_in_whatever_environment() {
    let mut program = Program::start("umask 000 && unset HOME TMPDIR", "");
    let server = program.running().await;
    let job = json!({
        "action": "source.jobs_launch",
        "targets": [Key::new("local", Kind::Source, "local")],
        "options": {"start": {
            "file": "task.yaml", "yaml": "run: echo said", "folder": "/tmp", "name": "job",
        }},
    });
    let (status, answer) = as_local(&server, Method::POST, path::REQUESTS, Some(job)).await;
    assert_eq!(status, 202, "{answer}");
    let over = async {
        let list = "/api/v1/jobs?q=status:succeeded";
        while as_local(&server, Method::GET, list, None).await.1["rows"] == json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(over).await;
    // While it runs: what is there only then counts too.
    let home = program.home();
    let mode = home.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mut open = Vec::new();
    let files = open_to_others(&home, &mut open);
    assert!(files > 10, "{files}");
    program.terminate();
    assert!(
        program.ended().await.success(),
        "{}",
        program.said("stderr")
    );
    open_to_others(&home, &mut open);
    assert_eq!(open, [""; 0]);
    server.stop().await;
}
