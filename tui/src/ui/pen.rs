//! Writing into a frame: clipped, in tones.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::text::{head, width};
use crate::theme::{Theme, Tone};

pub(super) struct Pen<'a> {
    frame: &'a mut Buffer,
    pub(super) theme: Theme,
}

impl<'a> Pen<'a> {
    pub(super) fn new(frame: &'a mut Buffer, theme: Theme) -> Self {
        Self { frame, theme }
    }

    pub(super) fn width(&self) -> u16 {
        self.frame.area.width
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (u16, u16) {
        (self.width(), self.height())
    }

    pub(super) fn height(&self) -> u16 {
        self.frame.area.height
    }

    /// Writes at a place, not beyond `end`; returns where it stopped.
    pub(super) fn put_until(&mut self, x: u16, y: u16, end: u16, text: &str, style: Style) -> u16 {
        let end = end.min(self.width());
        if y >= self.height() || x >= end {
            return x;
        }
        let text = head(text, usize::from(end - x));
        self.frame.set_string(x, y, text, style);
        x + width(text) as u16
    }

    pub(super) fn put(&mut self, x: u16, y: u16, text: &str, tone: Tone) -> u16 {
        let style = self.theme.style(tone);
        self.put_until(x, y, u16::MAX, text, style)
    }

    /// A line of its own, one cell in.
    pub(super) fn line(&mut self, y: u16, text: &str, tone: Tone) {
        self.put(1, y, text, tone);
    }

    /// Text that ends at the right edge, `margin` cells in; returns where it begins.
    pub(super) fn right(&mut self, y: u16, margin: u16, text: &str, tone: Tone) -> u16 {
        let x = self.width().saturating_sub(width(text) as u16 + margin);
        self.put(x, y, text, tone);
        x
    }

    /// Styles a stretch of a row over what is there.
    pub(super) fn tint(&mut self, area: Rect, style: Style) {
        self.frame
            .set_style(area.intersection(self.frame.area), style);
    }

    pub(super) fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.frame.area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                self.frame[(x, y)].reset();
            }
        }
    }

    /// A frame for dialogs, cleared inside, its title in the upper edge.
    pub(super) fn frame(&mut self, area: Rect, title: &str, footer: &str, tone: Tone) {
        let area = area.intersection(self.frame.area);
        // A wide character that the edge would cut in half goes whole.
        let cleared = Rect {
            x: area.x.saturating_sub(1),
            width: area.width + 2,
            ..area
        };
        for y in cleared.top()..cleared.bottom() {
            for x in [cleared.left(), cleared.right().saturating_sub(1)] {
                if x < self.width() && width(self.frame[(x, y)].symbol()) > 1 {
                    self.frame[(x, y)].set_symbol(" ");
                }
            }
        }
        self.clear(area);
        let (h, v, corners) = if self.theme.ascii {
            ("-", "|", ["+", "+", "+", "+"])
        } else {
            ("─", "│", ["╭", "╮", "╰", "╯"])
        };
        let style = self.theme.style(Tone::Dim);
        let (right, bottom) = (
            area.right().saturating_sub(1),
            area.bottom().saturating_sub(1),
        );
        for x in area.left()..area.right() {
            self.put_until(x, area.y, u16::MAX, h, style);
            self.put_until(x, bottom, u16::MAX, h, style);
        }
        for y in area.top()..area.bottom() {
            self.put_until(area.x, y, u16::MAX, v, style);
            self.put_until(right, y, u16::MAX, v, style);
        }
        for (i, (x, y)) in [
            (area.x, area.y),
            (right, area.y),
            (area.x, bottom),
            (right, bottom),
        ]
        .into_iter()
        .enumerate()
        {
            self.put_until(x, y, u16::MAX, corners[i], style);
        }
        let inner = right.saturating_sub(1);
        let title_style = self.theme.style(tone);
        self.put_until(
            area.x + 2,
            area.y,
            inner,
            &format!(" {title} "),
            title_style,
        );
        if !footer.is_empty() {
            let text = format!(" {footer} ");
            let x = right
                .saturating_sub(width(&text) as u16 + 1)
                .max(area.x + 1);
            self.put_until(x, bottom, inner + 1, &text, style);
        }
    }
}
