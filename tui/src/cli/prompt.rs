//! Questions to whoever sits at the terminal.

use std::io::{IsTerminal as _, Write as _};

use skytower_api_client::endpoint::{Credentials, Secret};

use super::Failure;

/// Somebody is there who can be asked.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a line.
pub(super) fn ask(question: &str) -> Result<String, Failure> {
    eprint!("{question}");
    std::io::stderr().flush()?;
    line()
}

/// A line of standard input.
pub(super) fn line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// A password as it was typed: only the end of its line does not belong to it.
fn password_line(question: &str) -> Result<Secret, Failure> {
    eprint!("{question}");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let typed = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Secret::new(typed.strip_suffix('\r').unwrap_or(typed)))
}

/// Asks without showing what is typed. The terminal is given back also when it is broken off.
pub(super) async fn ask_secret(question: &'static str) -> Result<Secret, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let terminal = std::io::stdin();
    let shown = tcgetattr(&terminal).map_err(std::io::Error::from)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &hidden).map_err(std::io::Error::from)?;
    let answer = tokio::select! {
        answer = tokio::task::spawn_blocking(move || password_line(question)) => answer.ok(),
        _ = tokio::signal::ctrl_c() => None,
    };
    tcsetattr(&terminal, OptionalActions::Now, &shown).map_err(std::io::Error::from)?;
    eprintln!();
    match answer {
        Some(answer) => answer,
        // The thread that waits for a line cannot be called back.
        None => std::process::exit(130),
    }
}

/// Asks who somebody is: a user with a password, or a token.
pub(super) async fn credentials() -> Result<Credentials, Failure> {
    let user = ask("User (empty to give a token): ")?;
    if user.is_empty() {
        let token = ask_secret("Token: ").await?;
        return Ok(Credentials::Bearer(Secret::new(token.expose().trim())));
    }
    let password = ask_secret("Password: ").await?;
    Ok(Credentials::Basic { user, password })
}
