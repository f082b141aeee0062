//! Where the server is and with which credentials: the order of cli.md, without surprises.

use base64::Engine as _;

use crate::text::Text;

/// A secret. It cannot be printed; [`Secret::expose`] is for the line that sends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for sending or saving.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// How to say who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token (skytower's own, or SkyPilot's `sky_…`).
    Bearer(Secret),
    /// A `Cookie` header (SkyPilot's session).
    Cookie(Secret),
}

impl Credentials {
    /// The header that carries them: its name and its value. The value is secret.
    pub fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Credentials::None => None,
            Credentials::Basic { user, password } => {
                let pair = format!("{user}:{}", password.expose());
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(("authorization", format!("Basic {encoded}")))
            }
            Credentials::Bearer(token) => {
                Some(("authorization", format!("Bearer {}", token.expose())))
            }
            Credentials::Cookie(cookie) => Some(("cookie", cookie.expose().to_owned())),
        }
    }
}

/// Where an endpoint came from, for `api info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--endpoint`.
    Flag,
    /// An environment variable.
    Environment(&'static str),
    /// A configuration file.
    File(std::path::PathBuf),
    /// Nothing was said: the local server.
    Default,
}

/// A server's address without credentials, and the credentials beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port` or `https://…`, no trailing slash, no credentials.
    pub url: String,
    /// Who to say one is.
    pub credentials: Credentials,
    /// Where it was found.
    pub origin: Origin,
}

impl Endpoint {
    /// The address for people: credentials are never part of it.
    pub fn shown(&self) -> Text {
        Text::new(&self.url)
    }

    /// On this machine: no proxy stands in between.
    pub fn is_loopback(&self) -> bool {
        let Ok(url) = reqwest::Url::parse(&self.url) else {
            return false;
        };
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}
