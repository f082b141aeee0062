//! The demo's service: answers every request with one line that says which replica it is.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::balancer::EXIT_PORT_TAKEN;
use crate::http::Doors;

/// The hidden command: `__hello ADDRESS:PORT`.
pub const COMMAND: &str = "__hello";
/// What is under way when it is told to end has so long.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the service when this process was started as one, to its end. To be called before anything
/// else is done.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != COMMAND {
        return None;
    }
    let address = arguments
        .next()
        .and_then(|address| address.to_str()?.parse().ok());
    let Some(address) = address else {
        return Some(failed(
            &format!("write {COMMAND} ADDRESS:PORT, such as {COMMAND} 127.0.0.1:8080"),
            2,
        ));
    };
    Some(match run(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::AddrInUse => failed(
            &format!("{address} is taken by another program"),
            EXIT_PORT_TAKEN,
        ),
        Err(error) => failed(&format!("cannot listen on {address}: {error}"), 1),
    })
}

fn failed(why: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{why}");
    ExitCode::from(code)
}

fn run(address: SocketAddr) -> std::io::Result<()> {
    let began = Instant::now();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let listener = TcpListener::bind(address).await?;
            let replica =
                std::env::var("SKYPILOT_SERVE_REPLICA_ID").unwrap_or_else(|_| "-".to_owned());
            let process = std::process::id();
            let mut out = std::io::stdout();
            let _ = writeln!(
                out,
                "replica {replica} listens on {}, process {process}",
                listener.local_addr()?
            );
            let router = Router::new().fallback(move || {
                let up = began.elapsed().as_secs();
                std::future::ready(format!(
                    "hello from replica {replica}, pid {process}, up {up} s\n"
                ))
            });
            let stop = CancellationToken::new();
            let ended = async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stop.cancel();
            };
            tokio::join!(
                crate::http::serve(Doors::of_everybody(listener), router, stop.clone(), GRACE),
                ended
            );
            Ok(())
        })
}
