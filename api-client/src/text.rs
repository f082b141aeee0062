//! Text that is safe to show: everything that comes from a source passes through here once.
//!
//! Names, reasons and log lines are written by other people and programs. A name with an escape
//! sequence could retitle the terminal, clear the screen or write the clipboard; a bidirectional
//! override could make `cancel` read like something else. [`Text`] (one line) and [`Block`]
//! (several lines) cannot hold such characters: they are replaced when the value is made, and
//! again when it is read from the wire.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Shown in place of a character that must not reach a terminal.
const REPLACEMENT: char = '\u{fffd}';

/// One line of safe text. Cheap to clone. Short ones that were made lately share their memory: most of
/// what rows say, statuses, owners, places, is said by many of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

/// Several lines of safe text (YAML, an error with its trace). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(Arc<str>);

/// What a terminal, or the eye, could take for something else than a character in place.
pub fn is_hostile(c: char) -> bool {
    matches!(c,
        // C0, DEL and C1 (the eight-bit escape introducers).
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Zero width, joiners excepted: emoji and Indic scripts need U+200C and U+200D.
        | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{180e}'
        // Bidirectional marks, embeddings, overrides and isolates.
        | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // Line and paragraph separators, interlinear annotation, tags, and the soft hyphen.
        | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{ad}')
}

/// Drops whole ANSI escape sequences (CSI, OSC, DCS and the like) and leaves the rest as it is.
///
/// Meant for messages in which a program coloured its words; whatever is malformed stays and is
/// replaced character by character afterwards.
pub fn strip_escapes(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\u{1b}') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        match chars.peek() {
            Some('[') => {
                chars.next();
                // Parameters and intermediates, then one final byte.
                while let Some(&p) = chars.peek() {
                    if !(' '..='~').contains(&p) {
                        break;
                    }
                    chars.next();
                    if ('@'..='~').contains(&p) {
                        break;
                    }
                }
            }
            Some(']' | 'P' | 'X' | '^' | '_') => {
                chars.next();
                // A string, ended by BEL or ST (ESC \).
                while let Some(p) = chars.next() {
                    if p == '\u{7}' || p == '\u{9c}' {
                        break;
                    }
                    if p == '\u{1b}' {
                        if chars.peek() == Some(&'\\') {
                            chars.next();
                        }
                        break;
                    }
                }
            }
            Some(_) => {
                chars.next();
            }
            None => {}
        }
    }
    Cow::Owned(out)
}

/// `raw` with hostile characters replaced; line breaks become spaces unless `multiline`.
fn clean(raw: &str, multiline: bool) -> Cow<'_, str> {
    let plain_ascii = |b: u8| (0x20..0x7f).contains(&b) || (multiline && b == b'\n');
    if raw.bytes().all(plain_ascii) {
        return Cow::Borrowed(raw);
    }
    let stripped = strip_escapes(raw);
    if !stripped.chars().any(is_hostile) {
        return stripped;
    }
    let mut out = String::with_capacity(stripped.len());
    let mut chars = stripped.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' if multiline => out.push('\n'),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\t' if multiline => out.push_str("    "),
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_hostile(c) => out.push(REPLACEMENT),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Texts remembered per thread: a few dozen kilobytes.
const RECENT: usize = 1024;
/// Longer ones are rarely said twice.
const SHORT: usize = 48;

thread_local! {
    static LATELY: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
}

/// The text, from memory where it was made lately. Each has one place: what is said only once takes it
/// over and costs no more than a text of its own.
fn shared(text: &str) -> Arc<str> {
    if text.is_empty() {
        return Arc::default();
    }
    if text.len() > SHORT {
        return text.into();
    }
    // FNV-1a: a few nanoseconds for so few bytes, and nobody gains by collisions.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let place = (hash ^ hash >> 32) as usize % RECENT;
    let remembered = LATELY.try_with(|lately| {
        let mut lately = lately.try_borrow_mut().ok()?;
        if lately.is_empty() {
            lately.resize_with(RECENT, Arc::default);
        }
        let there = lately.get_mut(place)?;
        if **there != *text {
            *there = text.into();
        }
        Some(there.clone())
    });
    // A thread that ends has no memory any more.
    remembered.ok().flatten().unwrap_or_else(|| text.into())
}

fn own(text: &str) -> Arc<str> {
    text.into()
}

macro_rules! safe_text {
    ($name:ident, $multiline:expr, $keep:path) => {
        impl $name {
            /// Makes it safe: escape sequences go, control and bidirectional characters are replaced.
            pub fn new(raw: impl AsRef<str>) -> Self {
                Self($keep(&clean(raw.as_ref(), $multiline)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self(Arc::default())
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(raw: &str) -> Self {
                Self::new(raw)
            }
        }

        impl From<String> for $name {
            fn from(raw: String) -> Self {
                Self::new(raw)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: serde::de::Error>(self, raw: &str) -> Result<$name, E> {
                        Ok($name::new(raw))
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

safe_text!(Text, false, shared);
safe_text!(Block, true, own);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_are_dropped_and_the_words_stay() {
        assert_eq!(
            Text::new("\u{1b}[33mCluster 'a' does not exist.\u{1b}[0m"),
            "Cluster 'a' does not exist."
        );
    }

    #[test]
    fn a_title_or_clipboard_sequence_leaves_nothing() {
        assert_eq!(
            Text::new("a\u{1b}]52;c;ZXZpbA==\u{7}b\u{1b}]0;owned\u{1b}\\c"),
            "abc"
        );
    }

    #[test]
    fn a_bidi_override_is_visible_as_a_replacement() {
        assert_eq!(Text::new("run\u{202e}lecnac"), "run\u{fffd}lecnac");
    }

    #[test]
    fn what_is_said_often_is_held_once() {
        let (a, b) = (Text::new("RUNNING"), Text::new("RUNNING"));
        assert!(Arc::ptr_eq(&a.0, &b.0));
        for i in 0..10_000 {
            let text = format!("name-{i}");
            assert_eq!(Text::new(&text), *text);
        }
    }

    #[test]
    fn lines_stay_in_a_block_and_become_spaces_in_a_text() {
        assert_eq!(Block::new("a: 1\r\nb:\t2\n"), "a: 1\nb:    2\n");
        assert_eq!(Text::new("a\nb"), "a b");
    }

    proptest! {
        #[test]
        fn nothing_hostile_survives(raw in "\\PC*|[\u{0}-\u{ff}\u{2000}-\u{2070}\u{fff0}-\u{ffff}]*") {
            prop_assert!(!Text::new(&raw).chars().any(is_hostile));
            prop_assert!(!Block::new(&raw).chars().any(|c| c != '\n' && is_hostile(c)));
        }

        #[test]
        fn cleaning_twice_changes_nothing(raw in "[\u{0}-\u{ff}\u{2000}-\u{2070}]*") {
            let once = Text::new(&raw);
            prop_assert_eq!(Text::new(once.as_str()), once);
        }
    }
}
