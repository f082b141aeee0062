//! Keys and the mouse: what they mean here, and what that does.

mod acting;
mod command;
mod mouse;
mod navigation;
mod overlay;
mod picks;
mod reading;
mod rows;
mod signing;
mod starting;
mod typing;

use skytower_api_client::Text;

use super::model::{Model, Overlay, Severity};
use super::msg::Effect;
use crate::keys::{self, Chord, Code, Command, Meaning};

pub(crate) use acting::action_noun;
pub(crate) use mouse::mouse;
pub(crate) use signing::{answered, close as close_sign_in, refused};
pub(crate) use starting::{came, listed};

type Effects = Vec<Effect>;

/// A key was pressed.
pub(crate) fn key(model: &mut Model, chord: Chord) -> Effects {
    let armed = std::mem::take(&mut model.quit_armed);
    if !model.overlays.is_empty() {
        return overlay::key(model, chord);
    }
    if model.typing.is_some() {
        return typing::key(model, chord);
    }
    let context = model.key_context();
    let mut kinds = model.action_kinds().into_iter();
    let meaning = keys::meaning(chord, context, kinds.next())
        .or_else(|| kinds.find_map(|kind| keys::meaning(chord, context, Some(kind))));
    match meaning {
        Some(Meaning::Command(command)) => {
            model.quit_armed = armed && command == Command::Close;
            command::run(model, command)
        }
        Some(Meaning::Action(action)) => acting::start(model, action, None),
        None => {
            if let Some(c) = chord.types().filter(|c| !c.is_control()) {
                model.say(
                    Severity::Info,
                    format!("`{c}` does nothing here (? shows every key)"),
                );
            }
            Vec::new()
        }
    }
}

/// Text was pasted: into what is being typed, never into keys.
pub(crate) fn paste(model: &mut Model, text: &str) -> Effects {
    if let Some(Overlay::SignIn(sign_in)) = model.overlays.last_mut() {
        sign_in.paste(text);
        return Vec::new();
    }
    let mut effects = Vec::new();
    let takes = model.typing.is_some()
        || matches!(
            model.overlays.last(),
            Some(Overlay::Pick(_) | Overlay::Help { .. } | Overlay::Start(_) | Overlay::SignIn(_))
        );
    if takes {
        for c in Text::new(text).chars().take(400) {
            effects.extend(key(model, Chord::plain(Code::Char(c))));
        }
    }
    effects
}
