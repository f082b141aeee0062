//! The local engine as people meet it: a server process, real tasks, real kills.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    missing_docs,
    reason = "a test program"
)]

mod clusters;
mod crash;
mod fail_points;
mod jobs;
mod nasty;
mod serving;
mod storm;
mod tower;
