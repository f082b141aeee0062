//! The real loop on a real (pseudo) terminal: it starts, resizes, and gives the terminal back.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod terminal;

use portable_pty::{CommandBuilder, PtySize};
use skytower::app::Options;
use skytower_api_client::endpoint::{Credentials, Endpoint, Origin};
use skytower_api_client::rest::Client;
use skytower_api_client::session::Session;
use terminal::{Terminal, cells};

const CHILD: &str = "SKYTOWER_TEST_CHILD";

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

fn start(vars: &[(&str, &str)]) -> Terminal {
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    command.env(CHILD, "1");
    command.env("LANG", "C.UTF-8");
    for (name, value) in vars {
        command.env(name, value);
    }
    Terminal::of(command)
}

#[test]
fn it_starts_resizes_and_quits() {
    let mut terminal = start(&[]);
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
    terminal.types("?");
    terminal.shows("type to search");
    terminal.types("\x03\x03");
    terminal.was_given_back();
    terminal.shows("ended: Quit");
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let mut terminal = start(&[]);
    terminal.shows("No connection to");
    let pid = terminal.child.process_id().unwrap();
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    terminal.was_given_back();
    terminal.shows("ended: Signal(15)");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let mut terminal = start(&[("SKYTOWER_TEST_PANIC", "1")]);
    terminal.was_given_back();
    terminal.shows("SKYTOWER_TEST_PANIC is set");
}
