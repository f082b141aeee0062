//! The page of one thing, and texts in full.

use ratatui::layout::Rect;
use ratatui::style::Modifier;
use skytower_api_client::column::{Align, Cut};
use skytower_api_client::entity::{Outcome, Request};
use skytower_api_client::{Entity, Kind};

use super::pen::Pen;
use crate::app::{
    LogState, LogView, Model, Page, Tab, body, detail_facts, fact_rows, flow, list_area,
    screen_title, tabs_of,
};
use crate::text::{cut, fit, width, wrap};
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
        Tab::Log => log_tab(model, &row, area, pen),
        Tab::Yaml => yaml(model, area, pen),
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

fn log_tab(model: &Model, row: &Entity, area: Rect, pen: &mut Pen<'_>) {
    let mut area = area;
    // What happened last stands above what it writes.
    let mut events: Vec<_> = model
        .table
        .rows(Kind::Event)
        .filter_map(|event| event.as_event())
        .filter(|event| event.subject.source() == row.source().as_str())
        .filter(|event| {
            let job =
                |key: &skytower_api_client::Key| key.id().split('/').next().map(str::to_owned);
            event.subject == *row.key()
                || (row.kind() == Kind::Job
                    && event.subject.kind() == Some(Kind::Job)
                    && job(&event.subject) == job(row.key()))
        })
        .collect();
    events.sort_by_key(|event| event.at);
    let most = usize::from(area.height / 3);
    let skip = events.len().saturating_sub(most);
    for event in events.into_iter().skip(skip) {
        let time = skytower_api_client::human::clock(event.at, model.options.utc);
        let x = pen.put(1, area.y, &time, Tone::Dim);
        let room = usize::from(area.width.saturating_sub(x + 2));
        pen.put(
            x + 1,
            area.y,
            &cut(&event.text, room, Cut::End, pen.theme.ascii),
            Tone::Plain,
        );
        area.y += 1;
        area.height -= 1;
    }
    if let Some(view) = &model.log {
        view_in(view, area, pen);
    }
}

fn yaml(model: &Model, area: Rect, pen: &mut Pen<'_>) {
    match &model.yaml {
        Some(view) => view_in(view, area, pen),
        None => pen.line(area.y, "loading", Tone::Dim),
    }
}

/// A log or YAML in full.
pub(super) fn text(model: &Model, pen: &mut Pen<'_>) {
    let area = body(model);
    if matches!(model.page, Page::Yaml(_)) {
        yaml(model, area, pen);
    } else if let Some(view) = &model.log {
        view_in(view, area, pen);
    }
}

fn view_in(view: &LogView, area: Rect, pen: &mut Pen<'_>) {
    let room = usize::from(area.width).saturating_sub(2);
    if view.is_empty() {
        let (words, tone) = match &view.state {
            LogState::Opening => ("waiting for the first line".to_owned(), Tone::Dim),
            LogState::Live | LogState::Ended => ("there is nothing in it".to_owned(), Tone::Dim),
            LogState::Failed(message, _) => (message.to_string(), Tone::Bad),
        };
        let mut y = area.y;
        for piece in wrap(&words, room) {
            if y < area.bottom() {
                pen.line(y, &piece, tone);
                y += 1;
            }
        }
        if let (LogState::Failed(_, Some(hint)), true) = (&view.state, y < area.bottom()) {
            pen.line(y, hint, Tone::Dim);
        }
        return;
    }
    let mut height = usize::from(area.height);
    if let LogState::Failed(message, _) = &view.state {
        height = height.saturating_sub(1);
        let text = cut(
            &format!("broken off: {message}"),
            room,
            Cut::End,
            pen.theme.ascii,
        );
        pen.line(area.bottom().saturating_sub(1), &text, Tone::Bad);
    }
    let window = view.window(height, room);
    for (i, (at, text)) in window.iter().enumerate() {
        let y = area.y + i as u16;
        let error = view.is_error(*at);
        let style = pen
            .theme
            .style(if error { Tone::Bad } else { Tone::Plain })
            .remove_modifier(Modifier::BOLD);
        let end = area.right().saturating_sub(1);
        let text = cut(text, room, Cut::End, pen.theme.ascii);
        pen.put_until(1, y, end, &text, style);
        if view.found == Some(*at) {
            pen.put(0, y, pen.theme.pick("▌", ">"), Tone::Accent);
        }
        highlight(view, &text, y, end, pen);
    }
}

/// Turns the matches of the search round.
fn highlight(view: &LogView, text: &str, y: u16, end: u16, pen: &mut Pen<'_>) {
    if view.search.is_empty() {
        return;
    }
    let exact = view.search.chars().any(char::is_uppercase);
    let hay = if exact {
        text.to_owned()
    } else {
        text.to_lowercase()
    };
    // Lower case may have other lengths outside ASCII: then the line is found, and not marked.
    if hay.len() != text.len() {
        return;
    }
    for (at, found) in hay.match_indices(&view.search) {
        let Some(before) = text.get(..at) else {
            continue;
        };
        let x = 1 + width(before) as u16;
        let len = (width(found) as u16).min(end.saturating_sub(x));
        let style = pen.theme.style(Tone::Match);
        pen.tint(Rect::new(x, y, len, 1), style);
    }
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
