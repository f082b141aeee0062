//! The rows that travel: one struct per kind, all with the same head.
//!
//! What may be shown is exactly what is declared here. Every optional field is left out when it is
//! unknown (and shown as `-`); unknown fields of a newer neighbour are ignored.

mod holdings;
mod rows;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use holdings::{Holding, Holdings};
pub use rows::*;
// The kind is the audit, a row is an entry of it.
use rows::AuditEntry as Audit;

use crate::key::Key;
use crate::kind::Kind;
use crate::phase::Phase;
use crate::policy::Reach;
use crate::text::Text;

/// Who something belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The source's user id (SkyPilot: eight hexadecimal digits, or `sa-…`).
    pub id: Text,
    /// The name people know; the id where the source has no name.
    #[serde(default)]
    pub name: Text,
}

/// An action that a row's source rules out beforehand, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The action's id, such as `cluster.stop`.
    pub action: Text,
    /// The source's reason, for people.
    pub reason: Text,
}

/// Declares a row: the common head, then the fields of its kind. Written out flat rather than with
/// `serde(flatten)`, which decodes through an intermediate tree and costs several times as much.
macro_rules! row {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            /// Unique across sources and kinds.
            pub key: $crate::key::Key,
            /// The name of the source it comes from.
            pub source: $crate::text::Text,
            /// What people call it.
            pub name: $crate::text::Text,
            /// Who it belongs to, where it belongs to somebody.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub owner: Option<$crate::entity::Owner>,
            /// Its workspace, where it has one.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub workspace: Option<$crate::text::Text>,
            /// The source's own word.
            pub status: $crate::text::Text,
            /// What the word means.
            pub phase: $crate::phase::Phase,
            /// Why it is pending, recovering, failed or gone, as far as the source says.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub why: Option<$crate::text::Text>,
            /// Actions that its source rules out.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub refuses: Vec<$crate::entity::Refusal>,
            /// Which workspace it is in is not known, and it may be a private one: only administrators
            /// may see it.
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            pub restricted: bool,
            $($(#[$fmeta])* pub $field: $ty),*
        }
    };
}
pub(crate) use row;

/// A row of any kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Entity {
    /// See [`Source`].
    Source(Source),
    /// See [`Cluster`].
    Cluster(Cluster),
    /// See [`Job`].
    Job(Job),
    /// See [`ClusterJob`].
    ClusterJob(ClusterJob),
    /// See [`Service`].
    Service(Service),
    /// See [`Replica`].
    Replica(Replica),
    /// See [`Pool`].
    Pool(Pool),
    /// See [`Worker`].
    Worker(Worker),
    /// See [`User`].
    User(User),
    /// See [`Workspace`].
    Workspace(Workspace),
    /// See [`Infra`].
    Infra(Infra),
    /// See [`Request`].
    Request(Request),
    /// See [`Event`].
    Event(Event),
    /// See [`AuditEntry`].
    Audit(AuditEntry),
}

macro_rules! each {
    ($entity:expr, $row:ident => $body:expr) => {
        match $entity {
            Entity::Source($row) => $body,
            Entity::Cluster($row) => $body,
            Entity::Job($row) => $body,
            Entity::ClusterJob($row) => $body,
            Entity::Service($row) => $body,
            Entity::Replica($row) => $body,
            Entity::Pool($row) => $body,
            Entity::Worker($row) => $body,
            Entity::User($row) => $body,
            Entity::Workspace($row) => $body,
            Entity::Infra($row) => $body,
            Entity::Request($row) => $body,
            Entity::Event($row) => $body,
            Entity::Audit($row) => $body,
        }
    };
}

