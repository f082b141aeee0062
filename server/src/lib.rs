//! skytower-server: watches SkyPilot once for a whole organisation and pushes every change.
//!
//! ```text
//! source --rows--> hub.commit() --revision--> hub.frames(view, cursor), encoded once --> clients
//! ```

mod attention;
pub mod config;
pub mod home;
pub mod http;
pub mod hub;
pub mod keeper;
mod log;
pub mod logs;
pub mod requests;
pub mod server;
pub mod source;

pub use config::{Config, SourceConfig};
pub use http::AppState;
pub use server::{StartError, main_background, run};
