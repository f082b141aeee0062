//! The terminal: entering and leaving it, and what it says. The only place that writes to it.

mod guard;
mod input;
mod screen;

pub use guard::{Guard, restore};
pub use input::message;
pub use screen::Screen;

use base64_of::encode;

mod base64_of;

/// The sequence that puts `text` into the terminal's clipboard (OSC 52), passed through tmux.
pub fn clipboard(text: &str, in_tmux: bool) -> String {
    let sequence = format!("\x1b]52;c;{}\x07", encode(text.as_bytes()));
    if in_tmux {
        format!("\x1bPtmux;{}\x1b\\", sequence.replace('\x1b', "\x1b\x1b"))
    } else {
        sequence
    }
}
