//! Logs over REST: text as it comes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use skytower_api_client::entity::{Outcome, Request};
use skytower_api_client::log::note;
use skytower_api_client::rest;
use skytower_api_client::wire::Problem;
use skytower_api_client::{Entity, Key, Kind, Text};
use tokio::sync::watch;

use super::AppState;
use super::lists::{find_row, is_seen, kind_of};
use super::problem::{Failure, Parameters};
use crate::guest::{Guest, Standing};
use crate::requests::accept;
use crate::source::{LogChannel, LogChunk, LogQuery, LogStream};

/// `GET /api/v1/{kind}/{key}/logs?follow=&tail=&channel=`
pub(crate) async fn read(
    State(state): State<AppState>,
    Extension(guest): Extension<Guest>,
    Path((plural, key)): Path<(String, String)>,
    Parameters(wanted): Parameters<rest::LogQuery>,
) -> Result<Response, Failure> {
    let row = find_row(&state, &guest, kind_of(&plural)?, &key)?;
    let query = LogQuery {
        channel: channel(wanted.channel.as_deref())?,
        follow: wanted.follow,
        tail: wanted.tail,
        row: upstream_of(&row).unwrap_or_else(|| row.clone()),
    };
    let mut log = state.logs.open(&state.hub, query).await?;
    if !wanted.follow {
        // Whether there is anything to read is known before the answer begins.
        log = begun(log).await?;
    }
    // It may have been opened slowly: whether it may still be seen is looked at before the first word.
    let (mut standing, mut changes) = (guest.standing(), state.hub.changes());
    standing.mark_changed();
    changes.mark_changed();
    let reading = Reading {
        log,
        lines: Lines::default(),
        standing,
        changes,
        guest,
        state,
        row,
    };
    let text = futures_util::stream::unfold(Some(reading), async |reading| {
        let mut reading = reading?;
        let (text, goes_on) = reading.next().await?;
        Some((text, goes_on.then_some(reading)))
    });
    let body = Body::from_stream(text.map(|text| Ok::<_, Infallible>(Bytes::from(text))));
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, body).into_response())
}

/// What a request of skytower's own did is told by the request that it became at the source: of
/// several, by the first that did not do what was asked.
fn upstream_of(row: &Entity) -> Option<Arc<Entity>> {
    let own = row.as_request().filter(|_| accept::is_own(row))?;
    let handed = own
        .results
        .iter()
        .filter(|result| result.upstream.is_some());
    let result = handed
        .clone()
        .find(|result| result.outcome == Outcome::Failed)
        .or_else(|| handed.clone().next())?;
    let id = result.upstream.clone()?;
    let source = Text::from(result.key.source());
    Some(Arc::new(Entity::Request(Request {
        key: Key::new(&source, Kind::Request, &id),
        source,
        workspace: own.workspace.clone(),
        origin: "skypilot".into(),
        name: id.clone(),
        request_id: id,
        ..Request::default()
    })))
}

/// The last words of a log that was being read when the rights to it ended.
const NO_MORE: &str = "you may not see this log any more";

struct Reading {
    log: LogStream,
    lines: Lines,
    standing: watch::Receiver<Standing>,
    /// The row may move to where it is not seen.
    changes: watch::Receiver<u64>,
    guest: Guest,
    state: AppState,
    row: Arc<Entity>,
}

impl Reading {
    /// The next text, and whether anything may follow.
    async fn next(&mut self) -> Option<(String, bool)> {
        loop {
            // The rights come first: not a word follows the loss of them, however much is there to read.
            tokio::select! {
                biased;
                () = self.state.stop.cancelled() => {
                    return Some((self.lines.note("the server ends"), false));
                }
                changed = self.standing.changed() => {
                    if changed.is_err() || !self.is_seen() {
                        return Some((self.lines.note(NO_MORE), false));
                    }
                }
                changed = self.changes.changed() => {
                    if changed.is_err() || !self.is_seen() {
                        return Some((self.lines.note(NO_MORE), false));
                    }
                }
                item = self.log.next() => {
                    let item = item?;
                    // It was read while the rights may have ended.
                    let changed = |now: Result<bool, _>| now.unwrap_or(true);
                    if (changed(self.standing.has_changed()) || changed(self.changes.has_changed()))
                        && !self.is_seen()
                    {
                        return Some((self.lines.note(NO_MORE), false));
                    }
                    let text = self.lines.write(item);
                    if !text.is_empty() {
                        return Some((text, true));
                    }
                }
            }
        }
    }

