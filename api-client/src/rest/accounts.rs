//! Accounts over REST: users, tokens and workspaces of a server that has its own.
//!
//! What is sent is read strictly: an unknown field is a mistake, never ignored. Secrets go one way and
//! are shown once: a password to the server, a new token from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::credentials::Secret;
use crate::text::Text;
use crate::time::EpochMs;
use crate::wire::Role;

/// What a token is for. It never gives more than its user has.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// `/metrics` and nothing else.
    Metrics,
    /// To look.
    Read,
    /// To look and act.
    #[default]
    Act,
    /// Whatever its user may do, accounts included.
    Admin,
}

impl Scope {
    /// Every scope, the least first.
    pub const ALL: &'static [Scope] = &[Scope::Metrics, Scope::Read, Scope::Act, Scope::Admin];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Scope::Metrics => "metrics",
            Scope::Read => "read",
            Scope::Act => "act",
            Scope::Admin => "admin",
        }
    }

    /// The scope of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.word() == word)
    }

    /// What is left of its user's role for whoever comes with the token.
    pub const fn limits(self, role: Role) -> Role {
        match (self, role) {
            (Scope::Admin, role) => role,
            (Scope::Act, Role::Admin | Role::User) => Role::User,
            (Scope::Act | Scope::Read | Scope::Metrics, _) => Role::Viewer,
        }
    }

    /// Good for `/metrics` alone: every other door stays shut.
    pub const fn is_for_metrics_only(self) -> bool {
        matches!(self, Scope::Metrics)
    }
}

/// A user, without secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// Its id.
    pub id: Text,
    /// Its name.
    pub name: Text,
    /// What it may do.
    pub role: Role,
    /// A service account: it has tokens and no password.
    pub service: bool,
    /// It may not sign in.
    pub disabled: bool,
    /// It can sign in with a password.
    pub has_password: bool,
    /// Its ids at the sources.
    pub identities: Vec<Text>,
    /// When it was made.
    pub created_at: EpochMs,
    /// Its tokens that still count.
    pub tokens: usize,
}

/// `POST /api/v1/accounts/users`. Answers with a [`NewPassword`] for people, a [`UserInfo`] for service accounts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// What it may do.
    #[serde(default = "user", deserialize_with = "role")]
    pub role: Role,
    /// A service account.
    #[serde(default)]
    pub service: bool,
    /// Its first password; one is made up when there is none.
    #[serde(default)]
    pub password: Option<Secret>,
}

fn user() -> Role {
    Role::User
}

/// A role as somebody gives it: a word that is none is a mistake here, where elsewhere it is the least.
fn role<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
    let word = Text::deserialize(from)?;
    [Role::Admin, Role::User, Role::Viewer]
        .into_iter()
        .find(|role| word == role.word())
        .ok_or_else(|| {
            serde::de::Error::custom(format!("`{word}` is no role: admin, user or viewer"))
        })
}

fn some_role<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Role>, D::Error> {
    role(from).map(Some)
}

/// A user and the password that was made up for it, shown this once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct NewPassword {
    /// The user.
    pub user: UserInfo,
    /// Its password; none when the caller chose it, or for a service account.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// `PATCH /api/v1/accounts/users/{name}`: what it names is changed, everything else stays.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserPatch {
    /// What it may do.
    #[serde(deserialize_with = "some_role")]
    pub role: Option<Role>,
    /// It may not sign in.
    pub disabled: Option<bool>,
    /// A new password.
    pub password: Option<Secret>,
    /// Make up a new password; the answer holds it.
    pub new_password: bool,
    /// Ids at the sources that are this user's too.
    pub add_identities: Vec<String>,
    /// Ids at the sources that are this user's no more.
    pub remove_identities: Vec<String>,
}

/// `POST /api/v1/accounts/password`: one's own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present one.
    pub current: Secret,
    /// The new one.
    pub new: Secret,
}

/// A token, without its secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenInfo {
    /// Its id: the part that may be shown.
    pub id: Text,
    /// What its owner calls it.
    pub name: Text,
    /// Whose it is.
    pub user: Text,
    /// What it is for.
    pub scope: Scope,
    /// When it was made.
    pub created_at: EpochMs,
    /// When it stops to count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<EpochMs>,
    /// About when it was last used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<EpochMs>,
}

/// `POST /api/v1/accounts/tokens`. Answers with an [`IssuedToken`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What to call it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub scope: Scope,
    /// How long it counts, such as `90d`; for ever when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Whose it is to be; the caller's own when none, and only administrators name others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A token with its secret, shown this once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct IssuedToken {
    /// What is known of it from now on.
    pub info: TokenInfo,
    /// The token itself: `st_…`.
    pub token: Secret,
}

/// `POST /api/v1/accounts/tokens/{id}/rotate`: a new secret under the same id. Answers with an [`IssuedToken`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// How long the old secret still counts, such as `1h` (which it is when none) or `0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
}

/// A workspace of the server's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceInfo {
    /// Its name.
    pub name: Text,
    /// Only for its members and administrators.
    pub private: bool,
    /// Names of its members.
    pub members: Vec<Text>,
}

/// `POST /api/v1/accounts/workspaces`. Answers with a [`WorkspaceInfo`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWorkspace {
    /// Its name.
    pub name: String,
    /// Only for its members and administrators.
    #[serde(default)]
    pub private: bool,
    /// Names of its members.
    #[serde(default)]
    pub members: Vec<String>,
}

/// `PATCH /api/v1/accounts/workspaces/{name}`: what it names is changed, everything else stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkspacePatch {
    /// Only for its members and administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    /// Names of users who become members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_members: Vec<String>,
    /// Names of users who are members no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_members: Vec<String>,
}

/// How long something counts, as people write it: `90d`, `12h`.
pub fn span(written: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(written.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_given() {
        let sneaky = r#"{"current":"a","new":"b","role":"admin"}"#;
        assert!(serde_json::from_str::<PasswordChange>(sneaky).is_err());
        let sneaky = r#"{"name":"ci","role":"admin"}"#;
        assert!(serde_json::from_str::<NewToken>(sneaky).is_err());
        let plain: NewUser = serde_json::from_str(r#"{"name":"al"}"#).unwrap();
        assert_eq!((plain.role, plain.service), (Role::User, false));
        assert!(serde_json::from_str::<UserPatch>(r#"{"role":"root"}"#).is_err());
        let patch: UserPatch = serde_json::from_str(r#"{"role":"admin"}"#).unwrap();
        assert_eq!(patch.role, Some(Role::Admin));
        let token: NewToken = serde_json::from_str(r#"{"name":"ci"}"#).unwrap();
        assert_eq!(token.scope, Scope::Act);
    }

    #[test]
    fn scopes_have_words() {
        for scope in Scope::ALL {
            assert_eq!(Scope::of(scope.word()), Some(*scope));
        }
        assert_eq!(Scope::of("root"), None);
    }
}
