//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::socket::{Socket, tune};
use super::strangers::{Peer, Strangers};
use super::tls::Tls;
use crate::config::{Config, Deadlines, Limits};

/// Out of file descriptors, mostly: going round at once would only burn.
const PAUSE: Duration = Duration::from_millis(100);
/// That nothing can be accepted is logged this often.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// Where connections come in.
pub(crate) struct Doors {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) strangers: Strangers,
    pub(crate) deadlines: Deadlines,
}

impl Doors {
    /// Where nobody signs in, and so nobody is a stranger.
    pub(crate) fn of_everybody(listener: TcpListener) -> Self {
        let config = Config {
            limits: Limits {
                strangers: Some(usize::MAX),
                ..Limits::default()
            },
            ..Config::default()
        };
        Self {
            listener,
            tls: None,
            strangers: Strangers::new(&config),
            deadlines: Deadlines {
                stranger: Duration::MAX,
                ..Deadlines::default()
            },
        }
    }
}

/// Serves until `stop`; returns when the last plain request was answered or `grace` is over.
pub(crate) async fn serve(doors: Doors, router: Router, stop: CancellationToken, grace: Duration) {
    let Doors {
        listener,
        tls,
        strangers,
        deadlines,
    } = doors;
    let mut connections = JoinSet::new();
    let mut warned: Option<Instant> = None;
    loop {
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            // Ended ones are taken out as they end.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Somebody went again before it was his turn.
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    if warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                        warned = Some(Instant::now());
                        tracing::warn!(%error, "connections cannot be accepted at present");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(here) = stream.local_addr() else {
            continue;
        };
        // Without a place it is dropped here, and so closed.
        let Some(peer) = strangers.arrive(address, here, Instant::now()) else {
            continue;
        };
        tune(&stream);
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, peer.clone(), tls, deadlines, router, stop) => {}
                () = peer.has_to_go(deadlines.stranger) => {
                    tracing::debug!(%address, "a stranger was sent away");
                }
            }
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, drained).await.is_err() {
        connections.shutdown().await;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    tls: Option<Arc<Tls>>,
    deadlines: Deadlines,
    router: Router,
    stop: CancellationToken,
) {
    let socket = match tls {
        None => Socket::plain(stream, peer.clone()),
        Some(tls) => match handshake(stream, &tls, deadlines.handshake).await {
            Ok(stream) => Socket::encrypted(stream, peer.clone()),
            Err(error) => {
                tracing::debug!(%error, address = %peer.address(), "no encryption was agreed on");
                return;
            }
        },
    };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (answer, peer) = (router.call(request), peer.clone());
        async move {
            let answer = answer.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                peer.upgrade();
            }
            peer.answered();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.head)
        // Of headers there are a hundred at most, which is what hyper says without being asked.
        .max_header_size(super::HEAD_LIMIT)
        .max_buf_size(super::HEAD_LIMIT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn handshake(
    stream: TcpStream,
    tls: &Tls,
    within: Duration,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    tokio::time::timeout(within, tls.accept(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
