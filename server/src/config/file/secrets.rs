//! Files that hold secrets, and who may read them.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use skytower_api_client::credentials::Secret;
use toml::Spanned;

use super::{FileError, Place};

/// No file that holds one secret is larger.
const SECRET_MOST: u64 = 64 * 1024;

/// Others can read what they must not, or its group can change it. A group that may read it is left
/// alone: that is how a key is shared with the one service that needs it.
fn is_open_key(metadata: &Metadata) -> bool {
    metadata.mode() & 0o027 != 0
}

/// What is wrong with the file of a key; none when it can be read and nobody else can.
pub(crate) fn wrong_key_file(path: &Path) -> Option<(String, Option<String>)> {
    let unreadable = |error: io::Error| (format!("cannot be read: {error}"), None);
    let metadata = match File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) => metadata,
        Err(error) => return Some(unreadable(error)),
    };
    is_open_key(&metadata).then(|| {
        let hint = format!("chmod 600 {}", path.display());
        ("others can read the key in it".to_owned(), Some(hint))
    })
}

impl Place<'_> {
    /// The only line of a file that is its owner's alone.
    pub(super) fn secret(&self, named: &Spanned<PathBuf>) -> Result<Secret, FileError> {
        let path = self.folder(named);
        let wrong = |why: String, hint: Option<String>| {
            let message = format!("{}: {why}", path.display());
            self.wrong(Some(named.span()), message, hint)
        };
        let unreadable = |error: io::Error| wrong(format!("cannot be read: {error}"), None);
        let file = File::open(&path).map_err(unreadable)?;
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

    /// A file that can be read.
    pub(super) fn readable(&self, named: &Spanned<PathBuf>) -> Result<PathBuf, FileError> {
        let path = self.folder(named);
        File::open(&path).map_err(|error| {
            let message = format!("{}: cannot be read: {error}", path.display());
            self.wrong(Some(named.span()), message, None)
        })?;
        Ok(path)
    }

    /// The file of a key, which only its owner can read.
    pub(super) fn key(&self, named: &Spanned<PathBuf>) -> Result<PathBuf, FileError> {
        let path = self.folder(named);
        match wrong_key_file(&path) {
            Some((why, hint)) => {
                let message = format!("{}: {why}", path.display());
                Err(self.wrong(Some(named.span()), message, hint))
            }
            None => Ok(path),
        }
    }
}
