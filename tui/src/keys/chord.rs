//! Chords: one key press, and its notation in the key table (`ctrl-d`, `shift-left`, `O`, `space`).

use std::fmt;
use std::str::FromStr;

/// A key without its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A character as it was typed: `O` needs no shift beside it.
    Char(char),
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Tabulator.
    Tab,
    /// Delete to the left.
    Backspace,
    /// Delete to the right.
    Delete,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// To the start.
    Home,
    /// To the end.
    End,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// A function key.
    F(u8),
}

/// A key with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chord {
    /// The key.
    pub code: Code,
    /// Control was held.
    pub ctrl: bool,
    /// Alt was held.
    pub alt: bool,
    /// Shift was held, for keys that are no characters.
    pub shift: bool,
}

impl Chord {
    /// The key alone.
    pub const fn plain(code: Code) -> Self {
        Self {
            code,
            ctrl: false,
            alt: false,
            shift: false,
        }
    }

    /// The character it types, when it types one.
    pub fn types(self) -> Option<char> {
        match self.code {
            Code::Char(c) if !self.ctrl && !self.alt => Some(c),
            _ => None,
        }
    }

    /// For hints and help: `^d`, `⇧←`, `↵`; plain words where the terminal has no such glyphs.
    pub fn short(self, ascii: bool) -> String {
        let name = match (self.code, ascii) {
            (Code::Char(' '), _) => "Space".to_owned(),
            (Code::Char(c), _) => c.to_string(),
            (Code::Enter, false) => "↵".to_owned(),
            (Code::Enter, true) => "Enter".to_owned(),
            (Code::Up, false) => "↑".to_owned(),
            (Code::Down, false) => "↓".to_owned(),
            (Code::Left, false) => "←".to_owned(),
            (Code::Right, false) => "→".to_owned(),
            (code, _) => {
                let word = Chord::plain(code).to_string();
                let mut letters = word.chars();
                letters
                    .next()
                    .map(|first| first.to_uppercase().chain(letters).collect())
                    .unwrap_or_default()
            }
        };
        let shift = match (self.shift, ascii) {
            (false, _) => "",
            (true, false) => "⇧",
            (true, true) => "S-",
        };
        let ctrl = if self.ctrl { "^" } else { "" };
        let alt = if self.alt { "M-" } else { "" };
        format!("{ctrl}{alt}{shift}{name}")
    }
}

const NAMED: &[(&str, Code)] = &[
    ("space", Code::Char(' ')),
    ("enter", Code::Enter),
    ("esc", Code::Esc),
    ("tab", Code::Tab),
    ("backspace", Code::Backspace),
    ("delete", Code::Delete),
    ("up", Code::Up),
    ("down", Code::Down),
    ("left", Code::Left),
    ("right", Code::Right),
    ("home", Code::Home),
    ("end", Code::End),
    ("pgup", Code::PageUp),
    ("pgdn", Code::PageDown),
];

/// The notation stands for no chord.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no key: write it like `q`, `ctrl-d`, `shift-left`, `space` or `f5`")]
pub struct UnknownChord(String);

impl FromStr for Chord {
    type Err = UnknownChord;

    fn from_str(notation: &str) -> Result<Self, UnknownChord> {
        let mut chord = Chord::plain(Code::Esc);
        let mut rest = notation;
        loop {
            if let Some(after) = rest.strip_prefix("ctrl-") {
                chord.ctrl = true;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("alt-") {
                chord.alt = true;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("shift-") {
                chord.shift = true;
                rest = after;
            } else {
                break;
            }
        }
        let mut letters = rest.chars();
        chord.code = match (letters.next(), letters.next()) {
            (Some(c), None) if !c.is_control() => Code::Char(c),
            _ => NAMED
                .iter()
                .find(|(name, _)| *name == rest)
                .map(|(_, code)| *code)
                .or_else(|| {
                    let number = rest.strip_prefix('f')?.parse().ok()?;
                    (1..=12).contains(&number).then_some(Code::F(number))
                })
                .ok_or_else(|| UnknownChord(notation.to_owned()))?,
        };
        Ok(chord)
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (held, prefix) in [
            (self.ctrl, "ctrl-"),
            (self.alt, "alt-"),
            (self.shift, "shift-"),
        ] {
            if held {
                f.write_str(prefix)?;
            }
        }
        match (NAMED.iter().find(|(_, code)| *code == self.code), self.code) {
            (Some((name, _)), _) => f.write_str(name),
            (None, Code::Char(c)) => write!(f, "{c}"),
            (None, Code::F(number)) => write!(f, "f{number}"),
            // Every other code is named above.
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for notation in [
            "q",
            "O",
            "ctrl-d",
            "shift-left",
            "space",
            "f5",
            "alt-x",
            "-",
            "ctrl-space",
        ] {
            assert_eq!(notation.parse::<Chord>().unwrap().to_string(), notation);
        }
        assert!("ctrl-".parse::<Chord>().is_err());
        assert!("meta-x".parse::<Chord>().is_err());
        assert!("f13".parse::<Chord>().is_err());
    }
}
