//! The mistakes of a file, with their places.

use super::super::Mistake;
use crate::text::Text;

/// So many are told; a file that has more is not a task file.
const MOST: usize = 50;

/// Longer values are cut where a message quotes them.
const QUOTED: usize = 40;

/// Collects what is wrong.
pub(super) struct Report {
    file: Text,
    mistakes: Vec<Mistake>,
    /// Those that are not told.
    more: usize,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            mistakes: Vec::new(),
            more: 0,
        }
    }

    /// Notes a mistake. An empty `field` is none.
    pub(super) fn add(&mut self, line: Option<usize>, field: &str, message: impl AsRef<str>) {
        if self.mistakes.len() >= MOST {
            self.more += 1;
            return;
        }
        self.mistakes.push(Mistake {
            file: self.file.clone(),
            line,
            field: (!field.is_empty()).then(|| field.into()),
            message: message.as_ref().into(),
        });
    }

    pub(super) fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Nothing if there was no mistake; else all, in the order of their lines.
    pub(super) fn verdict(mut self) -> Result<(), Vec<Mistake>> {
        if self.mistakes.is_empty() {
            return Ok(());
        }
        self.mistakes.sort_by_key(|mistake| mistake.line);
        if self.more > 0 {
            self.mistakes.push(Mistake {
                file: self.file,
                line: None,
                field: None,
                message: format!("{} more mistakes", self.more).into(),
            });
        }
        Err(self.mistakes)
    }
}

/// A part of the file as a message shows it: in quotes, and not longer than can be read.
pub(super) fn quoted(raw: &str) -> String {
    if raw.chars().count() <= QUOTED {
        return format!("`{raw}`");
    }
    let start: String = raw.chars().take(QUOTED).collect();
    format!("`{start}…`")
}
