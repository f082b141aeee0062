//! A line that is being typed: its cursor, what Tab offers, what was typed before.

use skytower_api_client::query::Suggestion;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::keys::{Chord, Code};

/// Filters remembered per list.
const REMEMBERED: usize = 30;

/// A filter or search that is being typed. The text itself is where it takes effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typing {
    /// What it was before: Esc brings it back.
    pub before: String,
    /// The cursor, in bytes.
    pub at: usize,
    /// What Tab goes through.
    pub completion: Option<Completion>,
    /// Which of the filters typed before is shown, counted from the newest.
    pub recalled: Option<usize>,
}

impl Typing {
    /// Going on with a text, at its end.
    pub fn at_end(text: String) -> Self {
        Self {
            at: text.len(),
            before: text,
            ..Self::default()
        }
    }
}

/// What Tab goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The text as it was typed.
    pub typed: String,
    /// Its cursor.
    pub cursor: usize,
    /// What could come there.
    pub found: Vec<Suggestion>,
    /// The one that stands there now.
    pub at: usize,
}

impl Completion {
    /// The text with the suggestion in it, and the cursor behind that.
    pub(crate) fn text(&self) -> (String, usize) {
        let Some(suggestion) = self.found.get(self.at) else {
            return (self.typed.clone(), self.cursor);
        };
        let mut text = self.typed.clone();
        let replaced = suggestion.replaces.clone();
        text.replace_range(replaced.clone(), &suggestion.text);
        (text, replaced.start + suggestion.text.len())
    }

    /// The next suggestion, or the one before; round and round.
    pub(crate) fn step(&mut self, forward: bool) {
        let count = self.found.len().max(1);
        self.at = (self.at + if forward { 1 } else { count - 1 }) % count;
    }
}

/// Remembers a filter as the newest.
pub(crate) fn remember(past: &mut Vec<String>, text: &str) {
    if text.trim().is_empty() {
        return;
    }
    past.retain(|it| it != text);
    past.push(text.to_owned());
    if past.len() > REMEMBERED {
        past.remove(0);
    }
}

/// What a key of a line editor does to a text with a cursor. Says whether it was one.
pub(crate) fn edit(text: &mut String, at: &mut usize, chord: Chord) -> bool {
    *at = floor(text, *at);
    let (before, after) = text.split_at(*at);
    let left = before.grapheme_indices(true).next_back();
    let left = left.map_or(0, |(at, _)| at);
    let right = *at + after.graphemes(true).next().map_or(0, str::len);
    match (chord.code, chord.ctrl) {
        (Code::Left, false) | (Code::Char('b'), true) => *at = left,
        (Code::Right, false) | (Code::Char('f'), true) => *at = right,
        (Code::Left, true) => *at = word_before(before),
        (Code::Right, true) => *at += word_after(after),
        (Code::Home, _) | (Code::Char('a'), true) => *at = 0,
        (Code::End, _) | (Code::Char('e'), true) => *at = text.len(),
        (Code::Backspace, _) => {
            text.replace_range(left..*at, "");
            *at = left;
        }
        (Code::Delete, _) | (Code::Char('d'), true) => text.replace_range(*at..right, ""),
        (Code::Char('u'), true) => {
            text.replace_range(..*at, "");
            *at = 0;
        }
        (Code::Char('k'), true) => text.truncate(*at),
        (Code::Char('w'), true) => {
            let start = word_before(before);
            text.replace_range(start..*at, "");
            *at = start;
        }
        _ => {
            let Some(c) = chord.types() else { return false };
            text.insert(*at, c);
            *at += c.len_utf8();
        }
    }
    true
}

/// The nearest place that is not within a character.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Where the last word begins.
fn word_before(text: &str) -> usize {
    let word = text.trim_end();
    word.rfind([' ', '(']).map_or(0, |at| at + 1)
}

/// How far it is to the end of the next word.
fn word_after(text: &str) -> usize {
    let gap = text.len() - text.trim_start().len();
    let word = text.trim_start();
    gap + word.find(' ').unwrap_or(word.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(keys: &str) -> String {
        let (mut text, mut at) = (String::new(), 0);
        for key in keys.split_whitespace() {
            edit(&mut text, &mut at, key.parse().unwrap());
        }
        text.insert(at, '|');
        text
    }

    #[test]
    fn a_line_is_edited_where_its_cursor_is() {
        assert_eq!(typed("a b c left left x"), "ax|bc");
        assert_eq!(typed("a b c home delete"), "|bc");
        assert_eq!(typed("a b c ctrl-a x ctrl-e y"), "xabcy|");
        assert_eq!(typed("a b c left ctrl-u"), "|c");
        assert_eq!(typed("a b c left ctrl-k"), "ab|");
        assert_eq!(typed("a space b b space left ctrl-w"), "a | ");
        assert_eq!(typed("a space b b ctrl-left x ctrl-right y"), "a xbby|");
        assert_eq!(typed("日 本 left backspace"), "|本");
        assert_eq!(typed("a left left backspace delete delete"), "|");
    }

    #[test]
    fn filters_are_remembered_once_and_the_newest_last() {
        let mut past = Vec::new();
        for text in ["a", "b", " ", "a"] {
            remember(&mut past, text);
        }
        assert_eq!(past, ["b", "a"]);
    }

    proptest! {
        #[test]
        fn the_cursor_is_never_within_a_character(
            start in "[a日e\\u{301} (👩‍🚀]{0,12}",
            at in 0usize..40,
            keys in proptest::collection::vec(0usize..14, 0..30),
        ) {
            const KEYS: [&str; 14] = [
                "left", "right", "ctrl-left", "ctrl-right", "home", "end", "backspace", "delete",
                "ctrl-w", "ctrl-u", "ctrl-k", "é", "space", "f1",
            ];
            let (mut text, mut at) = (start, at);
            for key in keys {
                edit(&mut text, &mut at, KEYS[key].parse().unwrap());
                prop_assert!(text.is_char_boundary(at));
            }
        }
    }
}
