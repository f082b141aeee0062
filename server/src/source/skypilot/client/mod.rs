//! Calls to a SkyPilot API server: submit, wait for the result, read streams.
//!
//! Every call carries both version headers and SkyPilot's identity variables, follows no redirect and
//! never asks for credentials or handles. Bodies and answers are never logged. Who makes a call is said
//! with that call alone: the source and its callers share the connections, and nothing else.

mod error;
mod voice;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skytower_api_client::Text;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::wire::Problem;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

pub use error::{CallError, MIN_API_VERSION};
use error::{classify, failed};
pub use voice::Identity;
use voice::Voice;

/// The API version that is spoken: SkyPilot 0.14.1. A newer server accepts it.
const API_VERSION: &str = "62";
const VERSION_HEADER: &str = "x-skypilot-version";
const API_VERSION_HEADER: &str = "x-skypilot-api-version";
const REQUEST_ID_HEADER: &str = "x-skypilot-request-id";
/// A submission is answered in milliseconds; a starting server takes longer.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// More than any honest error.
const LARGEST_ERROR: usize = 4 * 1024 * 1024;

/// A SkyPilot API server, spoken to as somebody. Cheap to clone; clones share connections and counters.
#[derive(Clone)]
pub struct Client {
    line: Arc<Line>,
    voice: Arc<Voice>,
}

/// What everybody shares who speaks to the server.
struct Line {
    http: reqwest::Client,
    url: Text,
    calls: AtomicU64,
    calls_by_path: Mutex<BTreeMap<String, u64>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.line.url)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(default)]
    status: String,
    /// JSON in a string.
    #[serde(borrow, default)]
    return_value: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<String>,
}