macro_rules! kinds_of {
    ($($variant:ident),+) => {
        impl Entity {
            /// The kind of the row.
            pub fn kind(&self) -> Kind {
                match self { $(Entity::$variant(_) => Kind::$variant),+ }
            }

            /// Reads a row of `kind` from JSON.
            pub fn decode(kind: Kind, json: &str) -> Result<Self, serde_json::Error> {
                Ok(match kind { $(Kind::$variant => Entity::$variant(serde_json::from_str(json)?)),+ })
            }

            /// Reads a row of `kind` from within something else.
            pub(crate) fn deserialize_as<'de, D: serde::Deserializer<'de>>(
                kind: Kind,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                Ok(match kind { $(Kind::$variant => Entity::$variant($variant::deserialize(deserializer)?)),+ })
            }
        }

        $(impl From<$variant> for Entity {
            fn from(row: $variant) -> Self {
                Entity::$variant(row)
            }
        }

        impl From<$variant> for Arc<Entity> {
            fn from(row: $variant) -> Self {
                Arc::new(Entity::$variant(row))
            }
        })+
    };
}

kinds_of!(
    Source, Cluster, Job, ClusterJob, Service, Replica, Pool, Worker, User, Workspace, Infra,
    Request, Event, Audit
);

impl Entity {
    /// See the common head.
    pub fn key(&self) -> &Key {
        each!(self, row => &row.key)
    }

    /// The source it comes from.
    pub fn source(&self) -> &Text {
        each!(self, row => &row.source)
    }

    /// What people call it.
    pub fn name(&self) -> &Text {
        each!(self, row => &row.name)
    }

    /// Who it belongs to.
    pub fn owner(&self) -> Option<&Owner> {
        each!(self, row => row.owner.as_ref())
    }

    /// Its workspace.
    pub fn workspace(&self) -> Option<&Text> {
        each!(self, row => row.workspace.as_ref())
    }

    /// Says which workspace it is in, or that nobody knows.
    pub fn set_workspace(&mut self, workspace: Option<Text>) {
        each!(self, row => row.workspace = workspace);
    }

    /// The source's word.
    pub fn status(&self) -> &Text {
        each!(self, row => &row.status)
    }

    /// What the word means.
    pub fn phase(&self) -> Phase {
        each!(self, row => row.phase)
    }

    /// Why it is in this state.
    pub fn why(&self) -> Option<&Text> {
        each!(self, row => row.why.as_ref())
    }

    /// Actions that its source rules out.
    pub fn refuses(&self) -> &[Refusal] {
        each!(self, row => &row.refuses)
    }

    /// Only administrators may see it.
    pub fn restricted(&self) -> bool {
        each!(self, row => row.restricted)
    }

    /// Says that only administrators may see it, or that its workspace decides.
    pub fn restrict(&mut self, restricted: bool) {
        each!(self, row => row.restricted = restricted);
    }

    /// Who may see it.
    pub fn reach(&self) -> Reach<'_> {
        if self.kind() == Kind::Audit {
            return Reach::Audit;
        }
        if self.restricted() {
            return Reach::Administrators;
        }
        match self {
            // A workspace is in itself.
            Entity::Workspace(row) => Reach::Workspace {
                source: &row.source,
                name: &row.name,
            },
            Entity::Request(row) if !row.within.is_empty() => Reach::Each(&row.within),
            Entity::User(row) if !row.known_by.is_empty() => Reach::Any(&row.known_by),
            row => match row.workspace() {
                None => Reach::Everybody,
                Some(name) => Reach::Workspace {
                    source: row.source(),
                    name,
                },
            },
        }
    }
}

macro_rules! accessors {
    ($($fn_name:ident $variant:ident),+ $(,)?) => {
        impl Entity {
            $(
                #[doc = concat!("The row, when it is a [`", stringify!($variant), "`].")]
                pub fn $fn_name(&self) -> Option<&$variant> {
                    match self { Entity::$variant(row) => Some(row), _ => None }
                }
            )+
        }
    };
}

accessors!(
    as_source Source, as_cluster Cluster, as_job Job, as_cluster_job ClusterJob, as_service Service,
    as_replica Replica, as_pool Pool, as_worker Worker, as_user User, as_workspace Workspace,
    as_infra Infra, as_request Request, as_event Event, as_audit Audit,
);
