//! The headless commands. [`args`] declares them; each returns its exit code, or why it failed.

pub mod api;
pub mod args;
mod audit;
pub mod console;
pub mod demo;
mod failure;
pub mod fetch;
mod info;
mod lists;
mod login;
mod logs;
pub mod output;
mod prompt;
mod show;
pub mod sign_in;
pub mod start;
mod targets;
mod token;
mod verbs;
mod wait;
mod watch;

pub use failure::{Failure, without_secrets};

use skytower_api_client::Kind;
use skytower_api_client::action::ActionOptions;
use skytower_api_client::rest::Client;
use skytower_api_client::session::Session;

use args::{Command, Global, Queue};
use console::Console;

use crate::app::READ_ONLY;

/// Runs a command that talks to a server.
pub async fn run(command: Command, global: &Global, session: Session) -> Result<u8, Failure> {
    let client = Client::new(session)?;
    let console = &Console::detect(global);
    let options = ActionOptions::default();
    if let Some((kind, list)) = command.list() {
        return lists::list(&client, kind, list, console).await;
    }
    match &command {
        Command::Status(narrow) => lists::status(&client, narrow, console).await,
        Command::Queue(args) => queue(&client, args, console).await,
        Command::Show(args) => show::show(&client, args, console).await,
        Command::Cancel(args) => verbs::change(&client, "cancel", args, options, console).await,
        Command::Stop(args) => verbs::change(&client, "stop", args, options, console).await,
        Command::Start(args) => verbs::change(&client, "start", args, options, console).await,
        Command::Relaunch(args) => verbs::change(&client, "relaunch", args, options, console).await,
        Command::Down(args) => verbs::change(&client, "down", args, options, console).await,
        Command::Autostop(args) => verbs::autostop(&client, args, console).await,
        Command::Audit(args) => audit::audit(&client, args, console).await,
        Command::Logs(args) => logs::logs(&client, args, console).await,
        Command::Wait(args) => wait::wait(&client, args, console).await,
        Command::Token(command) => token::run(&client, command, console).await,
        Command::Password => token::password(&client).await,
        // Lists are dealt with above; the others need no server, or are about it.
        _ => Err(Failure::usage(
            "this command does not go through a server",
            "see skytower --help",
        )),
    }
}

/// Nothing is changed from here, because somebody said so.
pub fn read_only() -> Failure {
    Failure::new(4, READ_ONLY).hint(
        "leave out --read-only, SKYTOWER_READ_ONLY, or read_only in the configuration file to change something",
    )
}

/// `skytower queue CLUSTER`.
async fn queue(client: &Client, args: &Queue, console: &Console) -> Result<u8, Failure> {
    let list = &args.list;
    let kind = Kind::ClusterJob;
    let wanted = output::Wanted::read(kind, list.narrow.output, &list.columns)?;
    let order = lists::Order::read(kind, list.sort.as_deref())?;
    let query = fetch::query(&list.narrow, kind)?;
    let sources = fetch::sources(client, &[Kind::Cluster]).await?;
    let cluster = targets::cluster_of(client, &args.cluster).await?;
    if list.narrow.watch {
        let focus = Some(cluster.key().clone());
        let form = list.narrow.output;
        return watch::watch(client, &[(kind, query)], focus, form, console).await;
    }
    let mut rows = targets::queue(client, &cluster).await?;
    let caller = client.health().await?.user.unwrap_or_default();
    let context = console.context(caller);
    if let Some(query) = query {
        let query = skytower_api_client::query::Query::parse(&query, kind)
            .map_err(|problem| Failure::new(2, problem.message))?;
        rows.retain(|row| query.matches(row, &context));
    }
    fetch::say_what_is_stale(&sources, &[kind], console);
    order.apply(&mut rows, &context);
    rows.truncate(list.limit.unwrap_or(usize::MAX));
    lists::print(
        kind,
        &rows,
        &wanted,
        &list.narrow,
        sources.len() > 1,
        console,
    )?;
    Ok(0)
}