impl Client {
    /// A client for the server at `url` (which holds no credentials). Nothing is asked yet.
    pub fn new(url: &str, credentials: &Credentials) -> Result<Self, Problem> {
        let unusable = |detail: &str| {
            Problem::new("bad_source", 400, detail)
                .hint("give an address such as http://127.0.0.1:46580")
        };
        let url = url.trim_end_matches('/');
        let parsed = reqwest::Url::parse(url)
            .map_err(|_| unusable("the address of the SkyPilot API server is not a URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(unusable(
                "the address of the SkyPilot API server must begin with http:// or https://",
            ));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(unusable(
                "the address of the SkyPilot API server must not hold credentials",
            ));
        }
        let voice = Voice::own(credentials, super::caller::local_identity())
            .ok_or_else(|| unusable("the credentials hold characters that no header can carry"))?;
        let mut headers = HeaderMap::new();
        headers.insert(API_VERSION_HEADER, HeaderValue::from_static(API_VERSION));
        headers.insert(VERSION_HEADER, HeaderValue::from_static("skytower"));
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_keepalive(Duration::from_secs(30))
            .build()
            .map_err(|_| unusable("the secure connection could not be set up"))?;
        Ok(Self {
            line: Arc::new(Line {
                http,
                url: Text::new(url),
                calls: AtomicU64::new(0),
                calls_by_path: Mutex::default(),
            }),
            voice: Arc::new(voice),
        })
    }

    /// The same server, spoken to with a caller's credentials in place of the source's own. They count
    /// for what they are, also where SkyPilot takes whoever comes from its own machine for an
    /// administrator.
    pub fn as_caller(
        &self,
        credentials: &Credentials,
        identity: Identity,
    ) -> Result<Self, Problem> {
        let voice = Voice::of_caller(credentials, identity).ok_or_else(|| {
            let detail = "there are no credentials that a header can carry";
            Problem::new("unusable_credentials", 400, detail).hint("sign in again")
        })?;
        Ok(Self {
            line: self.line.clone(),
            voice: Arc::new(voice),
        })
    }

    /// Its address, without credentials.
    pub fn url(&self) -> &Text {
        &self.line.url
    }

    /// On whose behalf calls are recorded where the server does not say who we are.
    pub fn identity(&self) -> Identity {
        self.voice.identity()
    }

    /// Sets what [`Client::identity`] says.
    pub fn set_identity(&self, identity: Identity) {
        self.voice.set_identity(identity);
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.line.calls.load(Ordering::Relaxed)
    }

    /// How many calls were made, by path.
    pub fn calls_by_path(&self) -> BTreeMap<String, u64> {
        let counted = self.line.calls_by_path.lock();
        counted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands a request over; the answer is SkyPilot's id of it.
    pub async fn submit(&self, path: &str, body: Value) -> Result<Text, CallError> {
        let body = self.envelope(path, body)?;
        let response = self
            .send(Method::POST, path, Some(&body), Some(SUBMIT_DEADLINE))
            .await?;
        request_id(&response).ok_or_else(|| malformed(path, "it names no request"))
    }

    /// Waits for the end of a request and returns its value.
    pub async fn result(&self, rid: &str, deadline: Duration) -> Result<Box<RawValue>, CallError> {
        let fresh = returned(&self.ended(rid, deadline).await?, None)?;
        // Nothing was known before, so nothing is the same.
        let json = fresh.map_or_else(|| "null".to_owned(), |fresh| fresh.json);
        RawValue::from_string(json).map_err(|_| malformed("/api/get", "its value is not JSON"))
    }

    /// What `/api/get` says once a request has ended.
    async fn ended(&self, rid: &str, deadline: Duration) -> Result<Bytes, CallError> {
        let path = format!("/api/get?request_id={}", escape(rid));
        let until = Instant::now() + deadline;
        let mut pause = Duration::from_millis(200);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.fetch(&path, left).await {
                // A read: proxies cut long waits, and a restart is no reason to give up.
                Err(
                    error @ (CallError::Lost { .. }
                    | CallError::Unreachable { .. }
                    | CallError::Busy(_)),
                ) => {
                    if Instant::now() + pause >= until {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(error) => return Err(error),
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    /// Hands a request over and waits for its value.
    pub async fn ask(
        &self,
        path: &str,
        body: Value,
        deadline: Duration,
    ) -> Result<Box<RawValue>, CallError> {
        let rid = self.submit(path, body).await?;
        self.result(&rid, deadline).await
    }

    /// As [`Client::ask`]; none when the value is the one with the mark `known`. A large list that has not
    /// changed is then not even unpacked.
    pub(super) async fn ask_unless(
        &self,
        path: &str,
        body: Value,
        deadline: Duration,
        known: Option<u64>,
    ) -> Result<Option<Fresh>, CallError> {
        let rid = self.submit(path, body).await?;
        returned(&self.ended(&rid, deadline).await?, known)
    }

    /// As [`Client::ask`], for the calls that are handed over with GET (`/workspaces`).
    pub async fn ask_get(
        &self,
        path_and_query: &str,
        deadline: Duration,
    ) -> Result<Box<RawValue>, CallError> {
        let response = self
            .send(Method::GET, path_and_query, None, Some(SUBMIT_DEADLINE))
            .await?;
        let rid = request_id(&response)
            .ok_or_else(|| malformed(path_and_query, "it names no request"))?;
        self.result(&rid, deadline).await
    }

    /// Reads from an endpoint that answers at once.
    pub async fn get(
        &self,
        path_and_query: &str,
        deadline: Duration,
    ) -> Result<Box<RawValue>, CallError> {
        let bytes = self.fetch(path_and_query, deadline).await?;
        raw(path_and_query, &bytes)
    }

    /// Opens a stream of text. It has no deadline: it ends when SkyPilot ends it.
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
        let body = self.envelope(path, body)?;
        let response = self.send(Method::POST, path, Some(&body), None).await?;
        Ok(self.flow(response))
    }

    /// As [`Client::stream`], with GET.
    pub async fn get_stream(
        &self,
        path_and_query: &str,
    ) -> Result<
        (
            Text,
            impl Stream<Item = Result<Bytes, CallError>> + Send + use<>,
        ),
        CallError,
    > {
        let response = self.send(Method::GET, path_and_query, None, None).await?;
        Ok(self.flow(response))
    }

    fn flow(
        &self,
        response: Response,
    ) -> (
        Text,
        impl Stream<Item = Result<Bytes, CallError>> + Send + use<>,
    ) {
        let rid = request_id(&response).unwrap_or_default();
        let url = self.line.url.clone();
        let flow = response
            .bytes_stream()
            .map_err(move |_| CallError::Lost { url: url.clone() });
        (rid, flow)
    }

    /// The body with what every body has to have. Without `env_vars` the server would put in its own.
    fn envelope(&self, path: &str, mut body: Value) -> Result<Value, CallError> {
        let identity = self.identity();
        let Some(fields) = body.as_object_mut() else {
            return Err(malformed(path, "the body is not an object"));
        };
        let variables = fields
            .entry("env_vars")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(variables) = variables.as_object_mut() {
            variables.insert("SKYPILOT_USER_ID".into(), identity.id.as_str().into());
            variables.insert("SKYPILOT_USER".into(), identity.name.as_str().into());
        }
        if path == "/status" {
            // Both default to true at SkyPilot: private keys and pickles.
            fields.insert("include_credentials".into(), false.into());
            fields.insert("include_handle".into(), false.into());
        }
        Ok(body)
    }

    async fn fetch(&self, path_and_query: &str, deadline: Duration) -> Result<Bytes, CallError> {
        let work = async {
            let response = self.send(Method::GET, path_and_query, None, None).await?;
            self.read(response, path_and_query, self.voice.largest_answer())
                .await
        };
        tokio::time::timeout(deadline, work)
            .await
            .unwrap_or_else(|_| Err(late(path_and_query, deadline)))
    }

    async fn read(&self, response: Response, path: &str, most: usize) -> Result<Bytes, CallError> {
        let mut pieces = response.bytes_stream();
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| CallError::Lost {
                url: self.line.url.clone(),
            })?;
            if whole.len() + piece.len() > most {
                return Err(malformed(path, "it is larger than anything SkyPilot says"));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    fn count(&self, path: &str) {
        self.line.calls.fetch_add(1, Ordering::Relaxed);
        let path = path.split('?').next().unwrap_or(path);
        let mut counted = self
            .line
            .calls_by_path
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counted.get_mut(path) {
            *count += 1;
        } else {
            counted.insert(path.to_owned(), 1);
        }
    }

    /// Sends a call and returns its answer when it is a success of a server that is new enough.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Option<Duration>,
    ) -> Result<Response, CallError> {
        self.count(path);
        let line = &self.line;
        let mut request = line
            .http
            .request(method, format!("{}{path}", line.url))
            .headers(self.voice.headers());
        if let Some(body) = body {
            request = request.json(body);
        }
        let sent = async {
            let response = request.send().await.map_err(|error| {
                let url = self.line.url.clone();
                if error.is_connect() {
                    CallError::Unreachable { url }
                } else {
                    CallError::Lost { url }
                }
            })?;
            self.judge(response, path).await
        };
        match deadline {
            None => sent.await,
            Some(deadline) => tokio::time::timeout(deadline, sent)
                .await
                .unwrap_or_else(|_| Err(late(path, deadline))),
        }
    }

    async fn judge(&self, response: Response, path: &str) -> Result<Response, CallError> {
        let status = response.status();
        if status == StatusCode::OK {
            check_version(response.headers(), path)?;
            return Ok(response);
        }
        let status = status.as_u16();
        let body = self.read(response, path, LARGEST_ERROR).await?;
        Err(classify(status, &body, &self.line.url))
    }
}

/// A server that does not say its API version, or an old one, is older than 0.11; anything that
/// answers in HTML is no SkyPilot API server, but perhaps a login page in front of one.
fn check_version(headers: &HeaderMap, path: &str) -> Result<(), CallError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(version) = text(API_VERSION_HEADER).and_then(|version| version.parse::<u32>().ok())
    {
        if version >= MIN_API_VERSION {
            return Ok(());
        }
    } else if text("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return Err(malformed(
            path,
            "it is a web page, perhaps of a login in front of the server",
        ));
    }
    let version = text(VERSION_HEADER).map_or_else(String::new, |version| format!(" ({version})"));
    Err(CallError::VersionMismatch(
        format!(
            "the SkyPilot API server is too old{version}: skytower needs SkyPilot 0.11 or later"
        )
        .into(),
    ))
}

