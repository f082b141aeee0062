//! The audit over REST: further back than what is watched, and whether it is whole.

use serde::{Deserialize, Serialize};

use crate::text::Text;
use crate::time::EpochMs;

/// The query of `GET /api/v1/audit`. Without `before` it is a list like any other; with it, the entries
/// before that one, newest first, from the server's database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// Only entries with smaller numbers. A page's [`next`](super::Page::next) is this of the page after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// With `before`: only entries since then, by the server's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<EpochMs>,
    /// A query in the language of [`crate::query`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// The most entries wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Without `before`: a column, with `-` in front when descending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// Without `before`: [`next`](super::Page::next) of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An entry and the hash of it and all before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditHead {
    /// Its number; 0 when there is none.
    pub seq: i64,
    /// The hash, hexadecimal.
    pub hash: Text,
}

/// Where the audit is not what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditBreak {
    /// The first entry that is not as it was written.
    pub seq: i64,
    /// What is wrong with it.
    pub why: Text,
}

/// `GET /api/v1/audit/verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditVerdict {
    /// How many entries were read.
    pub entries: u64,
    /// After which entry it begins: what is older was forgotten.
    pub anchor: AuditHead,
    /// The last entry that is in order. A copy of it elsewhere proves that nothing was taken from the end.
    pub head: AuditHead,
    /// The first one that is not; none when all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<AuditBreak>,
}