    fn is_seen(&mut self) -> bool {
        if let Some(present) = self.state.hub.get(self.row.key()) {
            // When it is gone, where it was last decides.
            self.row = present;
        }
        is_seen(&self.state, &self.guest, &self.row)
    }
}

fn channel(word: Option<&str>) -> Result<LogChannel, Problem> {
    let Some(word) = word else {
        return Ok(LogChannel::default());
    };
    let known = LogChannel::ALL.iter().copied();
    known
        .clone()
        .find(|channel| channel.word() == word)
        .ok_or_else(|| {
            let words: Vec<_> = known.map(LogChannel::word).collect();
            Problem::new(
                "bad_parameter",
                400,
                format!("there is no log channel `{word}`"),
            )
            .hint(format!("the channels are: {}", words.join(", ")))
        })
}

/// The log from its first words on, or the problem that came instead of them.
async fn begun(log: LogStream) -> Result<LogStream, Problem> {
    // An empty log is over here already; not every stream may be asked again.
    let mut log = log.fuse();
    let mut first = Vec::new();
    while let Some(item) = log.next().await {
        let is_text = matches!(item, Ok(LogChunk::Text(_)));
        first.push(Ok(item?));
        if is_text {
            break;
        }
    }
    Ok(Box::pin(futures_util::stream::iter(first).chain(log)))
}

/// Chunks as text: what is no part of the log stands on lines of its own.
#[derive(Debug, Default)]
struct Lines {
    mid_line: bool,
}

impl Lines {
    fn write(&mut self, item: Result<LogChunk, Problem>) -> String {
        match item {
            Ok(LogChunk::Text(text)) => {
                if !text.is_empty() {
                    self.mid_line = !text.ends_with('\n');
                }
                text
            }
            Ok(LogChunk::Waiting(Some(waiting))) => self.note(&waiting),
            Ok(LogChunk::Waiting(None)) => String::new(),
            Err(problem) => {
                let hint = problem
                    .hint
                    .as_ref()
                    .map_or_else(String::new, |hint| format!(" ({hint})"));
                self.note(&format!("{problem}{hint}"))
            }
        }
    }

    fn note(&mut self, words: &str) -> String {
        let line_end = if std::mem::take(&mut self.mid_line) {
            "\n"
        } else {
            ""
        };
        format!("{line_end}{}", note(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stand_on_lines_of_their_own() {
        let mut lines = Lines::default();
        let mut out = lines.write(Ok(LogChunk::Waiting(Some("a node".into()))));
        out += &lines.write(Ok(LogChunk::Text("50%".into())));
        out += &lines.write(Err(Problem::new("x", 500, "it broke").hint("wait")));
        out += &lines.write(Ok(LogChunk::Text("end\n".into())));
        assert_eq!(
            out,
            format!("{}50%\n{}end\n", note("a node"), note("it broke (wait)"))
        );
    }

    #[test]
    fn channels_have_names() {
        assert_eq!(channel(None).unwrap(), LogChannel::Run);
        assert_eq!(channel(Some("provision")).unwrap(), LogChannel::Provision);
        assert_eq!(channel(Some("setup")).unwrap_err().status, 400);
    }

    #[tokio::test]
    async fn an_empty_log_is_empty() {
        let log: LogStream = Box::pin(futures_util::stream::unfold((), async |()| None));
        assert_eq!(begun(log).await.unwrap().count().await, 0);
    }

    #[tokio::test]
    async fn a_problem_before_the_first_word_is_the_answer() {
        let items = vec![
            Ok(LogChunk::Waiting(None)),
            Err(Problem::new("no", 504, "no")),
        ];
        let log: LogStream = Box::pin(futures_util::stream::iter(items));
        assert_eq!(
            begun(log).await.err().map(|problem| problem.status),
            Some(504)
        );
    }
}
