//! Logs as lines: what a client makes of the text that a server streams.
//!
//! The text is not aligned to lines and holds nothing but words, `\n`, `\r` and colours; whatever
//! else arrives is dropped here again. Progress bars (`\r`) are folded to their last state, and the
//! buffer never holds more than it may: the oldest lines go first, and are counted.

use std::collections::VecDeque;

use regex::Regex;

use crate::text::is_hostile;

/// Begins a line that the server says about the log (it waits, it was cut): not part of the log.
pub const NOTE_PREFIX: &str = "\u{1b}[2m» ";
/// Ends such a line.
pub const NOTE_SUFFIX: &str = "\u{1b}[0m\n";

/// The same without its colour, as it stands in a [`Line`].
const NOTE_MARK: &str = "» ";
/// A line is broken when it grows beyond this: a log without line ends must stay readable.
const MAX_LINE: usize = 16 * 1024;
/// The longest colour sequence that is believed.
const MAX_SEQUENCE: usize = 80;
/// What a line costs besides its text.
const LINE_OVERHEAD: usize = std::mem::size_of::<Line>();

/// A line that a server writes about a log.
pub fn note(words: &str) -> String {
    format!("{NOTE_PREFIX}{words}{NOTE_SUFFIX}")
}

/// A terminal colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Color {
    /// One of the 256; the first 16 are the terminal's own.
    Indexed(u8),
    /// Red, green, blue.
    Rgb(u8, u8, u8),
}

/// How a stretch of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are independent switches of a terminal"
)]
pub struct Style {
    /// The letters; none for the terminal's own.
    pub fg: Option<Color>,
    /// Behind the letters.
    pub bg: Option<Color>,
    /// Bold.
    pub bold: bool,
    /// Dim.
    pub dim: bool,
    /// Italic.
    pub italic: bool,
    /// Underlined.
    pub underline: bool,
    /// Foreground and background exchanged.
    pub reverse: bool,
}

impl Style {
    /// Obeys the parameters of a colour sequence (`1;31`).
    fn obey(&mut self, parameters: &str) {
        let mut codes = parameters.split([';', ':']).map(|word| {
            if word.is_empty() {
                Some(0)
            } else {
                word.parse::<u16>().ok()
            }
        });
        while let Some(code) = codes.next() {
            match code.unwrap_or(u16::MAX) {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                7 => self.reverse = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.reverse = false,
                n @ 30..=37 => self.fg = Some(Color::Indexed((n - 30) as u8)),
                n @ 90..=97 => self.fg = Some(Color::Indexed((n - 90 + 8) as u8)),
                39 => self.fg = None,
                n @ 40..=47 => self.bg = Some(Color::Indexed((n - 40) as u8)),
                n @ 100..=107 => self.bg = Some(Color::Indexed((n - 100 + 8) as u8)),
                49 => self.bg = None,
                n @ (38 | 48) => {
                    let mut byte = || codes.next().flatten().and_then(|v| u8::try_from(v).ok());
                    let color = match byte() {
                        Some(5) => byte().map(Color::Indexed),
                        Some(2) => match (byte(), byte(), byte()) {
                            (Some(r), Some(g), Some(b)) => Some(Color::Rgb(r, g, b)),
                            _ => None,
                        },
                        _ => None,
                    };
                    if n == 38 {
                        self.fg = color.or(self.fg);
                    } else {
                        self.bg = color.or(self.bg);
                    }
                }
                _ => {}
            }
        }
    }
}

/// One line of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    /// From which byte on which style holds; the default before the first.
    styles: Vec<(u32, Style)>,
}

impl Line {
    /// The words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The words in stretches of one style each.
    pub fn spans(&self) -> impl Iterator<Item = (&str, Style)> {
        let first = self
            .styles
            .first()
            .map_or(self.text.len(), |(at, _)| *at as usize);
        let plain = (&self.text[..first], Style::default());
        let rest = self.styles.iter().enumerate().map(|(i, (from, style))| {
            let to = self
                .styles
                .get(i + 1)
                .map_or(self.text.len(), |(at, _)| *at as usize);
            (&self.text[*from as usize..to], *style)
        });
        std::iter::once(plain)
            .chain(rest)
            .filter(|(words, _)| !words.is_empty())
    }

