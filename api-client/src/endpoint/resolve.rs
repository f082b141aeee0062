//! The order in which an endpoint is looked for. Pure: the environment and the files are passed in.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Credentials, Endpoint, Origin, Secret};
use crate::rest::ClientError;
use crate::text::Text;

/// What a process finds around itself.
pub trait Surroundings {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// The content of a file.
    fn read(&self, path: &Path) -> std::io::Result<String>;

    /// An environment variable that says something.
    fn said(&self, name: &str) -> Option<String> {
        self.variable(name).filter(|value| !value.trim().is_empty())
    }

    /// A path that may begin with `~/`.
    fn path(&self, raw: &str) -> PathBuf {
        match (raw.strip_prefix("~/"), self.variable("HOME")) {
            (Some(rest), Some(home)) => Path::new(&home).join(rest),
            _ => PathBuf::from(raw),
        }
    }
}

/// This process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// skytower's own configuration file: the saved login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// The address, without credentials.
    pub endpoint: Option<String>,
    /// A bearer token.
    pub token: Option<Secret>,
    /// The user of HTTP Basic.
    pub user: Option<String>,
    /// The password of HTTP Basic.
    pub password: Option<Secret>,
    /// The token was made by the login itself: it ends with it.
    pub issued: bool,
    /// Nothing is to be changed from here.
    pub read_only: bool,
}

impl Saved {
    /// Reads the file's text. No secret in it is quoted when it cannot be read.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ClientError> {
        // The message of the parser quotes the line, which may hold a secret.
        toml::from_str(text).map_err(|_| unreadable(path, "it is not valid TOML"))
    }

    /// What it holds to say who one is.
    pub fn credentials(&self) -> Credentials {
        match (&self.token, &self.user) {
            (Some(token), _) => Credentials::Bearer(token.clone()),
            (None, Some(user)) => Credentials::Basic {
                user: user.clone(),
                password: self.password.clone().unwrap_or_default(),
            },
            (None, None) => Credentials::None,
        }
    }
}

/// Where the saved login is.
pub fn saved_path(around: &dyn Surroundings) -> PathBuf {
    let folder = match around.said("XDG_CONFIG_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => around.path("~/.config"),
    };
    folder.join("skytower/config.toml")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SkyConfig {
    api_server: SkyApiServer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SkyApiServer {
    endpoint: Option<String>,
    service_account_token: Option<Secret>,
}

/// Finds the endpoint; none when nobody said anything.
pub fn resolve(
    flag: Option<&str>,
    around: &dyn Surroundings,
) -> Result<Option<Endpoint>, ClientError> {
    let saved_path = saved_path(around);
    let saved: Saved = match read(around, &saved_path)? {
        Some(text) => Saved::parse(&text, &saved_path)?,
        None => Saved::default(),
    };
    let sky = sky_configs(around)?;
    let sky_endpoint = sky.iter().find_map(|(path, config)| {
        let endpoint = config.api_server.endpoint.clone()?;
        Some((endpoint, Origin::File(path.clone())))
    });

    let found = flag
        .map(|raw| (raw.to_owned(), Origin::Flag))
        .or_else(|| from_variable(around, "SKYTOWER_ENDPOINT"))
        .or_else(|| from_variable(around, "SKYPILOT_API_SERVER_ENDPOINT"))
        .or_else(|| Some((saved.endpoint.clone()?, Origin::File(saved_path.clone()))))
        .or_else(|| sky_endpoint.clone());
    let Some((raw, origin)) = found else {
        return Ok(None);
    };
    let mut endpoint = Endpoint::parse(&raw, origin)?;
    if endpoint.credentials == Credentials::None {
        endpoint.credentials = credentials(&endpoint, around, &saved, &sky)?;
    }
    Ok(Some(endpoint))
}

fn from_variable(around: &dyn Surroundings, name: &'static str) -> Option<(String, Origin)> {
    Some((around.said(name)?, Origin::Environment(name)))
}

/// The project's configuration before the user's own.
fn sky_configs(around: &dyn Surroundings) -> Result<Vec<(PathBuf, SkyConfig)>, ClientError> {
    let mut configs = Vec::new();
    for (variable, usual) in [
        ("SKYPILOT_PROJECT_CONFIG", ".sky.yaml"),
        ("SKYPILOT_GLOBAL_CONFIG", "~/.sky/config.yaml"),
    ] {
        let path = around.path(&around.said(variable).unwrap_or_else(|| usual.to_owned()));
        let Some(text) = read(around, &path)? else {
            continue;
        };
        if text.trim().is_empty() {
            continue;
        }
        let config = serde_saphyr::from_str(&text)
            .map_err(|_| unreadable(&path, "it is not valid YAML, or `api_server` is no map"))?;
        configs.push((path, config));
    }
    Ok(configs)
}

/// Credentials that were said apart from the address. What was saved for one address is never sent
/// to another.
fn credentials(
    endpoint: &Endpoint,
    around: &dyn Surroundings,
    saved: &Saved,
    sky: &[(PathBuf, SkyConfig)],
) -> Result<Credentials, ClientError> {
    for name in ["SKYTOWER_TOKEN", "SKYPILOT_SERVICE_ACCOUNT_TOKEN"] {
        if let Some(token) = around.said(name) {
            return Ok(Credentials::Bearer(Secret::new(token.trim())));
        }
    }
    if saved.endpoint.as_deref() == Some(&endpoint.url) {
        let credentials = saved.credentials();
        if credentials != Credentials::None {
            return Ok(credentials);
        }
    }
    let of_sky = |raw: &str| {
        Endpoint::parse(raw, Origin::Default).is_ok_and(|other| other.url == endpoint.url)
    };
    let said_to_sky = matches!(
        endpoint.origin,
        Origin::Environment("SKYPILOT_API_SERVER_ENDPOINT")
    );
    let named = |config: &SkyConfig| config.api_server.endpoint.as_deref().is_some_and(of_sky);
    if (said_to_sky || sky.iter().any(|(_, config)| named(config)))
        && let Some(token) = sky
            .iter()
            .find_map(|(_, config)| config.api_server.service_account_token.clone())
    {
        return Ok(Credentials::Bearer(token));
    }
    let jar = around.said("SKYPILOT_API_COOKIE_FILE");
    let path = around.path(jar.as_deref().unwrap_or("~/.sky/cookies.txt"));
    let cookie = read(around, &path)?.and_then(|text| cookie_for(&text, &endpoint.url));
    Ok(cookie.map_or(Credentials::None, Credentials::Cookie))
}

/// The `Cookie` header for an address out of a Netscape jar: domain, subdomains, path, secure,
/// expires, name and value, separated by tabs.
fn cookie_for(jar: &str, url: &str) -> Option<Secret> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?;
    let pairs: Vec<String> = jar
        .lines()
        .map(|line| line.strip_prefix("#HttpOnly_").unwrap_or(line))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [domain, _, _, secure, _, name, value] = fields[..] else {
                return None;
            };
            let bare = domain.trim_start_matches('.');
            let here =
                host == bare || (domain.starts_with('.') && host.ends_with(&format!(".{bare}")));
            let safe = !secure.eq_ignore_ascii_case("true") || url.scheme() == "https";
            (here && safe).then(|| format!("{name}={value}"))
        })
        .collect();
    (!pairs.is_empty()).then(|| Secret::new(pairs.join("; ")))
}

