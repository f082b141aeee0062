//! Those whom a source knows: its own credentials open this server too.
//!
//! The source is asked who they are, the answer holds for a short time, and is asked for again while somebody
//! uses it: at intervals, and as soon as people or workspaces there have changed. The credentials are kept in
//! memory for as long as that, because what their owner does goes to the source with them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::{Caller, Problem};
use skytower_api_client::{Kind, Text};
use tokio::sync::{Semaphore, watch};

use super::no_more;
use crate::accounts::random;
use crate::guest::{Guest, Standing};
use crate::hub::Hub;
use crate::source::Source;

/// How old an answer may be while somebody uses it; with many people it is asked less often.
const RECHECK: Duration = Duration::from_secs(30);
/// So much longer for each who is inside.
const RECHECK_EACH: Duration = Duration::from_millis(300);
/// How long credentials are kept that nobody uses.
const KEEP: Duration = Duration::from_mins(10);
/// A no is believed for so long: what asks again and again is answered from memory.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// So many noes are remembered.
const REFUSED_MOST: usize = 4096;
/// Sign-ins that are asked at the sources at the same time.
const ASKED_AT_ONCE: usize = 8;
/// Changes among people and workspaces are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

type Fingerprint = [u8; 32];

/// Everybody whom a source knows.
pub(super) struct Delegates {
    sources: Vec<Arc<dyn Source>>,
    hub: Arc<Hub>,
    /// Fingerprints of credentials are of use in this process alone.
    key: [u8; 32],
    known: Mutex<HashMap<Fingerprint, Arc<Delegate>>>,
    refused: Mutex<HashMap<Fingerprint, Instant>>,
    /// The same credentials are asked about once, however many come with them.
    asking: Mutex<HashMap<Fingerprint, Arc<tokio::sync::Mutex<()>>>>,
    permits: Semaphore,
    changed: watch::Sender<u64>,
}

/// Somebody whom a source knows.
pub(super) struct Delegate {
    source: Text,
    credentials: Credentials,
    told: Mutex<Caller>,
    standing: watch::Sender<Standing>,
    times: Mutex<Times>,
}

struct Times {
    checked: Instant,
    used: Instant,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it left values that are each valid by themselves.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Delegate {
    /// A guest with these credentials.
    pub(super) fn to_guest(&self, address: Option<IpAddr>) -> Guest {
        let kind = match &self.credentials {
            Credentials::Basic { .. } => "password",
            Credentials::Bearer(_) => "token",
            Credentials::Cookie(_) => "cookie",
            Credentials::None => "nothing",
        };
        let proof = Text::from(format!("{kind} of {}", self.source));
        Guest::new(self.standing.subscribe(), proof, address)
    }

    fn is_used(&self) -> bool {
        self.standing.receiver_count() > 0 || locked(&self.times).used.elapsed() < KEEP
    }

    fn work_out(&self, caller: impl Fn(&Caller) -> Caller) {
        let next = Standing::Inside(caller(&locked(&self.told)));
        self.standing.send_if_modified(|now| {
            // Who is out stays out: these credentials are asked about anew.
            let changed = matches!(now, Standing::Inside(_)) && *now != next;
            if changed {
                *now = next;
            }
            changed
        });
    }
}

impl Delegates {
    pub(super) fn new(sources: Vec<Arc<dyn Source>>, hub: Arc<Hub>) -> Result<Self, Problem> {
        Ok(Self {
            sources,
            hub,
            key: random::bytes()?,
            known: Mutex::default(),
            refused: Mutex::default(),
            asking: Mutex::default(),
            permits: Semaphore::new(ASKED_AT_ONCE),
            changed: watch::Sender::new(0),
        })
    }

    fn fingerprint(&self, credentials: &Credentials) -> Fingerprint {
        let (name, value) = credentials.header().unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(name);
        hash.update([0]);
        hash.update(value);
        hash.finalize().into()
    }

    /// A name for credentials that say no name: of use to count attempts by, and to nobody else.
    pub(super) fn nickname(&self, credentials: &Credentials) -> String {
        let fingerprint = self.fingerprint(credentials);
        let digits = fingerprint[..8].iter().map(|byte| format!("{byte:02x}"));
        digits.collect()
    }

