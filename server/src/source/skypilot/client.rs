//! Calls to a SkyPilot API server.
//!
//! Almost everything there is asynchronous: a POST answers at once with a request id in a header, and
//! `/api/get` blocks until that request has ended. Every call carries both version headers (one alone
//! counts as an ancient client) and an identity in `env_vars` (without it the server acts as itself and
//! echoes its own variables in errors). Bodies of errors are never logged: a 422 repeats its input.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skytower_api_client::Text;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::Problem;

/// The API version skytower is written against (SkyPilot 0.14.1).
const API_VERSION: u32 = 62;
/// The oldest API version that both sides accept (SkyPilot 0.11).
const OLDEST_API_VERSION: u32 = 24;
/// How long a server may take to acknowledge a request. Generous: right after a restart it imports its clouds first.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(60);

/// Who the calls are made as where the server does not authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SkyPilot's user hash.
    pub id: String,
    /// The user's name.
    pub name: String,
}

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No connection: the server certainly did not get it.
    #[error("cannot reach SkyPilot at {url}: {why}")]
    Unreachable {
        /// The server's address.
        url: Text,
        /// What went wrong on the way.
        why: Text,
    },
    /// It was sent, and the answer was lost: nobody knows whether the server acted.
    #[error("the answer of SkyPilot was lost: {0}")]
    Lost(Text),
    /// No answer in the time given.
    #[error("SkyPilot did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The credentials are missing or refused.
    #[error("SkyPilot asks for a login{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NeedsAuth(Option<Text>),
    /// The credentials are known but may not do this.
    #[error("SkyPilot does not allow it: {0}")]
    Forbidden(Text),
    /// Too old a server, or too new for us.
    #[error("{0}")]
    VersionMismatch(Text),
    /// The server takes no work right now: it certainly did not accept this.
    #[error("SkyPilot is busy or shutting down")]
    Busy,
    /// The thing asked for (mostly a request id) is not there.
    #[error("SkyPilot does not know it: {0}")]
    NotFound(Text),
    /// The request ran and failed.
    #[error("{message}")]
    Failed {
        /// SkyPilot's type of error, such as `ClusterNotUpError`.
        kind: Text,
        /// Its message.
        message: Text,
    },
    /// The request was cancelled by somebody.
    #[error("the request was cancelled at SkyPilot")]
    Cancelled,
    /// An answer that is not what SkyPilot answers.
    #[error("an unexpected answer of SkyPilot: {0}")]
    Malformed(Text),
}

impl CallError {
    /// The server certainly did not act on it: sending it again is safe.
    pub fn certainly_not_accepted(&self) -> bool {
        !matches!(self, CallError::Lost(_) | CallError::Deadline(_))
    }

    /// The server said no (rather than nothing, or `later`).
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            CallError::NeedsAuth(_)
                | CallError::Forbidden(_)
                | CallError::VersionMismatch(_)
                | CallError::NotFound(_)
                | CallError::Failed { .. }
                | CallError::Cancelled
                | CallError::Malformed(_)
        )
    }

    /// For people: what happened and what to do.
    pub fn problem(&self) -> Problem {
        let (code, status, hint) = match self {
            CallError::Unreachable { .. } => (
                "upstream_unreachable",
                502,
                Some(
                    "check that the SkyPilot API server runs and that the address is right"
                        .to_owned(),
                ),
            ),
            CallError::Lost(_) | CallError::Deadline(_) => ("upstream_timeout", 504, None),
            CallError::NeedsAuth(_) => (
                "upstream_needs_auth",
                502,
                Some("sign in: skytower api login -e URL".to_owned()),
            ),
            CallError::Forbidden(_) => ("forbidden", 403, None),
            CallError::VersionMismatch(_) => (
                "upstream_version",
                502,
                Some("skytower works with SkyPilot 0.11 and later".to_owned()),
            ),
            CallError::Busy => (
                "upstream_busy",
                503,
                Some("try again in a moment".to_owned()),
            ),
            CallError::NotFound(_) => ("not_found", 404, None),
            CallError::Failed { .. } => ("upstream_failed", 502, None),
            CallError::Cancelled => ("upstream_cancelled", 409, None),
            CallError::Malformed(_) => (
                "upstream_malformed",
                502,
                Some("is this a SkyPilot API server? try: curl URL/api/health".to_owned()),
            ),
        };
        let problem = Problem::new(code, status, self.to_string());
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

/// A SkyPilot API server. Cheap to clone; clones share connections and counters.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    url: String,
    credentials: Credentials,
    identity: Identity,
    calls: AtomicU64,
}

impl Client {
    /// A client of the server at `url` (without credentials).
    pub fn new(url: &str, credentials: &Credentials, identity: Identity) -> Result<Self, Problem> {
        let http = reqwest::Client::builder()
            // A followed POST turns into a GET, and a login page is no answer.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(20))
            .no_proxy_on_loopback(url)
            .build()
            .map_err(|error| {
                Problem::new("tls", 500, format!("cannot set up connections: {error}"))
            })?;
        Ok(Self(Arc::new(Inner {
            http,
            url: url.trim_end_matches('/').to_owned(),
            credentials: credentials.clone(),
            identity,
            calls: AtomicU64::new(0),
        })))
    }

