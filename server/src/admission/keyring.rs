//! With which credentials somebody's requests go to a source.

use skytower_api_client::Text;
use skytower_api_client::action::LOCAL;
use skytower_api_client::wire::Caller;
use tokio::sync::watch;

use super::Admission;
use crate::requests::keyring::{Key, Keyring};

impl Keyring for Admission {
    fn key(&self, caller: &Caller, source: &Text) -> Key {
        let Some(team) = &self.team else {
            return Key::Own;
        };
        // The server's own account acts with the server's credentials, and the local engine wants none.
        let Some(places) = caller.acts_at.as_ref().filter(|_| *source != LOCAL) else {
            return Key::Own;
        };
        let by_account = caller
            .ids
            .first()
            .is_none_or(|id| id.starts_with("u-") || id.starts_with("proxy:"));
        if by_account {
            // The policy has let it pass, so the server was told to act for accounts there; if it is told
            // otherwise by now, nothing is at hand that could be sent.
            return if team.acts_at(source) {
                Key::Own
            } else {
                Key::Missing
            };
        }
        if !places.contains(source) {
            return Key::Missing;
        }
        let found = caller
            .ids
            .iter()
            .find_map(|id| team.delegates().credentials(id, source));
        found.map_or(Key::Missing, Key::Callers)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        match &self.team {
            Some(team) => team.delegates().changes(),
            // Nothing ever changes: whoever waits is told at once, and finds the same.
            None => watch::channel(0).1,
        }
    }
}
