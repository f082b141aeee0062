//! Sources: what a server watches. A new one (Kubernetes, Slurm) is a new folder and one line.
//!
//! A source writes rows into the [`Hub`](crate::hub::Hub) and carries out actions. It knows nothing
//! of clients, connections or the journal.

pub(crate) mod local;
pub mod skypilot;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use skytower_api_client::action::{ActionOptions, ActionSpec};
use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::{Caller, Problem};
use skytower_api_client::{Block, Entity, EpochMs, Key, Text};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::SourceConfig;
use crate::hub::Hub;

/// Places where a test ends the server while the local engine carries out an order.
pub const ENGINE_FAIL_POINTS: &[&str] = local::FAIL_POINTS;

/// A future that can be stored: sources are used as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens a configured source. Nothing is asked of it before [`Source::run`].
pub fn open(config: &SourceConfig, hub: Arc<Hub>) -> anyhow::Result<Arc<dyn Source>> {
    skypilot::open(config, hub)
}

/// One call to the source that carries out (part of) a request. A request with many targets becomes
/// one or more of these, as [`Source::plan`] says; each is written to the journal before it is made.
#[derive(Clone, Debug)]
pub struct Handover {
    /// Its own name: sent along where the source keeps what it is sent, so that it can be found again.
    pub id: Text,
    /// What to do.
    pub action: &'static ActionSpec,
    /// To which rows, as they were when the request was accepted.
    pub targets: Vec<Arc<Entity>>,
    /// What else the action needs to know.
    pub options: ActionOptions,
    /// On whose behalf.
    pub caller: Caller,
    /// With whose credentials: the caller's; none means the source's own. They are written down nowhere.
    pub credentials: Option<Credentials>,
    /// When it was (first) tried: a lookup goes back no further.
    pub tried_at: EpochMs,
}

/// Why a handover did not get a receipt.
#[derive(Debug, Clone)]
pub enum HandoverError {
    /// The source said no: it was certainly not accepted.
    Refused(Problem),
    /// The source certainly did not get it (connection refused, 503): it may be sent again later.
    NotAccepted(Problem),
    /// Nobody knows whether the source got it: it must be looked up before it is sent again.
    Uncertain(Problem),
}

/// What a lookup after an uncertain handover found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It was accepted, under this id.
    Accepted(Text),
    /// It was certainly not accepted.
    NotThere,
    /// The source can no longer say (it was restarted since and has forgotten its requests).
    CannotTell,
}

/// What became of an accepted handover at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoverResult {
    /// The source says it carried it out. What counts is whether the change is seen in the state.
    pub succeeded: bool,
    /// What the source said about it, for people.
    pub message: Option<Text>,
}

/// More about one row than travels in the stream.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Detail {
    /// The YAML it was made from, where the source has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yaml: Option<Block>,
    /// The command that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Text>,
}

/// Which log of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogChannel {
    /// What the program writes.
    #[default]
    Run,
    /// What its controller writes: provisioning and recovery.
    Controller,
    /// How its cluster was launched.
    Provision,
}

impl LogChannel {
    /// Every channel.
    pub const ALL: &'static [LogChannel] = &[
        LogChannel::Run,
        LogChannel::Controller,
        LogChannel::Provision,
    ];

    /// The word in REST queries and for people.
    pub const fn word(self) -> &'static str {
        match self {
            LogChannel::Run => "run",
            LogChannel::Controller => "controller",
            LogChannel::Provision => "provision",
        }
    }
}

/// A log that somebody wants to read.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// A cluster (its latest job), cluster job, managed job task, service, replica, pool, worker or request.
    pub row: Arc<Entity>,
    /// Which of its logs.
    pub channel: LogChannel,
    /// Keep going while it writes.
    pub follow: bool,
    /// Only the last lines; none means all.
    pub tail: Option<u32>,
}

/// A piece of a log, cleaned: no control payloads, no escape sequences but colours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChunk {
    /// Text; not aligned to lines.
    Text(String),
    /// What the source is waiting for, as a line; none when it stopped waiting.
    Waiting(Option<Text>),
}

/// A log as it comes. It ends when the log ends; an error may be followed by a new attempt.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogChunk, Problem>> + Send>>;

/// Something that a server watches.
pub trait Source: Send + Sync + 'static {
    /// Its name: the first part of its rows' keys.
    fn name(&self) -> &Text;

    /// Watches, and writes what it sees into the hub, until `stop`. Never returns before.
    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()>;

    /// Who its credentials make us, as soon as the source has said so. None: it has not said (yet).
    fn caller(&self) -> watch::Receiver<Option<Caller>> {
        watch::channel(None).1
    }

    /// Who these credentials are there; none when it knows nobody by them. An error is no such answer: it
    /// could not be asked. A source that takes no credentials knows nobody.
    fn identify<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Option<Caller>, Problem>> {
        let _ = credentials;
        Box::pin(async { Ok(None) })
    }

    /// It runs things on this machine itself: whoever may use the server may do anything to them, so it
    /// says nothing about what the caller may do elsewhere.
    fn is_local(&self) -> bool {
        false
    }

    /// The workspaces of the server's own that are for their members alone: rows say so. Whom they are shown to does
    /// not depend on it.
    fn keep_private(&self, _workspaces: BTreeSet<Text>) {}

    /// It has something to do even when nobody watches: the server stays.
    fn busy(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    /// How many calls were made to what is watched, for those who measure.
    fn upstream_calls(&self) -> Option<u64> {
        None
    }

    /// Somebody looks at this row (`true`), or nobody does any more.
    fn focus(&self, key: &Key, looked_at: bool);

    /// Look at this row's list again as soon as possible.
    fn refresh(&self, key: &Key);

    /// How a request's targets are divided into calls: indices into `targets`, each exactly once.
    fn plan(&self, action: &'static ActionSpec, targets: &[Arc<Entity>]) -> Vec<Vec<usize>>;

    /// Makes the call and returns the source's own request id.
    fn submit<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Text, HandoverError>>;

    /// Looks up what became of a call whose answer was lost.
    fn find<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Found, Problem>>;

    /// Waits until the source's request has ended. An error means that it could not be asked: try again.
    fn result<'a>(
        &'a self,
        handover: &'a Handover,
        upstream: &'a Text,
    ) -> BoxFuture<'a, Result<HandoverResult, Problem>>;

    /// More about one row.
    fn detail<'a>(&'a self, row: &'a Entity) -> BoxFuture<'a, Result<Detail, Problem>>;

    /// Opens a log.
    fn logs<'a>(&'a self, query: &'a LogQuery) -> BoxFuture<'a, Result<LogStream, Problem>>;
}
