//! Where the server is and with which credentials: the order of cli.md, without surprises.

mod probe;
mod resolve;

pub use probe::{Found, SKYPILOT_API_VERSION, SKYPILOT_OLDEST, introduction, probe};
pub use resolve::{Process, Saved, Surroundings, redacted, resolve, saved_path};

pub use crate::credentials::{Credentials, Secret};
use crate::text::Text;

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
