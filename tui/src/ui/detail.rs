//! The page of one thing.

use ratatui::layout::Rect;
use skytower_api_client::column::{Align, Cut};
use skytower_api_client::entity::{Outcome, Request};
use skytower_api_client::{Entity, Kind};

use super::pen::Pen;
use crate::app::{
    Model, Page, Tab, body, detail_facts, fact_rows, flow, list_area, screen_title, tabs_of,
};
use crate::text::{cut, fit, width};
use crate::theme::Tone;

/// The facts, the tabs, and what the tab shows.
pub(super) fn draw(model: &Model, pen: &mut Pen<'_>) {
    let Page::Detail(key, tab) = &model.page else {
        return;
    };
    let body = body(model);
    let Some(row) = model.row(key) else {
        pen.line(
            body.y,
            "It is not there any more. Esc goes back.",
            Tone::Dim,
        );
        return;
    };
    let glyph = format!("{} {}", pen.theme.glyph(row.phase()), row.status());
    let style = pen.theme.phase(row.phase());
    let x = pen.put_until(1, 2, u16::MAX, &glyph, style);
    if let Some(why) = row.why() {
        let room = usize::from(pen.width().saturating_sub(x + 4));
        pen.put(
            x + 2,
            2,
            &cut(why, room, Cut::End, pen.theme.ascii),
            Tone::Plain,
        );
    }
    let facts = detail_facts(&row, &model.context());
    let rows = fact_rows(model, body.width);
    for (i, line) in flow(&facts, body.width)
        .iter()
        .take(usize::from(rows))
        .enumerate()
    {
        let mut x = 1;
        for (title, text) in line {
            x = pen.put(x, body.y + i as u16, &title.to_lowercase(), Tone::Dim) + 1;
            let room = usize::from(pen.width().saturating_sub(x + 1));
            x = pen.put(
                x,
                body.y + i as u16,
                &cut(text, room, Cut::End, pen.theme.ascii),
                Tone::Plain,
            ) + 3;
        }
    }
    let area = list_area(model);
    tabs(model, row.kind(), *tab, area.y.saturating_sub(1), pen);
    match tab {
        Tab::Rows(_) => super::table::list(model, pen),
        Tab::Log | Tab::Yaml => super::text::draw(model, pen),
        Tab::Results => {
            if let Entity::Request(request) = &*row {
                results(request, 0, area, pen);
            }
        }
        Tab::Facts => {}
    }
}

fn tabs(model: &Model, kind: Kind, here: Tab, y: u16, pen: &mut Pen<'_>) {
    let mut x = 1;
    for tab in tabs_of(kind) {
        let title = match tab {
            Tab::Rows(Kind::Job) => "Tasks",
            Tab::Rows(Kind::ClusterJob) => "Jobs",
            Tab::Rows(kind) => screen_title(*kind),
            Tab::Yaml => "YAML",
            Tab::Log => "Log",
            Tab::Results => "Results",
            Tab::Facts => continue,
        };
        let count = if here == *tab {
            model
                .list()
                .map_or(String::new(), |list| format!(" {}", list.total))
        } else {
            String::new()
        };
        let tone = if here == *tab {
            Tone::Active
        } else {
            Tone::Plain
        };
        x = pen.put(x, y, &format!(" {title}{count} "), tone) + 1;
    }
    let rule = pen
        .theme
        .pick("─", "-")
        .repeat(usize::from(pen.width().saturating_sub(x + 1)));
    pen.put(x, y, &rule, Tone::Dim);
}

/// A request, target by target.
pub(super) fn results(request: &Request, top: usize, area: Rect, pen: &mut Pen<'_>) {
    let ascii = pen.theme.ascii;
    let widest = request
        .results
        .iter()
        .map(|it| width(&it.target))
        .max()
        .unwrap_or(0)
        .min(30);
    let owners = request
        .results
        .iter()
        .filter_map(|it| it.owner.as_ref())
        .map(|owner| width(owner))
        .max()
        .unwrap_or(0)
        .min(16);
    for (i, result) in request
        .results
        .iter()
        .skip(top)
        .take(usize::from(area.height))
        .enumerate()
    {
        let y = area.y + i as u16;
        let (glyph, plain, word, tone) = match result.outcome {
            Outcome::Waiting => ("○", ".", "waiting", Tone::Plain),
            Outcome::Submitted => ("◐", "~", "submitted", Tone::Busy),
            Outcome::Done => ("✓", "+", "done", Tone::Good),
            Outcome::Unchanged => ("✓", "+", "was so already", Tone::Good),
            Outcome::Failed => ("✗", "x", "failed", Tone::Bad),
            Outcome::Cancelled => ("⊘", "-", "withdrawn", Tone::Dim),
            Outcome::Unknown => ("?", "?", "not known", Tone::Warn),
        };
        let style = pen.theme.style(tone);
        let end = area.right().saturating_sub(1);
        let mut x = area.x + 1;
        pen.put_until(x, y, end, if ascii { plain } else { glyph }, style);
        x += 2;
        let target = fit(&result.target, widest, Align::Left, Cut::Middle, ascii);
        x = pen.put_until(x, y, end, &target, pen.theme.style(Tone::Plain)) + 2;
        if owners > 0 {
            let owner = fit(
                result.owner.as_deref().unwrap_or_default(),
                owners,
                Align::Left,
                Cut::End,
                ascii,
            );
            x = pen.put_until(x, y, end, &owner, pen.theme.style(Tone::Dim)) + 2;
        }
        x = pen.put_until(x, y, end, &format!("{word:<14}"), style) + 1;
        if let Some(message) = &result.message {
            let room = usize::from(end.saturating_sub(x));
            let text = cut(message, room, Cut::End, ascii);
            pen.put_until(x, y, end, &text, pen.theme.style(Tone::Plain));
        }
    }
}
