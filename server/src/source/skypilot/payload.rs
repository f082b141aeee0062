//! The control lines within SkyPilot's log streams.
//!
//! A line `<sky-payload…>"<tag>text</tag>"</sky-payload>` is for the client, everything else for
//! people. Programs can print such lines too: what does not parse is shown as it is.

use skytower_api_client::Text;

const OPEN: &[u8] = b"<sky-payload";
const CLOSE: &str = "</sky-payload>";
/// A control line is never longer: what is, is text, and is not held back.
const MAX_CONTROL: usize = 64 * 1024;

/// What a stream of bytes consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes for people, not aligned to anything.
    Text(Vec<u8>),
    /// What SkyPilot waits for; none when it stopped waiting.
    Waiting(Option<Text>),
    /// The call should be made again.
    Retry,
}

enum Control {
    Heartbeat,
    Waiting(Option<Text>),
    Retry,
    /// A tag of a newer SkyPilot that only its own client understands.
    Other,
}

/// Splits a stream, in chunks of any size: the same bytes give the same pieces (texts joined).
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// What may become a control line.
    held: Vec<u8>,
    /// `held` began in the middle of a line.
    held_mid_line: bool,
    mid_line: bool,
    waiting: Option<Text>,
}

impl Splitter {
    /// At the beginning of a stream.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The pieces of the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.held.is_empty() {
                // Only `<` can begin a control line, and only line ends move `mid_line`.
                let at = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
                let (plain, tail) = rest.split_at(at);
                if let Some(last) = plain.last() {
                    self.mid_line = *last != b'\n';
                    text.extend_from_slice(plain);
                }
                rest = tail;
                if let Some((first, tail)) = rest.split_first() {
                    self.held_mid_line = self.mid_line;
                    self.held.push(*first);
                    rest = tail;
                }
                continue;
            }
            let byte = rest[0];
            let matched = self.held.len();
            if matched < OPEN.len() && byte != OPEN[matched] {
                // No control line after all; the byte is looked at again: it may begin one.
                self.release(&mut text);
                continue;
            }
            self.held.push(byte);
            rest = &rest[1..];
            if byte == b'\n' {
                match self.control() {
                    Some(control) => {
                        self.held.clear();
                        self.mid_line = self.held_mid_line;
                        self.obey(control, &mut text, &mut pieces);
                    }
                    None => self.release(&mut text),
                }
            } else if self.held.len() > MAX_CONTROL {
                self.release(&mut text);
            }
        }
        flush(&mut text, &mut pieces);
        pieces
    }

    /// The stream has ended: what was held back.
    pub(super) fn finish(&mut self) -> Vec<Piece> {
        let (mut text, mut pieces) = (Vec::new(), Vec::new());
        if let Some(control) = self.control() {
            self.held.clear();
            self.obey(control, &mut text, &mut pieces);
        } else {
            self.release(&mut text);
        }
        flush(&mut text, &mut pieces);
        pieces
    }

    fn release(&mut self, text: &mut Vec<u8>) {
        if let Some(last) = self.held.last() {
            self.mid_line = *last != b'\n';
        }
        text.append(&mut self.held);
    }

    /// The control line that is held. In the middle of a line only heartbeats count: SkyPilot sends
    /// them after half a line of a silent program (a progress bar), and dropping one loses nothing.
    fn control(&self) -> Option<Control> {
        let line = std::str::from_utf8(&self.held).ok()?.trim_end();
        let inner = line.strip_prefix("<sky-payload")?.strip_suffix(CLOSE)?;
        let (_kind, json) = inner.split_once('>')?;
        let value: String = serde_json::from_str(json).ok()?;
        let (tag, rest) = value.strip_prefix('<')?.split_once('>')?;
        let text = rest
            .strip_suffix('>')?
            .strip_suffix(tag)?
            .strip_suffix("</")?;
        let control = match tag {
            "heartbeat" => return Some(Control::Heartbeat),
            "rich_init" | "rich_start" | "rich_update" if text.is_empty() => Control::Other,
            "rich_init" | "rich_start" | "rich_update" => {
                Control::Waiting(Some(Text::from(without_markup(text))))
            }
            "rich_stop" | "rich_exit" => Control::Waiting(None),
            "retry" => Control::Retry,
            _ if tag.starts_with("rich_") => Control::Other,
            _ => return None,
        };
        (!self.held_mid_line).then_some(control)
    }

    fn obey(&mut self, control: Control, text: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
        match control {
            Control::Waiting(waiting) if waiting != self.waiting => {
                self.waiting.clone_from(&waiting);
                flush(text, pieces);
                pieces.push(Piece::Waiting(waiting));
            }
            Control::Retry => {
                flush(text, pieces);
                pieces.push(Piece::Retry);
            }
            Control::Waiting(_) | Control::Heartbeat | Control::Other => {}
        }
    }
}

fn flush(text: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(std::mem::take(text)));
    }
}

