//! `demo`: the sample team is started, or ended without anything left of it.

use std::io::IsTerminal as _;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use skytower_api_client::action::ActionOptions;
use skytower_api_client::entity::{Outcome, Request};
use skytower_api_client::rest::{Client, NewRequest};
use skytower_api_client::session::Session;
use skytower_api_client::{Entity, Key, Kind};

use super::args::{Demo, Global};
use super::console::{Console, emit};
use super::{Failure, fetch, start, verbs};
use crate::connect::progress;
use crate::demo::{LABEL, Part, TEAM, counted, missing};

/// Parts that are started at the same time.
const AT_ONCE: usize = 4;

/// `skytower demo`. Says whether the dashboard is to be opened now.
pub async fn run(args: &Demo, session: Session, global: &Global) -> Result<bool, Failure> {
    let client = &Client::new(session)?;
    let console = &Console::detect(global);
    let engine = start::engine_of(client).await?;
    if args.stop {
        stop(client, engine.key(), console).await?;
        return Ok(false);
    }
    let engine = engine.key();
    let parts = missing(&there(client).await?);
    if !parts.is_empty() {
        progress(&format!("Starting the sample team: {}", counted(&parts)));
    }
    let made: Vec<(&Part, Request)> = futures_util::stream::iter(parts.iter().copied())
        .map(|part| async move {
            let request = make(client, engine, part).await?;
            Ok::<_, Failure>((part, request))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let failed = made
        .iter()
        .filter(|(_, request)| why_not(request).is_some());
    let failed: Vec<&str> = failed.map(|(part, _)| part.name).collect();
    let opens = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !opens || !failed.is_empty() {
        say(&made, console)?;
    }
    if !failed.is_empty() {
        let (some, all) = (failed.len(), made.len());
        return Err(
            Failure::new(if some < all { 6 } else { 1 }, format!("{some} of {all} could not be started: {}", failed.join(", ")))
                .hint("see why above; `skytower demo` tries again what is not there, `skytower demo --stop` ends the rest"),
        );
    }
    if !opens {
        eprintln!("look at it: skytower status; end it: skytower demo --stop");
    }
    Ok(opens)
}

/// The rows that parts of the team may be among.
async fn there(client: &Client) -> Result<Vec<Arc<Entity>>, Failure> {
    let mut rows = Vec::new();
    for kind in [Kind::Cluster, Kind::Job, Kind::Service] {
        rows.extend(fetch::rows(client, kind, Some("source:local".to_owned()), None, None).await?);
    }
    Ok(rows)
}

async fn make(client: &Client, engine: &Key, part: &Part) -> Result<Request, Failure> {
    let new = NewRequest {
        action: part.action.into(),
        targets: vec![engine.clone()],
        options: ActionOptions {
            start: Some(Box::new(part.start())),
            ..ActionOptions::default()
        },
        others_confirmed: true,
        dry_run: false,
    };
    let request = client.create_request(&new, &verbs::uuid()).await?;
    verbs::ended(client, request).await
}

/// Why a request did not do what was asked.
fn why_not(request: &Request) -> Option<String> {
    let bad = request.results.iter().find(|result| {
        matches!(
            result.outcome,
            Outcome::Failed | Outcome::Unknown | Outcome::Cancelled
        )
    })?;
    Some(
        bad.message
            .as_deref()
            .unwrap_or("no reason was given")
            .to_owned(),
    )
}

fn say(made: &[(&Part, Request)], console: &Console) -> Result<(), Failure> {
    if made.is_empty() {
        return Ok(emit(
            "The sample team is there already; nothing was started.\n",
        )?);
    }
    let names = made.iter().map(|(part, _)| part.name.len()).max();
    let owners = made.iter().map(|(part, _)| part.owner.len()).max();
    let mut out = String::new();
    for (part, request) in made {
        let lines: String = request
            .results
            .iter()
            .map(|result| verbs::spoken(result, false, console))
            .collect();
        let (glyph, text) = lines.trim_end().split_once(' ').unwrap_or_default();
        out.push_str(&format!(
            "{glyph} {:names$}  {:owners$}  {text}\n",
            part.name,
            part.owner,
            names = names.unwrap_or(0),
            owners = owners.unwrap_or(0),
        ));
    }
    let already = TEAM.len() - made.len();
    if already > 0 {
        out.push_str(&format!("{already} of the team were there already\n"));
    }
    Ok(emit(&out)?)
}

async fn stop(client: &Client, engine: &Key, console: &Console) -> Result<(), Failure> {
    let new = NewRequest {
        action: "source.clear".into(),
        targets: vec![engine.clone()],
        options: ActionOptions {
            label: Some(LABEL.into()),
            ..ActionOptions::default()
        },
        others_confirmed: true,
        dry_run: false,
    };
    progress("Ending the sample team");
    let request = client.create_request(&new, &verbs::uuid()).await?;
    let request = verbs::ended(client, request).await?;
    if let Some(why) = why_not(&request) {
        return Err(
            Failure::new(1, format!("the sample team could not be ended: {why}"))
                .hint("see what is left: skytower status -q source:local"),
        );
    }
    let said = request
        .results
        .iter()
        .find_map(|result| result.message.clone());
    // What there was of it.
    let said = said.map_or_else(String::new, |what| format!(": {what}"));
    let glyph = console.paint(skytower_api_client::Phase::Succeeded, "✓");
    Ok(emit(&format!("{glyph} the sample team has ended{said}\n"))?)
}
