//! Where things are on the screen: read by the drawing and by the mouse.

use ratatui::layout::Rect;
use skytower_api_client::Kind;
use skytower_api_client::column::{Context, Value, columns, text};
use skytower_api_client::entity::Entity;

use super::model::{Model, Page, Tab};
use crate::text::width;

/// From this many columns on there is a preview.
pub(crate) const WIDE: u16 = 140;

/// The tabs of a kind's page.
pub fn tabs_of(kind: Kind) -> &'static [Tab] {
    match kind {
        Kind::Cluster => &[
            Tab::Rows(Kind::ClusterJob),
            Tab::Rows(Kind::Event),
            Tab::Yaml,
        ],
        Kind::Job => &[
            Tab::Log,
            Tab::Rows(Kind::Job),
            Tab::Rows(Kind::Event),
            Tab::Yaml,
        ],
        Kind::ClusterJob | Kind::Replica | Kind::Worker => &[Tab::Log],
        Kind::Service => &[Tab::Rows(Kind::Replica), Tab::Yaml],
        Kind::Pool => &[Tab::Rows(Kind::Worker), Tab::Yaml],
        Kind::Request => &[Tab::Results],
        _ => &[Tab::Facts],
    }
}

/// The heading, the list's rows and what is below, for this size.
pub(crate) fn body(model: &Model) -> Rect {
    let (columns, rows) = model.size;
    // Identity, tabs and scope above; summary, message and hints below. Low terminals keep the rows.
    let (above, below) = chrome(rows);
    Rect::new(0, above, columns, rows.saturating_sub(above + below))
}

/// Rows above and below the body.
pub(crate) fn chrome(rows: u16) -> (u16, u16) {
    if rows < 12 { (2, 1) } else { (3, 3) }
}

/// The facts of a detail page, laid out in columns of cells.
pub fn detail_facts(row: &Entity, context: &Context) -> Vec<(&'static str, String)> {
    columns(row.kind())
        .iter()
        .filter(|column| !matches!(column.id, "key" | "phase" | "name" | "status" | "why"))
        .filter_map(|column| {
            let value = (column.value)(row, context);
            let written = text(&value, context);
            // What is as everybody expects is not worth a cell.
            let usual = matches!(value, Value::None | Value::Flag(false))
                || value == Value::Int(0) && !column.is_shown();
            let tells = !usual && !written.is_empty() && written != **row.name();
            tells.then_some((column.title, written))
        })
        .collect()
}

/// Rows that the facts take.
pub(crate) fn fact_rows(model: &Model, room: u16) -> u16 {
    let Some(row) = model.subject() else { return 1 };
    let facts = detail_facts(&row, &model.context());
    let lines = flow(&facts, room).len() as u16;
    let most = (model.size.1 / 3).max(2);
    lines.min(most)
}

/// Facts in lines of at most `room` cells.
pub(crate) fn flow<'a>(
    facts: &'a [(&'static str, String)],
    room: u16,
) -> Vec<Vec<&'a (&'static str, String)>> {
    let room = usize::from(room).saturating_sub(2);
    let mut lines: Vec<Vec<&(&'static str, String)>> = vec![Vec::new()];
    let mut used = 0;
    for fact in facts {
        let cells = width(fact.0) + 1 + width(&fact.1) + 3;
        if used > 0 && used + cells > room {
            lines.push(Vec::new());
            used = 0;
        }
        used += cells;
        if let Some(line) = lines.last_mut() {
            line.push(fact);
        }
    }
    lines
}

/// Where the page's rows are: the heading is the first row of it.
pub fn list_area(model: &Model) -> Rect {
    let body = body(model);
    match &model.page {
        Page::List(_) => {
            let preview = preview_area(model).map_or(0, |area| area.width + 1);
            Rect {
                width: body.width.saturating_sub(preview),
                ..body
            }
        }
        Page::Detail(..) => {
            // The status line, the facts, and the tabs.
            let above = (2 + fact_rows(model, body.width)).min(body.height);
            Rect {
                y: body.y + above,
                height: body.height - above,
                ..body
            }
        }
        Page::Log(..) | Page::Yaml(_) => body,
    }
}

/// Where the preview is, when there is one.
pub fn preview_area(model: &Model) -> Option<Rect> {
    if model.size.0 < WIDE || !model.preview || !matches!(model.page, Page::List(_)) {
        return None;
    }
    let body = body(model);
    let width = body.width * 3 / 10;
    Some(Rect {
        x: body.width - width,
        width,
        ..body
    })
}

/// Rows that fit below the heading of the list.
pub(crate) fn list_height(model: &Model) -> usize {
    usize::from(list_area(model).height.saturating_sub(1))
}

/// Cells for the columns: without the cursor, the mark and the glyph in front.
pub(crate) fn columns_room(model: &Model) -> u16 {
    list_area(model).width.saturating_sub(FRONT + 1)
}

/// Cells in front of the columns: cursor, mark, glyph, space.
pub(crate) const FRONT: u16 = 4;

/// One tab of the second row: what it leads to, where it starts, its text.
pub(crate) struct Heading {
    pub(crate) kind: Kind,
    pub(crate) x: u16,
    pub(crate) text: String,
}

/// The screens in the second row. The text gets shorter where there is no room, never cut.
pub(crate) fn headings(model: &Model) -> Vec<Heading> {
    let count = |kind: &Kind| model.counts.get(kind).copied().unwrap_or_default();
    let screens = model.screens();
    let counts: Vec<usize> = screens.iter().map(count).collect();
    for level in 0..4 {
        let mut x = 1;
        let mut out = Vec::new();
        for (i, kind) in screens.iter().enumerate() {
            let (title, short) = (super::screen_title(*kind), super::short_title(*kind));
            let number = i + 1;
            let rows = match counts[i] {
                rows if super::is_counted(*kind) => format!(" {rows}"),
                _ => String::new(),
            };
            let text = match level {
                0 => format!(" {number} {title}{rows} "),
                1 => format!(" {number} {short}{rows} "),
                2 => format!("{number} {short}{rows} "),
                _ => format!("{number} {short} "),
            };
            out.push(Heading {
                kind: *kind,
                x,
                text: text.clone(),
            });
            x += width(&text) as u16;
        }
        if x <= model.size.0 || level == 3 {
            return out;
        }
    }
    Vec::new()
}
