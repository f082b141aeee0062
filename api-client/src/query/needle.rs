//! Looking for words in text, without making new text.

/// A word to look for, prepared once. `*` stands for anything.
#[derive(Clone, Debug)]
pub(super) struct Needle {
    pieces: Vec<String>,
    /// It has an upper-case letter: upper and lower case count (smart case).
    exact_case: bool,
}

impl Needle {
    pub(super) fn smart(word: &str) -> Self {
        let exact_case = word.chars().any(char::is_uppercase);
        Self::new(word, exact_case)
    }

    pub(super) fn folded(word: &str) -> Self {
        Self::new(word, false)
    }

    fn new(word: &str, exact_case: bool) -> Self {
        let folded = if exact_case {
            word.to_owned()
        } else {
            word.to_lowercase()
        };
        Self {
            pieces: folded.split('*').map(str::to_owned).collect(),
            exact_case,
        }
    }

    /// Somewhere in the text.
    pub(super) fn is_in(&self, hay: &str) -> bool {
        let mut rest = hay;
        self.pieces
            .iter()
            .all(|piece| match self.find(rest, piece) {
                Some((_, end)) => {
                    rest = &rest[end..];
                    true
                }
                None => false,
            })
    }

    /// The whole text, or, without a `*`, one whole word of it.
    pub(super) fn is(&self, hay: &str) -> bool {
        match self.pieces.as_slice() {
            [] => true,
            [word] => self.is_word_of(hay, word),
            [first, middle @ .., last] => {
                let Some((0, mut from)) = self.find_at_start(hay, first) else {
                    return false;
                };
                for piece in middle {
                    match self.find(&hay[from..], piece) {
                        Some((_, end)) => from += end,
                        None => return false,
                    }
                }
                self.ends_with(&hay[from..], last)
            }
        }
    }

    fn is_word_of(&self, hay: &str, word: &str) -> bool {
        if word.is_empty() {
            return hay.is_empty();
        }
        let inside = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let mut from = 0;
        while let Some((start, end)) = self.find(&hay[from..], word) {
            let (start, end) = (from + start, from + end);
            // `×` parts number and type in `8×A100`, and is no letter.
            let before = hay[..start].chars().next_back().is_some_and(inside);
            let after = hay[end..].chars().next().is_some_and(inside);
            if !before && !after {
                return true;
            }
            from = start + hay[start..].chars().next().map_or(1, char::len_utf8);
        }
        false
    }

    /// Where the piece first stands in the text: start and end.
    fn find(&self, hay: &str, piece: &str) -> Option<(usize, usize)> {
        if piece.is_empty() {
            return Some((0, 0));
        }
        if self.exact_case {
            return hay.find(piece).map(|at| (at, at + piece.len()));
        }
        if piece.is_ascii() {
            // Bytes of other characters never equal an ASCII byte.
            let (hay, piece) = (hay.as_bytes(), piece.as_bytes());
            let first = piece[0];
            let last_start = hay.len().checked_sub(piece.len())?;
            return (0..=last_start)
                .find(|&at| {
                    hay[at].to_ascii_lowercase() == first
                        && hay[at..at + piece.len()].eq_ignore_ascii_case(piece)
                })
                .map(|at| (at, at + piece.len()));
        }
        hay.char_indices()
            .find_map(|(at, _)| folded_prefix(&hay[at..], piece).map(|length| (at, at + length)))
    }

    fn find_at_start(&self, hay: &str, piece: &str) -> Option<(usize, usize)> {
        if self.exact_case {
            return hay.starts_with(piece).then_some((0, piece.len()));
        }
        folded_prefix(hay, piece).map(|length| (0, length))
    }

    fn ends_with(&self, hay: &str, piece: &str) -> bool {
        if self.exact_case {
            return hay.ends_with(piece);
        }
        piece.is_empty()
            || hay
                .char_indices()
                .any(|(at, _)| folded_prefix(&hay[at..], piece) == Some(hay.len() - at))
    }
}

/// How much of `hay` makes `piece` (lower case), when it begins with it.
fn folded_prefix(hay: &str, piece: &str) -> Option<usize> {
    let mut wanted = piece.chars().peekable();
    let mut length = 0;
    for c in hay.chars() {
        if wanted.peek().is_none() {
            break;
        }
        for lower in c.to_lowercase() {
            if wanted.next() != Some(lower) {
                return None;
            }
        }
        length += c.len_utf8();
    }
    wanted.peek().is_none().then_some(length)
}

/// How well `needle` (lower case) fits `hay` as a subsequence; none when it does not. Runs, word
/// beginnings and short texts count more.
pub fn fuzzy(hay: &str, needle: &str) -> Option<i32> {
    let mut wanted = needle.chars().peekable();
    let (mut score, mut run, mut boundary) = (0, 0, true);
    for c in hay.chars() {
        let Some(&next) = wanted.peek() else { break };
        if c == next || c.to_lowercase().eq(std::iter::once(next)) {
            wanted.next();
            run += 1;
            score += run * 2 + if boundary { 6 } else { 0 };
        } else {
            run = 0;
        }
        boundary = !c.is_alphanumeric();
    }
    wanted
        .peek()
        .is_none()
        .then(|| score * 8 - hay.len().min(200) as i32)
}
