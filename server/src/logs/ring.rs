//! The recent text of one stream, and those who read it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use skytower_api_client::log::note;
use skytower_api_client::wire::Problem;
use tokio::sync::watch;

use crate::source::LogChunk;

/// What a chunk costs besides its text.
const OVERHEAD: usize = 64;

#[derive(Debug)]
struct Held {
    /// Bytes of all chunks before it.
    offset: u64,
    chunk: LogChunk,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Held>,
    /// The number of the oldest chunk that is held.
    first: u64,
    /// Bytes held.
    bytes: usize,
    /// Bytes of all chunks ever.
    written: u64,
    opened: bool,
    end: Option<Result<(), Problem>>,
    /// Where each reader is: the number of its next chunk.
    readers: HashMap<u64, u64>,
    next_reader: u64,
}

impl State {
    fn offset(&self, number: u64) -> u64 {
        let index = number.saturating_sub(self.first) as usize;
        self.chunks
            .get(index)
            .map_or(self.written, |held| held.offset)
    }
}

/// A bounded piece of the log's end.
#[derive(Debug)]
pub(super) struct Ring {
    state: Mutex<State>,
    capacity: usize,
    /// How much of the log's past was asked for.
    tail: Option<u32>,
    /// Rises when there is something to read.
    written: watch::Sender<u64>,
    /// Rises when a reader came, went or read.
    read: watch::Sender<u64>,
}

