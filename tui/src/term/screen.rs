//! Frames to bytes: only what differs, in one write, inside a synchronised update. Nothing at all
//! when nothing differs.

use std::io::{self, Write};

use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Position;

/// What the terminal shows.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
    shown: Option<Buffer>,
    cursor: Option<Position>,
}

impl<W: Write> Screen<W> {
    /// A screen of which nothing is known.
    pub fn new(out: W) -> Self {
        Self {
            out,
            shown: None,
            cursor: None,
        }
    }

    /// Nothing is known of what the terminal shows: the next frame is painted whole.
    pub fn forget(&mut self) {
        self.shown = None;
    }

    /// Shows a frame. Returns how many bytes that took.
    pub fn show(&mut self, frame: Buffer, cursor: Option<Position>) -> io::Result<usize> {
        let mut painted = Vec::new();
        let mut backend = CrosstermBackend::new(&mut painted);
        let same_size = self
            .shown
            .as_ref()
            .is_some_and(|shown| shown.area == frame.area);
        if !same_size {
            backend.clear()?;
            self.shown = Some(Buffer::empty(frame.area));
        }
        let shown = self.shown.take().unwrap_or_default();
        let changed = shown.diff(&frame);
        let moved = cursor != self.cursor || (cursor.is_some() && !changed.is_empty());
        if changed.is_empty() && !moved && same_size {
            self.shown = Some(frame);
            return Ok(0);
        }
        if !changed.is_empty() {
            backend.draw(changed.into_iter())?;
        }
        match cursor {
            Some(position) => {
                backend.show_cursor()?;
                backend.set_cursor_position(position)?;
            }
            None if self.cursor.is_some() || !same_size => backend.hide_cursor()?,
            None => {}
        }
        let bytes = [b"\x1b[?2026h", &painted[..], b"\x1b[?2026l"].concat();
        self.shown = Some(frame);
        self.cursor = cursor;
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        Ok(bytes.len())
    }

    /// Writes something beside the frames, such as a clipboard sequence.
    pub fn write(&mut self, sequence: &str) -> io::Result<()> {
        self.out.write_all(sequence.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_frame_takes_no_bytes() {
        let mut screen = Screen::new(Vec::new());
        let frame = Buffer::with_lines(["one", "two"]);
        assert!(screen.show(frame.clone(), None).unwrap() > 0);
        assert_eq!(screen.show(frame.clone(), None).unwrap(), 0);
        let other = Buffer::with_lines(["one", "twe"]);
        let bytes = screen.show(other, None).unwrap();
        assert!(bytes > 0 && bytes < 60, "{bytes}");
        screen.forget();
        assert!(screen.show(frame, None).unwrap() > 0);
    }
}
