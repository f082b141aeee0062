//! What a server is told when it starts.

mod check;
mod file;
mod limits;
mod network;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::policy::{OthersPolicy, Rules};
use skytower_api_client::wire::Role;

pub use check::ConfigError;
use check::{check_host, check_proxy, check_source};
pub(crate) use file::wrong_key_file;
pub use file::{FileConfig, FileError, SAMPLE};
pub use limits::{Deadlines, Limits};
pub use network::{Network, NotANetwork};

/// Where a server listens when nothing else was said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 46590);

/// How long the audit is kept when nothing else was said: a year, and what an audit of that year takes.
pub const AUDIT_KEEP: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// What a server is told when it starts. It is read from standard input as JSON, because it holds
/// secrets: those have no place in the arguments, the environment or a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. None means [`DEFAULT_LISTEN`], or any free port when that one is taken; an
    /// address that was asked for is taken or refused, never replaced.
    pub listen: Option<SocketAddr>,
    /// Other machines may be spoken to without encryption, because somebody asked for it by name.
    pub plain_http: bool,
    /// Encryption by the server itself.
    pub tls: Option<TlsConfig>,
    /// The names that the server answers to, beside its own addresses. Empty: loopback names only on
    /// loopback, and whatever name it is called by elsewhere.
    pub hosts: Vec<String>,
    /// The proxy that stands before the server.
    pub proxy: Option<ProxyConfig>,
    /// The state folder.
    pub home: PathBuf,
    /// What to watch.
    pub sources: Vec<SourceConfig>,
    /// People have accounts of their own here. Without, there is the token in the state folder alone.
    pub accounts: bool,
    /// Nothing is changed through this server.
    pub read_only: bool,
    /// How long the audit is kept; [`AUDIT_KEEP`] when none.
    #[serde(rename = "audit_keep_ms", deserialize_with = "milliseconds")]
    pub audit_keep: Option<Duration>,
    /// How much strangers and clients may ask for.
    pub limits: Limits,
    /// How long each step of a connection may take.
    #[serde(skip)]
    pub deadlines: Deadlines,
    /// End by itself after so long without watchers and running requests.
    #[serde(rename = "idle_exit_ms", deserialize_with = "milliseconds")]
    pub idle_exit: Option<Duration>,
    /// The owner guard.
    pub others: OthersPolicy,
    /// Run tasks on this machine; none when it does not.
    pub engine: Option<EngineConfig>,
}

/// The local engine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Its folder. Servers of one account share it: one of them runs the engine.
    pub folder: PathBuf,
    /// The program that has the keeper and the balancer; this one when none.
    #[serde(default)]
    pub program: Option<PathBuf>,
}

/// Encryption by the server itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and those that lead to its authority, as PEM.
    pub certificate: PathBuf,
    /// The certificate's key, as PEM; nobody else may read it.
    pub key: PathBuf,
}

/// A proxy that stands before the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Where its connections come from: only there are its headers believed.
    pub addresses: Vec<Network>,
    /// What it has to prove with that a person's name comes from it.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// The header in which it names the person that it has signed in.
    #[serde(default)]
    pub user_header: Option<String>,
    /// What people are that it brings.
    #[serde(default)]
    pub role: Role,
}

/// As whom a source is asked to do what somebody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActAs {
    /// As whoever wants it, where its credentials are known: the source's own rules hold.
    #[default]
    Caller,
    /// As the server.
    Server,
}

/// One SkyPilot API server to watch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name: the first part of its rows' keys.
    pub name: String,
    /// Its address, without credentials.
    pub url: String,
    /// Who to say one is.
    #[serde(default)]
    pub credentials: Credentials,
    /// People may sign in here with the credentials that they have there.
    #[serde(default = "yes")]
    pub sign_in: bool,
    /// As whom it is asked to do what somebody wants.
    #[serde(default)]
    pub act_as: ActAs,
}

impl SourceConfig {
    /// A source where people may sign in and act as themselves.
    pub fn new(name: impl Into<String>, url: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            credentials,
            sign_in: true,
            act_as: ActAs::Caller,
        }
    }
}

fn yes() -> bool {
    true
}

fn milliseconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
}

