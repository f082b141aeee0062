//! The terminal client of skytower: the dashboard, and the headless commands beside it.
//!
//! - [`cli`]: the command line and its commands.

pub mod cli;
