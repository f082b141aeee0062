//! Where the state of local servers is.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use skytower_api_client::endpoint::{Credentials, Endpoint, Process, Surroundings};
use skytower_api_client::rest::ClientError;

/// What a local server watches: a SkyPilot API server with somebody's credentials, or nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// The SkyPilot API server.
    pub endpoint: Option<Endpoint>,
}

/// The folder of the server for what is watched.
pub fn home_of(watched: &Watched) -> Result<PathBuf, ClientError> {
    Ok(servers(&Process)?.join(folder_name(watched, &Process)))
}

/// The folders of all local servers of this account.
pub fn all_homes() -> Result<Vec<PathBuf>, ClientError> {
    let Ok(entries) = std::fs::read_dir(servers(&Process)?) else {
        return Ok(Vec::new());
    };
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The folder of the local engine: one for all servers of this account, whatever they watch, so that
/// what runs here is seen beside any of them.
pub(super) fn engine() -> Result<PathBuf, ClientError> {
    below_base("engine", &Process)
}

fn servers(around: &dyn Surroundings) -> Result<PathBuf, ClientError> {
    below_base("servers", around)
}

fn below_base(name: &str, around: &dyn Surroundings) -> Result<PathBuf, ClientError> {
    let base = around
        .said("SKYTOWER_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(around.said("XDG_STATE_HOME")?).join("skytower")))
        .or_else(|| Some(PathBuf::from(around.said("HOME")?).join(".local/state/skytower")));
    match base {
        Some(base) => {
            std::path::absolute(base.join(name)).map_err(|error| failed("find", &base, &error))
        }
        None => Err(ClientError::Local {
            message: "there is no place for the local server's state: HOME is not set".into(),
            hint: "set SKYTOWER_HOME to a folder of your own".into(),
        }),
    }
}

fn folder_name(watched: &Watched, around: &dyn Surroundings) -> String {
    let Some(endpoint) = &watched.endpoint else {
        return "none".to_owned();
    };
    let identity = match &endpoint.credentials {
        // Where nobody has to say who they are, SkyPilot believes its own variables and file.
        Credentials::None => around
            .said("SKYPILOT_USER_ID")
            .or_else(|| around.read(&around.path("~/.sky/user_hash")).ok())
            .unwrap_or_default(),
        Credentials::Basic { user, .. } => format!("basic {user}"),
        Credentials::Bearer(token) => format!("bearer {:x}", fnv(token.expose())),
        Credentials::Cookie(cookie) => format!("cookie {:x}", fnv(cookie.expose())),
    };
    let host = endpoint.url.split("://").nth(1).unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let host: String = host.chars().take(40).map(plain).collect();
    let hash = fnv(&format!("{} {}", endpoint.url, identity.trim()));
    format!("{host}-{:08x}", (hash ^ (hash >> 32)) as u32)
}

/// FNV-1a: short, and the same in every version of everything.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Makes the folder, for its owner alone.
pub(super) fn make(home: &Path) -> Result<(), ClientError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .and_then(|()| std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)))
        .map_err(|error| failed("make", home, &error))
}

pub(super) fn failed(doing: &str, path: &Path, error: &std::io::Error) -> ClientError {
    ClientError::Local {
        message: format!("cannot {doing} {}: {error}", path.display()).into(),
        hint: "SKYTOWER_HOME names another folder for the local server's state".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::endpoint::Origin;

    struct Desk(Option<&'static str>);

    impl Surroundings for Desk {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "HOME" => Some("/h".to_owned()),
                "SKYPILOT_USER_ID" => self.0.map(str::to_owned),
                _ => None,
            }
        }
        fn read(&self, _: &Path) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn each_endpoint_and_identity_has_its_own_folder() {
        let name = |url: &str, user| {
            let endpoint = Some(Endpoint::parse(url, Origin::Flag).unwrap());
            folder_name(&Watched { endpoint }, &Desk(user))
        };
        let names = [
            name("http://a:1", None),
            name("http://a:2", None),
            name("http://a:1", Some("x")),
            name("http://u:secret@a:1", None),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(
            names
                .iter()
                .all(|name| !name.contains("secret") && !name.contains('/'))
        );
        assert_eq!(name("http://u:other@a:1", None), names[3]);
    }
}
