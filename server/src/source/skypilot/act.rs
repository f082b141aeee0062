//! Actions: how they are divided into calls, made, looked up and followed.

use std::sync::Arc;

use skytower_api_client::action::ActionSpec;
use skytower_api_client::wire::Problem;
use skytower_api_client::{Entity, Text};

use super::client::Client;
use crate::source::{Found, Handover, HandoverError, HandoverResult};

fn not_yet() -> Problem {
    Problem::new("no_actions", 501, "actions are not carried out yet")
}

/// One call for each target.
pub(super) fn plan(_action: &'static ActionSpec, targets: &[Arc<Entity>]) -> Vec<Vec<usize>> {
    (0..targets.len()).map(|target| vec![target]).collect()
}

/// Makes a call and returns SkyPilot's request id.
pub(super) async fn submit(_client: &Client, _handover: &Handover) -> Result<Text, HandoverError> {
    Err(HandoverError::Refused(not_yet()))
}

/// Looks up what became of a call whose answer was lost.
pub(super) async fn find(_client: &Client, _handover: &Handover) -> Result<Found, Problem> {
    Err(not_yet())
}

/// Waits until SkyPilot's request has ended.
pub(super) async fn result(_client: &Client, _upstream: &Text) -> Result<HandoverResult, Problem> {
    Err(not_yet())
}
