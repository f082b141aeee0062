//! Tables: heading, cursor, marks, glyph, columns. Only visible rows are written out.

use ratatui::layout::Rect;
use ratatui::style::Modifier;
use skytower_api_client::column::{Align, Column, Value, write_text};
use skytower_api_client::{Kind, Phase, policy};

use super::pen::Pen;
use crate::app::{Fold, Line, List, Model, cell_value, list_area};
use crate::text::fit;
use crate::theme::Tone;

/// The list of the page.
pub(super) fn list(model: &Model, pen: &mut Pen<'_>) {
    let area = list_area(model);
    if area.height == 0 {
        return;
    }
    let Some(list) = model.list() else { return };
    if list.lines.is_empty() {
        super::empty::draw(model, list, area, pen);
        return;
    }
    heading(list, area, pen);
    let height = usize::from(area.height - 1);
    for (i, line) in list.lines.iter().skip(list.top).take(height).enumerate() {
        let y = area.y + 1 + i as u16;
        row(model, list, line, Rect::new(area.x, y, area.width, 1), pen);
    }
}

fn heading(list: &List, area: Rect, pen: &mut Pen<'_>) {
    let mut x = area.x + 4;
    for (column, width) in &list.shown {
        let sorted = list.sort.0 == column.id;
        let mut title = column.title.to_owned();
        if sorted {
            title += match (list.sort.1, pen.theme.ascii) {
                (false, false) => "↑",
                (true, false) => "↓",
                (false, true) => "^",
                (true, true) => "v",
            };
        }
        let text = fit(
            &title,
            usize::from(*width),
            column.align,
            column.cut,
            pen.theme.ascii,
        );
        let style = pen
            .theme
            .style(if sorted { Tone::Title } else { Tone::Dim });
        pen.put_until(x, area.y, area.right(), &text, style);
        x += width + 2;
    }
}

fn row(model: &Model, list: &List, line: &Line, area: Rect, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let context = model.context();
    let y = area.y;
    let phase = line.row.phase();
    let here = Some(line.key()) == list.cursor.as_ref();
    if here {
        pen.put(area.x, y, theme.pick("▌", ">"), Tone::Accent);
    }
    if list.marks.contains(line.key()) {
        pen.put(area.x + 1, y, theme.pick("◆", "#"), Tone::Accent);
    }
    let child = line.fold == Fold::Child;
    // What has happened is in no state.
    let glyph = if line.row.kind() == Kind::Event {
        theme.pick("·", "-").to_owned()
    } else {
        theme.glyph(phase).to_string()
    };
    let glyph_x = area.x + 2 + u16::from(child) * 2;
    pen.put_until(glyph_x, y, area.right(), &glyph, theme.phase(phase));
    let mut x = area.x + 4;
    let mut text = String::new();
    let named = named(list);
    for (column, width) in &list.shown {
        let value = cell_value(line, column, &context);
        text.clear();
        write_text(&mut text, &value, &context);
        let mut room = usize::from(*width);
        let mut at = x;
        if column.id == named.id {
            text = with_fold(line, &text, theme.ascii);
        }
        // A task says which of its job's it is; the job's number stands above.
        if child && column.id == "id" {
            let part = text.rsplit(['/', '.', '-']).next().unwrap_or_default();
            text = part.to_owned();
        }
        // The glyph of a child stands where its first column begins.
        if child && x == area.x + 4 {
            at += 2;
            room = room.saturating_sub(2);
        }
        let cell = fit(&text, room, column.align, column.cut, theme.ascii);
        let mut style = match (&value, column.id) {
            (Value::Status(phase, _), _) => theme.phase(*phase),
            (Value::None, _) => theme.style(Tone::Dim),
            (_, "owner") if policy::is_mine(&model.you, &line.row) => theme.style(Tone::Mine),
            (_, "name" | "id" | "job") => theme.style(Tone::Plain),
            (_, _) if column.align == Align::Right => theme.style(Tone::Plain),
            _ => theme.style(Tone::Plain),
        };
        if here {
            style = style.add_modifier(Modifier::BOLD);
        }
        if phase == Phase::Gone || !model.is_live() {
            style = style
                .add_modifier(Modifier::DIM)
                .remove_modifier(Modifier::BOLD);
        }
        pen.put_until(at, y, area.right(), &cell, style);
        x += width + 2;
    }
    if here && theme.mono {
        pen.tint(
            area,
            ratatui::style::Style::new().add_modifier(Modifier::REVERSED),
        );
    }
}

/// The column that carries the mark of a tree.
fn named(list: &List) -> &'static Column {
    list.shown
        .iter()
        .find(|(column, _)| column.id == "name")
        .or(list.shown.first())
        .map_or(
            &skytower_api_client::column::columns(list.kind)[0],
            |(column, _)| *column,
        )
}

fn with_fold(line: &Line, text: &str, ascii: bool) -> String {
    let mark = match (line.fold, ascii) {
        (Fold::Leaf | Fold::Child, _) => return text.to_owned(),
        (Fold::Closed, false) => "▸",
        (Fold::Open, false) => "▾",
        (Fold::Closed, true) => "+",
        (Fold::Open, true) => "-",
    };
    format!("{mark} {text}")
}
