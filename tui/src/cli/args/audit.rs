//! `skytower audit`.

use std::time::Duration;

use clap::Args;

use super::{Narrow, duration};

/// `skytower audit`: the newest entries first.
#[derive(Clone, Debug, Args)]
pub struct Audit {
    /// Which entries, and in which form.
    #[command(flatten)]
    pub narrow: Narrow,
    /// Only what happened within this time: 2d, 6h, 30m.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
    /// At most so many entries.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: usize,
    /// These columns only, in this order.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Read all of it, and say whether every entry is as it was written.
    #[arg(long, conflicts_with_all = ["query", "mine", "user", "watch", "since", "columns"])]
    pub verify: bool,
}
