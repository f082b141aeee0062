//! What can be done with users.

use std::collections::BTreeSet;

use skytower_api_client::wire::{Problem, Role};
use skytower_api_client::{EpochMs, Text};

use super::name::{self, ID_DIGITS, conflict, invalid};
use super::{Accounts, Edit, Edits, User, Workspace};
use crate::accounts::password::PasswordHash;
use crate::accounts::random;

/// A user to be.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The name to sign in with.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// The first password; a person without one cannot sign in until there is one.
    pub password: Option<PasswordHash>,
    /// A service account: no password, only tokens.
    pub service: bool,
}

impl Accounts {
    /// Somebody new, in no private workspace and without any token.
    pub fn add_user(&self, new: NewUser, now: EpochMs) -> Edits {
        let name = name::user_name(&new.name)?;
        if let Some(other) = self.user_named(&name) {
            return Err(conflict(
                format!("there is a user `{}` already", other.name),
                "names are the same whatever their case: choose another one",
            ));
        }
        if new.service && new.password.is_some() {
            return Err(no_password_for_services(&name));
        }
        Ok(vec![Edit::PutUser(User {
            id: self.new_user_id()?,
            name,
            role: new.role,
            password: new.password,
            disabled: false,
            created_at: now,
            password_changed_at: None,
            identities: BTreeSet::new(),
            service: new.service,
        })])
    }

    fn new_user_id(&self) -> Result<Text, Problem> {
        loop {
            let id = format!("u-{}", random::hex(&random::bytes::<{ ID_DIGITS / 2 }>()?));
            if self.user(&id).is_none() {
                return Ok(id.into());
            }
        }
    }

    /// From now on the user has this role.
    pub fn set_role(&self, who: &str, role: Role) -> Edits {
        self.change(who, |user| user.role = role)
    }

    /// From now on this is the user's password.
    pub fn set_password(&self, who: &str, password: PasswordHash, now: EpochMs) -> Edits {
        let user = self.find_user(who)?;
        if user.service {
            return Err(no_password_for_services(&user.name));
        }
        let is_first = user.password.is_none();
        self.change(who, |user| {
            user.password = Some(password);
            user.password_changed_at = (!is_first).then_some(now);
        })
    }

    /// The user and the user's tokens are refused until enabled again.
    pub fn disable_user(&self, who: &str) -> Edits {
        self.change(who, |user| user.disabled = true)
    }

    /// The user may sign in again.
    pub fn enable_user(&self, who: &str) -> Edits {
        self.change(who, |user| user.disabled = false)
    }

    /// The user is no more, nor are the user's tokens and memberships.
    pub fn remove_user(&self, who: &str) -> Edits {
        let user = self.find_user(who)?;
        self.keep_an_administrator(user, None)?;
        let tokens = self
            .tokens_of(user)
            .map(|token| Edit::RemoveToken(token.id.clone()));
        let memberships = self
            .workspaces()
            .filter(|workspace| workspace.members.contains(&user.id))
            .map(|workspace| {
                let mut left: Workspace = workspace.clone();
                left.members.remove(&user.id);
                Edit::PutWorkspace(left)
            });
        let user = std::iter::once(Edit::RemoveUser(user.id.clone()));
        Ok(tokens.chain(memberships).chain(user).collect())
    }

    /// That id at a source is this user's: what it owns is the user's own.
    pub fn add_identity(&self, who: &str, identity: &str) -> Edits {
        let user = self.find_user(who)?;
        let identity = name::identity(identity)?;
        match self.user_with_identity(&identity) {
            Some(other) if other.id != user.id => Err(conflict(
                format!("the id `{identity}` is `{}`'s", other.name),
                format!("take it from `{}` first", other.name),
            )),
            _ => self.change(who, |user| {
                user.identities.insert(identity);
            }),
        }
    }

    /// That id at a source is not this user's any more.
    pub fn remove_identity(&self, who: &str, identity: &str) -> Edits {
        let user = self.find_user(who)?;
        if !user.identities.contains(identity) {
            return Err(name::not_found(
                &format!("id of `{}` at a source", user.name),
                identity,
                user.identities.iter().map(Text::as_str),
            ));
        }
        self.change(who, |user| {
            user.identities.remove(identity);
        })
    }

    /// What is so already needs no edit.
    fn change(&self, who: &str, change: impl FnOnce(&mut User)) -> Edits {
        let before = self.find_user(who)?;
        let mut after = before.clone();
        change(&mut after);
        self.keep_an_administrator(before, Some(&after))?;
        Ok(if after == *before {
            Vec::new()
        } else {
            vec![Edit::PutUser(after)]
        })
    }

    /// Without an administrator who can sign in nobody could ever make one.
    fn keep_an_administrator(&self, before: &User, after: Option<&User>) -> Result<(), Problem> {
        let is_lost = before.holds_the_keys() && !after.is_some_and(User::holds_the_keys);
        let others = || {
            self.users()
                .any(|user| user.id != before.id && user.holds_the_keys())
        };
        if is_lost && !others() {
            return Err(Problem::new(
                "last_administrator",
                409,
                format!(
                    "`{}` is the last administrator who can sign in",
                    before.name
                ),
            )
            .hint("make another administrator with a password first"));
        }
        Ok(())
    }
}

fn no_password_for_services(name: &Text) -> Problem {
    invalid(
        format!("`{name}` is a service account: it has no password"),
        "make a token for it",
    )
}
