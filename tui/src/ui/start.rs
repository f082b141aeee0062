//! The dialog that starts something from a task file.

use ratatui::layout::Position;
use skytower_api_client::column::{Align, Cut};

use super::pen::Pen;
use crate::app::{Starting, Step, Way, inner, start_area};
use crate::text::{cut, fit, width};
use crate::theme::Tone;

/// Where values stand, beside `File`, `As` and `Name`.
const VALUES: u16 = 7;

pub(super) fn draw(starting: &Starting, pen: &mut Pen<'_>) -> Option<Position> {
    let wrong = !starting.mistakes().is_empty();
    let footer = match &starting.step {
        Step::Look(_) if wrong => "Enter reads it again, Esc back",
        Step::Look(_) => "Enter starts it, Esc back",
        Step::Path | Step::Reading => "Enter shows what it would start, Esc closes",
    };
    let whole = start_area(pen.size());
    let title = match &starting.step {
        Step::Look(look) => format!("Start {}", look.read.start.file),
        _ => "Start a task from a file".to_owned(),
    };
    let room = usize::from(whole.width.saturating_sub(8));
    let ascii = pen.theme.ascii;
    pen.frame(
        whole,
        &cut(&title, room, Cut::Middle, ascii),
        footer,
        Tone::Title,
    );
    match &starting.step {
        Step::Path | Step::Reading => Some(path(starting, pen)),
        Step::Look(look) => {
            let area = inner(whole);
            let x = area.x + 1;
            let way = starting.chosen()?;
            pen.put(x, area.y, "As", Tone::Dim);
            let at = pen.put(x + VALUES, area.y, &way.label, Tone::Title);
            if starting.ways.len() > 1 {
                let keys = pen
                    .theme
                    .pick("  (↑ ↓ another way)", "  (Up Down another way)");
                pen.put_until(at, area.y, area.right(), keys, pen.theme.style(Tone::Dim));
            }
            let mut cursor = None;
            if way.makes() && !wrong {
                pen.put(x, area.y + 1, "Name", Tone::Dim);
                let place = (x + VALUES, area.y + 1);
                let line = super::line::draw(pen, place, area.right(), &look.name, Some(look.at));
                cursor = Some(Position::new(line.column(&look.name, look.at), area.y + 1));
            }
            let top = area.y + if cursor.is_some() { 3 } else { 2 };
            let height = usize::from(area.bottom().saturating_sub(top));
            let lines = starting.lines(usize::from(area.width).saturating_sub(2), ascii);
            let from = look.top.min(lines.len().saturating_sub(height));
            for (i, line) in lines.iter().skip(from).take(height).enumerate() {
                let y = top + i as u16;
                let mut at = x;
                if !line.title.is_empty() {
                    at = pen.put(x, y, &line.title, Tone::Dim) + 1;
                }
                let style = pen.theme.style(line.tone);
                pen.put_until(at, y, area.right(), &line.text, style);
            }
            let below = lines.len().saturating_sub(from + height);
            if below > 0 {
                let more = format!(" {below} more: PgDn ");
                let y = area.bottom();
                pen.put(area.x + 1, y, &more, Tone::Dim);
            }
            cursor
        }
    }
}

/// The file, and the ways to start it.
fn path(starting: &Starting, pen: &mut Pen<'_>) -> Position {
    let area = inner(start_area(pen.size()));
    let x = area.x + 1;
    pen.put(x, area.y, "File", Tone::Dim);
    let at = starting.typing.at;
    let place = (x + VALUES, area.y);
    let line = super::line::draw(pen, place, area.right(), &starting.path, Some(at));
    let cursor = Position::new(line.column(&starting.path, at), area.y);
    let (said, tone) = match (&starting.problem, &starting.step) {
        (Some(problem), _) => (problem.as_str(), Tone::Bad),
        (None, Step::Reading) => ("reading it", Tone::Busy),
        (None, _) => ("a task file, in SkyPilot's YAML; Tab completes", Tone::Dim),
    };
    let ascii = pen.theme.ascii;
    let room = usize::from(area.right().saturating_sub(x + VALUES));
    pen.put(
        x + VALUES,
        area.y + 1,
        &cut(said, room, Cut::End, ascii),
        tone,
    );
    pen.put(x, area.y + 3, "As", Tone::Dim);
    let labels = starting.ways.iter().map(|way| width(&way.label)).max();
    for (i, way) in starting.ways.iter().enumerate() {
        let y = area.y + 3 + i as u16;
        if y < area.bottom() {
            one(
                way,
                i == starting.way,
                labels.unwrap_or(0).min(40),
                (x + VALUES, y),
                pen,
            );
        }
    }
    if let Some(completion) = &starting.typing.completion {
        super::line::popup(completion, cursor, pen);
    }
    cursor
}

fn one(way: &Way, here: bool, labels: usize, (x, y): (u16, u16), pen: &mut Pen<'_>) {
    let ascii = pen.theme.ascii;
    let end = inner(start_area(pen.size())).right();
    if here {
        pen.put(x - 2, y, pen.theme.pick("▌", ">"), Tone::Accent);
    }
    let tone = match (&way.off, here) {
        (Some(_), _) => Tone::Dim,
        (None, true) => Tone::Title,
        (None, false) => Tone::Plain,
    };
    let label = fit(&way.label, labels, Align::Left, Cut::End, ascii);
    let at = pen.put_until(x, y, end, &label, pen.theme.style(tone)) + 2;
    let note = way
        .off
        .as_ref()
        .map_or(way.action.doc.to_owned(), |reason| format!("off: {reason}"));
    let note = cut(&note, usize::from(end.saturating_sub(at)), Cut::End, ascii);
    pen.put_until(at, y, end, &note, pen.theme.style(Tone::Dim));
}
