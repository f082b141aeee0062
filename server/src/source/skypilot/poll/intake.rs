//! The way of a large list from the bytes of an answer into the hub, without a SkyPilot to ask: for the
//! benchmark alone.

use std::sync::Arc;

use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::Problem;

use super::ledger::Ledger;
use super::{Pace, Poller};
use crate::hub::Hub;
use crate::source::skypilot::client::{CallError, Client, returned};

/// Takes in lists of unfinished jobs, one after the other.
#[derive(Debug)]
pub struct JobLists {
    poller: Poller,
    ledger: Ledger,
}

impl JobLists {
    /// Nothing was taken in yet.
    pub fn new(hub: Arc<Hub>) -> Result<Self, Problem> {
        let client = Client::new("http://127.0.0.1:1", &Credentials::default())?;
        Ok(Self {
            poller: Poller::new("prod".into(), client, hub, Pace::default()),
            ledger: Ledger::default(),
        })
    }

    /// Takes in the body that `/api/get` answers.
    pub fn take(&mut self, body: &[u8]) -> Result<(), CallError> {
        let answer = returned(body, self.ledger.known())?;
        self.poller.take_live(answer, &mut self.ledger)?;
        Ok(())
    }
}
