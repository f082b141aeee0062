//! Signing in: who one says one is is verified, exchanged for a token where there can be one, and kept.
//! The commands and the dashboard do it the same way.

use std::path::PathBuf;
use std::time::Duration;

use skytower_api_client::endpoint::{
    Credentials, Endpoint, Found, Process, Saved, Secret, Surroundings as _, introduction, probe,
};
use skytower_api_client::rest::accounts::{IssuedToken, NewToken, Scope};
use skytower_api_client::rest::{Client, ClientError, Unreachable};
use skytower_api_client::session::Session;
use skytower_api_client::{EpochMs, Text, human};

use crate::cli::Failure;
use crate::config;

/// How long a server may take to say what it is.
pub const PROBE: Duration = Duration::from_secs(45);
/// How long a token of a login counts.
const EXPIRES: &str = "90d";
/// What a host's name may take of the 64 characters that the name of a token has at most.
const HOST_NAME: usize = 30;
/// Variables that go before what is saved.
const VARIABLES: &[&str] = &["SKYTOWER_TOKEN", "SKYPILOT_SERVICE_ACCOUNT_TOKEN"];

/// Somebody whom a server knows.
#[derive(Clone, Debug)]
pub struct Login {
    /// The server, with the credentials to go on with.
    pub endpoint: Endpoint,
    /// What answers there.
    pub found: Found,
    /// The credentials are a token that was made for this login.
    pub issued: bool,
}

/// What was kept of a login.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// The token of the login before, when it could not be revoked.
    pub left: Option<Left>,
}

/// A token that still counts, though its login is over.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the token {id} of the login before could not be revoked and counts until it expires: {why}"
)]
pub struct Left {
    /// Its id.
    pub id: Text,
    /// Where.
    pub url: Text,
    /// Why it could not be revoked.
    pub why: ClientError,
}

/// Asks the server whether it knows these credentials. A password of its own is exchanged for a token,
/// so that it need not be written down.
pub async fn verify(endpoint: Endpoint) -> Result<Login, ClientError> {
    let mut login = Login {
        found: probe(&endpoint, PROBE).await?,
        endpoint,
        issued: false,
    };
    if matches!(login.found, Found::Skytower(_))
        && matches!(login.endpoint.credentials, Credentials::Basic { .. })
        && let Some(health) = introduction(&login.endpoint, PROBE).await
        && health.sign_in.iter().any(|way| way == "password")
        && let Some(issued) = exchange(&login.endpoint).await?
    {
        login.endpoint.credentials = Credentials::Bearer(issued.token);
        login.issued = true;
    }
    Ok(login)
}

/// A token for whoever signs in, who is no less with it; none where the password is not the server's own.
async fn exchange(endpoint: &Endpoint) -> Result<Option<IssuedToken>, ClientError> {
    let client = Client::new(Session::new(endpoint.clone()))?;
    let name = format!("login from {}", host());
    // Names are told apart: a login of before that was not ended has this one.
    let another = format!("{name} {}", human::date_time(EpochMs::now(), true));
    let mut new = NewToken {
        name,
        scope: Scope::Admin,
        expires: Some(EXPIRES.to_owned()),
        user: None,
    };
    let mut answer = client.create_token(&new).await;
    if matches!(&answer, Err(ClientError::Problem(problem)) if problem.status == 409) {
        new.name = another;
        answer = client.create_token(&new).await;
    }
    match answer {
        Ok(issued) => Ok(Some(issued)),
        Err(ClientError::Problem(problem)) if matches!(problem.status, 403..=405) => Ok(None),
        Err(error) => Err(error),
    }
}

/// This machine, for people who look at their tokens.
fn host() -> String {
    let said = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .unwrap_or_default();
    let host: String = Text::from(said.trim()).chars().take(HOST_NAME).collect();
    match host.as_str() {
        "" => "a machine without a name".to_owned(),
        _ => host,
    }
}

/// Writes a login down, and ends the one that it takes the place of.
pub async fn keep(login: &Login) -> Result<Kept, Failure> {
    // A file that cannot be understood is replaced.
    let before = config::saved().unwrap_or_default().unwrap_or_default();
    // The token of before may have been good still.
    let stays = before.endpoint.as_deref() == Some(&login.endpoint.url)
        && before.credentials() == login.endpoint.credentials;
    let issued = login.issued || (stays && before.issued);
    let path = match config::save(&login.endpoint, issued) {
        Ok(path) => path,
        Err(failure) => {
            if let (true, Credentials::Bearer(token)) = (login.issued, &login.endpoint.credentials)
            {
                // Nobody would have it: it is not to count for months. Saving is what failed here.
                let _ = revoke(&login.endpoint.url, token).await;
            }
            return Err(failure);
        }
    };
    let left = if stays { None } else { end(&before).await };
    Ok(Kept { path, left })
}

/// Revokes the token that a login made; one that somebody made and gave is theirs. Says which still
/// counts, and why.
pub async fn end(saved: &Saved) -> Option<Left> {
    let (Some(url), Some(token), true) = (&saved.endpoint, &saved.token, saved.issued) else {
        return None;
    };
    Some(Left {
        why: revoke(url, token).await?,
        id: token.token_id().unwrap_or_default().into(),
        url: url.as_str().into(),
    })
}

/// Revokes a token with itself. None when it counts no more.
async fn revoke(url: &str, token: &Secret) -> Option<ClientError> {
    let id = token.token_id()?;
    let endpoint = Endpoint {
        url: url.to_owned(),
        credentials: Credentials::Bearer(token.clone()),
        origin: skytower_api_client::endpoint::Origin::Default,
    };
    let call = async { Client::new(Session::new(endpoint))?.revoke_token(id).await };
    match tokio::time::timeout(PROBE, call).await {
        Ok(Ok(()) | Err(ClientError::NotSignedIn { .. })) => None,
        Ok(Err(ClientError::Problem(problem))) if problem.status == 404 => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some(ClientError::Unreachable {
            url: url.into(),
            why: Unreachable::Timeout,
            detail: Text::default(),
        }),
    }
}

/// Signing in anew on the way: verified, kept unless what is saved is for another server, and said.
pub async fn renew(endpoint: Endpoint) -> Result<(Endpoint, Text), ClientError> {
    let saved = config::saved().unwrap_or_default().unwrap_or_default();
    if let Some(other) = saved.endpoint.filter(|other| *other != endpoint.url) {
        probe(&endpoint, PROBE).await?;
        let said = format!(
            "signed in for now: what is saved is for {other} (skytower api login -e {} replaces it)",
            endpoint.shown()
        );
        return Ok((endpoint, said.into()));
    }
    let login = verify(endpoint).await?;
    let said = match keep(&login).await {
        Ok(Kept { path, left: None }) => format!("signed in, and saved in {}", path.display()),
        Ok(Kept {
            left: Some(left), ..
        }) => format!("signed in, and saved; {left}"),
        Err(failure) => format!("signed in, but not saved: {}", failure.message),
    };
    let before = VARIABLES.iter().find(|name| Process.said(name).is_some());
    let said = match before {
        Some(name) => format!("{said}; {name} is set and goes before it next time"),
        None => said,
    };
    Ok((login.endpoint, said.into()))
}
