//! Moving on the page, and reading a text: scrolling, searching, following, saving.

use super::Effects;
use crate::app::geometry;
use crate::app::log::LogView;
use crate::app::model::{Model, Page, Severity};
use crate::app::msg::Effect;
use crate::keys::Command;

/// Moves in the text or in the list.
pub(super) fn go(model: &mut Model, command: Command) {
    use Command as C;
    let (height, page) = (text_height(model) as isize, page_rows(model) as isize);
    match command {
        C::Up => scroll(model, -1),
        C::Down => scroll(model, 1),
        C::PageUp => scroll(model, -page),
        C::PageDown => scroll(model, page),
        C::HalfUp => scroll(model, -(height / 2)),
        C::HalfDown => scroll(model, height / 2),
        C::Top | C::Bottom => match model.text_view_mut() {
            Some(view) if command == C::Top => view.to_top(),
            Some(view) => view.follow = true,
            None => {
                if let Some(list) = model.list_mut() {
                    list.go(if command == C::Top { 0 } else { usize::MAX });
                }
            }
        },
        C::Left | C::Right => {
            if let Some(view) = model.text_view_mut() {
                view.left = if command == C::Left {
                    view.left.saturating_sub(8)
                } else {
                    view.left + 8
                };
            }
        }
        _ => {}
    }
}

/// To another match or error.
pub(super) fn seek(model: &mut Model, command: Command) {
    use Command as C;
    let height = text_height(model);
    let forward = matches!(command, C::NextMatch | C::NextError);
    let errors = matches!(command, C::NextError | C::PreviousError);
    let Some(view) = model.text_view_mut() else {
        return;
    };
    let found = if errors {
        view.seek(forward, height, LogView::is_error)
    } else {
        view.seek(forward, height, LogView::matches)
    };
    if !found {
        let what = if errors { "error" } else { "match" };
        let way = if forward {
            "further down"
        } else {
            "further up"
        };
        model.say(Severity::Info, format!("no {what} {way}"));
    }
}

/// Turns a way of looking at the text on or off.
pub(super) fn switch(model: &mut Model, command: Command) {
    let height = text_height(model);
    let Some(view) = model.text_view_mut() else {
        return;
    };
    match command {
        Command::OnlyMatches => view.only = !view.only,
        Command::Follow => {
            if view.follow {
                view.top = view.len().saturating_sub(height);
            }
            view.follow = !view.follow;
        }
        Command::Wrap => {
            view.wrap = !view.wrap;
            view.left = 0;
        }
        _ => {}
    }
}

/// The whole text, to a file in the working folder.
pub(super) fn save(model: &mut Model) -> Effects {
    let Some(view) = model.text_view() else {
        return Vec::new();
    };
    let kind = if matches!(model.page, Page::Yaml(_)) {
        "yaml"
    } else {
        "log"
    };
    let name: String = view
        .key
        .as_str()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    vec![Effect::Save {
        name: format!("{name}.{kind}"),
        text: view.text(),
    }]
}

pub(super) fn text_height(model: &Model) -> usize {
    usize::from(geometry::body(model).height)
        .saturating_sub(1)
        .max(1)
}

pub(super) fn page_rows(model: &Model) -> usize {
    geometry::list_height(model).saturating_sub(1).max(1)
}

pub(super) fn scroll(model: &mut Model, by: isize) {
    let height = text_height(model);
    if let Some(view) = model.text_view_mut() {
        view.scroll(by, height);
    } else if let Some(list) = model.list_mut() {
        list.step(by);
    }
}
