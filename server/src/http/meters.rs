//! What the server counts about itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters for `/metrics`; they only rise.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    frames: AtomicU64,
    bytes: AtomicU64,
    stuck: AtomicU64,
}

impl Meters {
    pub(crate) fn sent(&self, bytes: usize) {
        self.frames.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn stuck(&self) {
        self.stuck.fetch_add(1, Relaxed);
    }

    /// Messages sent, their bytes, and clients closed because they did not read.
    pub(crate) fn read(&self) -> (u64, u64, u64) {
        let read = |meter: &AtomicU64| meter.load(Relaxed);
        (read(&self.frames), read(&self.bytes), read(&self.stuck))
    }
}
