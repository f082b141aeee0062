//! A text on the screen, a log as it comes or YAML: where in it one looks, and what one looks for.
//!
//! Lines are numbered from the first that ever came, so that a place stays the same line when older
//! ones are forgotten.

use std::collections::VecDeque;
use std::ops::Range;

use skytower_api_client::log::{Line, LogBuffer, Search};
use skytower_api_client::{Key, Text};

use crate::text::{breaks, width};

/// Bytes kept.
const MAX_BYTES: usize = 32 << 20;
/// Cells that one key scrolls to the side.
const SIDE_STEP: usize = 8;

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

/// The place of a row of the screen: a line, and which of the rows that it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the line.
    pub line: usize,
    /// Its row, for lines that are wrapped.
    pub row: usize,
}

/// A row of the screen: a stretch of a line.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The number of the line.
    pub number: usize,
    /// The line.
    pub line: &'a Line,
    /// The bytes of it that this row has.
    pub part: Range<usize>,
}

/// The rows and cells there are for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Rows.
    pub rows: usize,
    /// Cells in each.
    pub cells: usize,
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
    /// The line under the search cursor.
    pub found: Option<usize>,
    /// Cells scrolled to the right.
    pub left: usize,
    /// The first row shown, while the end is not followed.
    top: Place,
    buffer: LogBuffer,
    /// The search as it was typed.
    search: String,
    needle: Option<Search>,
    wrong: Option<String>,
    /// The finished lines that match.
    matching: VecDeque<usize>,
    /// The lines before this one were looked at.
    scanned: usize,
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
            found: None,
            left: 0,
            top: Place::default(),
            buffer: LogBuffer::new(MAX_BYTES),
            search: String::new(),
            needle: None,
            wrong: None,
            matching: VecDeque::new(),
            scanned: 0,
        }
    }

    /// Takes in text.
    pub fn push(&mut self, chunk: &str) {
        self.state = LogState::Live;
        self.buffer.push(chunk);
        self.scan();
        let forgotten = self.forgotten();
        self.found = self.found.filter(|at| *at >= forgotten);
    }

    /// Nothing more comes.
    pub fn end(&mut self, state: LogState) {
        self.state = state;
    }

    /// Lines forgotten at the start.
    pub fn forgotten(&self) -> usize {
        self.buffer.dropped() as usize
    }

    /// Lines that ever came.
    pub fn len(&self) -> usize {
        self.forgotten() + self.buffer.len()
    }

    /// Nothing came.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A line by its number.
    pub fn line(&self, at: usize) -> Option<&Line> {
        self.buffer.get(at.checked_sub(self.forgotten())?)
    }

    /// The search as it was typed.
    pub fn search(&self) -> &str {
        &self.search
    }

    /// What the search looks for; none when it looks for nothing.
    pub fn needle(&self) -> Option<&Search> {
        self.needle.as_ref()
    }

    /// Why the search is not taken as the regular expression that it was meant to be.
    pub fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    /// Searches for something else.
    pub fn look_for(&mut self, typed: String) {
        (self.needle, self.wrong) = match typed.as_str() {
            "" | "~" => (None, None),
            typed => Search::typed(typed),
        };
        self.search = typed;
        self.found = None;
        self.matching.clear();
        self.scanned = 0;
        self.scan();
    }

    /// Looks for the search in the lines that are new.
    fn scan(&mut self) {
        let forgotten = self.forgotten();
        while self.matching.front().is_some_and(|at| *at < forgotten) {
            self.matching.pop_front();
        }
        // The line that is being written may yet become another one.
        let finished = self.len() - usize::from(self.buffer.is_open());
        let from = self.scanned.max(forgotten);
        self.scanned = finished;
        let Some(needle) = &self.needle else { return };
        for at in from..finished {
            let line = self.buffer.get(at - forgotten);
            if line.is_some_and(|line| needle.matches(line.text())) {
                self.matching.push_back(at);
            }
        }
    }

    /// The line that is being written, when it holds the search.
    fn open_match(&self) -> Option<usize> {
        let at = self.len().checked_sub(1)?;
        let holds = self.buffer.is_open() && self.needle.as_ref()?.matches(self.line(at)?.text());
        holds.then_some(at)
    }

    /// Does the line hold the search.
    pub fn matches(&self, at: usize) -> bool {
        self.matching.binary_search(&at).is_ok()
            || (at + 1 == self.len() && self.open_match().is_some())
    }

    /// Does the line look like an error.
    pub fn is_error(&self, at: usize) -> bool {
        self.line(at).is_some_and(Line::is_error)
    }

    /// How many lines hold the search.
    pub fn count(&self) -> usize {
        self.matching.len() + usize::from(self.open_match().is_some())
    }

    fn hides(&self) -> bool {
        self.only && self.needle.is_some()
    }

    /// The first line from `at` on that is not hidden.
    fn shown_from(&self, at: usize) -> Option<usize> {
        let at = at.max(self.forgotten());
        if !self.hides() {
            return (at < self.len()).then_some(at);
        }
        let next = self.matching.partition_point(|it| *it < at);
        let next = self.matching.get(next).copied();
        next.or_else(|| self.open_match().filter(|it| *it >= at))
    }

    /// The last line before `at` that is not hidden.
    fn shown_before(&self, at: usize) -> Option<usize> {
        if !self.hides() {
            let before = at.min(self.len()).checked_sub(1)?;
            return (before >= self.forgotten()).then_some(before);
        }
        if let Some(open) = self.open_match().filter(|it| *it < at) {
            return Some(open);
        }
        let before = self.matching.partition_point(|it| *it < at);
        self.matching.get(before.checked_sub(1)?).copied()
    }

    /// The rows that a line takes.
    fn parts(&self, at: usize, cells: usize) -> Vec<Range<usize>> {
        let text = self.line(at).map_or("", Line::text);
        if self.wrap {
            breaks(text, cells)
        } else {
            std::iter::once(0..text.len()).collect()
        }
    }

    /// So many rows further up.
    fn up(&self, mut place: Place, mut rows: usize, cells: usize) -> Place {
        loop {
            let here = place.row.min(rows);
            place.row -= here;
            rows -= here;
            if rows == 0 {
                return place;
            }
            let Some(line) = self.shown_before(place.line) else {
                return place;
            };
            // Below its last row.
            let row = self.parts(line, cells).len();
            place = Place { line, row };
        }
    }

    /// So many rows further down.
    fn down(&self, mut place: Place, mut rows: usize, cells: usize) -> Place {
        loop {
            let here = self.parts(place.line, cells).len();
            if place.row + rows < here {
                place.row += rows;
                return place;
            }
            let Some(line) = self.shown_from(place.line + 1) else {
                return Place {
                    row: here.saturating_sub(1),
                    ..place
                };
            };
            rows -= here.saturating_sub(place.row).min(rows);
            place = Place { line, row: 0 };
        }
    }

    /// Where the last page begins.
    fn last_page(&self, room: Room) -> Place {
        let end = Place {
            line: self.len(),
            row: 0,
        };
        self.up(end, room.rows, room.cells)
    }

    /// The first row on the screen.
    fn first(&self, room: Room) -> Place {
        let last = self.last_page(room);
        if self.follow {
            return last;
        }
        let Some(line) = self.shown_from(self.top.line) else {
            return last;
        };
        let row = if line == self.top.line {
            let rows = self.parts(line, room.cells).len();
            self.top.row.min(rows.saturating_sub(1))
        } else {
            0
        };
        Place { line, row }.min(last)
    }

    /// The rows on the screen.
    pub fn window(&self, room: Room) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        let first = self.first(room);
        let mut skip = first.row;
        let mut next = self.shown_from(first.line);
        while let Some(number) = next
            && rows.len() < room.rows
            && let Some(line) = self.line(number)
        {
            let parts = self.parts(number, room.cells);
            rows.extend(
                parts
                    .into_iter()
                    .skip(skip)
                    .map(|part| Row { number, line, part }),
            );
            skip = 0;
            next = self.shown_from(number + 1);
        }
        rows.truncate(room.rows);
        rows
    }

    /// How many lines there are below the screen.
    pub fn below(&self, room: Room) -> usize {
        let Some(last) = self.window(room).last().map(|row| row.number) else {
            return 0;
        };
        if self.hides() {
            let before = self.matching.partition_point(|it| *it <= last);
            let open = self.open_match().is_some_and(|it| it > last);
            return self.matching.len() - before + usize::from(open);
        }
        self.len() - 1 - last
    }

    /// Scrolls; following ends when it goes up, and begins again at the end.
    pub fn scroll(&mut self, by: isize, room: Room) {
        let (first, last) = (self.first(room), self.last_page(room));
        if by < 0 {
            self.top = self.up(first, by.unsigned_abs(), room.cells);
            // Where everything is on the screen there is nothing to stay at.
            self.follow &= self.top == first;
        } else if !self.follow {
            self.top = self.down(first, by.unsigned_abs(), room.cells).min(last);
            self.follow = self.top == last;
        }
    }

    /// Scrolls to the side, not beyond what the lines on the screen have.
    pub fn scroll_side(&mut self, right: bool, room: Room) {
        let longest = self
            .window(room)
            .iter()
            .map(|row| width(row.line.text()))
            .max()
            .unwrap_or(0);
        self.left = if right {
            let most = longest.saturating_sub(room.cells).max(self.left);
            (self.left + SIDE_STEP).min(most)
        } else {
            self.left.saturating_sub(SIDE_STEP)
        };
    }

    /// To the start.
    pub fn to_top(&mut self) {
        self.follow = false;
        self.top = Place::default();
    }

    /// Follows the end, or stays at what is on the screen.
    pub fn switch_follow(&mut self, room: Room) {
        self.top = self.first(room);
        self.follow = !self.follow;
    }

    /// To the next (or previous) line for which `wanted`, from the one found last or from what is
    /// on the screen. Says whether there was one.
    pub fn seek(
        &mut self,
        forward: bool,
        room: Room,
        wanted: impl Fn(&Self, usize) -> bool,
    ) -> bool {
        let window = self.window(room);
        let (Some(first), Some(last)) = (window.first(), window.last()) else {
            return false;
        };
        let shown = first.number..last.number + 1;
        let here = self.found.filter(|at| shown.contains(at));
        let wanted = |at: &usize| wanted(self, *at) && self.shown_from(*at) == Some(*at);
        let found = if forward {
            let from = here.map_or(shown.start, |at| at + 1);
            (from..self.len()).find(wanted)
        } else {
            let to = here.unwrap_or(shown.end);
            (self.forgotten()..to).rev().find(wanted)
        };
        let Some(at) = found else { return false };
        let first = self.first(room);
        self.found = Some(at);
        self.follow = false;
        // What is well within the screen does not move; else a third from the top, so that what
        // led to it is seen.
        let within = shown.start + 1..shown.end.saturating_sub(1);
        self.top = if within.contains(&at) {
            first
        } else {
            let place = Place { line: at, row: 0 };
            self.up(place, room.rows / 3, room.cells)
                .min(self.last_page(room))
        };
        true
    }

    /// Everything, for a file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.buffer.lines_from(0) {
            text.push_str(line.text());
            text.push('\n');
        }
        text
    }

    /// The lines on the screen, in full.
    pub fn text_shown(&self, room: Room) -> String {
        let mut rows = self.window(room);
        rows.dedup_by_key(|row| row.number);
        let lines: Vec<&str> = rows.iter().map(|row| row.line.text()).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::Kind;

    const ROOM: Room = Room { rows: 5, cells: 20 };

    fn view(text: &str) -> LogView {
        let mut view = LogView::new(1, Key::new("prod", Kind::Job, 1), None);
        view.push(text);
        view
    }

    fn shown(view: &LogView) -> Vec<&str> {
        let rows = view.window(ROOM);
        rows.iter()
            .map(|row| &row.line.text()[row.part.clone()])
            .collect()
    }

    fn steps(from: usize, to: usize) -> String {
        (from..to).map(|i| format!("step {i}\n")).collect()
    }

    #[test]
    fn what_one_reads_stays_while_lines_come_and_go() {
        let mut log = view("");
        log.buffer = LogBuffer::new(100_000);
        log.push(&steps(0, 1000));
        log.scroll(-3, ROOM);
        let before: Vec<String> = shown(&log).iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(before[0], "step 992");
        // As much as makes it forget the first lines, and not those on the screen.
        while log.forgotten() < 500 {
            log.push("another line\n");
        }
        assert!(log.forgotten() < 992, "{}", log.forgotten());
        assert_eq!(shown(&log), before);
        while log.forgotten() < 2000 {
            log.push("another line\n");
        }
        assert_eq!(shown(&log).len(), ROOM.rows);
    }

    #[test]
    fn scrolling_down_to_the_end_follows_again() {
        let mut log = view(&steps(0, 20));
        log.scroll(-1, ROOM);
        assert!(!log.follow);
        log.scroll(1, ROOM);
        assert!(log.follow);
        log.push(&steps(20, 21));
        assert_eq!(shown(&log).last(), Some(&"step 20"));
        let mut short = view("one\ntwo\n");
        short.scroll(-3, ROOM);
        assert!(short.follow);
    }

    #[test]
    fn long_lines_scroll_row_by_row() {
        let mut log = view("first\naaaa bbbb cccc dddd eeee ffff gggg hhhh iiii jjjj kkkk\nlast\n");
        log.wrap = true;
        let rows = [
            "aaaa bbbb cccc dddd",
            "eeee ffff gggg hhhh",
            "iiii jjjj kkkk",
            "last",
        ];
        assert_eq!(shown(&log)[1..], rows);
        log.push("more\nand more\n");
        assert_eq!(shown(&log)[0], rows[1]);
        log.scroll(-1, ROOM);
        assert_eq!(shown(&log)[0], rows[0]);
        log.scroll(-1, ROOM);
        assert_eq!(shown(&log)[0], "first");
        log.scroll(2, ROOM);
        assert_eq!(shown(&log)[0], rows[1]);
    }

    #[test]
    fn only_matches_are_shown_and_counted_as_they_come() {
        let mut log = view(&steps(0, 30));
        log.look_for("step 2".to_owned());
        log.only = true;
        assert_eq!(log.count(), 11);
        assert_eq!(shown(&log).first(), Some(&"step 25"));
        log.push("step 2");
        assert_eq!(log.count(), 12);
        assert_eq!(shown(&log).last(), Some(&"step 2"));
        log.push("\rno\nstep 200\n");
        assert_eq!(log.count(), 12);
        assert_eq!(shown(&log).last(), Some(&"step 200"));
        log.scroll(-100, ROOM);
        assert_eq!(shown(&log)[..2], ["step 2", "step 20"]);
        assert_eq!(log.below(ROOM), 7);
    }

    #[test]
    fn searching_goes_on_from_what_is_on_the_screen() {
        let mut log = view(&steps(0, 100));
        log.look_for("step 4".to_owned());
        assert!(!log.seek(true, ROOM, LogView::matches));
        assert!(log.seek(false, ROOM, LogView::matches));
        assert_eq!(log.found, Some(49));
        assert_eq!(shown(&log)[1], "step 49");
        assert!(log.seek(false, ROOM, LogView::matches));
        assert_eq!(log.found, Some(48));
        log.to_top();
        assert!(log.seek(true, ROOM, LogView::matches));
        assert_eq!(log.found, Some(4));
    }

    #[test]
    fn the_side_ends_where_the_lines_do() {
        let mut log = view(&"x".repeat(30));
        for _ in 0..5 {
            log.scroll_side(true, ROOM);
        }
        assert_eq!(log.left, 10);
        log.scroll_side(false, ROOM);
        assert_eq!(log.left, 2);
    }
}
