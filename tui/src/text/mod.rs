//! Widths: text cut and padded to cells, never in the middle of a character.

use std::ops::Range;

use skytower_api_client::column::{Align, Cut};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// The cells a text takes.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.width()
    }
}

/// As much of the start of `text` as fits into `room` cells.
pub fn head(text: &str, room: usize) -> &str {
    let mut used = 0;
    for (at, cluster) in text.grapheme_indices(true) {
        used += cluster.width();
        if used > room {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// As much of the end of `text` as fits into `room` cells.
fn last(text: &str, room: usize) -> &str {
    let mut used = 0;
    for (at, cluster) in text.grapheme_indices(true).rev() {
        used += cluster.width();
        if used > room {
            return text.get(at + cluster.len()..).unwrap_or_default();
        }
    }
    text
}

/// `text` in at most `room` cells; where something is left out stands `…` (`~` in ASCII).
pub fn cut(text: &str, room: usize, how: Cut, ascii: bool) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mark = if ascii { "~" } else { "…" };
    match (room, how) {
        (0, _) => String::new(),
        (_, Cut::End | Cut::Never) => format!("{}{mark}", head(text, room - 1)),
        (_, Cut::Middle) => {
            let back = (room - 1) / 2;
            format!("{}{mark}{}", head(text, room - 1 - back), last(text, back))
        }
    }
}

/// `text` in exactly `room` cells.
pub fn fit(text: &str, room: usize, align: Align, how: Cut, ascii: bool) -> String {
    let text = cut(text, room, how, ascii);
    let space = " ".repeat(room.saturating_sub(width(&text)));
    match align {
        Align::Left => text + &space,
        Align::Right => space + &text,
    }
}

/// `text` in lines of at most `room` cells, broken at spaces where there are some.
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let gap = usize::from(!line.is_empty());
            if width(&line) + gap + width(word) <= room {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(word);
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            let mut rest = word;
            while width(rest) > room {
                let piece = head(rest, room);
                if piece.is_empty() {
                    break;
                }
                lines.push(piece.to_owned());
                rest = rest.get(piece.len()..).unwrap_or_default();
            }
            line.push_str(rest);
        }
        lines.push(line);
    }
    lines
}

/// Where a line breaks into rows of at most `room` cells: at spaces where there are some, which
/// then belong to no row. Everything else stays as it is, the spaces in front too.
pub fn breaks(text: &str, room: usize) -> Vec<Range<usize>> {
    let mut rows = Vec::new();
    let mut from = 0;
    while let Some(rest) = text.get(from..) {
        let fits = match head(rest, room).len() {
            // A character that is wider than the room has a row of its own.
            0 => rest.graphemes(true).next().map_or(0, str::len),
            fits => fits,
        };
        let next = from + fits;
        if next >= text.len() {
            rows.push(from..text.len());
            break;
        }
        let fitting = rest.get(..fits).unwrap_or_default();
        let space = if rest.as_bytes().get(fits) == Some(&b' ') {
            Some(fits)
        } else {
            let words = |at: &usize| fitting.as_bytes()[..*at].iter().any(|byte| *byte != b' ');
            fitting.rfind(' ').filter(words)
        };
        let Some(at) = space else {
            rows.push(from..next);
            from = next;
            continue;
        };
        rows.push(from..from + at);
        from += at + 1;
        if from == text.len() {
            break;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_lose_their_end_and_paths_their_middle() {
        assert_eq!(cut("pretrain-70b", 8, Cut::End, false), "pretrai…");
        assert_eq!(cut("s3://bucket/ckpt", 8, Cut::Middle, false), "s3:/…kpt");
        assert_eq!(cut("日本語", 4, Cut::End, false), "日…");
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
    }

    fn rows(text: &str, room: usize) -> Vec<&str> {
        breaks(text, room)
            .into_iter()
            .map(|row| &text[row])
            .collect()
    }

    #[test]
    fn rows_keep_what_the_line_has() {
        assert_eq!(rows("", 5), [""]);
        assert_eq!(rows("    in front", 8), ["    in", "front"]);
        assert_eq!(rows("one two three", 7), ["one two", "three"]);
        assert_eq!(rows("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(rows("日本語", 4), ["日本", "語"]);
        assert_eq!(rows("日本", 1), ["日", "本"]);
        assert_eq!(rows("ab ", 2), ["ab"]);
    }

    proptest! {
        #[test]
        fn rows_fit_and_lose_only_spaces(text in "[a-c 日e\u{301}]{0,40}", room in 2usize..12) {
            let rows = rows(&text, room);
            prop_assert!(rows.iter().all(|row| width(row) <= room));
            let without = |text: &str| text.replace(' ', "");
            prop_assert_eq!(without(&rows.concat()), without(&text));
        }

        #[test]
        fn a_cell_is_never_wider_than_its_room(text in "\\PC{0,30}", room in 0usize..20, middle: bool, right: bool) {
            let how = if middle { Cut::Middle } else { Cut::End };
            let align = if right { Align::Right } else { Align::Left };
            let cell = fit(&text, room, align, how, false);
            prop_assert_eq!(width(&cell), room);
        }
    }
}
