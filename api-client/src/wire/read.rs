//! Reading what a server says. By hand where rows are concerned: a row's type depends on the `kind`
//! beside it, and serde's tagged enums would decode everything through an intermediate tree.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::{Change, ServerMessage};
use crate::entity::Entity;
use crate::key::Key;
use crate::kind::Kind;
use crate::text::Text;
use crate::time::EpochMs;

impl ServerMessage {
    /// Reads a message. `None` when its type is not known: a newer server may say more.
    pub fn decode(json: &str) -> Result<Option<Self>, serde_json::Error> {
        let tag = match leading_type(json) {
            Some(tag) => Cow::Borrowed(tag),
            None => serde_json::from_str::<Tag<'_>>(json)?.tag,
        };
        match &*tag {
            "hello" => Ok(Some(ServerMessage::Hello(serde_json::from_str(json)?))),
            "error" => Ok(Some(ServerMessage::Error(serde_json::from_str(json)?))),
            "snapshot" | "ready" | "delta" | "heartbeat" => {
                serde_json::from_str::<Parts<'_>>(json)?.into_message(&tag)
            }
            _ => Ok(None),
        }
    }
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(rename = "type", borrow)]
    tag: Cow<'a, str>,
}

/// The type of a message that begins with it, as those of our servers do: it saves a walk over the rest.
fn leading_type(json: &str) -> Option<&str> {
    let rest = json.strip_prefix(r#"{"type":""#)?;
    let tag = &rest[..rest.find(['"', '\\'])?];
    matches!(
        tag,
        "hello" | "error" | "snapshot" | "ready" | "delta" | "heartbeat"
    )
    .then_some(tag)
}

/// What messages about rows are made of.
#[derive(Default)]
struct Parts<'a> {
    kind: Option<Cow<'a, str>>,
    revision: Option<u64>,
    since: Option<u64>,
    rows: Option<Rows<'a>>,
    more: bool,
    changes: Option<Vec<InChange<'a>>>,
    at: Option<EpochMs>,
}

enum Rows<'a> {
    Read(Vec<Arc<Entity>>),
    /// They stood before their kind.
    Raw(Vec<&'a RawValue>),
    /// Of a kind from a newer server: not for us.
    Foreign,
}

#[derive(Deserialize)]
struct InChange<'a> {
    kind: &'a str,
    #[serde(borrow)]
    upsert: Option<&'a RawValue>,
    key: Option<Key>,
    remove: Option<Text>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Kind,
    Revision,
    Since,
    Rows,
    More,
    Changes,
    At,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Parts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Parts<'de>, M::Error> {
        let mut parts = Parts::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::Kind => {
                    #[derive(Deserialize)]
                    struct Word<'a>(#[serde(borrow)] Cow<'a, str>);
                    parts.kind = map.next_value::<Option<Word<'de>>>()?.map(|word| word.0);
                }
                Field::Revision => parts.revision = map.next_value()?,
                Field::Since => parts.since = map.next_value()?,
                Field::Rows => {
                    let kind = parts.kind.as_ref().map(|noun| noun.parse::<Kind>());
                    parts.rows = Some(match kind {
                        Some(Ok(kind)) => Rows::Read(map.next_value_seed(RowsOf(kind))?),
                        Some(Err(_)) => {
                            map.next_value::<IgnoredAny>()?;
                            Rows::Foreign
                        }
                        None => Rows::Raw(map.next_value()?),
                    });
                }
                Field::More => parts.more = map.next_value()?,
                Field::Changes => parts.changes = map.next_value()?,
                Field::At => parts.at = map.next_value()?,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(parts)
    }
}

/// Rows of one kind.
struct RowsOf(Kind);

impl<'de> DeserializeSeed<'de> for RowsOf {
    type Value = Vec<Arc<Entity>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsOf {
    type Value = Vec<Arc<Entity>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut rows: S) -> Result<Self::Value, S::Error> {
        let mut read = Vec::new();
        while let Some(row) = rows.next_element_seed(RowOf(self.0))? {
            read.push(Arc::new(row));
        }
        Ok(read)
    }
}

struct RowOf(Kind);

impl<'de> DeserializeSeed<'de> for RowOf {
    type Value = Entity;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entity, D::Error> {
        Entity::deserialize_as(self.0, deserializer)
    }
}

fn missing(field: &'static str) -> serde_json::Error {
    serde_json::Error::missing_field(field)
}

impl Parts<'_> {
    fn into_message(self, tag: &str) -> Result<Option<ServerMessage>, serde_json::Error> {
        let revision = self.revision.ok_or_else(|| missing("revision"))?;
        Ok(Some(match tag {
            "snapshot" => {
                let noun = self.kind.ok_or_else(|| missing("kind"))?;
                let Ok(kind) = noun.parse::<Kind>() else {
                    return Ok(None);
                };
                let rows = match self.rows.ok_or_else(|| missing("rows"))? {
                    Rows::Read(rows) => rows,
                    Rows::Raw(rows) => rows
                        .into_iter()
                        .map(|raw| Entity::decode(kind, raw.get()).map(Arc::new))
                        .collect::<Result<_, _>>()?,
                    Rows::Foreign => return Ok(None),
                };
                ServerMessage::Snapshot {
                    kind,
                    revision,
                    rows,
                    more: self.more,
                }
            }
            "ready" => ServerMessage::Ready { revision },
            "heartbeat" => ServerMessage::Heartbeat {
                revision,
                at: self.at.ok_or_else(|| missing("at"))?,
            },
            _ => {
                let mut changes = Vec::new();
                for change in self.changes.ok_or_else(|| missing("changes"))? {
                    let Ok(kind) = change.kind.parse::<Kind>() else {
                        continue;
                    };
                    changes.push(match change.upsert {
                        Some(raw) => Change::Upsert(Arc::new(Entity::decode(kind, raw.get())?)),
                        None => Change::Remove {
                            kind,
                            key: change.key.ok_or_else(|| missing("key"))?,
                            reason: change.remove.unwrap_or_default(),
                        },
                    });
                }
                ServerMessage::Delta {
                    since: self.since.ok_or_else(|| missing("since"))?,
                    revision,
                    changes,
                }
            }
        }))
    }
}
