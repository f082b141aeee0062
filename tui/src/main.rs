//! `skytower`: the dashboard when no command is given.

use clap::Parser as _;
use skytower::cli::args::Cli;

fn main() {
    let _ = Cli::parse();
}
