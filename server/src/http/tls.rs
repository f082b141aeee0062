//! Encryption by the server itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::TlsConfig;

/// Why connections cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be used.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Two files that are not for each other.
    #[error("{certificate} and {key} do not belong together: the certificate is for another key")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// The present certificate, and the files that it is read from.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsConfig,
    present: RwLock<Arc<ServerConfig>>,
    read: Stamp,
}

/// When the two files were changed and how long they are, as far as can be seen.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Reads a certificate and its key.
    pub(crate) fn open(files: &TlsConfig) -> Result<Arc<Self>, TlsError> {
        // Before they are read: what changes meanwhile is read again.
        let read = stamp(files);
        Ok(Arc::new(Self {
            present: RwLock::new(load(files)?),
            files: files.clone(),
            read,
        }))
    }

    /// The server's part of the handshake.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.present()).accept(stream).await
    }

    fn present(&self) -> Arc<ServerConfig> {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.clone()
    }

    /// Reads the files again whenever they have changed. Connections that are open stay as they are; of
    /// a new pair that cannot be used nothing is taken.
    pub(crate) async fn follow(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        let mut read = self.read;
        let mut look = tokio::time::interval(every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let files = self.files.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let found = stamp(&files);
                (found != read).then(|| (found, load(&files)))
            });
            match looked.await {
                Ok(Some((found, loaded))) => {
                    read = found;
                    self.turn_to(loaded);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the certificate could not be looked at"),
            }
        }
    }

    fn turn_to(&self, loaded: Result<Arc<ServerConfig>, TlsError>) {
        match loaded {
            Ok(next) => {
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = next;
                tracing::info!("the certificate was read again");
            }
            Err(error) => tracing::warn!(
                %error,
                "the certificate was changed and cannot be used: the one before it stays"
            ),
        }
    }
}

fn stamp(files: &TlsConfig) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn load(files: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |path: &Path, why: String| TlsError::File {
        path: path.to_owned(),
        why,
    };
    let bad = |path: &Path, what: &str, error: &PemError| {
        let why = match error {
            PemError::Io(error) => format!("cannot be read: {error}"),
            PemError::NoItemsFound => format!("holds no {what} in PEM form"),
            // Whatever else it says may be out of a key.
            _ => format!("holds what is no {what} in PEM form"),
        };
        wrong(path, why)
    };
    let certificate = &files.certificate;
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(certificate, "certificate", &error))?;
    if chain.is_empty() {
        return Err(bad(certificate, "certificate", &PemError::NoItemsFound));
    }
    if let Some((why, hint)) = crate::config::wrong_key_file(&files.key) {
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        return Err(wrong(&files.key, why + &hint));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad(&files.key, "key", &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        wrong(
            &files.key,
            "holds a key of no kind that is known".to_owned(),
        )
    })?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(TlsError::Mismatch {
                certificate: certificate.clone(),
                key: files.key.clone(),
            });
        }
        Err(error) => return Err(wrong(certificate, format!("cannot be used: {error}"))),
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| wrong(certificate, format!("cannot be used: {error}")))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Pair {
        folder: tempfile::TempDir,
        files: TlsConfig,
    }

    impl Pair {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let files = TlsConfig {
                certificate: folder.path().join("cert.pem"),
                key: folder.path().join("key.pem"),
            };
            let pair = Self { folder, files };
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(&pair.files.certificate, made.cert.pem()).unwrap();
            pair.write_key(&made.signing_key.serialize_pem());
            pair
        }

        fn write_key(&self, text: &str) {
            fs::write(&self.files.key, text).unwrap();
            fs::set_permissions(&self.files.key, fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn error(&self) -> String {
            let error = Tls::open(&self.files).unwrap_err().to_string();
            let folder = self.folder.path().display().to_string();
            assert!(error.contains(&folder), "names its file: {error}");
            error
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_file() {
        let pair = Pair::new();
        assert!(Tls::open(&pair.files).is_ok());
        let other = Pair::new();
        let key = fs::read_to_string(&other.files.key).unwrap();
        pair.write_key(&key);
        assert!(pair.error().contains("do not belong together"));
        fs::set_permissions(&pair.files.key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(pair.error().contains("others can read the key"));
        for rubbish in [
            "",
            "s3cret",
            "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n",
        ] {
            pair.write_key(rubbish);
            let error = pair.error();
            assert!(
                error.contains("key.pem: holds ") && !error.contains("s3cret"),
                "{error}"
            );
        }
        fs::remove_file(&pair.files.key).unwrap();
        assert!(pair.error().contains("cannot be read"));
        fs::write(&pair.files.certificate, "").unwrap();
        assert!(pair.error().contains("cert.pem: holds no certificate"));
        fs::remove_file(&pair.files.certificate).unwrap();
        assert!(pair.error().contains("cert.pem: cannot be read"));
    }

    #[test]
    fn of_a_new_pair_that_does_not_fit_nothing_is_taken() {
        let pair = Pair::new();
        let tls = Tls::open(&pair.files).unwrap();
        let before = Arc::as_ptr(&tls.present());
        let other = Pair::new();
        fs::copy(&other.files.certificate, &pair.files.certificate).unwrap();
        tls.turn_to(load(&pair.files));
        assert_eq!(Arc::as_ptr(&tls.present()), before);
        fs::copy(&other.files.key, &pair.files.key).unwrap();
        tls.turn_to(load(&pair.files));
        assert_ne!(Arc::as_ptr(&tls.present()), before);
    }
}
