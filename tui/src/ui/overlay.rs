//! What stands in front of the page: help, pickers, the question before harm, results.

use ratatui::layout::{Position, Rect};
use skytower_api_client::action::ACTIONS;
use skytower_api_client::column::{Align, Cut};
use skytower_api_client::human;

use super::pen::Pen;
use crate::app::{
    Button, Confirm, Model, Overlay, Picker, action_kinds, action_noun, called, centred,
    command_why_not, confirm_area, confirm_buttons, confirm_room, inner, pick_area, pick_window,
    why_not,
};
use crate::keys::{self, Group, bindings};
use crate::text::{cut, fit, width};
use crate::theme::Tone;

pub(super) fn draw(model: &Model, pen: &mut Pen<'_>) -> Option<Position> {
    match model.overlays.last()? {
        Overlay::Help { typed, top } => Some(help(model, typed, *top, pen)),
        Overlay::Pick(picker) => Some(pick(picker, pen)),
        Overlay::Start(starting) => super::start::draw(starting, pen),
        Overlay::SignIn(sign_in) => super::sign_in::draw(sign_in, model.at, pen),
        Overlay::Confirm(confirm) => confirm_box(confirm, pen),
        Overlay::Results { key, top } => {
            let row = model.table.get(key)?.clone();
            let request = row.as_request()?;
            let rows = request.results.len() as u16;
            let area = centred(pen.size(), rows + 2);
            let footer = "Esc closes, it goes on by itself";
            pen.frame(
                area,
                &format!("{} {}", request.action, request.status),
                footer,
                Tone::Title,
            );
            super::detail::results(request, *top, inner(area), pen);
            None
        }
    }
}

fn pick(picker: &Picker, pen: &mut Pen<'_>) -> Position {
    let fitting = picker.fitting();
    let whole = pick_area(pen.size(), picker);
    let ascii = pen.theme.ascii;
    // Beside its label a reason has little room.
    let off = fitting.get(picker.at).and_then(|item| item.off.as_deref());
    let room = usize::from(whole.width).saturating_sub(6);
    let off = cut(off.unwrap_or_default(), room, Cut::End, ascii);
    pen.frame(whole, &picker.title, &off, Tone::Title);
    let area = inner(whole);
    let x = pen.put(
        area.x + 1,
        area.y,
        if picker.command_line { ":" } else { "/" },
        Tone::Accent,
    );
    let stop = if picker.typed.is_empty() {
        pen.put_until(
            x + 1,
            area.y,
            area.right(),
            picker.prompt,
            pen.theme.style(Tone::Dim),
        );
        x
    } else {
        pen.put_until(
            x,
            area.y,
            area.right(),
            &picker.typed,
            pen.theme.style(Tone::Title),
        )
    };
    let (top, height) = pick_window(whole, picker);
    let keys = fitting
        .iter()
        .map(|item| width(&item.key))
        .max()
        .unwrap_or(0);
    let labels = fitting
        .iter()
        .map(|item| width(&item.label))
        .max()
        .unwrap_or(0)
        .min(40);
    if fitting.is_empty() {
        pen.put_until(
            area.x + 1,
            area.y + 1,
            area.right(),
            "nothing fits",
            pen.theme.style(Tone::Dim),
        );
    }
    for (i, item) in fitting.into_iter().enumerate().skip(top).take(height) {
        let y = area.y + 1 + (i - top) as u16;
        let here = i == picker.at;
        if here {
            pen.put(area.x, y, pen.theme.pick("▌", ">"), Tone::Accent);
        }
        let tone = match (&item.off, here) {
            (Some(_), _) => Tone::Dim,
            (None, true) => Tone::Title,
            (None, false) => Tone::Plain,
        };
        let end = area.right();
        let mut x = area.x + 1;
        if keys > 0 {
            let key = fit(&item.key, keys, Align::Left, Cut::End, ascii);
            let tone = if item.off.is_some() {
                Tone::Dim
            } else {
                Tone::Accent
            };
            x = pen.put_until(x, y, end, &key, pen.theme.style(tone)) + 2;
        }
        let label = fit(&item.label, labels, Align::Left, Cut::End, ascii);
        x = pen.put_until(x, y, end, &label, pen.theme.style(tone)) + 2;
        let note = item
            .off
            .as_ref()
            .map_or(item.note.clone(), |reason| format!("off: {reason}"));
        let room = usize::from(end.saturating_sub(x + 1));
        pen.put_until(
            x,
            y,
            end,
            &cut(&note, room, Cut::End, ascii),
            pen.theme.style(Tone::Dim),
        );
    }
    Position::new(stop.min(area.right()), area.y)
}

