//! The real loop on a real (pseudo) terminal: it starts, resizes, and gives the terminal back.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::Read;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use skytower::app::Options;
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin};
use skytower_api_client::rest::Client;
use skytower_api_client::session::Session;

const CHILD: &str = "SKYTOWER_TEST_CHILD";
const LIMIT: Duration = Duration::from_mins(1);

/// No test of its own: what the tests below start, with nothing listening at its server.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let endpoint = Endpoint {
        url: "http://127.0.0.1:9".to_owned(),
        credentials: Credentials::None,
        origin: Origin::Flag,
    };
    let options = Options {
        endpoint: endpoint.shown(),
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client = Client::new(Session::new(endpoint)).unwrap();
    let exit = runtime
        .block_on(skytower::runtime::run(client, options))
        .unwrap();
    println!("ended: {exit:?}");
}

struct Terminal {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    output: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(vars: &[(&str, &str)]) -> Self {
        let size = PtySize {
            rows: 24,
            cols: 80,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]);
        command.env(CHILD, "1");
        command.env("LANG", "C.UTF-8");
        for (name, value) in vars {
            command.env(name, value);
        }
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
            master: pair.master,
            child,
            output,
            seen: Vec::new(),
            screen: vt100::Parser::new(cells(24), cells(80), 0),
        }
    }

    /// Reads until the screen, or all that was ever written, holds what is wanted.
    fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
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

    fn shows(&mut self, text: &str) {
        self.until(text, |it| it.screen.screen().contents().contains(text));
    }

    fn was_given_back(&mut self) {
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

fn cells(number: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(number).unwrap()
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn it_starts_resizes_and_quits() {
    let mut terminal = Terminal::start(&[]);
    terminal.shows("No connection to");
    let size = PtySize {
        rows: 30,
        cols: 100,
        pixel_width: 0,
        pixel_height: 0,
    };
    terminal.screen.screen_mut().set_size(cells(30), cells(100));
    terminal.master.resize(size).unwrap();
    terminal.until("the last row", |it| {
        let row = it.screen.screen().rows(0, 100).nth(29).unwrap_or_default();
        row.contains("? help")
    });
    let mut writer = terminal.master.take_writer().unwrap();
    std::io::Write::write_all(&mut writer, b"?").unwrap();
    terminal.shows("type to search");
    std::io::Write::write_all(&mut writer, b"\x03\x03").unwrap();
    terminal.was_given_back();
    terminal.shows("ended: Quit");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let mut terminal = Terminal::start(&[]);
    terminal.shows("No connection to");
    let pid = terminal.child.process_id().unwrap();
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    terminal.was_given_back();
    terminal.shows("ended: Signal(15)");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let mut terminal = Terminal::start(&[("SKYTOWER_TEST_PANIC", "1")]);
    terminal.was_given_back();
    terminal.shows("SKYTOWER_TEST_PANIC is set");
}
