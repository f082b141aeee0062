//! Keys in front of the page: help, pickers, the question before harm, results.

use super::Effects;
use super::acting::{start, submit};
use super::command::run;
use super::navigation::visit;
use super::picks::{AUTOSTOP, autostop_items};
use super::rows::set_scope;
use crate::app::confirm::Answer;
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
        Overlay::Confirm(confirm) => match confirm.key(chord) {
            Answer::Open => Vec::new(),
            Answer::Keep => {
                model.overlays.pop();
                model.say(Severity::Info, "nothing was done");
                Vec::new()
            }
            Answer::Copy => vec![Effect::Copy(confirm.plan.sky(false).join("\n"))],
            Answer::Go(only_mine) => {
                let Some(Overlay::Confirm(confirm)) = model.overlays.pop() else {
                    return Vec::new();
                };
                submit(model, &confirm.plan, only_mine)
            }
        },
        Overlay::Pick(picker) => {
            if picker.title == AUTOSTOP {
                let picked = picker.key(chord);
                if picked == Picked::Open {
                    let typed = picker.typed.clone();
                    picker.items = autostop_items(&typed);
                }
                return picked_one(model, picked);
            }
            let picked = picker.key(chord);
            picked_one(model, picked)
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
