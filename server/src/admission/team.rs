//! The door of a server with accounts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use skytower_api_client::action::LOCAL;
use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::policy::qualified;
use skytower_api_client::wire::{Caller, Problem, Role};
use skytower_api_client::{EpochMs, Kind, Text};

use super::delegated::Delegates;
use super::header::{basic, scheme};
use super::ledger::{Deed, Ledger};
use super::register::Register;
use super::rights::{self, Surroundings};
use super::{Brought, Opening, Terms, no_more, not_signed_in};
use crate::accounts::{
    Accounts, NewUser, PasswordHash, Passwords, SecretHash, Throttle, User, generate_password,
    throttle,
};
use crate::audit::{Audit, Entry, Outcome};
use crate::guest::{Asker, Guest, Standing};
use crate::hub::Hub;
use crate::source::Source;

/// How often it is looked whether a credential has expired. Revocations do not wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
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

/// What a credential is to an account.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Door {
    /// A password: the user, and what is kept of that password.
    Password(Text, Option<PasswordHash>),
    /// A token: its id, and what is kept of its secret.
    Token(Text, SecretHash),
    /// A proxy's word for somebody of that name.
    Proxy(Text),
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

    fn around(&self) -> Surroundings {
        let around = self.surroundings.read();
        around.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets somebody in. None: nothing was brought.
    pub(super) async fn admit(
        &self,
        brought: &Brought<'_>,
        bearer: Option<&str>,
    ) -> Result<Option<Guest>, Problem> {
        if let Some(name) = brought.vouched {
            return self.vouched(name, brought).map(Some);
        }
        if let Some(written) = bearer {
            if written.starts_with("st_") {
                return self.by_token(written, brought).map(Some);
            }
            let credentials = Credentials::Bearer(Secret::new(written));
            return self.by_source(credentials, brought).await.map(Some);
        }
        if let Some(value) = brought.authorization {
            let Some((user, password)) = scheme(value, "basic").and_then(basic) else {
                return Err(self.refuse("", "malformed", brought));
            };
            return self.by_password(&user, password, brought).await.map(Some);
        }
        if let Some(cookie) = brought.cookie {
            let credentials = Credentials::Cookie(Secret::new(cookie));
            return self.by_source(credentials, brought).await.map(Some);
        }
        Ok(None)
    }

    fn by_token(&self, written: &str, brought: &Brought<'_>) -> Result<Guest, Problem> {
        let now = EpochMs::now();
        let (door, scope, id) = {
            let accounts = self.ledger.read();
            match accounts.check_token(written, now) {
                Ok((_, token)) => (
                    Door::Token(token.id.clone(), Accounts::seal(written)),
                    token.scope,
                    token.id.clone(),
                ),
                Err(refusal) => {
                    let claimed = accounts
                        .claimed_token(written)
                        .map(|token| format!("token {}", token.id));
                    drop(accounts);
                    return Err(self.refuse(&claimed.unwrap_or_default(), refusal.word(), brought));
                }
            }
        };
        if scope.is_for_metrics_only() && brought.path != "/metrics" {
            return Err(Problem::new(
                "forbidden",
                403,
                "this token is for /metrics and nothing else",
            )
            .hint("sign in with a token of another scope"));
        }
        self.ledger.used(&id, now);
        let proof = Text::from(format!("token {id}"));
        let guest = self.enter(&door, proof, brought)?;
        Ok(if scope.is_for_metrics_only() {
            guest.who_measures()
        } else {
            guest
        })
    }

    async fn by_password(
        &self,
        name: &str,
        password: Secret,
        brought: &Brought<'_>,
    ) -> Result<Guest, Problem> {
        // First of all, and also before what costs nothing: whoever is not held up may guess without end.
        self.throttled(name, brought).await?;
        let user = self.ledger.read().user_named(name).cloned();
        let entered = if user.is_none() && !self.terms.sign_in.is_empty() {
            let credentials = Credentials::Basic {
                user: name.to_owned(),
                password,
            };
            self.ask_sources(credentials, brought).await
        } else {
            self.check_account(user.as_ref(), &password, brought).await
        };
        self.ended(name, brought, entered.as_ref().err());
        entered
    }

    async fn check_account(
        &self,
        user: Option<&User>,
        password: &Secret,
        brought: &Brought<'_>,
    ) -> Result<Guest, Problem> {
        if let (true, Some(user)) = (self.passwords.verify(user, password).await?, user) {
            let door = Door::Password(user.id.clone(), user.password.clone());
            return self.enter(&door, "password".into(), brought);
        }
        // A name that nobody has may be a password that was typed where the name belongs.
        let name = user.map_or("somebody unknown", |user| user.name.as_str());
        Err(self.refuse(name, "password", brought))
    }

    /// Waits for one's turn to be checked, or is refused it.
    async fn throttled(&self, name: &str, brought: &Brought<'_>) -> Result<(), Problem> {
        let Some(address) = brought.address else {
            return Ok(());
        };
        let admission = {
            let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
            throttle.ask(name, address, self.began.elapsed())
        };
        match admission {
            throttle::Admission::Now => Ok(()),
            throttle::Admission::Wait(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            throttle::Admission::Refused { retry_after } => {
                let seconds = retry_after.as_secs().max(1);
                self.audit
                    .note(Self::refusal("somebody", "too many attempts", brought));
                Err(Problem::new(
                    "too_many_attempts",
                    429,
                    format!("too many failed attempts: try again in {seconds} s"),
                )
                .hint("whoever is signed in already is not concerned; a token is never held up")
                .retry_after(retry_after))
            }
        }
    }

    /// Tells the throttle how an attempt ended. Only a no counts against anybody.
    fn ended(&self, name: &str, brought: &Brought<'_>, problem: Option<&Problem>) {
        let Some(address) = brought.address else {
            return;
        };
        let now = self.began.elapsed();
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            None => throttle.succeeded(name, address, now),
            Some(problem) if problem.status == 401 => throttle.failed(name, address, now),
            Some(_) => throttle.withdrawn(name, address),
        }
    }

    /// Lets in with a token or cookie that only a source can know. These cannot be guessed; whoever tries
    /// makes work for the source all the same.
    async fn by_source(
        &self,
        credentials: Credentials,
        brought: &Brought<'_>,
    ) -> Result<Guest, Problem> {
        if let Some(delegate) = self.delegates.remembered(&credentials) {
            return Ok(delegate.to_guest(brought.address));
        }
        if self.terms.sign_in.is_empty() {
            return Err(self.refuse("somebody unknown", "unknown", brought));
        }
        let name = self.delegates.nickname(&credentials);
        self.throttled(&name, brought).await?;
        let entered = self.ask_sources(credentials, brought).await;
        self.ended(&name, brought, entered.as_ref().err());
        entered
    }

    /// Asks the sources whose credentials count here.
    async fn ask_sources(
        &self,
        credentials: Credentials,
        brought: &Brought<'_>,
    ) -> Result<Guest, Problem> {
        let told = self
            .delegates
            .ask(credentials, |caller| self.delegated(caller));
        match told.await? {
            Some((delegate, is_new)) => {
                let guest = delegate.to_guest(brought.address);
                if is_new {
                    self.note_entry(&guest);
                }
                Ok(guest)
            }
            None => Err(self.refuse("somebody unknown", "no source knows them", brought)),
        }
    }

    fn delegated(&self, told: &Caller) -> Caller {
        rights::delegated(told, &self.around(), &self.ledger.read())
    }

    fn vouched(&self, name: &str, brought: &Brought<'_>) -> Result<Guest, Problem> {
        self.enter(&Door::Proxy(Text::new(name)), "proxy".into(), brought)
    }

    /// Lets in whoever has what opens this door. What was good when it was looked at may be good no more.
    fn enter(&self, door: &Door, proof: Text, brought: &Brought<'_>) -> Result<Guest, Problem> {
        let (standing, is_new) = {
            // Held over both: what changes in between would be missed.
            let accounts = self.ledger.read();
            self.register
                .enter(door.clone(), || self.standing(door, &accounts))
        };
        let guest = Guest::new(standing, proof, brought.address);
        guest.read(|_| ()).map_err(|_| not_signed_in())?;
        if is_new {
            self.note_entry(&guest);
        }
        Ok(guest)
    }

    /// A new credential came in: once in the audit, not once for each request.
    fn note_entry(&self, guest: &Guest) {
        if let Ok(asker) = guest.asker() {
            self.audit
                .note(Entry::by(&asker, "sign_in", Outcome::Accepted));
        }
    }

    /// What the audit is told of somebody who is not let in; the answer tells nothing of it.
    fn refuse(&self, who: &str, why: &str, brought: &Brought<'_>) -> Problem {
        self.audit.note(Self::refusal(who, why, brought));
        not_signed_in()
    }

    fn refusal(who: &str, why: &str, brought: &Brought<'_>) -> Entry {
        Entry::stranger(brought.address, "sign_in", Outcome::Refused)
            .actor("", who)
            .detail(&format!("not let in: {why}"))
    }

    /// What a credential is worth now.
    fn standing(&self, door: &Door, accounts: &Accounts) -> Standing {
        let around = self.around();
        let out = || Standing::Out(no_more());
        let now = EpochMs::now();
        match door {
            Door::Password(id, kept) => match accounts.user(id) {
                Some(user) if !user.disabled && user.password == *kept => {
                    Standing::Inside(rights::caller(accounts, user, None, &around))
                }
                _ => out(),
            },
            Door::Token(id, kept) => {
                let token = accounts.find_token(id).ok();
                match token.and_then(|token| Some((token, accounts.user(&token.user)?))) {
                    Some((token, user)) if !user.disabled && token.is_good_as(kept, now) => {
                        Standing::Inside(rights::caller(accounts, user, Some(token), &around))
                    }
                    _ => out(),
                }
            }
            Door::Proxy(name) => match accounts.user_named(name) {
                Some(user) if user.disabled => out(),
                Some(user) => Standing::Inside(rights::caller(accounts, user, None, &around)),
                None => Standing::Inside(rights::stranger(
                    name,
                    self.terms.proxied,
                    accounts,
                    &around,
                )),
            },
        }
    }

    /// Works out again what everybody inside may do.
    fn refresh(&self) {
        let accounts = self.ledger.read();
        self.register.refresh(|door| self.standing(door, &accounts));
        let private = accounts.workspaces().filter(|workspace| workspace.private);
        let private: BTreeSet<Text> = private.map(|workspace| workspace.name.clone()).collect();
        drop(accounts);
        for source in &self.own {
            source.keep_private(private.clone());
        }
        self.delegates.refresh(|caller| self.delegated(caller));
    }

    /// Looks which workspaces of the sources are open to everybody. True when that has changed.
    fn look_around(&self) -> bool {
        let (mut public, mut all) = (Vec::new(), Vec::new());
        self.hub.read(|table| {
            let rows = table.rows(Kind::Workspace);
            for workspace in rows.filter_map(|row| row.as_workspace()) {
                if workspace.source == LOCAL {
                    continue;
                }
                let name = qualified(&workspace.source, &workspace.name);
                if !workspace.private {
                    public.push(name.clone());
                }
                all.push(name);
            }
        });
        let next = Surroundings {
            rules: self.terms.rules.clone(),
            acts_at: self.terms.acts_at.clone(),
            own_source: LOCAL.into(),
            public,
            all,
            several: self.terms.several,
        };
        let mut around = self
            .surroundings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = *around != next;
        *around = next;
        changed
    }

    async fn follow(&self) {
        let mut accounts = self.ledger.changes();
        let mut revisions = self.hub.changes();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_end = self.next_end();
        let mut seen = false;
        loop {
            tokio::select! {
                changed = accounts.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    next_end = self.next_end();
                    self.refresh();
                }
                // Rows change all the time: it is looked at them now and then.
                changed = revisions.changed(), if !seen => {
                    if changed.is_err() {
                        return;
                    }
                    seen = true;
                }
                _ = look.tick() => {
                    let over = next_end.is_some_and(|end| end <= EpochMs::now());
                    let moved = std::mem::take(&mut seen) && self.look_around();
                    if over || moved {
                        next_end = self.next_end();
                        self.refresh();
                    }
                }
            }
        }
    }

    fn next_end(&self) -> Option<EpochMs> {
        let now = EpochMs::now();
        let accounts = self.ledger.read();
        let ends = accounts
            .tokens()
            .filter_map(|token| rights::next_end(token, now));
        ends.min()
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
