//! The loop: everything queued is taken in, then at most one frame is drawn. It sleeps until
//! something happens or an age on the screen is written differently.

mod effects;

use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use skytower_api_client::EpochMs;
use skytower_api_client::feed::Feed;
use skytower_api_client::rest::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::app::{self, Effect, Model, Msg, Options};
use crate::term::{self, Guard, Screen};
use crate::ui;
use effects::Executor;

/// Frames are at least this far apart.
const FRAME: Duration = Duration::from_millis(16);
/// And at least so many times as far as one takes, so that a flood leaves the machine to others.
const FRAME_SHARE: u32 = 3;
/// Messages taken in before a frame is due whatever else is waiting.
const DRAIN: usize = 4096;
/// For the test that a panic gives the terminal back.
const PANIC_VAR: &str = "SKYTOWER_TEST_PANIC";

/// Why the dashboard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Somebody quit.
    Quit,
    /// A signal, by its number.
    Signal(i32),
}

/// Runs the dashboard on this process's terminal until somebody quits or a signal ends it.
pub async fn run(client: Client, options: Options) -> io::Result<Exit> {
    let mut signals = Signals::new()?;
    let guard = Guard::enter()?;
    let (columns, rows) = crossterm::terminal::size()?;
    let mut model = Model::new(options, EpochMs::now(), (columns, rows));
    let mut screen = Screen::new(io::stdout());
    let mut readers = JoinSet::new();
    let mut input = read_input(&mut readers);
    let (feed, mut events) = Feed::spawn(client.session().clone(), Vec::new());
    let (replies, mut answers) = mpsc::channel(256);
    let mut executor = Executor::new(client, feed, replies);

    let mut drawn_at: Option<Instant> = None;
    let mut gap = FRAME;
    let mut tick: Option<Duration> = Some(Duration::ZERO);
    let panic_after_frame = std::env::var_os(PANIC_VAR).is_some();
    loop {
        let wake = tick.map(|wait| Instant::now() + wait);
        let mut inbox: Vec<Msg> = Vec::new();
        tokio::select! {
            biased;
            number = signals.next() => {
                if number == SIGTSTP {
                    suspend(&mut screen)?;
                } else {
                    drop(guard);
                    return Ok(Exit::Signal(number));
                }
            }
            event = input.recv() => match event {
                Some(Ok(event)) => inbox.extend(term::message(event)),
                Some(Err(error)) => return Err(error),
                // The terminal is gone.
                None => return Ok(Exit::Quit),
            },
            Some(answer) = answers.recv() => inbox.push(answer),
            Some(event) = events.recv() => inbox.push(Msg::Feed(Box::new(event))),
            () = until(wake) => inbox.push(Msg::Tick),
        }
        // Everything that waits, and everything that comes until the next frame is due.
        loop {
            while inbox.len() < DRAIN {
                if let Ok(Ok(event)) = input.try_recv() {
                    inbox.extend(term::message(event));
                } else if let Ok(answer) = answers.try_recv() {
                    inbox.push(answer);
                } else if let Ok(event) = events.try_recv() {
                    inbox.push(Msg::Feed(Box::new(event)));
                } else {
                    break;
                }
            }
            let now = EpochMs::now();
            for msg in inbox.drain(..) {
                if matches!(msg, Msg::Resize(..)) {
                    screen.forget();
                }
                for effect in app::update(&mut model, now, msg) {
                    match effect {
                        Effect::Quit => {
                            drop(guard);
                            return Ok(Exit::Quit);
                        }
                        Effect::Suspend => suspend(&mut screen)?,
                        Effect::Copy(text) => {
                            let in_tmux = std::env::var_os("TMUX").is_some();
                            screen.write(&term::clipboard(&text, in_tmux))?;
                            let said = match text.lines().count() {
                                0 | 1 => format!("copied: {text}"),
                                lines => format!("copied {lines} lines"),
                            };
                            let said = Msg::Said(Ok(said.into()));
                            app::update(&mut model, now, said);
                        }
                        effect => executor.execute(effect),
                    }
                }
            }
            let Some(due) = drawn_at.map(|at| at + gap) else {
                break;
            };
            let Some(wait) = due.checked_duration_since(Instant::now()) else {
                break;
            };
            tokio::select! {
                biased;
                Some(Ok(event)) = input.recv() => inbox.extend(term::message(event)),
                Some(answer) = answers.recv() => inbox.push(answer),
                Some(event) = events.recv() => inbox.push(Msg::Feed(Box::new(event))),
                () = tokio::time::sleep(wait) => break,
            }
        }
        let started = Instant::now();
        // Ages turn a moment after they do, never before.
        tick = app::settle(&mut model).map(|ms| Duration::from_millis(ms.max(20) as u64 + 5));
        let (columns, rows) = model.size;
        let mut frame = Buffer::empty(Rect::new(0, 0, columns, rows));
        let cursor = ui::draw(&model, &mut frame);
        screen.show(frame, cursor)?;
        drawn_at = Some(started);
        gap = FRAME.max(started.elapsed() * FRAME_SHARE);
        assert!(!panic_after_frame, "{PANIC_VAR} is set");
    }
}

/// Reads the terminal in a task of its own. The stream remembers whoever asked it first until an
/// event comes: asked in passing, by the loop that drains what is queued, it would wake nobody.
fn read_input(readers: &mut JoinSet<()>) -> mpsc::Receiver<io::Result<Event>> {
    let (sender, input) = mpsc::channel(256);
    readers.spawn(async move {
        let mut events = EventStream::new();
        while let Some(event) = events.next().await {
            if sender.send(event).await.is_err() {
                break;
            }
        }
    });
    input
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

const SIGTSTP: i32 = 20;

/// Gives the terminal back, stops, and takes it again when continued.
fn suspend<W: io::Write>(screen: &mut Screen<W>) -> io::Result<()> {
    term::restore();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?;
    // Continued: the guard of the loop restores at the end; this one must not.
    std::mem::forget(Guard::enter()?);
    screen.forget();
    Ok(())
}

/// The signals that would otherwise leave the terminal as it is.
struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
    stop: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop: signal(SignalKind::from_raw(SIGTSTP))?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
            _ = self.interrupt.recv() => 2,
            _ = self.stop.recv() => SIGTSTP,
        }
    }
}
