//! What cannot work, found before anything is touched.

use std::net::IpAddr;

use skytower_api_client::Text;
use skytower_api_client::action::LOCAL;

use super::{Config, Network, ProxyConfig, SourceConfig};

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
    /// What a server cannot be called.
    #[error("`{0}` cannot be the name of a host: leave out the scheme, the port and the path")]
    Host(Text),
    /// A proxy that cannot be believed, or that nobody can tell from others.
    #[error("the proxy {0}")]
    Proxy(&'static str),
    /// A limit that lets nobody in.
    #[error("the limit `{0}` is 0: then nobody could come in")]
    Limit(&'static str),
}

impl Config {
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
        self.hosts.iter().try_for_each(|host| check_host(host))?;
        self.proxy.iter().try_for_each(check_proxy)?;
        self.limits.check()
    }
}

/// Finds what no `Host` header can name.
pub(super) fn check_host(host: &str) -> Result<(), ConfigError> {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.bytes().all(inner)
    };
    let name = host.split('.').all(label);
    if name || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(ConfigError::Host(Text::new(host)))
}

/// Finds a proxy that would be believed too easily, or never.
pub(super) fn check_proxy(proxy: &ProxyConfig) -> Result<(), ConfigError> {
    if proxy.addresses.is_empty() {
        return Err(ConfigError::Proxy("has no addresses"));
    }
    if proxy.addresses.iter().any(Network::is_everybody) {
        return Err(ConfigError::Proxy(
            "would be anybody: list its own addresses",
        ));
    }
    let Some(header) = &proxy.user_header else {
        return Ok(());
    };
    if proxy.secret.is_none() {
        return Err(ConfigError::Proxy(
            "names people and proves nothing: give it a secret_file",
        ));
    }
    let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if header.is_empty() || !header.bytes().all(token) {
        return Err(ConfigError::Proxy(
            "names people in what is no header: use letters, digits and `-`",
        ));
    }
    if ["authorization", "cookie", "host", "x-forwarded-for"]
        .iter()
        .any(|taken| header.eq_ignore_ascii_case(taken))
    {
        return Err(ConfigError::Proxy(
            "names people in a header that means something else",
        ));
    }
    Ok(())
}

/// Finds what cannot be watched, by its name and address alone.
pub(super) fn check_source(source: &SourceConfig) -> Result<(), ConfigError> {
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
    use std::path::PathBuf;

    use super::super::tests::config;
    use super::*;

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
        for host in ["", "https://a", "a:1", "a/b", "a..b", "[::1]", "a b"] {
            let mut config = config();
            config.hosts = vec![host.to_owned()];
            let shown = config.check().unwrap_err().to_string();
            assert!(shown.contains("name of a host"), "{host:?}: {shown}");
        }
        let proxy = |change: fn(&mut ProxyConfig)| {
            let mut config = config();
            change(config.proxy.as_mut().unwrap());
            config.check().unwrap_err().to_string()
        };
        assert!(proxy(|proxy| proxy.addresses.clear()).contains("no addresses"));
        assert!(proxy(|proxy| proxy.addresses = vec!["::/0".parse().unwrap()]).contains("anybody"));
        assert!(proxy(|proxy| proxy.secret = None).contains("secret_file"));
        assert!(proxy(|proxy| proxy.user_header = Some("a b".into())).contains("no header"));
        assert!(proxy(|proxy| proxy.user_header = Some("Cookie".into())).contains("else"));
        assert!(broken(|config| config.limits.strangers = Some(0)).contains("`strangers`"));
    }
}
