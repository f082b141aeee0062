//! Makes a log safe to show: text, line breaks, `\r` and colours stay, everything else goes.
//!
//! What a job prints is anybody's. This is a small state machine rather than a terminal parser: it
//! holds a few bytes at most, whatever comes, and a line break ends every unfinished sequence, so
//! that one stray `ESC ]` cannot swallow the rest of the log.

use std::fmt::Write as _;

use skytower_api_client::text::is_hostile;

/// The longest colour sequence that is believed, in characters.
const MAX_PARAMETERS: usize = 64;
/// Tab stops, as terminals have them.
const TAB: usize = 8;

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// `ESC` and intermediates: one final character follows.
    EscapeIntermediate,
    /// Parameters so far; none when they were too long or of a private kind.
    Csi(Option<String>),
    /// A string (OSC, DCS, …) up to BEL, ST or the end of the line; true after an `ESC` in it.
    Str(bool),
}

/// Cleans a stream of bytes, in chunks of any size: the same bytes give the same text.
#[derive(Clone, Debug, Default)]
pub struct Cleaner {
    /// An unfinished multibyte character.
    pending: Vec<u8>,
    state: State,
    /// A `\r` whose follower is not known: `\r\n` is one line break.
    carriage: bool,
    column: usize,
}

impl Cleaner {
    /// At the beginning of a log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The safe text of the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        let joined;
        let mut rest = if self.pending.is_empty() {
            bytes
        } else {
            let mut whole = std::mem::take(&mut self.pending);
            whole.extend_from_slice(bytes);
            joined = whole;
            &joined
        };
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text(text, &mut out);
                    break;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    // Cannot fail: it is what was found valid.
                    self.text(std::str::from_utf8(valid).unwrap_or_default(), &mut out);
                    let Some(length) = error.error_len() else {
                        self.pending = bad.to_vec();
                        break;
                    };
                    self.next('\u{fffd}', &mut out);
                    rest = &bad[length..];
                }
            }
        }
        out
    }

    /// The log has ended: what was held back.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if !std::mem::take(&mut self.pending).is_empty() {
            self.next('\u{fffd}', &mut out);
        }
        if std::mem::take(&mut self.carriage) {
            out.push('\r');
        }
        *self = Self::default();
        out
    }

    fn text(&mut self, text: &str, out: &mut String) {
        for c in text.chars() {
            self.next(c, out);
        }
    }

    fn next(&mut self, c: char, out: &mut String) {
        if matches!(c, '\n' | '\u{18}' | '\u{1a}') {
            // Line breaks, CAN and SUB end whatever is unfinished.
            self.state = State::Ground;
        }
        self.state = match std::mem::take(&mut self.state) {
            State::Ground => self.ground(c, out),
            State::Escape => match c {
                '[' => State::Csi(Some(String::new())),
                ']' | 'P' | 'X' | '^' | '_' => State::Str(false),
                '\u{1b}' => State::Escape,
                ' '..='/' => State::EscapeIntermediate,
                '0'..='~' => State::Ground,
                c => self.ground(c, out),
            },
            State::EscapeIntermediate => match c {
                ' '..='/' => State::EscapeIntermediate,
                '\u{1b}' => State::Escape,
                '0'..='~' => State::Ground,
                c => self.ground(c, out),
            },
            State::Csi(parameters) => match c {
                '\u{1b}' => State::Escape,
                '@'..='~' => {
                    if let (Some(parameters), 'm') = (parameters, c) {
                        let kept = colour(&parameters);
                        if !kept.is_empty() {
                            self.settle_carriage(out);
                            out.push_str(&kept);
                        }
                    }
                    State::Ground
                }
                '0'..='9' | ';' | ':' => State::Csi(
                    parameters
                        .filter(|so_far| so_far.len() < MAX_PARAMETERS)
                        .map(|so_far| so_far + c.encode_utf8(&mut [0; 4])),
                ),
                ' '..='?' => State::Csi(None),
                // A control character within a sequence ends it; text does too.
                c => self.ground(c, out),
            },
            State::Str(escaped) => match c {
                '\u{7}' | '\u{9c}' => State::Ground,
                '\\' if escaped => State::Ground,
                '\u{1b}' => State::Str(true),
                _ => State::Str(false),
            },
        };
    }

    fn settle_carriage(&mut self, out: &mut String) {
        if std::mem::take(&mut self.carriage) {
            out.push('\r');
            self.column = 0;
        }
    }

    fn ground(&mut self, c: char, out: &mut String) -> State {
        match c {
            '\u{1b}' => return State::Escape,
            '\u{9b}' => return State::Csi(Some(String::new())),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => return State::Str(false),
            '\n' => {
                self.carriage = false;
                self.column = 0;
                out.push('\n');
            }
            '\r' => self.carriage = true,
            '\t' => {
                self.settle_carriage(out);
                let width = TAB - self.column % TAB;
                out.extend(std::iter::repeat_n(' ', width));
                self.column += width;
            }
            c if is_hostile(c) => {}
            c => {
                self.settle_carriage(out);
                self.column += 1;
                out.push(c);
            }
        }
        State::Ground
    }
}

