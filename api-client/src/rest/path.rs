//! The paths, in one place for those who call and those who serve.
//!
//! A key is one segment: its slashes are percent-encoded, so that nothing behind it is ambiguous.

use crate::key::Key;
use crate::kind::Kind;

/// `GET`: anybody may ask.
pub const HEALTH: &str = "/api/health";
/// `GET`: the server and what it watches.
pub const STATUS: &str = "/api/v1/status";
/// `GET`, upgraded to a websocket.
pub const WATCH: &str = "/api/v1/watch";
/// `POST`: a new request.
pub const REQUESTS: &str = "/api/v1/requests";

/// `GET` and `POST`: users of the server's own.
pub const USERS: &str = "/api/v1/accounts/users";
/// `GET` and `POST`: tokens.
pub const TOKENS: &str = "/api/v1/accounts/tokens";
/// `GET` and `POST`: workspaces of the server's own.
pub const WORKSPACES: &str = "/api/v1/accounts/workspaces";
/// `POST`: a new password for oneself.
pub const PASSWORD: &str = "/api/v1/accounts/password";

/// `GET`, `PATCH` and `DELETE`: one user.
pub fn user(name: &str) -> String {
    format!("{USERS}/{}", segment(name))
}

/// `DELETE`: one token.
pub fn token(id: &str) -> String {
    format!("{TOKENS}/{}", segment(id))
}

/// `POST`: a new secret for a token.
pub fn rotate(id: &str) -> String {
    format!("{}/rotate", token(id))
}

/// `GET`, `PATCH` and `DELETE`: one workspace.
pub fn workspace(name: &str) -> String {
    format!("{WORKSPACES}/{}", segment(name))
}
/// `GET`: the audit, for administrators.
pub const AUDIT: &str = "/api/v1/audit";
/// `GET`: is the audit whole.
pub const AUDIT_VERIFY: &str = "/api/v1/audit/verify";

/// `GET`: the rows of a kind.
pub fn list(kind: Kind) -> String {
    format!("/api/v1/{}", kind.plural())
}

/// `GET`: one row, whole.
pub fn detail(kind: Kind, key: &Key) -> String {
    format!("/api/v1/{}/{}", kind.plural(), segment(key.as_str()))
}

/// `GET`: log text.
pub fn logs(kind: Kind, key: &Key) -> String {
    format!("{}/logs", detail(kind, key))
}

/// `GET` and `DELETE`: one request.
pub fn request(id: &str) -> String {
    format!("{REQUESTS}/{}", segment(id))
}

/// `raw` as one path segment: everything but unreserved characters percent-encoded.
pub fn segment(raw: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(raw.len());
    for byte in raw.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment() {
        let key = Key::new("prod", Kind::Job, "12/0");
        assert_eq!(
            logs(Kind::Job, &key),
            "/api/v1/jobs/prod%2Fjob%2F12%2F0/logs"
        );
        assert_eq!(segment("a b%ü"), "a%20b%25%C3%BC");
    }
}
