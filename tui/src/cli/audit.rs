//! `skytower audit`: who did what, and whether the audit is whole.

use std::sync::Arc;

use skytower_api_client::rest::{AuditQuery, AuditVerdict, Client};
use skytower_api_client::{Entity, EpochMs, Kind};

use super::args::{Audit, Output};
use super::console::{Console, emit};
use super::{Failure, fetch, lists, output, watch};

/// As many as a page of the server has at most.
const PAGE: usize = 1000;

/// `skytower audit`.
pub(super) async fn audit(client: &Client, args: &Audit, console: &Console) -> Result<u8, Failure> {
    if args.verify {
        return verify(client, args.narrow.output, console).await;
    }
    let (kind, narrow) = (Kind::Audit, &args.narrow);
    let wanted = output::Wanted::read(kind, narrow.output, &args.columns)?;
    let query = fetch::query(narrow, kind)?;
    if narrow.watch {
        return watch::watch(client, &[(kind, query)], None, narrow.output, console).await;
    }
    let since = args.since.map(|since| {
        let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        EpochMs(EpochMs::now().0.saturating_sub(ms))
    });
    let (rows, more) = entries(client, query, since, args.limit).await?;
    lists::print(kind, &rows, &wanted, narrow, false, console)?;
    if more {
        eprintln!(
            "note: these are the newest {}; --limit shows more, --since says how far back",
            rows.len()
        );
    }
    Ok(0)
}

/// Entries, newest first, and whether there may be more.
async fn entries(
    client: &Client,
    q: Option<String>,
    since: Option<EpochMs>,
    limit: usize,
) -> Result<(Vec<Arc<Entity>>, bool), Failure> {
    let mut query = AuditQuery {
        before: Some(i64::MAX),
        since,
        q,
        ..AuditQuery::default()
    };
    let mut rows = Vec::new();
    loop {
        query.limit = Some((limit - rows.len()).clamp(1, PAGE));
        let page = client.audit(&query).await?;
        rows.extend(page.rows);
        // A page may be empty, and still lead on: what was asked for is further back.
        let next = page.next.as_deref().and_then(|next| next.parse().ok());
        if next.is_none() || rows.len() >= limit {
            rows.truncate(limit);
            return Ok((rows, next.is_some()));
        }
        query.before = next;
    }
}

async fn verify(client: &Client, form: Output, console: &Console) -> Result<u8, Failure> {
    let verdict = client.verify_audit().await?;
    let text = match form {
        Output::Json => output::pretty(&serde_json::to_value(&verdict).unwrap_or_default()),
        Output::Yaml => output::yaml(&serde_json::to_value(&verdict).unwrap_or_default())?,
        _ => said(&verdict, console),
    };
    emit(&text)?;
    Ok(u8::from(verdict.broken.is_some()))
}

fn said(verdict: &AuditVerdict, console: &Console) -> String {
    let entries = match verdict.entries {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    };
    let mut out = match &verdict.broken {
        None => format!(
            "{}: {entries}, each as it was written\n",
            console.style("32", "The audit is whole")
        ),
        Some(broken) => format!(
            "{}: {}\n{entries} were read\n",
            console.style("31", "The audit is not what was written"),
            broken.why
        ),
    };
    let head = &verdict.head;
    out.push_str(&format!("head: {} {}\n", head.seq, head.hash));
    if verdict.anchor.seq > 0 {
        let anchor = &verdict.anchor;
        out.push_str(&format!(
            "older ones were forgotten, up to: {} {}\n",
            anchor.seq, anchor.hash
        ));
    }
    out
}
