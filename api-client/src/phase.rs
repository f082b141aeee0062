//! Phases, and the table of SkyPilot's status words.
//!
//! A row carries both: `status` is the source's own word, shown as it came; `phase` is what colour,
//! sorting, filters and actions go by. [`STATUSES`] is the one place that says which word means
//! which phase; a word that is not there is shown all the same, in phase `unknown`.

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// Where something is in its life.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Needs somebody: ended with an error, or broken.
    Failed,
    /// Works in part, or is being recovered.
    Degraded,
    /// Runs.
    Running,
    /// On its way up.
    Starting,
    /// Waits for its turn.
    Pending,
    /// On its way down.
    Stopping,
    /// Stopped, can be started again.
    Stopped,
    /// Ended well.
    Succeeded,
    /// Ended because somebody said so.
    Cancelled,
    /// Not there any more; the row is kept for a while and says why.
    Gone,
    /// A status this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Phase {
    /// Every phase, in the order in which rows are sorted by it: what needs attention first.
    pub const ALL: &'static [Phase] = &[
        Phase::Failed,
        Phase::Degraded,
        Phase::Running,
        Phase::Starting,
        Phase::Pending,
        Phase::Stopping,
        Phase::Stopped,
        Phase::Succeeded,
        Phase::Cancelled,
        Phase::Gone,
        Phase::Unknown,
    ];

    /// The word on the wire, in filters and for people.
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Failed => "failed",
            Phase::Degraded => "degraded",
            Phase::Running => "running",
            Phase::Starting => "starting",
            Phase::Pending => "pending",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::Succeeded => "succeeded",
            Phase::Cancelled => "cancelled",
            Phase::Gone => "gone",
            Phase::Unknown => "unknown",
        }
    }

    /// Nothing more will happen to it by itself.
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            Phase::Failed | Phase::Succeeded | Phase::Cancelled | Phase::Gone
        )
    }

    /// One cell that tells the phase without colour.
    pub const fn glyph(self) -> char {
        match self {
            Phase::Running => '●',
            Phase::Starting => '◐',
            Phase::Pending => '○',
            Phase::Degraded => '↻',
            Phase::Stopping => '▽',
            Phase::Succeeded => '✓',
            Phase::Failed => '✗',
            Phase::Cancelled => '⊘',
            Phase::Stopped => '◌',
            Phase::Gone => '·',
            Phase::Unknown => '?',
        }
    }

    /// The same for terminals without those glyphs.
    pub const fn ascii(self) -> char {
        match self {
            Phase::Running => '*',
            Phase::Starting => '~',
            Phase::Pending => '.',
            Phase::Degraded => '@',
            Phase::Stopping => 'v',
            Phase::Succeeded => '+',
            Phase::Failed => 'x',
            Phase::Cancelled => '-',
            Phase::Stopped => 'o',
            Phase::Gone => ' ',
            Phase::Unknown => '?',
        }
    }
}

/// One status word of one kind.
#[derive(Debug)]
pub struct StatusSpec {
    /// The kind that uses the word.
    pub kind: Kind,
    /// SkyPilot's word.
    pub word: &'static str,
    /// What it means for colour, sorting and actions.
    pub phase: Phase,
    /// One sentence for help.
    pub meaning: &'static str,
}

macro_rules! statuses {
    ($($kind:ident { $($word:literal $phase:ident $meaning:literal),+ $(,)? })+) => {
        /// Every status word that SkyPilot 0.11 to 0.14 uses, by kind.
        pub const STATUSES: &[StatusSpec] = &[
            $($(StatusSpec { kind: Kind::$kind, word: $word, phase: Phase::$phase, meaning: $meaning }),+),+
        ];
    };
}

