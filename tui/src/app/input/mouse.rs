//! The mouse: the wheel scrolls, a click goes where it points.

use ratatui::layout::Position;

use super::Effects;
use super::command::run;
use super::navigation::visit;
use super::overlay;
use super::reading::scroll;
use super::rows::sort_by;
use crate::app::geometry;
use crate::app::model::{Model, Overlay, Page};
use crate::app::msg::Mouse;
use crate::keys::{Chord, Code, Command};

/// The mouse did something.
pub(crate) fn mouse(model: &mut Model, mouse: Mouse) -> Effects {
    match mouse {
        Mouse::WheelUp | Mouse::WheelDown => {
            let down = mouse == Mouse::WheelDown;
            if let Some(overlay) = model.overlays.last_mut() {
                match overlay {
                    Overlay::Help { top, .. } | Overlay::Results { top, .. } => {
                        *top = if down {
                            *top + 3
                        } else {
                            top.saturating_sub(3)
                        };
                    }
                    Overlay::Pick(picker) => {
                        let code = if down { Code::Down } else { Code::Up };
                        picker.key(Chord::plain(code));
                    }
                    Overlay::Start(starting) => {
                        let code = if down { Code::PageDown } else { Code::PageUp };
                        starting.key(Chord::plain(code));
                    }
                    Overlay::SignIn(_) => {}
                    Overlay::Confirm(confirm) => {
                        confirm.top = if down {
                            confirm.top + 1
                        } else {
                            confirm.top.saturating_sub(1)
                        };
                    }
                }
                return Vec::new();
            }
            scroll(model, if down { 3 } else { -3 });
            Vec::new()
        }
        Mouse::Click(x, y) => {
            if !model.overlays.is_empty() {
                return overlay::click(model, Position::new(x, y));
            }
            if y == 1 {
                let heading = geometry::headings(model).into_iter().find(|it| {
                    x >= it.x && usize::from(x) < usize::from(it.x) + crate::text::width(&it.text)
                });
                return heading.map_or_else(Vec::new, |it| visit(model, Page::List(it.kind)));
            }
            let area = geometry::list_area(model);
            if x >= area.right() || y < area.y || y >= area.bottom() {
                return Vec::new();
            }
            let Some(list) = model.list_mut() else {
                return Vec::new();
            };
            if y == area.y {
                let mut at = area.x + geometry::FRONT;
                for (column, width) in list.shown.clone() {
                    if x >= at && x < at + width {
                        sort_by(list, column.id);
                        break;
                    }
                    at += width + 2;
                }
                return Vec::new();
            }
            let at = list.top + usize::from(y - area.y - 1);
            if at >= list.lines.len() {
                return Vec::new();
            }
            let again = list.at == at;
            list.go(at);
            if again {
                run(model, Command::Open)
            } else {
                Vec::new()
            }
        }
    }
}