    /// The server says it about the log; it is not part of the log.
    pub fn is_note(&self) -> bool {
        self.text.starts_with(NOTE_MARK)
            && self
                .styles
                .first()
                .is_some_and(|(at, style)| *at == 0 && style.dim)
    }

    /// It looks like an error.
    pub fn is_error(&self) -> bool {
        !self.is_note() && looks_like_error(&self.text)
    }

    fn cost(&self) -> usize {
        LINE_OVERHEAD
            + self.text.capacity()
            + self.styles.capacity() * std::mem::size_of::<(u32, Style)>()
    }

    fn push(&mut self, c: char, style: Style) {
        let current = self
            .styles
            .last()
            .map_or_else(Style::default, |(_, style)| *style);
        if current != style {
            let at = self.text.len() as u32;
            match self.styles.last_mut() {
                Some(last) if last.0 == at => last.1 = style,
                _ => self.styles.push((at, style)),
            }
        }
        self.text.push(c);
    }
}

/// Words that make a line an error, whole words, upper and lower case as programs write them.
const ERROR_WORDS: &[&str] = &[
    "error",
    "Error",
    "ERROR",
    "Errors",
    "fatal",
    "Fatal",
    "FATAL",
    "CRITICAL",
    "Traceback",
    "panic",
    "panicked",
    "FAILED",
    "FAILED_SETUP",
    "FAILED_CONTROLLER",
    "FAILED_NO_RESOURCE",
    "FAILED_PRECHECKS",
    "OOM",
    "OutOfMemory",
    "Segmentation",
    "Killed",
];

/// Does a line of a log look like an error. A heuristic for jumping, not a verdict.
pub fn looks_like_error(line: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| ERROR_WORDS.contains(&word) || is_exception(word))
        && !line.contains("0 errors")
        && !line.contains("errors=0")
}

/// `ValueError`, `KeyException`: the class names of Python and others.
fn is_exception(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && (word.len() > 5 && word.ends_with("Error")
            || word.len() > 9 && word.ends_with("Exception"))
}

#[derive(Clone, Debug, Default)]
enum Sequence {
    #[default]
    None,
    Escape,
    Csi(String),
}

/// The lines of one log, as it comes in.
#[derive(Clone, Debug)]
pub struct LogBuffer {
    lines: VecDeque<Line>,
    /// The line that is being written: it may still be folded by a `\r`.
    open: Line,
    style: Style,
    /// A `\r` came: the next character begins the line anew.
    returned: bool,
    sequence: Sequence,
    bytes: usize,
    limit: usize,
    dropped: u64,
}

