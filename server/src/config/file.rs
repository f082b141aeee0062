//! The configuration file of `skytower-server`: TOML, checked as a whole before anything is touched.
//!
//! ```toml
//! listen = "127.0.0.1:46590"      # a free port when this one is taken and none was named
//! home = "/var/lib/skytower"      # the state folder
//! idle_exit = "1h"                # end after so long without clients and running requests
//! others = "confirm"              # acting on other people's things: allow, confirm or deny
//! engine = "local"                # run tasks on this machine; or none
//!
//! [source.prod]                   # a SkyPilot API server to watch, by any name but `local`
//! url = "https://sky.example.com"
//! token_file = "/etc/skytower/prod.token"
//!
//! [source.old]
//! url = "http://10.0.0.7:46580"
//! user = "skytower"
//! password_file = "/etc/skytower/old.password"
//! ```
//!
//! Secrets are never in it: it names files that hold one each and that nobody else can read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::policy::OthersPolicy;
use toml::Spanned;

use super::SourceConfig;

/// No file that holds one secret is larger.
const SECRET_MOST: u64 = 64 * 1024;

/// What a configuration file says; what it leaves out is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileConfig {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// The state folder.
    pub home: Option<PathBuf>,
    /// End after so long without clients and running requests.
    pub idle_exit: Option<Duration>,
    /// The owner guard.
    pub others: Option<OthersPolicy>,
    /// Run tasks on this machine.
    pub engine: Option<bool>,
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

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    Local,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: Option<Spanned<String>>,
    home: Option<Spanned<PathBuf>>,
    idle_exit: Option<Spanned<String>>,
    others: Option<OthersPolicy>,
    engine: Option<Engine>,
    #[serde(default)]
    source: BTreeMap<String, Spanned<RawSource>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    url: Spanned<String>,
    token_file: Option<Spanned<PathBuf>>,
    user: Option<String>,
    password_file: Option<Spanned<PathBuf>>,
}

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
        let listen = raw.listen.map(|listen| {
            listen.get_ref().parse::<SocketAddr>().map_err(|_| {
                let message = format!("`{}` is no address with a port", listen.get_ref());
                let hint = "write it as 127.0.0.1:46590".to_owned();
                place.wrong(Some(listen.span()), message, Some(hint))
            })
        });
        let idle_exit = raw.idle_exit.map(|span| {
            humantime::parse_duration(span.get_ref()).map_err(|_| {
                let message = format!("`{}` is no span of time", span.get_ref());
                let hint = "write it as 30m or 1h".to_owned();
                place.wrong(Some(span.span()), message, Some(hint))
            })
        });
        let home = raw.home.map(|home| place.folder(&home));
        let mut sources = Vec::new();
        for (name, source) in raw.source {
            sources.push(place.source(name, source)?);
        }
        Ok(Self {
            listen: listen.transpose()?,
            home,
            idle_exit: idle_exit.transpose()?,
            others: raw.others,
            engine: raw.engine.map(|engine| matches!(engine, Engine::Local)),
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

    /// Relative paths are meant from where the file is, wherever the server is started.
    fn folder(&self, named: &Spanned<PathBuf>) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        folder.join(named.get_ref())
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
        let config = SourceConfig {
            name,
            url: source.url.get_ref().trim_end_matches('/').to_owned(),
            credentials,
        };
        super::check_source(&config)
            .map_err(|error| self.wrong(Some(source.url.span()), error.to_string(), None))?;
        Ok(config)
    }

    /// The only line of a file that is its owner's alone.
    fn secret(&self, named: &Spanned<PathBuf>) -> Result<Secret, FileError> {
        let path = self.folder(named);
        let wrong = |why: String, hint: Option<String>| {
            let message = format!("{}: {why}", path.display());
            self.wrong(Some(named.span()), message, hint)
        };
        let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"), None);
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.mode() & 0o077 != 0 {
            return Err(wrong(
                "others can read the secret in it".to_owned(),
                Some(format!("chmod 600 {}", path.display())),
            ));
        }
        let mut text = String::new();
        file.take(SECRET_MOST)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        let secret = text.trim_end_matches(['\n', '\r']);
        if secret.is_empty() || secret.contains(['\n', '\r']) {
            return Err(wrong("has to hold one line, the secret".to_owned(), None));
        }
        Ok(Secret::new(secret))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn parse(text: &str) -> Result<FileConfig, String> {
        FileConfig::parse(Path::new("/etc/skytower.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("token");
        std::fs::write(&secret, "s3cret\n").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = "listen = '127.0.0.1:1'\nhome = 'state'\nidle_exit = '1h'\nothers = 'deny'\nengine = 'none'\n[source.prod]\nurl = 'https://sky/'\ntoken_file = 'token'\n[source.old]\nurl = 'http://old'\nuser = 'u'\npassword_file = 'token'\n";
        let read = FileConfig::parse(&folder.path().join("skytower.toml"), text).unwrap();
        assert_eq!(read.listen, Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(read.home, Some(folder.path().join("state")));
        assert_eq!(read.idle_exit, Some(Duration::from_hours(1)));
        assert_eq!(read.others, Some(OthersPolicy::Deny));
        assert_eq!(read.engine, Some(false));
        let [old, prod] = &read.sources[..] else {
            panic!("{:?}", read.sources);
        };
        assert_eq!(prod.url, "https://sky");
        assert_eq!(prod.credentials, Credentials::Bearer(Secret::new("s3cret")));
        assert!(matches!(&old.credentials, Credentials::Basic { user, .. } if user == "u"));
        assert!(!format!("{read:?}").contains("s3cret"));
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = FileConfig::parse(&folder.path().join("skytower.toml"), text).unwrap_err();
        assert!(error.message.contains("others can read"), "{error}");
        assert_eq!(error.line, Some(12));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let cases = [
            ("listen = 1", "/etc/skytower.toml:1: "),
            (
                "\nlisten = 'here'",
                ":2: `here` is no address with a port\nhint: ",
            ),
            (
                "idle_exit = 'soon'",
                ":1: `soon` is no span of time\nhint: ",
            ),
            ("lisen = 'x'", ":1: unknown field `lisen`, expected one of "),
            (
                "others = 'maybe'",
                ":1: unknown variant `maybe`, expected one of ",
            ),
            ("engine = 'cloud'", ":1: unknown variant `cloud`, expected "),
            (
                "listen = '127.0.0.1:1'\n[source.a]\nname = 'x'",
                ":3: unknown field `name`",
            ),
            ("[source.a]\n", ": missing field `url`"),
            (
                "[source.a]\nurl = 'ftp://x'",
                ":2: the address of source `a` has to begin with",
            ),
            (
                "[source.local]\nurl = 'http://x'",
                "that is the local engine",
            ),
            (
                "[source.a]\nurl = 'http://x'\nuser = 'u'",
                "source `a` has no password_file\nhint: ",
            ),
            (
                "[source.a]\nurl = 'http://x'\ntoken_file = '/no/such'",
                ":3: /no/such: cannot be read: ",
            ),
            ("= 1", ":1: "),
        ];
        for (text, part) in cases {
            let said = parse(text).unwrap_err();
            assert!(said.contains(part), "{text:?}: {said}");
        }
        assert_eq!(parse("").unwrap(), FileConfig::default());
    }
}
