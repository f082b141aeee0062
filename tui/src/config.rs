//! The client's configuration file: the saved login. It holds secrets and is for its owner alone.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use skytower_api_client::endpoint::{Credentials, Endpoint, Process, saved_path};

use crate::cli::Failure;

#[derive(Default, Serialize)]
struct Written<'a> {
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

/// Remembers a server and its credentials. Whoever reads meanwhile finds the old file or the new.
pub fn save(endpoint: &Endpoint) -> Result<PathBuf, Failure> {
    let path = saved_path(&Process);
    save_at(&path, endpoint)
        .map_err(|error| Failure::new(1, format!("cannot write {}: {error}", path.display())))?;
    Ok(path)
}

fn save_at(path: &Path, endpoint: &Endpoint) -> std::io::Result<()> {
    let mut written = Written {
        endpoint: &endpoint.url,
        ..Written::default()
    };
    match &endpoint.credentials {
        Credentials::Basic { user, password } => {
            written.user = Some(user);
            written.password = Some(password.expose());
        }
        Credentials::Bearer(token) => written.token = Some(token.expose()),
        // A session cookie stays in the jar that SkyPilot keeps.
        Credentials::None | Credentials::Cookie(_) => {}
    }
    let text = toml::to_string(&written).map_err(std::io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?
        .write_all(text.as_bytes())?;
    fs::rename(draft, path)
}

/// Forgets the saved login. Says whether there was one.
pub fn forget() -> Result<bool, Failure> {
    let path = saved_path(&Process);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let message = format!("cannot remove {}: {error}", path.display());
            Err(Failure::new(1, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::endpoint::{Origin, Saved};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_saved_is_read_back_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/config.toml");
        let endpoint = Endpoint::parse("http://al:p%22w@h:1", Origin::Flag).unwrap();
        save_at(&path, &endpoint).unwrap();
        save_at(&path, &endpoint).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let saved: Saved = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(saved.endpoint.as_deref(), Some("http://h:1"));
        assert_eq!(saved.password.unwrap().expose(), "p\"w");
    }
}
