//! The real program at a desk of its own: a home that nothing else uses, no terminal, and nothing
//! listening but what the test puts there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    dead_code,
    reason = "shared by several test programs"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use skytower_api_client::endpoint::Credentials;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub words: Vec<String>,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// It failed as failures have to look: its code, one sentence with `about` in it, and a hint.
    #[track_caller]
    pub fn failed(&self, code: i32, about: &str) {
        assert_eq!(self.code, code, "{self:#?}");
        let sentences: Vec<&str> = starting(&self.err, "error: ").collect();
        assert_eq!(sentences.len(), 1, "{self:#?}");
        assert!(sentences[0].contains(about), "no `{about}` in {self:#?}");
        let hints: Vec<&str> = starting(&self.err, "hint: ").collect();
        assert_eq!(hints.len(), 1, "{self:#?}");
        assert!(!hints[0].is_empty(), "{self:#?}");
        for line in self.err.lines() {
            let known = ["error: ", "hint: ", "warning: ", "note: "];
            assert!(known.iter().any(|word| line.starts_with(word)), "{self:#?}");
        }
    }

    #[track_caller]
    pub fn ended(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

fn starting<'a>(text: &'a str, with: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    text.lines().filter_map(move |line| line.strip_prefix(with))
}

/// The desk. The local servers that were started at it end with it.
pub struct Desk {
    folder: TempDir,
    secrets: Vec<String>,
    pub variables: Vec<(String, String)>,
    default_port: u16,
}

impl Desk {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            secrets: Vec::new(),
            variables: Vec::new(),
            default_port: nobody(),
        }
    }

    /// What nothing that is written may hold from now on; of credentials, also as they are sent.
    pub fn keep_secret(&mut self, credentials: &Credentials) {
        let (_, value) = credentials.header().unwrap();
        let sent = value.split_once(' ').map_or(&*value, |(_, sent)| sent);
        self.secrets.push(sent.to_owned());
        if let Credentials::Basic { password, .. } = credentials {
            self.secrets.push(password.expose().to_owned());
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skytower"));
        let home = self.path();
        command
            .args(words)
            .current_dir(home)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("USER", "tester")
            .env("HOME", home)
            .env("SKYTOWER_HOME", home.join("tower"))
            // As talkative as it gets: secrets are looked for in what it says.
            .env("SKYTOWER_LOG", "trace")
            .env(
                "SKYPILOT_API_SERVER_LOCAL_PORT",
                self.default_port.to_string(),
            )
            .envs(self.variables.iter().cloned());
        command
    }

    /// The program with these words, to be started on a terminal.
    pub fn at_terminal(&self, words: &[&str]) -> portable_pty::CommandBuilder {
        let command = self.command(words);
        let mut on_terminal = portable_pty::CommandBuilder::new(command.get_program());
        on_terminal.args(command.get_args());
        on_terminal.cwd(self.path());
        on_terminal.env_clear();
        for (name, value) in command.get_envs() {
            on_terminal.env(name, value.unwrap_or_default());
        }
        on_terminal.env("TERM", "xterm-256color");
        on_terminal
    }

    /// Runs the program to its end, without a terminal.
    pub async fn run(&self, words: &[&str]) -> Ran {
        self.run_with(words, b"").await
    }

    /// As [`Desk::run`], with something on standard input.
    pub async fn run_with(&self, words: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(words);
        let input = input.to_vec();
        let output = tokio::task::spawn_blocking(move || -> Output {
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // One that does not read it may have ended.
            let _ = child.stdin.take().unwrap().write_all(&input);
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap();
        let ran = Ran {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        for secret in &self.secrets {
            let said = format!("{}{}", ran.out, ran.err);
            assert!(!said.contains(secret), "`{secret}` in {ran:#?}");
        }
        ran
    }

    /// The state folders of local servers.
    pub fn servers(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.path().join("tower/servers"));
        let folders = folders.into_iter().flatten().flatten();
        folders.map(|entry| entry.path()).collect()
    }

    /// What a local server wrote down about itself.
    pub fn card(&self) -> Option<Value> {
        let cards = self.servers().into_iter();
        let mut cards = cards.filter_map(|home| std::fs::read(home.join("server.json")).ok());
        serde_json::from_slice(&cards.next()?).ok()
    }

    /// Looks into every file for what may not be there. The saved login and a server's own token are
    /// where they belong.
    pub fn holds_no_secret(&self) {
        let mut own = Vec::new();
        for home in self.servers() {
            own.push(std::fs::read_to_string(home.join("token")).unwrap());
        }
        let mut open = vec![self.path().to_owned()];
        let mut files = 0;
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).unwrap();
                open.extend(entries.map(|entry| entry.unwrap().path()));
                continue;
            }
            if ["token", "config.toml"]
                .iter()
                .any(|name| path.ends_with(name))
            {
                continue;
            }
            // A file of the database that went meanwhile holds nothing.
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            files += 1;
            for secret in self.secrets.iter().chain(&own) {
                let secret = secret.trim().as_bytes();
                let found = bytes.windows(secret.len()).any(|window| window == secret);
                assert!(!found, "a secret is in {}", path.display());
            }
        }
        assert!(files > 0, "there was nothing to look into");
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let stopped = self
            .command(&["api", "stop", "--all"])
            .stdin(Stdio::null())
            .output();
        let left = self.card();
        let well = stopped.is_ok_and(|output| output.status.success()) && left.is_none();
        if !well && let Some(pid) = left.and_then(|card| card["pid"].as_i64()) {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        assert!(
            well || std::thread::panicking(),
            "a local server did not stop"
        );
    }
}

/// A port that nobody listens at.
pub fn nobody() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Somebody who says the same whatever is asked. It ends when it is dropped.
pub struct Stranger {
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stranger {
    /// Says these bytes to everybody.
    pub async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.into();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { url, task }
    }

    /// Answers every request so.
    pub async fn answering(status: u16, kind: &str, body: &str) -> Self {
        Self::saying(format!(
            "HTTP/1.1 {status} Whatever\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }
}
