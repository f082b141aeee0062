//! skytower-server: watches SkyPilot once for a whole organisation and pushes every change.
//!
//! ```text
//! source --rows--> hub.commit() --revision--> hub.frames(view, cursor), encoded once --> clients
//! ```

pub mod accounts;
mod admission;
mod attention;
pub mod audit;
pub mod balancer;
pub mod cli;
pub mod config;
pub mod guest;
pub mod hello;
pub mod home;
pub mod http;
pub mod hub;
pub mod keeper;
mod log;
pub mod logs;
pub mod requests;
pub mod server;
pub mod source;
pub mod store;

pub use config::{Config, EngineConfig, SourceConfig};
pub use http::AppState;
pub use server::{StartError, main_background, run};

/// What the local engine starts as processes of their own, when this process is to be one of them. To be
/// asked before anything else: a keeper must stay small.
pub fn dispatch() -> Option<std::process::ExitCode> {
    keeper::dispatch()
        .or_else(balancer::dispatch)
        .or_else(hello::dispatch)
}
