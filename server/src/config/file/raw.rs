//! The shape of a configuration file, as it is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use skytower_api_client::policy::OthersPolicy;
use skytower_api_client::wire::Role;
use toml::Spanned;

use super::super::{ActAs, Limits};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    Local,
    None,
}

/// What people are that a proxy brings. Administrators are made one by one, by name.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Brought {
    Viewer,
    User,
}

impl From<Brought> for Role {
    fn from(brought: Brought) -> Self {
        match brought {
            Brought::Viewer => Role::Viewer,
            Brought::User => Role::User,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) plain_http: Option<bool>,
    pub(super) hosts: Option<Vec<Spanned<String>>>,
    pub(super) home: Option<Spanned<PathBuf>>,
    pub(super) idle_exit: Option<Spanned<String>>,
    pub(super) others: Option<OthersPolicy>,
    pub(super) engine: Option<Engine>,
    pub(super) accounts: Option<bool>,
    pub(super) read_only: Option<bool>,
    pub(super) audit_keep: Option<Spanned<String>>,
    pub(super) tls: Option<RawTls>,
    pub(super) proxy: Option<Spanned<RawProxy>>,
    pub(super) limits: Option<Spanned<Limits>>,
    #[serde(default)]
    pub(super) source: BTreeMap<String, Spanned<RawSource>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProxy {
    pub(super) addresses: Vec<Spanned<String>>,
    pub(super) secret_file: Option<Spanned<PathBuf>>,
    pub(super) user_header: Option<String>,
    pub(super) role: Option<Brought>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    pub(super) url: Spanned<String>,
    pub(super) token_file: Option<Spanned<PathBuf>>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<Spanned<PathBuf>>,
    pub(super) sign_in: Option<bool>,
    pub(super) act_as: Option<ActAs>,
}
