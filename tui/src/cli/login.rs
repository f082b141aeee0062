//! `skytower api login` and `logout`.

use skytower_api_client::endpoint::{
    Credentials, Endpoint, Found, Origin, Process, Secret, resolve,
};
use skytower_api_client::rest::ClientError;

use super::args::Global;
use super::sign_in::warn_of_the_command_line;
use super::{Failure, prompt};
use crate::config;
use crate::login::{Left, end, keep, verify};

/// `skytower api login`.
pub(super) async fn login(global: &Global, token: Option<String>) -> Result<u8, Failure> {
    let raw = match &global.endpoint {
        Some(raw) => raw.clone(),
        None if !prompt::can_ask() => {
            return Err(Failure::usage(
                "no server was named, and there is no terminal to ask on",
                "name it: skytower api login -e URL",
            ));
        }
        None => prompt::ask("Server (http://[user:password@]host:port): ")?,
    };
    let mut endpoint = Endpoint::parse(&raw, Origin::Flag)?;
    warn_of_the_command_line(global, token.as_deref());
    let token = match token.as_deref() {
        Some("-") => Some(prompt::line()?),
        _ => token,
    };
    match token {
        Some(token) if token.trim().is_empty() => {
            return Err(Failure::usage(
                "the token is empty",
                "give one: --token TOKEN",
            ));
        }
        Some(token) => endpoint.credentials = Credentials::Bearer(Secret::new(token.trim())),
        // A cookie or a token from the environment is used, as `sky` would.
        None => {
            if let Some(found) = resolve(Some(&raw), &Process)? {
                endpoint.credentials = found.credentials;
            }
        }
    }
    let is_own = endpoint.credentials == Credentials::None || is_saved(&endpoint);
    let mut login = verify(endpoint.clone()).await;
    // What was saved before may have expired: that is what one signs in again for.
    if matches!(login, Err(ClientError::NotSignedIn { .. })) && is_own && prompt::can_ask() {
        eprintln!("{} asks who you are.", endpoint.shown());
        endpoint.credentials = prompt::credentials().await?;
        login = verify(endpoint).await;
    }
    let login = login?;
    let kept = keep(&login).await?;
    let what = match &login.found {
        Found::Skytower(health) => format!("skytower server, version {}", health.version),
        Found::Skypilot { version } => format!("SkyPilot API server, version {version}"),
    };
    println!("Signed in to {} ({what}).", login.endpoint.shown());
    let token = match &login.endpoint.credentials {
        Credentials::Bearer(token) if login.issued => token.token_id(),
        _ => None,
    };
    match token {
        Some(id) => println!(
            "Saved in {}: a token ({id}) instead of the password.",
            kept.path.display()
        ),
        None => println!("Saved in {}.", kept.path.display()),
    }
    say_what_is_left(kept.left);
    Ok(0)
}

/// These credentials are those of the login before.
fn is_saved(endpoint: &Endpoint) -> bool {
    let saved = config::saved().unwrap_or_default().unwrap_or_default();
    saved.credentials() == endpoint.credentials
}

/// `skytower api logout`.
pub(super) async fn logout() -> Result<u8, Failure> {
    // What cannot be read is forgotten all the same.
    let saved = config::saved().unwrap_or_default().unwrap_or_default();
    if !config::forget()? {
        println!("Nobody was signed in.");
        return Ok(0);
    }
    let left = end(&saved).await;
    let revoked = if saved.issued && left.is_none() {
        ", and the token of the login is revoked"
    } else {
        ""
    };
    println!("Signed out: the saved server and its credentials are forgotten{revoked}.");
    let given = saved.token.as_ref().filter(|_| !saved.issued);
    if let Some(id) = given.and_then(Secret::token_id) {
        println!("The token {id} was not made by the login and still counts.");
    }
    say_what_is_left(left);
    Ok(0)
}

fn say_what_is_left(left: Option<Left>) {
    if let Some(left) = left {
        eprintln!("warning: {left}");
        eprintln!(
            "note: revoke it later: skytower token revoke {} -e {}",
            left.id, left.url
        );
    }
}
