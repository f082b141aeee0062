//! Requests: everything that changes something.

use std::path::Path;
use std::sync::Arc;

use skytower_api_client::policy::OthersPolicy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::source::Source;

/// The requests of a server.
#[derive(Debug)]
pub struct Requests {
    running: watch::Sender<usize>,
}

impl Requests {
    /// Opens the journal in the state folder.
    pub fn open(
        _home: &Path,
        _hub: Arc<Hub>,
        _sources: Arc<[Arc<dyn Source>]>,
        _others: OthersPolicy,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            running: watch::Sender::new(0),
        }))
    }

    /// Carries requests out until `stop`, and returns when what it wrote is safe.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// How many requests have not ended: a server with one does not end by itself.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }
}
