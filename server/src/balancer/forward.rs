//! One request, from a client to a replica and back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::try_join;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, EXPECT, HOST, HeaderValue, RETRY_AFTER};
use hyper::http::request;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::board::Board;
use super::pool::{Lease, Outgoing, Pool, Sender};
use super::{headers, reason};

/// A body that is not longer is held whole, where that allows the request to be repeated.
const SHORT: u64 = 64 * 1024;
/// So long a request waits for a replica when there is none: a replacement may be about to be ready.
const PATIENCE: Duration = Duration::from_secs(2);
/// A request that was cut off is repeated so often. Not without end: it may be what kills replicas.
const REPEATS: u32 = 4;

/// What goes to a client: as it comes from the replica, or whole where it is short.
pub(super) type Answer = Either<Streamed, Full<Bytes>>;

/// Answers a request, whatever that takes.
pub(super) async fn answer(
    pool: Rc<Pool>,
    client: SocketAddr,
    mut request: Request<Incoming>,
) -> Response<Answer> {
    pool.board.request();
    if request.method() == Method::CONNECT {
        return said(
            StatusCode::METHOD_NOT_ALLOWED,
            "this is a load balancer, not a proxy".to_owned(),
        );
    }
    let upgrade = headers::upgrade(request.headers());
    let client_side = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut head, body) = request.into_parts();
    headers::strip(&mut head.headers);
    // The connection to the client sees to it.
    head.headers.remove(EXPECT);
    headers::forwarded_for(&mut head.headers, client.ip());
    if let Some(to) = upgrade {
        headers::set_upgrade(&mut head.headers, to);
    }
    head.uri = origin(&head.uri);
    let body = if repeatable(&head.method) {
        Payload::short(body).await
    } else {
        Ok(Payload::of(body))
    };
    let Ok(body) = body else {
        // The client left before it had said all; nobody reads this.
        return said(
            StatusCode::BAD_REQUEST,
            "the request did not end".to_owned(),
        );
    };
    let mut errand = Errand {
        repeatable: repeatable(&head.method) && matches!(body, Payload::Whole(_)),
        head,
        body,
        client_side,
    };
    match errand.run(&pool).await {
        Ok(response) => response,
        Err(response) => {
            pool.board.failure();
            response
        }
    }
}

/// Does doing it twice do the same as once.
fn repeatable(method: &Method) -> bool {
    // HTTP's own word for it counts TRACE too.
    method.is_idempotent()
}

/// Without whom it is asked from: `/path?query`.
fn origin(uri: &Uri) -> Uri {
    uri.path_and_query()
        .map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
}

