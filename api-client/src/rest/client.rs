//! The calls.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::accounts::{IssuedToken, NewToken, PasswordChange, Rotation, TokenInfo};
use super::{
    AuditQuery, AuditVerdict, ClientError, Detail, Health, IDEMPOTENCY_KEY, ListQuery, LogQuery,
    NewRequest, Page, path,
};
use crate::endpoint::{Credentials, Endpoint};
use crate::entity::{Request, Source};
use crate::key::Key;
use crate::kind::Kind;
use crate::session::Session;
use crate::text::Text;
use crate::wire::{CLIENT_HEADER, Problem};

/// How long a call may take that waits for nothing.
const CALL: Duration = Duration::from_secs(30);
/// How long it may take to read the whole audit.
const VERIFY: Duration = Duration::from_mins(10);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// An error page longer than this is not read to its end.
const PROBLEM_LIMIT: usize = 64 * 1024;

/// `api status`: the server and what it watches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The server.
    pub health: Health,
    /// What it watches, and how fresh that is.
    pub sources: Vec<Source>,
    /// How many rows of each kind there are that this caller may see, by source.
    pub counts: BTreeMap<Text, BTreeMap<Kind, u64>>,
}

/// The part of `GET /api/v1/status` that no other call gives.
#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    counts: BTreeMap<Text, BTreeMap<Kind, u64>>,
}

/// Calls to one skytower server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    session: Session,
}

impl Client {
    /// Calls to the server of `session`.
    pub fn new(session: Session) -> Result<Self, ClientError> {
        let endpoint = session.endpoint();
        Ok(Self {
            http: http(&endpoint)?,
            session,
        })
    }

