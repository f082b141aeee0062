//! The server as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use skytower_api_client::credentials::Credentials;
use skytower_api_client::policy::OthersPolicy;
use skytower_server::cli::Command;
use skytower_server::config::{Deadlines, FileConfig, SAMPLE, TlsConfig};
use skytower_server::{Config, EngineConfig, SourceConfig};

/// Watches SkyPilot once for a whole organisation and pushes every change to its clients.
#[derive(Parser)]
#[command(name = "skytower-server", version)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file (TOML); what is said here goes before it, and sources add up
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print a configuration file with everything that can be in it, and end
    #[arg(long)]
    print_config: bool,
    /// Address to listen on [default: 127.0.0.1:46590, or a free port when it is taken]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Let other machines in without encryption
    #[arg(long)]
    plain_http: bool,
    /// Encrypt, with this certificate (PEM; read again when it changes)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's key (PEM; nobody else may read it)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Change nothing through this server, whoever asks
    #[arg(long)]
    read_only: bool,
    /// No accounts: whoever has the token in the state folder may do everything, nobody else anything
    #[arg(long)]
    no_accounts: bool,
    /// State folder
    #[arg(long, env = "SKYTOWER_HOME", value_name = "FOLDER", global = true)]
    home: Option<PathBuf>,
    /// A SkyPilot API server to watch; for one that wants credentials use --config-stdin
    #[arg(long = "source", value_name = "NAME=URL", value_parser = source)]
    sources: Vec<SourceConfig>,
    /// Run tasks on this machine (`local`, or `none`); by default on loopback only
    #[arg(long, value_name = "ENGINE", value_parser = ["local", "none"])]
    engine: Option<String>,
    /// End after so long without watching clients and running requests, such as 10m
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    idle_exit: Option<Duration>,
    /// Read the whole configuration as JSON from standard input, secrets included
    #[arg(long, conflicts_with_all = [
        "config", "listen", "sources", "idle_exit", "engine", "plain_http", "tls_certificate",
        "tls_key", "read_only", "no_accounts",
    ])]
    config_stdin: bool,
}

fn source(argument: &str) -> Result<SourceConfig, String> {
    let (name, url) = argument
        .split_once('=')
        .ok_or("write it as NAME=URL, such as prod=http://127.0.0.1:46580")?;
    let url = url.trim_end_matches('/');
    Ok(SourceConfig::new(name, url, Credentials::None))
}

fn main() -> ExitCode {
    if let Some(code) = skytower_server::dispatch() {
        return code;
    }
    let arguments = Arguments::parse();
    if arguments.config_stdin {
        return skytower_server::main_background();
    }
    if arguments.print_config {
        print!("{SAMPLE}");
        return ExitCode::SUCCESS;
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
    if let Some(command) = &arguments.command {
        let home = arguments.home.clone().or(file.home).unwrap_or_default();
        return skytower_server::cli::run(command, &home);
    }
    skytower_server::server::main_with(arguments.over(file))
}

impl Arguments {
    /// What was said here goes before what the file says.
    fn over(self, file: FileConfig) -> Config {
        let home = self.home.or(file.home).unwrap_or_default();
        let engine = self.engine.map(|engine| engine == "local");
        let mut sources = file.sources;
        sources.extend(self.sources);
        let listen = self.listen.or(file.listen);
        // Whoever may act on the engine runs programs here: for other machines it is switched on by name.
        let here = listen.is_none_or(|listen| listen.ip().to_canonical().is_loopback());
        let tls = self.tls_certificate.zip(self.tls_key);
        Config {
            listen,
            plain_http: self.plain_http || file.plain_http.unwrap_or(false),
            tls: tls
                .map(|(certificate, key)| TlsConfig { certificate, key })
                .or(file.tls),
            hosts: file.hosts,
            proxy: file.proxy,
            engine: engine
                .or(file.engine)
                .unwrap_or(here)
                .then(|| EngineConfig {
                    folder: home.join("engine"),
                    program: None,
                }),
            home,
            sources,
            accounts: !self.no_accounts && file.accounts.unwrap_or(true),
            read_only: self.read_only || file.read_only.unwrap_or(false),
            audit_keep: file.audit_keep,
            limits: file.limits,
            deadlines: Deadlines::default(),
            idle_exit: self.idle_exit.or(file.idle_exit),
            others: file.others.unwrap_or(OthersPolicy::Confirm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(arguments: &[&str], file: FileConfig) -> Config {
        let program = ["skytower-server"].iter().chain(arguments);
        Arguments::try_parse_from(program).unwrap().over(file)
    }

    #[test]
    fn what_is_said_on_the_command_line_goes_before_the_file() {
        let usual = over(&["--home", "/h"], FileConfig::default());
        assert!(usual.accounts && !usual.read_only && !usual.plain_http && usual.tls.is_none());
        assert_eq!(usual.engine.unwrap().folder, PathBuf::from("/h/engine"));
        let file = FileConfig {
            accounts: Some(true),
            read_only: Some(false),
            tls: Some(TlsConfig::default()),
            ..FileConfig::default()
        };
        let said = over(
            &[
                "--no-accounts",
                "--read-only",
                "--plain-http",
                "--tls-certificate",
                "c.pem",
                "--tls-key",
                "k.pem",
            ],
            file.clone(),
        );
        assert!(!said.accounts && said.read_only && said.plain_http);
        assert_eq!(said.tls.unwrap().certificate, PathBuf::from("c.pem"));
        assert_eq!(over(&[], file).tls, Some(TlsConfig::default()));
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        for half in ["--tls-certificate", "--tls-key"] {
            assert!(Arguments::try_parse_from(["skytower-server", half, "x.pem"]).is_err());
        }
    }
}
