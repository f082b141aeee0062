//! As whom a SkyPilot API server is spoken to.

use std::sync::{PoisonError, RwLock};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use skytower_api_client::Text;
use skytower_api_client::credentials::Credentials;

/// SkyPilot asks nobody for credentials who comes from its own machine, unless the call was forwarded.
const FORWARDED_HEADER: &str = "x-forwarded-for";
/// An address that is nobody's (RFC 5737): all that matters is that it is not this machine's.
const ELSEWHERE: &str = "192.0.2.1";
/// More than any honest answer: 100,000 full job records are 140 MB.
const LARGEST_ANSWER: usize = 512 * 1024 * 1024;
/// More than any honest answer to what is asked for a caller: results of actions, a person's workspaces.
const LARGEST_ANSWER_FOR_CALLERS: usize = 8 * 1024 * 1024;

/// On whose behalf calls are recorded where the server does not authenticate them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// SkyPilot's user id.
    pub id: Text,
    /// The name people know.
    pub name: Text,
}

/// Somebody who speaks to the server: the headers that say who it is, beside those of every call.
pub(super) struct Voice {
    headers: HeaderMap,
    identity: RwLock<Identity>,
    largest_answer: usize,
}

impl Voice {
    /// The source's own. None when no header can carry the credentials.
    pub(super) fn own(credentials: &Credentials, identity: Identity) -> Option<Self> {
        Some(Self {
            headers: headers(credentials)?,
            identity: RwLock::new(identity),
            largest_answer: LARGEST_ANSWER,
        })
    }

    /// A caller's, which counts for what it is from wherever it comes: without credentials that the
    /// server takes it is refused, also on the machine of the server. None when there are none, or no
    /// header can carry them.
    pub(super) fn of_caller(credentials: &Credentials, identity: Identity) -> Option<Self> {
        let mut headers = headers(credentials).filter(|headers| !headers.is_empty())?;
        headers.insert(FORWARDED_HEADER, HeaderValue::from_static(ELSEWHERE));
        Some(Self {
            headers,
            identity: RwLock::new(identity),
            largest_answer: LARGEST_ANSWER_FOR_CALLERS,
        })
    }

    pub(super) fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    /// The most that is read of an answer, in bytes.
    pub(super) fn largest_answer(&self) -> usize {
        self.largest_answer
    }

    pub(super) fn identity(&self) -> Identity {
        let identity = self.identity.read();
        identity.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        *self
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner) = identity;
    }
}

fn headers(credentials: &Credentials) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = credentials.header() {
        let mut value = HeaderValue::from_str(&value).ok()?;
        // It shows up in no Debug output, and in no table of compressed headers.
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::credentials::Secret;

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic {
            user: user.to_owned(),
            password: Secret::new(password),
        }
    }

    proptest::proptest! {
        #[test]
        fn a_callers_voice_says_its_own_credentials_and_that_it_comes_from_elsewhere(
            user in "\\PC{0,20}", secret in "[!-~]{1,40}", form in 0..3,
        ) {
            let credentials = match form {
                0 => basic(&user, &secret),
                1 => Credentials::Bearer(Secret::new(&secret)),
                _ => Credentials::Cookie(Secret::new(&secret)),
            };
            let (name, value) = credentials.header().unwrap();
            let voice = Voice::of_caller(&credentials, Identity::default()).unwrap();
            let headers = voice.headers();
            proptest::prop_assert_eq!(headers.len(), 2);
            proptest::prop_assert_eq!(headers[name].to_str().unwrap(), value);
            proptest::prop_assert_eq!(&headers[FORWARDED_HEADER], ELSEWHERE);
            let printed = format!("{headers:?}");
            proptest::prop_assert!(headers[name].is_sensitive() && printed.contains("Sensitive"));
        }
    }

    #[test]
    fn nobody_speaks_as_a_caller_without_credentials() {
        let of_caller = |credentials| Voice::of_caller(&credentials, Identity::default());
        assert!(of_caller(Credentials::None).is_none());
        // A second header, or a second request, in disguise.
        let two = "sky_1\r\nX-Auth-Request-Email: admin";
        assert!(of_caller(Credentials::Bearer(Secret::new(two))).is_none());
        assert!(of_caller(Credentials::Cookie(Secret::new("a=b\nc"))).is_none());
        assert!(of_caller(basic("a\r\nb", "c\r\nd")).is_some());
        let own = Voice::own(&Credentials::None, Identity::default()).unwrap();
        assert!(own.headers().is_empty());
    }
}
