//! Who our credentials make us.

use std::path::PathBuf;

use serde::Deserialize;
use skytower_api_client::Text;
use skytower_api_client::wire::{Caller, Role};

use super::client::Identity;
use crate::server::account_name;

#[derive(Debug, Default, Deserialize)]
pub(super) struct RoleAnswer {
    #[serde(default)]
    id: Option<Text>,
    #[serde(default)]
    name: Option<Text>,
    #[serde(default)]
    role: Role,
}

/// The caller that `/users/role` describes. A server that does not authenticate us (it has no
/// authentication, or takes loopback for an administrator) leaves id and name empty: then we are who
/// the `sky` command line would be on this machine.
pub(super) fn caller(answer: RoleAnswer, local: &Identity) -> Caller {
    let said = |text: Option<Text>| text.filter(|text| !text.is_empty());
    match said(answer.id) {
        Some(id) => Caller {
            name: said(answer.name).unwrap_or_else(|| id.clone()),
            ids: vec![id],
            role: answer.role,
            ..Caller::default()
        },
        None => Caller {
            ids: vec![local.id.clone()],
            name: local.name.clone(),
            role: answer.role,
            ..Caller::default()
        },
    }
}

/// Who the `sky` command line would be: `SKYPILOT_USER_ID`, else `~/.sky/user_hash`; the name is
/// `SKYPILOT_USER`, else the operating system's user.
pub(super) fn local_identity() -> Identity {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let name = variable("SKYPILOT_USER")
        .or_else(account_name)
        .unwrap_or_else(|| "skytower".to_owned());
    let id = variable("SKYPILOT_USER_ID")
        .or_else(user_hash_file)
        .unwrap_or_else(|| short_hash(&name));
    Identity {
        id: id.to_lowercase().into(),
        name: name.into(),
    }
}

fn user_hash_file() -> Option<String> {
    let base = std::env::var_os("SKY_RUNTIME_DIR").or_else(|| std::env::var_os("HOME"))?;
    let path = PathBuf::from(base).join(".sky/user_hash");
    let hash = std::fs::read_to_string(path).ok()?.trim().to_owned();
    let plausible = !hash.is_empty() && hash.len() <= 64;
    (plausible && hash.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')).then_some(hash)
}

/// A stable id in SkyPilot's form for a machine on which `sky` never ran.
fn short_hash(name: &str) -> String {
    use sha2::Digest as _;
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let digest = sha2::Sha256::digest(format!("{name}+{}", host.trim()));
    let first = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    format!("{first:08x}")
}
