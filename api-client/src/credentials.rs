//! Secrets, and how to say who one is. Nothing here can be printed by accident.

use base64::Engine as _;
use serde::Deserialize;

/// A secret. It cannot be printed or serialised; [`Secret::expose`] is for the line that sends it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The id within a token of skytower's own, `st_<id>_<secret>`: the part that may be shown.
    pub fn token_id(&self) -> Option<&str> {
        let (id, secret) = self.0.strip_prefix("st_")?.split_once('_')?;
        (!id.is_empty() && !secret.is_empty()).then_some(id)
    }

    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for sending or saving.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// How to say who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token (skytower's own, or SkyPilot's `sky_…`).
    Bearer(Secret),
    /// A `Cookie` header (SkyPilot's session).
    Cookie(Secret),
}

impl Credentials {
    /// The header that carries them: its name and its value. The value is secret.
    pub fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Credentials::None => None,
            Credentials::Basic { user, password } => {
                let pair = format!("{user}:{}", password.expose());
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(("authorization", format!("Basic {encoded}")))
            }
            Credentials::Bearer(token) => {
                Some(("authorization", format!("Bearer {}", token.expose())))
            }
            Credentials::Cookie(cookie) => Some(("cookie", cookie.expose().to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_ours_has_an_id_that_is_no_secret() {
        for (token, id) in [
            ("st_k3f9_abc_def", Some("k3f9")),
            ("st_k3f9_", None),
            ("st__abc", None),
            ("st_abc", None),
            ("sky_k3f9_abc", None),
            ("", None),
        ] {
            assert_eq!(Secret::new(token).token_id(), id, "{token}");
        }
    }
}
