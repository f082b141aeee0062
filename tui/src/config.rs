//! The client's configuration file: the saved login, and whether anything may be changed from here. It
//! holds secrets and is for its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use skytower_api_client::endpoint::{Credentials, Endpoint, Process, Saved, saved_path};

use crate::cli::Failure;

/// What a login writes, and what a logout takes away. Everything else in the file stays.
const LOGIN: &[&str] = &["endpoint", "token", "user", "password", "issued"];

/// What is saved, once it is certain that nobody else could have written it, and that nobody else can
/// read what is secret in it.
pub fn guarded() -> Result<Saved, Failure> {
    let path = saved_path(&Process);
    let (saved, warning) = guarded_at(&path)?;
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
    Ok(saved)
}

fn guarded_at(path: &Path) -> Result<(Saved, Option<String>), Failure> {
    let cannot = |doing: &str, error: &std::io::Error| {
        Failure::new(2, format!("cannot {doing} {}: {error}", path.display()))
            .hint("mend or remove the file")
    };
    let mut file = match File::open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok((Saved::default(), None));
        }
        opened => opened.map_err(|error| cannot("read", &error))?,
    };
    let about = file.metadata().map_err(|error| cannot("read", &error))?;
    let me = rustix::process::geteuid().as_raw();
    if about.uid() != me {
        let owner = about.uid();
        let sentence = format!(
            "{} belongs to somebody else (user id {owner}, you are {me})",
            path.display()
        );
        return Err(Failure::usage(
            sentence,
            "remove it, or make it yours when you know what is in it",
        ));
    }
    let mode = about.mode() & 0o777;
    if mode & 0o022 != 0 {
        let sentence = format!("others can write to {} (mode {mode:03o})", path.display());
        let hint = format!("look at what is in it, then: chmod 600 {}", path.display());
        return Err(Failure::usage(sentence, hint));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|error| cannot("read", &error))?;
    // One that cannot be understood is told of where it is needed.
    let parsed = Saved::parse(&text, path).ok();
    let secret = parsed
        .as_ref()
        .is_none_or(|saved| saved.token.is_some() || saved.password.is_some());
    let saved = parsed.unwrap_or_default();
    let open = mode & 0o077 != 0;
    if !open || !secret {
        return Ok((saved, None));
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(|error| cannot("close to others", &error))?;
    let warning = format!(
        "others could read {} (mode {mode:03o}); it is closed now. Whoever read it has your login: \
         sign in again, and change the password if one is in it",
        path.display()
    );
    Ok((saved, Some(warning)))
}

/// What is saved; none when there is no file.
pub fn saved() -> Result<Option<Saved>, Failure> {
    let path = saved_path(&Process);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(Saved::parse(&text, &path)?)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Failure::new(
            1,
            format!("cannot read {}: {error}", path.display()),
        )),
    }
}

/// Remembers a server and its credentials; `issued` says that the login made the token itself. Whoever
/// reads meanwhile finds the old file or the new.
pub fn save(endpoint: &Endpoint, issued: bool) -> Result<PathBuf, Failure> {
    let path = saved_path(&Process);
    save_at(&path, endpoint, issued)
        .map_err(|error| Failure::new(1, format!("cannot write {}: {error}", path.display())))?;
    Ok(path)
}

fn save_at(path: &Path, endpoint: &Endpoint, issued: bool) -> std::io::Result<()> {
    let mut table = others_words(path)?;
    let mut put = |key: &str, value: &str| {
        table.insert(key.to_owned(), value.into());
    };
    put("endpoint", &endpoint.url);
    match &endpoint.credentials {
        Credentials::Basic { user, password } => {
            put("user", user);
            put("password", password.expose());
        }
        Credentials::Bearer(token) => put("token", token.expose()),
        // A session cookie stays in the jar that SkyPilot keeps.
        Credentials::None | Credentials::Cookie(_) => {}
    }
    if issued {
        table.insert("issued".to_owned(), true.into());
    }
    write(path, &table)
}

