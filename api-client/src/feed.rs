//! The watching client: connects, resumes from its cursor, and never ends by itself.
//!
//! [`Feed::spawn`] gives a handle and a bounded channel. Whoever holds the mirror applies the events
//! in order ([`apply`]); the feed itself keeps the cursor of what it has handed over, so that a
//! broken connection costs only what was missed.

mod connection;
mod cursor;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::key::Key;
use crate::kind::Kind;
use crate::session::Session;
use crate::table::Touched;
use crate::text::Text;
use crate::time::EpochMs;
use crate::wire::{Hello, Problem, ServerMessage};

/// The state of the link, always known and always shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// On the way.
    Connecting {
        /// Tries since the last success, from 1.
        attempt: u32,
    },
    /// Connected: what is here is what the server has.
    Live {
        /// The last round trip.
        round_trip: Option<Duration>,
        /// The server's clock minus ours, in milliseconds.
        clock_offset_ms: i64,
    },
    /// Lost; the last state stays readable.
    Lost {
        /// Why, in a sentence.
        reason: Text,
        /// When it was lost.
        since: EpochMs,
        /// When the next try is made.
        retry_at: EpochMs,
        /// Tries since the last success.
        attempt: u32,
    },
    /// The server refuses: trying again is of no use until something changes.
    Refused(Problem),
}

/// What the feed tells whoever holds the mirror.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedEvent {
    /// The link changed.
    Link(Link),
    /// The server said hello: a connection begins, or the caller's rights changed on an open one. A
    /// different epoch or view means that a snapshot, or what leaves and enters the view, follows.
    Hello(Hello),
    /// Apply this to the mirror.
    Message(ServerMessage),
}

/// Applying a feed to a table, for those who do not need more. After a gap (which the feed itself
/// has ruled out) ask for everything again: [`FeedHandle::start_over`].
pub fn apply(table: &mut crate::Table, event: FeedEvent) -> Result<Touched, crate::table::Gap> {
    match event {
        FeedEvent::Message(message) => table.apply(message),
        FeedEvent::Hello(_) => {
            // A new connection, or other rights: what an interrupted snapshot had named counts no more.
            table.interrupted();
            Ok(Touched::default())
        }
        FeedEvent::Link(_) => Ok(Touched::default()),
    }
}

/// Events that may wait for the reader. When it is full the feed stops reading, and the server folds
/// what is missed meanwhile.
const WAITING_EVENTS: usize = 64;

/// The watching client. See [`Feed::spawn`].
#[derive(Debug)]
pub struct Feed;

impl Feed {
    /// Watches `kinds` (all when empty) at the server of `session` until the handle or the receiver
    /// is dropped. Has to be called within a tokio runtime.
    pub fn spawn(session: Session, kinds: Vec<Kind>) -> (FeedHandle, mpsc::Receiver<FeedEvent>) {
        let (events, receiver) = mpsc::channel(WAITING_EVENTS);
        let (commands, wanted) = mpsc::unbounded_channel();
        tokio::spawn(connection::Watcher::new(session, kinds, events, wanted).run());
        (FeedHandle { commands }, receiver)
    }
}

/// What a reader asks of its feed.
#[derive(Clone, Debug, PartialEq)]
enum Command {
    Focus(Key),
    Unfocus(Key),
    Refresh(Key),
    Retry,
    StartOver,
}

/// The reader's end of a feed. Cheap to clone; the feed ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct FeedHandle {
    commands: mpsc::UnboundedSender<Command>,
}

impl FeedHandle {
    /// Somebody looks at this row: what is costly to get about it is wanted, also after a reconnect.
    pub fn focus(&self, key: Key) {
        self.say(Command::Focus(key));
    }

    /// Nobody looks any more.
    pub fn unfocus(&self, key: Key) {
        self.say(Command::Unfocus(key));
    }

    /// Look again at the source of this row, now. Without effect while the link is lost.
    pub fn refresh(&self, key: Key) {
        self.say(Command::Refresh(key));
    }

    /// Do not wait for the next try.
    pub fn retry_now(&self) {
        self.say(Command::Retry);
    }

    /// Forget the cursor: reconnect and send everything again.
    pub fn start_over(&self) {
        self.say(Command::StartOver);
    }

    fn say(&self, command: Command) {
        // A feed that ended has nobody left to be told.
        let _ = self.commands.send(command);
    }
}
