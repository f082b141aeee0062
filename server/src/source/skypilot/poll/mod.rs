//! When to ask SkyPilot what.

use std::sync::Arc;
use std::time::Duration;

use skytower_api_client::wire::Caller;
use skytower_api_client::{Key, Text};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::hub::Hub;

/// How often to ask.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two looks at SkyPilot's requests.
    pub requests: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            requests: Duration::from_secs(1),
        }
    }
}

/// Asks, and writes what it learns into the hub.
#[derive(Debug)]
pub(super) struct Poller {
    name: Text,
    caller: watch::Sender<Option<Caller>>,
}

impl Poller {
    pub(super) fn new(name: Text, _client: Client, _hub: Arc<Hub>, _pace: Pace) -> Self {
        Self {
            name,
            caller: watch::Sender::new(None),
        }
    }

    pub(super) fn name(&self) -> &Text {
        &self.name
    }

    pub(super) fn caller(&self) -> watch::Receiver<Option<Caller>> {
        self.caller.subscribe()
    }

    pub(super) fn focus(&self, _key: &Key, _looked_at: bool) {}

    pub(super) fn refresh(&self, _key: &Key) {}

    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
