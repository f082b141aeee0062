//! The terminal client of skytower: the dashboard, and the headless commands beside it.
//!
//! ```text
//! term, feed, replies --Msg--> app::update(&mut Model) --Effects--> runtime
//!                                      Model --> ui::draw(&Model, &mut Buffer)
//! ```
//!
//! - [`app`]: the model and the one place that changes it. Pure: the present comes with each message.
//! - [`keys`]: the table of keys, from which the footer, the help and the dispatch are made.
//! - [`ui`], [`theme`], [`text`]: the model on the screen. Pure.
//! - [`term`]: entering and leaving the terminal, reading it. [`runtime`]: the loop and its effects.
//! - [`cli`]: the command line and its commands. [`config`]: the saved login.
//! - [`login`]: signing in, for the commands and the dashboard alike.
//! - [`start`]: a task file, read and shown before it is started. [`demo`]: the sample team.
//! - [`connect`]: from an endpoint to a server that answers; `local`: the server on this machine.

pub mod app;
pub mod cli;
pub mod config;
pub mod connect;
pub mod demo;
pub mod keys;
#[cfg(feature = "local-server")]
pub mod local;
pub mod login;
pub mod runtime;
pub mod start;
pub mod term;
pub mod text;
pub mod theme;
pub mod ui;
