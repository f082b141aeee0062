//! The kinds of entity and their names: one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($variant:ident $noun:literal $plural:literal $doc:literal),+ $(,)?) => {
        /// A kind of entity. The order is the order in which snapshots are sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Kind {
            $(#[doc = $doc] $variant),+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];

            /// The singular noun that stands on the wire and in keys.
            pub const fn noun(self) -> &'static str {
                match self { $(Kind::$variant => $noun),+ }
            }

            /// The plural that names the list, on the command line and in REST paths.
            pub const fn plural(self) -> &'static str {
                match self { $(Kind::$variant => $plural),+ }
            }
        }
    };
}

kinds! {
    Source "source" "sources" "Something a server watches: a SkyPilot API server or the local engine.",
    Cluster "cluster" "clusters" "A SkyPilot cluster.",
    Job "job" "jobs" "One task of a managed job; the tasks of a pipeline share their `job_id`.",
    ClusterJob "cluster_job" "cluster_jobs" "A job in the queue of one cluster.",
    Service "service" "services" "A SkyServe service.",
    Replica "replica" "replicas" "One replica of a service.",
    Pool "pool" "pools" "A pool of workers for managed jobs.",
    Worker "worker" "workers" "One worker of a pool.",
    User "user" "users" "A person or a service account.",
    Workspace "workspace" "workspaces" "A SkyPilot workspace.",
    Infra "infra" "infra" "A node of the infrastructure underneath, with what is free on it.",
    Request "request" "requests" "An asynchronous request: skytower's own action or SkyPilot's API request.",
    Event "event" "events" "Something that happened to a cluster or a job, kept while somebody looks.",
    Audit "audit" "audit" "An entry of the server's audit: who did what, from where, and what came of it.",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.noun())
    }
}

/// The word is no kind of entity.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a kind of entity")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Accepts the noun and the plural.
    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Kind::ALL
            .iter()
            .copied()
            .find(|kind| kind.noun() == word || kind.plural() == word)
            .ok_or_else(|| UnknownKind(word.to_owned()))
    }
}
