//! Lists and single rows over REST, for scripts and people with `curl`.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::{Path, State};
use skytower_api_client::column::{self, Context};
use skytower_api_client::policy::View;
use skytower_api_client::query::Query;
use skytower_api_client::rest::{Detail, ListQuery, Page};
use skytower_api_client::wire::{Caller, Problem};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Text};

use super::AppState;
use super::problem::{Failure, Parameters};
use crate::guest::Guest;

/// Rows of a page when nothing was said.
pub(crate) const LIMIT: usize = 1000;
/// The most rows of a page.
pub(crate) const LIMIT_MAX: usize = 10_000;

pub(crate) fn kind_of(plural: &str) -> Result<Kind, Failure> {
    let known = Kind::ALL
        .iter()
        .copied()
        .find(|kind| kind.plural() == plural);
    known.ok_or_else(|| {
        let lists: Vec<_> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
        Failure(
            Problem::new("not_found", 404, format!("there is no list of `{plural}`"))
                .hint(format!("the lists are: {}", lists.join(", "))),
        )
    })
}

/// `GET /api/v1/{kind}?q=&sort=&limit=&cursor=`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path(plural): Path<String>,
    Parameters(wanted): Parameters<ListQuery>,
) -> Result<Json<Page>, Failure> {
    page(&state, guest.caller()?, kind_of(&plural)?, &wanted).map(Json)
}

/// `GET /api/v1/requests`: shares its path with the `POST` that makes one.
pub(crate) async fn requests(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Parameters(wanted): Parameters<ListQuery>,
) -> Result<Json<Page>, Failure> {
    page(&state, guest.caller()?, Kind::Request, &wanted).map(Json)
}

pub(crate) fn page(
    state: &AppState,
    caller: Caller,
    kind: Kind,
    wanted: &ListQuery,
) -> Result<Page, Failure> {
    let query = query(wanted.q.as_deref(), kind)?;
    let (name, descends) = match wanted.sort.as_deref() {
        Some(name) => name
            .strip_prefix('-')
            .map_or((name, false), |name| (name, true)),
        None => column::default_sort(kind),
    };
    let by = column::column(kind, name).ok_or_else(|| {
        let ids: Vec<_> = column::columns(kind)
            .iter()
            .map(|column| column.id)
            .collect();
        Problem::new(
            "bad_parameter",
            400,
            format!("{} cannot be sorted by `{name}`", kind.plural()),
        )
        .hint(format!("sort by one of: {}", ids.join(", ")))
    })?;
    let after = match wanted.cursor.as_deref() {
        Some(cursor) => Some(read_cursor(cursor)?),
        None => None,
    };

    let view = View::of(&caller, &[kind]);
    let (mut rows, revision): (Vec<Arc<Entity>>, u64) = state.hub.read(|table| {
        let seen = table
            .rows(kind)
            .filter(|row| view.wants(kind) && view.sees(row.workspace()));
        (seen.cloned().collect(), table.revision())
    });
    let context = Context {
        now: EpochMs::now(),
        caller,
        ..Context::default()
    };
    rows.retain(|row| query.matches(row, &context));
    column::sort(&mut rows, by, descends, &context);

    let start = match after {
        None => 0,
        // The row that the last page ended with; where it is gone, its place.
        Some((offset, key)) => rows
            .iter()
            .position(|row| *row.key() == key)
            .map_or(offset.min(rows.len()), |at| at + 1),
    };
    let limit = wanted.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let end = start.saturating_add(limit).min(rows.len());
    let next = (end < rows.len() && end > start)
        .then(|| Text::from(format!("{end}:{}", rows[end - 1].key())));
    Ok(Page {
        rows: rows.drain(start..end).collect(),
        revision,
        next,
    })
}

/// The query of a list.
pub(crate) fn query(written: Option<&str>, kind: Kind) -> Result<Query, Problem> {
    Query::parse(written.unwrap_or_default(), kind).map_err(|error| {
        let mut problem = Problem::new("bad_query", 400, error.message);
        problem.hint = error.hint.map(Text::from);
        problem
    })
}

fn read_cursor(cursor: &str) -> Result<(usize, Key), Problem> {
    cursor
        .split_once(':')
        .and_then(|(offset, key)| Some((offset.parse().ok()?, Key::parse(key)?)))
        .ok_or_else(|| {
            Problem::new(
                "bad_parameter",
                400,
                "the cursor is not one of this server's",
            )
            .hint("use `next` of the page before, as it is")
        })
}

/// `GET /api/v1/{kind}/{key}`
pub(crate) async fn detail(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path((plural, key)): Path<(String, String)>,
) -> Result<Json<Detail>, Failure> {
    let row = find_row(&state, &guest.caller()?, kind_of(&plural)?, &key)?;
    let more = match state.source(row.key().source()) {
        Some(source) => source.detail(&row).await?,
        None => crate::source::Detail::default(),
    };
    Ok(Json(Detail {
        // Our own type: maps have string keys and nothing fails to serialise.
        row: serde_json::to_value(&*row).unwrap_or_default(),
        yaml: more.yaml,
        entrypoint: more.entrypoint,
    }))
}

/// The row of a key as `caller` may see it. What may not be seen is not there.
pub(crate) fn find_row(
    state: &AppState,
    caller: &Caller,
    kind: Kind,
    key: &str,
) -> Result<Arc<Entity>, Problem> {
    let view = View::of(caller, &[kind]);
    Key::parse(key)
        .filter(|key| key.kind() == Some(kind))
        .and_then(|key| state.hub.get(&key))
        .filter(|row| view.wants(kind) && view.sees(row.workspace()))
        .ok_or_else(|| {
            Problem::new(
                "not_found",
                404,
                format!("there is no {kind} with the key `{key}`"),
            )
            .hint(format!("GET /api/v1/{} lists what there is", kind.plural()))
        })
}
