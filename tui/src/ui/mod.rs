//! The model on the screen. Pure: the same model gives the same frame.

mod chrome;
mod detail;
mod empty;
mod line;
mod overlay;
mod pen;
mod preview;
mod sign_in;
mod start;
mod table;
mod text;

use ratatui::buffer::Buffer;
use ratatui::layout::Position;

use crate::app::{Model, Page};
use pen::Pen;

/// Draws the model. Returns where the terminal's cursor is, while something is typed.
pub fn draw(model: &Model, frame: &mut Buffer) -> Option<Position> {
    let mut pen = Pen::new(frame, model.options.theme);
    if pen.width() < 20 || pen.height() < 4 {
        pen.line(0, "too small", crate::theme::Tone::Warn);
        return None;
    }
    chrome::top(model, &mut pen);
    let mut cursor = chrome::third(model, &mut pen);
    match &model.page {
        Page::List(_) => {
            table::list(model, &mut pen);
            preview::draw(model, &mut pen);
        }
        Page::Detail(..) => {
            detail::draw(model, &mut pen);
            text::narrowed(model, &mut pen);
            if model.typing.is_some() {
                // What is typed stands where the status was.
                cursor = chrome::third(model, &mut pen);
            }
        }
        Page::Log(..) | Page::Yaml(_) => text::draw(model, &mut pen),
    }
    chrome::bottom(model, &mut pen);
    line::suggestions(model, cursor, &mut pen);
    if !model.overlays.is_empty() {
        cursor = overlay::draw(model, &mut pen);
    }
    cursor
}
