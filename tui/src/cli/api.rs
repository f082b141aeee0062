//! `skytower api …`: signing in and out, and looking after the server.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::json;
use skytower_api_client::human;
use skytower_api_client::rest::Client;

use super::args::{Api, Form, Global};
use super::sign_in::connected;
use super::{Failure, info, login};

/// Runs a command of the group.
pub async fn run(command: Api, global: &Global) -> Result<u8, Failure> {
    match command {
        Api::Login { token } => login::login(global, token).await,
        Api::Logout => login::logout().await,
        Api::Info { output } => info::info(global, output).await,
        Api::Status { output } => status(global, output).await,
        Api::Start => {
            let asked = Global {
                no_start: false,
                ..global.clone()
            };
            let connected = connected(&asked).await?;
            println!(
                "The server answers at {}.",
                connected.session.endpoint().shown()
            );
            Ok(0)
        }
        Api::Stop { all } => local::stop(global, all).await,
        Api::Logs { follow, tail } => local::logs(global, follow, tail).await,
    }
}

async fn status(global: &Global, output: Form) -> Result<u8, Failure> {
    // To look is not to start.
    let asked = Global {
        no_start: true,
        ..global.clone()
    };
    let connected = connected(&asked).await?;
    let url = connected.session.endpoint().shown();
    let status = Client::new(connected.session)?.status().await?;
    let text = match output {
        Form::Json => {
            let document =
                json!({"server": info::server(&url, &status), "sources": status.sources});
            format!("{document:#}\n")
        }
        Form::Text => {
            let health = &status.health;
            let mut out = format!("{url}: {}, version {}", health.status, health.version);
            if let Some(pid) = health.pid {
                let _ = write!(out, ", process {pid}");
            }
            if let Some(clients) = health.clients {
                let _ = write!(
                    out,
                    ", {}",
                    human::count(clients as usize, "watching client")
                );
            }
            out.push('\n');
            for source in &status.sources {
                let _ = write!(out, "source {}: {}", source.name, source.status);
                if let Some(error) = &source.error {
                    let _ = write!(out, ", {error}");
                }
                out.push('\n');
            }
            out
        }
    };
    print(&text)
}

/// Writes to standard output at once.
pub(super) fn print(text: &str) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read this has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(0),
    }
}

#[cfg(not(feature = "local-server"))]
mod local {
    use super::{Failure, Global};

    fn none() -> Failure {
        Failure::usage(
            "this skytower was built without the local server",
            "its server is looked after where it runs",
        )
    }

    #[expect(clippy::unused_async, reason = "as the one with the local server")]
    pub(super) async fn stop(_: &Global, _: bool) -> Result<u8, Failure> {
        Err(none())
    }

    #[expect(clippy::unused_async, reason = "as the one with the local server")]
    pub(super) async fn logs(_: &Global, _: bool, _: usize) -> Result<u8, Failure> {
        Err(none())
    }
}

#[cfg(feature = "local-server")]
mod local {
    use std::io::{Read as _, Seek as _, SeekFrom};
    use std::path::PathBuf;
    use std::time::Duration;

    use skytower_api_client::Block;
    use skytower_api_client::endpoint::{Process, resolve};

    use super::{Failure, Global, human, print};
    use crate::connect::default_skypilot;
    use crate::local::{self, Watched, all_homes, home_of};

    /// The folders that the present endpoint may have its server in.
    fn homes(global: &Global) -> Result<Vec<PathBuf>, Failure> {
        let watched = |endpoint| Watched { endpoint };
        Ok(match resolve(global.endpoint.as_deref(), &Process)? {
            Some(endpoint) => vec![home_of(&watched(Some(endpoint)))?],
            None => vec![
                home_of(&watched(Some(default_skypilot()?)))?,
                home_of(&watched(None))?,
            ],
        })
    }

    pub(super) async fn stop(global: &Global, all: bool) -> Result<u8, Failure> {
        let homes = if all { all_homes()? } else { homes(global)? };
        let mut stopped = 0;
        for home in homes {
            stopped += usize::from(local::stop(&home).await?);
        }
        match stopped {
            0 => println!("No local server runs."),
            1 => println!("The local server is stopped."),
            more => println!("{more} local servers are stopped."),
        }
        let going = local::tasks_going();
        if stopped > 0 && going > 0 {
            println!(
                "{} of the local engine {} on; the next skytower finds them again.",
                human::count(going, "task"),
                if going == 1 { "goes" } else { "go" },
            );
        }
        Ok(0)
    }

    pub(super) async fn logs(global: &Global, follow: bool, tail: usize) -> Result<u8, Failure> {
        let log = homes(global)?
            .iter()
            .map(|home| local::log(home))
            .find(|log| log.exists())
            .ok_or_else(|| {
                Failure::new(5, "no local server has written a log for this endpoint")
                    .hint("start one: skytower api start")
            })?;
        let mut file = std::fs::File::open(&log)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(tail)..] {
            print(&format!("{}\n", Block::new(line)))?;
        }
        if !follow {
            return Ok(0);
        }
        let mut read = bytes.len() as u64;
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            // Rotated: the name leads to a new file.
            if std::fs::metadata(&log).is_ok_and(|now| now.len() < read) {
                file = std::fs::File::open(&log)?;
                read = 0;
            }
            let mut more = Vec::new();
            file.seek(SeekFrom::Start(read))?;
            file.read_to_end(&mut more)?;
            if !more.is_empty() {
                print(&Block::new(String::from_utf8_lossy(&more)))?;
                read += more.len() as u64;
            }
        }
    }
}