    /// Somebody who was known a moment ago. Nothing is asked.
    pub(super) fn remembered(&self, credentials: &Credentials) -> Option<Arc<Delegate>> {
        self.find(&self.fingerprint(credentials))
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<Arc<Delegate>> {
        let delegate = locked(&self.known).get(fingerprint).cloned()?;
        locked(&delegate.times).used = Instant::now();
        Some(delegate)
    }

    /// Who these credentials are at a source, and whether that was not known yet. None: nobody anywhere.
    pub(super) async fn ask(
        &self,
        credentials: Credentials,
        caller: impl Fn(&Caller) -> Caller,
    ) -> Result<Option<(Arc<Delegate>, bool)>, Problem> {
        let fingerprint = self.fingerprint(&credentials);
        if let Some(known) = self.find(&fingerprint) {
            return Ok(Some((known, false)));
        }
        let gate = locked(&self.asking).entry(fingerprint).or_default().clone();
        let asked = {
            let _one_at_a_time = gate.lock().await;
            match self.find(&fingerprint) {
                Some(known) => Ok(Some((known, false))),
                None if self.was_refused(&fingerprint) => Ok(None),
                None => self.ask_sources(fingerprint, credentials, caller).await,
            }
        };
        let mut asking = locked(&self.asking);
        // Two hold it when nobody else waits: the map and this call.
        if Arc::strong_count(&gate) <= 2 {
            asking.remove(&fingerprint);
        }
        asked
    }

    async fn ask_sources(
        &self,
        fingerprint: Fingerprint,
        credentials: Credentials,
        caller: impl Fn(&Caller) -> Caller,
    ) -> Result<Option<(Arc<Delegate>, bool)>, Problem> {
        let mut silent = None;
        for source in &self.sources {
            let _permit = self.permits.acquire().await;
            match source.identify(&credentials).await {
                Ok(Some(told)) => {
                    let now = Instant::now();
                    let delegate = Arc::new(Delegate {
                        source: source.name().clone(),
                        credentials,
                        standing: watch::Sender::new(Standing::Inside(caller(&told))),
                        told: Mutex::new(told),
                        times: Mutex::new(Times {
                            checked: now,
                            used: now,
                        }),
                    });
                    locked(&self.known).insert(fingerprint, delegate.clone());
                    self.changed.send_modify(|changes| *changes += 1);
                    return Ok(Some((delegate, true)));
                }
                Ok(None) => {}
                Err(problem) => {
                    tracing::warn!(source = %source.name(), %problem, "a source could not say who somebody is");
                    silent = Some(source.name().clone());
                }
            }
        }
        if let Some(name) = silent {
            return Err(Problem::new(
                "cannot_ask_who",
                503,
                format!("`{name}` cannot be asked who you are just now"),
            )
            .hint("try again in a moment; a skytower account or token does not depend on it"));
        }
        self.remember_no(fingerprint);
        Ok(None)
    }

    fn was_refused(&self, fingerprint: &Fingerprint) -> bool {
        let refused = locked(&self.refused);
        refused
            .get(fingerprint)
            .is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }

    fn remember_no(&self, fingerprint: Fingerprint) {
        let mut refused = locked(&self.refused);
        if refused.len() >= REFUSED_MOST {
            refused.retain(|_, at| at.elapsed() < REFUSED_FOR);
        }
        if refused.len() < REFUSED_MOST {
            refused.insert(fingerprint, Instant::now());
        }
    }

    /// The credentials of somebody at a source, by an id that the source knows.
    pub(super) fn credentials(&self, id: &str, source: &str) -> Option<Credentials> {
        let known = locked(&self.known);
        let mut of_them = known.values().filter(|delegate| {
            *delegate.source == *source
                && locked(&delegate.told)
                    .ids
                    .iter()
                    .any(|theirs| **theirs == *id)
        });
        let delegate = of_them.next()?;
        locked(&delegate.times).used = Instant::now();
        Some(delegate.credentials.clone())
    }

    /// Tells when somebody signed in.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Works every standing out again from what the sources said.
    pub(super) fn refresh(&self, caller: impl Fn(&Caller) -> Caller) {
        for delegate in locked(&self.known).values() {
            delegate.work_out(&caller);
        }
    }

    /// Asks again about those who are inside. Never returns.
    pub(super) async fn run(&self, refresh: impl Fn()) {
        if self.sources.is_empty() {
            std::future::pending::<()>().await;
        }
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut people = self.people();
        loop {
            tick.tick().await;
            locked(&self.known).retain(|_, delegate| delegate.is_used());
            let now = self.people();
            let all = std::mem::replace(&mut people, now) != now;
            if self.ask_again(all).await {
                refresh();
            }
        }
    }

    /// Asks again about everybody, or about those of whom nothing was heard for a while. True when anything is new.
    async fn ask_again(&self, all: bool) -> bool {
        let known: Vec<(Fingerprint, Arc<Delegate>)> = locked(&self.known)
            .iter()
            .map(|(fingerprint, delegate)| (*fingerprint, delegate.clone()))
            .collect();
        let patience = RECHECK + RECHECK_EACH * known.len() as u32;
        let due = known
            .into_iter()
            .filter(|(_, delegate)| all || locked(&delegate.times).checked.elapsed() >= patience);
        let news = futures_util::stream::iter(due)
            .map(|(fingerprint, delegate)| self.recheck(fingerprint, delegate))
            .buffer_unordered(ASKED_AT_ONCE / 2);
        news.fold(false, async |any, new| any | new).await
    }

    async fn recheck(&self, fingerprint: Fingerprint, delegate: Arc<Delegate>) -> bool {
        let source = self
            .sources
            .iter()
            .find(|source| *source.name() == delegate.source);
        let Some(source) = source else { return false };
        let answer = source.identify(&delegate.credentials).await;
        locked(&delegate.times).checked = Instant::now();
        match answer {
            Ok(Some(told)) => {
                let before = std::mem::replace(&mut *locked(&delegate.told), told.clone());
                before != told
            }
            Ok(None) => {
                locked(&self.known).remove(&fingerprint);
                delegate.standing.send_replace(Standing::Out(no_more()));
                true
            }
            // What it said last holds until it says something else.
            Err(problem) => {
                tracing::debug!(%problem, "a source cannot be asked again who somebody is");
                false
            }
        }
    }

    /// What says that somebody's rights at a source may have changed.
    fn people(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        self.hub.read(|table| {
            for row in table.rows(Kind::User).filter_map(|row| row.as_user()) {
                (&row.key, &row.role).hash(&mut hash);
            }
            for row in table
                .rows(Kind::Workspace)
                .filter_map(|row| row.as_workspace())
            {
                (&row.key, row.private).hash(&mut hash);
            }
            let requests = table.rows(Kind::Request).filter_map(|row| row.as_request());
            for row in requests.filter(|row| row.action.starts_with("sky.workspaces.")) {
                (&row.key, row.ended_at.is_some()).hash(&mut hash);
            }
        });
        hash.finish()
    }
}
