//! Letting people in.

use std::sync::PoisonError;

use skytower_api_client::credentials::{Credentials, Secret};
use skytower_api_client::wire::Problem;
use skytower_api_client::{EpochMs, Text};

use super::Team;
use super::standing::Door;
use crate::accounts::{Accounts, User, throttle};
use crate::admission::header::{basic, scheme};
use crate::admission::{Brought, not_signed_in};
use crate::audit::{Entry, Outcome};
use crate::guest::Guest;

impl Team {
    /// Lets somebody in. None: nothing was brought.
    pub(in crate::admission) async fn admit(
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
    pub(super) async fn throttled(&self, name: &str, brought: &Brought<'_>) -> Result<(), Problem> {
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
    pub(super) fn ended(&self, name: &str, brought: &Brought<'_>, problem: Option<&Problem>) {
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
}