fn confirm_box(confirm: &Confirm, pen: &mut Pen<'_>) -> Option<Position> {
    let plan = &confirm.plan;
    let ascii = pen.theme.ascii;
    let noun = action_noun(plan.action);
    let verb = confirm.verb();
    let title = match (plan.count(), plan.targets(false).as_slice()) {
        (0, _) => format!("{verb}: not possible"),
        (1, [row]) => format!("{verb} {noun} {}", called(row)),
        (count, _) if plan.owners() > 1 => {
            format!(
                "{verb} {} of {}",
                human::count(count, noun),
                human::count(plan.owners(), "owner")
            )
        }
        (count, _) => format!("{verb} {}", human::count(count, noun)),
    };
    let lines = confirm.lines(confirm_room(pen.size()), ascii);
    let below = confirm.rows_below();
    let whole = confirm_area(pen.size(), confirm, lines.len());
    pen.frame(
        whole,
        &title,
        "Esc keep, Y copy command",
        if plan.count() > 0 {
            Tone::Bad
        } else {
            Tone::Title
        },
    );
    let area = inner(whole);
    let visible = usize::from(area.height.saturating_sub(below));
    let top = confirm.top.min(lines.len().saturating_sub(visible));
    for (i, (text, tone)) in lines.iter().skip(top).take(visible).enumerate() {
        pen.put_until(
            area.x + 1,
            area.y + i as u16,
            area.right(),
            text,
            pen.theme.style(*tone),
        );
    }
    let y = area.bottom().saturating_sub(below);
    let mut cursor = None;
    if let Some(count) = plan.must_type() {
        let tone = if confirm.is_typed() {
            Tone::Good
        } else {
            Tone::Plain
        };
        let x = pen.put(
            area.x + 1,
            y,
            &format!("Type {count} to say that you mean all {count}: "),
            tone,
        );
        let x = if count == 1 {
            pen.clear(Rect::new(area.x, y, area.width, 1));
            pen.put(area.x + 1, y, "Type 1 to say that you mean it: ", tone)
        } else {
            x
        };
        let x = pen.put(x, y, &confirm.typed, Tone::Title);
        cursor = Some(Position::new(x, y));
    }
    for (button, place, text) in confirm_buttons(whole, confirm) {
        let tone = match (confirm.focus == button, button) {
            (true, _) => Tone::Active,
            (false, Button::Go) if !confirm.is_typed() => Tone::Dim,
            (false, Button::Go) => Tone::Bad,
            (false, _) => Tone::Plain,
        };
        let style = pen.theme.style(tone);
        pen.put_until(place.x, place.y, area.right(), &text, style);
    }
    cursor
}

/// A key on the help page.
struct Entry {
    keys: String,
    text: String,
    off: Option<String>,
}

fn help(model: &Model, typed: &str, top: usize, pen: &mut Pen<'_>) -> Position {
    let area = Rect::new(0, 1, pen.width(), pen.height().saturating_sub(2));
    pen.clear(area);
    let ascii = pen.theme.ascii;
    let context = model.key_context();
    let x = pen.put(1, 1, "KEYS ", Tone::Title);
    let prompt = if typed.is_empty() {
        "type to search"
    } else {
        typed
    };
    let tone = if typed.is_empty() {
        Tone::Dim
    } else {
        Tone::Title
    };
    let after = pen.put(x + 1, 1, prompt, tone);
    let cursor = Position::new(if typed.is_empty() { x + 1 } else { after }, 1);
    let mut lines: Vec<Result<Entry, &'static str>> = Vec::new();
    let needle = typed.to_lowercase();
    for group in Group::ALL {
        let mut entries: Vec<Entry> = Vec::new();
        if *group == Group::Act && matches!(context, keys::Context::List | keys::Context::Detail) {
            for kind in action_kinds(model) {
                for action in ACTIONS.iter().filter(|action| action.kind == kind) {
                    entries.push(Entry {
                        keys: keys::short(keys::of_action(action), ascii),
                        text: format!("{}: {}", action.title, action.doc),
                        off: why_not(model, action),
                    });
                }
            }
        }
        for binding in bindings(context).filter(|binding| binding.group == *group) {
            let shown: Vec<String> = binding
                .keys
                .iter()
                .map(|key| keys::short(key, ascii))
                .collect();
            entries.push(Entry {
                keys: shown.join(" "),
                text: binding.help.to_owned(),
                off: command_why_not(model, binding.command),
            });
        }
        entries.retain(|entry| {
            needle.is_empty()
                || entry.text.to_lowercase().contains(&needle)
                || entry.keys.to_lowercase().contains(&needle)
        });
        if !entries.is_empty() {
            lines.push(Err(group.title()));
            lines.extend(entries.into_iter().map(Ok));
        }
    }
    let height = usize::from(area.height.saturating_sub(1));
    let top = top.min(lines.len().saturating_sub(height));
    if lines.is_empty() {
        pen.line(3, "no key is about that", Tone::Dim);
    }
    let far = format!(
        "{} to {} of {}",
        (top + 1).min(lines.len()),
        (top + height).min(lines.len()),
        lines.len()
    );
    pen.right(1, 1, &far, Tone::Dim);
    for (i, line) in lines.iter().skip(top).take(height).enumerate() {
        let y = area.y + 1 + i as u16;
        match line {
            Err(title) => {
                pen.line(y, title, Tone::Title);
            }
            Ok(entry) => {
                let off = entry.off.is_some();
                let keys = fit(&entry.keys, 14, Align::Left, Cut::End, ascii);
                let x = pen.put(2, y, &keys, if off { Tone::Dim } else { Tone::Accent });
                let text = match &entry.off {
                    None => entry.text.clone(),
                    Some(reason) => format!("off: {reason}. {}", entry.text),
                };
                let room = usize::from(pen.width().saturating_sub(x + 2));
                pen.put(
                    x + 1,
                    y,
                    &cut(&text, room, Cut::End, ascii),
                    if off { Tone::Dim } else { Tone::Plain },
                );
            }
        }
    }
    cursor
}
