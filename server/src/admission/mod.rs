//! Who is let in, and what becomes of them while they are inside.
//!
//! ```text
//! headers ─▶ admit: own token │ password │ token │ proxy │ the sources' own credentials ─▶ Guest
//! accounts, workspaces, time ─▶ refresh ─▶ every standing ─▶ open connections
//! ```
//!
//! A server without accounts knows one caller: whoever holds its own token (`0600`, in the state folder).

mod delegated;
mod keyring;
mod ledger;
mod local;
mod register;
mod rights;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::wire::{Caller, Problem, Role};
use skytower_api_client::{EpochMs, Kind, Text};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::accounts::{
    Accounts, NewUser, PasswordHash, Passwords, SecretHash, Throttle, User, throttle,
};
use crate::audit::{Audit, Entry};
use crate::guest::{Asker, Guest, Standing};
use crate::home::TokenHash;
use crate::hub::Hub;
use crate::source::Source;
use crate::store::Store;

pub(crate) use crate::accounts::Scope;
use delegated::Delegates;
pub(crate) use ledger::{Deed, Ledger};
pub(crate) use local::Local;
use register::Register;
use rights::Surroundings;

/// How often it is looked whether a credential has expired. Revocations do not wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is written down which tokens were used, and what expired long ago is forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// The proof of whoever holds the server's own token.
const LOCAL_PROOF: &str = "local";

/// The name of the administrator who is made when there is none.
pub(crate) const FIRST_ADMINISTRATOR: &str = "admin";

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
    pub(crate) rules: skytower_api_client::policy::Rules,
    /// The role of those whom a trusted proxy vouches for and who have no account.
    pub(crate) proxied: Role,
    /// Sources at which accounts of the server's own act with the server's credentials.
    pub(crate) acts_at: Vec<Text>,
    /// Sources whose own credentials let people in.
    pub(crate) sign_in: Vec<Text>,
}

/// The door.
pub(crate) struct Admission {
    token: TokenHash,
    local: watch::Receiver<Standing>,
    team: Option<Team>,
}

/// A server with accounts.
struct Team {
    ledger: Ledger,
    passwords: Passwords,
    throttle: Mutex<Throttle>,
    began: Instant,
    register: Register<Door>,
    delegates: Delegates,
    surroundings: RwLock<Surroundings>,
    terms: Terms,
    hub: Arc<Hub>,
    audit: Audit,
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

/// Opens the door of a team.
pub(crate) struct Opening {
    pub(crate) store: Store,
    pub(crate) audit: Audit,
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
    pub(crate) async fn team(
        token: TokenHash,
        local: watch::Receiver<Standing>,
        opening: Opening,
    ) -> anyhow::Result<Arc<Self>> {
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
        let team = Team {
            ledger: Ledger::open(store).await?,
            passwords: Passwords::new()?,
            throttle: Mutex::new(Throttle::default()),
            began: Instant::now(),
            register: Register::default(),
            delegates: Delegates::new(signing_in.cloned().collect(), hub.clone())?,
            surroundings: RwLock::default(),
            terms,
            hub,
            audit,
        };
        team.look_around();
        Ok(Arc::new(Self {
            token,
            local,
            team: Some(team),
        }))
    }

    /// The accounts, where there are any.
    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.team.as_ref().map(|team| &team.ledger)
    }

    /// What hashes and checks passwords, where there are any.
    pub(crate) fn passwords(&self) -> Option<&Passwords> {
        self.team.as_ref().map(|team| &team.passwords)
    }

