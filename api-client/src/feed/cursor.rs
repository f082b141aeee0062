//! Where the reader's copy stands, derived from what was handed over.

use crate::text::Text;
use crate::wire::{Cursor, Hello, ServerMessage};

/// Follows the messages of one feed over all its connections.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last complete state, for resuming.
    cursor: Option<Cursor>,
    /// Epoch and view of what this connection sends.
    here: (Text, Text),
    /// A snapshot has begun and is not complete.
    resetting: bool,
    /// Gaps since the last message that fitted.
    gaps: u32,
}

/// A message does not follow what was handed over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap(pub(super) String);

impl Progress {
    /// What to resume from.
    pub(super) fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    pub(super) fn forget(&mut self) {
        self.cursor = None;
    }

    /// A connection begins. Says whether the copy will be continued: no snapshot is to be expected.
    pub(super) fn begin(&mut self, hello: &Hello) -> bool {
        self.resetting = false;
        self.here = (hello.epoch.clone(), hello.view.clone());
        self.cursor
            .as_ref()
            .is_some_and(|cursor| cursor.epoch == hello.epoch && cursor.view == hello.view)
    }

    /// Takes note of a message that is about to be handed over. Says whether the copy is complete.
    pub(super) fn follow(&mut self, message: &ServerMessage) -> Result<bool, Gap> {
        let have = self.cursor.as_ref().map_or(0, |cursor| cursor.revision);
        let outcome = match message {
            ServerMessage::Snapshot { .. } => {
                self.resetting = true;
                // It paints over the copy, which is neither the old state nor the new one from here
                // to `ready`: a cursor of the old one must not be accepted by the same server again.
                self.cursor = None;
                return Ok(false);
            }
            ServerMessage::Ready { revision } => {
                self.resetting = false;
                Ok(*revision)
            }
            ServerMessage::Delta {
                since, revision, ..
            } => {
                if self.resetting || *since != have {
                    Err(format!(
                        "the server sent changes after revision {since}, but {have} is what is here"
                    ))
                } else if *revision < have {
                    Err(format!(
                        "the server went back from revision {have} to {revision}"
                    ))
                } else {
                    Ok(*revision)
                }
            }
            ServerMessage::Heartbeat { revision, .. } => {
                // Before the first complete state there is nothing that a revision could be of.
                if self.resetting || self.cursor.is_none() {
                    return Ok(false);
                }
                if *revision < have {
                    Err(format!(
                        "the server went back from revision {have} to {revision}"
                    ))
                } else {
                    Ok(*revision)
                }
            }
            ServerMessage::Hello(hello) => {
                // The rights changed. What comes next is of the new view; until then the copy, and
                // its cursor, are of the old one. A snapshot that it interrupts is void.
                self.here = (hello.epoch.clone(), hello.view.clone());
                self.resetting = false;
                return Ok(false);
            }
            ServerMessage::Error(_) => return Ok(!self.resetting),
        };
        match outcome {
            Ok(revision) => {
                self.gaps = 0;
                self.cursor = Some(Cursor {
                    epoch: self.here.0.clone(),
                    revision,
                    view: self.here.1.clone(),
                });
                Ok(true)
            }
            Err(what) => {
                // Resuming mends a gap; one that comes again is mended by starting over.
                self.gaps += 1;
                if self.gaps > 1 {
                    self.cursor = None;
                }
                Err(Gap(what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EpochMs;

    fn hello(epoch: &str) -> Hello {
        Hello {
            protocol: 1,
            version: "0".into(),
            epoch: epoch.into(),
            revision: 0,
            view: "v".into(),
            you: crate::wire::Caller::default(),
            kinds: Vec::new(),
            at: EpochMs(0),
        }
    }

    fn delta(since: u64, revision: u64) -> ServerMessage {
        ServerMessage::Delta {
            since,
            revision,
            changes: Vec::new(),
        }
    }

    fn snapshot() -> ServerMessage {
        ServerMessage::Snapshot {
            kind: crate::Kind::Job,
            revision: 7,
            rows: Vec::new(),
            more: true,
        }
    }

    #[test]
    fn a_cut_off_snapshot_leaves_no_cursor() {
        let mut progress = Progress::default();
        assert!(!progress.begin(&hello("a")));
        assert_eq!(progress.follow(&snapshot()), Ok(false));
        assert_eq!(progress.cursor(), None);
        assert_eq!(
            progress.follow(&ServerMessage::Ready { revision: 7 }),
            Ok(true)
        );
        assert_eq!(progress.follow(&delta(7, 9)), Ok(true));
        let cursor = progress.cursor().unwrap();
        assert_eq!((cursor.revision, &*cursor.epoch), (9, "a"));
        assert!(!progress.begin(&hello("b")));
        assert!(progress.begin(&hello("a")));
        // Of the same life too: the rights may have been others for a while.
        assert_eq!(progress.follow(&snapshot()), Ok(false));
        assert_eq!(progress.cursor(), None);
        assert!(!progress.begin(&hello("a")));
    }

    #[test]
    fn the_cursor_names_the_rights_that_the_copy_is_of() {
        let turned = |view: &str| {
            ServerMessage::Hello(Hello {
                view: view.into(),
                ..hello("a")
            })
        };
        let mut progress = Progress::default();
        progress.begin(&hello("a"));
        progress
            .follow(&ServerMessage::Ready { revision: 7 })
            .unwrap();
        assert_eq!(progress.follow(&turned("w")), Ok(false));
        assert_eq!(&*progress.cursor().unwrap().view, "v", "not turned yet");
        assert_eq!(progress.follow(&delta(7, 7)), Ok(true));
        assert_eq!(&*progress.cursor().unwrap().view, "w");
        // The old rights again, while it was away: the copy is not of them.
        assert!(!progress.begin(&hello("a")));
    }

    #[test]
    fn a_gap_resumes_once_and_then_starts_over() {
        let mut progress = Progress::default();
        progress.begin(&hello("a"));
        progress
            .follow(&ServerMessage::Ready { revision: 5 })
            .unwrap();
        assert!(progress.follow(&delta(6, 7)).is_err());
        assert_eq!(progress.cursor().unwrap().revision, 5);
        progress.begin(&hello("a"));
        let back = ServerMessage::Heartbeat {
            revision: 3,
            at: EpochMs(0),
        };
        assert!(progress.follow(&back).is_err());
        assert_eq!(progress.cursor(), None);
    }
}
