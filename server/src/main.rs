//! The server as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::policy::OthersPolicy;
use skytower_server::cli::Command;
use skytower_server::config::FileConfig;
use skytower_server::{Config, EngineConfig, SourceConfig};

/// Watches SkyPilot once for a whole organisation and pushes every change to its clients.
#[derive(Parser)]
#[command(
    name = "skytower-server",
    version,
    args_conflicts_with_subcommands = false
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file (TOML); what is said here goes before it, and sources add up
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Address to listen on (loopback only) [default: 127.0.0.1:46590, or a free port when it is taken]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// State folder
    #[arg(long, env = "SKYTOWER_HOME", value_name = "FOLDER", global = true)]
    home: Option<PathBuf>,
    /// A SkyPilot API server to watch; for one that wants credentials use --config-stdin
    #[arg(long = "source", value_name = "NAME=URL", value_parser = source)]
    sources: Vec<SourceConfig>,
    /// Run tasks on this machine (`local`); on by default
    #[arg(long, value_name = "ENGINE", value_parser = ["local", "none"])]
    engine: Option<String>,
    /// End after so long without watching clients and running requests, such as 10m
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    idle_exit: Option<Duration>,
    /// Read the whole configuration as JSON from standard input, secrets included
    #[arg(long, conflicts_with_all = ["config", "listen", "sources", "idle_exit", "engine"])]
    config_stdin: bool,
}

fn source(argument: &str) -> Result<SourceConfig, String> {
    let (name, url) = argument
        .split_once('=')
        .ok_or("write it as NAME=URL, such as prod=http://127.0.0.1:46580")?;
    Ok(SourceConfig {
        name: name.to_owned(),
        url: url.trim_end_matches('/').to_owned(),
        credentials: Credentials::None,
    })
}

fn main() -> ExitCode {
    if let Some(code) = skytower_server::dispatch() {
        return code;
    }
    let arguments = Arguments::parse();
    if arguments.config_stdin {
        return skytower_server::main_background();
    }
    let file = match arguments
        .config
        .as_deref()
        .map(FileConfig::read)
        .transpose()
    {
        Ok(file) => file.unwrap_or_default(),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let home = arguments.home.or(file.home).unwrap_or_default();
    if let Some(command) = &arguments.command {
        return skytower_server::cli::run(command, &home);
    }
    let engine = arguments.engine.map(|engine| engine == "local");
    let mut sources = file.sources;
    sources.extend(arguments.sources);
    skytower_server::server::main_with(Config {
        listen: arguments.listen.or(file.listen),
        engine: engine
            .or(file.engine)
            .unwrap_or(true)
            .then(|| EngineConfig {
                folder: home.join("engine"),
                program: None,
            }),
        home,
        sources,
        accounts: true,
        idle_exit: arguments.idle_exit.or(file.idle_exit),
        others: file.others.unwrap_or(OthersPolicy::Confirm),
    })
}