/// A value that was not known before.
#[derive(Debug)]
pub(super) struct Fresh {
    /// As it came; whether it is JSON shows when it is read.
    pub(super) json: String,
    /// By which it is known the next time.
    pub(super) mark: u64,
}

/// The value of a request that has ended, from what `/api/get` answers; none when it has the mark `known`.
pub(super) fn returned(bytes: &[u8], known: Option<u64>) -> Result<Option<Fresh>, CallError> {
    let path = "/api/get";
    let payload: Payload<'_> = serde_json::from_slice(bytes)
        .map_err(|error| malformed(path, &format!("line {}", error.line())))?;
    match payload.status.as_str() {
        "CANCELLED" => return Err(CallError::Cancelled),
        "FAILED" => return Err(failed(payload.error.as_deref())),
        "SUCCEEDED" => {}
        _ => return Err(malformed(path, "the request has not ended")),
    }
    let packed = payload.return_value.map_or("null", RawValue::get);
    let mark = xxh3_64(packed.as_bytes());
    if known == Some(mark) {
        return Ok(None);
    }
    let json: Option<String> =
        serde_json::from_str(packed).map_err(|_| malformed(path, "its value is no text"))?;
    let json = json.unwrap_or_else(|| "null".into());
    Ok(Some(Fresh { json, mark }))
}

