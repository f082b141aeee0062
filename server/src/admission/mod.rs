//! Who is let in, and what becomes of them while they are inside.
//!
//! ```text
//! headers ─▶ admit: own token │ password │ token │ proxy │ the sources' own credentials ─▶ Guest
//! accounts, workspaces, time ─▶ refresh ─▶ every standing ─▶ open connections
//! ```
//!
//! A server without accounts knows one caller: whoever holds its own token (`0600`, in the state folder).

mod delegated;
mod header;
mod keyring;
mod ledger;
mod local;
mod register;
mod rights;
mod team;

use std::net::IpAddr;
use std::sync::Arc;

use skytower_api_client::Text;
use skytower_api_client::policy::Rules;
use skytower_api_client::wire::{Problem, Role};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::guest::{Guest, Standing};
use crate::home::TokenHash;
use crate::hub::Hub;
use crate::source::Source;
use crate::store::Store;

use header::scheme;
pub(crate) use ledger::{Deed, Ledger};
pub(crate) use local::Local;
pub(crate) use team::{FIRST_ADMINISTRATOR, Team};

/// The proof of whoever holds the server's own token.
const LOCAL_PROOF: &str = "local";

/// What somebody brings to the door.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Brought<'a> {
    /// The `Authorization` header.
    pub(crate) authorization: Option<&'a str>,
    /// The `Cookie` header, where it counts.
    pub(crate) cookie: Option<&'a str>,
    /// The name that a trusted proxy vouches for.
    pub(crate) vouched: Option<&'a str>,
    /// The path that is asked for: some tokens are good for one only.
    pub(crate) path: &'a str,
    /// From where.
    pub(crate) address: Option<IpAddr>,
}

/// How the server was told to let people in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// What it forbids whoever asks.
    pub(crate) rules: Rules,
    /// The role of those whom a trusted proxy vouches for and who have no account.
    pub(crate) proxied: Role,
    /// Sources at which accounts of the server's own act with the server's credentials.
    pub(crate) acts_at: Vec<Text>,
    /// Sources whose own credentials let people in.
    pub(crate) sign_in: Vec<Text>,
    /// There are several sources beside the local engine.
    pub(crate) several: bool,
}

/// The door.
pub(crate) struct Admission {
    token: TokenHash,
    local: watch::Receiver<Standing>,
    team: Option<Team>,
}

/// What the door of a team stands on.
pub(crate) struct Opening {
    pub(crate) store: Store,
    pub(crate) audit: Arc<Audit>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) sources: Arc<[Arc<dyn Source>]>,
    pub(crate) terms: Terms,
}

/// Whoever looks for a wrong password, an unknown name or a revoked token in this finds nothing: it is the
/// same for all of them.
pub(crate) fn not_signed_in() -> Problem {
    Problem::new(
        "not_signed_in",
        401,
        "this skytower server wants to know who you are, and what you gave it does not say so",
    )
    .hint("sign in with your password or a token; what was good before may have expired or been revoked")
}

/// What somebody is told who was inside. Nobody else ever is.
fn no_more() -> Problem {
    Problem::new(
        "not_signed_in",
        401,
        "what you signed in with counts no more: it was revoked, has expired or was replaced",
    )
    .hint("sign in again: skytower api login")
}

impl Admission {
    /// A server that knows its own token alone.
    pub(crate) fn personal(token: TokenHash, local: watch::Receiver<Standing>) -> Arc<Self> {
        Arc::new(Self {
            token,
            local,
            team: None,
        })
    }

    /// A server with accounts.
    pub(crate) fn of_team(
        token: TokenHash,
        local: watch::Receiver<Standing>,
        team: Team,
    ) -> Arc<Self> {
        Arc::new(Self {
            token,
            local,
            team: Some(team),
        })
    }

    /// The accounts and who is inside with them, where there are any.
    pub(crate) fn team(&self) -> Option<&Team> {
        self.team.as_ref()
    }

    /// With what one can sign in.
    pub(crate) fn ways(&self) -> Vec<Text> {
        let Some(team) = &self.team else {
            return vec![LOCAL_PROOF.into()];
        };
        team.ways()
    }

    /// Lets somebody in. None: nothing was brought.
    pub(crate) async fn admit(&self, brought: &Brought<'_>) -> Result<Option<Guest>, Problem> {
        let bearer = brought
            .authorization
            .and_then(|value| scheme(value, "bearer"));
        if bearer.is_some_and(|token| self.token.is(token)) {
            let guest = Guest::new(self.local.clone(), LOCAL_PROOF.into(), brought.address);
            return Ok(Some(guest));
        }
        match &self.team {
            Some(team) => team.admit(brought, bearer).await,
            None if brought.authorization.is_none() => Ok(None),
            None => Err(Problem::new(
                "not_signed_in",
                401,
                "this skytower server wants its token, and another one was given",
            )
            .hint("the token is in the file `token` in the server's state folder")),
        }
    }

    /// Follows what changes, until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let Some(team) = &self.team else { return };
        tokio::select! {
            () = stop.cancelled() => {}
            () = team.run() => {}
        }
    }
}
