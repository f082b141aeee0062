//! `wait`: until something is as wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use skytower_api_client::feed::{Feed, FeedEvent, Link, apply};
use skytower_api_client::rest::Client;
use skytower_api_client::wire::ServerMessage;
use skytower_api_client::{Entity, Key, Kind, Phase, Table, target};

use super::args::{Form, Until, Wait};
use super::console::{Console, emit};
use super::{Failure, output, targets, watch};

/// How a thing stands towards what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    There,
    NotYet,
    Never,
}

/// How a row stands (none: it is not listed any more).
fn stand(row: Option<&Entity>, until: Until) -> Stand {
    let Some(row) = row else {
        return match until {
            Until::Gone | Until::Done => Stand::There,
            _ => Stand::Never,
        };
    };
    let phase = row.phase();
    // A torn-down or stopped cluster does not come up by itself.
    let partly = row.kind() == Kind::Request && phase == Phase::Degraded;
    let at_rest = phase.is_over() || phase == Phase::Stopped || partly;
    let there = match until {
        Until::Succeeded => phase == Phase::Succeeded,
        Until::Done => at_rest,
        Until::Up | Until::Ready => phase == Phase::Running,
        Until::Gone => phase == Phase::Gone,
    };
    match (there, until) {
        (true, _) => Stand::There,
        (false, Until::Succeeded) if at_rest => Stand::Never,
        (false, Until::Up | Until::Ready) if phase.is_over() => Stand::Never,
        (false, _) => Stand::NotYet,
    }
}

/// `skytower wait TARGET… --for STATE`.
pub(super) async fn wait(client: &Client, args: &Wait, console: &Console) -> Result<u8, Failure> {
    let words = targets::words(&args.targets)?;
    let found = match targets::resolve(client, &words).await {
        // Nothing of that name is as gone as can be.
        Err(failure) if failure.code == 5 && args.until == Until::Gone && words.len() == 1 => {
            return Ok(0);
        }
        found => found?,
    };
    let rows: Vec<Arc<Entity>> = found.into_iter().flat_map(|(_, rows)| rows).collect();
    let look = until(client, &rows, args.until);
    let ends = match args.timeout {
        None => look.await?,
        Some(timeout) => {
            let Ok(ends) = tokio::time::timeout(timeout, look).await else {
                let names: BTreeSet<String> = rows.iter().map(|row| target::of(row)).collect();
                let names = names.into_iter().collect::<Vec<_>>().join(" ");
                let timeout = humantime::format_duration(timeout);
                return Err(
                    Failure::new(124, format!("{names}: not as wanted after {timeout}")).hint(
                        "wait longer with --timeout, or see how it stands: skytower show TARGET",
                    ),
                );
            };
            ends?
        }
    };
    print(&rows, &ends, args, console)?;
    let missed = ends.values().any(|(stand, _)| *stand == Stand::Never);
    Ok(u8::from(missed))
}

type Ends = BTreeMap<Key, (Stand, Option<Arc<Entity>>)>;

/// Watches until every row is as wanted or can never be.
async fn until(client: &Client, rows: &[Arc<Entity>], until: Until) -> Result<Ends, Failure> {
    let kinds: BTreeSet<Kind> = rows.iter().map(|row| row.kind()).collect();
    let session = client.session().clone();
    let (feed, mut events) = Feed::spawn(session, kinds.into_iter().collect());
    let mut focused = BTreeSet::new();
    for job in rows.iter().filter_map(|row| row.as_cluster_job()) {
        if focused.insert(job.cluster_key.clone()) {
            feed.focus(job.cluster_key.clone());
        }
    }
    let mut table = Table::new();
    let mut ends = Ends::new();
    let mut ready = false;
    while let Some(event) = events.recv().await {
        match &event {
            FeedEvent::Link(Link::Refused(problem))
            | FeedEvent::Message(ServerMessage::Error(problem)) => {
                return Err(watch::refused(client, problem));
            }
            FeedEvent::Link(Link::Lost { reason, .. }) => {
                eprintln!("warning: the connection is lost and tried again: {reason}");
            }
            FeedEvent::Message(ServerMessage::Ready { .. }) => ready = true,
            _ => {}
        }
        if apply(&mut table, event).is_err() {
            feed.start_over();
            continue;
        }
        if !ready {
            continue;
        }
        for row in rows {
            let now = table.get(row.key());
            // A queue's rows come only after a while of looking.
            let not_read = row.kind() == Kind::ClusterJob && now.is_none();
            let stands = if not_read {
                Stand::NotYet
            } else {
                stand(now.map(|row| &**row), until)
            };
            ends.insert(row.key().clone(), (stands, now.cloned()));
        }
        let open = ends.values().any(|(stand, _)| *stand == Stand::NotYet);
        if !open {
            return Ok(ends);
        }
    }
    Err(Failure::new(3, "the server cannot be watched any more"))
}

fn print(rows: &[Arc<Entity>], ends: &Ends, args: &Wait, console: &Console) -> Result<(), Failure> {
    let now = |row: &Arc<Entity>| ends.get(row.key()).and_then(|(_, row)| row.clone());
    if args.output == Form::Json {
        let rows: Vec<serde_json::Value> = rows
            .iter()
            .map(|row| match now(row) {
                Some(row) => output::json(&row),
                None => json!({"key": row.key(), "removed": true}),
            })
            .collect();
        return Ok(emit(&output::pretty(&rows.into()))?);
    }
    let mut out = String::new();
    for row in rows {
        let (status, why) = match now(row) {
            Some(row) => (
                console.paint(row.phase(), row.status()),
                row.why().map_or(String::new(), |why| format!(": {why}")),
            ),
            None => ("not listed any more".to_owned(), String::new()),
        };
        out.push_str(&format!("{}  {status}{why}\n", target::of(row)));
    }
    Ok(emit(&out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::entity::{Cluster, Job, Request};

    #[test]
    fn the_end_is_told_from_the_way() {
        let job = |phase| -> Entity {
            Job {
                phase,
                ..Job::default()
            }
            .into()
        };
        let cluster = |phase| -> Entity {
            Cluster {
                phase,
                ..Cluster::default()
            }
            .into()
        };
        let partly: Entity = Request {
            phase: Phase::Degraded,
            ..Request::default()
        }
        .into();
        for (row, until, expected) in [
            (Some(job(Phase::Succeeded)), Until::Succeeded, Stand::There),
            (Some(job(Phase::Failed)), Until::Succeeded, Stand::Never),
            (Some(job(Phase::Failed)), Until::Done, Stand::There),
            (Some(job(Phase::Running)), Until::Done, Stand::NotYet),
            (Some(partly), Until::Succeeded, Stand::Never),
            (Some(cluster(Phase::Starting)), Until::Up, Stand::NotYet),
            (Some(cluster(Phase::Running)), Until::Up, Stand::There),
            (Some(cluster(Phase::Gone)), Until::Up, Stand::Never),
            (Some(cluster(Phase::Running)), Until::Gone, Stand::NotYet),
            (None, Until::Gone, Stand::There),
            (None, Until::Succeeded, Stand::Never),
        ] {
            assert_eq!(stand(row.as_ref(), until), expected, "{row:?} {until:?}");
        }
    }
}
