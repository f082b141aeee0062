//! The accounts as values: who there is, with which tokens, in which workspaces.
//!
//! An operation is a question to the present state: it answers with the edits that would do it, or with
//! why it cannot be. Whoever asks writes the edits down first and applies them afterwards. All of that
//! has to happen one operation at a time: edits are whole rows, and those of an older state would undo
//! what happened since.

mod name;
mod tokens;
mod users;
mod workspaces;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use skytower_api_client::wire::{Problem, Role};
use skytower_api_client::{EpochMs, Text};
use subtle::{Choice, ConstantTimeEq as _};

use super::password::PasswordHash;

pub use skytower_api_client::rest::accounts::Scope;

pub(super) use name::{
    identity, invalid, is_token_id, is_user_id, token_name, user_name, workspace_name,
};
pub use tokens::{DEFAULT_OVERLAP, Issued, MAX_TOKENS, NewToken, TokenRefusal};
pub use users::NewUser;

/// The workspace that is always there and open to everybody.
pub const DEFAULT_WORKSPACE: &str = "default";

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `u-` and twelve random digits; never used again.
    pub id: Text,
    /// The name to sign in with; unique whatever the case.
    pub name: Text,
    /// What the user may do.
    pub role: Role,
    /// The password, where there is one.
    pub password: Option<PasswordHash>,
    /// May not sign in until enabled again.
    pub disabled: bool,
    /// Since when there is this user.
    pub created_at: EpochMs,
    /// When the password was last replaced; none while it is the first one.
    pub password_changed_at: Option<EpochMs>,
    /// The ids of that person at the sources, given by an administrator.
    pub identities: BTreeSet<Text>,
    /// A service account: no password, only tokens.
    pub service: bool,
}

impl User {
    /// Can let others in, whatever happens: what at least one user has to be.
    fn holds_the_keys(&self) -> bool {
        self.role == Role::Admin && !self.disabled && self.password.is_some()
    }
}

/// What is kept of a token's secret. It has 256 random bits, so that nothing is gained by a slow hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub(super) [u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Takes the same time whatever the difference is.
    fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The secret that a rotated token had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its hash.
    pub hash: SecretHash,
    /// Good before this moment.
    pub until: EpochMs,
}

/// A token of a user, written `st_<id>_<secret>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Twelve random digits; not secret.
    pub id: Text,
    /// The id of its user.
    pub user: Text,
    /// What it is for, in the user's words; unique among the user's tokens.
    pub name: Text,
    /// What it may be used for.
    pub scope: Scope,
    /// What the secret hashes to.
    pub hash: SecretHash,
    /// The secret before the last rotation.
    pub previous: Option<Previous>,
    /// When it was made.
    pub created_at: EpochMs,
    /// Good before this moment; for good when there is none.
    pub expires_at: Option<EpochMs>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<EpochMs>,
}

impl Token {
    /// It has had its time.
    pub fn is_expired(&self, now: EpochMs) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Is this what is kept of a secret that counts now: the present one, or the one before for a while.
    pub fn is_good_as(&self, kept: &SecretHash, now: EpochMs) -> bool {
        let before = self.previous.as_ref();
        let counts = before.is_some_and(|before| before.until > now && before.hash == *kept);
        !self.is_expired(now) && (self.hash == *kept || counts)
    }
}

/// A workspace that the server knows the members of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its name, as at the sources.
    pub name: Text,
    /// Only for its members.
    pub private: bool,
    /// The ids of the users in it.
    pub members: BTreeSet<Text>,
}

/// One row that changes. Whole rows: writing one twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The user is now this.
    PutUser(User),
    /// No user has this id any more. The user's tokens and memberships go by edits before this one.
    RemoveUser(Text),
    /// The token is now this.
    PutToken(Token),
    /// No token has this id any more.
    RemoveToken(Text),
    /// The token was used then. An edit of its own: it must not bring back what a token was.
    UseToken(Text, EpochMs),
    /// The workspace is now this.
    PutWorkspace(Workspace),
    /// No workspace has this name any more.
    RemoveWorkspace(Text),
}

/// What an operation answers.
pub type Edits = Result<Vec<Edit>, Problem>;

