//! Who is refused is asked once who they are, when somebody is there to be asked.

use skytower_api_client::endpoint::{
    Credentials, Endpoint, Origin, Process, introduction, resolve,
};
use skytower_api_client::rest::ClientError;

use super::args::Global;
use super::{Failure, prompt};
use crate::connect::{Connected, connect, connect_to, default_skypilot, to_server};
use crate::login::{PROBE, renew};

/// Connects; asks once for credentials where those that there are do not count.
pub async fn connected(global: &Global) -> Result<Connected, Failure> {
    let refused = match connect(global).await {
        Err(error @ ClientError::NotSignedIn { .. }) => error,
        other => return Ok(other?),
    };
    if !prompt::can_ask() {
        return Err(refused.into());
    }
    let endpoint = refusing(global)?;
    eprintln!("{refused}.");
    let credentials = prompt::credentials().await?;
    if matches!(&credentials, Credentials::Bearer(token) if token.expose().is_empty()) {
        return Err(refused.into());
    }
    let (endpoint, said) = renew(Endpoint {
        credentials,
        ..endpoint
    })
    .await?;
    eprintln!("{}: {said}.", endpoint.shown());
    Ok(connect_to(endpoint, !global.no_start).await?)
}

/// As [`connected`], for the dashboard: a server with accounts is signed in to on its first screen.
pub async fn for_dashboard(global: &Global) -> Result<Connected, Failure> {
    match connect(global).await {
        Err(ClientError::NotSignedIn { .. }) => {}
        other => return Ok(other?),
    }
    let endpoint = refusing(global)?;
    if introduction(&endpoint, PROBE).await.is_none() {
        return connected(global).await;
    }
    Ok(to_server(endpoint))
}

/// The server that refused.
pub(super) fn refusing(global: &Global) -> Result<Endpoint, Failure> {
    Ok(match resolve(global.endpoint.as_deref(), &Process)? {
        Some(endpoint) => endpoint,
        None => default_skypilot()?,
    })
}

/// Says on standard error which secrets of a command line others can see while it runs.
pub(super) fn warn_of_the_command_line(global: &Global, token: Option<&str>) {
    if token.is_some_and(|token| token != "-") {
        eprintln!(
            "warning: others on this machine can see a token on a command line; `--token -` reads it \
             from standard input"
        );
    }
    let said = global.endpoint.as_deref();
    let endpoint = said.and_then(|raw| Endpoint::parse(raw, Origin::Flag).ok());
    if endpoint.is_some_and(|endpoint| endpoint.credentials != Credentials::None) {
        eprintln!(
            "warning: others on this machine can see a password on a command line; without it in the \
             address it is asked for"
        );
    }
}
