//! Rows from the server, and whether they are fresh.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skytower_api_client::column::default_sort;
use skytower_api_client::entity::Source;
use skytower_api_client::query::Query;
use skytower_api_client::rest::{Client, ClientError, ListQuery};
use skytower_api_client::{Entity, Kind, Phase};

use super::Failure;
use super::args::{Narrow, Owners};

/// How long a source that was only just asked for the first time is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// How often it is looked whether it answered.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How often it is looked for any source at all: a server may have none.
const LOOKS_FOR_ANY: usize = 5;

/// The query of the flags as one; checked here, so that a mistake is marked where it is.
pub fn query(narrow: &Narrow, kind: Kind) -> Result<Option<String>, Failure> {
    combined(narrow.query.as_deref(), &narrow.owners, kind)
}

/// As [`query`], of the flags by themselves.
pub fn combined(
    query: Option<&str>,
    owners: &Owners,
    kind: Kind,
) -> Result<Option<String>, Failure> {
    let mut parts = Vec::new();
    if let Some(query) = query {
        let query = Query::parse(query, kind).map_err(|problem| marked(query, &problem))?;
        if !query.is_empty() {
            parts.push(format!("({query})"));
        }
    }
    if owners.mine {
        parts.push("@me".to_owned());
    }
    if let Some(user) = &owners.user {
        let user = user.replace('\\', "\\\\").replace('"', "\\\"");
        parts.push(format!("owner:\"{user}\""));
    }
    let whole = parts.join(" ");
    if whole.is_empty() {
        return Ok(None);
    }
    Query::parse(&whole, kind).map_err(|problem| marked(&whole, &problem))?;
    Ok(Some(whole))
}

/// A mistake in a query with the query below it and the place marked.
fn marked(query: &str, problem: &skytower_api_client::query::QueryError) -> Failure {
    let marked = query.get(problem.at.clone()).unwrap_or_default();
    let place = match marked {
        "" => String::new(),
        marked => format!(
            ", at `{marked}` (character {})",
            query[..problem.at.start].chars().count() + 1
        ),
    };
    let failure = Failure::new(2, format!("query: {}{place}", problem.message));
    failure.hint(problem.hint.as_deref().unwrap_or(
        "terms are words, field:value, gpus>=8, age<2h and -term; quote the whole for the shell",
    ))
}

/// All rows that match, page by page.
pub async fn rows(
    client: &Client,
    kind: Kind,
    q: Option<String>,
    sort: Option<String>,
    limit: Option<usize>,
) -> Result<Vec<Arc<Entity>>, ClientError> {
    let (column, descends) = default_sort(kind);
    let sort = sort.unwrap_or_else(|| format!("{}{column}", if descends { "-" } else { "" }));
    let mut query = ListQuery {
        q,
        sort: Some(sort),
        limit,
        cursor: None,
    };
    let mut rows = Vec::new();
    loop {
        let page = client.list(kind, &query).await?;
        let got = page.rows.len();
        rows.extend(page.rows);
        let enough = limit.is_some_and(|limit| rows.len() >= limit);
        match page.next {
            Some(next) if got > 0 && !enough => query.cursor = Some(next.to_string()),
            _ => break,
        }
    }
    rows.truncate(limit.unwrap_or(usize::MAX));
    Ok(rows)
}

/// Kinds that every source reads by itself; the others are read while somebody looks.
const READ_ALWAYS: &[Kind] = &[
    Kind::Cluster,
    Kind::Job,
    Kind::Service,
    Kind::Pool,
    Kind::User,
    Kind::Workspace,
    Kind::Infra,
];

/// It has said what it knows of these kinds, or why not.
fn has_spoken_of(source: &Source, kinds: &[Kind]) -> bool {
    source.phase != Phase::Starting
        && (source.phase != Phase::Running || unread(source, kinds).next().is_none())
}

/// The kinds of which it has said nothing yet.
fn unread<'a>(source: &'a Source, kinds: &'a [Kind]) -> impl Iterator<Item = Kind> + 'a {
    kinds.iter().copied().filter(|kind| {
        READ_ALWAYS.contains(kind)
            && !source.fetched_at.contains_key(kind)
            && !source.errors.contains_key(kind)
            && !source.notes.contains_key(kind)
    })
}

/// The sources, once none of them is only just being asked for these kinds for the first time.
pub async fn sources(client: &Client, kinds: &[Kind]) -> Result<Vec<Source>, ClientError> {
    let mut looks = 0;
    let look = async {
        loop {
            let page = client.list(Kind::Source, &ListQuery::default()).await?;
            let sources: Vec<Source> = page
                .rows
                .iter()
                .filter_map(|row| row.as_source().cloned())
                .collect();
            let settled = sources.iter().all(|source| has_spoken_of(source, kinds));
            looks += 1;
            if settled && (!sources.is_empty() || looks >= LOOKS_FOR_ANY) {
                return Ok(sources);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if let Ok(answer) = tokio::time::timeout(FIRST_ANSWER, look).await {
        return answer;
    }
    let page = client.list(Kind::Source, &ListQuery::default()).await?;
    let sources = page.rows.iter().filter_map(|row| row.as_source().cloned());
    Ok(sources.collect())
}

/// One line on standard error for each source whose rows of these kinds may be old or missing.
pub fn say_what_is_stale(sources: &[Source], kinds: &[Kind], console: &super::console::Console) {
    for line in staleness(sources, kinds, console.utc) {
        eprintln!("{line}");
    }
}

/// What there is to say about the freshness of these kinds.
pub fn staleness(sources: &[Source], kinds: &[Kind], utc: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for source in sources {
        let since = kinds
            .iter()
            .filter_map(|kind| source.fetched_at.get(kind))
            .min()
            .map(|at| skytower_api_client::human::date_time(*at, utc));
        let state = match since {
            Some(at) => format!("this is the state of {at}"),
            None => "nothing was read from it yet".to_owned(),
        };
        if source.phase != Phase::Running {
            let why = source.error.as_deref().unwrap_or("no reason given");
            let hint = match &source.hint {
                Some(hint) => format!("; {hint}"),
                None => String::new(),
            };
            lines.push(format!(
                "warning: {} is {}: {why}; {state}{hint}",
                source.name, source.status
            ));
            continue;
        }
        let about = |per_kind: &BTreeMap<Kind, skytower_api_client::Text>, label: &str| {
            kinds
                .iter()
                .filter_map(|kind| Some((kind, per_kind.get(kind)?)))
                .map(|(kind, words)| {
                    format!("{label}: {} of {}: {words}", kind.plural(), source.name)
                })
                .collect::<Vec<_>>()
        };
        lines.extend(unread(source, kinds).map(|kind| {
            let (name, kinds) = (&source.name, kind.plural());
            format!("note: {kinds} of {name} were not read yet; ask again in a moment")
        }));
        lines.extend(about(&source.errors, "warning"));
        lines.extend(about(&source.notes, "note"));
    }
    lines
}