/// Everybody and everything there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<Text, User>,
    /// User ids by lower-case name.
    names: BTreeMap<String, Text>,
    /// User ids by id at a source.
    identities: BTreeMap<Text, Text>,
    tokens: BTreeMap<Text, Token>,
    workspaces: BTreeMap<Text, Workspace>,
}

impl Default for Accounts {
    fn default() -> Self {
        let default = Workspace {
            name: DEFAULT_WORKSPACE.into(),
            private: false,
            members: BTreeSet::new(),
        };
        Self {
            workspaces: BTreeMap::from([(default.name.clone(), default)]),
            ..Self::nothing()
        }
    }
}

impl Accounts {
    /// Not even the workspace that is always there.
    pub(super) fn nothing() -> Self {
        Self {
            users: BTreeMap::new(),
            names: BTreeMap::new(),
            identities: BTreeMap::new(),
            tokens: BTreeMap::new(),
            workspaces: BTreeMap::new(),
        }
    }

    /// Does what an operation answered.
    pub fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::PutUser(user) => {
                self.forget_user(&user.id);
                self.names.insert(folded(&user.name), user.id.clone());
                for identity in &user.identities {
                    self.identities.insert(identity.clone(), user.id.clone());
                }
                self.users.insert(user.id.clone(), user.clone());
            }
            Edit::RemoveUser(id) => self.forget_user(id),
            Edit::PutToken(token) => {
                self.tokens.insert(token.id.clone(), token.clone());
            }
            Edit::RemoveToken(id) => {
                self.tokens.remove(id);
            }
            Edit::UseToken(id, at) => {
                if let Some(token) = self.tokens.get_mut(id) {
                    token.last_used_at = Some(*at);
                }
            }
            Edit::PutWorkspace(workspace) => {
                self.workspaces
                    .insert(workspace.name.clone(), workspace.clone());
            }
            Edit::RemoveWorkspace(name) => {
                self.workspaces.remove(name);
            }
        }
    }

    fn forget_user(&mut self, id: &str) {
        if let Some(user) = self.users.remove(id) {
            self.names.remove(&folded(&user.name));
            for identity in &user.identities {
                self.identities.remove(identity);
            }
        }
    }

    /// Every user, in the order of their names.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &User> {
        self.names.values().map(|id| &self.users[id])
    }

    /// Every token, in the order of their ids.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &Token> {
        self.tokens.values()
    }

    /// The tokens of a user.
    pub fn tokens_of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Token> {
        self.tokens.values().filter(|token| token.user == user.id)
    }

    /// Every workspace, in the order of their names.
    pub fn workspaces(&self) -> impl ExactSizeIterator<Item = &Workspace> {
        self.workspaces.values()
    }

    /// The user of that id.
    pub fn user(&self, id: &str) -> Option<&User> {
        self.users.get(id)
    }

    /// The user of that name, whatever its case.
    pub fn user_named(&self, name: &str) -> Option<&User> {
        self.users.get(self.names.get(&folded(name))?)
    }

    /// The user to whom that id at a source was given.
    pub fn user_with_identity(&self, identity: &str) -> Option<&User> {
        self.users.get(self.identities.get(identity)?)
    }

    /// The user of that name or id, or who there is instead.
    pub fn find_user(&self, who: &str) -> Result<&User, Problem> {
        self.user_named(who)
            .or_else(|| self.user(who))
            .ok_or_else(|| {
                name::not_found("user", who, self.users().map(|user| user.name.as_str()))
            })
    }

    /// The token of that id, or which there are instead.
    pub fn find_token(&self, id: &str) -> Result<&Token, Problem> {
        self.tokens.get(id).ok_or_else(|| {
            // Somebody may have given all of it: what is said again must not hold a secret.
            let id = if is_token_id(id) { id } else { "…" };
            name::not_found("token", id, std::iter::empty())
                .hint("a token is named by its id, the twelve digits after `st_`")
        })
    }

    /// The workspace of that name, or which there are instead.
    pub fn find_workspace(&self, name: &str) -> Result<&Workspace, Problem> {
        self.workspaces.get(name).ok_or_else(|| {
            name::not_found("workspace", name, self.workspaces.keys().map(Text::as_str))
        })
    }
}

/// Names are plain ASCII; so is what makes two of them the same.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}
