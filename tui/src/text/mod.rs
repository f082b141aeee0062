//! Widths: text cut and padded to cells, never in the middle of a character.

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

/// What is left of `text` after its first `skip` cells.
pub fn tail(text: &str, skip: usize) -> &str {
    let mut used = 0;
    for (at, cluster) in text.grapheme_indices(true) {
        if used >= skip {
            return text.get(at..).unwrap_or_default();
        }
        used += cluster.width();
    }
    ""
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

    proptest! {
        #[test]
        fn a_cell_is_never_wider_than_its_room(text in "\\PC{0,30}", room in 0usize..20, middle: bool, right: bool) {
            let how = if middle { Cut::Middle } else { Cut::End };
            let align = if right { Align::Right } else { Align::Left };
            let cell = fit(&text, room, align, how, false);
            prop_assert_eq!(width(&cell), room);
        }
    }
}
