//! `--watch`: a line per change.

use std::sync::Arc;

use skytower_api_client::feed::{Feed, FeedEvent, Link, apply};
use skytower_api_client::query::Query;
use skytower_api_client::rest::{Client, ClientError};
use skytower_api_client::table::Touch;
use skytower_api_client::wire::{Caller, Problem, ServerMessage};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Table, human, target};

use super::args::Output;
use super::console::{Console, emit_line};
use super::{Failure, output};

/// Prints what matches, and every change of it, until the output is closed or the server refuses.
/// `focus` is a row that has to be looked at for its rows to come.
pub(super) async fn watch(
    client: &Client,
    watched: &[(Kind, Option<String>)],
    focus: Option<Key>,
    form: Output,
    console: &Console,
) -> Result<u8, Failure> {
    let mut queries = Vec::new();
    for (kind, query) in watched {
        let query = query.as_deref().unwrap_or_default();
        let query = Query::parse(query, *kind).map_err(|why| Failure::new(2, why.message))?;
        queries.push((*kind, query));
    }
    let kinds = queries.iter().map(|(kind, _)| *kind).collect();
    let (feed, mut events) = Feed::spawn(client.session().clone(), kinds);
    if let Some(key) = focus {
        feed.focus(key);
    }
    let mut table = Table::new();
    let mut caller = Caller::default();
    while let Some(event) = events.recv().await {
        match &event {
            FeedEvent::Link(Link::Refused(problem))
            | FeedEvent::Message(ServerMessage::Error(problem)) => {
                return Err(refused(client, problem));
            }
            FeedEvent::Link(Link::Lost { reason, .. }) => {
                eprintln!("warning: the connection is lost and tried again: {reason}");
            }
            FeedEvent::Hello(hello) => caller = hello.you.clone(),
            _ => {}
        }
        let Ok(touched) = apply(&mut table, event) else {
            feed.start_over();
            continue;
        };
        let context = console.context(caller.clone());
        for touch in &touched.changes {
            let matches = |row: &Option<Arc<Entity>>| {
                row.as_ref().is_some_and(|row| {
                    queries
                        .iter()
                        .any(|(kind, query)| *kind == row.kind() && query.matches(row, &context))
                })
            };
            // What no longer matches is told once more, as it is now.
            if (matches(&touch.before) || matches(&touch.after))
                && let Some(line) = line(touch, form, console)
            {
                emit_line(&line)?;
            }
        }
    }
    Ok(0)
}

/// A refusal as a failure of the command.
pub(super) fn refused(client: &Client, problem: &Problem) -> Failure {
    match problem.status {
        401 => ClientError::NotSignedIn {
            url: client.session().endpoint().shown(),
            detail: problem.to_string().into(),
        },
        _ => ClientError::Problem(problem.clone()),
    }
    .into()
}

/// A change in one line; none when nothing changed that a person would see.
fn line(touch: &Touch, form: Output, console: &Console) -> Option<String> {
    let row = touch.after.as_ref().or(touch.before.as_ref())?;
    match form {
        Output::Json | Output::Yaml => {
            let mut value = output::json(row);
            if touch.after.is_none() {
                value["removed"] = true.into();
            }
            Some(value.to_string())
        }
        Output::Name => Some(target::of(row)),
        Output::Table | Output::Wide => {
            let status = |row: &Entity| console.paint(row.phase(), row.status());
            let what = match (&touch.before, &touch.after) {
                (None, Some(after)) => status(after),
                (Some(before), Some(after)) => {
                    if before.status() == after.status() && before.why() == after.why() {
                        return None;
                    }
                    format!("{} → {}", status(before), status(after))
                }
                _ => console.style("2", "not listed any more"),
            };
            let name = match row.as_ref() {
                Entity::Job(job) if !job.name.is_empty() => format!(" {}", job.name),
                _ => String::new(),
            };
            let owner = row.owner().map_or(String::new(), |owner| {
                format!(
                    "  {}",
                    if owner.name.is_empty() {
                        &owner.id
                    } else {
                        &owner.name
                    }
                )
            });
            let why = touch
                .after
                .as_ref()
                .and_then(|row| row.why())
                .map_or(String::new(), |why| format!("  {why}"));
            let at = human::clock(EpochMs::now(), console.utc);
            Some(format!(
                "{at}  {}{name}{owner}  {what}{why}",
                target::of(row)
            ))
        }
    }
}
