//! The language that the skytower server and its clients speak.
//!
//! ```text
//! source --rows--> Table::commit --revision--> Table::since --bytes--> Table::apply --touched--> redraw
//! ```
//!
//! - [`entity`], [`kind`], [`key`], [`phase`], [`text`], [`time`]: what there is.
//! - [`wire`], [`codec`]: how it travels. [`table`]: the state, on both sides.
//! - [`action`], [`policy`]: what can be done, and by whom.
//! - [`task`]: what can be started, from a file.
//! - [`column`], [`query`], [`human`]: how it is shown, narrowed and written.
//! - [`credentials`], [`rest`] (its types always), [`feed`], [`endpoint`] (feature `client`): connecting.
//!
//! Nothing here draws, and the core (everything but the last line) does no input or output.

pub mod action;
pub mod backoff;
pub mod codec;
pub mod column;
pub mod credentials;
#[cfg(feature = "client")]
pub mod endpoint;
pub mod entity;
#[cfg(feature = "client")]
pub mod feed;
pub mod human;
pub mod key;
pub mod kind;
pub mod log;
pub mod nearest;
pub mod phase;
pub mod policy;
pub mod query;
pub mod rest;
#[cfg(feature = "client")]
pub mod session;
pub mod table;
pub mod target;
pub mod task;
pub mod text;
pub mod time;
pub mod wire;

pub use entity::Entity;
pub use key::Key;
pub use kind::Kind;
pub use phase::Phase;
pub use table::Table;
pub use text::{Block, Text};
pub use time::EpochMs;