fn raw(path: &str, bytes: &[u8]) -> Result<Box<RawValue>, CallError> {
    serde_json::from_slice(bytes).map_err(|_| malformed(path, "it is not JSON"))
}

fn request_id(response: &Response) -> Option<Text> {
    let id = response.headers().get(REQUEST_ID_HEADER)?.to_str().ok()?;
    (!id.is_empty()).then(|| Text::new(id))
}

fn malformed(path: &str, reason: &str) -> CallError {
    CallError::Malformed {
        path: plain(path),
        reason: reason.into(),
    }
}

fn late(path: &str, deadline: Duration) -> CallError {
    CallError::Deadline {
        path: plain(path),
        seconds: deadline.as_secs(),
    }
}

fn plain(path: &str) -> Text {
    path.split('?').next().unwrap_or(path).into()
}

/// A value for a query string.
pub fn escape(value: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte as char);
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_unpacked_once() {
        let body = br#"{"status":"SUCCEEDED","return_value":"[\"a\\u00e9\", 1]","error":"null"}"#;
        let Some(Fresh { json, mark }) = returned(body, None).unwrap() else {
            panic!("nothing was known")
        };
        assert_eq!(json, r#"["a\u00e9", 1]"#);
        assert!(returned(body, Some(mark)).unwrap().is_none());
        assert!(returned(body, Some(mark + 1)).unwrap().is_some());
        let nothing = returned(br#"{"status":"SUCCEEDED","return_value":null}"#, None);
        assert_eq!(nothing.unwrap().unwrap().json, "null");
        assert!(returned(br#"{"status":"SUCCEEDED","return_value":[1]}"#, None).is_err());
        assert!(returned(br#"{"status":"FAILED","return_value":"1"}"#, Some(mark)).is_err());
    }
}