fn read(around: &dyn Surroundings, path: &Path) -> Result<Option<String>, ClientError> {
    match around.read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(unreadable(path, &error.to_string())),
    }
}

fn unreadable(path: &Path, why: &str) -> ClientError {
    ClientError::Usage {
        message: format!("{} cannot be used: {why}", path.display()).into(),
        hint: "mend or remove the file, or name the server with --endpoint and no file there"
            .into(),
    }
}

impl Endpoint {
    /// Reads an address as people write it, with or without credentials.
    pub fn parse(raw: &str, origin: Origin) -> Result<Self, ClientError> {
        let wrong = |what: &str| ClientError::Usage {
            message: format!("`{}` {what}", redacted(raw.trim())).into(),
            hint: "write http://host:port or https://host, with user:password@ before the host \
                   where the server wants it"
                .into(),
        };
        let trimmed = raw.trim();
        if trimmed.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("is not an address: there is a space in it"));
        }
        let Some((scheme, _)) = trimmed.split_once("://") else {
            return Err(wrong(
                "is not an address: it does not begin with http:// or https://",
            ));
        };
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err(wrong("cannot be used: only http and https are understood"));
        }
        let mut url = reqwest::Url::parse(trimmed)
            .map_err(|error| wrong(&format!("is not an address: {error}")))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("cannot be used: an address has no ? and no # in it"));
        }
        let user = percent_decoded(url.username());
        let password = percent_decoded(url.password().unwrap_or_default());
        let credentials = if user.is_empty() && password.is_empty() {
            Credentials::None
        } else {
            let password = Secret::new(password);
            Credentials::Basic { user, password }
        };
        // These fail only for addresses without a host, which http does not have.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self {
            url: url.as_str().trim_end_matches('/').to_owned(),
            credentials,
            origin,
        })
    }
}

/// An address for people, whatever it looks like: what stands before an `@` is not shown.
pub fn redacted(raw: &str) -> Text {
    match raw.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://<redacted>@{host}").into(),
            None => format!("<redacted>@{host}").into(),
        },
        None => raw.into(),
    }
}