impl Ring {
    pub(super) fn new(capacity: usize, tail: Option<u32>) -> Self {
        Self {
            state: Mutex::default(),
            capacity,
            tail,
            written: watch::Sender::new(0),
            read: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new reader, who begins `tail` lines before the end.
    pub(super) fn join(self: &Arc<Self>, tail: Option<u32>) -> Reader {
        let mut state = self.state();
        let (next, head) = state.begin(tail);
        let began_late = state.first > 0
            || self
                .tail
                .is_some_and(|had| tail.is_none_or(|wanted| wanted > had));
        let cut = head.is_none() && next == state.first && state.written > 0 && began_late;
        let mut before = VecDeque::new();
        if cut {
            before.push_back(note(
                "earlier lines are not held here: read without following for all",
            ));
        }
        before.extend(head);
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, next);
        let offset = state.offset(next);
        drop(state);
        self.read.send_modify(|count| *count += 1);
        Reader {
            wake: self.written.subscribe(),
            ring: self.clone(),
            id,
            next,
            offset,
            before,
            mid_line: false,
            ended: false,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        !self.state().readers.is_empty()
    }

    /// Tells when readers came, went or read.
    pub(super) fn reading(&self) -> watch::Receiver<u64> {
        self.read.subscribe()
    }

    pub(super) fn open(&self) {
        self.state().opened = true;
        self.written.send_modify(|count| *count += 1);
    }

    pub(super) fn push(&self, chunk: LogChunk) {
        let size = match &chunk {
            LogChunk::Text(text) => text.len(),
            LogChunk::Waiting(_) => 0,
        };
        let mut state = self.state();
        let offset = state.written;
        state.written += size as u64;
        state.bytes += size + OVERHEAD;
        state.chunks.push_back(Held { offset, chunk });
        while state.bytes > self.capacity && state.chunks.len() > 1 {
            if let Some(Held {
                chunk: LogChunk::Text(text),
                ..
            }) = state.chunks.pop_front()
            {
                state.bytes -= text.len();
            }
            state.bytes -= OVERHEAD;
            state.first += 1;
        }
        drop(state);
        self.written.send_modify(|count| *count += 1);
    }

    pub(super) fn end(&self, end: Result<(), Problem>) {
        self.state().end.get_or_insert(end);
        self.written.send_modify(|count| *count += 1);
    }

    /// Waits until somebody has read most of what is held: a log that comes faster than anybody can
    /// read is not read faster than that. Nobody waits for the slower ones.
    pub(super) async fn room(&self) {
        let mut reading = self.reading();
        loop {
            reading.borrow_and_update();
            {
                let state = self.state();
                let Some(fastest) = state.readers.values().max() else {
                    return;
                };
                let unread = state.written - state.offset(*fastest);
                if unread < self.capacity as u64 / 2 {
                    return;
                }
            }
            if reading.changed().await.is_err() {
                return;
            }
        }
    }

    /// The last `most` bytes of text, about.
    pub(super) fn recent(&self, most: usize) -> String {
        let state = self.state();
        let mut texts = Vec::new();
        let mut size = 0;
        for held in state.chunks.iter().rev() {
            if let LogChunk::Text(text) = &held.chunk {
                texts.push(text.as_str());
                size += text.len();
                if size >= most {
                    break;
                }
            }
        }
        texts.reverse();
        texts.concat()
    }
}

impl State {
    /// The number of the chunk to begin with, and the part of the one before that is wanted too.
    fn begin(&self, tail: Option<u32>) -> (u64, Option<String>) {
        let Some(tail) = tail else {
            return (self.first, None);
        };
        let texts = self.chunks.iter().enumerate().rev();
        let texts = texts.filter_map(|(index, held)| match &held.chunk {
            LogChunk::Text(text) if !text.is_empty() => Some((index as u64, text)),
            _ => None,
        });
        let mut wanted = u64::from(tail);
        if texts
            .clone()
            .next()
            .is_some_and(|(_, last)| last.ends_with('\n'))
        {
            // The line break at the very end begins no line.
            wanted += 1;
        }
        let end = self.first + self.chunks.len() as u64;
        if wanted == 0 {
            return (end, None);
        }
        for (index, text) in texts {
            for (at, _) in text.rmatch_indices('\n') {
                wanted -= 1;
                if wanted == 0 {
                    let rest = &text[at + 1..];
                    return (
                        self.first + index + 1,
                        (!rest.is_empty()).then(|| rest.to_owned()),
                    );
                }
            }
        }
        (self.first, None)
    }
}

/// One who reads.
#[derive(Debug)]
pub(super) struct Reader {
    ring: Arc<Ring>,
    wake: watch::Receiver<u64>,
    id: u64,
    next: u64,
    /// Bytes before `next`.
    offset: u64,
    /// What comes before the chunks.
    before: VecDeque<String>,
    mid_line: bool,
    ended: bool,
}

impl Reader {
    /// Waits until the source has opened the log, or said why not.
    pub(super) async fn opened(&mut self) -> Result<(), Problem> {
        loop {
            self.wake.borrow_and_update();
            {
                let state = self.ring.state();
                match (&state.end, state.opened) {
                    (_, true) => return Ok(()),
                    (Some(end), false) => return end.clone(),
                    (None, false) => {}
                }
            }
            if self.wake.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// The next chunk; none when the log has ended.
    pub(super) async fn next(&mut self) -> Option<Result<LogChunk, Problem>> {
        loop {
            if let Some(text) = self.before.pop_front() {
                return Some(Ok(self.text(text)));
            }
            self.wake.borrow_and_update();
            if let Poll::Ready(item) = self.take() {
                return item;
            }
            if self.wake.changed().await.is_err() {
                return None;
            }
        }
    }

    fn text(&mut self, text: String) -> LogChunk {
        if !text.is_empty() {
            self.mid_line = !text.ends_with('\n');
        }
        LogChunk::Text(text)
    }

    /// What there is; pending when there is nothing yet.
    fn take(&mut self) -> Poll<Option<Result<LogChunk, Problem>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.ring.state();
        if self.next < state.first {
            let oldest = state.offset(state.first);
            let skipped = (oldest - self.offset).div_ceil(1024);
            (self.next, self.offset) = (state.first, oldest);
            state.readers.insert(self.id, self.next);
            drop(state);
            let line_end = if self.mid_line { "\n" } else { "" };
            let words =
                format!("{skipped} KiB skipped: the log is written faster than it is read here");
            let marker = format!("{line_end}{}", note(&words));
            return Poll::Ready(Some(Ok(self.text(marker))));
        }
        let index = (self.next - state.first) as usize;
        let Some(held) = state.chunks.get(index) else {
            let Some(end) = state.end.clone() else {
                return Poll::Pending;
            };
            self.ended = true;
            return Poll::Ready(end.err().map(Err));
        };
        let chunk = held.chunk.clone();
        self.next += 1;
        self.offset = state.offset(self.next);
        state.readers.insert(self.id, self.next);
        drop(state);
        self.ring.read.send_modify(|count| *count += 1);
        Poll::Ready(Some(Ok(match chunk {
            LogChunk::Text(text) => self.text(text),
            waiting @ LogChunk::Waiting(_) => waiting,
        })))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ring.state().readers.remove(&self.id);
        self.ring.read.send_modify(|count| *count += 1);
    }
}
