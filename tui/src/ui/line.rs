//! The line that is typed: as much of it as there is room for, always with its cursor.

use ratatui::layout::Rect;

use super::pen::Pen;
use crate::app::{Completion, Model};
use crate::text::{head, width};
use crate::theme::Tone;
use ratatui::layout::Position;
use skytower_api_client::column::Cut;

/// Suggestions shown at once.
const SHOWN: usize = 8;

/// Where a line stands on the screen.
pub(super) struct Typed {
    x: u16,
    /// The first byte shown.
    from: usize,
    end: u16,
}

impl Typed {
    /// The column of a byte of the text.
    pub(super) fn column(&self, text: &str, at: usize) -> u16 {
        let before = text.get(self.from..at.max(self.from)).unwrap_or_default();
        (self.x + width(before) as u16).min(self.end)
    }
}

/// Draws a text, scrolled so that the byte `at` is seen.
pub(super) fn draw(
    pen: &mut Pen<'_>,
    (x, y): (u16, u16),
    end: u16,
    text: &str,
    at: Option<usize>,
) -> Typed {
    // The cursor has a cell of its own behind the text.
    let room = usize::from(end.saturating_sub(x + 1)).max(1);
    let mut from = 0;
    if let Some(before) = at.and_then(|at| text.get(..at)) {
        let over = width(before).saturating_sub(room);
        while width(&before[..from]) < over {
            let rest = &before[from..];
            from += head(rest, 2).len().max(1).min(rest.len());
            while !before.is_char_boundary(from) {
                from += 1;
            }
        }
    }
    let style = pen.theme.style(Tone::Title);
    pen.put_until(x, y, end, text.get(from..).unwrap_or_default(), style);
    Typed { x, from, end }
}

/// What Tab goes through, below the word that it completes.
pub(super) fn suggestions(model: &Model, cursor: Option<Position>, pen: &mut Pen<'_>) {
    let Some(typing) = &model.typing else { return };
    let (Some(completion), Some(cursor)) = (&typing.completion, cursor) else {
        return;
    };
    popup(completion, cursor, pen);
}

pub(super) fn popup(completion: &Completion, cursor: Position, pen: &mut Pen<'_>) {
    let found = &completion.found;
    let words = found.iter().map(|it| width(&it.text)).max().unwrap_or(0);
    let notes = found.iter().map(|it| width(&it.note)).max().unwrap_or(0);
    let most = pen.width().saturating_sub(2);
    let columns = ((words + notes + 6) as u16).clamp(14, 70).min(most);
    let rows = found.len().min(SHOWN) as u16 + 2;
    // Above where there is no room below.
    let y = if cursor.y + 1 + rows <= pen.height() {
        cursor.y + 1
    } else {
        cursor.y.saturating_sub(rows)
    };
    let word = found
        .get(completion.at)
        .map_or(0, |it| width(&it.text) as u16);
    let x = cursor.x.saturating_sub(word + 2);
    let x = x.min(pen.width().saturating_sub(columns));
    let area = Rect::new(x, y, columns, rows);
    let title = format!("{} of {}", completion.at + 1, found.len());
    pen.frame(area, &title, "Tab next", Tone::Dim);
    let top = (completion.at + 1).saturating_sub(SHOWN);
    let end = area.right().saturating_sub(1);
    let ascii = pen.theme.ascii;
    for (i, suggestion) in found.iter().enumerate().skip(top).take(SHOWN) {
        let y = area.y + 1 + (i - top) as u16;
        let here = i == completion.at;
        if here {
            pen.put(area.x + 1, y, pen.theme.pick("▌", ">"), Tone::Accent);
        }
        let tone = if here { Tone::Title } else { Tone::Plain };
        let style = pen.theme.style(tone);
        pen.put_until(area.x + 2, y, end, &suggestion.text, style);
        let from = area.x + 2 + words as u16 + 2;
        let room = usize::from(end.saturating_sub(from));
        let note = crate::text::cut(&suggestion.note, room, Cut::End, ascii);
        pen.put_until(from, y, end, &note, pen.theme.style(Tone::Dim));
    }
}
