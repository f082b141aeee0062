//! Texts: a log with its colours, or YAML; and the row above that says where they stand.

use std::iter::Peekable;
use std::ops::Range;

use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use skytower_api_client::column::Cut;
use skytower_api_client::{human, log};
use unicode_segmentation::UnicodeSegmentation as _;

use super::pen::Pen;
use crate::app::{
    LogState, LogView, Model, Page, Room, Row, last_events, list_area, text_area, text_room,
};
use crate::text::{cut, width, wrap};
use crate::theme::Tone;

/// A log or YAML, with what happened last above it where that has a place.
pub(super) fn draw(model: &Model, pen: &mut Pen<'_>) {
    let area = text_area(model);
    let events = last_events(model);
    let first = area.y.saturating_sub(events.len() as u16);
    for (y, event) in (first..).zip(events) {
        let time = human::clock(event.at, model.options.utc);
        let x = pen.put(1, y, &time, Tone::Dim) + 1;
        let room = usize::from(area.width.saturating_sub(x + 1));
        let text = cut(&event.text, room, Cut::End, pen.theme.ascii);
        pen.put(x, y, &text, Tone::Plain);
    }
    match model.text_view() {
        Some(view) if view.is_empty() => nothing(view, area, pen),
        Some(view) => lines(view, area, text_room(model), pen),
        None => pen.line(area.y, "loading", Tone::Dim),
    }
}

/// Why there is no line.
fn nothing(view: &LogView, area: Rect, pen: &mut Pen<'_>) {
    let (words, hint, tone) = match &view.state {
        LogState::Opening => ("waiting for the first line", None, Tone::Dim),
        LogState::Live | LogState::Ended => ("there is nothing in it", None, Tone::Dim),
        LogState::Failed(message, hint) => (message.as_str(), hint.as_ref(), Tone::Bad),
    };
    let room = usize::from(area.width).saturating_sub(2);
    let words = wrap(words, room).into_iter().map(|piece| (piece, tone));
    let hint = hint.map_or_else(Vec::new, |hint| wrap(hint, room));
    let hint = hint.into_iter().map(|piece| (piece, Tone::Dim));
    for (y, (piece, tone)) in (area.y..area.bottom()).zip(words.chain(hint)) {
        pen.line(y, &piece, tone);
    }
}

fn lines(view: &LogView, area: Rect, room: Room, pen: &mut Pen<'_>) {
    for (y, row) in (area.y..area.bottom()).zip(view.window(room)) {
        if view.found == Some(row.number) {
            pen.put(0, y, pen.theme.pick("▌", ">"), Tone::Accent);
        }
        line(view, &row, y, room.cells, pen);
    }
    if let (LogState::Failed(message, _), true) = (&view.state, area.height > 0) {
        let text = format!("broken off: {message}");
        let text = cut(&text, room.cells, Cut::End, pen.theme.ascii);
        pen.line(area.bottom() - 1, &text, Tone::Bad);
    }
}

/// A stretch of cells in one style.
struct Run {
    x: usize,
    cells: usize,
    text: String,
    style: Style,
}

/// One row. A wide character that an edge would cut in half leaves its cell empty.
fn line(view: &LogView, row: &Row<'_>, y: u16, cells: usize, pen: &mut Pen<'_>) {
    let left = if view.wrap { 0 } else { view.left };
    let mut runs: Vec<Run> = Vec::new();
    let mut column = 0;
    let mut more = false;
    'row: for (words, style) in styled(view, row, pen) {
        for cluster in words.graphemes(true) {
            let (start, wide) = (column, width(cluster));
            column += wide;
            if wide == 0 || start < left {
                continue;
            }
            let x = start - left;
            if x + wide > cells {
                more = true;
                break 'row;
            }
            match runs.last_mut() {
                Some(run) if run.style == style && run.x + run.cells == x => {
                    run.text.push_str(cluster);
                    run.cells += wide;
                }
                _ => runs.push(Run {
                    x,
                    cells: wide,
                    text: cluster.to_owned(),
                    style,
                }),
            }
        }
    }
    // The last cell says that the line goes on.
    let room = if more { cells.saturating_sub(1) } else { cells };
    for run in runs {
        let end = 1 + room as u16;
        pen.put_until(1 + run.x as u16, y, end, &run.text, run.style);
    }
    if more && cells > 0 {
        let mark = pen.theme.pick("…", "~");
        pen.put(cells as u16, y, mark, Tone::Dim);
    }
}

