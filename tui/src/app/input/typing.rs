//! The line that is typed: a filter of rows, or a search of a text.

use std::sync::Arc;

use skytower_api_client::entity::Entity;
use skytower_api_client::query;

use super::Effects;
use super::reading::scroll;
use crate::app::log::LogView;
use crate::app::model::{Model, Severity};
use crate::app::reading::text_room;
use crate::app::typing::{Completion, Typing, edit, remember};
use crate::keys::{Chord, Code};

/// Begins to type, from what is there.
pub(super) fn begin(model: &mut Model) {
    if model.text_view().is_some() || model.list().is_some() {
        model.typing = Some(Typing::at_end(text(model)));
    }
}

pub(super) fn key(model: &mut Model, chord: Chord) -> Effects {
    let Some(mut typing) = model.typing.take() else {
        return Vec::new();
    };
    let offered = typing.completion.take();
    let mut text = text(model);
    match chord.code {
        Code::Enter => {
            finish(model, &text);
            return Vec::new();
        }
        Code::Esc | Code::Char('c') if chord.code == Code::Esc || chord.ctrl => {
            // Out of the suggestions first.
            let Some(offered) = offered else {
                take_effect(model, typing.before);
                return Vec::new();
            };
            (text, typing.at) = (offered.typed, offered.cursor);
        }
        Code::Backspace if text.is_empty() => return Vec::new(),
        Code::Tab => {
            let more = match offered {
                Some(mut offered) => {
                    offered.step(!chord.shift);
                    Some(offered)
                }
                None => complete(model, &text, typing.at),
            };
            match more {
                Some(more) => {
                    (text, typing.at) = more.text();
                    // A single one is no choice: the next Tab goes on from it.
                    typing.completion = (more.found.len() > 1).then_some(more);
                }
                None => model.say(Severity::Info, "nothing completes this"),
            }
        }
        Code::Up | Code::Down => {
            let up = chord.code == Code::Up;
            if !recall(model, &mut typing, &mut text, up) {
                model.typing = Some(typing);
                scroll(model, if up { -1 } else { 1 });
                return Vec::new();
            }
        }
        _ => {
            let before = text.clone();
            edit(&mut text, &mut typing.at, chord);
            if text == before {
                // The cursor moved, and nothing is filtered anew.
                model.typing = Some(typing);
                return Vec::new();
            }
            typing.recalled = None;
        }
    }
    model.typing = Some(typing);
    take_effect(model, text);
    Vec::new()
}

/// What is typed so far.
fn text(model: &Model) -> String {
    match (model.text_view(), model.list()) {
        (Some(view), _) => view.search().to_owned(),
        (None, Some(list)) => list.filter.clone(),
        (None, None) => String::new(),
    }
}

fn take_effect(model: &mut Model, text: String) {
    if let Some(view) = model.text_view_mut() {
        view.look_for(text);
    } else if let Some(list) = model.list_mut() {
        list.set_filter(text);
    }
}

/// Enter: a filter stays, a search goes to the match that is nearest below, else above.
fn finish(model: &mut Model, text: &str) {
    let room = text_room(model);
    if let Some(view) = model.text_view_mut() {
        if view.needle().is_none() {
            return;
        }
        let found =
            view.seek(true, room, LogView::matches) || view.seek(false, room, LogView::matches);
        let wrong = view.wrong().map(|wrong| {
            format!("`{text}` is no regular expression ({wrong}): searched for its words")
        });
        match wrong {
            _ if !found => model.say(Severity::Info, format!("nothing matches `{text}`")),
            Some(wrong) => model.say(Severity::Info, wrong),
            None => {}
        }
    } else if let Some(list) = model.list_mut() {
        remember(&mut list.past, text);
    }
}

/// Fields and values for the word under the cursor, from the rows that the scope holds.
fn complete(model: &Model, text: &str, at: usize) -> Option<Completion> {
    let list = model.list().filter(|_| model.text_view().is_none())?;
    let context = model.context();
    let rows = model
        .table
        .rows(list.kind)
        .filter(|row: &&Arc<Entity>| list.belongs(row) && model.scope.holds(row, &context));
    let found = query::complete(text, at, list.kind, rows, &context);
    (!found.is_empty()).then(|| Completion {
        typed: text.to_owned(),
        cursor: at,
        found,
        at: 0,
    })
}

/// In an empty line: the filters typed before. Says whether there was one to go to.
fn recall(model: &Model, typing: &mut Typing, text: &mut String, up: bool) -> bool {
    let list = model.list().filter(|_| model.text_view().is_none());
    let Some(past) = list.map(|list| &list.past).filter(|past| !past.is_empty()) else {
        return false;
    };
    let next = match typing.recalled {
        None if up && text.is_empty() => Some(0),
        None => return false,
        Some(at) if up => Some((at + 1).min(past.len() - 1)),
        Some(at) => at.checked_sub(1),
    };
    *text = next
        .and_then(|back| past.iter().rev().nth(back))
        .cloned()
        .unwrap_or_default();
    typing.recalled = next;
    typing.at = text.len();
    true
}