impl Config {
    /// Reads what [`Config::to_json`] wrote.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        serde_json::from_str(json).map_err(|error| ConfigError::Json {
            line: error.line(),
            column: error.column(),
        })
    }

    /// As JSON **with its secrets**, for the standard input of the server that is being started.
    pub fn to_json(&self) -> String {
        let credentials = |credentials: &Credentials| match credentials {
            Credentials::None => json!("none"),
            Credentials::Basic { user, password } => {
                json!({"basic": {"user": user, "password": password.expose()}})
            }
            Credentials::Bearer(token) => json!({"bearer": token.expose()}),
            Credentials::Cookie(cookie) => json!({"cookie": cookie.expose()}),
        };
        let sources: Vec<_> = self
            .sources
            .iter()
            .map(|source| {
                json!({
                    "name": source.name,
                    "url": source.url,
                    "credentials": credentials(&source.credentials),
                    "sign_in": source.sign_in,
                    "act_as": source.act_as,
                })
            })
            .collect();
        let milliseconds = |span: Duration| span.as_millis() as u64;
        json!({
            "listen": self.listen,
            "plain_http": self.plain_http,
            "tls": self.tls.as_ref().map(|tls| {
                json!({"certificate": tls.certificate, "key": tls.key})
            }),
            "hosts": self.hosts,
            "proxy": self.proxy.as_ref().map(|proxy| {
                json!({
                    "addresses": proxy.addresses,
                    "secret": proxy.secret.as_ref().map(Secret::expose),
                    "user_header": proxy.user_header,
                    "role": proxy.role,
                })
            }),
            "home": self.home,
            "sources": sources,
            "read_only": self.read_only,
            "audit_keep_ms": self.audit_keep.map(milliseconds),
            "limits": self.limits,
            "idle_exit_ms": self.idle_exit.map(milliseconds),
            "others": self.others,
            "accounts": self.accounts,
            "engine": self.engine.as_ref().map(|engine| {
                json!({"folder": engine.folder, "program": engine.program})
            }),
        })
        .to_string()
    }

    /// What everybody who asks is told.
    pub fn rules(&self) -> Rules {
        Rules {
            others: self.others,
            read_only: self.read_only,
        }
    }

    /// How long the audit is kept.
    pub fn audit_keep(&self) -> Duration {
        self.audit_keep.unwrap_or(AUDIT_KEEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config() -> Config {
        let source = |name: &str, credentials| {
            SourceConfig::new(name, "http://127.0.0.1:46580", credentials)
        };
        Config {
            listen: Some(DEFAULT_LISTEN),
            plain_http: true,
            tls: Some(TlsConfig {
                certificate: "/tmp/fullchain.pem".into(),
                key: "/tmp/key.pem".into(),
            }),
            hosts: vec!["tower.example.com".to_owned()],
            proxy: Some(ProxyConfig {
                addresses: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
                secret: Some(Secret::new("sh\"ared")),
                user_header: Some("X-Auth-Request-Email".to_owned()),
                role: Role::User,
            }),
            read_only: true,
            audit_keep: Some(Duration::from_hours(24)),
            limits: Limits {
                connections: Some(10),
                strangers: Some(3),
                ..Limits::default()
            },
            deadlines: Deadlines::default(),
            home: "/tmp/home".into(),
            sources: vec![
                source("a", Credentials::None),
                source("b", Credentials::Bearer(Secret::new("token"))),
                source(
                    "c",
                    Credentials::Basic {
                        user: "alice".to_owned(),
                        password: Secret::new("pass \" word"),
                    },
                ),
                SourceConfig {
                    sign_in: false,
                    act_as: ActAs::Server,
                    ..source("d", Credentials::Cookie(Secret::new("k=v")))
                },
            ],
            idle_exit: Some(Duration::from_mins(10)),
            others: OthersPolicy::Deny,
            accounts: true,
            engine: Some(EngineConfig {
                folder: "/tmp/home/engine".into(),
                program: None,
            }),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_never_printed() {
        let config = config();
        assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
        let printed = format!("{config:?}");
        assert!(
            ["pass \\\" word", "k=v", "ared"]
                .iter()
                .all(|secret| !printed.contains(secret)),
            "{printed}"
        );
    }

    #[test]
    fn an_error_does_not_quote_what_may_be_a_secret() {
        let json = r#"{"home":"/h","sources":[{"name":"a","url":"http://h","credentials":{"bearer":{"s3cret":1}}}]}"#;
        let error = Config::from_json(json).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
