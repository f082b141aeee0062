//! The server that is asked: the one that runs, or one for this command alone.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use skytower_api_client::credentials::Secret;
use skytower_api_client::wire::Problem;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Wrong;
use crate::config::Config;
use crate::home::{self, HomeError};
use crate::server::{Server, StartError};

/// How long an answer may take; a password is hashed meanwhile.
const WITHIN: Duration = Duration::from_secs(30);

/// A server that answers.
pub(super) struct Desk {
    http: reqwest::Client,
    url: String,
    token: Secret,
    /// The server for this command alone.
    own: Option<(CancellationToken, JoinHandle<Result<(), StartError>>)>,
}

impl Desk {
    pub(super) async fn open(home: &Path) -> Result<Self, Wrong> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(WITHIN)
            .build()
            .map_err(|error| Wrong::new(format!("cannot start: {error}")))?;
        let stop = CancellationToken::new();
        let config = Config {
            listen: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0))),
            home: home.to_owned(),
            accounts: true,
            ..Config::default()
        };
        let (url, own) = match Server::open(config, stop.clone()).await {
            Ok(server) => {
                // It may be the first start of all.
                server.show_first_password();
                let url = server.url();
                (url, Some((stop, tokio::spawn(server.serve()))))
            }
            Err(StartError::Home(HomeError::Held { pid, .. })) => {
                let card = home::card(home).ok_or_else(|| {
                    let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
                    Wrong::new(format!(
                        "the skytower server{pid} of this folder does not say where it is yet"
                    ))
                    .hint("try again in a moment")
                })?;
                (card.local.unwrap_or(card.url), None)
            }
            Err(error) => return Err(Wrong::new(error.to_string())),
        };
        let token = home::read_token(home).map_err(|error| Wrong::new(error.to_string()))?;
        Ok(Self {
            http,
            url,
            token,
            own,
        })
    }

    pub(super) async fn close(self) {
        if let Some((stop, served)) = self.own {
            stop.cancel();
            let _ = served.await;
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Wrong> {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Result<Value, Wrong> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> Result<Value, Wrong> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, Wrong> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Wrong> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|_| {
            Wrong::new(format!(
                "the skytower server at {} does not answer",
                self.url
            ))
            .hint("look into server.log in its state folder")
        })?;
        let status = answer.status();
        let bytes = answer
            .bytes()
            .await
            .map_err(|_| Wrong::new("the answer of the skytower server broke off"))?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&bytes).unwrap_or_default());
        }
        let problem: Problem = serde_json::from_slice(&bytes).map_err(|_| {
            Wrong::new(format!(
                "the skytower server answered {status}, and no word about why"
            ))
        })?;
        Err(Wrong {
            message: problem.to_string(),
            hint: problem.hint.map(|hint| hint.to_string()),
        })
    }
}
