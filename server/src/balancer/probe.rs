//! Whether a replica is ready.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use skytower_api_client::task::Probe;
use tokio::net::TcpStream;

use super::reason;

/// Of an answer, this much is read: enough that a replica's log shows no broken connections.
const READ: usize = 64 * 1024;
/// The head of an answer may be this large.
const HEAD: usize = 64 * 1024;

/// Asks replicas whether they are ready. Each probe has a connection of its own: a kept one would say
/// that something is alive, not that it can be reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prober(());

impl Prober {
    /// One that can probe any number of replicas, at the same time too.
    pub const fn new() -> Self {
        Self(())
    }

    /// Asks once. Only 200 counts, redirects are not followed. What is wrong is told so that it can
    /// follow the name of the replica: "answered 503", "refused the connection".
    pub async fn probe(&self, address: SocketAddr, probe: &Probe) -> Result<(), String> {
        let request = request(address, probe)?;
        let within = u64::from(probe.timeout_seconds.max(1));
        tokio::time::timeout(Duration::from_secs(within), ask(address, request))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {within} s")))
    }
}

fn request(address: SocketAddr, probe: &Probe) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = probe
        .path
        .parse()
        .map_err(|_| format!("cannot be asked for the path `{}`", probe.path))?;
    let headers = request.headers_mut();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static("skytower-readiness-probe"),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Ok(host) = HeaderValue::try_from(address.to_string()) {
        headers.insert(HOST, host);
    }
    if probe.post_data.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &probe.headers {
        let header = HeaderName::try_from(name)
            .ok()
            .zip(HeaderValue::try_from(value).ok());
        // The value may be a secret.
        let (name, value) = header.ok_or(format!("cannot be sent the probe's header `{name}`"))?;
        headers.insert(name, value);
    }
    if let Some(data) = &probe.post_data {
        *request.method_mut() = Method::POST;
        *request.body_mut() = Full::from(data.clone());
    }
    Ok(request)
}

async fn ask(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<(), String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| reason::unconnected(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| reason::cut(&error))?;
    let asked = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| reason::cut(&error))?;
        judge(answer).await
    };
    // The connection ends with this probe, whatever became of it.
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        biased;
        judged = &mut asked => judged,
        _ = connection => asked.await,
    }
}

async fn judge(answer: Response<Incoming>) -> Result<(), String> {
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!(
            "answered {}, and redirects are not followed",
            status.as_u16()
        ));
    }
    if status != StatusCode::OK {
        return Err(format!("answered {}", status.as_u16()));
    }
    let mut body = answer.into_body();
    let mut read = 0;
    while read < READ && !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return Err("answered 200, but not to the end".to_owned()),
            None => break,
        }
    }
    Ok(())
}
