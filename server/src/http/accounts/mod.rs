//! Accounts over REST: users, tokens and workspaces, for administrators; tokens and the password of oneself.

mod tokens;
mod users;
mod workspaces;

use axum::Router;
use skytower_api_client::Text;
use skytower_api_client::wire::{Problem, Role};

use super::AppState;
use crate::accounts::{Accounts, Passwords, User};
use crate::admission::{Deed, Ledger, Team};
use crate::guest::{Asker, Guest};

/// The routes.
pub(super) fn routes() -> Router<AppState> {
    users::routes()
        .merge(tokens::routes())
        .merge(workspaces::routes())
}

/// Who asks, at a server that has accounts.
struct Desk<'a> {
    team: &'a Team,
    ledger: &'a Ledger,
    passwords: &'a Passwords,
    asker: Asker,
}

impl<'a> Desk<'a> {
    fn open(state: &'a AppState, guest: &Guest) -> Result<Self, Problem> {
        let Some(team) = state.admission.team() else {
            return Err(Problem::new(
                "no_accounts",
                404,
                "this skytower server has no accounts: whoever holds its token is let in",
            )
            .hint("accounts are kept by skytower-server, the server for a team"));
        };
        Ok(Self {
            team,
            ledger: team.ledger(),
            passwords: team.passwords(),
            asker: guest.asker()?,
        })
    }

    /// For administrators alone.
    fn of_administrators(state: &'a AppState, guest: &Guest) -> Result<Self, Problem> {
        let desk = Self::open(state, guest)?;
        if desk.asker.caller.role == Role::Admin {
            return Ok(desk);
        }
        let problem = Problem::new("forbidden", 403, "accounts are kept by administrators");
        Err(match &desk.asker.caller.limited {
            Some(_) => {
                problem.hint("this token is for less: sign in with one of the scope `admin`")
            }
            None => problem.hint("ask one of them"),
        })
    }

    /// The account that asks; those whom a source or a proxy vouches for have none.
    fn account(&self, accounts: &Accounts) -> Result<User, Problem> {
        let id = self.asker.caller.ids.first().cloned().unwrap_or_default();
        accounts.user(&id).cloned().ok_or_else(|| {
            Problem::new(
                "not_own_account",
                403,
                "you are not signed in with an account of this server",
            )
            .hint("your password and tokens are kept where you got them")
        })
    }

    fn deed(action: &'static str, target: String, detail: impl Into<Text>) -> Deed {
        Deed {
            action,
            target: target.into(),
            detail: detail.into(),
        }
    }
}
