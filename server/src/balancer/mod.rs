//! The load balancer of a local service: a process of its own, so that the service goes on being
//! served while the server is killed, upgraded and started again.
//!
//! ```text
//! engine --backends.json--> balancer --balancer.json--> engine
//! ```
//!
//! Its interface is two files in one folder, because files outlive both sides: [`write_backends`]
//! says where requests are to go, [`read_standing`] what became of that.
//!
//! **A request fails only when nothing else is possible.** One that a replica refused goes to another
//! one; one that was cut off does too when repeating it changes nothing, even within a short answer.
//!
//! Everything runs in one thread and nothing is held whole but what is short, so that a service costs
//! a few megabytes however much goes through it.

mod board;
mod files;
mod forward;
mod headers;
mod pool;
pub mod probe;
mod reason;
mod serve;
mod watch;

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tokio::task::LocalSet;

pub use files::{BACKENDS, Backend, Backends, STANDING, Standing, read_standing, write_backends};
pub use probe::Prober;

/// The hidden command: `__balancer FOLDER`.
pub const COMMAND: &str = "__balancer";
/// It ends with this when its port is taken by another program.
pub const EXIT_PORT_TAKEN: u8 = 98;

/// Why the balancer could not begin.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{address} is taken by another program")]
    Taken { address: std::net::SocketAddr },
    #[error("cannot {doing}: {error}")]
    Io {
        doing: String,
        error: std::io::Error,
    },
}

impl Failure {
    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::Io { doing, error }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Taken { .. } => EXIT_PORT_TAKEN,
            Self::Io { .. } => 1,
        }
    }
}

/// Runs the balancer when this process was started as one, to its end. To be called before anything
/// else is done.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != COMMAND {
        return None;
    }
    let Some(folder) = arguments.next() else {
        return Some(failed(&format!("{COMMAND} needs a folder"), 2));
    };
    Some(match run(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure.to_string(), failure.code()),
    })
}

fn failed(why: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "the load balancer cannot start: {why}");
    ExitCode::from(code)
}

fn run(folder: &Path) -> Result<(), Failure> {
    allow_many_connections();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("start"))?;
    LocalSet::new().block_on(&runtime, serve::serve(folder))
}

/// A request takes two of what a process may have open, and the usual limit is 1024.
fn allow_many_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // It then is what it was before.
    let _ = setrlimit(Resource::Nofile, limit);
}

async fn bind(address: std::net::SocketAddr) -> Result<tokio::net::TcpListener, Failure> {
    // With SO_REUSEADDR, as all of tokio's: connections of an earlier balancer do not hold the port.
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => Failure::Taken { address },
            _ => Failure::io(format!("listen on {address}"))(error),
        })
}

/// A line of the service's log. Nobody reading it is no reason to end.
fn note(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
