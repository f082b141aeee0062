//! The configuration file of `skytower-server`: TOML, checked as a whole before anything is touched.
//!
//! ```toml
//! listen = "0.0.0.0:46590"        # 127.0.0.1:46590, or a free port, when none is named
//! plain_http = false              # let other machines in without encryption
//! hosts = ["tower.example.com"]   # names that it answers to; any when none is named
//! home = "/var/lib/skytower"      # the state folder
//! idle_exit = "1h"                # end after so long without clients and running requests
//! others = "confirm"              # acting on other people's things: allow, confirm or deny
//! engine = "local"                # run tasks on this machine; or none
//! accounts = true                 # everybody signs in; without, the state folder's token is the only key
//! read_only = false               # nothing is changed through this server
//! audit_keep = "400d"             # how long it is remembered who did what
//!
//! [tls]                           # encryption by the server itself
//! certificate = "fullchain.pem"   # both are read again when they change
//! key = "key.pem"
//!
//! [proxy]                         # a proxy before the server, which encrypts
//! addresses = ["127.0.0.1", "10.0.0.0/8"]
//! secret_file = "/etc/skytower/proxy.secret"  # what it sends as X-Skytower-Proxy-Secret
//! user_header = "X-Auth-Request-Email"        # it signs people in, and names them here
//! role = "viewer"                 # what they are then: viewer or user
//!
//! [limits]
//! connections = 768               # in all; what the limit on file descriptors leaves room for
//! connections_per_user = 64
//! strangers = 192                 # those that have not signed in yet; a quarter of all
//! messages_per_second = 100       # from one watching client
//!
//! [source.prod]                   # a SkyPilot API server to watch, by any name but `local`
//! url = "https://sky.example.com"
//! token_file = "/etc/skytower/prod.token"
//! sign_in = true                  # people may sign in here with the credentials they have there
//! act_as = "caller"               # who acts there: the caller, or the server
//!
//! [source.old]
//! url = "http://10.0.0.7:46580"
//! user = "skytower"
//! password_file = "/etc/skytower/old.password"
//! ```
//!
//! Secrets are never in it: it names files that hold one each and that nobody else can read. Relative
//! paths begin where the file is. [`SAMPLE`] is such a file with everything in it.

mod raw;
mod secrets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skytower_api_client::credentials::Credentials;
use skytower_api_client::policy::OthersPolicy;
use skytower_api_client::wire::Role;
use toml::Spanned;

use self::raw::{Engine, Raw, RawProxy, RawSource, RawTls};
pub(crate) use self::secrets::wrong_key_file;
use super::{ConfigError, Limits, Network, ProxyConfig, SourceConfig, TlsConfig};

/// A configuration file with every key in it, as comments, and what holds without.
pub const SAMPLE: &str = include_str!("../../../../assets/skytower-server.toml");

/// What a configuration file says; what it leaves out is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileConfig {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// Let other machines in without encryption.
    pub plain_http: Option<bool>,
    /// Encryption by the server itself.
    pub tls: Option<TlsConfig>,
    /// The names it answers to.
    pub hosts: Vec<String>,
    /// The proxy before it.
    pub proxy: Option<ProxyConfig>,
    /// The state folder.
    pub home: Option<PathBuf>,
    /// End after so long without clients and running requests.
    pub idle_exit: Option<Duration>,
    /// The owner guard.
    pub others: Option<OthersPolicy>,
    /// Run tasks on this machine.
    pub engine: Option<bool>,
    /// People have accounts here.
    pub accounts: Option<bool>,
    /// Nothing is changed through this server.
    pub read_only: Option<bool>,
    /// How long the audit is kept.
    pub audit_keep: Option<Duration>,
    /// How much strangers and clients may ask for.
    pub limits: Limits,
    /// What to watch.
    pub sources: Vec<SourceConfig>,
}

/// What is wrong with a configuration file, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; none when it is about the whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FileError {}

impl FileConfig {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError {
            path: path.to_owned(),
            line: None,
            message: format!("cannot be read: {error}"),
            hint: None,
        })?;
        Self::parse(path, &text)
    }

    /// Reads a file's text; the files of secrets that it names are read too.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let place = Place { path, text };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            // toml quotes the line below its message, which is on the screen already.
            let message = error.message().to_owned();
            place.wrong(error.span(), message, None)
        })?;
        let spans = [raw.idle_exit, raw.audit_keep].map(|span| place.span(span.as_ref()));
        let [idle_exit, audit_keep] = spans;
        let mut hosts = Vec::new();
        for host in raw.hosts.unwrap_or_default() {
            hosts.push(place.host(&host)?);
        }
        let mut sources = Vec::new();
        for (name, source) in raw.source {
            sources.push(place.source(name, source)?);
        }
        let limits = raw.limits.map(|limits| place.limits(limits)).transpose()?;
        Ok(Self {
            listen: raw.listen.map(|at| place.address(&at)).transpose()?,
            plain_http: raw.plain_http,
            tls: raw.tls.map(|tls| place.tls(&tls)).transpose()?,
            hosts,
            proxy: raw.proxy.map(|proxy| place.proxy(proxy)).transpose()?,
            home: raw.home.map(|home| place.folder(&home)),
            idle_exit: idle_exit?,
            others: raw.others,
            engine: raw.engine.map(|engine| matches!(engine, Engine::Local)),
            accounts: raw.accounts,
            read_only: raw.read_only,
            audit_keep: audit_keep?,
            limits: limits.unwrap_or_default(),
            sources,
        })
    }
}