fn percent_decoded(raw: &str) -> String {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Desk {
        variables: BTreeMap<&'static str, &'static str>,
        files: BTreeMap<&'static str, &'static str>,
    }

    impl Surroundings for Desk {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "HOME" => Some("/h".to_owned()),
                _ => self.variables.get(name).map(|&value| value.to_owned()),
            }
        }
        fn read(&self, path: &Path) -> std::io::Result<String> {
            let found = path.to_str().and_then(|path| self.files.get(path));
            found
                .map(|&text| text.to_owned())
                .ok_or(ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn each_place_gives_way_to_the_one_before() {
        let mut desk = Desk::default();
        let found = |flag: Option<&str>, desk: &Desk| {
            resolve(flag, desk)
                .unwrap()
                .map(|found| (found.url, found.origin))
        };
        assert_eq!(found(None, &desk), None);
        desk.files.insert(
            "/h/.sky/config.yaml",
            "api_server:\n  endpoint: http://global:1/\n",
        );
        let file = |path: &str| Origin::File(path.into());
        let at = |url: &str, origin| Some((url.to_owned(), origin));
        assert_eq!(
            found(None, &desk),
            at("http://global:1", file("/h/.sky/config.yaml"))
        );
        desk.files.insert(
            ".sky.yaml",
            "api_server: {endpoint: 'http://project:1'}\nother: 1\n",
        );
        assert_eq!(
            found(None, &desk),
            at("http://project:1", file(".sky.yaml"))
        );
        desk.files.insert(
            "/h/.config/skytower/config.toml",
            "endpoint = 'http://saved:1'\n",
        );
        let saved = file("/h/.config/skytower/config.toml");
        assert_eq!(found(None, &desk), at("http://saved:1", saved));
        desk.variables
            .insert("SKYPILOT_API_SERVER_ENDPOINT", "http://sky:1");
        let sky = Origin::Environment("SKYPILOT_API_SERVER_ENDPOINT");
        assert_eq!(found(None, &desk), at("http://sky:1", sky.clone()));
        desk.variables.insert("SKYTOWER_ENDPOINT", "");
        assert_eq!(found(None, &desk), at("http://sky:1", sky));
        desk.variables.insert("SKYTOWER_ENDPOINT", "http://tower:1");
        let tower = Origin::Environment("SKYTOWER_ENDPOINT");
        assert_eq!(found(None, &desk), at("http://tower:1", tower));
        assert_eq!(
            found(Some("http://flag:1"), &desk),
            at("http://flag:1", Origin::Flag)
        );
    }

    #[test]
    fn a_saved_token_goes_to_its_own_server_only() {
        let mut desk = Desk::default();
        desk.files.insert(
            "/h/.config/skytower/config.toml",
            "endpoint = 'http://saved:1'\ntoken = 't'\n",
        );
        let with = |flag| resolve(flag, &desk).unwrap().unwrap().credentials;
        assert_eq!(with(None), Credentials::Bearer(Secret::new("t")));
        assert_eq!(
            with(Some("http://saved:1/")),
            Credentials::Bearer(Secret::new("t"))
        );
        assert_eq!(with(Some("http://other:1")), Credentials::None);
    }

    #[test]
    fn credentials_of_an_address_are_decoded_and_not_shown() {
        let found = Endpoint::parse("http://al%40x:p%3Aw%2F@h:1/", Origin::Flag).unwrap();
        assert_eq!(found.url, "http://h:1");
        let password = Secret::new("p:w/");
        let user = "al@x".to_owned();
        assert_eq!(found.credentials, Credentials::Basic { user, password });
        assert!(!format!("{found:?}").contains("p:w"));
    }

    #[test]
    fn what_is_no_address_is_said_without_its_password() {
        for raw in [
            "h:1",
            "ftp://u:secret@h",
            "http://",
            "http://u:secret@h:port",
            "http://u:secret@h 1",
            "u:secret@h:1",
            "http://h:1/?a=b",
            "",
        ] {
            let error = Endpoint::parse(raw, Origin::Flag).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.exit_code(), 2);
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn broken_files_are_named_and_not_quoted() {
        let mut desk = Desk::default();
        desk.files
            .insert("/h/.config/skytower/config.toml", "token = 'secret\n");
        let error = resolve(None, &desk).unwrap_err().to_string();
        assert!(
            error.contains("config.toml") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn cookies_go_to_their_own_host() {
        let jar = "# Netscape\n#HttpOnly_sky.example\tFALSE\t/\tTRUE\t0\ts\tv\nother\tFALSE\t/\tFALSE\t0\ta\tb\n";
        let for_url = |url| cookie_for(jar, url).map(|secret| secret.expose().to_owned());
        assert_eq!(for_url("https://sky.example"), Some("s=v".to_owned()));
        assert_eq!(for_url("http://sky.example"), None);
        assert_eq!(for_url("https://evil-sky.example"), None);
    }
}