/// The parts of a colour sequence that clients understand. Concealing and blinking are not
/// among them: text that cannot be seen, or that pulls the eye, is a trick.
fn colour(parameters: &str) -> String {
    let mut kept: Vec<u16> = Vec::new();
    let mut groups = parameters.split(';');
    while let Some(group) = groups.next() {
        let mut subs = group.split(':').map(|number| {
            number
                .parse::<u16>()
                .unwrap_or(if number.is_empty() { 0 } else { u16::MAX })
        });
        let code = subs.next().unwrap_or_default();
        let subs: Vec<u16> = subs.collect();
        match code {
            4 => kept.push(if subs.first() == Some(&0) { 24 } else { 4 }),
            0..=3 | 7 | 22..=24 | 27 | 30..=37 | 39..=47 | 49 | 90..=97 | 100..=107
                if subs.is_empty() =>
            {
                kept.push(code);
            }
            38 | 48 => {
                // `38;5;n` and `38;2;r;g;b`, also with colons (and a colour space then).
                let colons = !subs.is_empty();
                let number = |groups: &mut std::str::Split<'_, char>| {
                    groups
                        .next()
                        .map(|word| word.parse::<u16>().unwrap_or_default())
                };
                let arguments = if colons {
                    subs
                } else {
                    let mut list = Vec::new();
                    if let Some(mode) = number(&mut groups) {
                        let wanted = match mode {
                            5 => 1,
                            2 => 3,
                            _ => 0,
                        };
                        list.push(mode);
                        for _ in 0..wanted {
                            list.extend(number(&mut groups));
                        }
                    }
                    list
                };
                match arguments.as_slice() {
                    [5, n] if *n < 256 => kept.extend([code, 5, *n]),
                    [2, r, g, b] | [2, _, r, g, b] if [r, g, b].iter().all(|v| **v < 256) => {
                        kept.extend([code, 2, *r, *g, *b]);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if kept.is_empty() {
        return String::new();
    }
    let mut out = "\u{1b}[".to_owned();
    for (i, number) in kept.iter().enumerate() {
        let separator = if i == 0 { "" } else { ";" };
        // Writing to a string does not fail.
        let _ = write!(out, "{separator}{number}");
    }
    out.push('m');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(bytes: &[u8]) -> String {
        let mut cleaner = Cleaner::new();
        let mut out = cleaner.push(bytes);
        out += &cleaner.finish();
        out
    }

    /// What is left when allowed colour sequences are taken out, by a way of its own.
    fn without_colours(text: &str) -> String {
        let mut parts = text.split("\u{1b}[");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (sequence, words) = part.split_once('m').unwrap_or(("?", part));
            assert!(
                sequence.chars().all(|c| c.is_ascii_digit() || c == ';'),
                "{text:?}"
            );
            out += words;
        }
        out
    }

    #[test]
    fn colours_and_words_stay() {
        let line = "\u{1b}[36m(head, rank=0)\u{1b}[0m done ✓\n";
        assert_eq!(clean(line.as_bytes()), line);
        assert_eq!(
            clean(b"\x1b[mx\x1b[1;38;5;200;8my"),
            "\u{1b}[0mx\u{1b}[1;38;5;200my"
        );
        assert_eq!(clean(b"\x1b[38:2::1:2:3mz"), "\u{1b}[38;2;1;2;3mz");
    }

    #[test]
    fn whatever_else_a_terminal_would_obey_goes() {
        assert_eq!(clean(b"a\x1b]52;c;ZXZpbA==\x07b\x1b]0;own\x1b\\c"), "abc");
        assert_eq!(
            clean(b"a\x1b[2J\x1b[H\x1b[?1049h\x1b[201~\x1bcb\x08\x07"),
            "ab"
        );
        assert_eq!(
            clean("run\u{202e}\u{200b}x\u{9b}31m".as_bytes()),
            "runx\u{1b}[31m"
        );
        assert_eq!(clean(b"a\x1b[8mhidden"), "ahidden");
    }

    #[test]
    fn an_unfinished_sequence_ends_with_its_line() {
        assert_eq!(
            clean(b"a\x1b]0;never ends\nb\x1b[31\nc\x1bPq\nd"),
            "a\nb\nc\nd"
        );
    }

    #[test]
    fn returns_stay_and_windows_line_ends_do_not() {
        assert_eq!(clean(b"10%\r20%\r\nx\r\r\ny\r"), "10%\r20%\nx\ny\r");
        assert_eq!(clean(b"a\r\x1b[8m\nb"), "a\nb");
        assert_eq!(clean(b"a\tb\t\n\tc"), "a       b       \n        c");
    }

    #[test]
    fn a_huge_sequence_holds_no_memory() {
        let mut cleaner = Cleaner::new();
        for _ in 0..1000 {
            cleaner.push(b"\x1b]");
            cleaner.push(&[b'x'; 1000]);
            cleaner.push(b"\x07\x1b[");
            cleaner.push(&[b'1'; 1000]);
        }
        match cleaner.state {
            State::Csi(ref held) => {
                assert!(held.as_ref().is_none_or(|h| h.len() <= MAX_PARAMETERS));
            }
            ref other => panic!("{other:?}"),
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            3 => prop::collection::vec(any::<u8>(), 0..8),
            2 => "[ -~\r\n\t\u{1b}]{0,8}".prop_map(String::into_bytes),
            2 => "\u{1b}\\[[0-9;:]{0,9}[mJHh]".prop_map(String::into_bytes),
            1 => "\u{1b}[\\]PX^_][a-z;0-9]{0,6}(\u{7}|\u{1b}\\\\)?".prop_map(String::into_bytes),
            1 => "[\u{80}-\u{9f}\u{2000}-\u{2070}é✓]{0,4}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_hostile_survives(raw in bytes()) {
            let left = without_colours(&clean(&raw));
            prop_assert!(!left.chars().any(|c| is_hostile(c) && c != '\n' && c != '\r'), "{left:?}");
        }

        #[test]
        fn cleaning_twice_changes_nothing(raw in bytes()) {
            let once = clean(&raw);
            prop_assert_eq!(clean(once.as_bytes()), once);
        }

        #[test]
        fn chunks_do_not_matter(raw in bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len() + 1)).collect();
            at.push(raw.len());
            at.sort_unstable();
            let mut cleaner = Cleaner::new();
            let (mut out, mut from) = (String::new(), 0);
            for to in at {
                out += &cleaner.push(&raw[from..to]);
                from = to;
            }
            out += &cleaner.finish();
            prop_assert_eq!(out, clean(&raw));
        }
    }
}