/// Forgets the saved login. Says whether there was one.
pub fn forget() -> Result<bool, Failure> {
    let path = saved_path(&Process);
    forget_at(&path)
        .map_err(|error| Failure::new(1, format!("cannot change {}: {error}", path.display())))
}

fn forget_at(path: &Path) -> std::io::Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let rest = others_words(path)?;
    if rest.is_empty() {
        fs::remove_file(path)?;
        return Ok(true);
    }
    let text = fs::read_to_string(path)?;
    let before: toml::Table = text.parse().unwrap_or_default();
    let was_there = LOGIN.iter().any(|key| before.contains_key(*key));
    write(path, &rest)?;
    Ok(was_there)
}

/// What the file holds beside the login. One that cannot be understood holds nothing.
fn others_words(path: &Path) -> std::io::Result<toml::Table> {
    let text = match fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
            String::new()
        }
        text => text?,
    };
    let mut table: toml::Table = text.parse().unwrap_or_default();
    table.retain(|key, _| !LOGIN.contains(&key));
    Ok(table)
}

fn write(path: &Path, table: &toml::Table) -> std::io::Result<()> {
    let text = toml::to_string(table).map_err(std::io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::endpoint::{Origin, Secret};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_saved_is_read_back_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/config.toml");
        let endpoint = Endpoint::parse("http://al:p%22w@h:1", Origin::Flag).unwrap();
        save_at(&path, &endpoint, false).unwrap();
        save_at(&path, &endpoint, false).unwrap();
        assert_eq!(mode(&path), 0o600);
        let (saved, warning) = guarded_at(&path).unwrap();
        assert_eq!(warning, None);
        assert_eq!(saved.endpoint.as_deref(), Some("http://h:1"));
        assert_eq!(saved.password.unwrap().expose(), "p\"w");
    }

    #[test]
    fn a_login_and_a_logout_leave_the_rest_of_the_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        put(
            &path,
            "read_only = true\npassword = 'old'\nuser = 'al'\n",
            0o600,
        );
        let mut endpoint = Endpoint::parse("http://h:1", Origin::Flag).unwrap();
        endpoint.credentials = Credentials::Bearer(Secret::new("st_a_b"));
        save_at(&path, &endpoint, true).unwrap();
        let (saved, _) = guarded_at(&path).unwrap();
        assert!(saved.read_only && saved.issued && saved.password.is_none());
        assert_eq!(saved.token.unwrap().token_id(), Some("a"));
        assert!(forget_at(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "read_only = true\n");
        assert_eq!(mode(&path), 0o600);
        assert!(!forget_at(&path).unwrap());
        put(&path, "token = 'broken", 0o600);
        assert!(forget_at(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn case_56_a_file_that_others_can_read_is_closed_with_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        for open in [0o644, 0o640, 0o604] {
            put(&path, "token = 'st_a_very.secret'\n", open);
            let (_, warning) = guarded_at(&path).unwrap();
            let warning = warning.unwrap();
            assert!(warning.contains(&format!("{open:03o}")), "{warning}");
            assert!(!warning.contains("very.secret"), "{warning}");
            assert_eq!(mode(&path), 0o600);
            assert_eq!(guarded_at(&path).unwrap().1, None);
        }
        // There is nothing in it to be closed.
        put(&path, "endpoint = 'http://h:1'\n", 0o644);
        assert_eq!(guarded_at(&path).unwrap().1, None);
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn case_56_a_file_that_others_can_write_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        for open in [0o666, 0o620, 0o602] {
            put(&path, "endpoint = 'http://evil:1'\n", open);
            let failure = guarded_at(&path).unwrap_err();
            assert_eq!(failure.code, 2);
            assert!(failure.hint.unwrap().contains("chmod 600"));
            assert_eq!(mode(&path), open);
        }
    }
}
