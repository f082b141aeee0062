//! A text on the screen: a log as it comes, or YAML. Bounded in lines and bytes.

use std::collections::VecDeque;

use skytower_api_client::{Key, Text};

use crate::text::wrap;

/// Lines kept.
const MAX_LINES: usize = 100_000;
/// Bytes kept.
const MAX_BYTES: usize = 32 << 20;
/// A line longer than this is broken.
const MAX_LINE: usize = 16 << 10;

/// Where a log stands.
#[derive(Clone, Debug, PartialEq)]
pub enum LogState {
    /// Asked for, nothing came.
    Opening,
    /// Comes.
    Live,
    /// All is here.
    Ended,
    /// Broke off: what happened, and what to do.
    Failed(Text, Option<Text>),
}

/// A text on the screen.
#[derive(Debug)]
pub struct LogView {
    /// Its number: what comes for another one is late.
    pub id: u64,
    /// What it is the text of.
    pub key: Key,
    /// Which log; none is the program's.
    pub channel: Option<&'static str>,
    /// Where it stands.
    pub state: LogState,
    /// Stay at the end.
    pub follow: bool,
    /// Break long lines.
    pub wrap: bool,
    /// Show only matches.
    pub only: bool,
    /// The search.
    pub search: String,
    /// The line under the search cursor.
    pub found: Option<usize>,
    /// The first line shown, counted from the first that ever came.
    pub top: usize,
    /// Cells scrolled to the right.
    pub left: usize,
    /// Lines forgotten at the start.
    pub forgotten: usize,
    lines: VecDeque<Text>,
    partial: String,
    bytes: usize,
}

impl LogView {
    /// An empty one.
    pub fn new(id: u64, key: Key, channel: Option<&'static str>) -> Self {
        Self {
            id,
            key,
            channel,
            state: LogState::Opening,
            follow: true,
            wrap: false,
            only: false,
            search: String::new(),
            found: None,
            top: 0,
            left: 0,
            forgotten: 0,
            lines: VecDeque::new(),
            partial: String::new(),
            bytes: 0,
        }
    }

    /// Takes in text.
    pub fn push(&mut self, chunk: &str) {
        self.state = LogState::Live;
        for c in chunk.chars() {
            if c == '\n' || self.partial.len() >= MAX_LINE {
                self.end_line();
            }
            if c != '\n' {
                self.partial.push(c);
            }
        }
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(line) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= line.len();
            self.forgotten += 1;
        }
    }

    fn end_line(&mut self) {
        let raw = std::mem::take(&mut self.partial);
        // A progress bar repaints its line: the last state is what remains.
        let raw = raw.trim_end_matches('\r');
        let line = Text::new(raw.rsplit('\r').next().unwrap_or_default());
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// Nothing more comes.
    pub fn end(&mut self, state: LogState) {
        if !self.partial.is_empty() {
            self.end_line();
        }
        self.state = state;
    }

    /// Lines that ever came.
    pub fn len(&self) -> usize {
        self.forgotten + self.lines.len()
    }

    /// Nothing came.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A line by its number.
    pub fn line(&self, at: usize) -> Option<&Text> {
        self.lines.get(at.checked_sub(self.forgotten)?)
    }

    /// Does the line hold the search.
    pub fn matches(&self, at: usize) -> bool {
        !self.search.is_empty() && self.line(at).is_some_and(|line| holds(line, &self.search))
    }

    /// Does the line look like an error.
    pub fn is_error(&self, at: usize) -> bool {
        self.line(at).is_some_and(|line| looks_bad(line))
    }

    /// How many lines hold the search.
    pub fn count(&self) -> usize {
        if self.search.is_empty() {
            return 0;
        }
        self.lines
            .iter()
            .filter(|line| holds(line, &self.search))
            .count()
    }

    fn is_shown(&self, at: usize) -> bool {
        !self.only || self.search.is_empty() || self.matches(at)
    }

    /// The numbers and texts of the lines in a window of `height` rows of `room` cells.
    pub fn window(&self, height: usize, room: usize) -> Vec<(usize, String)> {
        let mut rows = Vec::new();
        if self.follow {
            let mut at = self.len();
            while rows.len() < height && at > self.forgotten {
                at -= 1;
                if self.is_shown(at) {
                    for piece in self.pieces(at, room).into_iter().rev() {
                        rows.push((at, piece));
                    }
                }
            }
            rows.truncate(height);
            rows.reverse();
        } else {
            let mut at = self.top.max(self.forgotten);
            while rows.len() < height && at < self.len() {
                if self.is_shown(at) {
                    for piece in self.pieces(at, room) {
                        rows.push((at, piece));
                    }
                }
                at += 1;
            }
            rows.truncate(height);
        }
        rows
    }

    fn pieces(&self, at: usize, room: usize) -> Vec<String> {
        let line = self.line(at).map_or("", Text::as_str);
        if self.wrap {
            wrap(line, room.max(1))
        } else {
            vec![crate::text::tail(line, self.left).to_owned()]
        }
    }

    /// Scrolls; following ends when it goes up, and begins at the end.
    pub fn scroll(&mut self, by: isize, height: usize) {
        if self.follow {
            if by >= 0 {
                return;
            }
            self.top = self.len().saturating_sub(height);
            self.follow = false;
        }
        let last = self.len().saturating_sub(height);
        let step = by.signum();
        let mut left = by.unsigned_abs();
        let mut at = self.top;
        while left > 0 {
            let next = at.saturating_add_signed(step);
            if next == at || next < self.forgotten || next > last {
                break;
            }
            at = next;
            if self.is_shown(at) {
                left -= 1;
            }
        }
        self.top = at;
    }

    /// To the start.
    pub fn to_top(&mut self) {
        self.follow = false;
        self.top = self.forgotten;
    }

    /// To the next (or previous) line for which `wanted`. Says whether there was one.
    pub fn seek(
        &mut self,
        forward: bool,
        height: usize,
        wanted: impl Fn(&Self, usize) -> bool,
    ) -> bool {
        let from = self.found.unwrap_or(if self.follow && !forward {
            self.len()
        } else {
            self.top
                .max(self.forgotten)
                .saturating_sub(usize::from(forward))
        });
        let found = if forward {
            let start = if self.found.is_none() {
                self.top.max(self.forgotten)
            } else {
                from + 1
            };
            (start..self.len()).find(|at| wanted(self, *at))
        } else {
            (self.forgotten..from.min(self.len()))
                .rev()
                .find(|at| wanted(self, *at))
        };
        let Some(at) = found else { return false };
        self.found = Some(at);
        self.follow = false;
        // A third from the top, so that what led to it is seen.
        self.top = at
            .saturating_sub(height / 3)
            .min(self.len().saturating_sub(height))
            .max(self.forgotten);
        true
    }

    /// Everything, for a file.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.bytes + self.lines.len());
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Smart case: upper case counts when the search has any.
fn holds(line: &str, search: &str) -> bool {
    if search.chars().any(char::is_uppercase) {
        line.contains(search)
    } else {
        line.to_lowercase().contains(search)
    }
}

fn looks_bad(line: &str) -> bool {
    const WORDS: &[&str] = &[
        "error",
        "exception",
        "traceback",
        "failed",
        "fatal",
        "panic",
    ];
    let line = line.to_lowercase();
    WORDS.iter().any(|word| line.contains(word))
}
