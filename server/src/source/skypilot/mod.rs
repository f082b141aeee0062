//! The SkyPilot source: watches an API server by polling it once for everybody.
//!
//! [`client`] makes calls, `map` turns answers into rows, `poll` decides when to ask what; `act` and
//! `logs` carry out actions and read logs.

mod act;
mod caller;
pub mod client;
mod detail;
mod identify;
mod logs;
mod map;
mod payload;
mod poll;

use std::sync::Arc;

use skytower_api_client::action::ActionSpec;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::{Caller, Problem};
use skytower_api_client::{Entity, Key, Text};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    BoxFuture, Detail, Found, Handover, HandoverError, HandoverResult, LogQuery, LogStream, Source,
};
use crate::config::SourceConfig;
use crate::hub::Hub;
use client::Client;
pub use poll::Pace;
use poll::Poller;
#[doc(hidden)]
pub use poll::intake;

/// A SkyPilot API server.
#[derive(Debug)]
pub struct SkyPilot {
    client: Client,
    poller: Arc<Poller>,
}

/// Opens a SkyPilot API server as a source.
pub fn open(config: &SourceConfig, hub: Arc<Hub>) -> anyhow::Result<Arc<dyn Source>> {
    Ok(Arc::new(SkyPilot::new(config, hub, Pace::default())?))
}

impl SkyPilot {
    /// As [`open`], at a pace of one's own (tests do not wait for seconds).
    pub fn new(config: &SourceConfig, hub: Arc<Hub>, pace: Pace) -> Result<Self, Problem> {
        let client = Client::new(&config.url, &config.credentials)?;
        let poller = Poller::new(Text::new(&config.name), client.clone(), hub, pace);
        Ok(Self {
            client,
            poller: Arc::new(poller),
        })
    }

    /// What makes its calls, with their counts.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Source for SkyPilot {
    fn name(&self) -> &Text {
        self.poller.name()
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(self.poller.clone().run(stop))
    }

    fn caller(&self) -> watch::Receiver<Option<Caller>> {
        self.poller.caller()
    }

    fn identify<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Option<Caller>, Problem>> {
        Box::pin(identify::identify(&self.client, self.name(), credentials))
    }

    fn upstream_calls(&self) -> Option<u64> {
        Some(self.client.calls())
    }

    fn focus(&self, key: &Key, looked_at: bool) {
        self.poller.focus(key, looked_at);
    }

    fn refresh(&self, key: &Key) {
        self.poller.refresh(key);
    }

    fn plan(&self, action: &'static ActionSpec, targets: &[Arc<Entity>]) -> Vec<Vec<usize>> {
        act::plan(action, targets)
    }

    fn submit<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Text, HandoverError>> {
        Box::pin(act::submit(&self.client, handover))
    }

    fn find<'a>(&'a self, handover: &'a Handover) -> BoxFuture<'a, Result<Found, Problem>> {
        Box::pin(act::find(&self.client, handover))
    }

    fn result<'a>(
        &'a self,
        handover: &'a Handover,
        upstream: &'a Text,
    ) -> BoxFuture<'a, Result<HandoverResult, Problem>> {
        Box::pin(act::result(&self.client, handover, upstream))
    }

    fn detail<'a>(&'a self, row: &'a Entity) -> BoxFuture<'a, Result<Detail, Problem>> {
        Box::pin(detail::detail(&self.client, row))
    }

    fn logs<'a>(&'a self, query: &'a LogQuery) -> BoxFuture<'a, Result<LogStream, Problem>> {
        Box::pin(logs::open(&self.client, query))
    }
}