    /// The session, for a [`crate::feed::Feed`] beside the calls.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// `GET /api/health`.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get(path::HEALTH).await
    }

    /// The server's health, and the sources it watches.
    pub async fn status(&self) -> Result<Status, ClientError> {
        let health = self.health().await?;
        let rows = self.list(Kind::Source, &ListQuery::default()).await?.rows;
        let sources = rows.iter().filter_map(|row| row.as_source().cloned());
        let Counts { counts } = self.get(path::STATUS).await?;
        Ok(Status {
            health,
            sources: sources.collect(),
            counts,
        })
    }

    /// The rows of one kind.
    pub async fn list(&self, kind: Kind, query: &ListQuery) -> Result<Page, ClientError> {
        let request = self.request_to(Method::GET, &path::list(kind));
        let response = self.send(request.query(query).timeout(CALL)).await?;
        let body = self.body(response).await?;
        Page::decode(kind, &body).map_err(|error| self.garbled(&error))
    }

    /// Entries of the audit, newest first; for administrators. See [`AuditQuery`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Page, ClientError> {
        let request = self.request_to(Method::GET, path::AUDIT);
        let response = self.send(request.query(query).timeout(CALL)).await?;
        let body = self.body(response).await?;
        Page::decode(Kind::Audit, &body).map_err(|error| self.garbled(&error))
    }

    /// Is the audit whole. It is read from end to end: that may take a while.
    pub async fn verify_audit(&self) -> Result<AuditVerdict, ClientError> {
        let request = self.request_to(Method::GET, path::AUDIT_VERIFY);
        let response = self.send(request.timeout(VERIFY)).await?;
        self.json(response).await
    }

    /// One row, whole.
    pub async fn detail(&self, kind: Kind, key: &Key) -> Result<Detail, ClientError> {
        self.get(&path::detail(kind, key)).await
    }

    /// Asks for an action. `idempotency_key` makes a repetition the same request: make one (a UUID)
    /// per decision of a person, and use it again when the answer got lost.
    pub async fn create_request(
        &self,
        new: &NewRequest,
        idempotency_key: &str,
    ) -> Result<Request, ClientError> {
        let request = self
            .request_to(Method::POST, path::REQUESTS)
            .header(IDEMPOTENCY_KEY, idempotency_key)
            .json(new)
            .timeout(CALL);
        let response = self.send(request).await?;
        self.json(response).await
    }

    /// A request as it is; with `wait`, as it is when it ends or when the wait is over.
    pub async fn request(&self, id: &str, wait: Option<Duration>) -> Result<Request, ClientError> {
        let mut request = self.request_to(Method::GET, &path::request(id));
        if let Some(wait) = wait {
            let wait = format!("{}s", wait.as_secs());
            request = request.query(&[("wait", wait)]);
        }
        let response = self
            .send(request.timeout(CALL + wait.unwrap_or_default()))
            .await?;
        self.json(response).await
    }

    /// Cancels a request.
    pub async fn cancel_request(&self, id: &str) -> Result<Request, ClientError> {
        let request = self.request_to(Method::DELETE, &path::request(id));
        let response = self.send(request.timeout(CALL)).await?;
        self.json(response).await
    }

    /// Log text as it comes, cut anywhere between two characters. Not yet safe to show: the reader
    /// cuts escape sequences down to colours.
    pub async fn logs(
        &self,
        kind: Kind,
        key: &Key,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<String, ClientError>> + Send + use<>, ClientError> {
        let request = self.request_to(Method::GET, &path::logs(kind, key));
        let response = self.send(request.query(query)).await?;
        let url = self.url();
        let mut partial = Partial::default();
        Ok(response.bytes_stream().map(move |chunk| match chunk {
            Ok(bytes) => Ok(partial.push(&bytes)),
            Err(error) => Err(ClientError::of_transport(&url, &error)),
        }))
    }

    /// The caller's tokens; for administrators everybody's.
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, ClientError> {
        self.get(path::TOKENS).await
    }

    /// A new token. Its secret is in the answer, this once.
    pub async fn create_token(&self, new: &NewToken) -> Result<IssuedToken, ClientError> {
        let request = self.request_to(Method::POST, path::TOKENS).json(new);
        let response = self.send(request.timeout(CALL)).await?;
        self.json(response).await
    }

    /// A token counts no more, from now on.
    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        let request = self.request_to(Method::DELETE, &path::token(id));
        self.send(request.timeout(CALL)).await.map(drop)
    }

    /// A new secret for a token.
    pub async fn rotate_token(
        &self,
        id: &str,
        rotation: &Rotation,
    ) -> Result<IssuedToken, ClientError> {
        let request = self.request_to(Method::POST, &path::rotate(id));
        let response = self.send(request.json(rotation).timeout(CALL)).await?;
        self.json(response).await
    }

    /// A new password for oneself.
    pub async fn change_password(&self, change: &PasswordChange) -> Result<(), ClientError> {
        // By hand: no secret can be serialised by accident.
        let body = serde_json::json!({
            "current": change.current.expose(),
            "new": change.new.expose(),
        });
        let request = self.request_to(Method::POST, path::PASSWORD);
        self.send(request.json(&body).timeout(CALL)).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let request = self.request_to(Method::GET, path);
        let response = self.send(request.timeout(CALL)).await?;
        self.json(response).await
    }

    fn request_to(&self, method: Method, path: &str) -> RequestBuilder {
        let endpoint = self.session.endpoint();
        authorise(
            self.http.request(method, format!("{}{path}", endpoint.url)),
            &endpoint.credentials,
        )
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let again = request.try_clone();
        let first = self.send_once(request).await;
        let moved = match &first {
            Err(ClientError::Unreachable { .. }) => self.session.relocate().await.unwrap_or(false),
            Err(ClientError::NotSignedIn { .. }) => self.session.refused().await,
            _ => false,
        };
        match again.filter(|_| moved) {
            Some(again) => {
                // The builder holds the old address: take everything else over to the new one.
                let Ok(mut request) = again.build() else {
                    return first;
                };
                let endpoint = self.session.endpoint();
                let Some(url) = rebase(request.url(), &endpoint.url) else {
                    return first;
                };
                *request.url_mut() = url;
                for name in [reqwest::header::AUTHORIZATION, reqwest::header::COOKIE] {
                    request.headers_mut().remove(name);
                }
                let request = RequestBuilder::from_parts(self.http.clone(), request);
                self.send_once(authorise(request, &endpoint.credentials))
                    .await
            }
            None => first,
        }
    }

    async fn send_once(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request
            .send()
            .await
            .map_err(|error| ClientError::of_transport(&self.url(), &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = limited(response, PROBLEM_LIMIT).await;
        Err(refusal(&self.url(), status, &headers, &body))
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let body = self.body(response).await?;
        serde_json::from_str(&body).map_err(|error| self.garbled(&error))
    }

    async fn body(&self, response: Response) -> Result<String, ClientError> {
        response
            .text()
            .await
            .map_err(|error| ClientError::of_transport(&self.url(), &error))
    }

    fn garbled(&self, error: &serde_json::Error) -> ClientError {
        ClientError::Garbled {
            url: self.url().into(),
            detail: error.to_string().into(),
        }
    }

    fn url(&self) -> String {
        self.session.endpoint().url
    }
}

/// The same path and query at another server.
fn rebase(url: &reqwest::Url, base: &str) -> Option<reqwest::Url> {
    let query = url.query().map(|query| format!("?{query}"));
    format!("{base}{}{}", url.path(), query.unwrap_or_default())
        .parse()
        .ok()
}

/// A client for this endpoint. Proxies are for other machines: loopback is always direct.
pub(crate) fn http(endpoint: &Endpoint) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("skytower/", env!("CARGO_PKG_VERSION")))
        .default_headers(own_headers())
        .connect_timeout(CONNECT)
        // A redirect would be to a page for people to sign in at, or take credentials elsewhere.
        .redirect(reqwest::redirect::Policy::none());
    if endpoint.is_loopback() {
        builder = builder.no_proxy();
    }
    if endpoint.url.starts_with("http://") {
        // No redirect is followed, so no certificate is ever checked: to read this machine's hundreds of
        // roots would be most of what a short command costs.
        builder = builder.tls_certs_only(std::iter::empty());
    }
    builder.build().map_err(|error| ClientError::Unreachable {
        url: endpoint.shown(),
        why: super::Unreachable::Tls,
        detail: error.to_string().into(),
    })
}

