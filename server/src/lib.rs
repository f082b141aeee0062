//! skytower-server: watches SkyPilot once for a whole organisation and pushes every change.
//!
//! ```text
//! source --rows--> hub.commit() --revision--> hub.frames(view, cursor), encoded once --> clients
//! ```

pub mod hub;
pub mod source;
