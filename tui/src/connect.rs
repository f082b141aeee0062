//! From what was said to a server that answers: found, probed, and started where that is ours to do.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use skytower_api_client::endpoint::{
    Credentials, Endpoint, Found, Origin, Process, Surroundings as _, probe, resolve,
};
use skytower_api_client::rest::ClientError;
use skytower_api_client::session::Session;

use crate::cli::args::Global;
use crate::config;
#[cfg(feature = "local-server")]
use crate::local::{self, Watched};

/// How long a server may take to say what it is, and who one is: it may have to ask a busy SkyPilot first.
const PROBE: Duration = crate::login::PROBE;
/// The same for the default SkyPilot server, which need not be there at all.
const PROBE_DEFAULT: Duration = Duration::from_secs(2);

/// A server that answers.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The server.
    pub session: Session,
    /// Where its address came from.
    pub origin: Origin,
    /// What a local server watches, in case it is one.
    pub watches: Option<String>,
}

/// Finds or starts the server.
pub async fn connect(global: &Global) -> Result<Connected, ClientError> {
    match resolve(global.endpoint.as_deref(), &Process)? {
        Some(endpoint) => connect_to(endpoint, !global.no_start).await,
        None => by_default(!global.no_start).await,
    }
}

/// As [`connect`], to a server that is known.
pub async fn connect_to(endpoint: Endpoint, may_start: bool) -> Result<Connected, ClientError> {
    // A server that runs already is asked first: it has what it knows even when SkyPilot is away.
    #[cfg(feature = "local-server")]
    {
        let watched = Watched {
            endpoint: Some(endpoint.clone()),
        };
        let home = local::home_of(&watched)?;
        if let Some(running) = local::running(&home).await {
            // It goes by the password of its start, and SkyPilot may have another one by now.
            if may_start
                && local::is_shut_out(&running).await
                && probe(&endpoint, PROBE).await.is_ok()
            {
                local::stop(&home).await?;
            }
            return through_local(watched, may_start).await;
        }
    }
    match probe(&endpoint, PROBE).await? {
        Found::Skytower(_) => Ok(to_server(endpoint)),
        Found::Skypilot { .. } => watching(endpoint, may_start).await,
    }
}

/// A skytower server that is not this account's own. One that is signed in to with what is saved, or
/// not at all, is so with what is saved later.
pub fn to_server(endpoint: Endpoint) -> Connected {
    let reread = {
        let url = endpoint.url.clone();
        move || {
            let saved = config::saved().ok()??;
            let credentials = saved.credentials();
            (saved.endpoint.as_ref() == Some(&url) && credentials != Credentials::None)
                .then_some(credentials)
        }
    };
    let follows = endpoint.credentials == Credentials::None
        || reread().as_ref() == Some(&endpoint.credentials);
    let origin = endpoint.origin.clone();
    let session = Session::new(endpoint);
    Connected {
        origin,
        session: if follows {
            session.with_reread(Arc::new(reread))
        } else {
            session
        },
        watches: None,
    }
}

/// The address of the SkyPilot server that `sky` would start or use on this machine.
pub fn default_skypilot() -> Result<Endpoint, ClientError> {
    let port = Process.said("SKYPILOT_API_SERVER_LOCAL_PORT");
    let port = port.as_deref().unwrap_or("46580");
    Endpoint::parse(&format!("http://127.0.0.1:{port}"), Origin::Default)
}

async fn by_default(may_start: bool) -> Result<Connected, ClientError> {
    let endpoint = default_skypilot()?;
    match probe(&endpoint, PROBE_DEFAULT).await {
        Ok(Found::Skypilot { .. }) => watching(endpoint, may_start).await,
        Ok(Found::Skytower(_)) => Ok(to_server(endpoint)),
        Err(error) => without_skypilot(endpoint, error, may_start).await,
    }
}

#[cfg(feature = "local-server")]
async fn watching(endpoint: Endpoint, may_start: bool) -> Result<Connected, ClientError> {
    through_local(
        Watched {
            endpoint: Some(endpoint),
        },
        may_start,
    )
    .await
}

#[cfg(not(feature = "local-server"))]
#[expect(clippy::unused_async, reason = "as the one with the local server")]
async fn watching(endpoint: Endpoint, _: bool) -> Result<Connected, ClientError> {
    Err(ClientError::Local {
        message: format!(
            "{} is a SkyPilot API server, and this skytower was built without the local server that would watch it",
            endpoint.shown()
        )
        .into(),
        hint: "name a skytower server: skytower api login -e URL".into(),
    })
}

#[cfg(feature = "local-server")]
async fn without_skypilot(
    endpoint: Endpoint,
    _: ClientError,
    may_start: bool,
) -> Result<Connected, ClientError> {
    let watched = Watched {
        endpoint: Some(endpoint),
    };
    // It was there before and is away now: its last state is still known.
    if local::running(&local::home_of(&watched)?).await.is_some() {
        return through_local(watched, may_start).await;
    }
    through_local(Watched::default(), may_start).await
}

#[cfg(not(feature = "local-server"))]
#[expect(clippy::unused_async, reason = "as the one with the local server")]
async fn without_skypilot(
    _: Endpoint,
    error: ClientError,
    _: bool,
) -> Result<Connected, ClientError> {
    Err(error)
}

#[cfg(feature = "local-server")]
async fn through_local(watched: Watched, may_start: bool) -> Result<Connected, ClientError> {
    let found = local::ensure(&watched, may_start, local::Other::Replace, progress).await?;
    let again = watched.clone();
    // On the way the terminal may belong to the dashboard: what is found anew is found silently.
    let locate = Arc::new(move || {
        let watched = again.clone();
        Box::pin(async move { local::ensure(&watched, may_start, local::Other::Use, |_| {}).await })
            as futures_util::future::BoxFuture<'static, _>
    });
    let watches = watched.endpoint.as_ref();
    Ok(Connected {
        session: Session::with_locate(found, locate),
        origin: watches.map_or(Origin::Default, |endpoint| endpoint.origin.clone()),
        watches: watches.map(|endpoint| endpoint.shown().to_string()),
    })
}

/// Says on standard error what takes time, when a person is there to read it.
pub fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{what}…");
    }
}
