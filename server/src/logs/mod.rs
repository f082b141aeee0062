//! Logs: one upstream stream for all who follow the same log.
//!
//! Each stream at SkyPilot occupies one of its threads, so readers share: a [`Ring`] holds the recent
//! text, late readers begin in it, and one who reads slower than the log is written skips, visibly,
//! instead of being waited for. As long as somebody keeps up nothing is lost to them.

pub mod clean;
mod pump;
mod ring;
mod splice;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skytower_api_client::Key;
use skytower_api_client::wire::Problem;
use tokio::sync::Semaphore;

use crate::hub::Hub;
use crate::source::{LogChannel, LogQuery, LogStream, Source};
use ring::{Reader, Ring};

/// How logs are shared.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Recent text kept for each stream, in bytes.
    pub ring: usize,
    /// Streams at the sources at once. SkyPilot has 128 threads for all who read logs.
    pub streams: usize,
    /// How long a stream goes on when nobody reads it any more: whoever comes back finds it.
    pub linger: Duration,
    /// The first pause before a broken stream is opened again; it grows from there.
    pub pause: Duration,
    /// How long a stream that was opened again may be silent before it is joined to what was read.
    pub settle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ring: 1024 * 1024,
            streams: 64,
            linger: Duration::from_secs(5),
            pause: Duration::from_secs(1),
            settle: Duration::from_secs(2),
        }
    }
}

type Shared = HashMap<(Key, LogChannel), Arc<Ring>>;

/// The logs that are being read.
pub struct Logs {
    sources: Arc<[Arc<dyn Source>]>,
    limits: Limits,
    streams: Arc<Semaphore>,
    shared: Mutex<Shared>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs")
            .field("shared", &self.shared().len())
            .finish_non_exhaustive()
    }
}

impl Logs {
    /// None are read yet.
    pub fn new(sources: Arc<[Arc<dyn Source>]>) -> Arc<Self> {
        Self::with_limits(sources, Limits::default())
    }

    /// As [`Logs::new`], with limits of one's own.
    pub fn with_limits(sources: Arc<[Arc<dyn Source>]>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            sources,
            limits,
            streams: Arc::new(Semaphore::new(limits.streams)),
            shared: Mutex::default(),
        })
    }

    /// Opens a log. Those who follow share one stream at the source; `state` tells when the row is
    /// over, so that a broken stream is not opened again and again.
    pub async fn open(
        self: &Arc<Self>,
        state: &Arc<Hub>,
        query: LogQuery,
    ) -> Result<LogStream, Problem> {
        if !query.follow {
            return self.read_once(&query).await;
        }
        let mut reader = self.join(state, query)?;
        reader.opened().await?;
        Ok(Box::pin(futures_util::stream::unfold(
            reader,
            async |mut reader| reader.next().await.map(|item| (item, reader)),
        )))
    }

    /// Streams at the sources that are shared at present.
    pub fn followed(&self) -> usize {
        self.shared().len()
    }

    async fn read_once(&self, query: &LogQuery) -> Result<LogStream, Problem> {
        let permit = self.permit()?;
        let source = self.source(query)?;
        let stream = source.logs(query).await?;
        Ok(Box::pin(futures_util::StreamExt::map(
            stream,
            move |item| {
                let _held = &permit;
                item
            },
        )))
    }

    fn join(self: &Arc<Self>, state: &Arc<Hub>, query: LogQuery) -> Result<Reader, Problem> {
        let name = (query.row.key().clone(), query.channel);
        let mut shared = self.shared();
        if let Some(ring) = shared.get(&name) {
            return Ok(ring.join(query.tail));
        }
        let source = self.source(&query)?.clone();
        let permit = self.permit()?;
        let ring = Arc::new(Ring::new(self.limits.ring, query.tail));
        let reader = ring.join(None);
        shared.insert(name, ring.clone());
        drop(shared);
        let pump = pump::Pump {
            source,
            state: state.clone(),
            query,
            ring,
            limits: self.limits,
        };
        let logs = self.clone();
        tokio::spawn(async move {
            pump.run(&logs).await;
            drop(permit);
        });
        Ok(reader)
    }

    /// Nobody joins this stream any more. With `unless_read`, only when nobody reads it: false otherwise.
    fn retire(&self, query: &LogQuery, ring: &Arc<Ring>, unless_read: bool) -> bool {
        let mut shared = self.shared();
        // Under the lock under which readers join.
        if unless_read && ring.is_read() {
            return false;
        }
        let name = (query.row.key().clone(), query.channel);
        if shared
            .get(&name)
            .is_some_and(|present| Arc::ptr_eq(present, ring))
        {
            shared.remove(&name);
        }
        true
    }

    fn source(&self, query: &LogQuery) -> Result<&Arc<dyn Source>, Problem> {
        let name = query.row.key().source();
        self.sources
            .iter()
            .find(|source| **source.name() == *name)
            .ok_or_else(|| {
                Problem::new(
                    "no_log",
                    404,
                    format!("{} {} has no log", query.row.kind(), query.row.name()),
                )
            })
    }

    fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            Problem::new(
                "too_many_logs",
                503,
                format!(
                    "{} logs are being read through this server, and it reads no more at once",
                    self.limits.streams
                ),
            )
            .hint("close one that is not needed, or try again in a minute")
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
