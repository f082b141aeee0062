//! Logs: one upstream stream for all readers.

pub mod clean;

use std::sync::Arc;

use crate::source::Source;

/// The logs that are being read.
#[derive(Debug)]
pub struct Logs;

impl Logs {
    /// None are read yet.
    pub fn new(_sources: Arc<[Arc<dyn Source>]>) -> Arc<Self> {
        Arc::new(Self)
    }
}
