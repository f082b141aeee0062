//! Lists and single rows over REST, for scripts and people with `curl`.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::{Path, State};
use skytower_api_client::column::{self, Context};
use skytower_api_client::policy::View;
use skytower_api_client::query::Query;
use skytower_api_client::rest::{Detail, ListQuery, Page};
use skytower_api_client::wire::Problem;
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
    page(&state, &guest, kind_of(&plural)?, &wanted).map(Json)
}

/// `GET /api/v1/requests`: shares its path with the `POST` that makes one.
pub(crate) async fn requests(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Parameters(wanted): Parameters<ListQuery>,
) -> Result<Json<Page>, Failure> {
    page(&state, &guest, Kind::Request, &wanted).map(Json)
}

pub(crate) fn page(
    state: &AppState,
    guest: &Guest,
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

    let (mut rows, revision, caller) = state.hub.read(|table| {
        // Asked with the state at hand: what changed after the rights did is not told by the old ones.
        let caller = guest.caller()?;
        let view = View::of(&caller, &[kind]);
        let seen = table.rows(kind).filter(|row| view.sees(row));
        let seen: Vec<Arc<Entity>> = seen.map(|row| view.project(row)).collect();
        Ok::<_, Problem>((seen, table.revision(), caller))
    })?;
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
    let kind = kind_of(&plural)?;
    let row = find_row(&state, &guest, kind, &key)?;
    let more = match state.source(row.key().source()) {
        Some(source) => source.detail(&row).await,
        None => Ok(crate::source::Detail::default()),
    };
    // The source took its time, and the rights to the row may have ended meanwhile.
    if !is_seen(&state, &guest, &row) {
        return Err(Failure(absent(kind, &key)));
    }
    let more = more?;
    Ok(Json(Detail {
        // Our own type: maps have string keys and nothing fails to serialise.
        row: serde_json::to_value(&*row).unwrap_or_default(),
        yaml: more.yaml,
        entrypoint: more.entrypoint,
    }))
}

/// The row of a key as the guest may see it. What may not be seen is not there.
pub(crate) fn find_row(
    state: &AppState,
    guest: &Guest,
    kind: Kind,
    key: &str,
) -> Result<Arc<Entity>, Problem> {
    state.hub.read(|table| {
        let view = View::of(&guest.caller()?, &[kind]);
        Key::parse(key)
            .filter(|key| key.kind() == Some(kind))
            .and_then(|key| table.get(&key))
            .filter(|row| view.sees(row))
            .map(|row| view.project(row))
            .ok_or_else(|| absent(kind, key))
    })
}

/// The guest may still see a row that it was shown; of one that is gone, the row as it was decides.
pub(crate) fn is_seen(state: &AppState, guest: &Guest, row: &Arc<Entity>) -> bool {
    state.hub.read(|table| {
        let Ok(caller) = guest.caller() else {
            return false;
        };
        View::of(&caller, &[]).sees(table.get(row.key()).unwrap_or(row))
    })
}

fn absent(kind: Kind, key: &str) -> Problem {
    let sentence = format!("there is no {kind} with the key `{key}`");
    Problem::new("not_found", 404, sentence)
        .hint(format!("GET /api/v1/{} lists what there is", kind.plural()))
}
