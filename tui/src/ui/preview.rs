//! The preview: the facts of the row under the cursor, on wide terminals.

use skytower_api_client::column::Cut;

use super::pen::Pen;
use crate::app::{Model, detail_facts, preview_area};
use crate::text::{cut, wrap};
use crate::theme::Tone;

pub(super) fn draw(model: &Model, pen: &mut Pen<'_>) {
    let Some(area) = preview_area(model) else {
        return;
    };
    let Some(line) = model.list().and_then(crate::app::List::current) else {
        return;
    };
    let row = &line.row;
    let bar = pen.theme.pick("│", "|");
    for y in area.top()..area.bottom() {
        pen.put(area.x, y, bar, Tone::Dim);
    }
    let x = area.x + 2;
    let room = usize::from(area.width).saturating_sub(3);
    let ascii = pen.theme.ascii;
    pen.put(
        x,
        area.y,
        &cut(&crate::app::called(row), room, Cut::End, ascii),
        Tone::Title,
    );
    let glyph = format!("{} {}", pen.theme.glyph(row.phase()), row.status());
    let style = pen.theme.phase(row.phase());
    pen.put_until(x, area.y + 1, area.right(), &glyph, style);
    let mut y = area.y + 2;
    if let Some(why) = row.why() {
        for piece in wrap(why, room).into_iter().take(4) {
            if y < area.bottom() {
                pen.put(x, y, &piece, Tone::Plain);
                y += 1;
            }
        }
    }
    y += 1;
    for (title, text) in detail_facts(row, &model.context()) {
        let value_x = x + 13;
        for (i, piece) in wrap(&text, room.saturating_sub(13).max(8))
            .into_iter()
            .take(3)
            .enumerate()
        {
            if y >= area.bottom() {
                return;
            }
            if i == 0 {
                pen.put(
                    x,
                    y,
                    &cut(&title.to_lowercase(), 12, Cut::End, ascii),
                    Tone::Dim,
                );
            }
            pen.put(value_x, y, &piece, Tone::Plain);
            y += 1;
        }
    }
}
