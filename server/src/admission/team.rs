//! A server with accounts: what it knows of people, and what it does about them in time.

mod entrance;
mod standing;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use skytower_api_client::credentials::Secret;
use skytower_api_client::wire::{Caller, Problem, Role};
use skytower_api_client::{EpochMs, Text};

use super::delegated::Delegates;
use super::ledger::{Deed, Ledger};
use super::register::Register;
use super::rights::Surroundings;
use super::{Brought, Opening, Terms, not_signed_in};
use crate::accounts::{NewUser, Passwords, Throttle, User, generate_password};
use crate::audit::Audit;
use crate::guest::Asker;
use crate::hub::Hub;
use crate::source::Source;
use standing::Door;

/// How often it is written down which tokens were used, and what expired long ago is forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// The name of the administrator who is made when there is nobody yet. Not `admin`: accounts go before people of the
/// sources, and SkyPilot mostly has one of that name.
pub(crate) const FIRST_ADMINISTRATOR: &str = "skytower";

/// A server with accounts.
pub(crate) struct Team {
    ledger: Ledger,
    passwords: Passwords,
    throttle: Mutex<Throttle>,
    began: Instant,
    register: Register<Door>,
    delegates: Delegates,
    surroundings: RwLock<Surroundings>,
    terms: Terms,
    hub: Arc<Hub>,
    /// The local engine, where there is one.
    own: Vec<Arc<dyn Source>>,
    audit: Arc<Audit>,
}

impl Team {
    /// Reads the accounts. The second is the password of the first administrator, when there was nobody yet: it is
    /// nowhere else.
    pub(crate) async fn open(opening: Opening) -> anyhow::Result<(Self, Option<Secret>)> {
        let Opening {
            store,
            audit,
            hub,
            sources,
            terms,
        } = opening;
        let signing_in = sources
            .iter()
            .filter(|source| terms.sign_in.contains(source.name()));
        let team = Self {
            ledger: Ledger::open(store).await?,
            passwords: Passwords::new()?,
            throttle: Mutex::new(Throttle::default()),
            began: Instant::now(),
            register: Register::default(),
            delegates: Delegates::new(signing_in.cloned().collect(), hub.clone())?,
            surroundings: RwLock::default(),
            terms,
            hub,
            own: sources
                .iter()
                .filter(|source| source.is_local())
                .cloned()
                .collect(),
            audit,
        };
        team.look_around();
        team.refresh();
        let password = team.first_administrator().await?;
        Ok((team, password))
    }

    async fn first_administrator(&self) -> Result<Option<Secret>, Problem> {
        if self.ledger.read().users().next().is_some() {
            return Ok(None);
        }
        let password = generate_password()?;
        let kept = self.passwords.hash(&password).await?;
        let asker = Asker::local(Caller {
            name: "skytower-server".into(),
            role: Role::Admin,
            ..Caller::default()
        });
        let deed = Deed {
            action: "user.add",
            target: Text::from(format!("user/{FIRST_ADMINISTRATOR}")),
            detail: "the first administrator".into(),
        };
        let made = self.ledger.change(&asker, deed, |draft| {
            let new = NewUser {
                name: FIRST_ADMINISTRATOR.to_owned(),
                role: Role::Admin,
                password: Some(kept),
                service: false,
            };
            let edits = draft.add_user(new, EpochMs::now())?;
            draft.take(edits);
            Ok(())
        });
        made.await?;
        Ok(Some(password))
    }

    /// The accounts.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What hashes passwords.
    pub(crate) fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Whether accounts of the server's own may act at a source.
    pub(super) fn acts_at(&self, source: &Text) -> bool {
        self.terms.acts_at.contains(source)
    }

    /// Those whom a source knows.
    pub(super) fn delegates(&self) -> &Delegates {
        &self.delegates
    }

    /// With what one can sign in.
    pub(super) fn ways(&self) -> Vec<Text> {
        let mut ways: Vec<Text> = vec!["password".into(), "token".into()];
        if !self.terms.sign_in.is_empty() {
            ways.push("skypilot".into());
        }
        ways
    }

    /// Is this the password of somebody who is inside already; as slow for those who guess as at the door.
    pub(crate) async fn check_password(
        &self,
        user: &User,
        password: &Secret,
        address: Option<IpAddr>,
    ) -> Result<bool, Problem> {
        let brought = Brought {
            address,
            ..Brought::default()
        };
        self.throttled(&user.name, &brought).await?;
        let looked = match self.passwords.verify(Some(user), password).await {
            Ok(true) => None,
            Ok(false) => Some(not_signed_in()),
            Err(problem) => Some(problem),
        };
        self.ended(&user.name, &brought, looked.as_ref());
        match looked {
            None => Ok(true),
            Some(problem) if problem.status == 401 => Ok(false),
            Some(problem) => Err(problem),
        }
    }

    /// Follows what changes. Never returns.
    pub(super) async fn run(&self) {
        tokio::join!(
            self.follow(),
            self.delegates.run(|| self.refresh()),
            self.tidy(),
        );
    }

    async fn tidy(&self) {
        let mut tick = tokio::time::interval(TIDY_EVERY);
        loop {
            tick.tick().await;
            self.ledger.tidy(EpochMs::now()).await;
            self.ledger.write_uses().await;
        }
    }
}