/// A file's text, to find lines in.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn wrong(&self, at: Option<Range<usize>>, message: String, hint: Option<String>) -> FileError {
        let line = at.map(|at| {
            let before = self.text.get(..at.start).unwrap_or_default();
            before.matches('\n').count() + 1
        });
        FileError {
            path: self.path.to_owned(),
            line,
            message,
            hint,
        }
    }

    fn checked(&self, at: Range<usize>, found: Result<(), ConfigError>) -> Result<(), FileError> {
        found.map_err(|error| self.wrong(Some(at), error.to_string(), None))
    }

    /// Relative paths are meant from where the file is, wherever the server is started.
    fn folder(&self, named: &Spanned<PathBuf>) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        folder.join(named.get_ref())
    }

    fn address(&self, written: &Spanned<String>) -> Result<SocketAddr, FileError> {
        written.get_ref().parse().map_err(|_| {
            let message = format!("`{}` is no address with a port", written.get_ref());
            let hint = "write it as 127.0.0.1:46590".to_owned();
            self.wrong(Some(written.span()), message, Some(hint))
        })
    }

    fn span(&self, written: Option<&Spanned<String>>) -> Result<Option<Duration>, FileError> {
        let Some(written) = written else {
            return Ok(None);
        };
        let span = humantime::parse_duration(written.get_ref()).map_err(|_| {
            let message = format!("`{}` is no span of time", written.get_ref());
            let hint = "write it as 30m or 1h".to_owned();
            self.wrong(Some(written.span()), message, Some(hint))
        })?;
        Ok(Some(span))
    }

    fn host(&self, written: &Spanned<String>) -> Result<String, FileError> {
        self.checked(written.span(), super::check_host(written.get_ref()))?;
        Ok(written.get_ref().to_ascii_lowercase())
    }

    fn tls(&self, tls: &RawTls) -> Result<TlsConfig, FileError> {
        Ok(TlsConfig {
            certificate: self.readable(&tls.certificate)?,
            key: self.key(&tls.key)?,
        })
    }

    fn proxy(&self, proxy: Spanned<RawProxy>) -> Result<ProxyConfig, FileError> {
        let at = proxy.span();
        let proxy = proxy.into_inner();
        let mut addresses = Vec::new();
        for written in &proxy.addresses {
            addresses.push(written.get_ref().parse::<Network>().map_err(|error| {
                let message = format!("`{}` is no address of a proxy", written.get_ref());
                self.wrong(Some(written.span()), message, Some(error.to_string()))
            })?);
        }
        let secret = proxy.secret_file.map(|file| self.secret(&file));
        let config = ProxyConfig {
            addresses,
            secret: secret.transpose()?,
            user_header: proxy.user_header,
            role: proxy.role.map_or(Role::Viewer, Role::from),
        };
        self.checked(at, super::check_proxy(&config))?;
        Ok(config)
    }

    fn limits(&self, limits: Spanned<Limits>) -> Result<Limits, FileError> {
        self.checked(limits.span(), limits.get_ref().check())?;
        Ok(limits.into_inner())
    }

    fn source(&self, name: String, source: Spanned<RawSource>) -> Result<SourceConfig, FileError> {
        let at = source.span();
        let source = source.into_inner();
        let credentials = match (source.token_file, source.user, source.password_file) {
            (None, None, None) => Credentials::None,
            (Some(token), None, None) => Credentials::Bearer(self.secret(&token)?),
            (None, Some(user), Some(password)) => Credentials::Basic {
                user,
                password: self.secret(&password)?,
            },
            (Some(_), ..) => {
                let message = format!("source `{name}` has a token and a user");
                let hint = "keep token_file, or user with password_file".to_owned();
                return Err(self.wrong(Some(at), message, Some(hint)));
            }
            (None, user, _) => {
                let missing = if user.is_some() {
                    "password_file"
                } else {
                    "user"
                };
                let message = format!("source `{name}` has no {missing}");
                let hint = "user and password_file go together".to_owned();
                return Err(self.wrong(Some(at), message, Some(hint)));
            }
        };
        let url = source.url.get_ref().trim_end_matches('/');
        let config = SourceConfig {
            sign_in: source.sign_in.unwrap_or(true),
            act_as: source.act_as.unwrap_or_default(),
            ..SourceConfig::new(name, url, credentials)
        };
        self.checked(source.url.span(), super::check_source(&config))?;
        Ok(config)
    }
}