/// Drops the tags of Python's `rich` (`[bold cyan]`, `[/]`), and folds the rest into one line.
fn without_markup(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        let escaped = before.ends_with('\\');
        let inner = &from[1..];
        let is_tag =
            inner.starts_with(|c: char| c.is_ascii_lowercase() || matches!(c, '#' | '/' | '@'));
        let end = inner
            .find([']', '['])
            .filter(|end| inner[*end..].starts_with(']'));
        match end {
            Some(end) if is_tag && !escaped => {
                out.push_str(before);
                rest = &inner[end + 1..];
            }
            _ => {
                out.push_str(before.strip_suffix('\\').unwrap_or(before));
                out.push('[');
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Texts that touch are joined, so that chunking does not show.
    fn joined(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
        let mut out: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (out.last_mut(), piece) {
                (Some(Piece::Text(last)), Piece::Text(more)) => last.extend(more),
                (_, piece) => out.push(piece),
            }
        }
        out
    }

    fn split(bytes: &[u8]) -> Vec<Piece> {
        let mut splitter = Splitter::new();
        let mut pieces = splitter.push(bytes);
        pieces.extend(splitter.finish());
        joined(pieces)
    }

    fn text(words: &str) -> Piece {
        Piece::Text(words.as_bytes().to_vec())
    }

    fn fixture(json: &str) -> Vec<u8> {
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        value["response"]["body"]
            .as_str()
            .unwrap()
            .as_bytes()
            .to_vec()
    }

    #[test]
    fn a_recorded_managed_job_waits_once_and_then_speaks() {
        let body = fixture(include_str!(
            "../../../tests/fixtures/skypilot-0.14.1/jobs_logs.finished.json"
        ));
        let pieces = split(&body);
        assert_eq!(
            pieces[0],
            Piece::Waiting(Some(
                "Waiting for task to start. It may take a few minutes. View controller logs: sky jobs logs --controller 4".into()
            ))
        );
        let Piece::Text(words) = &pieces[1] else {
            panic!("{pieces:?}")
        };
        assert!(String::from_utf8_lossy(words).contains("✓ Job finished (status: FAILED)."));
        assert_eq!(pieces[2], Piece::Waiting(None));
    }

    #[test]
    fn heartbeats_of_a_recorded_pending_job_leave_nothing() {
        let body = fixture(include_str!(
            "../../../tests/fixtures/skypilot-0.14.1/logs.pending.json"
        ));
        let pieces = split(&body);
        assert_eq!(pieces.len(), 1);
        let Piece::Text(words) = &pieces[0] else {
            panic!("{pieces:?}")
        };
        assert!(String::from_utf8_lossy(words).ends_with("2 nodes.\u{1b}[0m\n"));
    }

    #[test]
    fn a_heartbeat_after_half_a_line_goes_and_the_line_goes_on() {
        let raw = b"50%<sky-payload>\"<heartbeat></heartbeat>\"</sky-payload>\n60%\n";
        assert_eq!(split(raw), [text("50%60%\n")]);
    }

    #[test]
    fn look_alikes_are_text() {
        for line in [
            "<sky-payload>{\"a\": 1}</sky-payload>\n",
            "<sky-payload>\"<evil>x</evil>\"</sky-payload>\n",
            "<sky-payload>\"<rich_init>x</rich_exit>\"</sky-payload>\n",
            "<sky-payloa",
            "<<sky-payload\n",
            "(pid=1) <sky-payload>\"<retry></retry>\"</sky-payload>\n",
        ] {
            assert_eq!(split(line.as_bytes()), [text(line)], "{line}");
        }
    }

    #[test]
    fn a_typed_payload_and_retry_are_understood() {
        let raw =
            b"<sky-payload rich>\"<rich_update>[dim]up[/] \\\\[x]</rich_update>\"</sky-payload>\n\
                    <sky-payload>\"<retry></retry>\"</sky-payload>\n";
        assert_eq!(
            split(raw),
            [Piece::Waiting(Some("up [x]".into())), Piece::Retry]
        );
    }

    #[test]
    fn an_endless_line_is_not_held() {
        let mut splitter = Splitter::new();
        splitter.push(OPEN);
        let mut out = 0;
        for _ in 0..1000 {
            for piece in splitter.push(&[b'x'; 1000]) {
                if let Piece::Text(words) = piece {
                    out += words.len();
                }
            }
            assert!(splitter.held.len() <= MAX_CONTROL + 1);
        }
        assert!(out > 900_000);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            parts in prop::collection::vec(prop_oneof![
                Just("<sky-payload>\"<heartbeat></heartbeat>\"</sky-payload>\n".to_owned()),
                Just("<sky-payload>\"<rich_init>[bold]a ✓[/]</rich_init>\"</sky-payload>\n".to_owned()),
                Just("<sky-payload>\"<rich_exit></rich_exit>\"</sky-payload>\n".to_owned()),
                Just("<sky-payload>1</sky-payload>\n".to_owned()),
                "[a<✓\n\r]{0,6}", "<sky-pay[lo<>]{0,4}",
            ], 0..10),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let raw = parts.concat().into_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len() + 1)).collect();
            at.push(raw.len());
            at.sort_unstable();
            let mut splitter = Splitter::new();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for to in at {
                pieces.extend(splitter.push(&raw[from..to]));
                from = to;
            }
            pieces.extend(splitter.finish());
            prop_assert_eq!(joined(pieces), split(&raw));
        }
    }
}
