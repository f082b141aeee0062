//! Where dialogs are on the screen: read by the drawing and by the mouse.

use ratatui::layout::Rect;

use super::confirm::{Button, Confirm};
use super::pick::Picker;
use crate::text::width;

/// Columns of a dialog, where there are as many.
const COLUMNS: u16 = 76;
/// Rows of the longest picker.
const PICKER_ROWS: u16 = 18;

/// Rows of the dialog that starts something.
const START_ROWS: u16 = 20;

/// Rows of the box that asks who one is, without its reason.
const SIGN_IN_ROWS: u16 = 8;

/// A box in the middle of the screen, never over the keys' line.
pub(crate) fn centred((columns, rows): (u16, u16), height: u16) -> Rect {
    let width = COLUMNS.min(columns.saturating_sub(2));
    let height = height.min(rows.saturating_sub(3)).max(3);
    let x = (columns - width) / 2;
    let y = (rows.saturating_sub(height + 1) / 2).max(1);
    Rect::new(x, y, width, height.min(rows.saturating_sub(y)))
}

/// What a box has room for.
pub(crate) fn inner(area: Rect) -> Rect {
    Rect {
        x: area.x + 1,
        y: area.y + 1,
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    }
}

/// The box of a picker: as high as with everything, so that it does not jump while one types.
pub(crate) fn pick_area(size: (u16, u16), picker: &Picker) -> Rect {
    centred(size, (picker.items.len() as u16 + 3).min(PICKER_ROWS))
}

/// The first of the fitting items that is shown, and how many there is room for.
pub(crate) fn pick_window(area: Rect, picker: &Picker) -> (usize, usize) {
    let height = usize::from(inner(area).height.saturating_sub(1));
    ((picker.at + 1).saturating_sub(height), height)
}

/// The box of the dialog that starts something: the same for all of its steps.
pub(crate) fn start_area(size: (u16, u16)) -> Rect {
    centred(size, START_ROWS)
}

/// The box that asks who one is, with so many lines of reason.
pub(crate) fn sign_in_area(size: (u16, u16), reason: u16) -> Rect {
    centred(size, reason + SIGN_IN_ROWS)
}

/// Cells for the text of a question.
pub(crate) fn confirm_room(size: (u16, u16)) -> usize {
    usize::from(COLUMNS.min(size.0.saturating_sub(2))).saturating_sub(4)
}

/// The box of a question with so many lines of text.
pub(crate) fn confirm_area(size: (u16, u16), confirm: &Confirm, lines: usize) -> Rect {
    centred(size, lines as u16 + confirm.rows_below() + 2)
}

/// The buttons in the last row of a question's box: each with its place and its words.
pub(crate) fn confirm_buttons(area: Rect, confirm: &Confirm) -> Vec<(Button, Rect, String)> {
    let area = inner(area);
    let y = area.bottom().saturating_sub(1);
    let mut x = area.x + 3;
    let mut out = Vec::new();
    for button in confirm.buttons() {
        let label = confirm.label(button);
        let text = if confirm.focus == button {
            format!("[{label}]")
        } else {
            format!(" {label} ")
        };
        let cells = width(&text) as u16;
        out.push((button, Rect::new(x, y, cells, 1), text));
        x += cells + 3;
    }
    out
}
