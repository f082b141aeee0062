//! The messages of the watching websocket (protocol version 1).
//!
//! JSON objects with a `type`. The server speaks first (`hello`), the client subscribes, the server
//! sends a snapshot or what changed since the cursor the client brought, and then every change.

mod read;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::entity::Entity;
use crate::key::Key;
use crate::kind::Kind;
use crate::policy::Rules;
use crate::text::Text;
use crate::time::EpochMs;

/// The protocol's version.
pub const PROTOCOL: u32 = 1;
/// Subprotocol with text frames, for people and foreign clients.
pub const SUBPROTOCOL_JSON: &str = "skytower.v1.json";
/// Subprotocol with compressed binary frames.
pub const SUBPROTOCOL_ZSTD: &str = "skytower.v1.zstd";
/// The largest message a server accepts from a client, in bytes.
pub const MAX_CLIENT_MESSAGE: usize = 64 * 1024;
/// A header that every client of ours sends: pages of other sites cannot, so a cookie beside it was meant.
pub const CLIENT_HEADER: &str = "x-skytower-client";
/// The close code of a connection whose credentials count no more: revoked, expired, disabled.
pub const CLOSE_SIGNED_OUT: u16 = 4401;
/// The most rows in one snapshot message.
pub const SNAPSHOT_CHUNK: usize = 1000;

/// Who the server takes the caller for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The id at the sources; more than one where a person has several identities.
    pub ids: Vec<Text>,
    /// The name people know.
    pub name: Text,
    /// `admin`, `user` or `viewer`.
    pub role: Role,
    /// Workspaces the caller may see, each as `source/workspace`, since two sources may have one of the same
    /// name (a source's name has no `/`); none means all. One that is not named does not exist for the
    /// caller, nor does anything in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<Text>>,
    /// Sources at which the caller may act; none means all. Elsewhere it can only look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acts_at: Option<Vec<Text>>,
    /// Why the role is less than the account's own: what its token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<Text>,
    /// What the server forbids whoever asks.
    #[serde(default, skip_serializing_if = "Rules::is_default")]
    pub rules: Rules,
}

/// What somebody may do, in SkyPilot's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May do everything.
    Admin,
    /// May look and act.
    User,
    /// May look; also what an unknown role is taken for.
    #[default]
    #[serde(other)]
    Viewer,
}

impl Role {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::User => "user",
            Role::Admin => "admin",
        }
    }
}

/// Where a client's copy stands. `epoch` is new for every life of the server's state; `view` names
/// what the caller was allowed to see: when either differs the server starts over with a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The life of the state.
    pub epoch: Text,
    /// The last revision applied.
    pub revision: u64,
    /// What the caller was allowed to see.
    #[serde(default)]
    pub view: Text,
}

/// The server's first message, and said again when the caller's rights change on an open connection:
/// what leaves and enters the view follows it, and a snapshot that it interrupts is void and begun anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// The server's version.
    pub version: Text,
    /// The life of the state.
    pub epoch: Text,
    /// The present revision.
    pub revision: u64,
    /// What the caller may see, as an opaque name.
    #[serde(default)]
    pub view: Text,
    /// Who the caller is.
    pub you: Caller,
    /// The kinds on offer.
    pub kinds: Vec<Kind>,
    /// The server's clock.
    pub at: EpochMs,
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The row is now this.
    Upsert(Arc<Entity>),
    /// The row is not there any more (or not for this caller).
    Remove {
        /// Its kind.
        kind: Kind,
        /// Its key.
        key: Key,
        /// Why, for people.
        reason: Text,
    },
}

impl Change {
    /// The key concerned.
    pub fn key(&self) -> &Key {
        match self {
            Change::Upsert(row) => row.key(),
            Change::Remove { key, .. } => key,
        }
    }

    /// The kind concerned.
    pub fn kind(&self) -> Kind {
        match self {
            Change::Upsert(row) => row.kind(),
            Change::Remove { kind, .. } => *kind,
        }
    }
}

impl Serialize for Change {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Out<'a> {
            Upsert {
                kind: Kind,
                upsert: &'a Entity,
            },
            Remove {
                kind: Kind,
                key: &'a Key,
                remove: &'a Text,
            },
        }
        match self {
            Change::Upsert(row) => Out::Upsert {
                kind: row.kind(),
                upsert: row,
            },
            Change::Remove { kind, key, reason } => Out::Remove {
                kind: *kind,
                key,
                remove: reason,
            },
        }
        .serialize(serializer)
    }
}

/// From the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The first message.
    Hello(Hello),
    /// Rows of one kind as of `revision`.
    Snapshot {
        /// The kind of all rows here.
        kind: Kind,
        /// The revision of the whole initial state.
        revision: u64,
        /// The rows.
        rows: Vec<Arc<Entity>>,
        /// More of this kind follows.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    /// The initial state is complete: rows that it did not name are gone.
    Ready {
        /// The revision of the initial state.
        revision: u64,
    },
    /// What changed after `since`, up to and with `revision`.
    Delta {
        /// The cursor this follows; anything else is a gap.
        since: u64,
        /// The new cursor.
        revision: u64,
        /// The changes; each key at most once.
        changes: Vec<Change>,
    },
    /// Nothing that this client may see happened; the link is alive.
    Heartbeat {
        /// The revision up to which that holds: the new cursor.
        revision: u64,
        /// The server's clock.
        at: EpochMs,
    },
    /// The server gives up on this connection.
    Error(Problem),
}