statuses! {
    Source {
        "healthy" Running "Answers, and what is shown is fresh.",
        "starting" Starting "Was asked for the first time; no answer yet.",
        "stale" Degraded "Answers late, in part or with errors: the last good state is shown.",
        "needs_auth" Failed "Refuses the credentials.",
        "version_mismatch" Failed "Too old or too new for this version of skytower.",
        "unreachable" Failed "Cannot be reached: the last good state is shown.",
    }
    Cluster {
        "INIT" Starting "Being launched, or in a state that SkyPilot could not determine.",
        "PENDING" Pending "Waits in the queue of its infrastructure.",
        "UP" Running "All nodes up.",
        "STOPPED" Stopped "Stopped; the disks are kept.",
        "AUTOSTOPPING" Stopping "Stops itself after idling.",
        "TERMINATED" Gone "Was torn down; kept for a while with the reason.",
    }
    Job {
        "PENDING" Pending "Waits for a slot of the jobs controller.",
        "SUBMITTED" Pending "Submitted (older SkyPilot).",
        "STARTING" Starting "Its cluster is being launched.",
        "RUNNING" Running "Runs, or runs its setup.",
        "WINDING_DOWN" Running "A batch job that merges its output.",
        "RECOVERING" Degraded "Lost its cluster, or failed and is restarted.",
        "CANCELLING" Stopping "Is being cancelled.",
        "SUCCEEDED" Succeeded "Ended well.",
        "CANCELLED" Cancelled "Was cancelled.",
        "FAILED" Failed "The user's program ended with an error.",
        "FAILED_SETUP" Failed "The setup commands ended with an error.",
        "FAILED_PRECHECKS" Failed "Could not be launched as it is written.",
        "FAILED_NO_RESOURCE" Failed "No infrastructure has the resources.",
        "FAILED_CONTROLLER" Failed "The jobs controller failed.",
    }
    ClusterJob {
        "INIT" Starting "Being submitted.",
        "SETTING_UP" Starting "Runs its setup.",
        "PENDING" Pending "Waits for resources of the cluster.",
        "RUNNING" Running "Runs.",
        "SUCCEEDED" Succeeded "Ended well.",
        "FAILED" Failed "The user's program ended with an error.",
        "FAILED_SETUP" Failed "The setup commands ended with an error.",
        "FAILED_DRIVER" Failed "SkyPilot's driver on the cluster failed.",
        "CANCELLED" Cancelled "Was cancelled.",
    }
    Service {
        "CONTROLLER_INIT" Starting "Its controller starts.",
        "REPLICA_INIT" Starting "The first replicas start.",
        "READY" Running "At least one replica is ready.",
        "NO_REPLICA" Stopped "Scaled to nothing.",
        "SHUTTING_DOWN" Stopping "Is being torn down.",
        "FAILED" Failed "No replica is ready and some have failed.",
        "CONTROLLER_FAILED" Failed "Its controller failed.",
        "FAILED_CLEANUP" Failed "Could not be torn down wholly: resources may be left behind.",
        "TERMINATED" Gone "Was torn down; kept for a while with the reason.",
    }
    Pool {
        "CONTROLLER_INIT" Starting "Its controller starts.",
        "REPLICA_INIT" Starting "The first workers start.",
        "READY" Running "At least one worker is ready.",
        "NO_REPLICA" Stopped "Scaled to nothing.",
        "SHUTTING_DOWN" Stopping "Is being torn down.",
        "FAILED" Failed "No worker is ready and some have failed.",
        "CONTROLLER_FAILED" Failed "Its controller failed.",
        "FAILED_CLEANUP" Failed "Could not be torn down wholly: resources may be left behind.",
        "TERMINATED" Gone "Was torn down; kept for a while with the reason.",
    }
    Replica {
        "PENDING" Pending "Waits to be launched.",
        "PROVISIONING" Starting "Its cluster is being launched.",
        "STARTING" Starting "Launched, not ready yet.",
        "READY" Running "Answers its probe.",
        "NOT_READY" Degraded "Does not answer its probe.",
        "SHUTTING_DOWN" Stopping "Is being torn down.",
        "PREEMPTED" Degraded "Lost its machine; replaced by another.",
        "FAILED" Failed "The user's program ended with an error.",
        "FAILED_INITIAL_DELAY" Failed "Was not ready in the time allowed.",
        "FAILED_PROBING" Failed "Stopped answering its probe.",
        "FAILED_PROVISION" Failed "Its cluster could not be launched.",
        "FAILED_CLEANUP" Failed "Could not be torn down wholly: resources may be left behind.",
        "UNKNOWN" Unknown "SkyPilot does not know.",
    }
    Worker {
        "PENDING" Pending "Waits to be launched.",
        "PROVISIONING" Starting "Its cluster is being launched.",
        "STARTING" Starting "Launched, not ready yet.",
        "READY" Running "Takes jobs.",
        "NOT_READY" Degraded "Does not answer.",
        "SHUTTING_DOWN" Stopping "Is being torn down.",
        "PREEMPTED" Degraded "Lost its machine; replaced by another.",
        "FAILED" Failed "Ended with an error.",
        "FAILED_INITIAL_DELAY" Failed "Was not ready in the time allowed.",
        "FAILED_PROBING" Failed "Stopped answering.",
        "FAILED_PROVISION" Failed "Its cluster could not be launched.",
        "FAILED_CLEANUP" Failed "Could not be torn down wholly: resources may be left behind.",
        "UNKNOWN" Unknown "SkyPilot does not know.",
    }
    Request {
        "PENDING" Pending "Waits for a worker of the API server.",
        "WAITING" Pending "Parked: backs off, or waits for a lock or quota.",
        "RUNNING" Running "Is being worked on.",
        "SUCCEEDED" Succeeded "Done.",
        "FAILED" Failed "Ended with an error.",
        "PARTLY" Degraded "Done for some of its targets.",
        "CANCELLED" Cancelled "Was cancelled.",
    }
    User {
        "active" Running "Has something running or waiting.",
        "idle" Stopped "Has nothing running.",
    }
    Workspace {
        "public" Running "Open to everybody.",
        "private" Running "Only for its members.",
        "read_only" Stopped "You may look, not act.",
    }
    Audit {
        "accepted" Succeeded "Written down, and going to be carried out.",
        "succeeded" Succeeded "Done.",
        "partly" Degraded "Done for some of its targets.",
        "failed" Failed "Ended with an error.",
        "refused" Failed "Not allowed, or not possible: nothing was done.",
        "cancelled" Cancelled "Withdrawn before it was carried out.",
        "unknown" Unknown "Carried out, and what came of it cannot be known.",
    }
    Infra {
        "idle" Stopped "Free.",
        "mixed" Running "Partly allocated.",
        "allocated" Running "Wholly allocated.",
        "ready" Running "Takes work.",
        "draining" Stopping "Takes no new work.",
        "drained" Stopped "Takes no work.",
        "cordoned" Stopping "Takes no new work.",
        "down" Failed "Does not answer.",
        "not_ready" Failed "Does not answer.",
        "enabled" Running "Enabled for launching.",
    }
}

/// The entry of a status word; none when SkyPilot says something new.
pub fn status_spec(kind: Kind, word: &str) -> Option<&'static StatusSpec> {
    STATUSES
        .iter()
        .find(|spec| spec.kind == kind && spec.word == word)
}

/// The phase of a status word; `unknown` when SkyPilot says something new.
pub fn phase_of(kind: Kind, word: &str) -> Phase {
    status_spec(kind, word).map_or(Phase::Unknown, |spec| spec.phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_stands_twice_for_a_kind() {
        for (i, a) in STATUSES.iter().enumerate() {
            for b in &STATUSES[i + 1..] {
                assert!(
                    a.kind != b.kind || a.word != b.word,
                    "{} {}",
                    a.kind,
                    a.word
                );
            }
        }
    }

    #[test]
    fn an_unknown_word_is_unknown_and_a_later_phase_too() {
        assert_eq!(phase_of(Kind::Job, "HIBERNATING"), Phase::Unknown);
        assert_eq!(
            serde_json::from_str::<Phase>("\"hibernating\"").unwrap(),
            Phase::Unknown
        );
    }
}
