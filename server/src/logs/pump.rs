//! Moves one log from its source into a [`Ring`], opening it again when it breaks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use skytower_api_client::log::note;
use skytower_api_client::wire::Problem;

use super::ring::Ring;
use super::{Limits, Logs, splice};
use crate::hub::Hub;
use crate::source::{LogChunk, LogQuery, LogStream, Source};

/// Lines asked for when a stream is opened again: what was read last has to be among them.
const OVERLAP_LINES: u32 = 1000;
/// Bytes that are compared.
const OVERLAP_BYTES: usize = 64 * 1024;
/// More is not held back while a stream is joined.
const MOST_HELD: usize = 1024 * 1024;
/// Streams in a row that brought nothing new, after which the log is taken as ended.
const FRUITLESS: u32 = 12;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Pump {
    pub(super) source: Arc<dyn Source>,
    pub(super) state: Arc<Hub>,
    pub(super) query: LogQuery,
    pub(super) ring: Arc<Ring>,
    pub(super) limits: Limits,
}

/// How a stream ended, and whether it brought anything.
struct Ended {
    because: Option<Problem>,
    brought: bool,
}

impl Pump {
    /// Runs until the log has ended or nobody reads it.
    pub(super) async fn run(self, logs: &Logs) {
        let end = tokio::select! {
            end = self.pump() => end,
            () = self.abandoned(logs) => Ok(()),
        };
        // First nobody can join any more, then those who read are told.
        logs.retire(&self.query, &self.ring, false);
        self.ring.end(end);
    }

    async fn abandoned(&self, logs: &Logs) {
        let mut reading = self.ring.reading();
        loop {
            reading.borrow_and_update();
            if self.ring.is_read() {
                if reading.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let came_back = tokio::time::timeout(self.limits.linger, async {
                while !self.ring.is_read() && reading.changed().await.is_ok() {}
            });
            if came_back.await.is_err() && logs.retire(&self.query, &self.ring, true) {
                return;
            }
        }
    }

    async fn pump(&self) -> Result<(), Problem> {
        let stream = self.source.logs(&self.query).await?;
        self.ring.open();
        let mut ended = self.drain(stream, false).await;
        let mut fruitless = 0;
        let mut pause = self.limits.pause;
        loop {
            match &ended.because {
                // It ended as logs do.
                None => return Ok(()),
                Some(problem) if !is_passing(problem) => return Err(problem.clone()),
                Some(_) if ended.brought => {
                    (fruitless, pause) = (0, self.limits.pause);
                }
                Some(problem) => {
                    fruitless += 1;
                    if fruitless >= FRUITLESS {
                        return Err(problem.clone());
                    }
                }
            }
            let was_over = self.is_over();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let again = LogQuery {
                tail: Some(OVERLAP_LINES),
                ..self.query.clone()
            };
            ended = match self.source.logs(&again).await {
                Ok(stream) => self.drain(stream, true).await,
                Err(problem) => Ended {
                    because: Some(problem),
                    brought: false,
                },
            };
            // What was over before the last try writes no more; that try read the rest of it.
            if was_over && !ended.brought {
                return Ok(());
            }
        }
    }

    async fn drain(&self, mut stream: LogStream, joining: bool) -> Ended {
        let before = joining.then(|| self.ring.recent(OVERLAP_BYTES));
        let mut held = String::new();
        let mut joining = joining;
        let mut brought = false;
        loop {
            self.ring.room().await;
            let next = if joining {
                match tokio::time::timeout(self.limits.settle, stream.next()).await {
                    Ok(next) => next,
                    Err(_) if held.is_empty() => continue,
                    Err(_) => {
                        brought |= self.join(before.as_deref(), &held);
                        joining = false;
                        continue;
                    }
                }
            } else {
                stream.next().await
            };
            match next {
                Some(Ok(LogChunk::Text(text))) if joining => {
                    held += &text;
                    if held.len() > MOST_HELD {
                        brought |= self.join(before.as_deref(), &held);
                        joining = false;
                    }
                }
                Some(Ok(chunk)) => {
                    brought |= matches!(chunk, LogChunk::Text(_));
                    self.ring.push(chunk);
                }
                ended => {
                    if joining && !held.is_empty() {
                        brought |= self.join(before.as_deref(), &held);
                    }
                    return Ended {
                        because: ended.and_then(Result::err),
                        brought,
                    };
                }
            }
        }
    }

    /// True when there was something new.
    fn join(&self, before: Option<&str>, again: &str) -> bool {
        let before = before.unwrap_or_default();
        if let Some(new) = splice::after(before, again) {
            if !new.is_empty() {
                self.ring.push(LogChunk::Text(new.to_owned()));
            }
            return !new.is_empty();
        }
        let line_end = if before.ends_with('\n') { "" } else { "\n" };
        let gap = note("the connection broke: lines may be missing or repeated here");
        self.ring
            .push(LogChunk::Text(format!("{line_end}{gap}{again}")));
        true
    }

    fn is_over(&self) -> bool {
        self.state
            .get(self.query.row.key())
            .is_none_or(|row| row.phase().is_over())
    }
}

/// It may be different in a moment: the connection broke, or SkyPilot restarts.
fn is_passing(problem: &Problem) -> bool {
    matches!(
        &*problem.code,
        "source_unreachable" | "source_answer_lost" | "source_busy" | "source_slow"
    )
}