    /// The server's address, without credentials.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Who the calls are made as where the server does not authenticate.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// HTTP requests made so far.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Starts a request and returns its id.
    pub async fn submit(&self, path: &str, body: Value) -> Result<Text, CallError> {
        let response = self
            .send(
                Method::POST,
                path,
                Some(self.envelope(body)),
                Some(SUBMIT_DEADLINE),
            )
            .await?;
        let response = self.checked(response).await?;
        response
            .headers()
            .get("x-skypilot-request-id")
            .and_then(|value| value.to_str().ok())
            .map(Text::new)
            .ok_or_else(|| CallError::Malformed("no request id".into()))
    }

    /// Waits until a request has ended and returns its value.
    pub async fn result(&self, rid: &str, deadline: Duration) -> Result<Box<RawValue>, CallError> {
        let ended = tokio::time::timeout(deadline, async {
            loop {
                let path = format!("/api/get?request_id={rid}");
                match self.send(Method::GET, &path, None, None).await {
                    // Proxies cut long waits; it is a read, so it is simply asked again.
                    Ok(response) if matches!(response.status().as_u16(), 502 | 503 | 504 | 524) => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Ok(response) => return self.ended(response).await,
                    Err(CallError::Lost(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
                    Err(error) => return Err(error),
                }
            }
        });
        ended.await.unwrap_or(Err(CallError::Deadline(deadline)))
    }

    /// Starts a request, waits for its end and returns its value.
    pub async fn ask(
        &self,
        path: &str,
        body: Value,
        deadline: Duration,
    ) -> Result<Box<RawValue>, CallError> {
        let rid = self.submit(path, body).await?;
        self.result(&rid, deadline).await
    }

    /// Asks a synchronous endpoint.
    pub async fn get(&self, path: &str, deadline: Duration) -> Result<Box<RawValue>, CallError> {
        let asked = async {
            let response = self
                .checked(self.send(Method::GET, path, None, None).await?)
                .await?;
            let text = body_text(response).await?;
            RawValue::from_string(text).map_err(|_| CallError::Malformed("not JSON".into()))
        };
        tokio::time::timeout(deadline, asked)
            .await
            .unwrap_or(Err(CallError::Deadline(deadline)))
    }

    /// Starts a request whose answer is a stream (logs); returns its id too.
    pub async fn stream(
        &self,
        path: &str,
        body: Value,
    ) -> Result<
        (
            Text,
            impl Stream<Item = Result<Bytes, CallError>> + Send + use<>,
        ),
        CallError,
    > {
        self.streamed(Method::POST, path, Some(self.envelope(body)))
            .await
    }

    /// Opens a stream with a GET.
    pub async fn get_stream(
        &self,
        path: &str,
    ) -> Result<
        (
            Text,
            impl Stream<Item = Result<Bytes, CallError>> + Send + use<>,
        ),
        CallError,
    > {
        self.streamed(Method::GET, path, None).await
    }

    async fn streamed(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<
        (
            Text,
            impl Stream<Item = Result<Bytes, CallError>> + Send + use<>,
        ),
        CallError,
    > {
        let response = self
            .checked(self.send(method, path, body, None).await?)
            .await?;
        let rid = response
            .headers()
            .get("x-skypilot-request-id")
            .and_then(|value| value.to_str().ok())
            .map(Text::new)
            .unwrap_or_default();
        let stream = response
            .bytes_stream()
            .map(|piece| piece.map_err(|error| CallError::Lost(reason(&error))));
        Ok((rid, stream))
    }

    /// `body` with the identity that every body has to carry.
    fn envelope(&self, body: Value) -> Value {
        let mut body = match body {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        body.insert(
            "env_vars".to_owned(),
            json!({ "SKYPILOT_USER_ID": self.0.identity.id, "SKYPILOT_USER": self.0.identity.name }),
        );
        Value::Object(body)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        deadline: Option<Duration>,
    ) -> Result<Response, CallError> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let mut request = self
            .0
            .http
            .request(method, format!("{}{path}", self.0.url))
            .header("X-SkyPilot-API-Version", API_VERSION.to_string())
            .header(
                "X-SkyPilot-Version",
                concat!("skytower-", env!("CARGO_PKG_VERSION")),
            );
        if let Some((name, value)) = self.0.credentials.header() {
            request = request.header(name, value);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        if let Some(deadline) = deadline {
            request = request.timeout(deadline);
        }
        request.send().await.map_err(|error| {
            if error.is_connect() {
                CallError::Unreachable {
                    url: Text::new(&self.0.url),
                    why: reason(&error),
                }
            } else if let (true, Some(deadline)) = (error.is_timeout(), deadline) {
                CallError::Deadline(deadline)
            } else {
                CallError::Lost(reason(&error))
            }
        })
    }

    /// Turns every answer but a good one into its error.
    async fn checked(&self, response: Response) -> Result<Response, CallError> {
        let status = response.status();
        if status.is_success() {
            let version = response
                .headers()
                .get("x-skypilot-api-version")
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.parse::<u32>().ok());
            return match version {
                Some(version) if version >= OLDEST_API_VERSION => Ok(response),
                Some(version) => Err(CallError::VersionMismatch(Text::from(format!(
                    "the SkyPilot API server is too old (API version {version}, at least {OLDEST_API_VERSION} is needed)"
                )))),
                None => Err(CallError::VersionMismatch(
                    "this is no SkyPilot API server, or one older than 0.11".into(),
                )),
            };
        }
        if status.is_redirection() {
            return Err(CallError::NeedsAuth(None));
        }
        let text = body_text(response).await.unwrap_or_default();
        Err(error_of(status, &text))
    }

    /// The value of an ended request.
    async fn ended(&self, response: Response) -> Result<Box<RawValue>, CallError> {
        let status = response.status();
        let text = body_text(response).await?;
        if !status.is_success() {
            return Err(error_of(status, &text));
        }
        let payload: Payload = serde_json::from_str(&text)
            .map_err(|_| CallError::Malformed("not a request".into()))?;
        match payload.status.as_str() {
            "CANCELLED" => Err(CallError::Cancelled),
            "FAILED" => Err(payload.failure()),
            _ => {
                // The value is JSON inside a string.
                let value = payload.return_value.unwrap_or_else(|| "null".to_owned());
                RawValue::from_string(value)
                    .map_err(|_| CallError::Malformed("the value is not JSON".into()))
            }
        }
    }
}

/// What `/api/get` answers, as far as it concerns us. The pickles in it are never looked at.
#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    status: String,
    return_value: Option<String>,
    error: Option<String>,
}

impl Payload {
    fn failure(&self) -> CallError {
        #[derive(Deserialize)]
        struct Inner {
            #[serde(default, rename = "type")]
            kind: Text,
            #[serde(default)]
            message: Text,
        }
        match self.error.as_deref().map(serde_json::from_str::<Inner>) {
            Some(Ok(Inner { kind, message })) => CallError::Failed { kind, message },
            _ => CallError::Failed {
                kind: Text::default(),
                message: "it failed and SkyPilot does not say why".into(),
            },
        }
    }
}

fn error_of(status: StatusCode, body: &str) -> CallError {
    #[derive(Deserialize)]
    struct Detailed {
        detail: Option<Value>,
        error: Option<Value>,
        message: Option<Text>,
    }
    let parsed = serde_json::from_str::<Detailed>(body).ok();
    let sentence = || {
        let detail = parsed
            .as_ref()
            .and_then(|body| body.detail.as_ref())
            .and_then(Value::as_str);
        let plain = serde_json::from_str::<String>(body).ok();
        Text::from(
            detail
                .map(str::to_owned)
                .or(plain)
                .unwrap_or_else(|| format!("HTTP {}", status.as_u16())),
        )
    };
    match status.as_u16() {
        400 if parsed.as_ref().is_some_and(|body| {
            body.error.as_ref().and_then(Value::as_str) == Some("version_mismatch")
        }) =>
        {
            let message = parsed.and_then(|body| body.message);
            CallError::VersionMismatch(message.unwrap_or_else(|| "the versions do not fit".into()))
        }
        401 => CallError::NeedsAuth(Some(sentence())),
        403 => CallError::Forbidden(sentence()),
        404 => CallError::NotFound(sentence()),
        // The body repeats what was sent: only the fact is told.
        422 => CallError::Malformed("it did not understand the request (HTTP 422)".into()),
        502..=504 => CallError::Busy,
        500 => {
            let payload = parsed
                .and_then(|body| body.detail)
                .and_then(|detail| serde_json::from_value::<Payload>(detail).ok());
            match payload {
                Some(payload) if payload.error.is_some() => payload.failure(),
                _ => CallError::Failed {
                    kind: "InternalServerError".into(),
                    message: "SkyPilot failed inside (HTTP 500)".into(),
                },
            }
        }
        other => CallError::Malformed(Text::from(format!("HTTP {other}"))),
    }
}

async fn body_text(response: Response) -> Result<String, CallError> {
    response
        .text()
        .await
        .map_err(|error| CallError::Lost(reason(&error)))
}

/// The innermost reason, without the address (it may hold a password).
fn reason(error: &reqwest::Error) -> Text {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    Text::from(inner.to_string())
}

trait NoProxyOnLoopback {
    fn no_proxy_on_loopback(self, url: &str) -> Self;
}

impl NoProxyOnLoopback for reqwest::ClientBuilder {
    /// A proxy from the environment has no business between two programs on one machine.
    fn no_proxy_on_loopback(self, url: &str) -> Self {
        let host = reqwest::Url::parse(url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        match host.as_deref() {
            Some("localhost" | "127.0.0.1" | "[::1]") => self.no_proxy(),
            _ => self,
        }
    }
}
