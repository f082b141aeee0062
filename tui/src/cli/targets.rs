//! From the words of a command line to rows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use skytower_api_client::feed::{Feed, FeedEvent, Link, apply};
use skytower_api_client::rest::Client;
use skytower_api_client::target::{Target, TargetError};
use skytower_api_client::wire::ServerMessage;
use skytower_api_client::{Entity, Key, Kind, Table};

use super::{Failure, fetch, watch};

/// How long a cluster's queue is waited for.
const QUEUE: Duration = Duration::from_secs(20);

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let failure = Failure::new(error.exit_code(), error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// The words, with those of standard input in the place of `-`.
pub(super) fn words(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    for word in given {
        if word == "-" {
            for line in std::io::stdin().lock().lines() {
                let line = line.map_err(|error| {
                    Failure::usage(
                        format!("standard input holds no targets: {error}"),
                        "give targets as `-o name` lists them: skytower jobs -o name",
                    )
                })?;
                words.extend(line.split_whitespace().map(str::to_owned));
            }
        } else {
            words.push(word.clone());
        }
    }
    if words.is_empty() && !given.is_empty() {
        return Err(Failure::new(5, "there are no targets on standard input")
            .hint("give targets as `-o name` lists them: skytower jobs -o name"));
    }
    Ok(words)
}

/// The rows of each word; several only for the tasks of one job. Fetches what is needed, once.
pub(super) async fn resolve(
    client: &Client,
    words: &[String],
) -> Result<Vec<(Target, Vec<Arc<Entity>>)>, Failure> {
    let targets = words
        .iter()
        .map(|word| Target::parse(word))
        .collect::<Result<Vec<_>, _>>()?;
    // A source that is asked for the first time may still bring what is meant.
    fetch::sources(client, &[Kind::Cluster]).await?;
    let mut by_kind = BTreeMap::<Kind, Vec<Arc<Entity>>>::new();
    let mut found = Vec::new();
    for target in &targets {
        let mut rows = Vec::new();
        for kind in target.kinds() {
            if kind == Kind::ClusterJob {
                let cluster = target.parent().unwrap_or_default();
                let cluster = cluster_of(client, cluster).await?;
                rows.extend(queue(client, &cluster).await?);
                continue;
            }
            if let Entry::Vacant(slot) = by_kind.entry(kind) {
                slot.insert(fetch::rows(client, kind, narrowed(kind, &targets), None, None).await?);
            }
            rows.extend(by_kind.get(&kind).into_iter().flatten().cloned());
        }
        let hits = target.find(&rows)?;
        found.push((target.clone(), hits));
    }
    Ok(found)
}

/// Jobs may be many: when only numbers of jobs are wanted, only those are fetched.
fn narrowed(kind: Kind, targets: &[Target]) -> Option<String> {
    if kind != Kind::Job {
        return None;
    }
    let numbers = targets
        .iter()
        .filter(|target| target.kinds().contains(&Kind::Job))
        .map(Target::number)
        .collect::<Option<Vec<i64>>>()?;
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    Some(format!("id:{}", numbers.join(",")))
}

/// The one row of a word.
pub(super) async fn resolve_one(client: &Client, word: &str) -> Result<Arc<Entity>, Failure> {
    let found = resolve(client, &[word.to_owned()]).await?;
    let rows: Vec<Arc<Entity>> = found.into_iter().flat_map(|(_, rows)| rows).collect();
    // Of a pipeline, the task that goes on; else the first.
    rows.iter()
        .find(|row| !row.phase().is_over())
        .or(rows.first())
        .cloned()
        .ok_or_else(|| nothing(word))
}

fn nothing(word: &str) -> Failure {
    Failure::new(5, format!("there is no `{word}`")).hint("see what there is: skytower status")
}

/// The cluster of a name or target.
pub(super) async fn cluster_of(client: &Client, word: &str) -> Result<Arc<Entity>, Failure> {
    let word = if word.contains('/') {
        word.to_owned()
    } else {
        match word.split_once(':') {
            Some((source, name)) => format!("{source}:cluster/{name}"),
            None => format!("cluster/{word}"),
        }
    };
    let target = Target::parse(&word)?;
    let rows = fetch::rows(client, Kind::Cluster, None, None, None).await?;
    target
        .find(&rows)?
        .into_iter()
        .next()
        .ok_or_else(|| nothing(&word))
}

/// The queue of a cluster: read from it while this looks at it.
pub(super) async fn queue(client: &Client, cluster: &Entity) -> Result<Vec<Arc<Entity>>, Failure> {
    let kinds = vec![Kind::Source, Kind::ClusterJob];
    let (feed, mut events) = Feed::spawn(client.session().clone(), kinds);
    feed.focus(cluster.key().clone());
    let mut table = Table::new();
    // The first state may be from an earlier look; the queue is read anew because of this one.
    let mut ready = false;
    let mut first_fetch = None;
    let look = async {
        while let Some(event) = events.recv().await {
            match &event {
                FeedEvent::Link(Link::Refused(problem))
                | FeedEvent::Message(ServerMessage::Error(problem)) => {
                    return Err(watch::refused(client, problem));
                }
                _ => {}
            }
            let just_ready = matches!(&event, FeedEvent::Message(ServerMessage::Ready { .. }));
            if apply(&mut table, event).is_err() {
                feed.start_over();
                continue;
            }
            if just_ready && !ready {
                ready = true;
                first_fetch = Some(fetched(&table, cluster));
            }
            let rows = of_cluster(&table, cluster.key());
            let read_again = first_fetch
                .as_ref()
                .is_some_and(|at| *at != fetched(&table, cluster));
            if ready && (!rows.is_empty() || read_again) {
                return Ok(());
            }
        }
        Ok(())
    };
    match tokio::time::timeout(QUEUE, look).await {
        Ok(done) => done?,
        Err(_) => eprintln!(
            "warning: the queue of {} was not read within {} s",
            cluster.name(),
            QUEUE.as_secs()
        ),
    }
    Ok(of_cluster(&table, cluster.key()))
}

/// When queues of the cluster's source were last read, and what was wrong with that.
fn fetched(table: &Table, cluster: &Entity) -> (Option<i64>, Option<String>) {
    table
        .rows(Kind::Source)
        .filter(|row| row.name() == cluster.source())
        .find_map(|row| row.as_source())
        .map_or((None, None), |source| {
            (
                source.fetched_at.get(&Kind::ClusterJob).map(|at| at.0),
                source
                    .errors
                    .get(&Kind::ClusterJob)
                    .map(ToString::to_string),
            )
        })
}

fn of_cluster(table: &Table, cluster: &Key) -> Vec<Arc<Entity>> {
    table
        .rows(Kind::ClusterJob)
        .filter(|row| {
            row.as_cluster_job()
                .is_some_and(|job| job.cluster_key == *cluster)
        })
        .cloned()
        .collect()
}
