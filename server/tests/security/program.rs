//! The server as a process of its own: the program itself, with a configuration file.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use skytower_server::home;
use tempfile::TempDir;

use crate::support::{Running, start, until};

pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) folder: TempDir,
}

impl Program {
    /// Starts it once the shell has done what is to be done `before`.
    pub(crate) fn start(before: &str, config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), before, config)
    }

    /// The same, in a folder that holds what the configuration names.
    pub(crate) fn start_in(folder: TempDir, before: &str, config: &str) -> Self {
        let file = folder.path().join("skytower-server.toml");
        std::fs::write(&file, config).unwrap();
        let written = |name: &str| File::create(folder.path().join(name)).unwrap();
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("{before} && exec \"$@\""))
            .arg("sh")
            .arg(env!("CARGO_BIN_EXE_skytower-server"))
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--home")
            .arg(folder.path().join("home"))
            .stdin(Stdio::null())
            .stdout(written("stdout"))
            .stderr(written("stderr"))
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// Its state folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// What it has written so far.
    pub(crate) fn said(&self, stream: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(stream)).unwrap()
    }

    pub(crate) async fn running(&self) -> Running {
        let home = self.home();
        until(|| home::card(&home).is_some()).await;
        let mut running = start().await;
        // The server under test is the program; of the one here only its clients are used.
        running.url = home::card(&home).unwrap().url;
        let token = home::read_token(&home).unwrap();
        token.expose().clone_into(&mut running.token);
        running
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// How it has ended, once it has.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        crate::support::within(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    break status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