    /// Makes the first administrator where nobody can let others in; its password is shown once.
    pub(crate) async fn first_administrator(&self) -> Result<Option<Secret>, Problem> {
        let Some(team) = &self.team else {
            return Ok(None);
        };
        if team.ledger.read().users().next().is_some() {
            return Ok(None);
        }
        let password = crate::accounts::generate_password()?;
        let kept = team.passwords.hash(&password).await?;
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
        let made = team.ledger.change(&asker, deed, |draft| {
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

    /// Is this the password of somebody who is inside already; as slow for those who guess as at the door.
    pub(crate) async fn check_password(
        &self,
        user: &User,
        password: &Secret,
        address: Option<IpAddr>,
    ) -> Result<bool, Problem> {
        let Some(team) = &self.team else {
            return Ok(false);
        };
        let brought = Brought {
            address,
            ..Brought::default()
        };
        team.throttled(&user.name, &brought).await?;
        let good = team.passwords.verify(Some(user), password).await?;
        let ended = if good { Ok(()) } else { Err(&not_signed_in()) };
        team.note(&user.name, &brought, ended);
        Ok(good)
    }

    /// With what one can sign in.
    pub(crate) fn ways(&self) -> Vec<Text> {
        let Some(team) = &self.team else {
            return vec![LOCAL_PROOF.into()];
        };
        let mut ways: Vec<Text> = vec!["password".into(), "token".into()];
        if !team.terms.sign_in.is_empty() {
            ways.push("skypilot".into());
        }
        ways
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
        let delegates = team.delegates.run(stop.clone(), || team.refresh());
        tokio::select! {
            () = stop.cancelled() => {}
            () = team.follow() => {}
            () = delegates => {}
            () = team.tidy() => {}
        }
    }
}

impl Team {
    fn around(&self) -> Surroundings {
        let around = self.surroundings.read();
        around.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn admit(
        &self,
        brought: &Brought<'_>,
        bearer: Option<&str>,
    ) -> Result<Option<Guest>, Problem> {
        if let Some(name) = brought.vouched {
            return Ok(Some(self.vouched(name, brought)));
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
        let guest = self.enter(door, proof, brought);
        Ok(if scope.is_for_metrics_only() {
            guest.for_metrics()
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
        let user = self.ledger.read().user_named(name).cloned();
        // What was checked before costs nothing, so it waits for nobody.
        if let Some(user) = user.as_ref().filter(|user| !user.disabled)
            && self.passwords.knows(user, &password)
        {
            return Ok(self.enter_with_password(user, brought));
        }
        let credentials = Credentials::Basic {
            user: name.to_owned(),
            password: password.clone(),
        };
        if user.is_none()
            && let Some(guest) = self.delegates.remembered(&credentials)
        {
            return Ok(guest.to_guest(brought.address));
        }
        self.throttled(name, brought).await?;
        if user.is_none() && !self.terms.sign_in.is_empty() {
            let asked = self.by_source(credentials, brought).await;
            self.note(name, brought, asked.as_ref().map(|_| ()));
            return asked;
        }
        let known = user.as_ref().filter(|user| !user.disabled);
        let good = self.passwords.verify(known, &password).await?;
        match (good, known) {
            (true, Some(user)) => {
                self.note(name, brought, Ok(()));
                Ok(self.enter_with_password(user, brought))
            }
            _ => {
                let problem = self.refuse(name, "password", brought);
                self.note(name, brought, Err(&problem));
                Err(problem)
            }
        }
    }

    fn enter_with_password(&self, user: &User, brought: &Brought<'_>) -> Guest {
        let door = Door::Password(user.id.clone(), user.password.clone());
        self.enter(door, "password".into(), brought)
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
                self.audit.note(self.entry(name, "throttled", brought));
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
    fn note(&self, name: &str, brought: &Brought<'_>, ended: Result<(), &Problem>) {
        let Some(address) = brought.address else {
            return;
        };
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ok(()) => throttle.succeeded(name, address, self.began.elapsed()),
            Err(problem) if problem.status == 401 => {
                throttle.failed(name, address, self.began.elapsed());
            }
            Err(_) => {}
        }
    }

    /// Asks the sources whose credentials count here.
    async fn by_source(
        &self,
        credentials: Credentials,
        brought: &Brought<'_>,
    ) -> Result<Guest, Problem> {
        let kind = match &credentials {
            Credentials::Basic { user, .. } => user.clone(),
            Credentials::Bearer(_) => "a bearer token".to_owned(),
            Credentials::Cookie(_) => "a cookie".to_owned(),
            Credentials::None => String::new(),
        };
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
            None => Err(self.refuse(&kind, "source", brought)),
        }
    }

    fn delegated(&self, told: &Caller) -> Caller {
        rights::delegated(told, &self.around(), &self.ledger.read())
    }

    fn vouched(&self, name: &str, brought: &Brought<'_>) -> Guest {
        self.enter(Door::Proxy(Text::new(name)), "proxy".into(), brought)
    }

    fn enter(&self, door: Door, proof: Text, brought: &Brought<'_>) -> Guest {
        let (standing, is_new) = {
            // Held over both: what changes in between would be missed.
            let accounts = self.ledger.read();
            self.register
                .enter(door.clone(), || self.standing(&door, &accounts))
        };
        let guest = Guest::new(standing, proof, brought.address);
        if is_new {
            self.note_entry(&guest);
        }
        guest
    }

    /// A new credential came in: once in the audit, not once for each request.
    fn note_entry(&self, guest: &Guest) {
        if let Ok(asker) = guest.asker() {
            let mut entry = Entry::of(&asker, "sign_in", Text::default());
            entry.outcome = "accepted".into();
            self.audit.note(entry);
        }
    }

    /// What the audit is told of somebody who is not let in; the answer tells nothing of it.
    fn refuse(&self, who: &str, why: &str, brought: &Brought<'_>) -> Problem {
        self.audit.note(self.entry(who, why, brought));
        not_signed_in()
    }

    fn entry(&self, who: &str, why: &str, brought: &Brought<'_>) -> Entry {
        let nobody = Asker {
            caller: Caller {
                name: Text::new(who),
                ..Caller::default()
            },
            proof: "none".into(),
            address: brought.address,
        };
        let mut entry = Entry::of(&nobody, "sign_in", Text::default());
        entry.outcome = "refused".into();
        entry.detail = Text::from(format!("not let in: {why}"));
        entry
    }

    /// What a credential is worth now.
    fn standing(&self, door: &Door, accounts: &Accounts) -> Standing {
        let around = self.around();
        let out = || Standing::Out(not_signed_in());
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
        drop(accounts);
        self.delegates.refresh(|caller| self.delegated(caller));
    }

    /// Looks which workspaces of the sources are open to everybody. True when that has changed.
    fn look_around(&self) -> bool {
        let next = Surroundings {
            rules: self.terms.rules.clone(),
            acts_at: self.terms.acts_at.clone(),
            own_source: skytower_api_client::action::LOCAL.into(),
            public: self.hub.read(|table| {
                table
                    .rows(Kind::Workspace)
                    .filter_map(|row| row.as_workspace())
                    .filter(|workspace| {
                        !workspace.private && workspace.source != skytower_api_client::action::LOCAL
                    })
                    .map(|workspace| rights::qualified(&workspace.source, &workspace.name))
                    .collect()
            }),
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

/// What follows the scheme of an `Authorization` header.
fn scheme<'a>(value: &'a str, wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim())
}

fn basic(encoded: &str) -> Option<(String, Secret)> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| (user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_people_write_them() {
        assert_eq!(scheme("bearer  abc ", "bearer"), Some("abc"));
        assert_eq!(scheme("Basic x", "bearer"), None);
        let (user, password) = basic("YWxpY2U6cGE6c3M=").unwrap();
        assert_eq!((user.as_str(), password.expose()), ("alice", "pa:ss"));
        assert!(basic("OnBhc3M=").is_none() && basic("!").is_none());
    }
}
