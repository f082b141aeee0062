//! The watching client: connects, resumes from its cursor, and never ends by itself.

use std::time::Duration;

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
    /// The server said hello; a different epoch means that a snapshot follows.
    Hello(Hello),
    /// Apply this to the mirror.
    Message(ServerMessage),
}

/// Applying a feed to a table, for those who do not need more.
pub fn apply(table: &mut crate::Table, event: FeedEvent) -> Result<Touched, crate::table::Gap> {
    match event {
        FeedEvent::Message(message) => table.apply(message),
        FeedEvent::Link(_) | FeedEvent::Hello(_) => Ok(Touched::default()),
    }
}
