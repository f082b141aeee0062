//! The server that a client talks to, which may move while it does: a local server that was
//! restarted has another port and another token.

use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;

use crate::endpoint::{Credentials, Endpoint};
use crate::rest::ClientError;

/// Finds the server again, starting it where that is ours to do.
pub type Locate = Arc<dyn Fn() -> BoxFuture<'static, Result<Endpoint, ClientError>> + Send + Sync>;

/// A server, shared by all calls and by the feed: whoever finds it anew finds it for all of them.
#[derive(Clone)]
pub struct Session {
    endpoint: Arc<RwLock<Endpoint>>,
    locate: Option<Locate>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Session").field(&self.endpoint()).finish()
    }
}

impl Session {
    /// A server that stays where it is.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint: Arc::new(RwLock::new(endpoint)),
            locate: None,
        }
    }

    /// A server that can be found again when it does not answer any more.
    #[must_use]
    pub fn with_locate(endpoint: Endpoint, locate: Locate) -> Self {
        Self {
            locate: Some(locate),
            ..Self::new(endpoint)
        }
    }

    /// Where it is now.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// One can say anew who one is. The server that is ours to find and start has its own token, and
    /// whoever finds it has it too.
    pub fn takes_credentials(&self) -> bool {
        self.locate.is_none()
    }

    /// From now on every call and connection says who one is by these. They were verified before.
    pub fn sign_in(&self, credentials: Credentials) {
        self.endpoint
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .credentials = credentials;
    }

    /// Looks for it anew. Says whether it is somewhere else, or somebody else, than before.
    pub async fn relocate(&self) -> Result<bool, ClientError> {
        let Some(locate) = &self.locate else {
            return Ok(false);
        };
        let found = locate().await?;
        let mut endpoint = self
            .endpoint
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let moved = *endpoint != found;
        *endpoint = found;
        Ok(moved)
    }
}
