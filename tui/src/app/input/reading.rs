//! Moving on the page, and reading a text: scrolling, searching, following, saving.

use skytower_api_client::human;

use super::Effects;
use crate::app::geometry;
use crate::app::log::LogView;
use crate::app::model::{Model, Page, Severity, Tab};
use crate::app::msg::Effect;
use crate::app::reading::text_room;
use crate::keys::Command;

/// Moves in the text or in the list.
pub(super) fn go(model: &mut Model, command: Command) {
    use Command as C;
    let page = match model.text_view() {
        // A line of what was there stays.
        Some(_) => text_room(model).rows.saturating_sub(1),
        None => geometry::list_height(model).saturating_sub(1),
    };
    let page = page.max(1) as isize;
    match command {
        C::Up => scroll(model, -1),
        C::Down => scroll(model, 1),
        C::PageUp => scroll(model, -page),
        C::PageDown => scroll(model, page),
        C::HalfUp => scroll(model, -(page + 1) / 2),
        C::HalfDown => scroll(model, (page + 1) / 2),
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
            let room = text_room(model);
            match model.text_view_mut() {
                Some(view) if view.wrap => {
                    model.say(
                        Severity::Info,
                        "long lines are wrapped: w cuts them instead",
                    );
                }
                Some(view) => view.scroll_side(command == C::Right, room),
                None => {}
            }
        }
        _ => {}
    }
}

/// Moves by rows.
pub(super) fn scroll(model: &mut Model, by: isize) {
    let room = text_room(model);
    if let Some(view) = model.text_view_mut() {
        view.scroll(by, room);
    } else if let Some(list) = model.list_mut() {
        list.step(by);
    }
}

/// To another match or error.
pub(super) fn seek(model: &mut Model, command: Command) {
    use Command as C;
    let room = text_room(model);
    let forward = matches!(command, C::NextMatch | C::NextError);
    let errors = matches!(command, C::NextError | C::PreviousError);
    let Some(view) = model.text_view_mut() else {
        return;
    };
    let found = if errors {
        view.seek(forward, room, LogView::is_error)
    } else {
        view.seek(forward, room, LogView::matches)
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
    let room = text_room(model);
    let Some(view) = model.text_view_mut() else {
        return;
    };
    match command {
        Command::OnlyMatches => view.only = !view.only,
        Command::Follow => view.switch_follow(room),
        Command::Wrap => {
            view.wrap = !view.wrap;
            view.left = 0;
        }
        _ => {}
    }
}

/// The lines on the screen, to the clipboard.
pub(super) fn copy(model: &Model) -> Effects {
    let text = model
        .text_view()
        .map(|view| view.text_shown(text_room(model)));
    text.filter(|text| !text.is_empty())
        .map(Effect::Copy)
        .into_iter()
        .collect()
}

/// The whole text, to a file in the working folder, named after what it is of and the time.
pub(super) fn save(model: &Model) -> Effects {
    let Some(view) = model.text_view() else {
        return Vec::new();
    };
    let (what, extension) = match &model.page {
        Page::Yaml(_) | Page::Detail(_, Tab::Yaml) => (None, "yaml"),
        _ => (view.channel, "log"),
    };
    let time = human::date_time(model.at, model.options.utc).replace(' ', "-");
    let words = [view.key.as_str(), what.unwrap_or_default(), &time];
    let name: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = name
        .join("-")
        .chars()
        .filter(|c| *c != ':')
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    vec![Effect::Save {
        name: format!("{name}.{extension}"),
        text: view.text(),
    }]
}