impl LogBuffer {
    /// A buffer that holds no more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            open: Line::default(),
            style: Style::default(),
            returned: false,
            sequence: Sequence::None,
            bytes: 0,
            limit,
            dropped: 0,
        }
    }

    /// Adds text as it comes, not aligned to anything.
    pub fn push(&mut self, text: &str) {
        for c in text.chars() {
            self.next(c);
        }
        while self.bytes + self.open.cost() > self.limit {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.cost();
            self.dropped += 1;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Lines there are, the unfinished one included.
    pub fn len(&self) -> usize {
        self.lines.len() + usize::from(!self.open.text.is_empty())
    }

    /// There is no line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The line at `index`; the oldest that is held is 0.
    pub fn get(&self, index: usize) -> Option<&Line> {
        self.lines.get(index).or_else(|| {
            (index == self.lines.len() && !self.open.text.is_empty()).then_some(&self.open)
        })
    }

    /// The last line is still being written: it may yet grow, or be folded by a `\r`.
    pub fn is_open(&self) -> bool {
        !self.open.text.is_empty()
    }

    /// The lines from `from` on: for drawing, ask only for what fits.
    pub fn lines_from(&self, from: usize) -> impl Iterator<Item = &Line> {
        (from..self.len()).filter_map(|index| self.get(index))
    }

    /// Lines that were dropped to stay within the limit. A view that stays in place moves up by the
    /// difference.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.open.cost()
    }

    fn next(&mut self, c: char) {
        match std::mem::take(&mut self.sequence) {
            Sequence::None => {}
            Sequence::Escape => {
                if c == '[' {
                    self.sequence = Sequence::Csi(String::new());
                    return;
                }
            }
            Sequence::Csi(mut parameters) => match c {
                'm' => return self.style.obey(&parameters),
                ' '..='?' if parameters.len() < MAX_SEQUENCE => {
                    parameters.push(c);
                    self.sequence = Sequence::Csi(parameters);
                    return;
                }
                '@'..='~' => return,
                _ => {}
            },
        }
        match c {
            '\u{1b}' => self.sequence = Sequence::Escape,
            '\n' => self.end_line(),
            '\r' => self.returned = true,
            '\t' => (0..4).for_each(|_| self.put(' ')),
            c if is_hostile(c) => {}
            c => self.put(c),
        }
    }

    fn put(&mut self, c: char) {
        if std::mem::take(&mut self.returned) {
            self.open.text.clear();
            self.open.styles.clear();
        }
        if self.open.text.len() >= MAX_LINE {
            self.end_line();
        }
        self.open.push(c, self.style);
    }

    fn end_line(&mut self) {
        self.returned = false;
        let mut line = std::mem::take(&mut self.open);
        line.text.shrink_to_fit();
        line.styles.shrink_to_fit();
        self.bytes += line.cost();
        self.lines.push_back(line);
        // Within one large push too.
        while self.bytes > self.limit {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.cost();
            self.dropped += 1;
        }
    }
}

/// What to look for in a log.
#[derive(Clone, Debug)]
pub struct Search(Regex);

impl Search {
    /// Looks for what somebody typed: words, or a regular expression after `~`, as in filters. When
    /// that cannot be read, it looks for its words, and says what is wrong.
    pub fn typed(text: &str) -> (Option<Self>, Option<String>) {
        let Some(pattern) = text.strip_prefix('~') else {
            return (Self::words(text).ok(), None);
        };
        match Self::pattern(pattern) {
            Ok(search) => (Some(search), None),
            Err(error) => {
                // The first lines draw the pattern and point into it; the last one has the reason.
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default();
                let reason = reason.trim().trim_start_matches("error: ").to_owned();
                (Self::words(pattern).ok(), Some(reason))
            }
        }
    }

    /// Looks for the words themselves; case matters only when a capital is among them.
    pub fn words(words: &str) -> Result<Self, regex::Error> {
        Self::pattern(&regex::escape(words))
    }

    /// Looks for a regular expression; case matters only when a capital is among it.
    pub fn pattern(pattern: &str) -> Result<Self, regex::Error> {
        let ignore_case = !pattern.chars().any(char::is_uppercase);
        regex::RegexBuilder::new(pattern)
            .case_insensitive(ignore_case)
            .size_limit(1 << 20)
            .build()
            .map(Self)
    }

    /// The line matches.
    pub fn matches(&self, line: &str) -> bool {
        self.0.is_match(line)
    }

