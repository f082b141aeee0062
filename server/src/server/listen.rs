//! The address that a server takes, and whom it may be reached by.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::{Config, DEFAULT_LISTEN};
use crate::http::Own;

/// How often an address that is taken is tried again, and for how long.
const SOCKET_TRIES: usize = 20;
const SOCKET_EVERY: Duration = Duration::from_millis(25);

/// Other machines are let in only where people are told apart, and where nobody on the way can listen
/// by mistake.
pub(super) fn check_reach(config: &Config) -> Result<(), StartError> {
    let Some(listen) = config.listen else {
        return Ok(());
    };
    if listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if !config.accounts {
        return Err(StartError::NoAccounts(listen));
    }
    if config.tls.is_none() && config.proxy.is_none() && !config.plain_http {
        return Err(StartError::InTheClear(listen));
    }
    Ok(())
}

/// Takes the address that was asked for, or the usual one, or any free port when that one is taken.
pub(super) async fn open(asked: Option<SocketAddr>) -> Result<TcpListener, StartError> {
    let listen = asked.unwrap_or(DEFAULT_LISTEN);
    let mut bound = TcpListener::bind(listen).await;
    if asked.is_some() {
        // What a server was just starting when it was killed has a copy of its socket for a moment.
        for _ in 0..SOCKET_TRIES {
            if !matches!(&bound, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse) {
                break;
            }
            tokio::time::sleep(SOCKET_EVERY).await;
            bound = TcpListener::bind(listen).await;
        }
    }
    match bound {
        Ok(listener) => Ok(listener),
        Err(error) if asked.is_none() && error.kind() == std::io::ErrorKind::AddrInUse => {
            let any = SocketAddr::new(listen.ip(), 0);
            TcpListener::bind(any)
                .await
                .map_err(|error| StartError::Listen { listen: any, error })
        }
        Err(error) => Err(StartError::Listen { listen, error }),
    }
}

/// A second, plain address on loopback for whoever runs the server, where the first one is for other machines
/// or encrypts: no name that is in a certificate leads there.
pub(super) async fn open_side(
    own: &Own,
    listener: &TcpListener,
) -> Result<Option<TcpListener>, StartError> {
    if !own.encrypts() && address(listener).ip().to_canonical().is_loopback() {
        return Ok(None);
    }
    let listen = SocketAddr::new(DEFAULT_LISTEN.ip(), 0);
    let bound = TcpListener::bind(listen).await;
    bound
        .map(Some)
        .map_err(|error| StartError::Listen { listen, error })
}

/// Where it listens.
pub(super) fn address(listener: &TcpListener) -> SocketAddr {
    // Only a socket that is not bound has no address.
    listener.local_addr().unwrap_or(DEFAULT_LISTEN)
}
