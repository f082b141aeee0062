//! The line that is typed: a filter of rows, or a search of a text.

use skytower_api_client::Kind;
use skytower_api_client::column::columns;
use skytower_api_client::entity::Entity;

use super::Effects;
use super::reading::{scroll, text_height};
use crate::app::log::LogView;
use crate::app::model::{Model, Severity};
use crate::keys::{Chord, Code};

pub(super) fn key(model: &mut Model, chord: Chord) -> Effects {
    let mut text = match (model.text_view(), model.list()) {
        (Some(view), _) => view.search.clone(),
        (None, Some(list)) => list.filter.clone(),
        (None, None) => String::new(),
    };
    match chord.code {
        Code::Enter => {
            model.typing = None;
            let height = text_height(model);
            if let Some(view) = model.text_view_mut().filter(|view| !view.search.is_empty()) {
                let found = view.seek(true, height, LogView::matches);
                if !found {
                    let search = view.search.clone();
                    model.say(Severity::Info, format!("nothing matches `{search}`"));
                }
            }
            return Vec::new();
        }
        Code::Esc => text = model.typing.take().unwrap_or_default(),
        Code::Char('c') if chord.ctrl => text = model.typing.take().unwrap_or_default(),
        Code::Backspace => {
            if text.pop().is_none() {
                model.typing = None;
            }
        }
        Code::Char('u') if chord.ctrl => text.clear(),
        Code::Char('w') if chord.ctrl => {
            let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
            text.truncate(kept);
        }
        Code::Tab => {
            if let Some(list) = model.list() {
                let rows: Vec<&Entity> =
                    list.lines.iter().take(500).map(|line| &*line.row).collect();
                let context = model.context();
                if let Some(done) = complete_one(&text, list.kind, &rows, &context) {
                    text = done;
                }
            }
        }
        Code::Up | Code::Down => {
            let by = if chord.code == Code::Up { -1 } else { 1 };
            scroll(model, by);
            return Vec::new();
        }
        _ => match chord.types() {
            Some(c) => text.push(c),
            None => return Vec::new(),
        },
    }
    if let Some(view) = model.text_view_mut() {
        view.search = text;
        view.found = None;
    } else if let Some(list) = model.list_mut() {
        list.set_filter(text);
    }
    Vec::new()
}

/// The field whose name begins like the last word.
fn complete_one(
    text: &str,
    kind: Kind,
    _: &[&Entity],
    _: &skytower_api_client::column::Context,
) -> Option<String> {
    let start = text.rfind([' ', '(']).map_or(0, |at| at + 1);
    let (before, word) = text.split_at(start);
    let word = word.trim_start_matches(['-', '!']);
    let sign = &text[before.len()..text.len() - word.len()];
    if word.is_empty() {
        return None;
    }
    let field = columns(kind)
        .iter()
        .find(|column| column.id.starts_with(word))?;
    Some(format!("{before}{sign}{}:", field.id))
}
