//! `logs`: text as it comes, with nothing in it but words and colours.

use futures_util::StreamExt as _;
use skytower_api_client::rest::{Client, LogQuery};
use skytower_api_client::{Block, Key, Kind};

use super::args::Logs;
use super::console::{Console, emit};
use super::{Failure, targets};

/// `skytower logs TARGET`.
pub(super) async fn logs(client: &Client, args: &Logs, console: &Console) -> Result<u8, Failure> {
    if args.node.is_some() {
        return Err(Failure::usage(
            "the lines of one node cannot be told apart yet",
            "read the whole log: leave --node out",
        ));
    }
    let row = targets::resolve_one(client, &args.target).await?;
    let query = LogQuery {
        follow: args.follow,
        tail: args.tail,
        channel: args.controller.then(|| "controller".to_owned()),
    };
    copy(client, row.kind(), row.key(), &query, console).await?;
    Ok(0)
}

/// Writes a log to standard output, as far as it goes.
pub(super) async fn copy(
    client: &Client,
    kind: Kind,
    key: &Key,
    query: &LogQuery,
    console: &Console,
) -> Result<(), Failure> {
    let stream = client.logs(kind, key, query).await?;
    let mut stream = std::pin::pin!(stream);
    let mut cleaner = Cleaner::new(console.colour);
    while let Some(chunk) = stream.next().await {
        emit(&cleaner.clean(&chunk?))?;
    }
    Ok(())
}

/// Cuts a stream of text down to words, line breaks and (where wanted) colours. A sequence that is
/// cut in two by the chunks is put together.
struct Cleaner {
    parser: vte::Parser,
    kept: Kept,
}

struct Kept {
    colour: bool,
    out: String,
    run: String,
}

impl Cleaner {
    fn new(colour: bool) -> Self {
        Self {
            parser: vte::Parser::new(),
            kept: Kept {
                colour,
                out: String::new(),
                run: String::new(),
            },
        }
    }

    fn clean(&mut self, chunk: &str) -> String {
        self.parser.advance(&mut self.kept, chunk.as_bytes());
        self.kept.flush();
        std::mem::take(&mut self.kept.out)
    }
}

impl Kept {
    fn flush(&mut self) {
        self.out.push_str(&Block::new(&self.run));
        self.run.clear();
    }
}

impl vte::Perform for Kept {
    fn print(&mut self, c: char) {
        self.run.push(c);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.run.push('\n'),
            b'\t' => self.run.push_str("    "),
            // A progress bar's carriage return goes through; it can overwrite only its own line.
            b'\r' => {
                self.flush();
                self.out.push('\r');
            }
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &vte::Params, between: &[u8], _: bool, action: char) {
        if action != 'm' || !between.is_empty() || !self.colour {
            return;
        }
        self.flush();
        let words: Vec<String> = params
            .iter()
            .map(|part| {
                part.iter()
                    .map(u16::to_string)
                    .collect::<Vec<_>>()
                    .join(":")
            })
            .collect();
        self.out.push_str(&format!("\u{1b}[{}m", words.join(";")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_and_colours_come_through() {
        let mut cleaner = Cleaner::new(true);
        let mut out =
            cleaner.clean("a\u{1b}[31mred\u{1b}[0m\u{1b}]52;c;ZXZpbA==\u{7}b\u{1b}[2J\u{1b}[3");
        out.push_str(&cleaner.clean("2mgreen\u{202e}\n"));
        assert_eq!(out, "a\u{1b}[31mred\u{1b}[0mb\u{1b}[32mgreen\u{fffd}\n");
        assert_eq!(Cleaner::new(false).clean("\u{1b}[31mred\u{1b}[0m"), "red");
    }
}
