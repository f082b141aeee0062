//! `skytower`: the dashboard when no command is given.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use skytower::app::Options;
use skytower::cli::args::{Cli, Command, Global, When};
use skytower::cli::sign_in::{connected, for_dashboard};
use skytower::cli::{self, Failure};
use skytower::config;
use skytower::connect::Connected;
use skytower::runtime::{self, Exit};
use skytower::theme::Theme;
use skytower_api_client::Kind;
use skytower_api_client::rest::Client;

fn main() -> ExitCode {
    #[cfg(feature = "local-server")]
    if let Some(code) = skytower_server::dispatch() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if is_mistake(&error) => return failed(&error.into()),
        // Help and the version are asked for; they go where they belong by themselves.
        Err(error) => error.exit(),
    };
    match cli.command {
        #[cfg(feature = "local-server")]
        Some(Command::LocalServer) => return skytower::local::serve(),
        Some(Command::Completion { shell }) => {
            let mut tree = Cli::command();
            clap_complete::generate(shell, &mut tree, "skytower", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        Some(Command::Man) => {
            let page = clap_mangen::Man::new(Cli::command());
            return match page.render(&mut std::io::stdout()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error.into()),
            };
        }
        _ => {}
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let ended = runtime.block_on(run(cli));
    // What is still being looked up must not hold back the prompt.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failed(&failure),
    }
}

fn is_mistake(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
    };
    !matches!(
        error.kind(),
        DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand
    )
}

fn failed(failure: &Failure) -> ExitCode {
    failure.print();
    ExitCode::from(failure.code)
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    let saved = config::guarded()?;
    let mut global = cli.global;
    global.read_only |= saved.read_only;
    if global.read_only && cli.command.as_ref().is_some_and(Command::changes) {
        return Err(cli::read_only());
    }
    match cli.command {
        Some(Command::Api(command)) => cli::api::run(command, &global).await,
        Some(command) if cli::start::starts(&command) => cli::start::run(&command, &global).await,
        Some(Command::Demo(args)) => {
            let connected = connected(&global).await?;
            if cli::demo::run(&args, connected.session.clone(), &global).await? {
                return dashboard(connected, None, &global).await;
            }
            Ok(0)
        }
        Some(command) => {
            let connected = connected(&global).await?;
            cli::run(command, &global, connected.session).await
        }
        None => {
            let screen = screen(cli.at_view.or(cli.view).as_deref())?;
            if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
                return Err(Failure::usage(
                    "the dashboard needs a terminal",
                    "for scripts there are commands: skytower status, skytower jobs -o json, …",
                ));
            }
            dashboard(for_dashboard(&global).await?, screen, &global).await
        }
    }
}

async fn dashboard(
    connected: Connected,
    screen: Option<Kind>,
    global: &Global,
) -> Result<u8, Failure> {
    let endpoint = match connected.watches {
        Some(watched) => watched.into(),
        None => connected.session.endpoint().shown(),
    };
    let mut theme = Theme::from_env(|name| std::env::var(name).ok());
    match global.color {
        When::Auto => {}
        When::Always => theme.mono = false,
        When::Never => theme.mono = true,
    }
    let options = Options {
        endpoint,
        screen,
        theme,
        utc: global.utc,
        run: run_name(),
        read_only: global.read_only,
        signs_in: connected.session.takes_credentials(),
    };
    let client = Client::new(connected.session)?;
    Ok(match runtime::run(client, options).await? {
        Exit::Quit => 0,
        // As a shell reports it.
        Exit::Signal(number) => 128u8.saturating_add(number as u8),
    })
}

/// The dashboard's first screen.
fn screen(view: Option<&str>) -> Result<Option<Kind>, Failure> {
    match view {
        None | Some("overview") => Ok(None),
        Some(word) => word.parse().map(Some).map_err(|_| {
            let hint = if word.contains("://") {
                "a server is named by --endpoint: skytower -e URL"
            } else {
                "see skytower --help"
            };
            let word = cli::without_secrets(word);
            Failure::usage(format!("`{word}` is neither a command nor a view"), hint)
        }),
    }
}

/// A name that no other run has.
fn run_name() -> String {
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!(
        "{:x}-{:x}",
        at.unwrap_or_default().as_nanos(),
        std::process::id()
    )
}