/// An error for people and programs: an RFC 9457 problem document, also on the websocket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Problem {
    /// A stable word for programs, such as `forbidden`.
    pub code: Text,
    /// The HTTP status, where there is one.
    #[serde(default)]
    pub status: u16,
    /// What is wrong, in short.
    #[serde(default)]
    pub title: Text,
    /// What happened, to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Text>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Text>,
    /// Seconds after which it is worth trying again, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem with its code, HTTP status and sentence.
    pub fn new(code: &str, status: u16, detail: impl Into<Text>) -> Self {
        Self {
            code: code.into(),
            status,
            title: code.replace('_', " ").into(),
            detail: Some(detail.into()),
            hint: None,
            retry_after: None,
        }
    }

    /// Adds when it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, wait: std::time::Duration) -> Self {
        self.retry_after = Some(wait.as_secs().max(1));
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Text>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn sentence(&self) -> &str {
        self.detail.as_deref().unwrap_or(&self.title)
    }
}

/// From a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// What the client wants; sent once, right after `hello`.
    Subscribe {
        /// The kinds; all when empty.
        #[serde(default)]
        kinds: Vec<Kind>,
        /// Where its copy stands, when it has one *of these kinds*: a cursor does not name them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Cursor>,
    },
    /// Somebody looks at this row: get what is costly to get (a cluster's queue, a job's events).
    Focus {
        /// The row.
        key: Key,
    },
    /// Nobody looks any more.
    Unfocus {
        /// The row.
        key: Key,
    },
    /// Look again at the source of this row, now.
    Refresh {
        /// The row.
        key: Key,
    },
}

impl ClientMessage {
    /// Reads a message. `None` when its type is not known; an error when it is malformed.
    pub fn decode(json: &str) -> Result<Option<Self>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Tag {
            #[serde(rename = "type")]
            tag: String,
        }
        let tag: Tag = serde_json::from_str(json)?;
        match tag.tag.as_str() {
            "subscribe" | "focus" | "unfocus" | "refresh" => serde_json::from_str(json).map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Cluster, Job};
    use crate::phase::Phase;

    fn round_trip(message: &ServerMessage) {
        let json = serde_json::to_string(message).unwrap();
        assert_eq!(
            ServerMessage::decode(&json).unwrap().as_ref(),
            Some(message),
            "{json}"
        );
    }

    #[test]
    fn messages_read_back_as_they_were_written() {
        let job = Job {
            key: Key::new("prod", Kind::Job, "12/0"),
            source: "prod".into(),
            name: "train".into(),
            status: "RUNNING".into(),
            phase: Phase::Running,
            job_id: 12,
            ..Job::default()
        };
        round_trip(&ServerMessage::Snapshot {
            kind: Kind::Job,
            revision: 7,
            rows: vec![job.clone().into()],
            more: true,
        });
        round_trip(&ServerMessage::Ready { revision: 7 });
        round_trip(&ServerMessage::Delta {
            since: 7,
            revision: 9,
            changes: vec![
                Change::Upsert(job.into()),
                Change::Remove {
                    kind: Kind::Cluster,
                    key: Key::new("prod", Kind::Cluster, "4c3a"),
                    reason: "terminated by bob".into(),
                },
            ],
        });
        round_trip(&ServerMessage::Heartbeat {
            revision: 9,
            at: EpochMs(1_795_467_146_123),
        });
        round_trip(&ServerMessage::Error(
            Problem::new("forbidden", 403, "no").hint("ask"),
        ));
    }

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let row = r#"[{"key":"p/job/1/0","job_id":1,"status":"RUNNING"}]"#;
        let usual = format!(r#"{{"type":"snapshot","kind":"job","revision":1,"rows":{row}}}"#);
        let strange =
            format!(r#"{{ "rows":{row}, "kind":"job", "revision":1, "type":"snap\u0073hot"}}"#);
        let read = ServerMessage::decode(&usual).unwrap();
        assert!(matches!(&read, Some(ServerMessage::Snapshot { rows, .. }) if rows.len() == 1));
        assert_eq!(ServerMessage::decode(&strange).unwrap(), read);
        // Who else writes `type` first.
        assert_eq!(
            ServerMessage::decode(r#"{"type":"deltas","x":1}"#).unwrap(),
            None
        );
        assert!(ServerMessage::decode(r#"{"type":"ready"}"#).is_err());
    }

    #[test]
    fn what_a_newer_neighbour_says_is_passed_over() {
        assert_eq!(
            ServerMessage::decode(r#"{"type":"weather","sky":"clear"}"#).unwrap(),
            None
        );
        assert_eq!(ClientMessage::decode(r#"{"type":"dance"}"#).unwrap(), None);
        let json = r#"{"type":"snapshot","kind":"volume","revision":1,"rows":[{"key":"a"}]}"#;
        assert_eq!(ServerMessage::decode(json).unwrap(), None);
        let json = r#"{"key":"p/cluster/1","name":"a","status":"UP","phase":"running","moons":2}"#;
        let row = Entity::decode(Kind::Cluster, json).unwrap();
        assert_eq!(
            row.as_cluster().unwrap().name,
            Cluster {
                name: "a".into(),
                ..row.as_cluster().unwrap().clone()
            }
            .name
        );
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(ClientMessage::decode("{").is_err());
        assert!(ClientMessage::decode(r#"{"type":"focus"}"#).is_err());
        assert!(ServerMessage::decode(r#"{"type":"delta","revision":1}"#).is_err());
    }
}
