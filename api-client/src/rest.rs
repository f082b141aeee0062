//! Typed REST calls to a skytower server: the shapes always, the calls with feature `client`.
//!
//! Everything that answers with a request (`POST /api/v1/requests`, also as a dry run, and `GET` and
//! `DELETE` of one) answers with its row, an [`crate::entity::Request`].

pub mod accounts;
mod audit;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod error;
pub mod path;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use audit::{AuditBreak, AuditHead, AuditQuery, AuditVerdict};
#[cfg(feature = "client")]
pub use client::{Client, Status};
#[cfg(feature = "client")]
pub(crate) use client::{authorise, http, limited, own_headers, refusal};
#[cfg(feature = "client")]
pub use error::{ClientError, Unreachable};

use crate::action::ActionOptions;
use crate::entity::Entity;
use crate::key::Key;
use crate::kind::Kind;
use crate::text::{Block, Text};
use crate::wire::Caller;

/// The header that makes a repeated `POST /api/v1/requests` the same request.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The query of `GET /api/v1/{kind}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// A query in the language of [`crate::query`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// A column, with `-` in front when descending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// The most rows wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// [`Page::next`] of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The answer of `GET /api/v1/{kind}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page {
    /// The rows, as in the stream.
    pub rows: Vec<Arc<Entity>>,
    /// The revision they are of.
    pub revision: u64,
    /// The cursor of the next page, when there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Text>,
}

impl Page {
    /// Reads rows of `kind`.
    pub fn decode(kind: Kind, json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct In<'a> {
            #[serde(borrow)]
            rows: Vec<&'a RawValue>,
            #[serde(default)]
            revision: u64,
            next: Option<Text>,
        }
        let page: In<'_> = serde_json::from_str(json)?;
        let rows = page
            .rows
            .iter()
            .map(|raw| Entity::decode(kind, raw.get()).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rows,
            revision: page.revision,
            next: page.next,
        })
    }
}

/// The query of `GET /api/v1/{kind}/{key}/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Go on as the log grows.
    pub follow: bool,
    /// Only so many lines from the end; everything when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Another log of the same thing, such as `controller` or `provision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// `GET /api/health`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `healthy` or `needs_auth`.
    pub status: Text,
    /// Always `skytower`: tells a skytower server from a SkyPilot API server.
    pub service: Text,
    /// The server's version.
    pub version: Text,
    /// The commit it was built from.
    pub commit: Text,
    /// The wire protocol's version.
    pub api_version: u32,
    /// The life of the state (for those inside).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Text>,
    /// The present revision (for those inside).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Watching clients (for those inside).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// The server's process (for those inside, on loopback).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Who the caller is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Caller>,
    /// With what one can sign in here: `password`, `token`, `skypilot`, `proxy`, or the server's own `local` token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sign_in: Vec<Text>,
}

/// The body of `POST /api/v1/requests`: one action on some rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NewRequest {
    /// The action's id, such as `job.cancel`.
    pub action: Text,
    /// Keys of the rows; never empty.
    pub targets: Vec<Key>,
    /// What else the action needs to know.
    #[serde(default)]
    pub options: ActionOptions,
    /// The explicit second step for other people's things was taken.
    #[serde(default)]
    pub others_confirmed: bool,
    /// Say what would happen and do nothing: answers 200 with the results as they would be refused or accepted.
    #[serde(default)]
    pub dry_run: bool,
}

/// `GET /api/v1/{kind}/{key}`: one row, whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The row as in the stream.
    pub row: serde_json::Value,
    /// The YAML it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yaml: Option<Block>,
    /// The command that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Text>,
}
