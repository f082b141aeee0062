//! The load balancer of a local service: a process of its own, so that the service goes on being
//! served while the server is killed, upgraded and started again.
//!
//! ```text
//! engine --backends.json--> balancer --balancer.json--> engine
//! ```
//!
//! Its interface is two files in one folder, because files outlive both sides: [`write_backends`]
//! says where requests are to go, [`read_standing`] what became of that.

mod files;
pub mod probe;
mod reason;

pub use files::{BACKENDS, Backend, Backends, STANDING, Standing, read_standing, write_backends};
pub use probe::Prober;