/// What tells our calls from those of a page in a browser: the session cookie beside it was meant.
pub(crate) fn own_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CLIENT_HEADER, HeaderValue::from_static("1"));
    headers
}

/// Adds who is asking.
pub(crate) fn authorise(request: RequestBuilder, credentials: &Credentials) -> RequestBuilder {
    match credentials.header() {
        Some((name, value)) => match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(name, value)
            }
            // Sent without, it is refused, and the refusal says that credentials are not valid.
            Err(_) => request,
        },
        None => request,
    }
}

/// At most `limit` bytes of an answer, as text.
pub(crate) async fn limited(response: Response, limit: usize) -> String {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        body.extend_from_slice(&chunk);
        if body.len() >= limit {
            body.truncate(limit);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// What an answer that is no success means.
pub(crate) fn refusal(
    url: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &str,
) -> ClientError {
    let problem = serde_json::from_str::<Problem>(body).ok();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let wait = headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
        let wait = wait.and_then(|wait| wait.trim().parse().ok());
        return ClientError::TooMany {
            detail: problem
                .and_then(|problem| problem.detail)
                .unwrap_or_else(|| format!("{url} was asked too often").into()),
            wait: wait.map(Duration::from_secs),
        };
    }
    if status == StatusCode::UNAUTHORIZED || status.is_redirection() {
        let detail = problem
            .and_then(|problem| problem.detail)
            .unwrap_or_else(|| Text::from("credentials are needed, or those given are not valid"));
        return ClientError::NotSignedIn {
            url: url.into(),
            detail,
        };
    }
    ClientError::Problem(match problem {
        Some(mut problem) => {
            problem.status = status.as_u16();
            problem
        }
        None => Problem::new(
            "unexpected_answer",
            status.as_u16(),
            format!("{url} answered {status}"),
        )
        .hint("check that this is a skytower server: skytower api info"),
    })
}

/// Bytes that become text: a character cut in two waits for its other half.
#[derive(Default)]
struct Partial(Vec<u8>);

impl Partial {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.0) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            // What is wrong in the middle is replaced; only an unfinished end waits.
            _ => self.0.len() - unfinished(&self.0),
        };
        let rest = self.0.split_off(whole);
        let text = String::from_utf8_lossy(&self.0).into_owned();
        self.0 = rest;
        text
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|&n| {
            let lead = bytes[bytes.len() - n];
            lead >= 0xc0 && n < (lead.leading_ones() as usize)
        })
        .unwrap_or(0)
}
