//! The server that a client talks to, which may move while it does: a local server that was
//! restarted has another port and another token.

use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;

use crate::endpoint::{Credentials, Endpoint};
use crate::rest::ClientError;

/// Finds the server again, starting it where that is ours to do.
pub type Locate = Arc<dyn Fn() -> BoxFuture<'static, Result<Endpoint, ClientError>> + Send + Sync>;

/// Reads what is saved for the server: another program of the same person may have signed in anew.
pub type Reread = Arc<dyn Fn() -> Option<Credentials> + Send + Sync>;

/// A server, shared by all calls and by the feed: whoever finds it anew finds it for all of them.
#[derive(Clone)]
pub struct Session {
    endpoint: Arc<RwLock<Endpoint>>,
    locate: Option<Locate>,
    reread: Option<Reread>,
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
            reread: None,
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

    /// Looks at what is saved before it says that it is refused.
    #[must_use]
    pub fn with_reread(self, reread: Reread) -> Self {
        Self {
            reread: Some(reread),
            ..self
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

    /// It refuses. Says whether there is reason to ask again at once: it is somewhere else by now, or
    /// other credentials were saved meanwhile.
    pub async fn refused(&self) -> bool {
        if self.relocate().await == Ok(true) {
            return true;
        }
        let Some(saved) = self.reread.as_ref().and_then(|reread| reread()) else {
            return false;
        };
        let other = saved != self.endpoint().credentials;
        if other {
            self.sign_in(saved);
        }
        other
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Origin, Secret};

    #[tokio::test]
    async fn what_another_program_saved_is_tried_once_before_one_is_refused() {
        let saved = Arc::new(RwLock::new(None));
        let read = saved.clone();
        let endpoint = Endpoint {
            url: "http://h:1".to_owned(),
            credentials: Credentials::Bearer(Secret::new("st_a_1")),
            origin: Origin::Default,
        };
        let session =
            Session::new(endpoint).with_reread(Arc::new(move || read.read().unwrap().clone()));
        assert!(!session.refused().await, "nothing is saved");
        let new = Credentials::Bearer(Secret::new("st_b_2"));
        *saved.write().unwrap() = Some(new.clone());
        assert!(session.refused().await);
        assert_eq!(session.endpoint().credentials, new);
        assert!(!session.refused().await, "it is refused itself");
        assert!(session.takes_credentials());
    }
}
