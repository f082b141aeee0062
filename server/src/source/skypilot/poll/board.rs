//! What the source says about itself: its `source` row.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skytower_api_client::entity::Source;
use skytower_api_client::phase::phase_of;
use skytower_api_client::wire::Change;
use skytower_api_client::{EpochMs, Key, Kind, Text};

use crate::hub::Hub;
use crate::source::skypilot::client::CallError;

/// How the server as a whole answers.
#[derive(Clone, Debug, Default, PartialEq)]
enum Link {
    #[default]
    Unknown,
    Up,
    Broken(CallError),
}

#[derive(Debug, Default)]
struct State {
    link: Link,
    version: Option<Text>,
    api_version: Option<Text>,
    commit: Option<Text>,
    latency: Option<Duration>,
    fetched_at: BTreeMap<Kind, EpochMs>,
    errors: BTreeMap<Kind, Text>,
    notes: BTreeMap<Kind, Text>,
    published: Option<(Source, Instant)>,
}

/// The `source` row in the making.
#[derive(Debug)]
pub(super) struct Board {
    name: Text,
    url: Text,
    hub: Arc<Hub>,
    every: Duration,
    state: Mutex<State>,
}

impl Board {
    pub(super) fn new(name: Text, url: Text, hub: Arc<Hub>, every: Duration) -> Self {
        Self {
            name,
            url,
            hub,
            every,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server says it is. True when it is another than before.
    pub(super) fn is(
        &self,
        version: Option<Text>,
        api: Option<Text>,
        commit: Option<Text>,
    ) -> bool {
        let mut state = self.state();
        let other = state.version != version || state.commit != commit;
        state.version = version;
        state.api_version = api;
        state.commit = commit;
        other
    }

    /// A cheap call was answered.
    pub(super) fn up(&self, latency: Duration) {
        let mut state = self.state();
        state.link = Link::Up;
        state.latency = Some(latency);
        self.publish(state);
    }

    /// A cheap call was not answered as it should be.
    pub(super) fn broken(&self, error: CallError) {
        let mut state = self.state();
        state.link = Link::Broken(error);
        self.publish(state);
    }

    /// A list was read; `note` explains what is (not) in it.
    pub(super) fn read(&self, kind: Kind, note: Option<Text>) {
        let mut state = self.state();
        state.fetched_at.insert(kind, EpochMs::now());
        state.errors.remove(&kind);
        set(&mut state.notes, kind, note);
        self.publish(state);
    }

    /// A list was read, or there is a reason that is no error for which it cannot be.
    pub(super) fn knows(&self, kind: Kind) -> bool {
        let state = self.state();
        state.fetched_at.contains_key(&kind) || state.notes.contains_key(&kind)
    }

    /// A list cannot be read, for a reason that is no error (a stopped controller).
    pub(super) fn noted(&self, kind: Kind, note: Text) {
        let mut state = self.state();
        state.errors.remove(&kind);
        set(&mut state.notes, kind, Some(note));
        self.publish(state);
    }

    /// A list could not be read; its rows stay as they were.
    pub(super) fn failed(&self, kind: Kind, error: Text) {
        let mut state = self.state();
        set(&mut state.errors, kind, Some(error));
        self.publish(state);
    }

    /// Publishes the times, when they were not for a while.
    pub(super) fn tick(&self) {
        self.publish(self.state());
    }

    /// Every client is woken by a change of this row: times and latency alone change it only now and then.
    fn publish(&self, mut state: MutexGuard<'_, State>) {
        let row = self.row(&state);
        let now = Instant::now();
        if let Some((published, at)) = &state.published {
            let same = {
                let mut timeless = row.clone();
                timeless.fetched_at.clone_from(&published.fetched_at);
                timeless.latency_ms = published.latency_ms;
                timeless == *published
            };
            let first_look = row.fetched_at.len() != published.fetched_at.len();
            if same && !first_look && now.saturating_duration_since(*at) < self.every {
                return;
            }
        }
        // Published under the lock, so that rows come in the order of what they tell.
        self.hub.commit([Change::Upsert(row.clone().into())]);
        state.published = Some((row, now));
    }

    fn row(&self, state: &State) -> Source {
        let (status, error, hint) = match &state.link {
            Link::Unknown => ("starting", None, None),
            Link::Up if state.errors.is_empty() => ("healthy", None, None),
            Link::Up => {
                let (kind, error) = state
                    .errors
                    .first_key_value()
                    .map_or((Kind::Source, None), |(kind, error)| (*kind, Some(error)));
                let error = error.map(|error| format!("{}: {error}", kind.plural()).into());
                ("stale", error, None)
            }
            Link::Broken(error) => {
                let status = match error {
                    CallError::NeedsAuth { .. } | CallError::Forbidden(_) => "needs_auth",
                    CallError::VersionMismatch(_) => "version_mismatch",
                    CallError::Unreachable { .. }
                    | CallError::Lost { .. }
                    | CallError::Deadline { .. }
                    | CallError::Busy(_) => "unreachable",
                    _ => "stale",
                };
                let problem = error.problem();
                (status, problem.detail, problem.hint)
            }
        };
        Source {
            key: Key::new(&self.name, Kind::Source, &self.name),
            source: self.name.clone(),
            name: self.name.clone(),
            status: status.into(),
            phase: phase_of(Kind::Source, status),
            why: error.clone(),
            url: Some(self.url.clone()),
            flavour: "skypilot".into(),
            version: state.version.clone(),
            api_version: state.api_version.clone(),
            commit: state.commit.clone(),
            error,
            hint,
            latency_ms: state.latency.map(|latency| latency.as_millis() as i64),
            fetched_at: state.fetched_at.clone(),
            errors: state.errors.clone(),
            notes: state.notes.clone(),
            ..Source::default()
        }
    }
}

fn set(map: &mut BTreeMap<Kind, Text>, kind: Kind, text: Option<Text>) {
    match text {
        Some(text) => map.insert(kind, text),
        None => map.remove(&kind),
    };
}
