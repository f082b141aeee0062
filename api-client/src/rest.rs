//! Typed REST calls to a skytower server.

use serde::{Deserialize, Serialize};

use crate::action::ActionOptions;
use crate::key::Key;
use crate::text::{Block, Text};
use crate::wire::Caller;

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