/// The row in pieces of one style: the log's own, over which the matches of the search are laid.
fn styled<'a>(view: &LogView, row: &Row<'a>, pen: &Pen<'_>) -> Vec<(&'a str, Style)> {
    let line = row.line;
    let plain = line
        .spans()
        .all(|(_, style)| style == log::Style::default());
    let dim = pen.theme.style(Tone::Dim).add_modifier(Modifier::ITALIC);
    // Red is for what failed; what a program has coloured itself stays as it wanted it.
    let bad = pen.theme.style(Tone::Bad).remove_modifier(Modifier::BOLD);
    let bad = (plain && line.is_error()).then_some(bad);
    let mut found = pen.theme.style(Tone::Match);
    if view.found == Some(row.number) {
        found = found.add_modifier(Modifier::BOLD);
    }
    let matches: Vec<Range<usize>> = view
        .needle()
        .map(|needle| needle.ranges(line.text()).collect())
        .unwrap_or_default();
    let mut matches = matches.into_iter().peekable();
    let mut out = Vec::new();
    let mut at = 0;
    for (words, style) in line.spans() {
        let style = match (line.is_note(), bad) {
            (true, _) => dim,
            (false, Some(bad)) => bad,
            (false, None) => pen.theme.log(style),
        };
        let end = at + words.len();
        let (mut from, to) = (at.max(row.part.start), end.min(row.part.end));
        while from < to {
            let (here, is_match) = next_piece(&mut matches, from, to);
            if let Some(piece) = line.text().get(from..here) {
                out.push((piece, if is_match { found } else { style }));
            }
            from = here;
        }
        at = end;
    }
    // What the server says begins with a mark of its own.
    if line.is_note()
        && row.part.start == 0
        && let Some((first, _)) = out.first_mut()
        && let Some(rest) = first.strip_prefix('»')
    {
        *first = rest;
        let mark = pen.theme.pick("»", ">");
        out.insert(0, (mark, pen.theme.style(Tone::Accent)));
    }
    out
}

/// Where the piece that begins at `from` ends, and whether it is within a match.
fn next_piece(
    matches: &mut Peekable<impl Iterator<Item = Range<usize>>>,
    from: usize,
    to: usize,
) -> (usize, bool) {
    while matches.next_if(|it| it.end <= from).is_some() {}
    match matches.peek() {
        Some(it) if it.start <= from => (it.end.min(to), true),
        Some(it) => (it.start.min(to), false),
        None => (to, false),
    }
}

/// What the text is searched for, or the list is filtered by.
fn typed(model: &Model) -> &str {
    match (model.text_view(), model.list()) {
        (Some(view), _) => view.search(),
        (None, Some(list)) => &list.filter,
        (None, None) => "",
    }
}

/// What a tab is narrowed by, in the row of the tabs.
pub(super) fn narrowed(model: &Model, pen: &mut Pen<'_>) {
    let search = typed(model);
    if search.is_empty() || model.typing.is_some() {
        return;
    }
    let y = list_area(model).y.saturating_sub(1);
    let room = usize::from(pen.width()) / 2;
    let text = format!(" /{} ", cut(search, room, Cut::End, pen.theme.ascii));
    pen.right(y, 1, &text, Tone::Title);
}

/// The row above a text: the search, and where the text stands.
pub(super) fn head(model: &Model, pen: &mut Pen<'_>, y: u16) -> Option<Position> {
    if matches!(model.page, Page::Detail(..)) && model.typing.is_none() {
        return None;
    }
    pen.clear(Rect::new(0, y, pen.width(), 1));
    let view = model.text_view();
    let search = typed(model);
    let mut words = view.map_or_else(Vec::new, |view| standing(model, view));
    let separator = pen.theme.pick(" · ", " - ");
    // What was typed has its room; what is said beside goes by its weight.
    let least = if model.typing.is_some() { 20 } else { 0 };
    let most = usize::from(pen.width());
    let typed = width(search).clamp(least, (most / 3).max(least)) + 5;
    let most = most.saturating_sub(typed);
    let taken = |words: &[(u8, String)]| {
        let parts: usize = words.iter().map(|(_, word)| width(word) + 3).sum();
        parts.saturating_sub(3)
    };
    while taken(&words) > most
        && let Some(lightest) = words.iter().map(|(weight, _)| *weight).min()
    {
        words.retain(|(weight, _)| *weight > lightest);
    }
    let words: Vec<String> = words.into_iter().map(|(_, word)| word).collect();
    let right = pen.right(y, 1, &words.join(separator), Tone::Dim);
    if model.typing.is_none() && search.is_empty() {
        pen.put(1, y, "/ searches", Tone::Dim);
        return None;
    }
    let x = pen.put(1, y, "/", Tone::Accent);
    let at = model.typing.as_ref().map(|typing| typing.at);
    let line = super::line::draw(pen, (x, y), right.saturating_sub(1), search, at);
    at.map(|at| Position::new(line.column(search, at), y))
}

/// How much there is of a text, and what of it is seen; each with its weight.
fn standing(model: &Model, view: &LogView) -> Vec<(u8, String)> {
    let mut words = Vec::new();
    let is_log = matches!(model.page, Page::Log(..));
    if view.forgotten() > 0 {
        let forgotten = human::count(view.forgotten(), "line");
        words.push((3, format!("the first {forgotten} forgotten")));
    }
    words.push((5, human::count(view.len(), "line")));
    if view.needle().is_some() {
        let only = if view.only { ", others hidden" } else { "" };
        let literal = view.wrong().map_or("", |_| " (as words)");
        words.push((6, format!("{} matching{literal}{only}", view.count())));
    }
    if view.wrap {
        words.push((1, "wrapped".to_owned()));
    } else if view.left > 0 {
        words.push((2, format!("from column {}", view.left + 1)));
    }
    let below = view.below(text_room(model));
    if is_log || below > 0 {
        let state = match &view.state {
            LogState::Opening => "opening",
            LogState::Live if view.follow => "following",
            LogState::Live => "held (s follows)",
            LogState::Ended if is_log => "complete",
            LogState::Ended => "",
            LogState::Failed(..) => "broken off",
        };
        if below > 0 {
            words.push((4, format!("{below} below")));
        }
        if !state.is_empty() {
            words.push((7, state.to_owned()));
        }
    }
    words
}
