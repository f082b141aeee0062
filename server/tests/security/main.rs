//! What strangers and clients that mean no good may try at the doors, over real sockets. The numbers are
//! those of the cases in the design; each test is named after its own.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

#[path = "../support/fake_skypilot.rs"]
mod fake_skypilot;
#[path = "../support/mod.rs"]
mod support;

mod encryption;
mod frames;
mod fuzz;
mod handshake;
mod life;
mod limits;
mod people;
mod program;
mod proxies;
mod raw;
mod secrets;
