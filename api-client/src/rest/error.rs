//! What can go wrong between a client and its server, with what to do about it.

use std::error::Error as _;
use std::time::Duration;

use crate::human;
use crate::text::Text;
use crate::wire::Problem;

/// Why nothing could be exchanged with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody listens there.
    Refused,
    /// The name is not known.
    Name,
    /// No secure connection came about.
    Tls,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Broken,
}

/// A call that did not end well. No variant holds a secret.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// Nothing could be exchanged.
    #[error("{}", unreachable_sentence(.url, *.why, .detail))]
    Unreachable {
        /// The address.
        url: Text,
        /// Why.
        why: Unreachable,
        /// What the system says.
        detail: Text,
    },
    /// Somebody else answers there.
    #[error("{url} is neither a skytower server nor a SkyPilot API server: {found}")]
    Stranger {
        /// The address.
        url: Text,
        /// What it answered.
        found: Text,
    },
    /// The server wants to know who is there, or does not believe it.
    #[error("{url} does not know you: {detail}")]
    NotSignedIn {
        /// The address.
        url: Text,
        /// What it says.
        detail: Text,
    },
    /// It was asked too often, or wrong passwords were tried too often.
    #[error("{detail}")]
    TooMany {
        /// What it says.
        detail: Text,
        /// How long it wants not to be asked, when it says so.
        wait: Option<Duration>,
    },
    /// The server speaks another version.
    #[error("{message}")]
    Version {
        /// What does not fit.
        message: Text,
        /// What to do.
        hint: Text,
    },
    /// The server answered with a problem document.
    #[error("{0}")]
    Problem(Problem),
    /// The server's answer could not be understood.
    #[error("the answer of {url} could not be understood: {detail}")]
    Garbled {
        /// The address.
        url: Text,
        /// Why not.
        detail: Text,
    },
    /// What was asked for makes no sense.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: Text,
        /// What to do.
        hint: Text,
    },
    /// The local server could not be found or started.
    #[error("{message}")]
    Local {
        /// What happened.
        message: Text,
        /// What to do.
        hint: Text,
    },
}

fn unreachable_sentence(url: &str, why: Unreachable, detail: &str) -> String {
    match why {
        Unreachable::Refused => format!("nothing listens at {url}"),
        Unreachable::Name => format!("the host of {url} cannot be found"),
        Unreachable::Tls => format!("no secure connection to {url}: {detail}"),
        Unreachable::Timeout => format!("{url} does not answer in time"),
        Unreachable::Broken => format!("the connection to {url} broke: {detail}"),
    }
}

impl ClientError {
    /// What to do next.
    pub fn hint(&self) -> Option<Text> {
        match self {
            ClientError::Unreachable { why, url, .. } => Some(match why {
                Unreachable::Refused => {
                    "check the address and that the server runs; `skytower api info` says where the address comes from".into()
                }
                Unreachable::Name => "check the spelling, and the network or VPN it needs".into(),
                Unreachable::Tls if url.starts_with("https://") => {
                    "a server without TLS is reached by http://; a private certificate has to be trusted by this machine".into()
                }
                Unreachable::Tls => "check the server's certificate".into(),
                Unreachable::Timeout => "it may be busy or out of reach from here; try again, or check the network or VPN".into(),
                Unreachable::Broken => "try again".into(),
            }),
            ClientError::Stranger { .. } => {
                Some("check host and port; `skytower api login -e URL` sets another one".into())
            }
            ClientError::NotSignedIn { url, .. } => {
                Some(format!("sign in: skytower api login -e {url}").into())
            }
            ClientError::TooMany { wait, .. } => Some(match wait {
                Some(wait) => format!("try again in {}", human::span(wait.as_millis() as i64)).into(),
                None => "try again in a while".into(),
            }),
            ClientError::Version { hint, .. }
            | ClientError::Usage { hint, .. }
            | ClientError::Local { hint, .. } => Some(hint.clone()),
            ClientError::Problem(problem) => problem.hint.clone(),
            ClientError::Garbled { .. } => {
                Some("client and server may be of different versions: skytower api info".into())
            }
        }
        .filter(|hint| !hint.is_empty())
    }

    /// The exit code of the command that failed by this.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Usage { .. } => 2,
            ClientError::Unreachable { .. }
            | ClientError::Stranger { .. }
            | ClientError::NotSignedIn { .. }
            | ClientError::Version { .. }
            | ClientError::Local { .. } => 3,
            ClientError::Problem(problem) => match problem.status {
                400 | 422 => 2,
                401 => 3,
                403 => 4,
                404 => 5,
                _ => 1,
            },
            ClientError::TooMany { .. } | ClientError::Garbled { .. } => 1,
        }
    }

    /// Whether the same call may well succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Unreachable { why, .. } => !matches!(why, Unreachable::Tls),
            ClientError::Problem(problem) => problem.status >= 500,
            ClientError::Local { .. } => true,
            _ => false,
        }
    }

    /// The failure of an exchange with `url` (which holds no credentials).
    pub(crate) fn of_transport(url: &str, error: &reqwest::Error) -> Self {
        let mut why = if error.is_timeout() {
            Unreachable::Timeout
        } else {
            Unreachable::Broken
        };
        let mut detail = String::new();
        let mut speaks_http = true;
        let mut source = error.source();
        while let Some(cause) = source {
            detail = cause.to_string();
            speaks_http &= !detail.starts_with("invalid HTTP");
            if cause.is::<rustls::Error>() {
                why = Unreachable::Tls;
            }
            if let Some(found) = cause.downcast_ref::<std::io::Error>() {
                why = Self::of_io(found).unwrap_or(why);
            }
            if detail.contains("dns error") || detail.contains("lookup address") {
                why = Unreachable::Name;
            }
            source = cause.source();
        }
        if !speaks_http {
            return ClientError::Stranger {
                url: url.into(),
                found: "it does not speak HTTP (a server with TLS is reached by https://)".into(),
            };
        }
        if detail.is_empty() {
            detail = error.to_string();
        }
        ClientError::Unreachable {
            url: url.into(),
            why,
            detail: detail.into(),
        }
    }

    /// The failure of a socket to `url`.
    pub(crate) fn of_socket(url: &str, error: &std::io::Error) -> Self {
        ClientError::Unreachable {
            url: url.into(),
            why: Self::of_io(error).unwrap_or(Unreachable::Broken),
            detail: error.to_string().into(),
        }
    }

    fn of_io(error: &std::io::Error) -> Option<Unreachable> {
        use std::io::ErrorKind;
        if let Some(inner) = error.get_ref() {
            if inner.is::<rustls::Error>() {
                return Some(Unreachable::Tls);
            }
            // One wraps the other, and `source` looks past both.
            if let Some(nested) = inner.downcast_ref::<std::io::Error>() {
                return Self::of_io(nested);
            }
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => Some(Unreachable::Refused),
            ErrorKind::TimedOut => Some(Unreachable::Timeout),
            // getaddrinfo's failures have no kind of their own.
            _ if error.to_string().contains("lookup address") => Some(Unreachable::Name),
            _ => None,
        }
    }
}