    /// Where in the line, as ranges of bytes.
    pub fn ranges<'a>(
        &'a self,
        line: &'a str,
    ) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
        self.0
            .find_iter(line)
            .map(|found| found.range())
            .filter(|range| !range.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(buffer: &LogBuffer) -> Vec<&str> {
        buffer.lines_from(0).map(Line::text).collect()
    }

    fn buffer(text: &str) -> LogBuffer {
        let mut buffer = LogBuffer::new(1 << 20);
        buffer.push(text);
        buffer
    }

    #[test]
    fn colours_become_styles() {
        let log = buffer("\u{1b}[1;31mred\u{1b}[0m plain\u{1b}[38;2;1;2;3m rgb\n");
        let spans: Vec<_> = log.get(0).unwrap().spans().collect();
        let red = Style {
            fg: Some(Color::Indexed(1)),
            bold: true,
            ..Style::default()
        };
        let rgb = Style {
            fg: Some(Color::Rgb(1, 2, 3)),
            ..Style::default()
        };
        assert_eq!(
            spans,
            [("red", red), (" plain", Style::default()), (" rgb", rgb)]
        );
    }

    #[test]
    fn a_progress_bar_is_one_line_in_its_last_state() {
        let mut log = buffer("10%\r20%\r");
        assert_eq!(texts(&log), ["20%"]);
        log.push("100%\r\nnext\n");
        assert_eq!(texts(&log), ["100%", "next"]);
    }

    #[test]
    fn the_oldest_lines_go_and_are_counted() {
        let mut log = LogBuffer::new(10_000);
        for i in 0..10_000 {
            log.push(&format!("line {i}\n"));
        }
        assert!(log.bytes() <= 10_000);
        assert_eq!(log.dropped() + log.len() as u64, 10_000);
        assert_eq!(texts(&log).last(), Some(&"line 9999"));
        log.push(&"x".repeat(1_000_000));
        assert!(log.bytes() <= 10_000 + 4 * MAX_LINE, "{}", log.bytes());
    }

    #[test]
    fn notes_are_told_from_the_log() {
        let log = buffer(&(note("Waiting for a node") + "» mine\n"));
        assert!(log.get(0).unwrap().is_note());
        assert!(!log.get(1).unwrap().is_note());
    }

    #[test]
    fn errors_are_found_and_their_absence_is_not_one() {
        for line in [
            "ValueError: x",
            "ERROR: Job 1 failed",
            "srun: error: lab2",
            "Traceback (most recent",
            "(status: FAILED)",
        ] {
            assert!(looks_like_error(line), "{line}");
        }
        for line in [
            "terror",
            "0 errors",
            "error_rate=0.1",
            "Job finished (status: SUCCEEDED).",
        ] {
            assert!(!looks_like_error(line), "{line}");
        }
    }

    #[test]
    fn searching_heeds_capitals_only_when_there_are_some() {
        let found = |typed: &str| {
            let search = Search::typed(typed).0.unwrap();
            let lines = ["Loss 1", "loss 2", "a.b", "(x"];
            lines.map(|line| search.matches(line))
        };
        assert_eq!(found("loss"), [true, true, false, false]);
        assert_eq!(found("Loss"), [true, false, false, false]);
        assert_eq!(found("a."), [false, false, true, false]);
        assert_eq!(found("~loss [12]"), [true, true, false, false]);
        assert_eq!(found("~a."), [false, false, true, false]);
    }

    #[test]
    fn what_is_no_regular_expression_is_looked_for_as_words() {
        let (search, wrong) = Search::typed("~(x");
        assert!(search.unwrap().matches("a (x b"));
        assert_eq!(wrong.as_deref(), Some("unclosed group"));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(raw in "([a-c✓\n\r\t]|\u{1b}\\[[0-9;]{0,4}m|\u{1b}\\[2J){0,40}", cut in any::<prop::sample::Index>()) {
            let whole = buffer(&raw);
            let chars: Vec<char> = raw.chars().collect();
            let at = cut.index(chars.len() + 1);
            let mut halves = LogBuffer::new(1 << 20);
            halves.push(&chars[..at].iter().collect::<String>());
            halves.push(&chars[at..].iter().collect::<String>());
            prop_assert_eq!(whole.lines_from(0).collect::<Vec<_>>(), halves.lines_from(0).collect::<Vec<_>>());
        }

        #[test]
        fn nothing_hostile_is_held(raw in "[\u{0}-\u{ff}\u{2000}-\u{2070}]*") {
            let log = buffer(&raw);
            prop_assert!(log.lines_from(0).all(|line| !line.text().chars().any(is_hostile)));
            for line in log.lines_from(0) {
                prop_assert_eq!(line.spans().map(|(words, _)| words).collect::<String>(), line.text());
            }
        }
    }
}
