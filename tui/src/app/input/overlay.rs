//! Keys and clicks in front of the page: help, pickers, the question before harm, results.

use ratatui::layout::Position;

use super::Effects;
use super::acting::{start, submit};
use super::command::run;
use super::navigation::visit;
use super::picks::{AUTOSTOP, autostop_items};
use super::rows::set_scope;
use super::{signing, starting};
use crate::app::confirm::Answer;
use crate::app::dialog::{
    centred, confirm_area, confirm_buttons, confirm_room, pick_area, pick_window,
};
use crate::app::model::{Model, Overlay, Page, Severity};
use crate::app::msg::Effect;
use crate::app::pick::{Choice, Picked};
use crate::keys::{Chord, Code};

pub(super) fn key(model: &mut Model, chord: Chord) -> Effects {
    let Some(overlay) = model.overlays.last_mut() else {
        return Vec::new();
    };
    match overlay {
        Overlay::Help { typed, top } => {
            match chord.code {
                Code::Esc | Code::Enter => {
                    model.overlays.pop();
                }
                Code::Char('c') if chord.ctrl => {
                    model.overlays.pop();
                }
                Code::Up => *top = top.saturating_sub(1),
                Code::Down => *top += 1,
                Code::PageUp => *top = top.saturating_sub(10),
                Code::PageDown => *top += 10,
                Code::Backspace => {
                    typed.pop();
                    *top = 0;
                }
                Code::Char('?' | 'q') if typed.is_empty() => {
                    model.overlays.pop();
                }
                _ => {
                    if let Some(c) = chord.types() {
                        typed.push(c);
                        *top = 0;
                    }
                }
            }
            Vec::new()
        }
        Overlay::Results { top, .. } => {
            match chord.code {
                Code::Up | Code::Char('k') => *top = top.saturating_sub(1),
                Code::Down | Code::Char('j') => *top += 1,
                _ => {
                    model.overlays.pop();
                }
            }
            Vec::new()
        }
        Overlay::Start(_) => starting::key(model, chord),
        Overlay::SignIn(_) => signing::key(model, chord),
        Overlay::Confirm(confirm) => {
            let answer = confirm.key(chord);
            answered(model, answer)
        }
        Overlay::Pick(picker) => {
            let picked = picker.key(chord);
            if picked == Picked::Open && picker.title == AUTOSTOP {
                let no_stop = picker.items.iter().find_map(|item| item.off.clone());
                picker.items = autostop_items(&picker.typed, no_stop.as_ref());
            }
            picked_one(model, picked)
        }
    }
}

fn answered(model: &mut Model, answer: Answer) -> Effects {
    match answer {
        Answer::Open => Vec::new(),
        Answer::Keep => {
            model.overlays.pop();
            model.say(Severity::Info, "nothing was done");
            Vec::new()
        }
        Answer::Copy => match model.overlays.last() {
            Some(Overlay::Confirm(confirm)) => {
                vec![Effect::Copy(confirm.plan.sky(false).join("\n"))]
            }
            _ => Vec::new(),
        },
        Answer::Go(only_mine) => {
            let Some(Overlay::Confirm(confirm)) = model.overlays.pop() else {
                return Vec::new();
            };
            submit(model, &confirm.plan, only_mine)
        }
    }
}

/// A click in front of the page: on an entry or a button; beside a box that asks nothing closes it.
pub(super) fn click(model: &mut Model, at: Position) -> Effects {
    let (size, ascii) = (model.size, model.options.theme.ascii);
    let Some(overlay) = model.overlays.last_mut() else {
        return Vec::new();
    };
    match overlay {
        Overlay::Help { .. } | Overlay::Start(_) | Overlay::SignIn(_) => Vec::new(),
        Overlay::Results { key, .. } => {
            let rows = model.table.get(key).and_then(|row| row.as_request());
            let rows = rows.map_or(0, |request| request.results.len() as u16);
            if !centred(size, rows + 2).contains(at) {
                model.overlays.pop();
            }
            Vec::new()
        }
        Overlay::Confirm(confirm) => {
            let lines = confirm.lines(confirm_room(size), ascii).len();
            let buttons = confirm_buttons(confirm_area(size, confirm, lines), confirm);
            let Some((button, ..)) = buttons.iter().find(|(_, place, _)| place.contains(at)) else {
                return Vec::new();
            };
            let answer = confirm.click(*button);
            answered(model, answer)
        }
        Overlay::Pick(picker) => {
            let area = pick_area(size, picker);
            if !area.contains(at) {
                model.overlays.pop();
                return Vec::new();
            }
            let (top, height) = pick_window(area, picker);
            // The first row within the box is what is typed.
            let Some(row) = at.y.checked_sub(area.y + 2).map(usize::from) else {
                return Vec::new();
            };
            if row >= height || top + row >= picker.fitting().len() {
                return Vec::new();
            }
            picker.at = top + row;
            key(model, Chord::plain(Code::Enter))
        }
    }
}

fn picked_one(model: &mut Model, picked: Picked) -> Effects {
    match picked {
        Picked::Open => Vec::new(),
        Picked::Closed => {
            model.overlays.pop();
            Vec::new()
        }
        Picked::Off(reason) => {
            model.say(Severity::Bad, reason);
            Vec::new()
        }
        Picked::Chosen(choice) => {
            model.overlays.pop();
            match choice {
                Choice::Act(action, options) => start(model, action, options),
                Choice::Command(command) => run(model, command),
                Choice::Scope(scope) => {
                    set_scope(model, scope);
                    Vec::new()
                }
                Choice::Screen(kind, filter) => {
                    let effects = visit(model, Page::List(kind));
                    if let (Some(filter), Some(list)) = (filter, model.list_mut()) {
                        list.set_filter(filter);
                    }
                    effects
                }
            }
        }
    }
}
