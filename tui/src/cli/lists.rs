//! `status` and the lists.

use std::sync::Arc;

use serde_json::json;
use skytower_api_client::rest::Client;
use skytower_api_client::wire::Caller;
use skytower_api_client::{Entity, Kind, column};

use super::args::{List, Narrow, Output};
use super::console::{Console, emit};
use super::output::{self, Wanted};
use super::{Failure, fetch, watch};

/// Jobs that have not ended.
const IN_PROGRESS: &str = "-phase:succeeded,failed,cancelled,gone";

/// `skytower clusters` and the like.
pub(super) async fn list(
    client: &Client,
    kind: Kind,
    list: &List,
    console: &Console,
) -> Result<u8, Failure> {
    let narrow = &list.narrow;
    let wanted = Wanted::read(kind, narrow.output, &list.columns)?;
    let order = Order::read(kind, list.sort.as_deref())?;
    let query = fetch::query(narrow, kind)?;
    if narrow.watch {
        return watch::watch(client, &[(kind, query)], None, narrow.output, console).await;
    }
    let sources = fetch::sources(client, &[kind]).await?;
    let mut rows = fetch::rows(client, kind, query, Some(order.wire()), list.limit).await?;
    fetch::say_what_is_stale(&sources, &[kind], console);
    let context = console.context(Caller::default());
    order.apply(&mut rows, &context);
    print(kind, &rows, &wanted, narrow, sources.len() > 1, console)?;
    Ok(0)
}

/// Prints rows in the form that was asked for.
pub(super) fn print(
    kind: Kind,
    rows: &[Arc<Entity>],
    wanted: &Wanted,
    narrow: &Narrow,
    several_sources: bool,
    console: &Console,
) -> Result<(), Failure> {
    let text = match narrow.output {
        Output::Table | Output::Wide => {
            if rows.is_empty() {
                eprintln!("no {}", narrowed(kind, narrow));
            }
            let context = console.context(Caller::default());
            output::table(kind, rows, wanted, !narrow.no_header, console, &context)
        }
        Output::Json => output::pretty(&rows.iter().map(|row| output::json(row)).collect()),
        Output::Yaml => output::yaml(&rows.iter().map(|row| output::json(row)).collect())?,
        Output::Name => output::names(rows, several_sources),
    };
    Ok(emit(&text)?)
}

fn narrowed(kind: Kind, narrow: &Narrow) -> String {
    let plural = match kind {
        Kind::Infra => "nodes",
        Kind::Audit => "entries of the audit",
        Kind::ClusterJob => "jobs in its queue",
        kind => kind.plural(),
    };
    let mut words = plural.to_owned();
    if narrow.owners.mine {
        words.push_str(" of yours");
    }
    if let Some(user) = &narrow.owners.user {
        words.push_str(&format!(" of {user}"));
    }
    if let Some(query) = &narrow.query {
        words.push_str(&format!(" match `{query}`"));
    }
    words
}

/// A column to sort by, and which way.
pub(super) struct Order {
    column: &'static column::Column,
    descends: bool,
}

impl Order {
    /// `age`, `-age`, or the kind's own order.
    pub(super) fn read(kind: Kind, sort: Option<&str>) -> Result<Self, Failure> {
        let (default, default_descends) = column::default_sort(kind);
        let (name, descends) = match sort {
            None => (default, default_descends),
            Some(sort) => match sort.strip_prefix('-') {
                Some(name) => (name, true),
                None => (sort, false),
            },
        };
        Ok(Self {
            column: output::column_named(kind, name)?,
            descends,
        })
    }

    fn wire(&self) -> String {
        format!("{}{}", if self.descends { "-" } else { "" }, self.column.id)
    }

    /// Sorts rows.
    pub(super) fn apply(&self, rows: &mut Vec<Arc<Entity>>, context: &column::Context) {
        column::sort(rows, self.column, self.descends, context);
    }
}

/// `skytower status`: what `sky status` shows, from the mirror.
pub(super) async fn status(
    client: &Client,
    narrow: &Narrow,
    console: &Console,
) -> Result<u8, Failure> {
    const KINDS: [Kind; 3] = [Kind::Cluster, Kind::Job, Kind::Service];
    let query = |kind: Kind, more: &str| -> Result<Option<String>, Failure> {
        let flags = fetch::query(narrow, kind)?.unwrap_or_default();
        Ok(Some(format!("{flags} {more}")))
    };
    let queries = [
        query(Kind::Cluster, "-phase:gone")?,
        query(Kind::Job, IN_PROGRESS)?,
        query(Kind::Service, "-phase:gone")?,
    ];
    if narrow.watch {
        let watched: Vec<_> = KINDS.into_iter().zip(queries).collect();
        return watch::watch(client, &watched, None, narrow.output, console).await;
    }
    let sources = fetch::sources(client, &KINDS).await?;
    let [clusters, jobs, services] = queries;
    let (clusters, jobs, services) = tokio::try_join!(
        fetch::rows(client, Kind::Cluster, clusters, None, None),
        fetch::rows(client, Kind::Job, jobs, None, None),
        fetch::rows(client, Kind::Service, services, None, None),
    )?;
    fetch::say_what_is_stale(&sources, &KINDS, console);
    let mut parts = [clusters, jobs, services];
    let context = console.context(Caller::default());
    for (kind, rows) in KINDS.into_iter().zip(&mut parts) {
        Order::read(kind, None)?.apply(rows, &context);
    }
    let [clusters, jobs, services] = &parts;
    let as_json = || {
        let rows = |rows: &[Arc<Entity>]| -> serde_json::Value {
            rows.iter().map(|row| output::json(row)).collect()
        };
        json!({"clusters": rows(clusters), "jobs": rows(jobs), "services": rows(services)})
    };
    let text = match narrow.output {
        Output::Json => output::pretty(&as_json()),
        Output::Yaml => output::yaml(&as_json())?,
        Output::Name => parts
            .iter()
            .map(|rows| output::names(rows, sources.len() > 1))
            .collect(),
        Output::Table | Output::Wide => {
            let mut out = String::new();
            let titles = ["Clusters", "Managed jobs in progress", "Services"];
            for ((kind, rows), title) in KINDS.into_iter().zip(&parts).zip(titles) {
                if !out.is_empty() {
                    out.push('\n');
                }
                let wanted = Wanted::read(kind, narrow.output, &[])?;
                let heading = format!("{title} ({})", rows.len());
                out.push_str(&console.style("1;36", &heading));
                out.push('\n');
                if rows.is_empty() {
                    out.push_str(&format!("No {}.\n", kind.plural()));
                } else {
                    let header = !narrow.no_header;
                    out.push_str(&output::table(
                        kind, rows, &wanted, header, console, &context,
                    ));
                }
            }
            out
        }
    };
    emit(&text)?;
    Ok(0)
}
