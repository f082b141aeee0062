//! Is the server there, what is it, and who are we to it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use skytower_api_client::Text;
use tokio::time::Instant;

use super::Poller;
use crate::source::skypilot::caller::{RoleAnswer, caller};
use crate::source::skypilot::client::{CallError, Identity};

const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Health {
    status: String,
    version: Option<Text>,
    api_version: Option<Text>,
    commit: Option<Text>,
}

impl Poller {
    /// Probes for ever: quickly while the server is away, slowly otherwise.
    pub(super) async fn health(self: Arc<Self>) {
        let mut failures: u32 = 0;
        loop {
            let pause = match self.probe().await {
                Ok(()) => {
                    failures = 0;
                    self.pace.health
                }
                Err(error) => {
                    self.link.send_replace(false);
                    self.board.broken(error);
                    failures += 1;
                    (self.pace.gap * (1 << failures.min(4))).min(self.pace.health)
                }
            };
            let up = failures == 0;
            let ticks = async {
                loop {
                    tokio::time::sleep(self.pace.publish).await;
                    self.board.tick();
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ticks => {}
                () = async {
                    tokio::time::sleep(self.pace.gap).await;
                    self.health_wake.notified().await;
                }, if up => {}
            }
        }
    }

    async fn probe(&self) -> Result<(), CallError> {
        let started = Instant::now();
        let answer = self.client.get("/api/health", DEADLINE).await?;
        let latency = started.elapsed();
        let health: Health = serde_json::from_str(answer.get()).unwrap_or_default();
        match health.status.as_str() {
            "healthy" => {}
            "needs_auth" => {
                return Err(CallError::NeedsAuth {
                    url: self.client.url().clone(),
                    message: None,
                });
            }
            _ => {
                return Err(CallError::Malformed {
                    path: "/api/health".into(),
                    reason: "it does not say that it is healthy".into(),
                });
            }
        }
        let other = self
            .board
            .is(health.version, health.api_version, health.commit);
        if other || self.caller.borrow().is_none() {
            self.identify().await?;
        }
        self.board.up(latency);
        if !self.link.send_replace(true) {
            self.wake_all();
        }
        Ok(())
    }

    /// Asks who we are. A server without that call (none is known) is taken at its loosest: as the
    /// `sky` command line would be.
    async fn identify(&self) -> Result<(), CallError> {
        let answer = self.client.get("/users/role", DEADLINE).await?;
        let role: RoleAnswer =
            serde_json::from_str(answer.get()).map_err(|_| CallError::Malformed {
                path: "/users/role".into(),
                reason: "it names no role".into(),
            })?;
        let caller = caller(role, &self.client.identity());
        if let Some(id) = caller.ids.first() {
            self.client.set_identity(Identity {
                id: id.clone(),
                name: caller.name.clone(),
            });
        }
        self.caller.send_replace(Some(caller));
        Ok(())
    }
}
