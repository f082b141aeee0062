//! What a server is told when it starts.

mod file;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use skytower_api_client::Text;
use skytower_api_client::action::LOCAL;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::policy::{OthersPolicy, Rules};

pub use file::{FileConfig, FileError};

/// Where a server listens when nothing else was said.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 46590);

/// What a server is told when it starts. It is read from standard input as JSON, because it holds
/// secrets: those have no place in the arguments, the environment or a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. None means [`DEFAULT_LISTEN`], or any free port when that one is taken; an
    /// address that was asked for is taken or refused, never replaced.
    pub listen: Option<SocketAddr>,
    /// The state folder.
    pub home: PathBuf,
    /// What to watch.
    pub sources: Vec<SourceConfig>,
    /// End by itself after so long without watchers and running requests.
    #[serde(rename = "idle_exit_ms", deserialize_with = "milliseconds")]
    pub idle_exit: Option<Duration>,
    /// The owner guard.
    pub others: OthersPolicy,
    /// People sign in with accounts; otherwise whoever holds the server's own token is let in.
    pub accounts: bool,
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
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the JSON that is expected. serde's message names the field; it may quote a value of the
    /// wrong type, so only its place is told.
    #[error("the configuration is not valid: see line {line}, column {column}")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// A name that cannot be the first part of a key.
    #[error("`{0}` cannot be the name of a source: use letters, digits, `-`, `_` and `.`")]
    SourceName(Text),
    /// Two sources of one name.
    #[error("two sources are called `{0}`: give each its own name")]
    SourceTwice(Text),
    /// An address with credentials, or of another scheme, or no address.
    #[error("the address of source `{name}` {wrong}")]
    SourceUrl {
        /// The source.
        name: Text,
        /// What is wrong with its address.
        wrong: &'static str,
    },
    /// A name that is taken.
    #[error("a SkyPilot server cannot be called `{LOCAL}`: that is the local engine")]
    SourceLocal,
    /// Nowhere to keep its state.
    #[error("no state folder was named: use --home FOLDER")]
    NoHome,
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
                })
            })
            .collect();
        json!({
            "listen": self.listen,
            "home": self.home,
            "sources": sources,
            "idle_exit_ms": self.idle_exit.map(|span| span.as_millis() as u64),
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
            ..Rules::default()
        }
    }

    /// Finds what cannot work before anything is touched.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.home.as_os_str().is_empty() {
            return Err(ConfigError::NoHome);
        }
        for (i, source) in self.sources.iter().enumerate() {
            check_source(source)?;
            let mut before = self.sources[..i].iter();
            if before.any(|other| other.name == source.name) {
                return Err(ConfigError::SourceTwice(Text::new(&source.name)));
            }
        }
        Ok(())
    }
}

/// Finds what cannot be watched, by its name and address alone.
fn check_source(source: &SourceConfig) -> Result<(), ConfigError> {
    let name = || Text::new(&source.name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if source.name.is_empty() || !source.name.chars().all(plain) {
        return Err(ConfigError::SourceName(name()));
    }
    if source.name == LOCAL {
        return Err(ConfigError::SourceLocal);
    }
    let wrong = |wrong| ConfigError::SourceUrl {
        name: name(),
        wrong,
    };
    let rest = source
        .url
        .strip_prefix("http://")
        .or_else(|| source.url.strip_prefix("https://"))
        .ok_or_else(|| wrong("has to begin with http:// or https://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(wrong("names no host"));
    }
    if authority.contains('@') {
        return Err(wrong(
            "holds credentials: pass them beside it, where they are not shown",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::credentials::Secret;

    fn config() -> Config {
        let source = |name: &str, credentials| SourceConfig {
            name: name.to_owned(),
            url: "http://127.0.0.1:46580".to_owned(),
            credentials,
        };
        Config {
            listen: Some(DEFAULT_LISTEN),
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
                source("d", Credentials::Cookie(Secret::new("k=v"))),
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
            ["pass \\\" word", "k=v"]
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

    #[test]
    fn what_cannot_work_is_refused_with_a_sentence() {
        assert!(config().check().is_ok());
        let broken = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(broken(|config| config.sources[1].name = "a".into()).contains("two sources"));
        assert!(
            broken(|config| config.sources[1].name = "a/b".into()).contains("name of a source")
        );
        assert!(broken(|config| config.sources[1].name = "local".into()).contains("engine"));
        assert!(broken(|config| config.sources[0].url = "ftp://h".into()).contains("http://"));
        assert!(broken(|config| config.sources[0].url = "http:///x".into()).contains("no host"));
        let shown = broken(|config| config.sources[0].url = "http://u:hunter2@h".into());
        assert!(
            shown.contains("credentials") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(broken(|config| config.home = PathBuf::new()).contains("--home"));
    }
}
