//! The process: listening, following the engine's file, writing its own, and ending.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::files::{BACKENDS, STANDING, read_backends, write_standing};
use super::pool::{HEAD, Pool};
use super::watch::Watch;
use super::{Failure, bind, forward, note};

/// What is under way when the balancer is told to end has so long.
const GRACE: Duration = Duration::from_secs(5);
/// A request's head has to be here within this time, and the next one on the same connection too. Longer
/// than clients keep unused connections, so that it is they who close them.
const HEAD_WITHIN: Duration = Duration::from_secs(90);
/// The standing is not written more often.
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// After so long without a word the kernel asks whether a client is still there.
const ALIVE: Duration = Duration::from_secs(60);

pub(super) async fn serve(folder: &Path) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::io("listen for signals"))?;
    // Before the file is read for the first time, so that no change falls in between.
    let mut watch = Watch::new(folder);
    let backends = read_backends(folder).map_err(Failure::io(format!(
        "read {}",
        folder.join(BACKENDS).display()
    )))?;
    let mut asked = backends.listen;
    let mut listener = bind(asked).await?;
    let listen = Rc::new(Cell::new(address(&listener, asked)));
    note(format_args!(
        "the load balancer listens on {} (process {})",
        listen.get(),
        std::process::id()
    ));
    let pool = Rc::new(Pool::new());
    pool.apply(&backends);

    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    let reports = report(&pool, folder, &listen);
    let tidying = pool.tidy();
    let accepting = async {
        let mut unread = None;
        loop {
            let changed = tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => true,
                () = watch.changed() => true,
                // Ended ones are taken out as they end.
                Some(_) = connections.join_next() => false,
                accepted = listener.accept() => {
                    match accepted {
                        Ok((stream, client)) => {
                            let served = connection(stream, client, pool.clone(), stop.clone());
                            connections.spawn_local(served);
                        }
                        // Out of file descriptors, mostly: going round at once would only burn.
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                    false
                }
            };
            if !changed {
                continue;
            }
            match read_backends(folder) {
                Ok(backends) => {
                    unread = None;
                    pool.apply(&backends);
                    if backends.listen != asked {
                        match bind(backends.listen).await {
                            Ok(other) => {
                                asked = backends.listen;
                                listener = other;
                                listen.set(address(&listener, asked));
                                note(format_args!("it listens on {} now", listen.get()));
                            }
                            Err(failure) => note(format_args!("it stays where it is: {failure}")),
                        }
                    }
                }
                Err(error) => {
                    let why = error.to_string();
                    if unread.as_ref() != Some(&why) {
                        note(format_args!(
                            "{BACKENDS} cannot be read, what it said before is kept: {why}"
                        ));
                        unread = Some(why);
                    }
                }
            }
        }
        drop(listener);
        stop.cancel();
        note(format_args!(
            "the load balancer ends; {} connections are open",
            connections.len()
        ));
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, drained).await.is_err() {
            note(format_args!(
                "{} connections were not done in time",
                connections.len()
            ));
        }
        connections.shutdown().await;
    };
    tokio::select! {
        () = accepting => {}
        () = reports => {}
        () = tidying => {}
    }
    // The last word: what is upgraded ends with the process.
    let mut standing = pool.standing(listen.get());
    standing.in_flight.values_mut().for_each(|count| *count = 0);
    let _ = write_standing(folder, &standing);
    Ok(())
}

/// Where it really listens: port 0 was any.
fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Writes the standing down whenever it is another one, for ever.
async fn report(pool: &Pool, folder: &Path, listen: &Cell<SocketAddr>) {
    let mut last = None;
    let mut unwritten = false;
    loop {
        let standing = pool.standing(listen.get());
        let busy = standing.requests_per_second > 0.0;
        if last.as_ref() != Some(&standing) {
            let written = write_standing(folder, &standing);
            if let Err(error) = &written
                && !unwritten
            {
                note(format_args!("{STANDING} cannot be written: {error}"));
            }
            unwritten = written.is_err();
            last = Some(standing);
        }
        tokio::time::sleep(WRITE_EVERY).await;
        if busy {
            // The rate falls by itself.
            let second = Duration::from_secs(1).saturating_sub(WRITE_EVERY);
            let _ = tokio::time::timeout(second, pool.board.changed.notified()).await;
        } else {
            pool.board.changed.notified().await;
        }
    }
}

async fn connection(
    stream: TcpStream,
    client: SocketAddr,
    pool: Rc<Pool>,
    stop: CancellationToken,
) {
    let socket = SockRef::from(&stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(ALIVE));
    let service = service_fn(move |request| {
        let pool = pool.clone();
        async move { Ok::<_, Infallible>(forward::answer(pool, client, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    // How it ends is the client's affair.
    tokio::select! {
        _ = &mut served => {}
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