fn said(status: StatusCode, what: String) -> Response<Answer> {
    let mut response = Response::new(Either::Right(Full::from(what + "\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn nobody_ready(last: Option<String>) -> Response<Answer> {
    let why = last.unwrap_or_else(|| "none is up at the moment".to_owned());
    let mut response = said(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("no replica of this service is ready: {why}"),
    );
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(PATIENCE.as_secs()));
    response
}

/// The body of a request.
enum Payload {
    /// It can be sent again.
    Whole(Bytes),
    /// It can be sent once; it is not here while it is.
    Once(Option<Incoming>),
}

impl Payload {
    fn of(body: Incoming) -> Self {
        if body.is_end_stream() {
            Self::Whole(Bytes::new())
        } else {
            Self::Once(Some(body))
        }
    }

    /// Reads it when it is short.
    async fn short(body: Incoming) -> Result<Self, hyper::Error> {
        if body.size_hint().upper().is_some_and(|size| size <= SHORT) {
            Ok(Self::Whole(body.collect().await?.to_bytes()))
        } else {
            Ok(Self::Once(Some(body)))
        }
    }

    fn take(&mut self) -> Outgoing {
        match self {
            Self::Whole(bytes) => Either::Right(Full::new(bytes.clone())),
            Self::Once(body) => body
                .take()
                .map_or_else(|| Either::Right(Full::default()), Either::Left),
        }
    }

    fn put_back(&mut self, body: Outgoing) {
        if let (Self::Once(place), Either::Left(body)) = (self, body) {
            *place = Some(body);
        }
    }
}

/// Why a replica did not answer a request.
enum Failed {
    /// It has not got it.
    Unsent(String),
    /// It may have got it, and even carried it out.
    Cut(String),
    /// What an earlier request had left of a connection was not there any more. Says nothing of the
    /// replica.
    Stale(String),
    /// The client did not end its request.
    Client,
}

/// A request that is to be answered.
struct Errand {
    head: request::Parts,
    body: Payload,
    /// Whether it may be sent again after it was sent.
    repeatable: bool,
    /// The client's side of an upgraded connection, when that is what it wants.
    client_side: Option<OnUpgrade>,
}

impl Errand {
    /// An error is an answer too.
    async fn run(&mut self, pool: &Pool) -> Result<Response<Answer>, Response<Answer>> {
        let mut tried = Vec::new();
        let mut repeats = 0;
        let mut until = None;
        let mut last = None;
        loop {
            let Some(lease) = pool.lease(&tried) else {
                let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
                if !pool.wait(until).await {
                    return Err(nobody_ready(last));
                }
                tried.clear();
                continue;
            };
            let member = lease.member().clone();
            let failed = match self.attempt(lease, &pool.board).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let (why, sent) = match failed {
                Failed::Client => {
                    return Ok(said(
                        StatusCode::BAD_REQUEST,
                        "the request did not end".to_owned(),
                    ));
                }
                Failed::Unsent(why) => {
                    member.failed(&why);
                    tried.push(member.clone());
                    (why, false)
                }
                Failed::Cut(why) => {
                    member.failed(&why);
                    tried.push(member.clone());
                    (why, true)
                }
                Failed::Stale(why) => {
                    member.forget();
                    (why, true)
                }
            };
            let sentence = format!("replica {} {why}", member.id());
            if sent {
                let then = if !self.repeatable {
                    "; the request is not sent again, because it may have been carried out"
                } else if repeats == REPEATS {
                    ", and so did others before"
                } else {
                    ""
                };
                if !then.is_empty() {
                    return Err(said(StatusCode::BAD_GATEWAY, sentence + then));
                }
                repeats += 1;
            }
            last = Some(sentence);
        }
    }

    async fn attempt(
        &mut self,
        lease: Lease,
        board: &Rc<Board>,
    ) -> Result<Response<Answer>, Failed> {
        let member = lease.member().clone();
        let kept = if self.shares() { member.reuse() } else { None };
        let stale = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => member
                .connect()
                .await
                .map_err(|error| Failed::Unsent(reason::unconnected(&error)))?,
        };
        let request = self.request(&member.address().to_string());
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let why = reason::cut(error.error());
                return Err(if let Some(request) = error.take_message() {
                    self.body.put_back(request.into_body());
                    if stale {
                        Failed::Stale(why)
                    } else {
                        Failed::Unsent(why)
                    }
                } else if error.error().is_user() {
                    Failed::Client
                } else if stale {
                    Failed::Stale(why)
                } else {
                    Failed::Cut(why)
                });
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, lease);
        }
        let (mut head, body) = response.into_parts();
        head.version = Version::HTTP_11;
        headers::strip(&mut head.headers);
        let body = if self.repeatable && body.size_hint().upper().is_some_and(|size| size <= SHORT)
        {
            // The client has seen nothing yet: when it is cut off now, another one can be asked.
            let body = body
                .collect()
                .await
                .map_err(|error| Failed::Cut(reason::cut(&error)))?;
            member.answered();
            if self.shares() {
                member.keep(sender);
            }
            Either::Right(Full::new(body.to_bytes()))
        } else {
            member.answered();
            Either::Left(Streamed {
                body,
                ended: false,
                sender: Some(sender),
                shares: self.shares(),
                lease,
                board: board.clone(),
            })
        };
        Ok(Response::from_parts(head, body))
    }

    /// Whether it goes over a connection that others use before and after it. A replica may close one at
    /// the moment it is used again, and then nobody knows whether the request was read: only what can be
    /// repeated may be lost so.
    fn shares(&self) -> bool {
        self.repeatable && self.client_side.is_none()
    }

    fn request(&mut self, replica: &str) -> Request<Outgoing> {
        let mut request = Request::new(self.body.take());
        request.method_mut().clone_from(&self.head.method);
        request.uri_mut().clone_from(&self.head.uri);
        request.headers_mut().clone_from(&self.head.headers);
        if !request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::try_from(replica)
        {
            request.headers_mut().insert(HOST, host);
        }
        if !self.shares() && self.client_side.is_none() {
            headers::set_close(request.headers_mut());
        }
        request
    }

    /// Connects both sides with each other, for as long as both want that.
    fn switch(
        &mut self,
        mut response: Response<Incoming>,
        lease: Lease,
    ) -> Result<Response<Answer>, Failed> {
        let to = headers::upgrade(response.headers());
        let (Some(to), Some(client_side)) = (to, self.client_side.take()) else {
            return Err(Failed::Cut(
                "switched to a protocol that nobody asked for".to_owned(),
            ));
        };
        lease.member().answered();
        let replica_side = hyper::upgrade::on(&mut response);
        tokio::task::spawn_local(async move {
            if let Ok((client, replica)) = try_join(client_side, replica_side).await {
                let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
                // Either side may break it off: that is how they end.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
            }
            drop(lease);
        });
        let (mut head, _) = response.into_parts();
        head.version = Version::HTTP_11;
        headers::strip(&mut head.headers);
        headers::set_upgrade(&mut head.headers, to);
        Ok(Response::from_parts(head, Either::Right(Full::default())))
    }
}

/// A replica's answer on its way to the client. The client's pace is the replica's.
pub(super) struct Streamed {
    body: Incoming,
    ended: bool,
    /// As long as it is here, so is the connection.
    sender: Option<Sender>,
    /// Whether others may use the connection after it.
    shares: bool,
    lease: Lease,
    board: Rc<Board>,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.ended = true,
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                self.lease.member().failed("cut an answer off");
                self.board.failure();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // If it has not ended, the client left: the connection to the replica ends too.
        if self.shares
            && (self.ended || self.body.is_end_stream())
            && let Some(sender) = self.sender.take()
        {
            self.lease.member().keep(sender);
        }
    }
}
