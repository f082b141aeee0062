//! What the audit says of requests.

use skytower_api_client::entity::Outcome as Fared;
use skytower_api_client::rest::NewRequest;
use skytower_api_client::wire::{Caller, Problem};
use skytower_api_client::{Entity, Table, policy};
use uuid::Uuid;

use super::accept::MAX_TARGETS;
use super::record::{Record, label};
use crate::audit::{Entry, Outcome, naming};
use crate::guest::Asker;

/// The action of whoever withdraws a request.
const WITHDRAW: &str = "request.cancel";

/// Somebody's request was accepted.
pub(super) fn accepted(asker: &Asker, record: &Record) -> Entry {
    Entry::by(asker, record.action.id, Outcome::Accepted)
        .target(&targets(record))
        .request(record.id)
}

/// A request ended. How its caller had come in is said where it was accepted: this may be another life of
/// the server.
pub(super) fn ended(record: &Record) -> Entry {
    let caller = &record.caller;
    let id = super::caller_id(caller);
    let outcome = match record.status() {
        "SUCCEEDED" => Outcome::Succeeded,
        "PARTLY" => Outcome::Partly,
        "CANCELLED" => Outcome::Cancelled,
        _ if any(record, Fared::Failed) => Outcome::Failed,
        _ => Outcome::Unknown,
    };
    let why = record.row().why.unwrap_or_default();
    Entry::server(record.action.id, outcome)
        .actor(&id, &caller.name)
        .role(caller.role)
        .target(&targets(record))
        .request(record.id)
        .detail(&why)
}

/// A request was refused.
pub(super) fn refused(asker: &Asker, table: &Table, new: &NewRequest, why: &Problem) -> Entry {
    let rows: Vec<_> = new
        .targets
        .iter()
        .take(MAX_TARGETS)
        .map(|key| match table.get(key) {
            Some(row) => (label(row).to_string(), of_another(&asker.caller, row)),
            None => (key.to_string(), None),
        })
        .collect();
    let names = rows
        .iter()
        .map(|(name, owner)| (name.as_str(), owner.as_deref()));
    Entry::by(asker, &new.action, Outcome::Refused)
        .target(&naming(names))
        .detail(&why.to_string())
}

/// Somebody withdrew a request.
pub(super) fn withdrawn(asker: &Asker, id: Uuid) -> Entry {
    withdrawal(asker, id, Outcome::Succeeded)
}

/// Somebody was not allowed to withdraw a request.
pub(super) fn not_withdrawn(asker: &Asker, id: Uuid, why: &Problem) -> Entry {
    withdrawal(asker, id, Outcome::Refused).detail(&why.to_string())
}

fn withdrawal(asker: &Asker, id: Uuid, outcome: Outcome) -> Entry {
    Entry::by(asker, WITHDRAW, outcome)
        .target(&format!("request/{id}"))
        .request(id)
}

fn any(record: &Record, fared: Fared) -> bool {
    let mut targets = record.targets.iter();
    targets.any(|target| target.result.outcome == fared)
}

fn targets(record: &Record) -> String {
    let owners: Vec<_> = record
        .targets
        .iter()
        .map(|target| of_another(&record.caller, target.row.as_deref()?))
        .collect();
    let names = record.targets.iter().zip(&owners);
    naming(names.map(|(target, owner)| (target.result.target.as_str(), owner.as_deref())))
}

/// Whose it is, when it is not the caller's.
fn of_another(caller: &Caller, row: &Entity) -> Option<String> {
    let owner = row.owner().filter(|_| !policy::is_mine(caller, row))?;
    let name = if owner.name.is_empty() {
        &owner.id
    } else {
        &owner.name
    };
    Some(name.to_string())
}
