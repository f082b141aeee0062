//! A program on a (pseudo) terminal, and what is on its screen.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "shared by several test programs"
)]

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

const LIMIT: Duration = Duration::from_mins(1);

/// A terminal with a program on it.
pub struct Terminal {
    pub master: Box<dyn MasterPty + Send>,
    pub child: Box<dyn Child + Send + Sync>,
    writer: Box<dyn Write + Send>,
    output: mpsc::Receiver<Vec<u8>>,
    pub seen: Vec<u8>,
    pub screen: vt100::Parser,
}

impl Terminal {
    /// Starts a program on a terminal of 80 columns and 24 rows.
    pub fn of(command: CommandBuilder) -> Self {
        let size = PtySize {
            rows: 24,
            cols: 80,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            writer: pair.master.take_writer().unwrap(),
            master: pair.master,
            child,
            output,
            seen: Vec::new(),
            screen: vt100::Parser::new(cells(24), cells(80), 0),
        }
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the screen, or all that was ever written, holds what is wanted.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !wanted(self) {
            assert!(
                start.elapsed() < LIMIT,
                "{what} never came:\n{}",
                self.screen.screen().contents()
            );
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(100)) {
                self.screen.process(&bytes);
                self.seen.extend(bytes);
            }
        }
    }

    /// Reads until this is on the screen.
    pub fn shows(&mut self, text: &str) {
        self.until(text, |it| it.screen.screen().contents().contains(text));
    }

    /// The terminal is as it was before.
    pub fn was_given_back(&mut self) {
        self.until("the end of the alternate screen", |it| {
            !it.screen.screen().alternate_screen() && contains(&it.seen, b"\x1b[?1049l")
        });
        assert!(!self.screen.screen().hide_cursor(), "the cursor is back");
        assert!(!self.screen.screen().bracketed_paste());
        assert_eq!(
            self.screen.screen().mouse_protocol_mode(),
            vt100::MouseProtocolMode::None
        );
    }
}

pub fn cells(number: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(number).unwrap()
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
