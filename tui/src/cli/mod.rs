//! The headless commands. [`args`] declares them; each returns its exit code, or why it failed.

pub mod args;
mod failure;

pub use failure::Failure;

use skytower_api_client::session::Session;

use args::{Command, Global};

/// Runs a command that talks to a server.
pub async fn run(command: Command, global: &Global, session: Session) -> Result<u8, Failure> {
    let _ = (global, session);
    Err(Failure::usage(
        format!("{command:?} is not there yet"),
        "use the dashboard: skytower",
    ))
}
